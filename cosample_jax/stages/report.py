"""report: one self-contained page from whatever the workdir holds, with its figures and tables as files
beside it.

Writes `report/index.html`, `report/figures/*.{svg,png}` and `report/tables/*.csv`. Seconds stand on the page
only.
"""

import json

from cosample_jax import config as config_lib
from cosample_jax import records
from cosample_jax.analysis import agreement, audit, functional_gap, outcomes, tables
from cosample_jax.errors import UserError
from cosample_jax.report import examples, figures, page, sections


def run(config, workdir) -> dict:
    """Writes the page; returns its path and how much is on it.

    Raises:
        UserError: nothing was analyzed yet.
    """
    analyses = _analyses(workdir)
    if not analyses:
        raise UserError(f'nothing to report in {workdir.root}: run `cosample analyze` first')
    cells = _cells(workdir)
    seed = config.seed
    scores, differences, gains = (
        tables.tidy(table(cells, seed)) for table in (outcomes.scores, outcomes.differences, outcomes.gain_over_base)
    )
    gaps = tables.tidy(functional_gap.functional_gap(cells, _twins(workdir), seed))
    judges = _evaluated_judges(workdir, cells)
    seen = tables.tidy(audit.seen(cells))
    content = sections.Run(
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
    )
    found = {'scores': scores, 'differences': differences, 'gain_over_base': gains}
    made = _write_tables(workdir, analyses, **found, functional_gap=gaps, evaluated_judges=judges, audit_cells=seen)
    drawn = []

    def draw(name, figure, alt, caption, single=False):
        svg, png = figures.encode(figure)
        records.commit(workdir.path('report', 'figures', f'{name}.svg'), svg)
        records.commit(workdir.path('report', 'figures', f'{name}.png'), png)
        drawn.append(name)
        return page.figure(name, svg, alt, caption, single)

    parts = sections.sections(content, draw)
    links = [(anchor, title) for anchor, title, _ in parts]
    path = workdir.path('report', 'index.html')
    html = page.document(config.name, links, *(body for _, _, body in parts))
    records.commit(path, html.encode())
    print(f'report: {path}')
    return {'page': str(path), 'figures': len(drawn), 'tables': made}


def _read(workdir, name, default):
    path = workdir.path(name)
    return records.read_json(path) if path.exists() else default


def _analyses(workdir):
    """purpose -> its document, the training pools first."""
    folder = workdir.path('analysis')
    paths = sorted(folder.glob('*.json'), key=lambda path: path.name) if folder.exists() else []
    documents = [records.read_json(path) for path in paths]
    return {d['purpose']: d for d in sorted(documents, key=lambda d: d['purpose'] != 'train')}


def _cells(workdir):
    return _read(workdir, 'evaluate/results.json', {'cells': []})['cells']


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


def _write_tables(workdir, analyses, **others):
    made = dict(others)
    for purpose, document in analyses.items():
        made |= {f'{purpose}_{name}': rows for name, rows in document.items() if isinstance(rows, list)}
    written = {name: rows for name, rows in made.items() if rows}
    for name, rows in written.items():
        records.commit(workdir.path('report', 'tables', f'{name}.csv'), tables.to_csv(rows))
    return len(written)


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
