"""Equal cost: where curves cross is known by hand where every sample is another right solution (diversity is k)."""

import numpy as np
import pytest

from cosample_jax.analysis import lenses, quality
from cosample_jax.analysis.quality import Kept, Source
from cosample_jax.budget import Cost


def source(model, samples, right):
    """`right[j]` of the samples of problem j are correct, each another text."""
    kept = [[Kept(i, f'{model} {i}') for i in range(count)] for count in right]
    return Source(model, np.full(len(right), samples), kept)


def flip(sources, costs, metric='diversity'):
    (row,) = [row for row in lenses.flips(sources, {'lens': costs}) if row['metric'] == metric]
    return row


def test_the_flip_is_where_the_curves_cross():
    sources = [source('weak', 10, [10] * 4), source('strong', 8, [8] * 4)]
    # At cost c weak has c solutions, strong (c - 2) / 0.5: equal at 4, between two counts of samples.
    row = flip(sources, {'weak': Cost(1.0), 'strong': Cost(0.5, problem=2.0)})
    assert (row['start'], row['end']) == (2.5, 6.0)
    assert (row['start_winner'], row['end_winner']) == ('weak', 'strong')
    assert (row['start_difference'], row['end_difference']) == pytest.approx((1.5, -2.0))
    assert [row[name] for name in ('crossing', 'crossing_low', 'crossing_high')] == pytest.approx([4.0] * 3)
    assert row['share'] == 1 and row['ratio'] == 0.5


def test_what_is_paid_once_is_shared_by_the_problems():
    sources = [source('weak', 10, [10] * 4), source('strong', 8, [8] * 4)]
    row = flip(sources, {'weak': Cost(1.0), 'strong': Cost(0.5, once=8.0)})
    assert row['crossing'] == pytest.approx(4.0)


def test_no_flip_where_one_source_is_better_throughout():
    sources = [source('weak', 10, [10] * 4), source('strong', 8, [4] * 4)]
    row = flip(sources, {'weak': Cost(1.0), 'strong': Cost(1.0)})
    assert (row['start_winner'], row['end_winner'], row['crossing'], row['crossing_low']) == ('weak', 'weak', '', '')


def test_equal_is_nobodys():
    row = flip([source('weak', 6, [3] * 4), source('strong', 6, [3] * 4)], {'weak': Cost(1.0), 'strong': Cost(1.0)})
    assert (row['start_winner'], row['end_winner'], row['share']) == ('', '', 1.0)


def test_a_flip_that_hangs_on_few_problems_is_unsure():
    sources = [source('weak', 10, [10, 10, 0, 0, 4]), source('strong', 8, [0, 0, 8, 8, 8])]
    row = flip(sources, {'weak': Cost(1.0), 'strong': Cost(0.5, problem=2.0)})
    assert row['start_winner'] == 'weak' and row['end_winner'] == 'strong' and 0.05 < row['share'] < 0.8
    assert row['crossing_low'] < row['crossing'] < row['crossing_high']


def test_a_pool_that_costs_less_than_one_sample_is_held_against_it():
    costs = {'weak': Cost(1.0), 'strong': Cost(10.0)}
    row = flip([source('weak', 3, [3, 2]), source('strong', 2, [1, 1])], costs)
    assert row['ratio'] == row['start'] == 10 and row['end'] == row['end_winner'] == row['crossing'] == ''
    assert (row['start_winner'], row['start_difference'], row['share']) == ('weak', 2.0, 1.0)
    # The dearer source being better says nothing: the cheaper one could have drawn more.
    row = flip([source('weak', 3, [0, 0]), source('strong', 1, [1, 1])], costs)
    assert (row['start_winner'], row['start_difference'], row['end']) == ('', -1.0, '')


def test_the_last_of_several_crossings_counts():
    grid = np.array([1.0, 2.0, 3.0, 5.0])
    assert lenses._crossings(np.array([[1.0, -1.0, 1.0, -3.0]]), grid) == pytest.approx([3.5])


def test_long_pools_are_compared_at_some_counts_only():
    (costs, values) = lenses._curve(source('weak', 5000, [2500, 10]), {'weak': Cost(2.0)}, 'coverage')
    assert values.shape == (2, len(costs)) and len(costs) <= 200 and (costs[0], costs[-1]) == (2, 10_000)


def test_curves_lie_against_each_lens():
    sources = [source('weak', 3, [3, 0]), source('strong', 1, [1, 1])]
    costs = {lens: {'weak': Cost(each, once=4), 'strong': Cost(3 * each)} for lens, each in (('x', 1), ('y', 10))}
    rows = lenses.curves(quality.curves(sources), costs, 2)
    assert [(r['lens'], r['model'], r['k'], r['cost']) for r in rows] == [
        *(('x', 'weak', 1, 3), ('x', 'weak', 2, 4), ('x', 'weak', 3, 5), ('x', 'strong', 1, 3)),
        *(('y', 'weak', 1, 12), ('y', 'weak', 2, 22), ('y', 'weak', 3, 32), ('y', 'strong', 1, 30)),
    ]
    assert rows[0]['coverage'] == 0.5 and rows[0]['coverage_low'] < 0.5 < rows[0]['coverage_high']
