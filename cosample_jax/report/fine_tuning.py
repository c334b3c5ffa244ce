"""The section on fine-tuning: every cell, the differences between the two sources, the votes."""

from collections.abc import Sequence

from cosample_jax.report import cells, figures, judging, page
from cosample_jax.report.page import Column, Markup, tag


def section(
    scores: Sequence[dict],
    differences: Sequence[dict],
    gains: Sequence[dict],
    gaps: Sequence[dict],
    judges: Sequence[dict],
    seeds: int,
    draw,
) -> tuple[str, str, Markup]:
    """(anchor, title, HTML) from the tables of `analysis.outcomes`, of `analysis.functional_gap` and, for every split,
    of `analysis.agreement.judges_table`; `draw` as in `sections`.
    """
    models = list(dict.fromkeys(row['model'] for row in scores))
    splits = [split for split in ('test', 'functional') if split in scores[0]]
    interval = 'Wilson' if seeds == 1 else 'two-level bootstrap over seeds and problems'
    parts = [
        page.paragraph(
            'Every cell starts from the same base model and takes equally many steps at one budget; the '
            'checkpoint with the best validation accuracy is tested. Base is few-shot, all others '
            f'zero-shot. Small print: 95% intervals ({interval}).'
        )
    ]
    top = max(
        [row[f'{split}_high'] for row in scores for split in splits if row[f'{split}_high'] != ''],
        default=1,
    )
    top = min(1.0, top + 0.04)
    for split in splits:
        made = []
        for model in models:
            rows = [row for row in scores if row['model'] == model]
            alt = f'pass@1 on {split} of {model} trained on: ' + '; '.join(
                f'{figures.cell_label(r)} {page.percent(r[split])}'
                if r[split] != ''
                else f'{figures.cell_label(r)} not trained'
                for r in rows
            )
            caption = Markup(f'<b>pass@1, {split}.</b> Lines: 95% intervals.')
            made.append(draw(f'scores_{split}_{model}', figures.scores(rows, split, top), alt, caption, rows))
        parts.append(tag('div', *made, class_='figures three'))
    for model in models:
        parts.append(_scores_table(model, [row for row in scores if row['model'] == model], splits))
    parts.append(_differences_table(differences))
    parts.append(_gains_table(gains))
    parts.append(_gaps_table(gaps))
    if len({row['judge'] for row in judges}) > 1:  # one alone is a column above
        table = judging.judges_table('False positives by every judge', judges)
        parts.append(tag('details', tag('summary', 'False positives of every cell by every judge, as a table'), table))
    parts.append(_votes_figures(scores, models, draw))
    return 'training', 'Fine-tuning', page.section('training', 'Fine-tuning', *parts)


def _scores_table(model, rows, splits):
    """What matters in one table that fits, the rest folded away below it."""
    votes = {split: figures.vote_counts(rows[0], split) for split in splits}
    judged = [split for split in splits if any(row[f'{split}_fpr'] != '' for row in rows)]
    trained_on = Column('trained on', _data_name, text=True)

    def shares(names):
        return [Column(header, lambda r, n=name: page.share(r, n)) for header, name in names]

    columns = [trained_on]
    for split in splits:
        columns.append(Column(f'pass@1 {split}', lambda r, s=split: _share_or_reason(r, s)))
    columns += shares((f'maj@{votes[s][-1]} {s}', f'{s}_maj@{votes[s][-1]}') for s in splits[:1] if votes[s])
    columns += shares((f'false positives {s}', f'{s}_fpr') for s in judged[:1])
    columns += [
        Column('kept', lambda r: _count(r, 'kept')),
        Column('unique', lambda r: _count(r, 'unique')),
        Column('problems', lambda r: _count(r, 'problems')),
        Column('epochs', lambda r: f'{r["epochs"]:.1f}' if _is_trained(r) else '–'),
    ]
    starts = [i for i in range(1, len(rows)) if rows[i]['budget'] != rows[i - 1]['budget']]
    seeds = max(row['seeds'] for row in rows)
    note = f'Mean of {seeds} training seeds; counts of the first.' if seeds > 1 else 'One training seed.'
    main = page.table(f'{model} is trained', note, columns, rows, starts)
    more = [trained_on]
    more += shares((f'maj@{k} {s}', f'{s}_maj@{k}') for s in splits for k in votes[s])
    more += shares((f'false positives {s}', f'{s}_fpr') for s in judged[1:])
    more += [
        Column('steps', lambda r: f'{r["steps"]:,}' if _is_trained(r) else '–'),
        Column('learning rate', lambda r: f'{r["learning_rate"]:g}' if _is_trained(r) else '–'),
        Column('best step', lambda r: f'{r["best_step"]:,}' if _is_trained(r) else '–'),
        Column('validation', lambda r: page.percent(r['validation_accuracy']) if _is_trained(r) else '–'),
    ]
    title = f'{model} is trained: every maj@k, steps, learning rate, validation'
    return Markup(main + tag('details', tag('summary', title), page.table(title, note, more, rows, starts)))


_DATA_NAMES = {'base': 'base (few-shot)', 'gold': 'gold solutions'}


def _share_or_reason(row, name):
    return tag('span', row['reason'], class_='reason') if row['reason'] else page.share(row, name)


def _data_name(row):
    return f'{row["data"]} data, {row["budget"]}' if row['budget'] else _DATA_NAMES[row['data']]


def _is_trained(row):
    return row['data'] != 'base' and not row['reason']


def _count(row, name):
    return '–' if row['data'] == 'base' or row[name] == '' else f'{row[name]:,}'


def _differences_table(rows):
    if not rows:
        return ''
    largest = max(int(row['metric'].split('@')[1]) for row in rows)
    grouped = {}
    for row in rows:
        grouped.setdefault((row['model'], row['budget'], row['split']), {})[row['metric']] = row
    keys = list(grouped)
    starts = [i for i in range(1, len(keys)) if keys[i][:2] != keys[i - 1][:2]]
    columns = [
        Column('trained model', lambda r: f'{r["pass@1"]["model"]}, {r["pass@1"]["budget"]}', text=True),
        Column('split', lambda r: r['pass@1']['split'], text=True),
    ]
    for metric in dict.fromkeys(('pass@1', f'maj@{largest}')):
        columns += [
            Column(metric, lambda r, m=metric: cells.difference(r[m]) if m in r else '–'),
            Column('detectable', lambda r, m=metric: cells.detectable(r[m]) if m in r else '–'),
            Column('problems', lambda r, m=metric: str(r[m]['problems']) or '–' if m in r else '–'),
        ]
    columns.append(
        Column('reading of pass@1', lambda r: cells.reading(r['pass@1'], 'weak data', 'strong data'), text=True)
    )
    note = (
        'In points, paired over the same problems. Detectable: the smallest difference found with 80% power. '
        f'{cells.holm_note(rows)} (Every maj@k counts; the choices above are weighed among themselves.)'
    )
    return page.table('Weak data minus strong data', note, columns, list(grouped.values()), starts)


def _gains_table(rows):
    if not rows:
        return ''
    starts = [i for i in range(1, len(rows)) if rows[i]['model'] != rows[i - 1]['model']]
    columns = [
        Column('trained model', lambda r: r['model'], text=True),
        Column('trained on', _data_name, text=True),
        Column('split', lambda r: r['split'], text=True),
        Column('trained − base', cells.difference),
        Column('detectable', cells.detectable),
        Column('reading', lambda r: cells.reading(r, 'trained', 'base'), text=True),
    ]
    note = f'pass@1 in points, paired over the same problems; the base model is few-shot. {cells.holm_note(rows)}'
    table = page.table('Gain over the base model', note, columns, rows, starts)
    return tag('details', tag('summary', 'Gain of every cell over its base model, as a table'), table)


def _gaps_table(rows):
    if not rows:
        return ''
    starts = [i for i in range(1, len(rows)) if rows[i]['model'] != rows[i - 1]['model']]
    columns = [
        Column('trained model', lambda r: r['model'], text=True),
        Column('trained on', _data_name, text=True),
        Column('static', lambda r: page.percent(r['static'])),
        Column('functional', lambda r: page.percent(r['functional'])),
        Column('static − functional', cells.difference),
        Column('detectable', cells.detectable),
        Column('problems', lambda r: f'{r["problems"]:,}'),
    ]
    note = (
        'pass@1 on problems as published and on the same problems with new numbers, in points, paired over them. A '
        f'model that has memorised problems is better on the static ones. {cells.holm_note(rows)}'
    )
    return page.table('Static against functional problems', note, columns, rows, starts)


def _votes_figures(scores, models, draw):
    if not figures.vote_counts(scores[0], 'test'):
        return ''
    budget = [row['budget'] for row in scores if row['budget']][-1:]
    ends = [row[f'test_maj@{k}'] for row in scores for k in figures.vote_counts(row, 'test')]
    top = min(1.0, max([end for end in ends if end != ''], default=1) + 0.06)
    made = []
    for model in models:
        rows = [row for row in scores if row['model'] == model and row['budget'] in ('', *budget)]
        ks = figures.vote_counts(rows[0], 'test')
        alt = f'maj@k on test of {model}: ' + '; '.join(
            f'{r["data"]} {page.percent(r[f"test_maj@{ks[0]}"])} at {ks[0]}, '
            f'{page.percent(r[f"test_maj@{ks[-1]}"])} at {ks[-1]}'
            for r in rows
        )
        caption = Markup(
            f'<b>Majority vote{", " + budget[0] + " budget" if budget else ""}.</b> All k from the same samples.'
        )
        made.append(draw(f'votes_{model}', figures.votes(rows, 'test', top), alt, caption, rows))
    return tag('div', *made, class_='figures three')
