"""The gap between problems as published and the same with new numbers."""

import numpy as np
import pytest

from cosample_jax.analysis.functional_gap import functional_gap

IDS = [f'test/{n}' for n in range(40)]
TWINS = {f'{snapshot}/{n}': f'test/{n}' for snapshot in ('oct', 'dec') for n in range(40)}


def cell(seed=0, data='weak', results=None):
    return {
        'model': 'student',
        'budget': 'low' * (data != 'base'),
        'data': data,
        'seed': seed,
        'results': results or {},
    }


def result(ids, right):
    return {'problem_ids': list(ids), 'pass@1': list(right)}


def test_pairs_are_static_problems_and_the_mean_of_their_variants():
    static = [1] * 30 + [0] * 10
    oct_, dec = [1] * 20 + [0] * 20, [1] * 10 + [0] * 30
    variants = result([f'oct/{n}' for n in range(40)] + [f'dec/{n}' for n in range(40)], oct_ + dec)
    # In another order, among others, and with MATH500 under 'test', which is not asked.
    order = np.random.default_rng(0).permutation(40)
    shuffled = result([IDS[i] for i in order] + ['test/99'], [static[i] for i in order] + [1])
    results = {'functional': variants, 'static': shuffled, 'test': result(IDS, [0] * 40)}
    (row,) = functional_gap([cell(results=results)], TWINS)
    assert (row['static'], row['functional'], row['problems'], row['seeds']) == (0.75, 0.375, 40, 1)
    assert row['difference'] == pytest.approx(0.375)
    assert row['difference_low'] < 0.375 < row['difference_high'] and row['difference_low'] > 0.2


def test_twins_among_the_test_problems_need_no_split_of_their_own():
    variants = result([f'dec/{n}' for n in range(5)], [0, 0, 0, 0, 1])
    (row,) = functional_gap([cell(results={'functional': variants, 'test': result(IDS, [1] * 40)})], TWINS)
    assert (row['static'], row['functional'], row['problems']) == (1.0, 0.2, 5)


def test_seeds_are_of_one_row_and_what_was_not_measured_has_none():
    def results(n):
        return {'functional': result([f'dec/{i}' for i in range(40)], [i < n for i in range(40)]),
                'static': result(IDS, [i < n + 4 for i in range(40)])}  # fmt: skip

    cells = [cell(0, results=results(10)), cell(1, results=results(20)), cell(0, 'strong'), cell(0, 'base', results(4))]
    rows = functional_gap(cells, TWINS)
    assert [(row['data'], row['seeds']) for row in rows] == [('base', 1), ('weak', 2)]
    assert rows[1]['static'] == pytest.approx(19 / 40) and rows[1]['difference'] == pytest.approx(0.1)
    assert functional_gap(cells, {}) == []
