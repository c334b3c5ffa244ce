import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from cosample_jax.analysis import success


def test_the_posterior_is_that_of_importance_sampling_from_the_prior():
    total, correct = np.full(6, 3), np.array([0, 0, 0, 1, 2, 3])
    weights = success._weights(np.random.default_rng(1).standard_normal((100_000, 7)))
    p = np.concatenate([[0], np.exp(success._LOG_P)])[:, None]
    miss = np.concatenate([[1], np.exp(success._LOG_MISS)])[:, None]
    likelihood = p**correct * miss ** (total - correct)
    of_problem = weights @ likelihood
    importance = of_problem.prod(1)
    # E[1 - (1 - p)^30] of each problem, given the distribution and then over it.
    expected = (weights @ (likelihood * (1 - miss**30)) / of_problem).mean(1)
    exact = importance @ expected / importance.sum()
    found = success.posterior(total, correct, draws=4000)
    assert found.coverage(30).mean() == pytest.approx(exact, abs=0.01)


def test_draws_repeat_with_their_seed():
    a, b, c = (success.posterior([4, 4, 5], [0, 1, 5], draws=50, seed=seed).log_miss for seed in (0, 0, 1))
    assert np.array_equal(a, b) and not np.array_equal(a, c)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(2, 20), st.integers(0, 20)), min_size=1, max_size=30))
def test_coverage_is_a_share_that_never_falls_with_k(counts):
    total = [n for n, _ in counts]
    found = success.posterior(total, [min(n, c) for n, c in counts], draws=60)
    curve = np.array([found.coverage(k) for k in (1, 2, 10, 1000, 10**6)])
    assert (curve >= 0).all() and (curve <= 1).all() and (np.diff(curve, axis=0) >= 0).all()
    assert found.weights.sum(1) == pytest.approx(np.ones(60))


FAMILIES = {
    'beta': (6, 300, lambda rng: rng.beta(0.3, 0.7, 100)),
    'never': (6, 300, lambda rng: np.where(rng.random(100) < 0.3, 0, rng.beta(0.5, 1, 100))),
    # Once taken for problems that are never solved, and, from larger pilots, for a power law.
    'hump': (6, 300, lambda rng: special.expit(rng.normal(-2.5, 2, 100))),
    'hump, many samples': (30, 3000, lambda rng: special.expit(rng.normal(-2.5, 2, 100))),
}


@pytest.mark.parametrize('family', FAMILIES)
def test_intervals_hold_the_truth_about_as_often_as_they_say(family):
    n, k, draw = FAMILIES[family]
    hits = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        p = draw(rng)
        found = success.posterior(np.full(100, n), rng.binomial(n, p), draws=200, seed=seed)
        low, high = np.quantile(found.coverage(k), [0.05, 0.95])
        hits.append(low <= np.mean(1 - (1 - p) ** k) <= high)
    assert np.mean(hits) > 0.7


def test_within_the_pilot_the_forecast_is_what_was_measured():
    correct = np.random.default_rng(0).binomial(20, np.random.default_rng(1).beta(0.5, 0.5, 300))
    low, high = np.quantile(success.posterior(np.full(300, 20), correct).coverage(1), [0.05, 0.95])
    assert low < correct.mean() / 20 < high


def test_far_beyond_the_pilot_nobody_knows():
    found = success.posterior(np.full(50, 4), np.zeros(50, int))
    low, high = np.quantile(found.coverage(10_000), [0.05, 0.95])
    assert low < 0.1 and high > 0.5


@pytest.mark.parametrize(('total', 'correct'), [([], []), ([3], [4]), ([3], [-1])])
def test_counts_that_cannot_be(total, correct):
    with pytest.raises(ValueError, match='every problem needs'):
        success.posterior(total, correct)
