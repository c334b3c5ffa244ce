"""Data quality of graded pools: the tables of coverage, diversity, false positives and overlap.

A table is a list of flat rows (dicts of str, int and float), all with the same columns, in a fixed order.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cosample_jax.analysis import coverage, diversity, intervals

METRICS = ('coverage', 'diversity', 'diversity_skeleton')
DIFFERENCE_COLUMNS = ('difference', 'difference_low', 'difference_high', 'detectable', 'problems')


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
    """

    model: str
    total: np.ndarray
    kept: Sequence[Sequence[Kept]]
    mean_tokens: float = 0.0
    flops_per_token: float = 0.0
    counts: dict = field(init=False, default_factory=dict)

    def __post_init__(self):
        texts = [[s.text for s in problem] for problem in self.kept]
        for form in diversity.FORMS:
            self.counts[form] = diversity.multiplicities(texts, form)

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
        return diversity.diversity(self.total, self.counts[form], k)

    def first(self, k) -> list[list[Kept]]:
        """What is kept of the first k samples of each problem: the training set that a budget gives."""
        return [[s for s in problem if s.position < n] for problem, n in zip(self.kept, k, strict=True)]


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
    """a against b, paired over problems, for every metric and the false-positive rate."""
    rows = []
    for match in matches:
        for name in METRICS:
            a = match.a.metric(name, match.a_k[:, None])[:, 0]
            b = match.b.metric(name, match.b_k[:, None])[:, 0]
            bounds = _interval(name, np.stack([a, b], 1), seed)
            rows.append(
                _match_row(match, name, a.mean(), bounds[:, 0], b.mean(), bounds[:, 1])
                | difference_columns(intervals.paired_difference(a, b, seed=seed))
            )
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
    return rows


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
    """The columns every table uses for a difference; one problem alone has no detectable difference ('')."""
    detectable = difference.detectable if np.isfinite(difference.detectable) else ''
    values = (difference.value, difference.low, difference.high, detectable, difference.problems)
    return dict(zip(DIFFERENCE_COLUMNS, values, strict=True))


def by_level(matches: Sequence[Match], levels: np.ndarray, seed: int = 0) -> list[dict]:
    """Coverage at each difficulty level; `levels` [problems]."""
    rows = []
    for match in matches:
        a = match.a.metric('coverage', match.a_k[:, None])[:, 0]
        b = match.b.metric('coverage', match.b_k[:, None])[:, 0]
        for level in np.unique(levels):
            here = levels == level
            bounds = intervals.share_interval(np.stack([a[here], b[here]], 1), seed=seed)
            rows.append(
                {'level': int(level)}
                | _match_row(match, 'coverage', a[here].mean(), bounds[:, 0], b[here].mean(), bounds[:, 1])
                | difference_columns(intervals.paired_difference(a[here], b[here], seed=seed))
            )
    return rows


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
                'unique': sum(len({diversity.exact(s.text) for s in p}) for p in problems),
                'unique_skeleton': sum(len({diversity.skeleton(s.text) for s in p}) for p in problems),
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
