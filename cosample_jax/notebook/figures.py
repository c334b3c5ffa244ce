"""The figures of a report, drawn anew for a notebook: whatever the page has, with the rows behind it. No JAX here."""

import html
import re
from collections.abc import Iterable
from typing import Any, NoReturn

from cosample_jax.errors import UserError, did_you_mean
from cosample_jax.report.page import Markup


class Figures(dict):
    """name -> matplotlib figure, in the order of the page. Called as a section's `draw`, it keeps what it is given.

    Attributes:
        captions: name -> what the page says below it.
        rows: name -> the rows that it was drawn from.
    """

    def __init__(self) -> None:
        super().__init__()
        self.captions: dict[str, str] = {}
        self.rows: dict[str, list[dict]] = {}

    def __call__(
        self, name: str, figure: Any, alt: str, caption: Any, rows: Iterable[dict], single: bool = False
    ) -> Markup:
        self[name] = figure
        self.captions[name] = html.unescape(re.sub(r'<[^>]*>', '', str(caption)))
        self.rows[name] = list(rows)
        return Markup('')

    def __missing__(self, name: str) -> NoReturn:
        raise UserError(f'there is no figure {name!r}{did_you_mean(name, self)}')

    def _repr_html_(self) -> str:
        cell = 'padding:.25rem .8rem .25rem 0;text-align:left;vertical-align:top'
        rows = ''.join(
            f'<tr><td style="{cell}"><code>{html.escape(name)}</code></td>'
            f'<td style="{cell}">{html.escape(self.captions[name])}</td></tr>'
            for name in self
        )
        return f'<table style="border-collapse:collapse">{rows}</table>'
