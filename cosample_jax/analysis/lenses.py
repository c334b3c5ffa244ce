"""Sources at equal cost, whatever is counted as cost: their curves against it, and where the better one changes.

A lens (:mod:`cosample_jax.budget`) says what a model's samples cost, in one unit. Nothing is drawn for it: the same
samples are laid against another axis.
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from cosample_jax.analysis import intervals, quality
from cosample_jax.budget import Cost

METRICS = ('coverage', 'diversity')
_POINTS = 200  # of a curve that are compared; between them it is taken as straight

Costs = Mapping[str, Mapping[str, Cost]]  # lens -> model -> cost


def curves(rows: Sequence[dict], costs: Costs, problems: int) -> list[dict]:
    """The rows of `quality.curves` once a lens, each with its `cost` a problem in the lens's unit."""
    return [
        {
            'lens': lens,
            'model': row['model'],
            'k': row['k'],
            'cost': float(_a_problem(of[row['model']], problems, row['k'])),
        }
        | {f'{metric}{end}': row[f'{metric}{end}'] for metric in METRICS for end in ('', '_low', '_high')}
        for lens, of in costs.items()
        for row in rows
    ]


def flips(sources: Sequence[quality.Source], costs: Costs, seed: int = 0) -> list[dict]:
    """For every lens, metric and pair of sources: who is better where both were sampled, and at what cost that changes.

    Compared is from the cost of one sample a problem of the dearer source (`start`) to where the first of the curves
    ends (`end`). A curve is straight between two counts of samples: a part of the problems gets one more. Each end has
    the difference a - b with its interval and its `winner` ('' where they are equal). Where the winners differ,
    `crossing` is where the curves cross for the last time. Problems are resampled for all of it, the same for a and b:
    `share` is the share of draws with the same winners at both ends, and the interval of the crossing is over those.
    `ratio` is what a sample of b costs in samples of a.

    Where all of one pool costs no more than one sample a problem of the other source, it is held against that sample:
    `start_winner` is that pool's source or '' (more of it might do better still), and there is no `end` ('').
    """
    rows = []
    for (lens, of), metric, (a, b) in itertools.product(costs.items(), METRICS, itertools.combinations(sources, 2)):
        row = {'lens': lens, 'metric': metric, 'model_a': a.model, 'model_b': b.model}
        row['ratio'] = of[b.model].sample / of[a.model].sample
        rows.append(row | _flip(_curve(a, of, metric), _curve(b, of, metric), a.model, b.model, seed))
    return rows


def _a_problem(cost, problems, k):
    """Of k samples of each of so many problems, a problem; k may be an array."""
    return cost.total(problems, problems * k) / problems


def _curve(source, of, metric):
    """(costs [points], values [problems, points]) at counts of samples from one to the smallest pool of a problem."""
    ks = np.unique(np.geomspace(1, source.total.min(), _POINTS).round().astype(np.int64))
    return _a_problem(of[source.model], len(source.total), ks), source.metric(metric, ks)


_COLUMNS = ('start', 'start_difference', 'start_low', 'start_high', 'start_winner')
_COLUMNS += ('end', 'end_difference', 'end_low', 'end_high', 'end_winner')
_COLUMNS += ('crossing', 'crossing_low', 'crossing_high', 'share')


def _flip(a, b, name_a, name_b, seed):
    row = dict.fromkeys(_COLUMNS, '')
    (cost_a, values_a), (cost_b, values_b) = a, b
    start, end = max(cost_a[0], cost_b[0]), min(cost_a[-1], cost_b[-1])
    every = np.concatenate([cost_a, cost_b])
    grid = np.unique(np.concatenate([[start, max(start, end)], every[(every > start) & (every < end)]]))
    gap = values_a @ _weights(cost_a, grid) - values_b @ _weights(cost_b, grid)
    drawn = intervals.resampled_means(gap, seed=seed)
    mean = gap.mean(0)[None]
    winners = _winners(mean)[0]
    alike = (_winners(drawn) == winners).all(1)
    bounds = intervals.quantiles(drawn[:, [0, -1]])
    ends = [('start', start), ('end', end)] if end > start else [('start', start)]
    for place, (end_name, cost) in enumerate(ends):
        row |= {end_name: float(cost), f'{end_name}_difference': float(mean[0, -place])}
        row |= {f'{end_name}_low': bounds[0, place], f'{end_name}_high': bounds[1, place]}
        row[f'{end_name}_winner'] = {1: name_a, -1: name_b, 0: ''}[int(winners[place])]
    row['share'] = float(alike.mean())
    if len(ends) == 1 and row['start_winner'] != (name_a if cost_a[-1] <= start else name_b):
        row['start_winner'] = ''
    if winners[0] * winners[1] < 0:
        row['crossing'] = float(_crossings(mean, grid)[0])
        low, high = intervals.quantiles(_crossings(drawn[alike], grid)[:, None])[:, 0]
        row |= {'crossing_low': low, 'crossing_high': high}
    return row


def _weights(costs, grid):
    """[points, grid]: what `values @ weights` interpolates linearly, and holds beyond the last of the costs."""
    if len(costs) == 1:
        return np.ones((1, len(grid)))
    grid = np.minimum(grid, costs[-1])
    right = np.clip(np.searchsorted(costs, grid), 1, len(costs) - 1)
    part = (grid - costs[right - 1]) / (costs[right] - costs[right - 1])
    weights = np.zeros((len(costs), len(grid)))
    columns = np.arange(len(grid))
    weights[right - 1, columns] = 1 - part
    weights[right, columns] += part
    return weights


def _winners(gaps):
    """The signs at both ends of each row, [rows, 2]; what is within rounding of zero is zero."""
    return np.sign(np.round(gaps[:, [0, -1]], 12)).astype(int)


def _crossings(gaps, grid):
    """Where each row [rows, grid], whose ends differ in sign, has that of its end from: the root of the last change."""
    other = gaps * np.sign(gaps[:, -1:]) <= 0
    before = gaps.shape[1] - 1 - np.argmax(other[:, ::-1], axis=1)
    rows = np.arange(len(gaps))
    left, right = gaps[rows, before], gaps[rows, before + 1]
    return grid[before] + (grid[before + 1] - grid[before]) * left / (left - right)
