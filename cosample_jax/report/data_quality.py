"""The section on data quality: what one purpose's pools are worth, in figures and tables."""

from cosample_jax.report import cells, figures, judging, page
from cosample_jax.report.page import Column, Markup, tag


def section(document: dict, draw) -> tuple[str, str, Markup]:
    """(anchor, title, HTML) from an analysis document; `draw` as in `sections`."""
    purpose = document['purpose']
    title = 'Data quality' if purpose == 'train' else f'Data quality ({purpose} problems)'
    anchor = 'quality' if purpose == 'train' else f'quality-{purpose}'
    parts = [page.paragraph(_quality_lead(document))]
    parts += [_curve_figures(document, purpose, draw)]
    for metric, heading, note in (
        ('coverage', 'Coverage: problems solved', 'Differences in points.'),
        (
            'diversity',
            'Diversity: unique correct solutions a problem',
            'Unique as texts; differences in solutions.',
        ),
        (
            'diversity_skeleton',
            'Diversity: unique correct computations a problem',
            'Unique as sequences of numbers and operators; differences in solutions.',
        ),
        (
            'fpr',
            'False positives among the kept solutions',
            'Intervals of the rates: Wilson; of the difference: over problems. Differences in points.',
        ),
    ):
        rows = [row for row in document['matched'] if row['metric'] == metric]
        if rows:
            note = f'{note} {cells.holm_note(document["matched"])}'
            parts.append(_matched_table(heading, note, rows, counted=metric.startswith('diversity')))
    parts.append(_other_figures(document, purpose, draw))
    parts += [
        _kept_table(document['kept']),
        judging.tables(document['judges'], document['agreement'], document['judge']),
        _overlap_table(document['overlap']),
        _level_table(document['by_level']),
    ]
    parts.append(_models_table(document['models']))
    return anchor, title, page.section(anchor, title, *parts)


def _quality_lead(document):
    models = {row['model']: row for row in document['models']}
    lead = f'{document["problems"]} problems that every model sampled'
    lead += f' ({document["left_out"]} others are left out). ' if document['left_out'] else '. '
    for row in document['matched']:
        a, b = models[row['model_a']], models[row['model_b']]
        known = a['flops_per_token'] and b['flops_per_token'] and a['mean_tokens'] and b['mean_tokens']
        if row['matching'] == 'compute' and row['metric'] == 'coverage' and known:
            real = (
                row['k_a']
                * a['flops_per_token']
                * a['mean_tokens']
                / (row['k_b'] * b['flops_per_token'] * b['mean_tokens'])
            )
            lead += (
                'Equal cost assumes equally long solutions, as the paper does; with the lengths measured '
                f'here ({a["mean_tokens"]:.0f} and {b["mean_tokens"]:.0f} tokens) the {row["model_a"]} '
                f'side cost {real:.2f} times the {row["model_b"]} side, by 2P.'
            )
            break
    return lead


def budget_counts(document: dict) -> dict[str, dict[str, float]]:
    """budget -> model -> samples a problem, of an analysis document."""
    budgets = {}
    for row in document['matched']:
        if row['matching'] == 'compute':
            budgets[row['budget']] = {row['model_a']: row['k_a'], row['model_b']: row['k_b']}
    return budgets


def _curve_figures(document, purpose, draw):
    rows, budgets = document['curves'], budget_counts(document)
    if max(row['k'] for row in rows) == 1:
        return ''  # one sample a problem is a table's business
    made = []
    for metric, name in (('coverage', 'Coverage'), ('diversity', 'Diversity')):
        ends = {row['model']: row for row in rows}
        alt = f'{name} against samples a problem, one line a model with 95% bands. At its last point: ' + '; '.join(
            f'{model} {row[metric]:.3g} with {row["k"]} samples' for model, row in ends.items()
        )
        caption = Markup(
            f'<b>{name} against samples</b>: equal numbers stand above each other. Bands: 95%, over problems.'
        )
        figure = figures.quality_curve(rows, metric, budgets)
        made.append(draw(f'{purpose}_{metric}', figure, alt, caption, rows))
    return tag('div', *made, class_='figures')


def _other_figures(document, purpose, draw):
    made = []
    for budget in dict.fromkeys(row['budget'] for row in document['by_level']):
        rows = [row for row in document['by_level'] if row['budget'] == budget]
        pair = (rows[0]['model_a'], rows[0]['model_b'])
        rows = [row for row in rows if (row['model_a'], row['model_b']) == pair]
        alt = 'Problems solved by difficulty level: ' + '; '.join(
            f'level {r["level"]} {pair[0]} {page.percent(r["a"], 0)}, {pair[1]} {page.percent(r["b"], 0)}' for r in rows
        )
        label = f'{budget} budget' if budget != 'pool' else 'equal number of samples'
        caption = Markup(f'<b>By difficulty, {label}.</b> n: problems of the level. Whiskers: 95%.')
        made.append(draw(f'{purpose}_levels_{budget}', figures.levels(rows), alt, caption, rows))
    if document['overlap']:
        alt = 'Share of problems solved by both, one or neither model. ' + '; '.join(
            f'{r["budget"]}, equal {"cost" if r["matching"] == "compute" else "number"}: both '
            f'{r["both"]}, only {r["model_a"]} {r["only_a"]}, only {r["model_b"]} {r["only_b"]}, neither '
            f'{r["neither"]}'
            for r in document['overlap']
        )
        caption = Markup(
            '<b>Who solves what.</b> A problem counts as solved when one of the samples really drawn is correct.'
        )
        made.append(draw(f'{purpose}_overlap', figures.overlap(document['overlap']), alt, caption, document['overlap']))
    judged = [row for row in document['kept'] if row['judged']]
    if judged:
        alt = 'False-positive rates: ' + '; '.join(
            f'{r["model"]} {r["budget"]} {page.percent(r["fpr"])}' for r in judged
        )
        caption = Markup(
            '<b>False positives</b>: kept for a right answer although the reasoning is wrong. Lines: 95% (Wilson).'
        )
        made.append(draw(f'{purpose}_false_positives', figures.false_positives(judged), alt, caption, judged))
    return tag('div', *made, class_='figures') if made else ''


def _matching_with_counts(row):
    return Markup(page.escape(cells.matching(row)) + tag('small', f'{row["k_a"]:.4g} and {row["k_b"]:.4g} a problem'))


def _side(row, side, counted):
    if not counted:
        return page.share(row, side)
    return page.with_interval(f'{row[side]:.2f}', f'{row[f"{side}_low"]:.2f}', f'{row[f"{side}_high"]:.2f}')


def _same_pair(rows):
    return len({(row['model_a'], row['model_b']) for row in rows}) == 1


def _matched_table(title, note, rows, counted):
    one = _same_pair(rows)
    a, b = (rows[0]['model_a'], rows[0]['model_b']) if one else ('first', 'second')
    columns = [Column('comparison', _matching_with_counts, text=True)]
    if not one:
        columns.append(Column('first / second', lambda r: f'{r["model_a"]} / {r["model_b"]}', text=True))
    columns += [
        Column(a, lambda r: _side(r, 'a', counted)),
        Column(b, lambda r: _side(r, 'b', counted)),
        Column(f'{a} − {b}', lambda r: cells.difference(r, counted)),
        Column('detectable', lambda r: cells.detectable(r, counted)),
        Column('reading', lambda r: cells.reading(r, r['model_a'], r['model_b']), text=True),
    ]
    return page.table(title, f'{note} Small print: 95% intervals.', columns, rows)


def _kept_table(rows):
    columns = [
        Column('budget', lambda r: r['budget'], text=True),
        Column('source', lambda r: r['model'], text=True),
        Column('samples', lambda r: f'{r["samples"]:,}'),
        Column('kept', lambda r: f'{r["kept"]:,}'),
        Column('unique texts', lambda r: f'{r["unique"]:,}'),
        Column('unique computations', lambda r: f'{r["unique_skeleton"]:,}'),
        Column('problems solved', lambda r: f'{r["problems_solved"]} of {r["problems"]}'),
    ]
    if any(row['judged'] for row in rows):
        columns.append(Column('judged', lambda r: f'{r["judged"]:,}'))
        columns.append(Column('false positives', lambda r: page.share(r, 'fpr')))
    return page.table('What is left to train on', 'Counted in the samples really drawn for each budget.', columns, rows)


def _overlap_table(rows):
    if not rows:
        return ''
    one = _same_pair(rows)
    a, b = (rows[0]['model_a'], rows[0]['model_b']) if one else ('the first', 'the second')
    columns = [Column('comparison', cells.matching, text=True)]
    if not one:
        columns.append(Column('first / second', lambda r: f'{r["model_a"]} / {r["model_b"]}', text=True))
    columns += [
        Column('both', lambda r: str(r['both'])),
        Column(f'only {a}', lambda r: str(r['only_a'])),
        Column(f'only {b}', lambda r: str(r['only_b'])),
        Column('neither', lambda r: str(r['neither'])),
        Column('problems', lambda r: str(r['problems'])),
    ]
    return page.table('Overlap of the solved problems', 'Numbers of problems.', columns, rows)


def _level_table(rows):
    if not rows:
        return ''
    starts = [i for i in range(1, len(rows)) if cells.matching(rows[i]) != cells.matching(rows[i - 1])]
    one = _same_pair(rows)
    a, b = (rows[0]['model_a'], rows[0]['model_b']) if one else ('first', 'second')
    columns = [Column('comparison', lambda r: f'{cells.matching(r)}, level {r["level"]}', text=True)]
    if not one:
        columns.append(Column('first / second', lambda r: f'{r["model_a"]} / {r["model_b"]}', text=True))
    columns += [
        Column('problems', lambda r: str(r['problems'])),
        Column(a, lambda r: page.share(r, 'a')),
        Column(b, lambda r: page.share(r, 'b')),
        Column(f'{a} − {b}', cells.difference),
        Column('detectable', cells.detectable),
    ]
    note = f'Differences in points. {cells.holm_note(rows)}'
    inner = page.table('Coverage by difficulty level', note, columns, rows, starts)
    return tag('details', tag('summary', 'Coverage by difficulty level, as a table'), inner)


def _models_table(rows):
    columns = [
        Column('model', lambda r: r['model'], text=True),
        Column('problems', lambda r: f'{r["problems"]:,}'),
        Column('samples', lambda r: f'{r["samples"]:,}'),
        Column(
            'a problem',
            lambda r: '–'.join(dict.fromkeys(f'{r[n]}' for n in ('fewest_per_problem', 'most_per_problem'))),
        ),
        Column('correct', lambda r: page.percent(r['correct'] / r['samples'])),
        Column('without answer', lambda r: f'{r["without_answer"]:,}'),
        Column('cut at the limit', lambda r: f'{r["truncated"]:,}'),
        Column('tokens a sample', lambda r: f'{r["mean_tokens"]:.1f}' if r['mean_tokens'] else 'unknown'),
        Column(
            'FLOPs a token (2P)',
            lambda r: f'{r["flops_per_token"]:.3g}' if r['flops_per_token'] else 'unknown',
        ),
    ]
    return page.table('The pools', '', columns, rows)
