"""A matplotlib figure that shows itself in a notebook, whatever backend is set there."""

import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cosample_jax.report import drawing

_PIXELS = 96  # of a browser, in an inch


class Picture(Figure):
    """A figure of a report."""

    def __init__(self, **options):
        super().__init__(**options)
        FigureCanvasAgg(self)

    def _repr_png_(self) -> tuple[bytes, dict]:
        """PNG, and the size to show it at: sharp on displays that have more pixels than a browser tells."""
        png = io.BytesIO()
        with drawing.style():
            self.savefig(png, format='png', dpi=drawing.DPI)
        return png.getvalue(), {'width': round(_PIXELS * self.get_figwidth())}
