"""What holds of every pool, of coverage, diversity and the vote, on pools that hypothesis thinks of."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosample_jax.analysis import coverage, diversity, votes

# A problem's samples: a letter is a correct solution, None is a wrong one.
POOL = st.lists(st.sampled_from(['a', 'b', 'c', 'd', None]), min_size=1, max_size=8)


def correct(pool):
    return [s for s in pool if s is not None]


def diversities(pool):
    """At every k from 0 to the whole pool."""
    return diversity.diversity(len(pool), diversity.multiplicities([correct(pool)]), np.arange(len(pool) + 1))[0]


def coverages(pool):
    return coverage.hit_probability(len(pool), len(correct(pool)), np.arange(len(pool) + 1))


@given(POOL)
def test_both_are_the_mean_over_all_subsets(pool):
    found = coverages(pool), diversities(pool)
    for k in range(len(pool) + 1):
        drawn = [{s for s in subset if s is not None} for subset in itertools.combinations(pool, k)]
        assert found[0][k] == pytest.approx(np.mean([bool(d) for d in drawn]), abs=1e-12)
        assert found[1][k] == pytest.approx(np.mean([len(d) for d in drawn]), abs=1e-12)


@given(POOL)
def test_bounds(pool):
    ks, hit, unique = np.arange(len(pool) + 1), coverages(pool), diversities(pool)
    assert (hit >= 0).all() and (hit <= 1).all()
    assert (hit <= unique + 1e-12).all()  # who has one unique solution is covered
    assert (unique <= np.minimum(ks, len(correct(pool))) + 1e-12).all()
    assert hit[1] == pytest.approx(len(correct(pool)) / len(pool)) and unique[1] == pytest.approx(hit[1])
    assert unique[-1] == pytest.approx(len(set(correct(pool))))


@given(POOL)
def test_more_draws_never_hit_less(pool):
    assert (np.diff(coverages(pool)) >= -1e-12).all() and (np.diff(diversities(pool)) >= -1e-12).all()


@given(POOL, st.integers(0, 7))
def test_one_more_correct_sample_never_hits_less(pool, place):
    better = [*pool]
    better[place % len(pool)] = better[place % len(pool)] or 'e'
    assert (coverages(better) >= coverages(pool) - 1e-12).all()
    assert (diversities(better) >= diversities(pool) - 1e-12).all()


@given(POOL.flatmap(lambda pool: st.tuples(st.just(pool), st.permutations(pool))))
def test_the_order_of_the_samples_does_not_matter(pools):
    np.testing.assert_allclose(diversities(pools[0]), diversities(pools[1]))


@given(st.integers(1, 10_000), st.data())
def test_nothing_correct_is_zero_and_too_many_draws_are_an_error(total, data):
    k = data.draw(st.integers(0, total))
    assert coverage.hit_probability(total, 0, k) == 0 and diversity.diversity(total, [[]], [k])[0, 0] == 0
    for correct_ones in (0, total):
        with pytest.raises(ValueError, match='exceeds'):
            coverage.hit_probability(total, correct_ones, total + 1)


@pytest.mark.parametrize('k', [1, 2, 3, 4])
def test_the_vote_of_the_first_k_is_unbiased(k):
    # Averaged over all orders a pool could have come in, it is the mean over all ordered draws of k of the pool.
    pool = ['7', '7', '8', '', '9']
    over_orders = [votes.majority_at(order, k) == '7' for order in itertools.permutations(pool)]
    over_draws = [votes.majority(draw) == '7' for draw in itertools.permutations(pool, k)]
    assert np.mean(over_orders) == pytest.approx(np.mean(over_draws))


@given(st.lists(st.sampled_from(['7', '8', '']), min_size=2, max_size=8), st.data())
def test_the_vote_of_the_first_k_sees_nothing_else(answers, data):
    k = data.draw(st.integers(1, len(answers)))
    assert votes.majority_at(answers, k) == votes.majority_at(answers[:k] + answers[k:][::-1], k)
