import numpy as np
import pytest

from cosample_jax.analysis import intervals, precision


def coins(seeds, problems, share, luck=0.0, seed=0):
    """[seeds, problems] of right and wrong; `luck` is how much the seeds differ."""
    rng = np.random.default_rng(seed)
    shares = share + luck * rng.standard_normal((seeds, 1))
    return (rng.random((seeds, problems)) < shares).astype(float)


def test_one_seed_needs_four_times_the_problems_for_half_the_interval():
    row = precision.needed(coins(1, 400, 0.5), coins(1, 400, 0.4, seed=1))
    assert row['halve_problems'] == 1600 and row['halve_seeds'] == row['seed_error'] == ''
    assert row['problem_error'] == pytest.approx(
        intervals.paired_difference(coins(1, 400, 0.5)[0], coins(1, 400, 0.4, seed=1)[0]).standard_error
    )


def test_as_many_problems_as_named_find_the_difference():
    a, b = coins(1, 400, 0.44), coins(1, 400, 0.42, seed=1)
    row = precision.needed(a, b)
    assert not row['found'] and row['find_problems'] > 400
    error = row['problem_error'] * np.sqrt(400 / row['find_problems'])
    assert abs(row['difference']) == pytest.approx(intervals.DETECTABLE * error, rel=1e-3)


def test_what_is_found_already_needs_nothing_more():
    row = precision.needed(coins(1, 400, 0.8), coins(1, 400, 0.2, seed=1))
    assert row['found'] and row['find_problems'] == ''


def test_the_luck_of_training_asks_for_seeds_not_for_problems():
    row = precision.needed(coins(4, 2000, 0.5, luck=0.1), coins(4, 2000, 0.5, luck=0.1, seed=1))
    assert row['seed_error'] > 3 * row['problem_error']
    assert row['halve_problems'] == '' and 16 <= row['halve_seeds'] <= 20


def test_both_parts_too_wide_for_one_alone():
    a = np.array([[1, 0, 1, 0, 1, 0, 1, 0], [1, 1, 1, 1, 1, 0, 1, 1]], float)
    row = precision.needed(a, a[:, ::-1].copy())
    assert row['halve_problems'] == row['halve_seeds'] == ''


def test_only_pairs_that_were_trained_have_a_row():
    def cell(data, trained=True):
        results = {'test': {'pass@1': [1, 0, 1]}} if trained else {}
        return {'model': 'student', 'budget': 'low', 'data': data, 'trained': trained, 'results': results}

    assert precision.precision([cell('weak'), cell('strong', trained=False), cell('gold')]) == []
    (row,) = precision.precision([cell('weak'), cell('strong'), cell('gold')])
    # Three equal pairs: as if one problem had told them apart.
    assert (row['model'], row['problems'], row['difference']) == ('student', 3, 0)
    assert row['problem_error'] == pytest.approx(1 / 3) and row['halve_problems'] == 12
