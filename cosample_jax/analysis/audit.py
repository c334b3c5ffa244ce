"""What was kept of the drawn solutions and what was dropped: why, of which problems, and how long they were.

A filter that keeps right answers keeps many solutions of easy problems and few of hard ones, and drops long ones that
were cut. So a training set is less even than the problems it came from; these tables say by how much.
"""

import bisect
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cosample_jax.analysis import intervals
from cosample_jax.records import Problem

KEPT = 'kept'
# Why a sample is not learned from, in the order asked.
REASONS = ('quotes a test problem', 'filter', 'cut at the limit', 'ungraded', 'no answer', 'wrong answer')
QUOTES, FILTER, CUT, UNGRADED, NO_ANSWER, WRONG = REASONS
_PARTS = 5  # lengths are told in fifths of all samples
_TOP = 0.1


class Sample(NamedTuple):
    """One drawn solution: of which problem (its place among them) and why it was dropped, if not `KEPT`."""

    problem: int
    tokens: int
    cut: bool
    fate: str


class Drawn(NamedTuple):
    """What one source drew for one kind of training data at one budget."""

    data: str
    budget: str
    source: str
    samples: Sequence[Sample]


def fate(kept: bool, correct: bool, answer: str, finish: str, symbolic: str, quotes: Callable[[], bool]) -> str:
    """KEPT, or the first of `REASONS` that holds; the other arguments as in `records`.

    `quotes` is asked only of a right solution that was not kept: where it quotes no test problem, the filter of its
    training data did not take it.
    """
    if kept:
        return KEPT
    if correct:
        return QUOTES if quotes() else FILTER
    if finish == 'length':
        return CUT
    if symbolic.startswith('ungraded'):
        return UNGRADED
    return WRONG if answer else NO_ANSWER


def drops(drawn: Sequence[Drawn]) -> list[dict]:
    """One row for each data, budget and source: how many samples were drawn, kept, and dropped for which reason."""
    rows = []
    for each in drawn:
        fates = [sample.fate for sample in each.samples]
        counts = {reason: fates.count(reason) for reason in (KEPT, *REASONS)}
        rows.append(each._asdict() | {'samples': len(fates)} | counts)
    return rows


def evenness(drawn: Sequence[Drawn], problems: int) -> list[dict]:
    """How evenly the kept solutions of each row of `drops` lie over all `problems`.

    `effective` is 1 / sum p^2 with p a problem's share of the kept solutions: as many problems with equally many would
    be as even (the inverse of Simpson 1949, Nature 163, 688; Hill's number of order 2). `top` is the share of the
    tenth of the problems with the most. '' where nothing was kept.
    """
    rows = []
    for each in drawn:
        counts = np.sort(survivors(each, problems))[::-1]
        total = int(counts.sum())
        rows.append(
            {
                **_identity(each),
                'problems': problems,
                'kept': total,
                'without': int((counts == 0).sum()),
                'mean': total / problems,
                'most': int(counts[0]),
                'effective': float(total**2 / (counts**2).sum()) if total else '',
                'top': float(counts[: max(1, round(_TOP * problems))].sum() / total) if total else '',
            }
        )
    return rows


def histogram(drawn: Sequence[Drawn], problems: int) -> list[dict]:
    """How many problems keep 0, 1, 2, ... solutions, up to the most that any does, for each row of `drops`."""
    rows = []
    for each in drawn:
        counts = np.bincount(survivors(each, problems))
        rows += [_identity(each) | {'survivors': n, 'problems': int(count)} for n, count in enumerate(counts)]
    return rows


def survivors(drawn: Drawn, problems: int) -> np.ndarray:
    """Kept solutions of each problem, [problems]."""
    return np.bincount([s.problem for s in drawn.samples if s.fate == KEPT], minlength=problems)


def groups(drawn: Sequence[Drawn], problems: Sequence[Problem], seed: int = 0) -> list[dict]:
    """Which share of the samples was kept at each level, of each subject and of each length, with 95% intervals.

    Lengths are fifths of all samples of all sources, which so share their edges; samples that were cut at the limit are
    apart, as their length is the limit's. Problems are drawn for the intervals, not samples. A kind of group that all
    samples share (tasks without levels) has no rows.
    """
    edges = _edges(drawn)
    kinds: Mapping[str, Callable[[Sample], str]] = {
        'level': lambda s: str(problems[s.problem].level),
        'subject': lambda s: problems[s.problem].subject,
        'length': lambda s: CUT if s.cut else _span(edges, s.tokens),
    }
    orders = {
        'level': [str(level) for level in sorted({p.level for p in problems})],
        'subject': sorted({p.subject for p in problems}),
        'length': [*dict.fromkeys(_span(edges, edge) for edge in edges[1:]), CUT],
    }
    told = [kind for kind, names in orders.items() if len(names) > 1 and (kind != 'length' or edges[-1])]
    place = {key: i for i, key in enumerate((kind, name) for kind in told for name in orders[kind])}
    rows = []
    for each in drawn if place else ():
        kept, total = np.zeros((2, len(problems), len(place)))
        for sample in each.samples:
            for kind in told:
                at = sample.problem, place[kind, kinds[kind](sample)]
                total[at] += 1
                kept[at] += sample.fate == KEPT
        rows += [_identity(each) | row for row in _group_rows(place, kept, total, seed)]
    return rows


def _group_rows(names, kept, total, seed):
    bounds = intervals.ratio_interval(kept, total, seed=seed)
    return [
        {
            'by': kind,
            'group': name,
            'samples': int(total[:, i].sum()),
            'kept': int(kept[:, i].sum()),
            'rate': float(kept[:, i].sum() / total[:, i].sum()),
            'rate_low': bounds[0, i],
            'rate_high': bounds[1, i],
        }
        for i, (kind, name) in enumerate(names)
        if total[:, i].any()
    ]


def _edges(drawn):
    """Ends of the fifths, in tokens: from 0 to the longest, all different."""
    lengths = [s.tokens for each in drawn for s in each.samples if not s.cut]
    if not lengths:
        return [0, 0]
    ends = np.quantile(lengths, np.arange(1, _PARTS + 1) / _PARTS, method='inverted_cdf')
    return [0, *dict.fromkeys(int(end) for end in ends)]


def _span(edges, tokens):
    place = bisect.bisect_left(edges, tokens, lo=1) - 1
    return f'{edges[place] + 1}–{edges[place + 1]} tokens'


def _identity(drawn):
    return {'data': drawn.data, 'budget': drawn.budget, 'source': drawn.source}


def seen(cells: Sequence[Mapping]) -> list[dict]:
    """What each fine-tuned cell saw in training, a row for each source of its data (from the records of `finetune`).

    `examples` were seen, `unique` of them different; `tokens` counts those in its rows, `loss_tokens` those learned.
    """
    names = ('kept', 'unique', 'problems', 'examples', 'epochs', 'tokens', 'loss_tokens')
    return [
        {name: cell[name] for name in ('model', 'data', 'budget', 'seed')}
        | {'source': row['source']}
        | {name: row[name] for name in names}
        | {name: cell[name] for name in ('too_long', 'contaminated')}
        for cell in cells
        for row in cell.get('seen', ())
    ]
