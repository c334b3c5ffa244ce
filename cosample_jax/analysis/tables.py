"""Tables as files: lists of flat rows that become the same bytes wherever the same numbers were computed."""

import csv
import io
from collections.abc import Sequence

Row = dict[str, str | int | float | bool]


def tidy(rows: Sequence[dict]) -> list[Row]:
    """Rows of plain Python values, numbers rounded to six significant digits (far below any interval's
    width).
    """
    return [{name: _plain(value) for name, value in row.items()} for row in rows]


def _plain(value):
    if isinstance(value, (str, bool)):
        return value
    value = value.item() if hasattr(value, 'item') else value
    if isinstance(value, float):
        return float(f'{value:.6g}')
    return value


def to_csv(rows: Sequence[Row]) -> bytes:
    """The rows as CSV with a header line; columns in the order of the first row. No rows: no bytes."""
    if not rows:
        return b''
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()
