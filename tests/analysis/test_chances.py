import numpy as np
import pytest

from cosample_jax.analysis.chances import P, posterior


def means(drawn, correct, kinds=None):
    """The mean chance of every problem with every source, [problems, sources]."""
    drawn = np.asarray(drawn)
    row_of, rows = posterior(drawn, correct, [0] * len(drawn) if kinds is None else kinds)
    assert np.allclose(rows.sum((1, 2)), 1)
    axes = (2, 1)[: drawn.shape[1]]  # the other source's
    return np.stack([rows.sum(axis) @ P for axis in axes], 1)[row_of]


def binomial(rng, drawn, p):
    return rng.binomial(drawn, p)


def test_many_samples_tell_the_chance_of_each_problem():
    p = np.array([[0.0, 0.5], [0.1, 0.9], [0.5, 0.5], [0.9, 0.02]])
    drawn = np.full((4, 2), 2000)
    assert np.abs(means(drawn, np.round(drawn * p)) - p).max() < 0.04


def test_one_source_alone():
    drawn = np.array([[10], [10], [0]])
    few, many, unknown = means(drawn, [[1], [9], [0]])[:, 0]
    assert few < unknown < many


def test_before_anything_is_known_nothing_is_hopeless():
    nothing = np.zeros((3, 2), int)
    assert np.all(np.abs(means(nothing, nothing) - 0.5) < 0.1)


def test_a_few_failures_of_one_problem_are_no_proof_for_another():
    assert means([[4], [0]], [[0], [0]])[1, 0] > 0.15


def test_a_failure_of_one_source_lowers_the_chance_with_the_other():
    (untried,), (failed,) = (means([[n, 0]], [[0, 0]])[:, 1] for n in (0, 3))
    assert failed < untried - 0.02


@pytest.mark.parametrize('same', [True, False])
def test_how_much_it_lowers_it_is_learned(same):
    """Where the sources solve the same problems it is more than where either solves its own."""
    rng = np.random.default_rng(0)
    p = rng.choice([0.05, 0.9], 200)
    other = p if same else rng.permutation(p)
    drawn = np.full((201, 2), 6)
    correct = np.append(binomial(rng, 6, np.stack([p, other], 1)), [[0, 0]], 0)
    drawn[200] = 6, 0
    assert means(drawn, correct)[200, 1] == pytest.approx(0.06 if same else other.mean(), abs=0.08)


def test_problems_of_a_kind_share_what_is_known_and_no_more_than_that():
    drawn, correct = np.full((42, 1), 3), np.zeros((42, 1), int)
    correct[20:40], drawn[40:] = 3, 0
    kinds = ['hard'] * 20 + ['easy'] * 20 + ['hard', 'easy']
    hard, easy = means(drawn, correct, kinds)[40:, 0]
    assert hard < 0.1 and easy > 0.9
    assert means(drawn, correct)[40:, 0] == pytest.approx(0.5, abs=0.1)


def test_stopping_at_the_first_success_biases_nothing():
    """The share of correct samples is biased upwards."""
    rng = np.random.default_rng(1)
    p = rng.beta(0.5, 1.3, 2000)
    until = rng.geometric(np.maximum(p, 1e-9))
    drawn, correct = np.minimum(until, 8), (until <= 8).astype(int)
    assert np.mean(correct / drawn) > p.mean() + 0.08
    assert means(drawn[:, None], correct[:, None]).mean() == pytest.approx(p.mean(), abs=0.03)
