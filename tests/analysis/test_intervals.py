import itertools

import numpy as np
import pytest

from cosample_jax.analysis import intervals


def test_wilson_matches_published_values():
    # Newcombe 1998, table I: 81/263 and 15/148.
    assert intervals.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert intervals.wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)


def test_wilson_ends_are_exact():
    assert intervals.wilson(0, 20).low == 0 and intervals.wilson(20, 20).high == 1
    assert intervals.wilson(0, 0) == (0, 1)
    with pytest.raises(ValueError, match='3 successes in 2 trials'):
        intervals.wilson(3, 2)


def test_resampled_means_are_the_bootstrap_distribution():
    values = np.array([0.0, 1.0, 5.0])
    exact = np.array([np.mean(p) for p in itertools.product(values, repeat=3)])
    drawn = intervals.resampled_means(values[:, None], draws=40_000, seed=3)[:, 0]
    assert drawn.mean() == pytest.approx(exact.mean(), abs=0.03)
    assert drawn.std() == pytest.approx(exact.std(), rel=0.02)
    assert set(np.round(drawn, 9)) <= set(np.round(exact, 9))


def test_resampling_is_seeded_and_in_whatever_chunks_the_same(monkeypatch):
    values = np.arange(20.0).reshape(10, 2)
    first = intervals.resampled_means(values, draws=25, seed=1)
    assert first.shape == (25, 2)
    monkeypatch.setattr(intervals, '_CHUNK', 480)
    intervals._resample.cache_clear()
    np.testing.assert_array_equal(first, intervals.resampled_means(values, draws=25, seed=1))
    assert not np.array_equal(first, intervals.resampled_means(values, draws=25, seed=2))
    np.testing.assert_allclose(first[:, 1] - first[:, 0], 1)  # columns share their draws


def test_paired_difference_uses_the_pairing():
    rng = np.random.default_rng(0)
    easy = rng.random(400)  # what both sources find easy cancels in a pair
    result = intervals.paired_difference(easy + 0.01, easy)
    assert result.value == pytest.approx(0.01)
    assert result.low == pytest.approx(0.01) and result.high == pytest.approx(0.01)
    assert result.p < 0.001


def test_paired_difference_agrees_with_theory():
    rng = np.random.default_rng(1)
    a, b = rng.random(500) < 0.6, rng.random(500) < 0.5
    result = intervals.paired_difference(a, b)
    pairs = a.astype(float) - b
    error = pairs.std(ddof=1) / np.sqrt(500)
    assert result.standard_error == pytest.approx(error)
    assert result.detectable == pytest.approx(2.8016 * error, rel=1e-4)
    assert result.low == pytest.approx(pairs.mean() - 1.96 * error, abs=0.006)
    assert result.high == pytest.approx(pairs.mean() + 1.96 * error, abs=0.006)


def test_detectable_difference_has_eighty_percent_power():
    rng = np.random.default_rng(2)
    problems, spread = 100, 1.0
    shift = intervals.DETECTABLE * spread / np.sqrt(problems)
    pairs = rng.normal(shift, spread, size=(4_000, problems))
    z = pairs.mean(1) / (pairs.std(1, ddof=1) / np.sqrt(problems))
    assert np.mean(np.abs(z) > 1.96) == pytest.approx(0.8, abs=0.025)


def test_equal_pairs_do_not_claim_infinite_power():
    result = intervals.paired_difference(np.ones(50), np.ones(50))
    assert result.value == 0 and result.p == 1
    assert result.detectable == pytest.approx(intervals.DETECTABLE / 50)


def test_unpaired_input_is_an_error():
    with pytest.raises(ValueError, match='not paired'):
        intervals.paired_difference(np.ones(3), np.ones(4))
    with pytest.raises(ValueError, match='no problem'):
        intervals.paired_difference(np.ones(0), np.ones(0))
    with pytest.raises(ValueError, match='not paired'):
        intervals.seeded_difference(np.ones((2, 3)), np.ones((2, 4)))


def test_one_seed_falls_back_to_the_problem_level():
    rng = np.random.default_rng(3)
    a, b = rng.random((1, 80)) < 0.5, rng.random((1, 80)) < 0.4
    assert intervals.seeded_difference(a, b) == intervals.paired_difference(a[0], b[0])


def test_spread_between_seeds_widens_the_interval():
    rng = np.random.default_rng(4)
    base = rng.random((1, 300)) < 0.5
    still = np.repeat(base, 3, axis=0).astype(float)
    moving = still + np.array([[-0.1], [0.0], [0.1]])
    narrow = intervals.seeded_difference(still, still * 0.9)
    wide = intervals.seeded_difference(moving, still * 0.9)
    assert wide.value == pytest.approx(narrow.value)
    # Three seeds 0.1 apart: standard error 0.1 / sqrt(3).
    added = np.sqrt(wide.standard_error**2 - narrow.standard_error**2)
    assert added == pytest.approx(0.1 / np.sqrt(3), rel=0.05)


def test_ratio_difference_resamples_problems_not_samples():
    # Each problem repeated ten times over: more samples, no more knowledge.
    rng = np.random.default_rng(5)
    wrong = (rng.random(60) < 0.3).astype(float)
    kept = np.ones(60)
    once = intervals.ratio_difference(wrong, kept, wrong[::-1], kept)
    tenfold = intervals.ratio_difference(10 * wrong, 10 * kept, 10 * wrong[::-1], 10 * kept)
    assert tuple(once) == pytest.approx(tuple(tenfold))
    assert once.value == 0 and once.standard_error > 0.05


def test_ratio_difference_without_samples_is_not_a_number():
    result = intervals.ratio_difference([1, 0], [1, 1], [0, 0], [0, 0])
    assert np.isnan(result.value) and np.isnan(result.p)


def test_ratio_interval_draws_problems_and_is_never_certain():
    rng = np.random.default_rng(6)
    whole = rng.integers(0, 4, (60, 2)).astype(float)
    part = np.stack([np.floor(whole[:, 0] * rng.random(60) * 1.3), whole[:, 1]], 1).clip(0, whole)
    once, tenfold = intervals.ratio_interval(part, whole), intervals.ratio_interval(10 * part, 10 * whole)
    np.testing.assert_allclose(once[:, 0], tenfold[:, 0])
    share = part[:, 0].sum() / whole[:, 0].sum()
    error = (part[:, 0] - share * whole[:, 0]).std() / 60**0.5 / whole[:, 0].mean()  # the delta method's
    assert tuple(once[:, 0]) == pytest.approx((share - 1.96 * error, share + 1.96 * error), abs=0.02)
    assert tuple(once[:, 1]) == intervals.wilson(np.count_nonzero(whole[:, 1]), np.count_nonzero(whole[:, 1]))
    assert np.isnan(intervals.ratio_interval([[0.0]] * 3, [[0.0]] * 3)).all()


def test_share_interval_is_not_certain_where_all_problems_agree():
    values = np.array([[0, 1, 0.5, 1], [0, 1, 0.5, 0]] * 10, float)
    bounds = intervals.share_interval(values)
    assert tuple(bounds[:, 0]) == intervals.wilson(0, 20) and tuple(bounds[:, 1]) == intervals.wilson(20, 20)
    np.testing.assert_array_equal(bounds[:, 2:], intervals.mean_interval(values)[:, 2:])


def test_an_end_at_zero_is_zero_and_not_a_rounding_error_above_it():
    # Means of resampled +-0.1 that are zero on paper come out as 1e-18 in floating point.
    draws = np.array([[0.1 + 0.2 - 0.3], [0.1 + 0.2 - 0.3]])
    assert draws[0, 0] > 0
    assert not (intervals.quantiles(draws) > 0).any()
