"""The section on equal cost: each lens a panel, and where the better source changes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cosample_jax.report import drawing, page, verdict
from cosample_jax.report.drawing import MUTED
from cosample_jax.report.page import Column, Markup, tag


@dataclass(frozen=True)
class Lens:
    """How a lens of :mod:`cosample_jax.budget` is called (`name`: within a sentence), what it counts, what fills it."""

    title: str
    name: str
    unit: str
    counts: str
    needs: str


LENSES = {
    'params': Lens('2P FLOPs, as the paper', '2P FLOPs', 'FLOPs', 'twice the parameters a generated token', ''),
    'flops': Lens('All FLOPs', 'all FLOPs', 'FLOPs', 'every matrix product, prompts and attention included', ''),
    'price': Lens(
        'Price',
        'price',
        'US$',
        'what an API asks for prompts and solutions',
        'prices of both models, config.models.MODEL.price',
    ),
    'chip_seconds': Lens(
        'Chip-seconds',
        'chip-seconds',
        'chip-seconds',
        'what sampling took here, compilation included',
        'pools sampled by this run',
    ),
}


@dataclass(frozen=True)
class Equal:
    """Tables of `analysis.lenses`: `curves`, `flips`; `note` is why nothing is known, `device` what was timed."""

    curves: Sequence[dict] = ()
    flips: Sequence[dict] = ()
    note: str = ''
    device: str = ''
    budgets: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def section(equal: Equal, draw) -> tuple[str, str, Markup] | None:
    """(anchor, title, HTML); None where neither a lens is known nor a reason. `draw` as in `sections`."""
    if not equal.curves:
        if not equal.note:
            return None
        return 'lenses', 'At equal cost', page.section('lenses', 'At equal cost', page.paragraph(_unknown(equal)))
    known = [lens for lens in LENSES if any(row['lens'] == lens for row in equal.curves)]
    tops = {metric: 1.06 * max(row[f'{metric}_high'] for row in equal.curves) for metric in ('coverage', 'diversity')}
    made = []
    for lens in known:
        rows = [row for row in equal.curves if row['lens'] == lens]
        found = [row for row in equal.flips if row['lens'] == lens]
        about = LENSES[lens].counts + (f', on {equal.device}' if lens == 'chip_seconds' else '')
        read = [f'{_METRICS[row["metric"]]}: {reading(row)}' for row in found]
        caption = Markup(
            f'<b>{page.escape(LENSES[lens].title)}</b>: {page.escape(about)}. '
            f'{page.escape(" ".join(f"{text[0].upper()}{text[1:]}." for text in read))}'
        )
        alt = f'Problems solved, and below unique correct solutions, against {LENSES[lens].title} a problem. '
        alt += (
            '; '.join(read)
            + '. At the last point: '
            + '; '.join(
                f'{r["model"]} {page.percent(r["coverage"])}, {r["diversity"]:.2f} solutions, at {quantity(r["cost"])}'
                for r in {row['model']: row for row in rows}.values()
            )
        )
        made.append(draw(f'lenses_{lens}', panel(rows, found, LENSES[lens], equal.budgets, tops), alt, caption, rows))
    parts = [
        page.paragraph(
            'The same samples against what they cost. Above each other stand equal costs, so the higher curve is the '
            'better buy; a vertical line marks where that changes. Each curve begins at one sample a problem.'
        ),
        tag('div', *made, class_=f'figures {_WORDS.get(len(made), "")}'.strip()),
        _table(equal.flips),
    ]
    missing = [lens for lens in LENSES if lens not in known]
    if missing:
        each = (f'{LENSES[lens].name} (needs {LENSES[lens].needs})' for lens in missing)
        parts.append(page.paragraph(f'Not known for this run: {"; ".join(each)}.', 'soft'))
    return 'lenses', 'At equal cost', page.section('lenses', 'At equal cost', *parts)


_WORDS = {3: 'three', 4: 'four'}
_METRICS = {'coverage': 'problems solved', 'diversity': 'unique solutions'}
_AXES = {'coverage': 'problems solved, %', 'diversity': 'unique correct a problem'}


def _unknown(equal):
    return f'What the samples cost is not known: {equal.note}.'


def panel(rows: Sequence[dict], found: Sequence[dict], lens: Lens, budgets, tops: Mapping[str, float]):
    """One lens: coverage above diversity, against cost; `tops` end the vertical axes, which all panels share."""
    with drawing.style():
        figure, axes = drawing.canvas(width=3.6, height=5.2, rows=2, sharex=True)
        for axis, metric in zip(axes, tops, strict=True):
            drawing.curves(axis, rows, 'cost', metric, budgets)
            for row in found:
                if row['metric'] == metric and row['crossing'] != '':
                    axis.axvspan(row['crossing_low'], row['crossing_high'], color=MUTED, alpha=0.12, linewidth=0)
                    axis.axvline(row['crossing'], color=MUTED, linewidth=1.2, linestyle=(0, (4, 2)))
            axis.set_ylim(0, tops[metric] * (100 if metric == 'coverage' else 1))
            axis.set_ylabel(_AXES[metric])
        figure.legend(*axes[0].get_legend_handles_labels(), loc='outside upper center', ncols=4)
        ticks = _ticks(min(row['cost'] for row in rows), max(row['cost'] for row in rows))
        axes[-1].set_xticks(ticks, [quantity(tick) for tick in ticks])
        axes[-1].set_xticks([], minor=True)
        axes[-1].set_xlabel(f'{lens.unit} a problem')
    return figure


def _ticks(low, high):
    """Four or so round numbers between the two."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [step * 10.0**decade for decade in decades for step in steps if low <= step * 10.0**decade <= high]
        if len(ticks) <= 5 and sum(len(quantity(tick)) for tick in ticks) <= 20:  # else the labels meet
            return ticks
    return ticks[:: math.ceil(len(ticks) / 5)]


def quantity(value: float) -> str:
    """A cost to three digits: 0.0123, 1.23k, 1.23P."""
    power = 0 if not value or value < 1000 else min(int(math.log10(value) // 3), len(_PREFIXES) - 1)
    return f'{value / 1000**power:.3g}{_PREFIXES[power]}'


_PREFIXES = ('', 'k', 'M', 'G', 'T', 'P', 'E')


def reading(row: dict) -> str:
    """A row of `lenses.flips` in words."""
    start, end = row['start_winner'], row['end_winner']
    if row['end'] == '' and not start:
        return 'no cost at which both were sampled'
    if row['end'] == '':
        other = row['model_b' if start == row['model_a'] else 'model_a']
        words = f'{start} better, all its samples costing no more than one of {other}'
    elif row['crossing'] != '':
        words = f'{start} better up to {quantity(row["crossing"])}, {end} beyond'
    else:
        words = f'{end or start} better, no flip in the range sampled' if end or start else 'equal in the range sampled'
    return words if row['share'] >= 0.95 else f'{words} (unsure: so in {page.percent(row["share"], 0)} of the draws)'


def sentence(flips: Sequence[dict]) -> str:
    """What the lenses say of the problems solved, for the verdict; '' where they compare nothing."""
    rows = [row for row in flips if row['metric'] == 'coverage' and (row['end'] != '' or row['start_winner'])]
    told: dict[str, list[str]] = {}
    for row in rows:
        told.setdefault(reading(row), []).append(LENSES[row['lens']].name)
    if not told or len({(row['model_a'], row['model_b']) for row in rows}) > 1:
        return ''
    each = '; '.join(f'by {" and ".join(names)}, {words}' for words, names in told.items())
    return f'Problems solved at equal cost: {each}.'


def _table(rows):
    columns = [
        Column('lens', lambda r: LENSES[r['lens']].title, text=True),
        Column('of', lambda r: _METRICS[r['metric']], text=True),
        Column('cost ratio', _ratio),
        Column('at the start', lambda r: _end(r, 'start')),
        Column('at the end', lambda r: _end(r, 'end')),
        Column('better', lambda r: ', then '.join(dict.fromkeys(filter(None, _winners(r)))) or '–', text=True),
        Column('flips at', _crossing),
        Column('draws', lambda r: page.percent(r['share'], 0)),
    ]
    starts = [i for i in range(1, len(rows)) if rows[i]['lens'] != rows[i - 1]['lens']]
    note = (
        'Differences, first source minus second: at the cost of one sample a problem of the dearer one, and where the '
        'first pool ends; points, or solutions. Small print: 95% intervals, over problems. Draws: problems drawn anew, '
        'how often the same source is better at each end.'
    )
    table = page.table('Which source is the better buy', note, columns, rows, starts)
    return Markup(table + page.paragraph(Markup('Data: <a href="figures/lenses.csv">lenses.csv</a>'), 'soft data'))


def _ratio(row):
    return Markup(f'{quantity(row["ratio"])}{tag("small", row["model_a"] + " for 1 " + row["model_b"])}')


def _winners(row):
    return row['start_winner'], row['end_winner']


def _end(row, name):
    if row[name] == '':
        return page.escape('–')
    parts = [row[f'{name}_{part}'] for part in ('difference', 'low', 'high')]
    shown = [verdict.points(p) if row['metric'] == 'coverage' else f'{p:+.2f}'.replace('-', '−') for p in parts]
    return page.with_interval(*shown)


def _crossing(row):
    if row['crossing'] == '':
        return page.escape('–')
    return page.with_interval(*(quantity(row[name]) for name in ('crossing', 'crossing_low', 'crossing_high')))
