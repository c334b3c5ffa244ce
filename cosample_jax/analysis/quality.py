"""Data quality of graded pools: the tables of coverage, diversity, false positives and overlap.

A table is a list of flat rows (dicts of str, int and float), all with the same columns, in a fixed order.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cosample_jax.analysis import coverage, diversity, intervals, significance

METRICS = ('coverage', 'diversity', 'diversity_skeleton')
DIFFERENCE_COLUMNS = ('difference', 'difference_low', 'difference_high', 'p', 'p_holm', 'detectable', 'problems')


@dataclass(frozen=True, slots=True)
class Kept:
    """A correct sample: its place among its problem's samples, its text, and the verdict on its reasoning.

    `position` counts from 0 in sampling order; `valid` is None where nobody judged the reasoning.
    """

    position: int
    text: str
    valid: bool | None = None


@dataclass(frozen=True)
class Source:
    """One model's graded samples, by problem.

    Attributes:
        model: name.
        total: [problems] samples drawn.
        kept: for each problem its correct samples, in sampling order.
        mean_tokens: generated tokens of a sample (W); 0 where it was not recorded.
        flops_per_token: 2P; 0 where the model's size is unknown.
        normal: form of `diversity.FORMS` -> the normal forms of `kept`.
    """

    model: str
    total: np.ndarray
    kept: Sequence[Sequence[Kept]]
    mean_tokens: float = 0.0
    flops_per_token: float = 0.0
    normal: dict = field(init=False, default_factory=dict)

    def __post_init__(self):
        for form, normal in diversity.FORMS.items():
            self.normal[form] = [[normal(s.text) for s in problem] for problem in self.kept]

    @property
    def correct(self) -> np.ndarray:
        return np.array([len(problem) for problem in self.kept], np.int64)

    def metric(self, name: str, k) -> np.ndarray:
        """Expected value for each problem among k samples, [problems, columns]; k is [columns] or [problems,
        columns].
        """
        if name == 'coverage':
            return coverage.hit_probability(self.total[:, None], self.correct[:, None], k)
        form = 'skeleton' if name == 'diversity_skeleton' else 'exact'
        return diversity.diversity(self.total, diversity.multiplicities(self.normal[form]), k)

    def first(self, k) -> list[list[Kept]]:
        """What is kept of the first k samples of each problem: the training set that a budget gives."""
        return [[s for s in problem if s.position < n] for problem, n in zip(self.kept, k, strict=True)]

    def unique(self, form: str, k) -> int:
        """How many of them differ in this normal form, summed over problems."""
        firsts = zip(map(len, self.first(k)), self.normal[form], strict=True)
        return sum(len(set(normal[:count])) for count, normal in firsts)


@dataclass(frozen=True)
class Match:
    """Two sources side by side: so many samples of each problem, [problems], and why these numbers belong
    together.
    """

    budget: str
    matching: str  # 'compute': equal cost; 'number': equal counts
    a: Source
    b: Source
    a_k: np.ndarray
    b_k: np.ndarray


def curves(sources: Sequence[Source], seed: int = 0) -> list[dict]:
    """Every metric at every k up to the smallest pool of a problem, with its cost a problem and its interval.

    Cost is k * 2P * W in FLOPs: `flops_measured` with W the model's own mean of generated tokens,
    `flops_equal_length` with one W for all, the mean over models, as the paper assumes. Empty where the size
    or the lengths are unknown.
    """
    lengths = [s.mean_tokens for s in sources if s.mean_tokens]
    shared = float(np.mean(lengths)) if lengths else 0.0
    rows = []
    for source in sources:
        ks = np.arange(1, int(source.total.min()) + 1)
        values = [source.metric(name, ks) for name in METRICS]
        bounds = [_interval(name, v, seed) for name, v in zip(METRICS, values, strict=True)]
        for i, k in enumerate(ks):
            row = {
                'model': source.model,
                'k': int(k),
                'flops_measured': _cost(source, source.mean_tokens, k),
                'flops_equal_length': _cost(source, shared, k),
            }
            for j, name in enumerate(METRICS):
                low, high = bounds[j][:, i]
                row |= {name: values[j][:, i].mean(), f'{name}_low': low, f'{name}_high': high}
            rows.append(row)
    return rows


def _interval(metric, values, seed):
    interval = intervals.share_interval if metric == 'coverage' else intervals.mean_interval
    return interval(values, seed=seed)


def _cost(source, tokens, k):
    return float(k * source.flops_per_token * tokens) or ''


def matched(matches: Sequence[Match], seed: int = 0) -> list[dict]:
    """a against b, paired over problems, for every metric and the false-positive rate; Holm over all rows."""
    if not matches:
        return []
    rows = []
    sides = [_sides(matches, name) for name in METRICS]
    found = iter(intervals.paired_differences(*map(np.hstack, zip(*sides, strict=True)), seed=seed))
    for name, (a, b) in zip(METRICS, sides, strict=True):
        a_ends, b_ends = np.split(_interval(name, np.hstack((a, b)), seed).T, 2)
        for i, match in enumerate(matches):
            row = _match_row(match, name, a[:, i].mean(), a_ends[i], b[:, i].mean(), b_ends[i])
            rows.append(row | difference_columns(next(found)))
    for match in matches:
        judged = [_judged(s.first(k)) for s, k in ((match.a, match.a_k), (match.b, match.b_k))]
        (a_wrong, a_all), (b_wrong, b_all) = judged
        if a_all.sum() and b_all.sum():
            rows.append(
                _match_row(
                    match,
                    'fpr',
                    a_wrong.sum() / a_all.sum(),
                    intervals.wilson(int(a_wrong.sum()), int(a_all.sum())),
                    b_wrong.sum() / b_all.sum(),
                    intervals.wilson(int(b_wrong.sum()), int(b_all.sum())),
                )
                | difference_columns(intervals.ratio_difference(a_wrong, a_all, b_wrong, b_all, seed=seed))
            )
    return significance.with_holm(rows)


def _sides(matches, metric):
    """The metric of each match's a, and of its b: two arrays [problems, matches]."""
    return tuple(
        np.stack([source.metric(metric, k[:, None])[:, 0] for source, k in pairs], axis=1)
        for pairs in ([(m.a, m.a_k) for m in matches], [(m.b, m.b_k) for m in matches])
    )


def _match_row(match, metric, a, a_bounds, b, b_bounds):
    return {
        'budget': match.budget,
        'matching': match.matching,
        'metric': metric,
        'model_a': match.a.model,
        'k_a': float(match.a_k.mean()),
        'a': a,
        'a_low': a_bounds[0],
        'a_high': a_bounds[1],
        'model_b': match.b.model,
        'k_b': float(match.b_k.mean()),
        'b': b,
        'b_low': b_bounds[0],
        'b_high': b_bounds[1],
    }


def difference_columns(difference: intervals.Difference) -> dict:
    """The columns every table uses for a difference; `p_holm` waits for the whole table (`significance.with_holm`).

    One problem alone has no detectable difference ('').
    """
    detectable = difference.detectable if np.isfinite(difference.detectable) else ''
    values = (difference.value, difference.low, difference.high, difference.p, '', detectable, difference.problems)
    return dict(zip(DIFFERENCE_COLUMNS, values, strict=True))


def by_level(matches: Sequence[Match], levels: np.ndarray, seed: int = 0) -> list[dict]:
    """Coverage at each difficulty level, Holm over all rows; `levels` [problems]."""
    if not matches:
        return []
    rows = []
    sides = _sides(matches, 'coverage')
    for level in np.unique(levels):
        here = [side[levels == level] for side in sides]
        a_bounds, b_bounds = (intervals.share_interval(side, seed=seed).T for side in here)
        found = intervals.paired_differences(*here, seed=seed)
        for i, match in enumerate(matches):
            a, b = (float(side[:, i].mean()) for side in here)
            row = _match_row(match, 'coverage', a, a_bounds[i], b, b_bounds[i])
            rows.append((i, {'level': int(level)} | row | difference_columns(found[i])))
    return significance.with_holm([row for _, row in sorted(rows, key=lambda each: each[0])])


def overlap(matches: Sequence[Match]) -> list[dict]:
    """Which problems the first k samples solved: by both, by one only, by neither (counts of problems)."""
    rows = []
    for match in matches:
        a = np.array([bool(p) for p in match.a.first(match.a_k)])
        b = np.array([bool(p) for p in match.b.first(match.b_k)])
        rows.append(
            {
                'budget': match.budget,
                'matching': match.matching,
                'model_a': match.a.model,
                'model_b': match.b.model,
                'both': int((a & b).sum()),
                'only_a': int((a & ~b).sum()),
                'only_b': int((~a & b).sum()),
                'neither': int((~a & ~b).sum()),
                'problems': len(a),
            }
        )
    return rows


def kept(sources: Sequence[Source], budgets: Mapping[str, Mapping[str, np.ndarray]]) -> list[dict]:
    """What each budget leaves to train on, counted in the first k samples of each problem.

    Args:
        budgets: budget name -> model -> samples of each problem, [problems].
    """
    rows = []
    for name, source in itertools.product(budgets, sources):
        if source.model not in budgets[name]:
            continue
        k = budgets[name][source.model]
        problems = source.first(k)
        wrong, judged = (int(x.sum()) for x in _judged(problems))
        low, high = intervals.wilson(wrong, judged)
        rows.append(
            {
                'budget': name,
                'model': source.model,
                'samples': int(np.sum(k)),
                'kept': sum(map(len, problems)),
                'unique': source.unique('exact', k),
                'unique_skeleton': source.unique('skeleton', k),
                'problems_solved': sum(map(bool, problems)),
                'problems': len(problems),
                'judged': judged,
                'false_positives': wrong,
                'fpr': wrong / judged if judged else '',
                'fpr_low': low if judged else '',
                'fpr_high': high if judged else '',
            }
        )
    return rows


def _judged(problems):
    """For each problem: correct samples whose reasoning is wrong, and all that were judged."""
    wrong = np.array([sum(s.valid is False for s in p) for p in problems])
    judged = np.array([sum(s.valid is not None for s in p) for p in problems])
    return wrong, judged
