"""What the tests promise: no more false findings than they say, on cases small enough to list or on simulated runs."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from cosample_jax.analysis import intervals, significance

P = st.floats(0, 1)


def p_of(pairs, draws=20_000):
    return significance.sign_flips(np.array(pairs, float)[:, None], draws)[0]


@pytest.mark.parametrize('pairs', [[1, 2, 3, 0.5, -1], [0.1, 0.2, 0.3, -0.6], [1, 1, 1, 1, 1], [0, 0, 0], [2]])
def test_sign_flips_are_the_enumeration_of_all_signs(pairs):
    sums = [abs(np.dot(signs, pairs)) for signs in itertools.product((1, -1), repeat=len(pairs))]
    exact = np.mean([s >= abs(sum(pairs)) - 1e-12 for s in sums])
    assert p_of(pairs) == pytest.approx(exact, abs=0.012)


def test_of_right_and_wrong_answers_it_is_mcnemars_test():
    only_a, only_b = 21, 9
    exact = stats.binomtest(only_a, only_a + only_b).pvalue
    assert p_of([1] * only_a + [-1] * only_b + [0] * 60) == pytest.approx(exact, abs=0.005)


def test_sign_flips_in_chunks_are_the_same_and_never_zero(monkeypatch):
    pairs = np.random.default_rng(0).normal(0.1, 1, (50, 3))
    p = significance.sign_flips(pairs, 999)
    monkeypatch.setattr(significance, '_CHUNK', 350)
    np.testing.assert_array_equal(significance.sign_flips(pairs, 999), p)
    assert p_of([1.0] * 100, draws=999) == 1 / 1000
    assert significance.sign_flips(pairs, 999, seed=1)[0] != p[0]


def test_one_level_finds_what_is_there_and_no_more_than_five_percent_of_what_is_not():
    rng = np.random.default_rng(1)
    problems, runs = 150, 1500
    chance = rng.beta(0.7, 0.7, (problems, 1))  # easy and hard ones, which both sides share
    a, b = (rng.random((2, problems, runs)) < chance).astype(float)
    assert 0.025 < np.mean(significance.sign_flips(a - b, 500) <= 0.05) < 0.055  # steps of whole problems: below 5%
    skewed = rng.exponential(size=(problems, runs)) - 1
    assert np.mean(significance.sign_flips(skewed, 500) <= 0.05) == pytest.approx(0.05, abs=0.015)
    better = rng.random(a.shape) < chance + (1 - chance) * 0.3
    error = (better - b).std(0).mean() / problems**0.5
    expected = special.ndtr((better - b).mean() / error - 1.96)
    power = np.mean(significance.sign_flips(better - b, 500) <= 0.05)
    assert expected - 0.1 < power < expected < 0.95  # of the normal test, that knows the error


def seeded(rng, seeds, problems, between, shift=0.0):
    """Outcomes of two sides whose seeds differ by `between`, and whose problems take to one or the other side."""
    ease = rng.normal(0, 1.2, problems)
    return [
        (
            rng.random((seeds, problems))
            < special.expit(2 * (ease + rng.normal(0, 0.5, problems) + rng.normal(0, between, (seeds, 1)) + up))
        ).astype(float)
        for up in (shift, 0.0)
    ]


@pytest.mark.parametrize('between', [0.0, 0.2])
def test_two_levels_claim_no_more_than_they_may_with_three_seeds(between):
    rng = np.random.default_rng(2)
    found = [intervals.seeded_difference(*seeded(rng, 3, 200, between), draws=200) for _ in range(800)]
    size = np.mean([d.p <= 0.05 for d in found])
    assert 0.02 < size < 0.07
    # The interval is of the same width as the test: it holds the truth, zero, in 95%, give or take its own draws.
    assert np.mean([d.low <= 0 <= d.high for d in found]) == pytest.approx(1 - size, abs=0.03)


def test_two_levels_find_most_differences_of_the_detectable_size():
    rng = np.random.default_rng(3)
    found = [intervals.seeded_difference(*seeded(rng, 3, 200, 0.1, 0.41), draws=100) for _ in range(400)]
    truth, detectable = np.mean([d.value for d in found]), np.median([d.detectable for d in found])
    assert truth == pytest.approx(detectable, rel=0.15)
    assert np.mean([d.p <= 0.05 for d in found]) == pytest.approx(0.8, abs=0.15)


def test_crossed_error_is_that_of_simulated_runs():
    rng = np.random.default_rng(4)
    runs = [seeded(rng, 3, 100, 0.2) for _ in range(1500)]
    spread = np.std([a.mean() - b.mean() for a, b in runs])
    assert np.mean([significance.crossed(a, b).error ** 2 for a, b in runs]) ** 0.5 == pytest.approx(spread, rel=0.06)


def test_freedom_is_that_of_the_level_that_varies():
    rng = np.random.default_rng(5)
    outcomes = rng.random((1, 500)) < 0.5
    moving = outcomes + np.array([[-0.2], [0.0], [0.2]])
    assert significance.crossed(moving, 0 * moving).freedom == pytest.approx(2, abs=0.3)
    one = significance.crossed(outcomes.astype(float), np.zeros((1, 500)))
    assert one.freedom == pytest.approx(499) and one.error == pytest.approx(outcomes.std(ddof=1) / 500**0.5)
    assert significance.crossed(np.ones((3, 5)), np.zeros((2, 5))) == (0, 0)


@given(st.lists(P, min_size=1, max_size=6))
def test_holm_is_the_closure_of_bonferroni(p):
    # Closed testing (Marcus, Peritz and Gabriel 1976): reject what every set of hypotheses that holds it rejects.
    sets = [s for size in range(1, len(p) + 1) for s in itertools.combinations(range(len(p)), size)]
    expected = [max(min(1, len(s) * min(p[j] for j in s)) for s in sets if i in s) for i in range(len(p))]
    assert significance.holm(p) == pytest.approx(expected)


def test_holms_own_example_of_order_and_ties():
    assert significance.holm([0.04, 0.01, 0.01, 0.03]) == pytest.approx([0.06, 0.04, 0.04, 0.06])
    assert significance.holm([]) == []


def test_rows_without_a_test_are_left_out_of_the_count():
    rows = significance.with_holm([{'p': 0.03}, {'p': ''}, {'p': 0.02}])
    assert [row['p_holm'] for row in rows] == [pytest.approx(0.04), '', pytest.approx(0.04)]


def test_holm_keeps_the_chance_of_one_false_finding_at_five_percent():
    rng = np.random.default_rng(6)
    shared = rng.normal(size=(3000, 1))
    p = 2 * special.ndtr(-np.abs(0.7 * shared + 0.51**0.5 * rng.normal(size=(3000, 10))))
    assert np.mean((p <= 0.05).any(1)) > 0.15  # without it
    assert np.mean([min(significance.holm(list(row))) <= 0.05 for row in p]) <= 0.055
