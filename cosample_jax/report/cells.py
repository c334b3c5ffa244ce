"""Cells that several tables share: differences, what they read as, and which counts were compared."""

from collections.abc import Sequence

from cosample_jax.report import page, verdict


def matching(row):
    """Which counts a row of the quality tables compares."""
    if row['budget'] == 'pool':
        return 'equal number'
    return f'{row["budget"]}, equal {"cost" if row["matching"] == "compute" else "number"}'


def difference(row, counted=False):
    """A difference with its interval: in points, or as it is when `counted`; a dash where there is none.

    A star marks one that stays significant after Holm's adjustment.
    """
    if row['difference'] == '':
        return page.escape('–')
    if counted:
        value, low, high = (_signed(row[name]) for name in ('difference', 'difference_low', 'difference_high'))
    else:
        value, low, high = (verdict.points(row[name]) for name in ('difference', 'difference_low', 'difference_high'))
    return page.with_interval(value + '*' * bool(verdict.higher(row)), low, high)


def holm_note(rows: Sequence[dict]) -> str:
    """What the star means in tables of these rows."""
    count = sum(row['p'] != '' for row in rows)
    return f'* significant at 5% after Holm’s adjustment over {count} comparisons.' if count > 1 else '* p below 5%.'


def _signed(value):
    return f'{value:+.2f}'.replace('-', '−')


def detectable(row, counted=False):
    """The minimum detectable difference, in the unit of `difference`."""
    if row['detectable'] == '':
        return '–'
    return f'{row["detectable"]:.2f}' if counted else verdict.points(row['detectable'], False)


def reading(row, a, b):
    """Which side is higher, if that is measurable among all comparisons of its table."""
    if row['difference'] == '':
        return row.get('reason') or '–'
    if verdict.higher(row):
        return f'{a if row["difference"] > 0 else b} higher'
    alone = ': only by itself, not among all' if verdict.excludes_zero(row) else ''
    return f'no measurable difference{alone}'
