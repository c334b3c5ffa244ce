import numpy as np
import pytest

from cosample_jax.analysis import quality, tables
from cosample_jax.analysis.quality import Kept, Match, Source


@pytest.fixture
def pair():
    weak = Source(
        'weak',
        np.array([3, 3]),
        [[Kept(0, 'a', True), Kept(2, 'a', False)], [Kept(2, 'b', None)]],
        mean_tokens=10.0,
        flops_per_token=2.0,
    )
    strong = Source('strong', np.array([1, 1]), [[], [Kept(0, 'c', True)]], mean_tokens=20.0, flops_per_token=6.0)
    return weak, strong


def match(weak, strong, k=3):
    return Match('low', 'compute', weak, strong, np.array([k, k]), np.array([1, 1]))


def test_kept_counts_only_what_the_budget_drew(pair):
    weak, strong = pair
    rows = quality.kept(pair, {'low': {'weak': np.array([2, 3]), 'strong': np.array([1, 1])}})
    assert [(r['model'], r['samples'], r['kept'], r['unique'], r['problems_solved']) for r in rows] == [
        ('weak', 5, 2, 2, 2),
        ('strong', 2, 1, 1, 1),
    ]
    assert rows[0]['judged'] == 1 and rows[0]['fpr'] == 0 and rows[0]['fpr_high'] > 0.5


def test_overlap(pair):
    (row,) = quality.overlap([match(*pair)])
    assert (row['both'], row['only_a'], row['only_b'], row['neither']) == (1, 1, 0, 0)


def test_matched_takes_the_false_positives_of_judged_samples_only(pair):
    rows = {row['metric']: row for row in quality.matched([match(*pair)])}
    assert (rows['coverage']['a'], rows['coverage']['b']) == (1.0, 0.5)
    assert (rows['diversity']['a'], rows['diversity']['b']) == (1.0, 0.5)
    assert rows['fpr']['a'] == 0.5 and rows['fpr']['b'] == 0


def test_costs_are_empty_where_size_or_length_is_unknown(pair):
    unknown = Source('x', np.array([1, 1]), [[], []])
    rows = {(row['model'], row['k']): row for row in quality.curves([*pair, unknown])}
    assert rows['weak', 2]['flops_measured'] == 2 * 2 * 10 and rows['weak', 2]['flops_equal_length'] == 2 * 2 * 15
    assert rows['x', 1]['flops_measured'] == ''


def test_by_level_with_one_problem_a_level_has_no_detectable_difference(pair):
    rows = quality.by_level([match(*pair)], np.array([1, 2]))
    assert [(row['level'], row['a'], row['b'], row['detectable']) for row in rows] == [
        (1, 1, 0, ''),
        (2, 1, 1, ''),
    ]


def test_tables_become_plain_rounded_values_and_csv():
    rows = tables.tidy([{'a': np.float64(1 / 3), 'b': np.int64(2), 'c': '', 'd': 'x,y'}])
    assert rows == [{'a': 0.333333, 'b': 2, 'c': '', 'd': 'x,y'}]
    assert tables.to_csv(rows) == b'a,b,c,d\n0.333333,2,,"x,y"\n'
    assert tables.to_csv([]) == b''
