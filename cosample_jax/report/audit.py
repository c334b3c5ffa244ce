"""The section on the audit: which drawn solutions became training data, and of which problems."""

from collections.abc import Sequence

from cosample_jax.analysis import audit
from cosample_jax.report import audit_figures, page
from cosample_jax.report.page import Column, Markup, tag


def section(document: dict | None, seen: Sequence[dict], draw) -> tuple[str, str, Markup] | None:
    """(anchor, title, HTML) from the analysis of the training pools and the rows of `audit.seen`; `draw` as in
    `sections`. None where the run has no training data of its own.
    """
    if not document or not document['audit_drops']:
        return None
    parts = [
        page.paragraph(
            'A filter that keeps right answers keeps many solutions of easy problems and few of hard ones. This is '
            'what it did to the samples drawn here, and what training then saw.'
        ),
        _drops_table(document['audit_drops']),
        tag('div', _survivors_figure(document, draw), *_rate_figures(document, draw), class_='figures three'),
        _evenness_table(document['audit_problems']),
        _groups_table(document['audit_groups']),
        _seen_table(seen),
    ]
    return 'kept', 'Kept and dropped', page.section('kept', 'What was kept, what was dropped', *parts)


def _name(row):
    """One name a source where it is the data's, both where the data mixes sources."""
    who = row['data'] if row['data'] == row['source'] else f'{row["data"]}: {row["source"]}'
    return f'{who}, {row["budget"]}'


def _drops_table(rows):
    reasons = [reason for reason in audit.REASONS if any(row[reason] for row in rows)]
    columns = [
        Column('source, budget', _name, text=True),
        Column('samples', lambda r: f'{r["samples"]:,}'),
        Column('kept', lambda r: _count(r, audit.KEPT)),
        *(Column(reason, lambda r, reason=reason: _count(r, reason)) for reason in reasons),
    ]
    note = 'Each sample counts once, under the first reason that holds; in percent of the samples below.'
    return page.table('Why samples were dropped', note, columns, rows)


def _count(row, name):
    return Markup(f'{row[name]:,}{tag("small", page.percent(row[name] / row["samples"]))}')


def _evenness_table(rows):
    columns = [
        Column('source, budget', _name, text=True),
        Column('kept', lambda r: f'{r["kept"]:,}'),
        Column('a problem', lambda r: f'{r["mean"]:.2f}'),
        Column('most', lambda r: str(r['most'])),
        Column('problems without', lambda r: _share(r['without'], r['problems'])),
        Column('even as', lambda r: '–' if r['effective'] == '' else f'{r["effective"]:,.0f} problems'),
        Column('top tenth has', lambda r: page.percent(r['top'], 0)),
    ]
    note = (
        f'Of {rows[0]["problems"]:,} problems. Even as: so many problems with equally many solutions each would be as '
        'even (1 / sum of squared shares). Top tenth: the share of the solutions that the tenth of the problems with '
        'the most has.'
    )
    return page.table('How evenly problems are represented', note, columns, rows)


def _share(count, total):
    return Markup(f'{count:,}{tag("small", page.percent(count / total))}')


def _groups_table(rows):
    if not rows:
        return ''
    starts = [
        i for i in range(1, len(rows)) if (_name(rows[i]), rows[i]['by']) != (_name(rows[i - 1]), rows[i - 1]['by'])
    ]
    columns = [
        Column('source, budget', _name, text=True),
        Column('samples of', lambda r: f'level {r["group"]}' if r['by'] == 'level' else r['group'], text=True),
        Column('samples', lambda r: f'{r["samples"]:,}'),
        Column('kept', lambda r: f'{r["kept"]:,}'),
        Column('share kept', lambda r: page.share(r, 'rate')),
    ]
    title = 'Share kept by level, subject and length'
    note = 'Lengths: fifths of all samples that ended by themselves. Small print: 95% intervals, over problems.'
    inner = page.table(title, note, columns, rows, starts)
    return tag('details', tag('summary', f'{title}, as a table'), inner)


def _seen_table(rows):
    if not rows:
        return ''
    starts = [i for i in range(1, len(rows)) if rows[i]['model'] != rows[i - 1]['model']]
    columns = [
        Column('trained model', lambda r: r['model'], text=True),
        Column('solutions of, budget', _name, text=True),
        Column('seed', lambda r: str(r['seed'])),
        Column('kept', lambda r: f'{r["kept"]:,}'),
        Column('examples seen', lambda r: f'{r["examples"]:,}'),
        Column('different', lambda r: f'{r["unique"]:,}'),
        Column('problems', lambda r: f'{r["problems"]:,}'),
        Column('epochs', lambda r: f'{r["epochs"]:.1f}'),
        Column('tokens seen', lambda r: f'{r["tokens"]:,}'),
        Column('learned', lambda r: f'{r["loss_tokens"]:,}'),
    ]
    if any(row['too_long'] for row in rows):
        columns.append(Column('too long for a row', lambda r: f'{r["too_long"]:,}'))
    note = 'Of one run from its first step to its last. Learned: the tokens on which the loss falls, the solutions’.'
    return page.table('What training saw', note, columns, rows, starts)


def _survivors_figure(document, draw):
    rows, evenness = document['audit_survivors'], document['audit_problems']
    alt = 'Share of the problems that keep at least so many solutions, one line a source and budget. ' + '; '.join(
        f'{_name(r)}: {page.percent(1 - r["without"] / r["problems"], 0)} keep one or more, the most is {r["most"]}'
        for r in evenness
    )
    caption = Markup('<b>Survivors of a problem.</b> Which share of the problems keeps at least so many solutions.')
    return draw('audit_survivors', audit_figures.survivors(rows), alt, caption, rows)


def _rate_figures(document, draw):
    budget = document['audit_drops'][-1]['budget']
    for by, title, axis in (('level', 'By difficulty', 'difficulty level'), ('length', 'By length', 'tokens')):
        rows = [r for r in document['audit_groups'] if r['by'] == by and r['budget'] == budget]
        if rows:
            alt = f'Share of the samples kept {title.lower()}: ' + '; '.join(
                f'{r["source"]} {r["group"]} {page.percent(r["rate"], 0)}' for r in rows
            )
            caption = Markup(f'<b>{title}, {budget} budget.</b> Which share of the samples is kept. Whiskers: 95%.')
            yield draw(f'audit_{by}', audit_figures.keep_rates(rows, axis), alt, caption, rows)
