"""What the paper published, beside a run of the paper's setting; beside any other run it would mislead.

Bansal et al. 2024, arXiv 2408.16737; Gemma2-9B (weak) and Gemma2-27B (strong) as sources, MATH / GSM8K.
"""

from collections.abc import Mapping, Sequence

from cosample_jax.report import cells, page, verdict
from cosample_jax.report.page import Column

TASKS = {'math': ('MATH', 0), 'gsm8k': ('GSM8K', 1)}  # how it is called, and which of the values below is its own
MODELS = {'weak': 'gemma2_9b', 'strong': 'gemma2_27b', 'student': 'gemma_7b'}
BUDGETS = {'low': (3, 1), 'high': (30, 10)}  # samples a problem, weak and strong
# (trained model, budget) -> points of pass@1 that weak data gained over strong data.
GAINS = {
    ('student', 'low'): ('+6.0', '+4.2'),
    ('student', 'high'): ('+5.8', '+1.3'),
    ('weak', 'low'): ('+3.8', '+1.5'),
    ('weak', 'high'): ('+2.0', '≈ 0'),
    ('strong', 'low'): ('+5.8', '+1.2'),
    ('strong', 'high'): ('+4.3', '+1.5'),
}
# (metric, budget) -> relative change, weak over strong, at equal compute.
RELATIVE = {
    ('coverage', 'low'): ('+11%', '+8%'),
    ('coverage', 'high'): ('+6%', '+1%'),
    ('diversity', 'low'): ('+86%', '+134%'),
    ('diversity', 'high'): ('+125%', '+158%'),
}
FALSE_POSITIVES = ('+7', '+2')  # points, weak minus strong, at the high budget


def matches(config: Mapping) -> bool:
    """Whether the task and the sources of a resolved configuration are the paper's."""
    sources = (config['models'][name]['variant'] == MODELS[name] for name in ('weak', 'strong'))
    return config['task']['name'] in TASKS and all(sources)


def section(config: Mapping, matched: Sequence[dict], differences: Sequence[dict]):
    """(anchor, title, HTML) from the tables `matched` of the training pools and `differences`; None where the setting
    is another or nothing was measured. A budget with other counts and a trained model that is another are left out.
    """
    if not matches(config):
        return None
    name, which = TASKS[config['task']['name']]
    rows = {
        (r['metric'], r['budget']): r
        for r in matched
        if r['matching'] == 'compute' and (r['k_a'], r['k_b']) == BUDGETS[r['budget']]
    }
    budgets = {budget for _, budget in rows}
    points = [
        {'what': f'pass@1, {r["model"]} trained, {r["budget"]}', 'row': r, 'paper': paper[which]}
        for r in differences
        if (r['split'], r['metric']) == ('test', 'pass@1') and r['difference'] != '' and r['budget'] in budgets
        if (paper := GAINS[r['model'], r['budget']]) and config['models'][r['model']]['variant'] == MODELS[r['model']]
    ]
    if ('fpr', 'high') in rows:
        paper = FALSE_POSITIVES[which]
        points.append({'what': 'false positives, high budget', 'row': rows['fpr', 'high'], 'paper': paper})
    relative = [
        {'what': f'{key[0]}, {key[1]} budget', 'row': rows[key], 'paper': paper[which]}
        for key, paper in RELATIVE.items()
        if key in rows
    ]
    tables = [
        page.table(title, note, _columns(header, f'paper, {name}', value), found)
        for title, note, header, value, found in (
            ('In points', '', 'weak minus strong', lambda r: cells.difference(r['row']), points),
            ('Relative change', 'In percent of the strong model’s value.', 'weak over strong', _relative, relative),
        )
        if found
    ]
    if not tables:
        return None
    lead = (
        f'The paper (arXiv 2408.16737) drew its data from the same pair, Gemma2-9B and Gemma2-27B, for {name}. Its '
        'prompts, checkpoints and code were not published, so equal numbers are not to be expected.'
    )
    title = 'Beside the paper'
    return 'paper', title, page.section('paper', title, page.paragraph(lead), *tables)


def _columns(header, published, value):
    return [
        Column(header, lambda r: r['what'], text=True),
        Column(published, lambda r: r['paper']),
        Column('this run', value),
        Column('direction', lambda r: _direction(r['row'], r['paper']), text=True),
    ]


def _relative(row):
    row = row['row']
    return f'{100 * (row["a"] / row["b"] - 1):+.0f}%'.replace('-', '−') if row['b'] else '–'


def _direction(row, published):
    if not verdict.higher(row):
        return 'not measurable here'
    if not published.startswith('+'):
        return 'about even in the paper'
    return 'as in the paper' if row['difference'] > 0 else 'against the paper'
