"""The figure of a forecast, drawn as those of :mod:`figures` are."""

from collections.abc import Sequence

from cosample_jax.report import drawing
from cosample_jax.report.drawing import GRID, INK, METRIC_LABELS, canvas, styles_of


def forecast(document: dict[str, Sequence[dict]], dearest: str):
    """Coverage, and diversity beside it where it is known, against the budget, with 90% bands.

    A vertical tick ends what the pilot has itself, a ring is where the better one of two models flips.

    Args:
        document: the tables of a forecast, of which `curves` and `flips` are drawn.
        dearest: the model in whose samples a budget is counted; '' where all cost the same.
    """
    rows = document['curves']
    metrics = ['coverage', 'diversity'] if any('diversity' in row for row in rows) else ['coverage']
    with drawing.style():
        figure, axes = canvas(5.6 * len(metrics), 4.2, ncols=len(metrics))
        axes = [axes] if len(metrics) == 1 else list(axes)
        for axis, metric in zip(axes, metrics, strict=True):
            for model, style in styles_of(list(dict.fromkeys(row['model'] for row in rows))).items():
                here = [row for row in rows if row['model'] == model and metric in row]
                if not here:
                    continue
                x = [row['budget'] for row in here]
                y, low, high = ([_shown(r[f'{metric}{end}'], metric) for r in here] for end in ('', '_low', '_high'))
                axis.fill_between(x, low, high, color=style[0], alpha=0.12, linewidth=0)
                axis.plot(x, y, color=style[0], linestyle=style[2], linewidth=2, zorder=3, label=model)
                end = here[0]['pilot'] * here[0]['budget'] / here[0]['k']
                tick = {'marker': '|', 'markersize': 15, 'markeredgewidth': 2.4, 'linestyle': 'none'}
                axis.plot(end, _between(end, x, y), color=style[0], zorder=4, **tick)
            axis.set_xscale('log')
            axis.set_xlabel(f'budget a problem, in samples of {dearest}' if dearest else 'samples a problem (k)')
            axis.xaxis.set_major_formatter(lambda value, _: f'{value:,g}')
            axis.set_ylabel(METRIC_LABELS[metric])
            axis.grid(color=GRID, linewidth=0.8)
        _flips(axes[0], document)
        axes[0].set_ylim(0, 102)
        if len(axes) > 1:
            axes[1].set_yscale('log')
            axes[1].yaxis.set_major_formatter(lambda value, _: f'{value:,g}')
        axes[0].plot([], [], color=INK, label='end of the pilot', **tick)
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
        axis.plot(*at, color=INK, zorder=5, label=None if place else 'the better one flips', **ring)
        offset = {'xytext': (9, -17) if place % 2 == 0 else (-9, 13), 'textcoords': 'offset points'}
        axis.annotate(f'{row["flip"]:,.3g}', at, ha='center', va='center', fontsize=9.5, zorder=6, **offset)


def _between(at, x, y) -> float:
    """y at `at`, on a straight line against the logarithm of x."""
    import numpy as np

    return float(np.interp(np.log(at), np.log(x), y))


def _shown(value: float, metric: str) -> float:
    return 100 * value if metric == 'coverage' else value
