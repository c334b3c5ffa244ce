"""Figures on their way to the page: each leaves its SVG, its PNG and the rows it was drawn from beside it."""

from collections.abc import Sequence

from cosample_jax import records
from cosample_jax.analysis import tables
from cosample_jax.report import drawing, page


class Gallery:
    """Called with a figure it writes `folder/<name>.{svg,png,csv}` and returns its HTML; `names` are those so far."""

    def __init__(self, folder):
        self.folder = folder
        self.names: list[str] = []

    def __call__(self, name: str, figure, alt: str, caption, rows: Sequence[dict], single: bool = False) -> page.Markup:
        svg, png = drawing.encode(figure)
        for kind, data in (('svg', svg), ('png', png), ('csv', tables.to_csv(tables.tidy(rows)))):
            records.commit(self.folder / f'{name}.{kind}', data)
        self.names.append(name)
        return page.figure(name, svg, alt, caption, single)
