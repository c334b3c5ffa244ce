import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosample_jax.analysis import allocation, chances
from cosample_jax.analysis.allocation import Problems, Source, next_round


def problems_of(count, kinds=None):
    return Problems([f'train/{i}' for i in range(count)], [0] * count if kinds is None else kinds)


def sources_of(weak, strong, ratio=3.0):
    return [Source('weak', 1 / ratio, weak), Source('strong', 1.0, strong)]


def play(policy, problems, sources, outcomes, since=0):
    """All rounds of a policy, [rounds, problems, sources]; `outcomes` [problems, sources, samples] are True where the
    sample of that index is correct. The first `since` are not played.
    """
    rounds, drawn = [], np.zeros((len(problems.ids), len(sources)), int)
    index = np.arange(outcomes.shape[2])
    while True:
        correct = (outcomes & (index < drawn[:, :, None])).sum(2)
        more = next_round(policy, problems, sources, drawn, correct)
        assert (more >= 0).all()
        if not more.any():
            return np.array(rounds)
        rounds.append(more)
        drawn = drawn + more


def luck(p, samples=200, seed=0):
    """Outcomes of so many samples where the chances are `p`, [problems, sources]."""
    return np.random.default_rng(seed).random((*np.shape(p), samples)) < np.asarray(p)[:, :, None]


def chances_of(count, seed=0):
    return np.random.default_rng(seed).beta(0.4, 0.8, (count, 2))


@given(
    policy=st.sampled_from(list(allocation.POLICIES)),
    count=st.integers(1, 9),
    amounts=st.tuples(st.floats(0, 4), st.floats(0, 4)),
    ratio=st.sampled_from([1.0, 2.944, 3.0, 35.0]),
    seed=st.integers(0, 5),
)
def test_the_budget_is_spent_to_the_last_sample_that_it_pays_for(policy, count, amounts, ratio, seed):
    sources = sources_of(*(count * amount for amount in amounts), ratio)
    rounds = play(policy, problems_of(count), sources, luck(chances_of(count, seed), 1400))
    left = sum(s.budget for s in sources) - rounds.reshape(-1, 2).sum(0) @ [s.cost for s in sources]
    assert -1e-6 < left < 1 / ratio + 1e-6
    assert len(rounds) <= allocation.ROUNDS + 1


@pytest.mark.parametrize('policy', allocation.POLICIES)
def test_what_the_last_sample_lacks_by_rounding_is_no_reason_to_leave_it_out(policy):
    sources = sources_of(7 / 2.944, 0.0, 2.944)
    assert sources[0].budget / sources[0].cost < 7
    assert play(policy, problems_of(5), sources, luck(chances_of(5))).sum() == 7


@given(st.permutations(range(7)), st.sampled_from(list(allocation.POLICIES)))
def test_the_order_of_the_problems_does_not_matter(order, policy):
    problems, outcomes = problems_of(7, list('aabbabb')), luck(chances_of(7))
    moved = Problems([problems.ids[i] for i in order], [problems.kinds[i] for i in order])
    sources = sources_of(5.3, 4.0)
    there = play(policy, moved, sources, outcomes[list(order)])
    assert np.array_equal(there, play(policy, problems, sources, outcomes)[:, list(order)])


def test_uniform_is_even_in_one_round_and_nested():
    before = np.zeros((20, 2), int)
    for amount in np.arange(0, 60, 1.7):
        rounds = play('uniform', problems_of(20), sources_of(amount, amount), luck(chances_of(20)))
        counts = rounds.sum(0) if len(rounds) else before
        assert len(rounds) <= 1
        # What the strong model's budget leaves over goes to the weak one: never more than two samples.
        assert (np.ptp(counts, axis=0) <= 1).all()
        assert (counts >= before - [1, 0]).all() and counts.sum() >= before.sum() - 2
        before = counts


def test_uniform_with_one_source_is_nested_in_every_larger_budget():
    before = np.zeros((20, 1), int)
    for amount in np.arange(0, 60, 0.6):
        rounds = play('uniform', problems_of(20), sources_of(amount, 0)[:1], luck(chances_of(20)[:, :1]))
        counts = rounds.sum(0) if len(rounds) else before
        assert (counts >= before).all()
        before = counts


def test_a_cascade_asks_the_strong_model_only_for_what_stays_unsolved():
    outcomes = luck(chances_of(30))
    first, *others = play('cascade', problems_of(30), sources_of(30.0, 30.0), outcomes)
    assert (first == [3, 0]).all()
    drawn = first
    assert len(others) > 3
    for more in others:
        solved = (outcomes & (np.arange(200) < drawn[:, :, None])).any((1, 2))
        assert not more[solved].any() and not more[:, 0].any()
        drawn = drawn + more
    unsolved = drawn[~(outcomes & (np.arange(200) < drawn[:, :, None])).any((1, 2)), 1]
    assert np.ptp(unsolved) <= 1  # they take turns


def test_a_cascade_with_one_source_is_refused():
    with pytest.raises(ValueError, match='a cascade needs two sources'):
        play('cascade', problems_of(3), sources_of(3.0, 0)[:1], luck(chances_of(3)[:, :1]))


def test_a_policy_that_is_none_is_refused():
    with pytest.raises(ValueError, match="no policy 'greedy': uniform, cascade, adaptive"):
        play('greedy', problems_of(3), sources_of(3.0, 0), luck(chances_of(3)))


def known(monkeypatch, p):
    """Chances `p` [problems, sources] as if they were known, on the grid's nearest points."""
    places = np.abs(np.asarray(p)[..., None] - chances.P).argmin(-1)
    rows = np.zeros((len(p), len(chances.P), len(chances.P) if places.shape[1] == 2 else 1))
    for row, place in zip(rows, places, strict=True):
        row[tuple(place) if len(place) == 2 else (place[0], 0)] = 1
    monkeypatch.setattr(chances, 'posterior', lambda *_: (np.arange(len(p)), rows))
    return chances.P[places]


@pytest.mark.parametrize('budget', [1, 2, 4, 7])
def test_knowing_the_chances_a_round_is_the_best_there_is(monkeypatch, budget):
    p = known(monkeypatch, [[0.9], [0.4], [0.1], [0.0]])
    monkeypatch.setattr(allocation, 'ROUNDS', 1)
    nothing = np.zeros((4, 1), int)
    more = next_round('adaptive', problems_of(4), [Source('m', 1.0, budget)], nothing, nothing)

    def expected(counts):
        return np.sum(1 - (1 - p[:, 0]) ** np.asarray(counts))

    best = max(expected(c) for c in itertools.product(range(budget + 1), repeat=4) if sum(c) == budget)
    assert more.sum() == budget and expected(more[:, 0]) == pytest.approx(best)


def test_each_problem_is_asked_of_the_source_that_solves_it_at_the_least_cost(monkeypatch):
    known(monkeypatch, [[0.5, 0.9], [0.02, 0.6], [0.3, 0.3]])
    nothing = np.zeros((3, 2), int)
    monkeypatch.setattr(allocation, 'ROUNDS', 1)
    more = next_round('adaptive', problems_of(3), sources_of(1.5, 1.5), nothing, nothing)
    assert more[:, 1].tolist() == [0, 1, 0] and more[0, 0] and more[2, 0]


def test_solved_problems_get_nothing_while_there_are_others():
    """The second source solves what the first does not."""
    outcomes = np.zeros((12, 2, 200), bool)
    outcomes[:6, 0], outcomes[6:, 1] = True, True
    counts = play('adaptive', problems_of(12), sources_of(6.0, 6.0), outcomes).sum(0)
    assert (counts[6:, 1] > 0).all()  # all are solved
    for first in range(6):
        assert counts[first, 1] <= 2


def test_when_all_are_solved_the_rest_goes_where_there_is_least():
    """To what has few correct solutions, not few samples: every third of the odd problems' is correct."""
    outcomes = np.ones((10, 1, 200), bool)
    outcomes[1::2] = np.arange(200) % 3 == 0
    counts = play('adaptive', problems_of(10), [Source('m', 1.0, 240)], outcomes).sum(0)[:, 0]
    assert counts.sum() == 240
    assert counts[1::2].min() > 2 * counts[::2].max()


def test_a_kind_that_fails_is_left_for_one_that_does_not():
    kinds = [2] * 30 + [5] * 30
    p = np.repeat([[0.25], [0.0]], 30, axis=0)
    counts = play('adaptive', problems_of(60, kinds), [Source('m', 1.0, 60)], luck(p)).sum(0)
    assert counts[:30].sum() > 1.4 * counts[30:].sum()


@pytest.mark.parametrize('sources', [sources_of(40.0, 40.0), sources_of(80.0, 0)[:1]], ids=['two', 'one'])
def test_adaptive_solves_more_than_uniform(sources):
    """Chances as models have them: alike for the two, and spread from never to always."""
    gains = []
    for seed in range(5):
        p = np.minimum(chances_of(80, seed)[:, :1] ** [1.0, 0.6], 1)[:, : len(sources)]
        counts = {
            policy: play(policy, problems_of(80), sources, luck(p, seed=seed)).sum(0)
            for policy in ('uniform', 'adaptive')
        }
        solved = {
            k: (luck(p, seed=seed) & (np.arange(200) < n[:, :, None])).any((1, 2)).mean() for k, n in counts.items()
        }
        gains.append(solved['adaptive'] - solved['uniform'])
    assert np.mean(gains) > 0.05 and min(gains) > 0
