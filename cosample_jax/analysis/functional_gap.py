"""How much better a model is on problems it may have read than on the same problems with new numbers."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from cosample_jax.analysis import intervals, significance
from cosample_jax.analysis.outcomes import data_order
from cosample_jax.analysis.quality import difference_columns


def functional_gap(cells: Sequence[Mapping], twins: Mapping[str, str], seed: int = 0) -> list[dict]:
    """Static minus functional pass@1 of each trained model, budget and kind of data, paired over the static problems.

    `twins` maps each functional problem to its static twin, whose outcome is that of the split 'static', or of 'test'
    where the twins are test problems. Several variants of one problem (snapshots) count by their mean. Cells without
    both outcomes have no row. Holm over all rows.
    """
    pairs = defaultdict(list)
    for cell in cells:
        results = cell['results']
        if 'functional' not in results:
            continue
        static = _outcomes(results.get('static', results.get('test', {})))
        variants = defaultdict(list)
        for problem_id, right in _outcomes(results['functional']).items():
            if twins.get(problem_id) in static:
                variants[twins[problem_id]].append(right)
        if variants:
            ours = [static[problem_id] for problem_id in variants]
            theirs = [np.mean(rights) for rights in variants.values()]
            pairs[cell['model'], cell['budget'], cell['data']].append((ours, theirs))
    models = list(dict.fromkeys(cell['model'] for cell in cells))
    rows = []
    for model, budget, data in sorted(pairs, key=lambda k: (models.index(k[0]), k[1] == 'high', data_order(k[2]))):
        static, functional = (np.array(values) for values in zip(*pairs[model, budget, data], strict=True))
        row = {'model': model, 'budget': budget, 'data': data, 'seeds': len(static)}
        row |= {'static': float(static.mean()), 'functional': float(functional.mean())}
        rows.append(row | difference_columns(_gap(static, functional, seed)))
    return significance.with_holm(rows)


def _gap(static: np.ndarray, functional: np.ndarray, seed: int) -> intervals.Difference:
    """[seeds, problems] of each; the seeds are the same on both sides, so they are paired, too."""
    gaps = static - functional
    return intervals.seeded_difference(gaps, np.zeros_like(gaps[:1]), seed=seed)


def _outcomes(result: Mapping) -> dict[str, float]:
    return dict(zip(result.get('problem_ids', ()), result.get('pass@1', ()), strict=True))
