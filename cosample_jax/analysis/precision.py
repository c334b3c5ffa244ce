"""What makes a difference between two training data uncertain, and how much more of it would make it surer.

The variance of a difference has two parts: which problems are tested, and, known from two training seeds on, the luck
of training. More problems shrink the first, more seeds the second, each in proportion.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from cosample_jax.analysis import intervals


def precision(cells: Sequence[Mapping]) -> list[dict]:
    """One row for each trained model and budget: weak minus strong data, pass@1 on the test problems, both trained.

    `problem_error` and `seed_error` are the two standard errors ('' with one seed on either side). `halve_*` are the
    problems, or else the seeds, at which the interval is half as wide; `find_*` those at which a difference as large as
    this one is found with 80% power (two-sided 5%), '' where it is `found` already. '' too where the other part alone
    is wider than that. Numbers are rounded up; as many problems stand for others like them.
    """
    sides: dict[tuple, dict[str, list]] = {}
    for cell in cells:
        if cell['trained'] and cell['data'] in ('weak', 'strong') and 'test' in cell['results']:
            here = sides.setdefault((cell['model'], cell['budget']), {})
            here.setdefault(cell['data'], []).append(cell['results']['test']['pass@1'])
    return [
        {'model': model, 'budget': budget} | needed(np.array(both['weak']), np.array(both['strong']))
        for (model, budget), both in sides.items()
        if len(both) == 2
    ]


def needed(a: np.ndarray, b: np.ndarray) -> dict:
    """The columns of `precision` from [seeds, problems] of right and wrong, the same problems in both."""
    problems, seeds = a.shape[1], min(len(a), len(b))
    value = float(a.mean() - b.mean())
    pairs = a.mean(0) - b.mean(0)
    # Equal pairs do not prove that no problem tells the two apart: as if one had, as the detectable difference does.
    by_problem = max(float(pairs.var(ddof=1)) / problems, problems**-2) if problems > 1 else 1.0
    by_seed = sum(float(x.mean(1).var(ddof=1)) / len(x) for x in (a, b)) if seeds > 1 else 0.0
    row = {'difference': value, 'problems': problems, 'seeds': seeds, 'problem_error': math.sqrt(by_problem)}
    row['seed_error'] = math.sqrt(by_seed) if seeds > 1 else ''
    wanted = (value / intervals.DETECTABLE) ** 2
    row['found'] = found = wanted >= by_problem + by_seed
    for name, variance in (('halve', (by_problem + by_seed) / 4), ('find', 0.0 if found else wanted)):
        row[f'{name}_problems'] = _times(problems, by_problem, variance - by_seed)
        row[f'{name}_seeds'] = _times(seeds, by_seed, variance - by_problem) if seeds > 1 else ''
    return row


def _times(count, part, room):
    """As many as shrink `part` to `room`."""
    return math.ceil(round(count * part / room, 6)) if room > 0 and part > 0 else ''
