import pytest

from cosample_jax import budget

IDS = [f'train-{i}' for i in range(4000)]


def test_the_papers_pair():
    ratio = budget.matched_ratio(27e9, 9e9)
    assert ratio == 3.0
    assert {budget.samples(i, ratio, 1) for i in IDS} == {3}
    assert {budget.samples(i, ratio, 10) for i in IDS} == {30}


def test_the_papers_price_match():
    assert budget.matched_ratio(budget.price(400, 10.5), budget.price(400, 0.3)) == 35.0
    assert budget.samples('p', 35.0, 1) == 35


def test_a_cost_is_two_flops_a_parameter_and_token():
    assert budget.sample_cost(9e9, 200) == 3.6e12
    strong, weak = budget.sample_cost(27e9, 200), budget.sample_cost(9e9, 200)
    assert budget.matched_ratio(strong, weak) == 3.0


@pytest.mark.parametrize('base', [1, 3, 10])
def test_a_ratio_that_is_not_whole_is_met_on_average(base):
    ratio = budget.matched_ratio(27.2, 9.24)
    counts = [budget.samples(i, ratio, base) for i in IDS]
    low = int(ratio * base)
    assert set(counts) == {low, low + 1}
    share = ratio * base - low
    assert sum(counts) / len(counts) == pytest.approx(ratio * base, abs=4 * (share * (1 - share) / len(IDS)) ** 0.5)


def test_a_larger_budget_never_takes_a_sample_away():
    ratio = budget.matched_ratio(27.2, 9.24)
    for problem in IDS[:500]:
        counts = [budget.samples(problem, ratio, base) for base in range(1, 12)]
        assert counts == sorted(counts)


def test_the_count_depends_on_the_problem_alone():
    # A pool made on one machine is resumed on another: the hash must not be Python's own, which is salted.
    assert [budget.samples(f'p{i}', 2.5, 1) for i in range(8)] == [3, 3, 2, 3, 2, 3, 3, 2]


@pytest.mark.parametrize('costs', [(0, 1), (1, 0), (-1, 1)])
def test_costs_must_be_positive(costs):
    with pytest.raises(ValueError, match='must be positive'):
        budget.matched_ratio(*costs)
