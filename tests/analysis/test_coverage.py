import itertools
import math

import numpy as np
import pytest

from cosample_jax.analysis import coverage


def test_equals_enumeration_on_every_small_case():
    for total in range(1, 7):
        for correct in range(total + 1):
            marks = [True] * correct + [False] * (total - correct)
            for k in range(total + 1):
                draws = list(itertools.combinations(marks, k))
                expected = sum(any(draw) for draw in draws) / len(draws)
                assert coverage.hit_probability(total, correct, k) == pytest.approx(expected, abs=1e-12)


def test_no_correct_sample_is_exactly_zero_and_all_correct_exactly_one():
    ks = np.arange(1, 31)
    assert (coverage.hit_probability(30, 0, ks) == 0).all()
    assert (coverage.hit_probability(30, 30, ks) == 1).all()


def test_more_draws_than_samples_is_an_error_even_without_a_correct_one():
    with pytest.raises(ValueError, match='k = 4 exceeds the 3 samples'):
        coverage.coverage([10, 3], [1, 0], 4)


@pytest.mark.parametrize('marked', [-1, 4])
def test_impossible_counts_are_errors(marked):
    with pytest.raises(ValueError, match='correct'):
        coverage.hit_probability(3, marked, 1)


def test_ten_thousand_samples_stay_exact():
    expected = 1 - math.comb(9_993, 5_000) / math.comb(10_000, 5_000)
    assert coverage.hit_probability(10_000, 7, 5_000) == pytest.approx(expected, abs=1e-10)
    assert coverage.hit_probability(10_000, 1, 1) == pytest.approx(1e-4, abs=1e-10)


def test_mean_over_problems_with_one_k_a_problem():
    # Budgets that are no whole number give neighbouring problems different k.
    assert coverage.coverage([4, 4], [1, 1], [2, 3]) == pytest.approx((2 / 4 + 3 / 4) / 2)
    assert coverage.coverage([], [], 1) == 0


def test_curve_is_every_k_at_once_and_never_falls():
    total, correct = np.array([5, 8]), np.array([2, 1])
    curve = coverage.coverage_curve(total, correct, [1, 2, 5])
    assert curve.shape == (2, 3)
    assert (np.diff(curve, axis=1) >= 0).all()
    assert curve[:, 2].mean() == pytest.approx(coverage.coverage(total, correct, 5))


def test_is_unbiased():
    # Averaged over everything that could have been sampled, the estimate from M is the truth 1 - (1 - p)^k.
    p, total, k = 0.3, 6, 4
    expectation = sum(
        math.comb(total, c) * p**c * (1 - p) ** (total - c) * coverage.hit_probability(total, c, k)
        for c in range(total + 1)
    )
    assert expectation == pytest.approx(1 - (1 - p) ** k)
