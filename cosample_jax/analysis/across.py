"""Finished runs side by side: what each measured, and how far the others are from the first.

Two runs are paired over the problems both have (same id and same question) where these are all problems of one of
them; otherwise their difference is between two independent samples of problems, and its interval is wider.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cosample_jax import cells as grid
from cosample_jax import config as config_lib
from cosample_jax import records
from cosample_jax.analysis import intervals, outcomes, quality, significance
from cosample_jax.analysis.pools import Pool
from cosample_jax.errors import UserError

METRICS = ('coverage', 'diversity')


class Values(NamedTuple):
    """One number a problem: [seeds, problems], of the problems `ids`, whose texts are `questions`."""

    ids: Sequence[str]
    questions: Mapping[str, str]
    values: np.ndarray


@dataclass(frozen=True)
class Run:
    """What one run measured.

    Attributes:
        quality: (purpose, budget, source) -> metric -> Values; samples a problem and false positives in `kept`.
        kept: (purpose, budget, source) -> the row of `quality.kept`.
        curves: the rows of `quality.curves` of the training pools.
        trained: (split, model, budget, data) -> pass@1.
    """

    name: str
    config: Mapping[str, object]
    quality: Mapping[tuple, Mapping[str, Values]]
    kept: Mapping[tuple, dict]
    curves: Sequence[dict]
    trained: Mapping[tuple, Values]


def load(workdir, name: str) -> Run:
    """Reads a workdir, and writes nothing.

    Raises:
        UserError: it is no run, or nothing of it is analyzed or evaluated.
    """
    if not workdir.path('config.json').exists():
        raise UserError(f'{workdir.root} is not the workdir of a run')
    config = config_lib.finalize(config_lib.load_resolved(workdir.path('config.json')))
    asked = functools.cache(lambda split: {p.id: p.question for p in workdir.problems(split)})
    folder = workdir.path('analysis')
    documents = [records.read_json(path) for path in sorted(folder.glob('*.json'))] if folder.exists() else []
    measured, kept = {}, {}
    for document in documents:
        for key, values in _qualities(workdir, config, document, asked):
            measured[key] = values
            kept[key] = next(r for r in document['kept'] if (r['budget'], r['model']) == key[1:])
    results = workdir.path('evaluate', 'results.json')
    trained = _trained(records.read_json(results)['cells'], asked) if results.exists() else {}
    if not (measured or trained):
        raise UserError(f'nothing to compare in {workdir.root}: run `cosample analyze` there first')
    curves = next((d['curves'] for d in documents if d['purpose'] == 'train'), [])
    return Run(
        name, config_lib.flatten(records.read_json(workdir.path('config.json'))), measured, kept, curves, trained
    )


def _qualities(workdir, config, document, asked) -> Iterator[tuple[tuple, dict[str, Values]]]:
    purpose = document['purpose']
    for row in document['kept']:
        model = row['model']
        if not len(workdir.pool(purpose, model)):  # a run of which only the tables were collected
            continue
        train = workdir.problems('train') if purpose == 'train' else []
        pool = Pool(workdir, purpose, model, counts=grid.blind_counts(config, model, train))
        ids = [problem_id for problem_id in asked(purpose) if problem_id in pool.samples]
        source = pool.source(ids)
        k = source.total
        if row['budget'] != 'pool':
            k = np.array([grid.sample_count(config, model, row['budget'], problem_id) for problem_id in ids])
        found = {name: source.metric(name, k[:, None]).T for name in METRICS}
        key = (purpose, row['budget'], model)
        yield key, {name: Values(ids, asked(purpose), values) for name, values in found.items()}


def _trained(cells, asked):
    groups: dict[tuple, list] = {}
    for cell in cells:
        for split, result in sorted(cell['results'].items(), key=lambda item: item[0] != 'test'):
            groups.setdefault((split, cell['model'], cell['budget'], cell['data']), []).append(result)
    return {
        key: Values(found[0]['problem_ids'], asked(key[0]), np.array([result['pass@1'] for result in found], float))
        for key, found in groups.items()
    }


def settings(runs: Sequence[Run]) -> list[dict]:
    """The fields in which the configurations differ, one row each: `field` and a column a run; '' for none."""
    fields = dict.fromkeys(field for run in runs for field in run.config if field != 'name')
    rows = [{'field': field} | {run.name: run.config.get(field, '') for run in runs} for field in sorted(fields)]
    return [row for row in rows if len({repr(row[run.name]) for run in runs}) > 1]


def qualities(runs: Sequence[Run], seed: int = 0) -> list[dict]:
    """Coverage, diversity and false positives of each source of each run at each budget, with intervals."""
    rows = []
    for run in runs:
        for key, values in run.quality.items():
            kept = run.kept[key]
            row = dict(zip(('run', 'purpose', 'budget', 'source'), (run.name, *key), strict=True))
            row |= {'problems': len(values['coverage'].ids), 'k': kept['samples'] / kept['problems']}
            for metric in METRICS:
                interval = intervals.share_interval if metric == 'coverage' else intervals.mean_interval
                here = values[metric].values.T
                (low,), (high,) = interval(here, seed=seed)
                row |= {metric: here.mean(), f'{metric}_low': low, f'{metric}_high': high}
            rows.append(row | {name: kept[name] for name in ('fpr', 'fpr_low', 'fpr_high')})
    return rows


def scores(runs: Sequence[Run], seed: int = 0) -> list[dict]:
    """pass@1 of each trained model of each run, with intervals as `outcomes.scores` has them."""
    rows = []
    for run in runs:
        for (split, model, budget, data), found in run.trained.items():
            low, high = outcomes.score_interval(found.values, seed)
            row = {'run': run.name, 'split': split, 'model': model, 'budget': budget, 'data': data}
            row |= {'seeds': len(found.values), 'problems': len(found.ids)}
            rows.append(row | {'score': float(found.values.mean()), 'score_low': low, 'score_high': high})
    return rows


def quality_differences(runs: Sequence[Run], seed: int = 0) -> list[dict]:
    """Every other run minus the first, for each purpose and budget that both have (`_against`); Holm over all rows."""
    rows = []
    for run in runs[1:]:
        for key, ours, (source, theirs) in _against(run.quality, runs[0].quality):
            for metric in METRICS:
                row = {'run': run.name, 'purpose': key[0], 'budget': key[1], 'source': key[2], 'first_source': source}
                rows.append(row | {'metric': metric} | difference(ours[metric], theirs[metric], seed))
    return significance.with_holm(rows)


def score_differences(runs: Sequence[Run], seed: int = 0) -> list[dict]:
    """pass@1, every other run minus the first, for each trained model of both, no base model; Holm over all rows."""
    rows = []
    for run in runs[1:]:
        for (split, model, budget, data), ours, (other, theirs) in _against(run.trained, runs[0].trained):
            if data != 'base':
                row = {'run': run.name, 'split': split, 'model': model, 'budget': budget, 'data': data}
                rows.append(row | {'first_data': other} | difference(ours, theirs, seed))
    return significance.with_holm(rows)


def _against(ours: Mapping[tuple, object], first: Mapping[tuple, object]):
    """(key, ours, (source, theirs)): the last part of a key is a source, the rest must be the same. A source that the
    first run has too is compared with that, another one with each of the first run's own ('gold' and 'base' are none).
    """
    for key, value in ours.items():
        names = [k[-1] for k in first if k[:-1] == key[:-1]]
        if key[-1] in names:
            names = [key[-1]]
        elif key[-1] in ('gold', 'base'):
            names = []
        for name in names:
            if name == key[-1] or name not in ('gold', 'base'):
                yield key, value, (name, first[*key[:-1], name])


def difference(ours: Values, theirs: Values, seed: int = 0) -> dict:
    """The columns of `quality.difference_columns` for ours - theirs, and whether they are `paired`."""
    places = {i: j for j, i in enumerate(theirs.ids)}
    shared = [
        (j, places[i]) for j, i in enumerate(ours.ids) if i in places and ours.questions[i] == theirs.questions[i]
    ]
    paired = len(shared) == min(len(ours.ids), len(theirs.ids))
    if paired:
        a, b = (list(side) for side in zip(*shared, strict=True))
        found = intervals.seeded_difference(ours.values[:, a], theirs.values[:, b], seed=seed)
    else:
        found = intervals.unpaired_difference(ours.values, theirs.values, seed=seed)
    return {'paired': paired} | quality.difference_columns(found)
