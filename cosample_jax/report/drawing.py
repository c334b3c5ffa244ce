"""What all figures share: palette, styles, and how a figure becomes files and a part of the page.

Files are drawn on white. On the page the same SVG is inline and its colours are variables of the style sheet, so it
follows light and dark. Kind is told by marker and line style as well as by colour (safe for colour-blind readers and
in greyscale), and letters stay legible at a phone's width.
"""

import contextlib
import io
import itertools
import re
from collections.abc import Sequence

DPI = 160  # of PNGs
INK, MUTED, GRID, PAPER = '#1f2733', '#667085', '#e4e7ec', '#ffffff'
BLUE, ORANGE, GREEN, VIOLET, GREY, SILVER = '#1b66a8', '#e07b00', '#2a9d6f', '#8e4fb0', '#475467', '#7b8698'
LIGHT_ORANGE, PALE, EDGE = '#f5b866', '#f2f4f7', '#d0d5dd'
# Every colour of a figure -> what it is on a dark page.
DARK = {
    INK: '#e8ebf1',
    MUTED: '#a2adbd',
    GRID: '#2c3542',
    PAPER: '#181e28',
    BLUE: '#6cb0f0',
    ORANGE: '#f7a63f',
    GREEN: '#4cc994',
    VIOLET: '#c58ae6',
    GREY: '#b4bfce',
    SILVER: '#8d99ab',
    LIGHT_ORANGE: '#a8641a',
    PALE: '#262f3d',
    EDGE: '#465063',
}
# colour, marker, line style, marker filled; blue and orange differ in lightness too.
STYLES = {
    'weak': (BLUE, 'o', '-', True),
    'strong': (ORANGE, 's', '--', False),
    'gold': (GREY, 'D', '-.', True),
    'base': (SILVER, 'v', ':', False),
}
_OTHERS = (
    (BLUE, 'o', '-', True),
    (ORANGE, 's', '--', False),
    (GREEN, '^', '-.', True),
    (VIOLET, 'D', ':', False),
    (GREY, 'v', (0, (5, 1)), True),
    (SILVER, 'P', (0, (1, 1)), False),
)
_RC = {
    'font.size': 11,
    'font.family': 'DejaVu Sans',
    'axes.edgecolor': MUTED,
    'axes.labelcolor': INK,
    'axes.facecolor': PAPER,
    'axes.prop_cycle': f"cycler('color', ['{INK}'])",  # where a drawing function asks for no colour
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.axisbelow': True,
    'axes.linewidth': 0.8,
    'figure.facecolor': PAPER,
    'xtick.color': MUTED,
    'ytick.color': MUTED,
    'xtick.labelcolor': INK,
    'ytick.labelcolor': INK,
    'text.color': INK,
    'legend.frameon': False,
    'legend.fontsize': 10,
    'svg.fonttype': 'path',  # no font needed where the page is read
    'svg.hashsalt': 'cosample',  # ids that do not change from run to run
    'hatch.linewidth': 0.6,
}
METRIC_LABELS = {
    'coverage': 'problems solved, %',
    'diversity': 'unique correct solutions a problem',
    'diversity_skeleton': 'unique correct computations a problem',
}


def encode(figure) -> tuple[bytes, bytes]:
    """The figure as (SVG, PNG) bytes, free of dates and random ids."""
    svg, png = io.BytesIO(), io.BytesIO()
    with style():
        figure.savefig(svg, format='svg', metadata={'Date': None})
        figure.savefig(png, format='png', dpi=DPI, metadata={'Software': None})
    return svg.getvalue(), png.getvalue()


def inline(name: str, svg: bytes) -> str:
    """The SVG as an element of the page: colours as variables (`variables`), ids that no other figure has."""
    text = svg.decode()
    text = text[text.index('<svg') :].strip()
    text = re.sub(r'<metadata>.*?</metadata>', '', text, flags=re.DOTALL)
    text = re.sub(r'#[0-9a-f]{6}\b', lambda found: f'var(--c{found[0][1:]})', text)
    return re.sub(r'\b(id="|href="#|url\(#)', rf'\1{name}-', text)


def variables(dark: bool) -> str:
    """The colours of the figures as CSS declarations."""
    return ' '.join(f'--c{light[1:]}: {DARK[light] if dark else light};' for light in DARK)


@contextlib.contextmanager
def style():
    import matplotlib

    with matplotlib.rc_context(_RC):
        yield


def canvas(width=4.8, height=3.6, rows=1, **options):
    """(figure, axis or axes) of so many inches; close to how large letters of 11 points are on the page.

    Pyplot has no part in it: what a notebook draws by itself stays as it is.
    """
    from cosample_jax.report.picture import Picture

    with style():
        figure = Picture(figsize=(width, height), layout='constrained')
        return figure, figure.subplots(rows, **options)


def styles_of(models: Sequence[str]) -> dict:
    """A style for each model: the roles keep theirs, others take turns with colours that no role here has."""
    taken = {STYLES[model][0] for model in models if model in STYLES}
    others = itertools.cycle([look for look in _OTHERS if look[0] not in taken])
    return {model: STYLES.get(model) or next(others) for model in models}


def marks(look) -> dict:
    """Marker options of one of the STYLES."""
    colour, marker, _, filled = look
    return {
        'color': colour,
        'marker': marker,
        'markerfacecolor': colour if filled else PAPER,
        'markeredgecolor': colour,
    }


ENDS = ('', '_low', '_high')


def curves(axis, rows: Sequence[dict], against: str, metric: str, budgets: dict[str, dict[str, float]]) -> None:
    """`metric` of each model with its 95% band; rows hold one a k, from 1 on. What the budgets draw is marked.

    Args:
        budgets: budget -> model -> samples a problem; may be empty.
    """
    models = {model: [r for r in rows if r['model'] == model] for model in dict.fromkeys(r['model'] for r in rows)}
    looks = styles_of(list(models))
    for model, here in models.items():
        x, look = [row[against] for row in here], looks[model]
        y, low, high = ([row[f'{metric}{end}'] * (100 if metric == 'coverage' else 1) for row in here] for end in ENDS)
        axis.fill_between(x, low, high, color=look[0], alpha=0.14, linewidth=0)
        axis.plot(x, y, color=look[0], linestyle=look[2], linewidth=2, zorder=3)
        axis.plot([], [], label=model, linestyle=look[2], linewidth=2, markersize=7, **marks(look))
    for name, counts in budgets.items():
        drawn = {model: round(counts.get(model, 0)) - 1 for model in models}
        drawn = {model: models[model][place] for model, place in drawn.items() if 0 <= place < len(models[model])}
        for model, row in drawn.items():
            at = (row[against], row[metric] * (100 if metric == 'coverage' else 1))
            axis.plot(*at, markersize=8, zorder=4, markeredgewidth=1.8, **marks(looks[model]))
            best = row[metric] == max(each[metric] for each in drawn.values())  # labels of both would meet between
            axis.annotate(
                name,
                at,
                xytext=(0, 11 if best else -11),
                textcoords='offset points',
                ha='center',
                va='center',
                fontsize=9,
                color=looks[model][0],
                zorder=5,
            )
    axis.set_xscale('log')
    axis.grid(color=GRID, linewidth=0.8)
