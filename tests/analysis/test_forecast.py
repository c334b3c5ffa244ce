import numpy as np
import pytest

from cosample_jax.analysis import forecast
from cosample_jax.errors import UserError


def pilot(model, p, n=6, seed=0, solutions=None):
    p = np.asarray(p)
    correct = np.random.default_rng(seed).binomial(n, p)
    solutions = solutions and [solutions(c) for c in correct.tolist()]
    return forecast.Pilot(model, [str(i) for i in range(len(p))], np.full(len(p), n), correct, solutions)


EASY, HARD = np.full(80, 0.8), np.full(80, 0.02)


def test_the_clearly_better_source_is_taken():
    found = forecast.forecast([pilot('a', EASY), pilot('b', HARD)], [6], {'a': 1.0, 'b': 1.0})
    (row,) = found['decisions']
    assert row['take'] == 'a' and row['difference_low'] > 0 and row['pilot_needed'] == ''
    assert [r['model'] for r in found['coverage']] == ['a', 'b'] and found['flips'][0]['flip'] == ''


def test_equal_sources_are_too_small_to_tell():
    p = np.random.default_rng(0).beta(0.5, 1, 60)
    found = forecast.forecast([pilot('a', p, 4), pilot('b', p, 4, seed=1)], [50], {'a': 1.0, 'b': 1.0})
    assert found['decisions'][0]['take'] == forecast.UNDECIDED


def test_the_pilot_that_would_decide_is_where_the_interval_is_small_enough():
    found = forecast.forecast(
        [pilot('a', np.full(60, 0.05)), pilot('b', np.full(60, 0.03))], [60], {'a': 1.0, 'b': 1.0}
    )
    (row,) = found['decisions']
    half = (row['difference_high'] - row['difference_low']) / 2
    assert row['take'] == forecast.UNDECIDED
    # 1.645 standard errors must fit 0.84 below the difference: n grows by the square of (1.645 + 0.842) / 1.645.
    assert row['pilot_needed'] == np.ceil(6 * (2.4865 / 1.6449 * half / row['difference']) ** 2)


def test_the_cheaper_one_gets_more_samples_and_overtakes():
    # 1 - 0.98^(10 k) is above 60% coverage from k = 5 on; the dearer model solves 60% at once and never more.
    dear = np.where(np.arange(200) < 120, 0.99, 0.0)
    pilots = [pilot('dear', dear, 20), pilot('cheap', np.full(200, 0.02), 20)]
    found = forecast.forecast(pilots, [40], {'dear': 10.0, 'cheap': 1.0})
    assert [row['k'] for row in found['coverage']] == [40, 400]
    (flip,) = found['flips']
    assert (flip['below'], flip['above']) == ('dear', 'cheap') and 2 <= flip['flip'] <= 12


def test_a_mix_pays_where_each_solves_what_the_other_does_not():
    half = np.arange(100) < 50
    pilots = [pilot('a', np.where(half, 0.9, 0.001), 10), pilot('b', np.where(half, 0.001, 0.9), 10, seed=1)]
    (row,) = forecast.forecast(pilots, [20], {'a': 1.0, 'b': 1.0})['decisions']
    assert row['take'] == 'mix' and row['mix_gain_low'] > 0.1


def test_diversity_is_forecast_where_solutions_are_known():
    same, new = (lambda c: [c] if c else []), (lambda c: [1] * c)
    pilots = [pilot('a', EASY, solutions=same), pilot('b', EASY, solutions=new), pilot('c', EASY)]
    found = forecast.forecast(pilots, [10, 60], {'a': 1.0, 'b': 2.0, 'c': 2.0})
    a, b = found['diversity'][1], found['diversity'][3]
    assert [(row['model'], row['k']) for row in found['diversity']] == [('a', 20), ('a', 120), ('b', 10), ('b', 60)]
    assert a['diversity_high'] < 5 < 30 < b['diversity_low']
    by_pair = {(row['cheaper'], row['dearer']): row for row in found['decisions'] if row['k'] == 60}
    assert by_pair['a', 'b']['diversity_difference_high'] < -25 and 'diversity_difference' not in by_pair['a', 'c']
    assert [(row['model'], 'diversity' in row) for row in found['curves'][:: len(found['curves']) // 3]] == [
        ('a', True), ('b', True), ('c', False),
    ]  # fmt: skip


def test_curves_end_at_the_budget_and_start_where_every_problem_has_a_sample():
    curve = forecast.forecast([pilot('a', HARD), pilot('b', HARD)], [40], {'a': 1.0, 'b': 4.0})['curves']
    a = [row for row in curve if row['model'] == 'a']
    assert (a[0]['budget'], a[0]['k'], a[-1]['budget'], a[-1]['k']) == pytest.approx((0.25, 1, 40, 160))
    assert all(row['coverage_low'] <= row['coverage'] <= row['coverage_high'] for row in curve)


@pytest.mark.parametrize(
    ('pilots', 'ks', 'message'),
    [
        ([], [9], 'no pilot'),
        ([pilot('a', [])], [9], 'has no problem'),
        ([pilot('a', EASY, 1)], [9], 'one sample a problem'),
        ([pilot('a', EASY, 6)], [5], 'has 6 samples of a problem already'),
    ],
)
def test_refusals(pilots, ks, message):
    with pytest.raises(UserError, match=message):
        forecast.forecast(pilots, ks, {'a': 1.0})
