"""What training on each source gave: tables from the evaluated fine-tuning cells."""

from collections.abc import Mapping, Sequence

import numpy as np

from cosample_jax.analysis import intervals, significance
from cosample_jax.analysis.quality import DIFFERENCE_COLUMNS, difference_columns

DATA = ('base', 'gold', 'weak', 'strong')
NOT_TRAINED = '0 survivors, not trained'


def scores(cells: Sequence[Mapping], seed: int = 0) -> list[dict]:
    """One row for each trained model, budget and kind of data, averaged over training seeds, with intervals.

    Columns `<split>`, `<split>_low`, `<split>_high` are pass@1; `<split>_maj@k` and `<split>_fpr` follow. A
    row that could not be trained keeps its counts and its `reason`; its scores are ''. Intervals: Wilson over
    problems with one seed, the two-level bootstrap with several.
    """
    splits = _splits(cells)
    votes = {split: _vote_counts(cells, split) for split in splits}
    rows = []
    for key, group in grouped(cells).items():
        model, budget, data = key
        trained = [cell for cell in group if cell['trained'] or cell['data'] == 'base']
        first = (trained or group)[0]
        row = {'model': model, 'budget': budget, 'data': data, 'seeds': len(trained)}
        row |= {name: first.get(name, '') for name in ('kept', 'unique', 'problems', 'epochs', 'steps')}
        row |= {
            'learning_rate': first.get('learning_rate', '') if trained else '',
            'best_step': first.get('best_step', '') if trained else '',
            'validation_accuracy': _mean(cell.get('validation_accuracy', '') for cell in trained),
            'reason': '' if trained else first['reason'] or NOT_TRAINED,
        }
        for split in splits:
            row |= _split_columns(
                split, [c['results'][split] for c in trained if split in c['results']], votes[split], seed
            )
        rows.append(row)
    return rows


def differences(cells: Sequence[Mapping], seed: int = 0) -> list[dict]:
    """Weak data minus strong data for each trained model, budget, split and metric, paired over problems.

    Rows exist for every pair that was planned: where a side was not trained, `difference` is '' and `reason`
    says so. `p_holm` is adjusted over all rows.
    """
    groups = grouped(cells)
    rows = []
    for (model, budget, data), weak in groups.items():
        strong = groups.get((model, budget, 'strong'), [])
        if data != 'weak' or not strong:
            continue
        for split in _splits(cells):
            metrics = ['pass@1', *(f'maj@{k}' for k in _vote_counts(cells, split))]
            for metric in metrics:
                row = {'model': model, 'budget': budget, 'split': split, 'metric': metric}
                rows.append(row | compare(weak, strong, split, metric, seed))
    return significance.with_holm(rows)


def gain_over_base(cells: Sequence[Mapping], seed: int = 0) -> list[dict]:
    """Each trained cell minus its base model (few-shot), pass@1, paired over problems; Holm over all rows."""
    groups = grouped(cells)
    rows = []
    for (model, budget, data), group in groups.items():
        base = groups.get((model, '', 'base'), [])
        if data == 'base' or not base:
            continue
        for split in _splits(cells):
            row = {'model': model, 'budget': budget, 'data': data, 'split': split}
            rows.append(row | compare(group, base, split, 'pass@1', seed))
    return significance.with_holm(rows)


def grouped(cells):
    """(model, budget, data) -> cells of all seeds: models as they come, the base first, low before
    high.
    """
    order = list(dict.fromkeys(cell['model'] for cell in cells))
    budgets = {'': 0, 'low': 1, 'high': 2}
    keys = sorted(
        {(cell['model'], cell['budget'], cell['data']) for cell in cells},
        key=lambda key: (order.index(key[0]), key[2] != 'base', budgets[key[1]], data_order(key[2])),
    )
    return {key: [c for c in cells if (c['model'], c['budget'], c['data']) == key] for key in keys}


def data_order(data: str) -> tuple[int, str]:
    """The references first, then recipes by name."""
    return (DATA.index(data) if data in DATA else len(DATA)), data


def _splits(cells):
    found = {split for cell in cells for split in cell['results']}
    return [split for split in ('test', 'functional') if split in found]


def _vote_counts(cells, split):
    return sorted({int(k) for c in cells for k in c['results'].get(split, {}).get('maj@k', {})})


def compare(ours, theirs, split, metric, seed):
    ours, theirs = ([c for c in group if split in c['results']] for group in (ours, theirs))
    if not (ours and theirs):
        return dict.fromkeys(DIFFERENCE_COLUMNS, '') | {'seeds': 0, 'reason': NOT_TRAINED}
    a, b = (np.array([_values(c['results'][split], metric) for c in group]) for group in (ours, theirs))
    return difference_columns(intervals.seeded_difference(a, b, seed=seed)) | {
        'seeds': min(len(a), len(b)),
        'reason': '',
    }


def _values(result, metric):
    return result['pass@1'] if metric == 'pass@1' else result['maj@k'][metric.removeprefix('maj@')]


def _split_columns(split, results, votes, seed):
    row = {}
    low, high = '', ''
    if results:
        low, high = score_interval([r['pass@1'] for r in results], seed)
    row |= {split: _mean(np.mean(r['pass@1']) for r in results), f'{split}_low': low, f'{split}_high': high}
    row[f'{split}_problems'] = len(results[0]['pass@1']) if results else ''
    for k in votes:
        values = [r['maj@k'][str(k)] for r in results if str(k) in r.get('maj@k', {})]
        low, high = score_interval(values, seed) if values else ('', '')
        row |= {f'{split}_maj@{k}': _mean(map(np.mean, values))}
        row |= {f'{split}_maj@{k}_low': low, f'{split}_maj@{k}_high': high}
    wrong = sum(r['fpr']['wrong'] for r in results if 'fpr' in r)
    kept = sum(r['fpr']['kept'] for r in results if 'fpr' in r)
    low, high = intervals.wilson(wrong, kept) if kept else ('', '')
    return row | {
        f'{split}_fpr': wrong / kept if kept else '',
        f'{split}_fpr_low': low,
        f'{split}_fpr_high': high,
    }


def score_interval(values, seed):
    """Of the mean of [seeds, problems] of right or wrong: Wilson's, or with several seeds the bootstrap's."""
    values = np.array(values)
    if len(values) == 1:
        return intervals.wilson(int(values.sum()), values.shape[1])
    result = intervals.seeded_difference(values, np.zeros_like(values[:1]), seed=seed)
    return max(0.0, result.low), min(1.0, result.high)


def _mean(values):
    values = [float(v) for v in values if v != '']
    return float(np.mean(values)) if values else ''
