"""Cells that several tables share: differences, what they read as, and which counts were compared."""

from cosample_jax.report import page, verdict


def matching(row):
    """Which counts a row of the quality tables compares."""
    if row['budget'] == 'pool':
        return 'equal number'
    return f'{row["budget"]}, equal {"cost" if row["matching"] == "compute" else "number"}'


def difference(row, counted=False):
    """A difference with its interval: in points, or as it is when `counted`; a dash where there is none."""
    if row['difference'] == '':
        return page.escape('–')
    if counted:
        value, low, high = (_signed(row[name]) for name in ('difference', 'difference_low', 'difference_high'))
    else:
        value, low, high = (verdict.points(row[name]) for name in ('difference', 'difference_low', 'difference_high'))
    return page.with_interval(value, low, high)


def _signed(value):
    return f'{value:+.2f}'.replace('-', '−')


def detectable(row, counted=False):
    """The minimum detectable difference, in the unit of `difference`."""
    if row['detectable'] == '':
        return '–'
    return f'{row["detectable"]:.2f}' if counted else verdict.points(row['detectable'], False)


def reading(row, a, b):
    """Which side is higher, if the interval says so."""
    if row['difference'] == '':
        return row.get('reason') or '–'
    if row['difference_low'] > 0:
        return f'{a} higher'
    return f'{b} higher' if row['difference_high'] < 0 else 'no measurable difference'
