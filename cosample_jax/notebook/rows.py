"""Tables of a notebook: lists of dicts that show themselves. No JAX here."""

import html
from collections.abc import Callable, Iterable
from typing import Any

from cosample_jax.errors import UserError, did_you_mean

SHOWN = 20  # rows of a table
_LONG = 28  # characters; text from here on may wrap

# Lines and greys that are legible on light and on dark pages.
_LINE = 'border-bottom:1px solid rgba(128,128,128,.28)'
_CELL = f'padding:.3rem .7rem;vertical-align:top;{_LINE}'
_SOFT = 'opacity:.68;font-size:.92em'


class Rows(list):
    """A list of dicts with the same keys: a table.

    It filters (`where`), slices and sorts as a table, and turns into pyarrow's and pandas'. In a notebook it shows its
    first 20 rows.

    >>> rows = Rows([{'model': 'weak', 'k': 3}, {'model': 'strong', 'k': 1}], title='counts')
    >>> rows.where(model='weak')
    [{'model': 'weak', 'k': 3}]
    >>> rows.where(lambda row: row['k'] < 3).column('model')
    ['strong']
    """

    def __init__(self, rows: Iterable[dict] = (), title: str = '', note: str = ''):
        super().__init__(rows)
        self.title, self.note = title, note

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        return Rows(found, self.title, self.note) if isinstance(place, slice) else found

    def where(self, *tests: Callable[[dict], Any], **values: Any) -> 'Rows':
        """The rows that have these values and pass these tests; UserError for a column that is not there."""
        for name in values:
            self._require(name)
        kept = (row for row in self if all(row[name] == value for name, value in values.items()))
        return Rows((row for row in kept if all(test(row) for test in tests)), self.title, self.note)

    def sort_by(self, name: str, reverse: bool = False) -> 'Rows':
        """In the order of a column; UserError where it is not there."""
        self._require(name)
        return Rows(sorted(self, key=lambda row: row[name], reverse=reverse), self.title, self.note)

    def select(self, *names: str) -> 'Rows':
        """Of these columns alone; UserError where one is not there."""
        for name in names:
            self._require(name)
        return Rows(({name: row[name] for name in names} for row in self), self.title, self.note)

    def column(self, name: str) -> list:
        """The values of a column; UserError where it is not there."""
        self._require(name)
        return [row[name] for row in self]

    def to_arrow(self) -> Any:
        """As a pyarrow.Table; what is not known ('') is null in columns of numbers."""
        import pyarrow as pa

        return pa.Table.from_pylist([{n: None if _blank(v, self, n) else v for n, v in row.items()} for row in self])

    def to_pandas(self) -> Any:
        """As a pandas.DataFrame; needs pandas, which this package does not."""
        return self.to_arrow().to_pandas()

    def _require(self, name: str) -> None:
        if self and name not in self[0]:
            raise UserError(f'there is no column {name!r}{did_you_mean(name, self[0])}')

    def _repr_html_(self) -> str:
        return as_html(self, self.title, self.note)


def _blank(value: Any, rows: Rows, name: str) -> bool:
    return value == '' and any(row[name] != '' and not isinstance(row[name], str) for row in rows)


def as_html(rows: list[dict], title: str = '', note: str = '') -> str:
    """A table, its title above and its note below, of the first `SHOWN` rows; columns without a value are left out."""
    head = f'<div style="font-weight:600;margin:.2rem 0 .35rem">{html.escape(title)}</div>' if title else ''
    foot = f'<div style="{_SOFT};margin:.35rem 0 .8rem;max-width:60rem">{html.escape(note)}</div>' if note else ''
    if not rows:
        return f'{head}<div style="{_SOFT}">no rows</div>{foot}'
    names = [name for name in rows[0] if any(row.get(name) not in ('', None) for row in rows)]
    left = {name for name in names if any(isinstance(row.get(name), str) and row[name] for row in rows)}
    align = {name: 'left' if name in left else 'right' for name in names}
    header = ''.join(
        f'<th style="{_CELL};text-align:{align[name]};font-weight:600">{html.escape(name.replace("_", " "))}</th>'
        for name in names
    )
    body = ''.join(
        '<tr>' + ''.join(_cell(row.get(name), align[name]) for name in names) + '</tr>' for row in rows[:SHOWN]
    )
    left_out = len(rows) - SHOWN
    more = f'<div style="{_SOFT}">and {left_out:,} more rows</div>' if left_out > 0 else ''
    style = 'border-collapse:collapse;font-variant-numeric:tabular-nums;margin:0'
    table = f'<table style="{style}"><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>'
    return f'{head}<div style="overflow-x:auto">{table}</div>{more}{foot}'


def _cell(value: Any, align: str) -> str:
    text = shown(value)
    long = isinstance(value, str) and len(value) > _LONG
    wrap = 'white-space:pre-wrap;min-width:16rem;max-width:36rem' if long else 'white-space:nowrap'
    return f'<td style="{_CELL};text-align:{align};{wrap}">{html.escape(text)}</td>'


def shown(value: Any) -> str:
    """A value as a table has it: four digits of a real number, 'yes' and 'no', nothing for what is not known."""
    if value is None or value == '':
        return ''
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    if isinstance(value, int):
        return f'{value:,}'
    if isinstance(value, float):
        return f'{value:,.0f}' if 1000 <= abs(value) < 1e6 else f'{value:.4g}'
    return str(value).strip()
