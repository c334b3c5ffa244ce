"""The sections of the page, each a function from a run's tables to (anchor, title, HTML), or None without
data.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cosample_jax.analysis import significance
from cosample_jax.report import (
    ablations,
    apis,
    audit,
    data_quality,
    examples,
    figures,
    fine_tuning,
    lenses,
    page,
    paper,
    surer,
    verdict,
)
from cosample_jax.report.page import Column, Markup, tag

# draw(name, figure, alt, caption, rows, single=False) -> HTML; saves the figure and the rows behind it on the way.
Draw = Callable[..., Markup]
Section = tuple[str, str, Markup] | None


@dataclass(frozen=True)
class Run:
    """Everything the page says: tables (lists of rows) and facts, no pools and no models."""

    root: str
    config: dict
    versions: Sequence[dict] = ()
    analyses: Mapping[str, dict] = field(default_factory=dict)  # purpose -> analysis/<purpose>.json
    scores: Sequence[dict] = ()
    differences: Sequence[dict] = ()
    gains: Sequence[dict] = ()
    gaps: Sequence[dict] = ()
    judges: Sequence[dict] = ()  # of the evaluated models
    seen: Sequence[dict] = ()  # by the fine-tuned cells: `audit.seen`
    seeds: int = 0
    example: tuple | None = None
    timings: Sequence[dict] = ()
    precision: Sequence[dict] = ()
    ablations: Sequence[dict] = ()
    equal: lenses.Equal = lenses.Equal()
    apis: Sequence[dict] = ()  # `ledger.paid`

    @property
    def choices(self) -> list[verdict.Choice]:
        return verdict.choices(self.differences, self.scores, self.gains)

    @property
    def matched(self) -> list[dict]:
        return [row for document in self.analyses.values() for row in document['matched']]


def sections(run: Run, draw: Draw) -> list[tuple[str, str, Markup]]:
    """Every section that has something to say, verdict first."""
    made = (
        _verdict(run, draw),
        _experiment(run),
        lenses.section(run.equal, draw),
        *(data_quality.section(document, draw) for document in run.analyses.values()),
        audit.section(run.analyses.get('train'), run.seen, draw),
        fine_tuning.section(run.scores, run.differences, run.gains, run.gaps, run.judges, run.seeds, draw)
        if run.scores
        else None,
        ablations.section(run.ablations, draw) if run.ablations else None,
        paper.section(run.config, run.analyses.get('train', {}).get('matched', ()), run.differences),
        _example(run),
        _how_run(run),
    )
    return [section for section in made if section]


def _verdict(run, draw):
    chosen = run.choices
    parts = [page.paragraph('Which model should write the training data?', 'eyebrow')]
    parts.append(tag('h1', verdict.headline(chosen) if chosen else verdict.quality_headline(run.matched)))
    if not chosen:
        parts.append(
            page.paragraph('No model was trained in this run: this verdict is about the solutions alone.', 'soft')
        )
    sources = set(run.config['roles']['sources'])
    # Models that only recipes draw from are compared further down.
    main = [r for r in run.matched if r['budget'] == 'pool' or {r['model_a'], r['model_b']} <= sources]
    sentences = [*verdict.quality_sentences(main), *filter(None, [lenses.sentence(run.equal.flips)])]
    parts.append(tag('ul', *(tag('li', s) for s in sentences), class_='plain'))
    if chosen:
        more = {(row['model'], row['budget']): surer.sentence(row) for row in run.precision}
        cards = (_choice_card(choice, more.get((choice.model, choice.budget), '')) for choice in chosen)
        parts.append(tag('div', *cards, class_='choices'))
        parts.append(_sureness(run, chosen))
    hero = tag('div', *parts, class_='hero')
    rows = [r for r in run.differences if r['metric'] == 'pass@1' and r['difference'] != '']
    # The choices are a family, as the cards above have it, and so are those on every other split.
    splits = dict.fromkeys(row['split'] for row in rows)
    rows = [r for split in splits for r in significance.with_holm([row for row in rows if row['split'] == split])]
    below = ''
    if rows:
        caption = Markup(
            '<b>Weak minus strong data.</b> Each line is a 95% interval over the same test problems. Filled: beyond '
            'luck among all choices of the split; hollow: by itself alone; grey: not even that.'
        )
        alt = 'Difference in pass@1 of training on weak-model rather than strong-model data. ' + '; '.join(
            f'{r["model"]} {r["budget"]} {r["split"]} {verdict.points(r["difference"])} points' for r in rows
        )
        below = draw('verdict', figures.forest(rows), alt, caption, rows, single=True)
    return 'verdict', 'Verdict', Markup(tag('section', hero, below, id='verdict'))


def _choice_card(choice, more):
    return tag(
        'div',
        tag('span', f'{choice.model} is trained, {choice.budget} budget', class_='who'),
        tag('span', choice.title, class_=f'badge {choice.use}'),
        tag('span', choice.figure, class_='number') if choice.figure else '',
        page.paragraph(choice.detail),
        page.paragraph(more) if more else '',
        page.paragraph(choice.caution, 'caution') if choice.caution else '',
        class_='choice',
    )


def _sureness(run, chosen):
    lines = []
    if run.seeds < 3:
        seeds = 'one training seed' if run.seeds == 1 else f'{run.seeds} training seeds'
        lines.append(
            Markup(
                f'<b>This run, not this method.</b> With {seeds} the intervals cover the choice of test '
                'problems, not the luck of training again; a claim about the method needs three seeds or '
                'more.'
            )
        )
    trained = len({(r['model'], r['budget'], r['data']) for r in run.scores if r['budget'] and not r['reason']})
    lines += filter(None, [surer.seeds(run.timings, trained * run.seeds, run.seeds)])
    compared = sum(c.detectable is not None for c in chosen)
    if compared > 1:
        lines.append(
            f'The intervals are 95% each. The choices allow for there being {compared} of them (Holm’s adjustment): '
            'where there is no difference at all, at most one run in twenty names a better source by luck.'
        )
    return tag('div', *map(page.paragraph, lines), class_='note') if lines else ''


def _experiment(run):
    task, budget = run.config['task'], run.config['budget']
    strong, weak, ratio = budget['strong'], budget['weak'], budget['ratio']
    levels = ' and '.join(
        f'{weak[level]:.3g} against {strong[level]} samples a problem at the {level} budget'
        for level in budget['levels']
    )
    lead = []
    if any(row['matching'] == 'compute' for row in run.matched):
        lead.append(
            'A budget for sampling buys many solutions from a weak, cheap model or few from a strong, '
            f'expensive one: here one strong sample costs as much as {ratio:.3g} weak ones, so {levels} '
            'are compared.'
        )
        lead.append(
            f'Both models solve the same {run.analyses["train"]["problems"]} training problems '
            f'({task["name"]}), and a solution is kept when its final answer is right, whatever its '
            'reasoning.'
        )
    else:
        lead.append(
            'Solutions were graded against the known final answers and compared; the models behind them were '
            'not matched to one budget.'
        )
    if run.scores:
        trained = run.config['roles']['trained']
        many = {1: 'One model', 2: 'Two models', 3: 'Three models'}[len(trained)]
        lead.append(
            f'{many} ({", ".join(trained)}) {"are" if len(trained) > 1 else "is"} then trained on the one '
            'set or the other, for equally many steps from the same start, and tested on problems that '
            'neither set contains.'
        )
        if not paper.matches(run.config):
            lead.append(
                'The paper that asked the question first (arXiv 2408.16737) used Gemma2-9B and Gemma2-27B on MATH and '
                'GSM8K. Its numbers belong to that setting and do not stand beside these.'
            )
    words = (
        ('coverage@k', 'share of problems with a correct solution among k samples (unbiased estimate).'),
        (
            'diversity@k',
            'expected number of different correct solutions of a problem among k samples: different as '
            'texts, or (computation) as sequences of numbers and operators.',
        ),
        ('false positive', 'a kept solution: right final answer, wrong reasoning.'),
        ('pass@1', 'share of test problems whose one greedy solution is correct.'),
        (
            'maj@k',
            'share of test problems whose most frequent answer among k samples is correct; a tie goes to '
            'the answer sampled first.',
        ),
        (
            'base, gold',
            'the model before fine-tuning, shown examples (few-shot); and trained on reference solutions.',
        ),
        ('point', 'a percentage point. Differences are in points, never in percent of a percentage.'),
        (
            'smallest detectable difference',
            'what this many problems find in four of five runs (80% power, two-sided 5%).',
        ),
        (
            'measurable, *',
            'significant at 5% after Holm’s adjustment, which allows for the number of comparisons: of all those in a '
            'table, or of all choices, even one would be there by luck in at most one run in twenty.',
        ),
    )
    glossary = tag(
        'details',
        tag('summary', 'The words used here'),
        tag(
            'ul',
            *(tag('li', Markup(f'<b>{page.escape(word)}</b>: {page.escape(text)}')) for word, text in words),
            class_='plain',
        ),
    )
    listed = tag('ol', *(tag('li', sentence) for sentence in lead), class_='plain')
    body = listed if len(lead) > 1 else page.paragraph(lead[0]), glossary
    return 'experiment', 'The experiment', page.section('experiment', 'The experiment', *body)


def _example(run):
    if run.example is None:
        return None
    problem, chosen = run.example
    level = f', level {problem.level}' if problem.level else ''
    question = tag(
        'div',
        page.paragraph(f'{problem.id}{level}', 'eyebrow'),
        tag('pre', problem.question),
        page.paragraph('Reference solution', 'eyebrow') if problem.solution else '',
        tag('pre', problem.solution) if problem.solution else '',
        page.paragraph(f'Final answer: {problem.answer}', 'soft'),
        class_='card example',
    )
    names = {examples.RIGHT: 'right', examples.FALSE: 'false', examples.WRONG: 'wrong'}
    cards = [
        tag(
            'article',
            tag(
                'header',
                tag('span', f'{e.model}, sample {e.sample_index}'),
                tag('span', e.kind, class_=f'badge {names[e.kind]}'),
            ),
            tag('pre', e.text.strip()),
            page.paragraph(f'The reasoning: {e.reason}', 'soft') if e.reason else '',
            class_='card example sample',
        )
        for e in chosen
    ]
    body = question, tag('div', *cards, class_='samples')
    return 'example', 'An example', page.section('example', 'An example', *body)


def _how_run(run):
    parts = []
    if run.timings:
        columns = [
            Column('stage', lambda r: r['stage'], text=True),
            Column('predicted, s', lambda r: f'{r["predicted"]:,.1f}' if r['predicted'] != '' else '–'),
            Column('real, s', lambda r: f'{r["seconds"]:,.1f}'),
            Column(
                'real / predicted',
                lambda r: f'{r["seconds"] / r["predicted"]:.2f}' if r['predicted'] else '–',
            ),
            Column('tokens', lambda r: f'{r["tokens"]:,.0f}' if r['tokens'] else '–'),
            Column('attempts', lambda r: str(r['attempts'])),
        ]
        note = 'Seconds of the attempt that finished; more than one attempt: it was interrupted and resumed.'
        parts.append(page.table('Predicted and real time', note, columns, run.timings, [len(run.timings) - 1]))
    if run.apis:
        parts.append(apis.table(run.apis))
    parts.append(page.paragraph('To continue or repeat this run (finished stages are skipped):'))
    parts.append(tag('pre', f'cosample run --workdir={run.root}', class_='command'))
    parts.append(
        page.paragraph(
            'To run it anew elsewhere, save the configuration below as config.json in an empty directory '
            'and name that directory as --workdir. The same slots, devices and versions give the same '
            'tables.'
        )
    )
    if run.versions:
        last = run.versions[-1]
        parts.append(
            page.paragraph('Made with ' + ', '.join(f'{name} {value}' for name, value in last.items() if value), 'soft')
        )
        if len(run.versions) > 1:
            parts.append(page.paragraph(f'The run saw {len(run.versions)} environments; the last is named.', 'soft'))
    resolved = tag('pre', json.dumps(run.config, indent=1, sort_keys=True))
    parts.append(tag('details', tag('summary', 'Resolved configuration'), resolved))
    return 'run', 'How it was run', page.section('run', 'How it was run', *parts)
