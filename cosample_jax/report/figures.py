"""The figures, each a function from table rows to a matplotlib figure.

Drawn on white whatever the page's colours (the page lays a white card behind). Kind is told by marker and
line style as well as by colour (safe for colour-blind readers and in greyscale), and letters stay legible at
a phone's width.
"""

import contextlib
import io
import itertools
from collections.abc import Sequence

_INK = '#1f2733'
_MUTED = '#667085'
_GRID = '#e4e7ec'
# colour, marker, line style, marker filled; blue and orange differ in lightness too.
_STYLES = {
    'weak': ('#1b66a8', 'o', '-', True),
    'strong': ('#e07b00', 's', '--', False),
    'gold': ('#475467', 'D', '-.', True),
    'base': ('#7b8698', 'v', ':', False),
}
_OTHERS = (
    ('#1b66a8', 'o', '-', True),
    ('#e07b00', 's', '--', False),
    ('#2a9d6f', '^', '-.', True),
    ('#8e4fb0', 'D', ':', False),
    ('#475467', 'v', (0, (5, 1)), True),
)
_RC = {
    'font.size': 11,
    'font.family': 'DejaVu Sans',
    'axes.edgecolor': _MUTED,
    'axes.labelcolor': _INK,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.axisbelow': True,
    'axes.linewidth': 0.8,
    'xtick.color': _MUTED,
    'ytick.color': _MUTED,
    'xtick.labelcolor': _INK,
    'ytick.labelcolor': _INK,
    'text.color': _INK,
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
    """The figure as (SVG, PNG) bytes, free of dates and random ids, and closed."""
    import matplotlib.pyplot as plt

    svg, png = io.BytesIO(), io.BytesIO()
    with _style():
        figure.savefig(svg, format='svg', metadata={'Date': None})
        figure.savefig(png, format='png', dpi=160, metadata={'Software': None})
    plt.close(figure)
    return svg.getvalue(), png.getvalue()


@contextlib.contextmanager
def _style():
    import matplotlib

    with matplotlib.rc_context(_RC):
        yield


def _figure(width=5.4, height=3.7, columns=1):
    import matplotlib

    matplotlib.use('agg')
    import matplotlib.pyplot as plt

    with _style():
        return plt.subplots(1, columns, figsize=(width, height), layout='constrained')


def _style_of(models: Sequence[str]) -> dict:
    """A style for each model: the roles keep theirs, others take turns with colours that no role here has."""
    taken = {_STYLES[model][0] for model in models if model in _STYLES}
    others = itertools.cycle([style for style in _OTHERS if style[0] not in taken])
    return {model: _STYLES.get(model) or next(others) for model in models}


def _marks(style):
    colour, marker, _, filled = style
    return {
        'color': colour,
        'marker': marker,
        'markerfacecolor': colour if filled else 'white',
        'markeredgecolor': colour,
    }


def _percent(value, metric='coverage'):
    return 100 * value if metric == 'coverage' else value


def quality_curve(rows: Sequence[dict], metric: str, against: str, budgets: dict[str, dict[str, float]]):
    """`metric` of each model against k or against cost, with 95% bands; the budgets' points are marked.

    Args:
        rows: the `curves` table.
        metric: 'coverage', 'diversity' or 'diversity_skeleton'.
        against: 'k' or 'flops_measured'.
        budgets: budget -> model -> samples a problem; may be empty.
    """
    with _style():
        figure, axis = _figure()
        models = list(dict.fromkeys(row['model'] for row in rows))
        for place, (model, style) in enumerate(_style_of(models).items()):
            here = [row for row in rows if row['model'] == model and row[against] != '']
            x = [row[against] for row in here]
            y, low, high = ([_percent(r[f'{metric}{end}'], metric) for r in here] for end in ('', '_low', '_high'))
            axis.fill_between(x, low, high, color=style[0], alpha=0.14, linewidth=0)
            axis.plot(x, y, color=style[0], linestyle=style[2], linewidth=2, zorder=3)
            axis.plot([], [], label=model, linestyle=style[2], linewidth=2, markersize=7, **_marks(style))
            for name, counts in budgets.items():
                at = round(counts.get(model, 0))
                if 1 <= at <= len(here):
                    axis.plot(x[at - 1], y[at - 1], markersize=8, zorder=4, markeredgewidth=1.8, **_marks(style))
                    # One model's labels above, the other's below: at equal cost the points meet.
                    axis.annotate(
                        name,
                        (x[at - 1], y[at - 1]),
                        xytext=(0, -11 if place else 11),
                        textcoords='offset points',
                        ha='center',
                        va='center',
                        fontsize=9,
                        color=style[0],
                        zorder=5,
                    )
        axis.set_xscale('log')
        axis.margins(y=0.14)
        if against == 'k':
            top = max(row['k'] for row in rows)
            ticks = [k for k in (1, 2, 3, 5, 10, 20, 30, 50, 100, 300, 1000, 3000, 10000) if k <= top]
            ticks += [top] if top > 1.3 * ticks[-1] else []
            axis.set_xticks(ticks, [f'{k:,}' for k in ticks])
            axis.set_xticks([], minor=True)
            axis.set_xlabel('samples a problem (k)')
        else:
            axis.set_xlabel('cost a problem, FLOPs (2P × tokens)')
        axis.set_ylim(bottom=0)
        axis.set_ylabel(METRIC_LABELS[metric])
        axis.grid(color=_GRID, linewidth=0.8)
        axis.legend(loc='lower right' if metric == 'coverage' else 'upper left')
    return figure


def levels(rows: Sequence[dict]):
    """Coverage by difficulty level of one comparison (rows of `by_level` of one budget)."""
    with _style():
        figure, axis = _figure()
        pair = [('a', rows[0]['model_a']), ('b', rows[0]['model_b'])]
        for i, ((side, model), style) in enumerate(zip(pair, _style_of([m for _, m in pair]).values(), strict=True)):
            x = [row['level'] + (-0.1, 0.1)[i] for row in rows]
            y, low, high = ([100 * r[f'{side}{end}'] for r in rows] for end in ('', '_low', '_high'))
            errors = _errors(y, low, high)
            axis.errorbar(x, y, errors, fmt='none', ecolor=style[0], elinewidth=1.6, capsize=3)
            k = rows[0][f'k_{side}']
            axis.plot(
                x,
                y,
                linestyle=style[2],
                linewidth=1.4,
                markersize=8,
                markeredgewidth=1.8,
                **_marks(style),
                label=f'{model}, {k:g} sample{"s" if k != 1 else ""}',
            )
        axis.set_xticks([row['level'] for row in rows], [f'{row["level"]}\nn={row["problems"]}' for row in rows])
        axis.set_xlabel('difficulty level')
        axis.set_ylabel('problems solved, %')
        axis.set_ylim(0, 104)
        axis.grid(axis='y', color=_GRID, linewidth=0.8)
        figure.legend(loc='outside upper center', ncols=2)
    return figure


def _errors(y, low, high):
    return [
        [max(0, v - b) for v, b in zip(y, low, strict=True)],
        [max(0, b - v) for v, b in zip(y, high, strict=True)],
    ]


def overlap(rows: Sequence[dict]):
    """Which problems each side solved, one stacked bar a comparison."""
    with _style():
        figure, axis = _figure(height=1.3 + 0.62 * len(rows))
        for place, row in enumerate(rows):
            left = 0
            for part, colour, hatch, ink in (
                ('both', '#475467', '', 'white'),
                ('only_a', '#1b66a8', '', 'white'),
                ('only_b', '#f5b866', '///', _INK),
                ('neither', '#f2f4f7', '', _INK),
            ):
                share = 100 * row[part] / row['problems']
                axis.barh(place, share, left=left, color=colour, hatch=hatch, edgecolor='white', height=0.62)
                if share >= 5:
                    axis.text(
                        left + share / 2,
                        place,
                        f'{share:.0f}',
                        ha='center',
                        va='center',
                        color=ink,
                        fontsize=10,
                        bbox={'facecolor': colour, 'edgecolor': 'none', 'pad': 1.2} if hatch else None,
                    )
                left += share
        axis.set_yticks(range(len(rows)), [overlap_label(row) for row in rows])
        axis.invert_yaxis()
        axis.set_xlim(0, 100)
        axis.set_xlabel('share of the problems, %')
        axis.spines['left'].set_visible(False)
        axis.tick_params(axis='y', length=0)
        import matplotlib.patches as patches

        a, b = rows[0]['model_a'], rows[0]['model_b']
        same = all((row['model_a'], row['model_b']) == (a, b) for row in rows)
        labels = (
            'both',
            f'only {a if same else "the first"}',
            f'only {b if same else "the second"}',
            'neither',
        )
        looks = (('#475467', ''), ('#1b66a8', ''), ('#f5b866', '///'), ('#f2f4f7', ''))
        handles = [
            patches.Patch(facecolor=c, hatch=h, edgecolor='white' if h else '#d0d5dd', label=label)
            for (c, h), label in zip(looks, labels, strict=True)
        ]
        figure.legend(handles=handles, loc='outside upper center', ncols=4, handlelength=1.2, columnspacing=1.2)
    return figure


def overlap_label(row: dict) -> str:
    if row['budget'] == 'pool':
        return f'{row["model_a"]} / {row["model_b"]}'
    return f'{row["budget"]} budget,\nequal {"cost" if row["matching"] == "compute" else "number"}'


def false_positives(rows: Sequence[dict]):
    """False-positive rate of each source at each budget with Wilson intervals (rows of `kept` that were
    judged).
    """
    with _style():
        figure, axis = _figure(height=1.2 + 0.5 * len(rows))
        styles = _style_of(list(dict.fromkeys(row['model'] for row in rows)))
        for place, row in enumerate(rows):
            style = styles[row['model']]
            value, low, high = (100 * row[name] for name in ('fpr', 'fpr_low', 'fpr_high'))
            axis.plot([low, high], [place, place], color=style[0], linewidth=2.2)
            axis.plot(value, place, markersize=9, markeredgewidth=1.8, **_marks(style))
        axis.set_yticks(range(len(rows)), [f'{row["model"]}, {row["budget"]}' for row in rows])
        axis.invert_yaxis()
        axis.set_ylim(len(rows) - 0.4, -0.6)
        axis.set_xlim(left=0)
        axis.set_xlabel('kept solutions with wrong reasoning, %')
        axis.grid(axis='x', color=_GRID, linewidth=0.8)
    return figure


def forest(rows: Sequence[dict]):
    """Weak data minus strong data, pass@1 in points, with intervals (rows of `differences`, pass@1, both
    trained).
    """
    with _style():
        # Rows of one model and budget stand together, test above functional.
        places = {key: i for i, key in enumerate(dict.fromkeys((r['model'], r['budget']) for r in rows))}
        splits = list(dict.fromkeys(row['split'] for row in rows))
        figure, axis = _figure(width=6.0, height=1.4 + 0.46 * len(places))
        axis.axvline(0, color=_INK, linewidth=1)
        for row in rows:
            first = row['split'] == splits[0]
            y = places[row['model'], row['budget']] + (0 if len(splits) == 1 else -0.14 if first else 0.16)
            low, high = 100 * row['difference_low'], 100 * row['difference_high']
            clear = low > 0 or high < 0
            colour = (_STYLES['weak'] if row['difference'] > 0 else _STYLES['strong'])[0] if clear else _MUTED
            axis.plot([low, high], [y, y], color=colour, linewidth=2.4 if first else 1.5, solid_capstyle='butt')
            axis.plot(
                100 * row['difference'],
                y,
                marker='o' if first else 'd',
                markersize=8 if first else 6.5,
                color=colour,
                markerfacecolor=colour if clear else 'white',
                markeredgewidth=1.6,
            )
        names = [f'{model}, {budget}' for model, budget in places]
        axis.set_yticks(range(len(places)), names)
        axis.set_ylim(len(places) - 0.5, -0.5)
        reach = max([abs(100 * row[end]) for row in rows for end in ('difference_low', 'difference_high')], default=5)
        axis.set_xlim(-1.12 * reach, 1.12 * reach)
        axis.set_xlabel('pass@1, points:  ← strong data better   |   weak data better →')
        axis.grid(axis='x', color=_GRID, linewidth=0.8)
        if len(splits) > 1:
            for i, split in enumerate(splits):
                axis.plot(
                    [],
                    [],
                    marker='od'[i],
                    linestyle='none',
                    color=_MUTED,
                    label=split,
                    markersize=(8, 6.5)[i],
                )
            figure.legend(loc='outside upper right', ncols=2, title=None)
    return figure


def scores(rows: Sequence[dict], split: str, top: float):
    """pass@1 on one split of every cell of one trained model, with intervals (rows of `scores`); `top` ends
    the axis.
    """
    with _style():
        figure, axis = _figure(width=4.0, height=1.3 + 0.42 * len(rows))
        for place, row in enumerate(rows):
            style = _STYLES[row['data']]
            if row[split] == '':
                axis.text(
                    0.03,
                    place,
                    'not trained',
                    va='center',
                    fontsize=10,
                    style='italic',
                    color=_MUTED,
                    transform=axis.get_yaxis_transform(),
                )
                continue
            value, low, high = (100 * row[f'{split}{end}'] for end in ('', '_low', '_high'))
            axis.plot([low, high], [place, place], color=style[0], linewidth=2.2)
            axis.plot(value, place, markersize=8.5, markeredgewidth=1.8, **_marks(style))
        axis.set_title(f'{rows[0]["model"]} is trained', fontsize=11, loc='left', fontweight='bold')
        axis.set_yticks(range(len(rows)), [cell_label(row) for row in rows])
        axis.set_ylim(len(rows) - 0.4, -0.6)
        axis.set_xlim(0, 100 * top)
        axis.grid(axis='x', color=_GRID, linewidth=0.8)
        axis.set_xlabel(f'pass@1, {split}, %')
    return figure


def cell_label(row: dict) -> str:
    if row['data'] == 'base':
        return 'base'
    return ', '.join(filter(None, (row['data'], row['budget'])))


def votes(rows: Sequence[dict], split: str, top: float):
    """maj@k on one split against k for one trained model at one budget (rows of `scores`); `top` ends the
    axis.
    """
    with _style():
        ks = vote_counts(rows[0], split)
        figure, axis = _figure(width=4.0, height=3.4)
        for row in rows:
            if row[f'{split}_maj@{ks[0]}'] != '':
                style = _STYLES[row['data']]
                y = [100 * row[f'{split}_maj@{k}'] for k in ks]
                axis.plot(ks, y, linestyle=style[2], linewidth=1.8, markersize=7, label=row['data'], **_marks(style))
        axis.set_xscale('log', base=2)
        axis.set_xticks(ks, [str(k) for k in ks])
        axis.set_title(f'{rows[0]["model"]} is trained', fontsize=11, loc='left', fontweight='bold')
        axis.set_xlabel('samples voting (k)')
        axis.set_ylabel(f'maj@k, {split}, %')
        axis.set_ylim(0, 100 * top)
        axis.grid(color=_GRID, linewidth=0.8)
        axis.legend(loc='lower right', ncols=2)
    return figure


def vote_counts(row: dict, split: str) -> list[int]:
    """The k of the columns `<split>_maj@<k>`."""
    ends = (name.removeprefix(f'{split}_maj@') for name in row if name.startswith(f'{split}_maj@'))
    return [int(end) for end in ends if end.isdigit()]


def forecast(document: dict[str, Sequence[dict]], dearest: str):
    """Coverage, and diversity beside it where it is known, against the budget, with 90% bands.

    A vertical tick ends what the pilot has itself, a ring is where the better one of two models flips.

    Args:
        document: the tables of a forecast, of which `curves` and `flips` are drawn.
        dearest: the model in whose samples a budget is counted; '' where all cost the same.
    """
    rows = document['curves']
    metrics = ['coverage', 'diversity'] if any('diversity' in row for row in rows) else ['coverage']
    with _style():
        figure, axes = _figure(5.6 * len(metrics), 4.2, len(metrics))
        axes = [axes] if len(metrics) == 1 else list(axes)
        for axis, metric in zip(axes, metrics, strict=True):
            for model, style in _style_of(list(dict.fromkeys(row['model'] for row in rows))).items():
                here = [row for row in rows if row['model'] == model and metric in row]
                if not here:
                    continue
                x = [row['budget'] for row in here]
                y, low, high = ([_percent(r[f'{metric}{end}'], metric) for r in here] for end in ('', '_low', '_high'))
                axis.fill_between(x, low, high, color=style[0], alpha=0.12, linewidth=0)
                axis.plot(x, y, color=style[0], linestyle=style[2], linewidth=2, zorder=3, label=model)
                end = here[0]['pilot'] * here[0]['budget'] / here[0]['k']
                tick = {'marker': '|', 'markersize': 15, 'markeredgewidth': 2.4, 'linestyle': 'none'}
                axis.plot(end, _between(end, x, y), color=style[0], zorder=4, **tick)
            axis.set_xscale('log')
            axis.set_xlabel(f'budget a problem, in samples of {dearest}' if dearest else 'samples a problem (k)')
            axis.xaxis.set_major_formatter(lambda value, _: f'{value:,g}')
            axis.set_ylabel(METRIC_LABELS[metric])
            axis.grid(color=_GRID, linewidth=0.8)
        _flips(axes[0], document)
        axes[0].set_ylim(0, 102)
        if len(axes) > 1:
            axes[1].set_yscale('log')
            axes[1].yaxis.set_major_formatter(lambda value, _: f'{value:,g}')
        axes[0].plot([], [], color=_INK, label='end of the pilot', **tick)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc='outside upper center', ncols=min(7, len(labels)), handlelength=2.6)
    return figure


def _flips(axis, document) -> None:
    """Rings with their budgets, in turn below and above the curves."""
    found = sorted((row for row in document['flips'] if row['flip']), key=lambda row: row['flip'])
    for place, row in enumerate(found):
        here = [r for r in document['curves'] if r['model'] == row['cheaper']]
        at = row['flip'], _between(row['flip'], [r['budget'] for r in here], [100 * r['coverage'] for r in here])
        ring = {'marker': 'o', 'markersize': 9, 'markerfacecolor': 'none', 'markeredgewidth': 1.4, 'linestyle': 'none'}
        axis.plot(*at, color=_INK, zorder=5, label=None if place else 'the better one flips', **ring)
        offset = {'xytext': (9, -17) if place % 2 == 0 else (-9, 13), 'textcoords': 'offset points'}
        axis.annotate(f'{row["flip"]:,.3g}', at, ha='center', va='center', fontsize=9.5, zorder=6, **offset)


def _between(at, x, y) -> float:
    """y at `at`, on a straight line against the logarithm of x."""
    import numpy as np

    return float(np.interp(np.log(at), np.log(x), y))
