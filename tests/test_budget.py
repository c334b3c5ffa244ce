"""The four lenses, by hand and by property; matched counts, for the pairs of the paper."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosample_jax import budget
from cosample_jax.gemma import model
from cosample_jax.gemma.config import VARIANTS, variant
from cosample_jax.gemma.weights import abstract_params

IDS = [f'train-{i}' for i in range(4000)]
GSM8K = budget.Lengths(prefix=900, question=60, generated=130)  # 8 shots
# 35 Flash samples for one of Pro is the paper's figure. Google's list prices of late August 2024 (US$ a million tokens
# for prompts of up to 128k) give it by generated tokens; by prompts they would give 47.
PRO, FLASH = budget.Price(input=3.5, output=10.5), budget.Price(input=0.075, output=0.3)


def test_the_papers_pair():
    ratio = budget.matched_ratio(27e9, 9e9)
    assert ratio == 3.0
    assert {budget.samples(i, ratio, 1) for i in IDS} == {3}
    assert {budget.samples(i, ratio, 10) for i in IDS} == {30}
    costs = {'9b': budget.params_cost(9e9, GSM8K), '27b': budget.params_cost(27e9, GSM8K)}
    for count in (1, 10):
        found = budget.matched(costs, '27b', count, IDS)
        assert found['9b'] == budget.Matched(3.0 * count, 3 * count * len(IDS), 0.0)
        assert found['27b'] == budget.Matched(count, count * len(IDS), 0.0)


def test_the_papers_price_match():
    assert budget.matched_ratio(PRO.generated, FLASH.generated) == 35.0
    assert budget.samples('p', 35.0, 1) == 35
    halved = dataclasses.replace(PRO, batch_discount=0.5)
    assert budget.matched_ratio(halved.generated, FLASH.generated) == 17.5
    # Prompts are not free at an API: few-shot, they are most of the price, and Pro's cost more than 35 times Flash's.
    costs = {'flash': budget.price_cost(FLASH, GSM8K), 'pro': budget.price_cost(PRO, GSM8K)}
    assert costs['pro'].total(1, 1) == pytest.approx((960 * 3.5 + 130 * 10.5) / 1e6)
    assert budget.matched(costs, 'pro', 1, IDS)['flash'].mean == pytest.approx(4725 / 111)


def test_five_flash_samples_cost_about_015_of_one_of_pro():
    free = [dataclasses.replace(price, input=0.0) for price in (FLASH, PRO)]
    flash, pro = (budget.price_cost(price, GSM8K) for price in free)
    assert flash.total(len(IDS), 5 * len(IDS)) / pro.total(len(IDS), len(IDS)) == pytest.approx(0.15, abs=0.01)


def test_a_cost_is_two_flops_a_parameter_and_token():
    assert budget.sample_cost(9e9, 200) == 3.6e12
    strong, weak = budget.sample_cost(27e9, 200), budget.sample_cost(9e9, 200)
    assert budget.matched_ratio(strong, weak) == 3.0


def test_exact_flops_by_hand():
    """Gemma 1 2B: 18 layers of D 2048, F 16384, 8 query heads and one of keys, all of 256; 256,000 pieces."""
    found = budget.flops_cost(variant('gemma_2b'), budget.Lengths(prefix=4, question=3, generated=2))
    layers = 18 * (2 * 2048 * 256 * (8 + 1) + 3 * 2048 * 16_384)
    seen = 4 * 18 * 8 * 256
    assert found.once == 2 * layers * 4 + seen * (1 + 2 + 3 + 4)
    assert found.problem == 2 * layers * 2 + seen * (5 + 6)  # its third token is fed by each sample
    assert found.sample == 2 * layers * 2 + seen * (7 + 8) + 2 * 2 * 256_000 * 2048
    assert found.total(problems=2, samples=5) == found.once + 2 * found.problem + 5 * found.sample


def test_windows_end_what_is_seen():
    config = variant('tiny_gemma3')  # two layers of three see 16 tokens
    assert config.windows == (16, 16, 0)
    found = budget.flops_cost(config, budget.Lengths(prefix=0, question=1, generated=20))
    without = dataclasses.replace(config, windows=(0, 0, 0))
    all_of_them = budget.flops_cost(without, budget.Lengths(prefix=0, question=1, generated=20))
    unseen = 2 * (1 + 2 + 3 + 4)  # by the 17th to the 20th token
    assert all_of_them.sample - found.sample == 4 * 2 * 16 * unseen


def products(jaxpr) -> int:
    """FLOPs of all matrix products of a jaxpr, a scan's as often as it runs."""
    total = 0
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == 'dot_general':
            (contracted, _), _ = eqn.params['dimension_numbers']
            sizes = [eqn.invars[0].aval.shape[axis] for axis in contracted]
            total += 2 * int(jnp.prod(jnp.array(sizes))) * eqn.outvars[0].aval.size
        for value in eqn.params.values():
            if hasattr(value, 'jaxpr') and hasattr(value.jaxpr, 'eqns'):
                total += eqn.params.get('length', 1) * products(value.jaxpr)
            elif hasattr(value, 'eqns'):
                total += products(value)
    return total


@pytest.mark.parametrize('name', ['tiny_weak', 'tiny_gemma3', 'tiny_student', 'gemma2_9b', 'gemma2_27b', 'gemma3_1b'])
def test_exact_flops_are_those_of_the_models_own_products(name):
    """All matrix products in the program of a whole sequence, less those of keys that are masked."""
    config, tokens = variant(name), 48

    def program(params, ids):
        hidden, _ = model.forward(params, config, ids[None], jnp.arange(tokens)[None], jnp.ones((1, tokens), jnp.int32))
        return model.logits(params, config, hidden)

    traced = jax.make_jaxpr(program)(abstract_params(config), jax.ShapeDtypeStruct((tokens,), jnp.int32))
    ours = budget.flops_cost(config, budget.Lengths(prefix=0, question=1, generated=tokens))
    windows = [window or tokens for window in config.windows]
    seen = sum(min(position + 1, window) for window in windows for position in range(tokens))
    masked = config.num_layers * tokens**2 - seen
    assert products(traced.jaxpr) == ours.total(1, 1) + 4 * config.num_heads * config.head_dim * masked


lengths = st.builds(
    budget.Lengths, st.integers(0, 2000), st.integers(1, 500), st.floats(1, 1000, allow_nan=False)
)  # fmt: skip
variants = st.sampled_from(sorted(VARIANTS)).map(variant)
prices = st.builds(budget.Price, st.floats(0, 100), st.floats(0.01, 100), st.floats(0, 0.9))
lenses = st.one_of(
    st.builds(budget.params_cost, st.floats(1e5, 1e12), lengths),
    st.builds(budget.flops_cost, variants, lengths),
    st.builds(budget.price_cost, prices, lengths),
    st.builds(budget.chip_cost, st.floats(1e-6, 1), lengths),
)


@given(lenses, st.integers(1, 100), st.integers(1, 50))
def test_a_sample_more_costs_more_and_a_problem_more(cost, problems, k):
    assert cost.total(problems, problems * (k + 1)) > cost.total(problems, problems * k) > 0
    assert cost.total(problems + 1, (problems + 1) * k) > cost.total(problems, problems * k)


@given(variants, lengths, st.integers(1, 100), st.integers(1, 50))
def test_sharing_never_costs_more(config, each, problems, k):
    cost = budget.flops_cost(config, each)
    shared, apart = cost.total(problems, problems * k), problems * k * cost.total(1, 1)
    assert shared <= apart * (1 + 1e-12)
    whole = dataclasses.replace(each, prefix=0, question=each.prefix + each.question)
    assert budget.flops_cost(config, whole).total(1, 1) == pytest.approx(cost.total(1, 1)), 'one sample shares nothing'


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from('abcd'), lenses, min_size=1), lenses, st.integers(1, 30), st.integers(1, 200))
def test_matched_counts_cost_the_same_within_rounding(costs, reference, count, problems):
    ids, costs = IDS[:problems], costs | {'reference': reference}
    target = reference.total(problems, problems * count)
    for name, found in budget.matched(costs, 'reference', count, ids).items():
        cost = costs[name]
        assert found.samples == sum(budget.samples(i, found.mean, 1) for i in ids)
        assert found.mismatch == pytest.approx(cost.total(problems, found.samples) / target - 1)
        if found.mean:
            assert cost.total(problems, problems * found.mean) == pytest.approx(target)
            assert abs(found.samples - problems * found.mean) <= problems, 'one up or down a problem'
        else:
            assert cost.total(problems, 0) >= target, 'its prompts alone cost more'


def test_many_problems_leave_little_mismatch():
    costs = {'9b': budget.params_cost(9.24e9, GSM8K), '27b': budget.params_cost(27.2e9, GSM8K)}
    found = budget.matched(costs, '27b', 1, IDS)['9b']
    assert found.mean == pytest.approx(2.944, abs=1e-3) and abs(found.mismatch) < 5e-3


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


def test_what_is_no_sample_is_refused():
    for wrong in ((-1, 1, 1), (0, 0, 1), (0, 1, 0)):
        with pytest.raises(ValueError, match='no lengths of a sample'):
            budget.Lengths(*wrong)
    costs = {'a': budget.Cost(1.0), 'free': budget.Cost(0.0)}
    with pytest.raises(ValueError, match='nothing to match'):
        budget.matched(costs, 'a', 1, IDS)
    with pytest.raises(ValueError, match='nothing to match'):
        budget.matched({'a': budget.Cost(1.0)}, 'a', 1, [])
