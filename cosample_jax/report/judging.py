"""Tables of the judges of reasoning: what each found, and how they agree with people."""

from collections.abc import Sequence

from cosample_jax.analysis.agreement import ALL_MODELS
from cosample_jax.report import page
from cosample_jax.report.page import Column, Markup, tag


def tables(judges: Sequence[dict], agreement: Sequence[dict], main: str) -> Markup:
    """Both tables of one purpose; `main` is the judge whose verdicts the other tables count."""
    if not judges:
        return Markup('')
    title = 'False positives by every judge'
    note = f'Every other table counts the verdicts of {main}.' if main else ''
    return Markup(judges_table(title, judges, note) + _agreement(agreement))


def judges_table(title: str, rows: Sequence[dict], note: str = '') -> Markup:
    """Rows of `analysis.agreement.judges_table`, with a `split` or without."""
    columns = [Column('solutions of', lambda r: r['model'], text=True)]
    if 'split' in rows[0]:
        columns.append(Column('split', lambda r: r['split'], text=True))
    columns += [
        Column('judge', lambda r: r['judge'], text=True),
        Column('judged', lambda r: f'{r["judged"]:,}'),
        Column('wrong', lambda r: f'{r["false_positives"]:,}'),
        Column('false positives', lambda r: page.share(r, 'fpr')),
        Column('nothing to judge', lambda r: f'{r["unchecked"]:,}'),
    ]
    if any(row['unparsable'] for row in rows):
        columns.append(Column('no verdict', lambda r: f'{r["unparsable"]:,}'))
    if any(row['corrected'] != '' or row['note'] for row in rows):
        columns.append(Column('corrected by people', _corrected))
        note += ' Corrected for the errors of the judge where people judged the same solutions (Rogan and Gladen 1978).'
    starts = [i for i in range(1, len(rows)) if rows[i]['model'] != rows[i - 1]['model']]
    return page.table(title, f'{note} Small print: 95% intervals.'.strip(), columns, rows, starts)


def _corrected(row: dict) -> Markup:
    return tag('span', row['note'], class_='reason') if row['note'] else page.share(row, 'corrected')


def _agreement(rows: Sequence[dict]) -> Markup:
    if not rows:
        return Markup('')
    columns = [
        Column('judge', lambda r: r['judge'], text=True),
        Column('solutions of', lambda r: 'all models' if r['model'] == ALL_MODELS else r['model'], text=True),
        Column('both judged', lambda r: f'{r["labelled"]:,}'),
        Column('both wrong', lambda r: f'{r["wrong_wrong"]:,}'),
        Column('judge only', lambda r: f'{r["wrong_valid"]:,}'),
        Column('people only', lambda r: f'{r["valid_wrong"]:,}'),
        Column('both valid', lambda r: f'{r["valid_valid"]:,}'),
        Column('sensitivity', lambda r: page.percent(r['sensitivity'], 0)),
        Column('specificity', lambda r: page.percent(r['specificity'], 0)),
        Column("Cohen's kappa", _kappa),
    ]
    note = 'Solutions that both called valid or wrong; only: wrong to one of the two. Small print: 95% intervals.'
    return page.table('Judges against people', note, columns, rows)


def _kappa(row: dict) -> Markup:
    if row['kappa'] == '':
        return tag('span', 'undefined: one verdict only', class_='reason')
    return page.with_interval(*(f'{row[name]:.2f}' for name in ('kappa', 'kappa_low', 'kappa_high')))
