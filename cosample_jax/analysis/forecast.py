"""From a pilot of a few graded samples a problem: coverage at the full budget, which source to take, when that flips.

What is forecast is what the unbiased estimators of coverage@k and diversity@k estimate on the pilot's own problems, of
coverage the mean over them of 1 - (1 - p)^k; the columns `elsewhere` are for the population they were drawn from.
Samples of a run are nested, so the pilot's are among the k; for k well above the pilot's n that makes no difference.
Where a run draws exactly k, its solved share scatters around the forecast by at most 1 / (2 sqrt(problems)) more.
Intervals are 90% credible ones.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from cosample_jax.analysis import intervals, success, unseen
from cosample_jax.errors import UserError

LEVEL = 0.9
UNDECIDED = 'too small to tell'
_SHARES = (0.25, 0.5, 0.75)  # of the budget that a mix gives the cheaper model
# Half an interval must be this much smaller than the difference for it to exclude zero in 80% of pilots, not in half.
_POWERED = 1 + NormalDist().inv_cdf(0.8) / NormalDist().inv_cdf(0.5 + LEVEL / 2)
_BUDGETS = 40  # points between the smallest and the largest budget at which a flip is looked for
_POINTS = 24  # of a curve


@dataclass(frozen=True)
class Pilot:
    """One model's graded samples.

    Attributes:
        problem_ids, total, correct: each problem's id, samples and correct samples, [problems].
        solutions: how often each distinct correct solution of a problem was seen (`diversity.multiplicities`), None
            where texts are not known.
    """

    model: str
    problem_ids: Sequence[str]
    total: np.ndarray
    correct: np.ndarray
    solutions: Sequence[Sequence[int]] | None = None


def forecast(pilots: Sequence[Pilot], ks: Sequence[int], costs: Mapping[str, float], seed: int = 0) -> dict:
    """The tables `coverage`, `diversity`, `decisions`, `flips` and `curves`, each a list of flat rows.

    Args:
        pilots: the models' pilots, on the same problems in the same order.
        ks: samples a problem of the most expensive model, from few to many; a cheaper one gets as many as cost the
            same (Eq. 1 of the paper), a mean over problems where that is no whole number.
        costs: cost of a sample of each model in a common unit.

    Raises:
        UserError: no pilot, one sample a problem, or a k that the pilot has already.
    """
    _check(pilots, ks, costs)
    dearest = max(costs.values())
    # Of one seed each: two models with the same counts must not get the same draws.
    sources = [_source(p, dearest / costs[p.model], seed + i) for i, p in enumerate(pilots)]
    coverage, diversity, curves = [], [], []
    for source in sources:
        rows = [{'model': source.model, 'k': k * source.ratio, 'pilot': source.size} for k in ks]
        for k, row in zip(ks, rows, strict=True):
            elsewhere = source.success.coverage_elsewhere(k * source.ratio)
            coverage.append(row | _summary('coverage', source.coverage(k)) | _summary('elsewhere', elsewhere))
        if source.unseen:
            drawn = source.diversity(ks)
            diversity += [row | _summary('diversity', each) for row, each in zip(rows, drawn, strict=True)]
        curves += source.curve(max(ks))
    tables = {'coverage': coverage, 'diversity': diversity, 'decisions': [], 'flips': [], 'curves': curves}
    for a, b in itertools.combinations(sorted(sources, key=lambda s: costs[s.model]), 2):
        tables['decisions'] += [_Pair(a, b).decision(k) for k in ks]
        tables['flips'].append(_Pair(a, b).flip(max(ks)))
    return tables


@dataclass(frozen=True)
class _Source:
    """A model with what its pilot says; `ratio` of its samples cost one of the most expensive model, the unit of k."""

    pilot: Pilot
    ratio: float
    success: success.Success
    unseen: unseen.Unseen | None

    @property
    def model(self) -> str:
        return self.pilot.model

    @property
    def size(self) -> float:
        """Samples a problem of the pilot, the mean."""
        return float(np.mean(self.pilot.total))

    def coverage(self, k) -> np.ndarray:
        return self.success.coverage(k * self.ratio)

    def diversity(self, ks) -> np.ndarray:
        """[ks, draws], for ks from small to large."""
        return self.unseen.diversity(np.multiply(ks, self.ratio))

    def curve(self, most) -> list[dict]:
        """Coverage, and diversity where it is known, of budgets up to `most` at which each problem gets a sample."""
        budgets = np.geomspace(1 / self.ratio, most, _POINTS)
        rows = [{'model': self.model, 'budget': k, 'k': k * self.ratio} for k in budgets.tolist()]
        rows = [row | {'pilot': self.size} | _summary('coverage', self.coverage(row['budget'])) for row in rows]
        if self.unseen is None:
            return rows
        return [r | _summary('diversity', drawn) for r, drawn in zip(rows, self.diversity(budgets), strict=True)]


def _source(pilot, ratio, seed) -> _Source:
    solved = success.posterior(pilot.total, pilot.correct, seed=seed)
    known = pilot.solutions is not None
    return _Source(pilot, ratio, solved, unseen.posterior(pilot.solutions, solved.log_miss, seed) if known else None)


@dataclass(frozen=True)
class _Pair:
    """Two models on the same problems, the cheaper one first; budgets in samples of the most expensive of all.

    Given the pilots, what is unknown of one model is taken as independent of what is unknown of the other. Problems
    hard for both make the difference less uncertain than that, so its interval errs on the wide side.
    """

    a: _Source
    b: _Source

    def difference(self, k) -> np.ndarray:
        return self.a.coverage(k) - self.b.coverage(k)

    def decision(self, k) -> dict:
        """The better source at budget k, a mix where that is better still, or that the pilot is too small to tell.

        `pilot_needed` is rough: the samples a problem at which an interval that narrows as one over their root would
        exclude zero four times out of five; '' where that is the budget itself or more.
        """
        drawn = self.difference(k)
        row = _summary('difference', drawn)
        low, high, value = row['difference_low'], row['difference_high'], row['difference']
        needed = float(np.mean(np.concatenate([self.a.pilot.total, self.b.pilot.total])))
        answer = self.a.model if low > 0 else self.b.model if high < 0 else UNDECIDED
        if answer == UNDECIDED:
            needed *= (_POWERED * (high - low) / 2 / max(abs(value), 1e-9)) ** 2
        share, gain = self._mix(k)
        if gain['mix_gain_low'] > 0:
            answer = 'mix'
        names = {'cheaper': self.a.model, 'dearer': self.b.model, 'k': k}
        row = names | row | {'probability': float((drawn > 0).mean()), 'take': answer}
        row |= {'pilot_needed': math.ceil(needed) if needed < k else '', 'mix_share': share} | gain
        if self.a.unseen and self.b.unseen:
            row |= _summary('diversity_difference', (self.a.diversity([k]) - self.b.diversity([k]))[0])
        return row

    def _mix(self, k) -> tuple[float, dict]:
        """The best share of the budget for the cheaper model, and what the mix gains over the better single source.

        Pessimistic: among problems with the same counts, those harder for one model are taken to be harder for the
        other too, which leaves the least for a mix to gain.
        """
        a, b = self._aligned()
        alone = np.maximum(self.a.coverage(k), self.b.coverage(k))
        gains = [
            -np.expm1(k * (share * self.a.ratio * a + (1 - share) * self.b.ratio * b)).mean(1) - alone
            for share in _SHARES
        ]
        best = int(np.argmax([gain.mean() for gain in gains]))
        return _SHARES[best], _summary('mix_gain', gains[best])

    def _aligned(self) -> tuple[np.ndarray, np.ndarray]:
        """log(1 - p) of both models, [draws, problems], sorted within problems of equal counts."""
        counts = np.stack([n for s in (self.a, self.b) for n in (s.pilot.total, s.pilot.correct)], 1)
        _, group = np.unique(counts, axis=0, return_inverse=True)
        a, b = self.a.success.log_miss.copy(), self.b.success.log_miss.copy()
        for each in range(group.max() + 1):
            columns = np.flatnonzero(group.reshape(-1) == each)
            a[:, columns], b[:, columns] = np.sort(a[:, columns], 1), np.sort(b[:, columns], 1)
        return a, b

    def flip(self, most) -> dict:
        """The budget up to `most` from which on the other source is better, with its interval.

        `flip` is where the mean difference changes its sign for good ('' nowhere), `probability` how often a draw's
        does; ends of the interval are '' where that many draws do not.
        """
        budgets = np.unique(np.round(np.geomspace(1, most, _BUDGETS)))
        sign = np.sign([self.difference(k) for k in budgets])  # [budgets, draws]
        mean = np.sign([self.difference(k).mean() for k in budgets])
        at = np.array([_last_change(column, budgets) for column in sign.T])
        low, middle, high = np.quantile(at, [0.5 - LEVEL / 2, 0.5, 0.5 + LEVEL / 2], method='nearest')
        found = {'flip': _last_change(mean, budgets), 'flip_low': low, 'flip_high': high}
        row = {'cheaper': self.a.model, 'dearer': self.b.model, 'up_to': most}
        row |= {name: float(value) if np.isfinite(value) else '' for name, value in found.items()}
        first, last = (self._better(mean[i]) for i in (0, -1))
        return row | {'probability': float(np.isfinite(at).mean()), 'below': first, 'above': last}

    def _better(self, sign) -> str:
        return self.a.model if sign > 0 else self.b.model


def _last_change(sign, budgets) -> float:
    """The first budget behind the last change of sign, infinity where the sign at the end is that of the start."""
    if sign[0] == sign[-1]:
        return math.inf
    return float(budgets[np.flatnonzero(sign != sign[-1])[-1] + 1])


def _summary(name: str, drawn: np.ndarray) -> dict:
    low, high = intervals.quantiles(drawn[:, None], LEVEL)[:, 0]
    return {name: float(drawn.mean()), f'{name}_low': float(low), f'{name}_high': float(high)}


def _check(pilots, ks, costs) -> None:
    if not pilots:
        raise UserError('no pilot: there are no graded samples to forecast from')
    for pilot in pilots:
        if not len(pilot.total):
            raise UserError(f'the pilot of {pilot.model} has no problem')
        if np.max(pilot.total) < 2:
            raise UserError(
                f'the pilot of {pilot.model} has one sample a problem, which says nothing of how success is spread '
                'over problems: draw at least 2, better 4 to 10'
            )
        here = costs[pilot.model]
        for k in ks:
            if k * max(costs.values()) / here < np.max(pilot.total):
                raise UserError(
                    f'k = {k} is no forecast: {pilot.model} has {np.max(pilot.total)} samples of a problem already; '
                    'take a larger k, or a smaller pilot (--pilot)'
                )
