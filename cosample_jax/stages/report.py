"""report: one self-contained page from whatever the workdir holds, with its figures and tables as files
beside it.

Writes `report/index.html`, `report/figures/*.{svg,png,csv}` and `report/tables/*.csv`. The tables are the same
whenever the same run is made again; what took which time stands on the page and with the figures only.
"""

import json
from collections.abc import Mapping

from cosample_jax import cells as cells_lib
from cosample_jax import config as config_lib
from cosample_jax import ledger, plan, records, spending, training_sets
from cosample_jax.analysis import ablations, agreement, audit, functional_gap, lenses, outcomes, precision, tables
from cosample_jax.analysis.pools import Pool
from cosample_jax.errors import UserError
from cosample_jax.report import data_quality, examples, page, sections
from cosample_jax.report import lenses as lens_section
from cosample_jax.report.gallery import Gallery


def run(config, workdir) -> dict:
    """Writes the page; returns its path and how much is on it.

    Raises:
        UserError: nothing was analyzed yet.
    """
    told = content(config, workdir, analyses(workdir))
    made = _write_tables(workdir, told)
    gallery = Gallery(workdir.path('report', 'figures'))
    if told.equal.flips:  # no table of `tables`: chip-seconds are not the same again
        records.commit(gallery.folder / 'lenses.csv', tables.to_csv(told.equal.flips))
    parts = sections.sections(told, gallery)
    links = [(anchor, title) for anchor, title, _ in parts]
    path = workdir.path('report', 'index.html')
    html = page.document(config.name, links, *(body for _, _, body in parts))
    records.commit(path, html.encode())
    print(f'report: {path}')
    return {'page': str(path), 'figures': len(gallery.names), 'tables': made}


def content(config, workdir, analyses: Mapping[str, dict]) -> sections.Run:
    """What the page says of a workdir, whose pools `analyses` (purpose -> document) are about.

    Raises:
        UserError: nothing was analyzed yet.
    """
    if not analyses:
        raise UserError(f'nothing to report in {workdir.root}: run `cosample analyze` first')
    everything = _cells(workdir)
    # What recipes gave is compared in a table of its own.
    cells = [cell for cell in everything if cell['data'] not in config.recipes]
    seed = config.seed
    scores, differences, gains = (
        tables.tidy(table(cells, seed)) for table in (outcomes.scores, outcomes.differences, outcomes.gain_over_base)
    )
    gaps = tables.tidy(functional_gap.functional_gap(cells, _twins(workdir), seed))
    judges = _evaluated_judges(workdir, cells)
    errors = tables.tidy(precision.precision(cells))
    compared = _ablations(config, workdir, everything)
    seen = tables.tidy(audit.seen(everything))
    return sections.Run(
        root=str(workdir.root),
        config=config_lib.to_json(config),
        versions=_read(workdir, 'versions.json', []),
        analyses=analyses,
        scores=scores,
        differences=differences,
        gains=gains,
        gaps=gaps,
        judges=judges,
        seen=seen,
        seeds=len({cell['seed'] for cell in cells if cell['trained']}),
        example=_example(workdir, analyses),
        timings=_timings(workdir),
        precision=errors,
        equal=_equal(config, workdir, analyses),
        ablations=compared,
        apis=ledger.paid(workdir.path('ledger.jsonl'), _read(workdir, 'plan.json', {}).get('apis', ())),
    )


def _read(workdir, name, default):
    path = workdir.path(name)
    return records.read_json(path) if path.exists() else default


def analyses(workdir) -> dict[str, dict]:
    """purpose -> its document, the training pools first; empty where nothing was analyzed."""
    folder = workdir.path('analysis')
    paths = sorted(folder.glob('*.json'), key=lambda path: path.name) if folder.exists() else []
    documents = [records.read_json(path) for path in paths]
    return {d['purpose']: d for d in sorted(documents, key=lambda d: d['purpose'] != 'train')}


def _cells(workdir):
    return _read(workdir, 'evaluate/results.json', {'cells': []})['cells']


def _ablations(config, workdir, cells):
    """What each recipe gave, where cells of recipes were evaluated."""
    asked = {(cell['data'], cell['budget']) for cell in cells if cell['budget']}
    if not any(data in config.recipes for data, _ in asked):
        return []
    problems = workdir.problems('train')
    drawn = {}
    for data, budget in sorted(asked):
        if data != 'gold':
            counts = training_sets.drawn_counts(config, workdir, data, budget, problems)
            of = {source: sum(counts[source].values()) / len(problems) for source in counts}
            cost = sum(mean / cells_lib.ratio(config, source, config.budget.lens) for source, mean in of.items())
            drawn[f'{data} {budget}'] = {'samples': sum(of.values()), 'cost': cost}
    return tables.tidy(ablations.ablations(cells, config.recipes, drawn, config.seed))


def _twins(workdir):
    """Functional problem -> the static one that it varies."""
    if 'functional' not in workdir.splits():
        return {}
    metas = {problem.id: json.loads(problem.meta or '{}') for problem in workdir.problems('functional')}
    return {problem_id: meta['static'] for problem_id, meta in metas.items() if 'static' in meta}


def _evaluated_judges(workdir, cells):
    """What every judge said of the right greedy solutions of the evaluated models."""
    rows = []
    for split in dict.fromkeys(split for cell in cells for split in cell['results']):
        judged = agreement.verdicts(workdir, f'{split}-greedy', [cell['cell'] for cell in cells])
        rows += [{'split': split, **row} for row in agreement.judges_table(judged)]
    return tables.tidy(rows)


def _write_tables(workdir, told):
    made = {
        'scores': told.scores,
        'differences': told.differences,
        'gain_over_base': told.gains,
        'functional_gap': told.gaps,
        'evaluated_judges': told.judges,
        'precision': told.precision,
        'ablations': told.ablations,
        'audit_cells': told.seen,
    }
    for purpose, document in told.analyses.items():
        made |= {f'{purpose}_{name}': rows for name, rows in document.items() if isinstance(rows, list)}
    written = {name: rows for name, rows in made.items() if rows}
    for name, rows in written.items():
        records.commit(workdir.path('report', 'tables', f'{name}.csv'), tables.to_csv(rows))
    return len(written)


def _equal(config, workdir, analyses):
    """The training pools of the sources by every lens that something is known for."""
    if 'train' not in analyses:
        return lens_section.Equal()
    document = analyses['train']
    models = [row['model'] for row in document['models']]
    pilot, note = None, f'the pools are of {" and ".join(models)}'
    compared = spending.compared(config)
    if set(compared) <= set(models):
        models = [model for model in models if model in compared]
        pilot, note = spending.pilot(config, workdir, _prompts(config, workdir))
    if pilot is None:
        return lens_section.Equal(note=note)
    costs = spending.lens_costs(config, pilot.lengths, pilot)
    problems = workdir.problems('train')
    pools = [Pool(workdir, 'train', m, counts=cells_lib.blind_counts(config, m, problems)) for m in models]
    ids = [p.id for p in problems if all(p.id in pool.samples for pool in pools)]
    flips = lenses.flips([pool.source(ids) for pool in pools], costs, config.seed)
    return lens_section.Equal(
        curves=tables.tidy(lenses.curves([r for r in document['curves'] if r['model'] in models], costs, len(ids))),
        flips=tables.tidy(flips),
        device=pilot.device,
        budgets=data_quality.budget_counts(document),
    )


def _prompts(config, workdir):
    """Of the lengths that a plan assumes only the prompts' are used here."""
    splits = {split: workdir.problems(split) for split in workdir.splits() if split in ('train', 'shots')}
    return plan.mean_lengths(config, splits, plan.planning_tokenizer(config), 1.0)


def _example(workdir, analyses):
    purpose = next(iter(analyses))
    pools = {}
    for model in (row['model'] for row in analyses[purpose]['models']):
        judgments = workdir.judgments(purpose, model, analyses[purpose]['judge'])
        stores = (workdir.pool(purpose, model), workdir.grades(purpose, model), judgments)
        pools[model] = examples.examples(*(store.read() for store in stores))
    return examples.choose(workdir.problems(purpose), pools)


def _timings(workdir):
    """One row a finished stage and their sum; empty where nothing was predicted and nothing is done."""
    plan = _read(workdir, 'plan.json', {'stages': {}})['stages']
    folder = workdir.path('done')
    names = [path.stem for path in folder.glob('*.json')] if folder.exists() else []
    done = {name: workdir.done_info(name) for name in names if name != 'report'}
    rows = []
    for stage in sorted(done, key=lambda name: (len(done[name]['after']), name)):  # in the order of the pipeline
        expected = plan.get(stage, {})
        rows.append(
            {
                'stage': stage,
                'predicted': expected.get('seconds', ''),
                'seconds': done[stage]['seconds'],
                'tokens': expected.get('tokens', 0),
                'attempts': done[stage]['attempts'],
            }
        )
    if not rows:
        return []
    known = [row['predicted'] for row in rows if row['predicted'] != '']
    total = {
        'stage': 'all',
        'predicted': sum(known) if known else '',
        'seconds': sum(row['seconds'] for row in rows),
    }
    return [
        *rows,
        total | {'tokens': sum(row['tokens'] for row in rows), 'attempts': sum(row['attempts'] for row in rows)},
    ]
