"""One page on several finished runs: what they differ in, their data, their trained models, and the differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cosample_jax.report import cells, drawing, figures, page, verdict
from cosample_jax.report.drawing import GRID
from cosample_jax.report.page import Column, Markup, tag


@dataclass(frozen=True)
class Tables:
    """Tables of `analysis.across`; `runs` are their names, the first is what the others are compared with."""

    runs: Sequence[str]
    settings: Sequence[dict]
    qualities: Sequence[dict]
    quality_differences: Sequence[dict]
    scores: Sequence[dict]
    score_differences: Sequence[dict]
    curves: Mapping[str, Sequence[dict]]  # run -> rows of `quality.curves`


def sections(told: Tables, draw) -> list[tuple[str, str, Markup]]:
    """(anchor, title, HTML) of each section; `draw` as in `sections.sections`."""
    made = (_summary(told), _settings(told), _quality(told, draw), _training(told, draw))
    return [section for section in made if section]


def _summary(told):
    first, *others = told.runs
    lines = []
    for rows, what in (
        ([r for r in told.score_differences if r['split'] == 'test'], 'trained models (pass@1, test)'),
        ([r for r in told.quality_differences if r['metric'] == 'coverage'], 'pools (problems solved)'),
    ):
        for run in others:
            here = [row for row in rows if row['run'] == run]
            if here:
                lines.append(f'{what[0].upper()}{what[1:]}: {run} against {first}: {_counted(here)}.')
    lead = f'{", ".join(others)} against {first}'
    lines = lines or ['The runs have no pool and no trained model in common; what each measured is below.']
    note = (
        'Measurable (a star in the tables) is a difference that holds among all of its table (Holm, 5%); small print '
        'is 95% intervals, each by itself. Runs that differ in several settings do not tell which of them mattered.'
    )
    hero = tag(
        'div',
        page.paragraph('Finished runs side by side', 'eyebrow'),
        tag('h1', lead),
        tag('ul', *(tag('li', line) for line in lines), class_='plain'),
        tag('div', page.paragraph(note), class_='note'),
        class_='hero',
    )
    return 'summary', 'Summary', Markup(tag('section', hero, id='summary'))


def _counted(rows):
    signs = [verdict.higher(row) for row in rows]
    parts = [
        f'{signs.count(sign)} {word}'
        for sign, word in ((1, 'higher'), (-1, 'lower'), (0, 'without a measurable difference'))
        if sign in signs
    ]
    return f'of {len(rows)}, {", ".join(parts)}' if len(rows) > 1 else parts[0].removeprefix('1 ')


def _settings(told):
    if not told.settings:
        return 'settings', 'Settings', page.section('settings', 'Settings', page.paragraph('No setting differs.'))
    columns = [Column('field', lambda r: r['field'], text=True)]
    columns += [Column(run, lambda r, run=run: _setting(r[run]), text=True) for run in told.runs]
    table = page.table('What differs', 'All other fields of the configurations are the same.', columns, told.settings)
    return 'settings', 'Settings', page.section('settings', 'Settings', table)


def _setting(value):
    if value == '':
        return '–'
    text = ', '.join(map(_setting, value)) if isinstance(value, list | tuple) else str(value)
    if isinstance(value, float):
        text = f'{value:g}'
    return text if len(text) <= 60 else f'{text[:57]}...'


def _quality(told, draw):
    if not told.qualities:
        return None
    parts = []
    rows = [r | {'model': f'{run}: {r["model"]}'} for run in told.runs for r in told.curves.get(run, ())]
    if rows and max(row['k'] for row in rows) > 1:
        made = []
        ends = {row['model']: row for row in rows}
        marked = {'': {model: row['k'] for model, row in ends.items()}}
        for metric, name in (('coverage', 'Coverage'), ('diversity', 'Diversity')):
            alt = f'{name} against samples a problem, one line a run and source. At its last point: ' + '; '.join(
                f'{model} {row[metric]:.3g} with {row["k"]} samples' for model, row in ends.items()
            )
            caption = Markup(f'<b>{name} against samples.</b> Training pools. Bands: 95%, over problems.')
            made.append(draw(f'compare_{metric}', figures.quality_curve(rows, metric, marked), alt, caption, rows))
        parts.append(tag('div', *made, class_='figures'))
    columns = [
        Column('run and source', lambda r: Markup(page.escape(r['run']) + tag('small', r['source'])), text=True),
        Column('budget', lambda r: ', '.join((r['budget'], *_purpose(r))), text=True),
        Column('samples a problem', lambda r: f'{r["k"]:.3g}'),
        Column('problems', lambda r: f'{r["problems"]:,}'),
        Column('coverage', lambda r: page.share(r, 'coverage')),
        Column('unique correct', lambda r: page.with_interval(*(f'{r[f"diversity{e}"]:.2f}' for e in drawing.ENDS))),
        Column('false positives', lambda r: page.share(r, 'fpr')),
    ]
    order = sorted(told.qualities, key=lambda r: (r['purpose'] != 'train', r['purpose'], r['budget'] == 'high'))
    starts = [i for i in range(1, len(order)) if _purpose_budget(order[i]) != _purpose_budget(order[i - 1])]
    parts.append(page.table('The data', 'Unbiased estimates for the samples of a budget.', columns, order, starts))
    if told.quality_differences:
        columns = [
            Column('run and source', lambda r: _pair(r, 'source'), text=True),
            Column('budget', lambda r: ', '.join((r['budget'], *_purpose(r))), text=True),
            Column('of', lambda r: r['metric'], text=True),
            *_difference_columns(told.runs[0], lambda r: r['metric'] == 'diversity'),
        ]
        parts.append(page.table(f'Data: difference to {told.runs[0]}', _NOTE, columns, told.quality_differences))
    return 'quality', 'Data quality', page.section('quality', 'Data quality', *parts)


def _purpose(row):
    return () if row['purpose'] == 'train' else (f'{row["purpose"]} problems',)


def _purpose_budget(row):
    return row['purpose'], row['budget']


_NOTE = (
    'Paired over the problems that both have; unpaired where they were asked other problems, and then wider. '
    'Differences in points, of diversity in solutions.'
)


def _pair(row, name):
    first = '' if row[name] == row[f'first_{name}'] else f' minus {row[f"first_{name}"]}'
    return Markup(page.escape(row['run']) + tag('small', f'{row[name]}{first}'))


def _difference_columns(first, counted):
    return [
        Column('difference', lambda r: cells.difference(r, counted(r))),
        Column('detectable', lambda r: cells.detectable(r, counted(r))),
        Column('problems', lambda r: f'{r["problems"]:,} {"paired" if r["paired"] else "unpaired"}'),
        Column('reading', lambda r: cells.reading(r, 'this run', first), text=True),
    ]


def _training(told, draw):
    if not told.scores:
        return None
    parts, made = [], []
    for model in dict.fromkeys(row['model'] for row in told.scores):
        rows = [r for r in told.scores if r['model'] == model and r['split'] == 'test']
        if rows:
            alt = f'pass@1 on test of {model} by training data, one mark a run: ' + '; '.join(
                f'{r["run"]} {figures.cell_label(r)} {page.percent(r["score"])}' for r in rows
            )
            caption = Markup(f'<b>{page.escape(model)} is trained</b>: pass@1, test. Lines: 95% intervals.')
            made.append(draw(f'compare_{model}', side_by_side(rows, told.runs), alt, caption, rows))
    parts.append(tag('div', *made, class_='figures three') if made else '')
    grouped: dict[tuple, dict] = {}
    for row in told.scores:
        grouped.setdefault((row['split'], row['model'], row['budget'], row['data']), {})[row['run']] = row
    rows = [
        dict(zip(('split', 'model', 'budget', 'data'), key, strict=True)) | {'by': by} for key, by in grouped.items()
    ]
    models = list(dict.fromkeys(row['model'] for row in rows))
    rows.sort(key=lambda r: (models.index(r['model']), r['split'] != 'test', r['split']))
    columns = [
        Column(
            'trained on', lambda r: Markup(page.escape(r['model']) + tag('small', figures.cell_label(r))), text=True
        ),
        Column('split', lambda r: r['split'], text=True),
        *(Column(run, lambda r, run=run: page.share(r['by'].get(run, {'score': ''}), 'score')) for run in told.runs),
    ]
    starts = [i for i in range(1, len(rows)) if rows[i]['model'] != rows[i - 1]['model']]
    seeds = ', '.join(f'{run} {max(r["seeds"] for r in told.scores if r["run"] == run)}' for run in told.runs if any(
        r['run'] == run for r in told.scores))  # fmt: skip
    parts.append(page.table('pass@1 of the trained models', f'Training seeds: {seeds}.', columns, rows, starts))
    if told.score_differences:
        columns = [
            Column('run and data', lambda r: _pair(r, 'data'), text=True),
            Column('trained model', lambda r: ', '.join(filter(None, (r['model'], r['budget']))), text=True),
            Column('split', lambda r: r['split'], text=True),
            *_difference_columns(told.runs[0], lambda r: False),
        ]
        parts.append(page.table(f'pass@1: difference to {told.runs[0]}', _NOTE, columns, told.score_differences))
    return 'training', 'Fine-tuning', page.section('training', 'Fine-tuning', *parts)


def side_by_side(rows: Sequence[dict], runs: Sequence[str]):
    """pass@1 of one trained model by what it was trained on, the runs below each other (rows of `across.scores`)."""
    with drawing.style():
        labels = list(dict.fromkeys(figures.cell_label(row) for row in rows))
        gap = 0.7 / len(runs)
        figure, axis = drawing.canvas(width=4.0, height=1.5 + (0.3 + 0.17 * len(runs)) * len(labels))
        for place, (run, look) in enumerate(drawing.styles_of(runs).items()):
            axis.plot([], [], linestyle='none', markersize=7.5, label=run, **drawing.marks(look))
            for row in rows:
                if row['run'] == run:
                    y = labels.index(figures.cell_label(row)) + (place - (len(runs) - 1) / 2) * gap
                    value, low, high = (100 * row[f'score{end}'] for end in drawing.ENDS)
                    axis.plot([low, high], [y, y], color=look[0], linewidth=1.8)
                    axis.plot(value, y, markersize=7.5, markeredgewidth=1.6, **drawing.marks(look))
        axis.set_yticks(range(len(labels)), labels)
        axis.set_ylim(len(labels) - 0.5, -0.5)
        axis.set_xlim(left=0)
        axis.set_xlabel('pass@1, test, %')
        axis.grid(axis='x', color=GRID, linewidth=0.8)
        figure.legend(loc='outside upper center', ncols=2)
    return figure
