import pytest

from cosample_jax.report import forecast_figure


def curve(model, slope, **more):
    rows = [{'model': model, 'budget': b, 'k': 2 * b, 'pilot': 4.0} for b in (1, 10, 100)]
    for place, row in enumerate(rows):
        row |= {f'coverage{end}': slope * (place + 1) + d for end, d in (('', 0), ('_low', -0.1), ('_high', 0.1))}
    return [row | more for row in rows]


def document(**more):
    flip = {'cheaper': 'weak', 'dearer': 'large', 'flip': 10.0}
    return {'curves': curve('weak', 0.2, **more) + curve('large', 0.3, **more), 'flips': [flip]}


def test_forecast_marks_the_end_of_the_pilot_and_the_flip():
    (axis,) = forecast_figure.forecast(document(), 'large').axes
    ticks = [line for line in axis.lines if line.get_marker() == '|' and len(line.get_xdata())]
    # Four samples at two a unit of the budget: 2, and on the curve, which is straight against log k.
    assert [(t.get_xdata()[0], t.get_ydata()[0]) for t in ticks] == [
        pytest.approx((2, 100 * slope * 1.30103)) for slope in (0.2, 0.3)
    ]
    assert ticks[0].get_color() != ticks[1].get_color()
    (ring,) = [line for line in axis.lines if line.get_marker() == 'o']
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == pytest.approx((10, 40))
    assert axis.get_xlabel().endswith('samples of large')


def test_forecast_shows_diversity_beside_coverage_where_it_is_known():
    known = {'diversity': 2.0, 'diversity_low': 1.0, 'diversity_high': 3.0}
    assert len(forecast_figure.forecast(document(**known), '').axes) == 2
