from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosample_jax.analysis import diversity, success, unseen

NOTHING = np.zeros((0, 2), np.int64)


def kinds_of(counts):
    return np.array(sorted(Counter(counts).items()), np.int64).reshape(-1, 2)


def expected_new(d, theta, seen, kinds, more):
    """Expected new kinds by the sequential rule, over every number of kinds so far."""
    chance = {kinds: 1.0}
    for i in range(more):
        following = Counter()
        for k, p in chance.items():
            new = (theta + d * k) / (theta + seen + i)
            following[k + 1] += p * new
            following[k] += p * (1 - new)
        chance = following
    return sum(p * k for k, p in chance.items()) - kinds


@pytest.mark.parametrize(('d', 'theta'), [(0.3, 2.0), (0.8, 0.05), (0.02, 40.0)])
def test_unique_solutions_are_those_of_the_sequential_rule(d, theta):
    assert unseen.unique(NOTHING, d, theta, 7) == pytest.approx(expected_new(d, theta, 0, 0, 7))
    counts = [4, 1, 1]
    again = 0.0
    for times in counts:
        # Not to see a kind in 5 fresh solutions, one after the other.
        rest = theta + 6 - times + d + np.arange(5)
        again += 1 - np.prod(rest / (theta + 6 + np.arange(5)))
    found = unseen.unique(kinds_of(counts), d, theta, np.array([0, 5]))
    assert found == pytest.approx([0, again + expected_new(d, theta, 6, 3, 5)])


def test_likelihood_is_that_of_the_sequential_rule():
    ratios = []
    for counts in ([3, 1], [2, 2], [4], [1, 1, 1, 1]):
        by_rule = np.ones((len(unseen._DISCOUNTS), len(unseen._LOG_THETA)))
        d, theta = unseen._DISCOUNTS[:, None], np.exp(unseen._LOG_THETA)
        drawn = 0
        for kinds, times in enumerate(counts):
            for i in range(times):
                by_rule = by_rule * ((i - d) if i else (theta + d * kinds)) / (theta + drawn)
                drawn += 1
        ratios.append(unseen._likelihood(kinds_of(counts)) * by_rule.max() / by_rule)
    assert np.array(ratios) == pytest.approx(np.ones_like(ratios), rel=1e-6)


@given(st.lists(st.integers(1, 5), max_size=6), st.floats(0.02, 0.97), st.floats(1e-3, 1e4))
def test_there_are_no_more_unique_solutions_than_correct_ones_and_no_fewer_with_more(counts, d, theta):
    correct = np.array([0, 1, 2, 10, 1000])
    found = unseen.unique(kinds_of(counts), d, theta, correct)
    assert (np.diff(found) > -1e-9).all() and (found <= correct * (1 + 1e-3)).all()
    assert found[:2] == pytest.approx([0, 1], abs=1e-3)


def test_diversity_goes_on_from_budget_to_budget():
    solutions = [[], [1], [1, 1], [3], [5, 1]]
    log_miss = success.posterior(np.full(5, 20), [0, 1, 2, 3, 6], draws=100).log_miss
    curve = unseen.posterior(solutions, log_miss).diversity([0.5, 1, 3, 30, 300])
    assert curve.shape == (5, 100) and (np.diff(curve, axis=0) >= -1e-9).all()
    assert curve[:2].mean(1) == pytest.approx(-np.expm1(log_miss).mean() * np.array([0.5, 1]), abs=0.08)


def sampled(n, problems=80, seed=0):
    """Correct texts of n samples of problems with a few frequent and many rare solutions; easy ones repeat more."""
    rng = np.random.default_rng(seed)
    solutions = []
    for p in rng.beta(0.5, 1, problems):
        kinds = int(3 + 40 * (1 - p) ** 2)
        shares = np.arange(1, kinds + 1) ** -1.2
        drawn = rng.multinomial(rng.binomial(n, p), shares / shares.sum())
        solutions.append([int(m) for m in drawn if m])
    return solutions


def test_intervals_hold_the_diversity_of_many_samples():
    hits = []
    for seed in range(8):
        full = sampled(600, seed=seed)
        rng = np.random.default_rng([seed, 1])
        pilot = [rng.multivariate_hypergeometric([600 - sum(s), *s], 8)[1:] for s in full]
        pilot = [[int(m) for m in s if m] for s in pilot]
        correct = np.array([sum(s) for s in pilot])
        model = unseen.posterior(pilot, success.posterior(np.full(80, 8), correct, draws=300, seed=seed).log_miss, seed)
        low, high = np.quantile(model.diversity([8, 80, 400]), [0.05, 0.95], axis=1)
        truth = diversity.diversity(600, full, [8, 80, 400]).mean(0)
        hits.append((low <= truth) & (truth <= high))
    assert np.mean(hits) > 0.75


def test_repeating_solutions_and_ever_new_ones_are_told_apart():
    same, new = [[6]] * 40, [[1] * 6] * 40
    log_miss = success.posterior(np.full(40, 10), np.full(40, 6), draws=200).log_miss
    few, many = (np.quantile(unseen.posterior(s, log_miss).diversity([100]), [0.05, 0.95]) for s in (same, new))
    assert few[1] < 5 and many[0] > 30


def test_nothing_solved_and_draws_that_repeat():
    log_miss = success.posterior(np.full(5, 4), np.zeros(5, int), draws=50).log_miss
    a, b = (unseen.posterior([[]] * 5, log_miss, seed=3).diversity([9]) for _ in range(2))
    assert np.array_equal(a, b) and (a >= 0).all() and np.isfinite(a).all()


def test_unsolved_problems_are_like_hard_ones():
    solutions = [[9]] * 20 + [[4, 1]] * 20 + [[1, 1]] * 20 + [[]] * 20
    correct = np.array([sum(s) for s in solutions])
    model = unseen.posterior(solutions, success.posterior(np.full(80, 10), correct, draws=300).log_miss)
    easy, even, hard, unsolved = np.median(np.log(model.theta), axis=0).reshape(4, 20).mean(1)
    assert easy < even < hard and unsolved > even + 1
