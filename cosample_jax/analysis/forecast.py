"""From a pilot of a few graded samples a problem: coverage at the full budget, which source to take, when that flips.

What is forecast is what the unbiased estimator of coverage@k estimates on the pilot's own problems, the mean over them
of 1 - (1 - p)^k; the columns `elsewhere` are for the population they were drawn from. Samples of a run are nested, so
the pilot's are among the k; for k well above the pilot's n that makes no difference. Where a run draws exactly k, its
solved share scatters around the forecast by at most 1 / (2 sqrt(problems)) more. Intervals are 90% credible ones.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cosample_jax.analysis import intervals, success
from cosample_jax.errors import UserError

LEVEL = 0.9
UNDECIDED = 'too small to tell'
_SHARES = (0.25, 0.5, 0.75)  # of the budget that a mix gives the cheaper model
_BUDGETS = 40  # points between the smallest and the largest budget at which a flip is looked for


@dataclass(frozen=True)
class Pilot:
    """One model's graded samples: the ids, samples and correct samples of its problems, each [problems]."""

    model: str
    problem_ids: Sequence[str]
    total: np.ndarray
    correct: np.ndarray


def forecast(pilots: Sequence[Pilot], ks: Sequence[int], costs: Mapping[str, float], seed: int = 0) -> dict:
    """The tables `coverage`, `decisions` and `flips`, each a list of flat rows.

    Args:
        pilots: the models' pilots, on the same problems in the same order.
        ks: samples a problem of the most expensive model; a cheaper one gets as many as cost the same (Eq. 1 of the
            paper), a mean over problems where that is no whole number.
        costs: cost of a sample of each model in a common unit.

    Raises:
        UserError: no pilot, one sample a problem, or a k that the pilot has already.
    """
    _check(pilots, ks, costs)
    dearest = max(costs.values())
    # Of one seed each: two models with the same counts must not get the same draws.
    draws = {p.model: success.posterior(p.total, p.correct, seed=seed + i) for i, p in enumerate(pilots)}
    ratios = {p.model: dearest / costs[p.model] for p in pilots}
    coverage, decisions, flips = [], [], []
    for pilot in pilots:
        for k in ks:
            here = draws[pilot.model].coverage(k * ratios[pilot.model])
            elsewhere = draws[pilot.model].coverage_elsewhere(k * ratios[pilot.model])
            row = {'model': pilot.model, 'k': k * ratios[pilot.model], 'pilot': float(np.mean(pilot.total))}
            coverage.append(row | _summary('coverage', here) | _summary('elsewhere', elsewhere))
    for a, b in itertools.combinations(sorted(pilots, key=lambda p: costs[p.model]), 2):
        pair = _Pair(a, b, draws[a.model], draws[b.model], ratios[a.model], ratios[b.model])
        decisions += [pair.decision(k) for k in ks]
        flips.append(pair.flip(max(ks)))
    return {'coverage': coverage, 'decisions': decisions, 'flips': flips}


@dataclass(frozen=True)
class _Pair:
    """Two models on the same problems, the cheaper one first; budgets in samples of the most expensive of all.

    Given the pilots, what is unknown of one model is taken as independent of what is unknown of the other. Problems
    hard for both make the difference less uncertain than that, so its interval errs on the wide side.
    """

    a: Pilot
    b: Pilot
    of_a: success.Success
    of_b: success.Success
    ratio_a: float
    ratio_b: float

    def difference(self, k) -> np.ndarray:
        return self.of_a.coverage(k * self.ratio_a) - self.of_b.coverage(k * self.ratio_b)

    def decision(self, k) -> dict:
        """The better source at budget k, a mix where that is better still, or that the pilot is too small to tell.

        `pilot_needed` is rough: the samples a problem at which the interval, narrowing as one over their root, would
        exclude zero; '' where that is the budget itself or more.
        """
        drawn = self.difference(k)
        row = _summary('difference', drawn)
        low, high, value = row['difference_low'], row['difference_high'], row['difference']
        needed = float(np.mean(np.concatenate([self.a.total, self.b.total])))
        answer = self.a.model if low > 0 else self.b.model if high < 0 else UNDECIDED
        if answer == UNDECIDED:
            needed *= ((high - low) / 2 / max(abs(value), 1e-9)) ** 2
        share, gain = self._mix(k)
        if gain['mix_gain_low'] > 0:
            answer = 'mix'
        names = {'cheaper': self.a.model, 'dearer': self.b.model, 'k': k}
        row = names | row | {'probability': float((drawn > 0).mean()), 'take': answer}
        return row | {'pilot_needed': math.ceil(needed) if needed < k else '', 'mix_share': share} | gain

    def _mix(self, k) -> tuple[float, dict]:
        """The best share of the budget for the cheaper model, and what the mix gains over the better single source.

        Pessimistic: among problems with the same counts, those harder for one model are taken to be harder for the
        other too, which leaves the least for a mix to gain.
        """
        a, b = self._aligned()
        alone = np.maximum(self.of_a.coverage(k * self.ratio_a), self.of_b.coverage(k * self.ratio_b))
        gains = [
            -np.expm1(share * k * self.ratio_a * a + (1 - share) * k * self.ratio_b * b).mean(1) - alone
            for share in _SHARES
        ]
        best = int(np.argmax([gain.mean() for gain in gains]))
        return _SHARES[best], _summary('mix_gain', gains[best])

    def _aligned(self) -> tuple[np.ndarray, np.ndarray]:
        """log(1 - p) of both models, [draws, problems], sorted within problems of equal counts."""
        counts = np.stack([self.a.total, self.a.correct, self.b.total, self.b.correct], 1)
        _, group = np.unique(counts, axis=0, return_inverse=True)
        a, b = self.of_a.log_miss.copy(), self.of_b.log_miss.copy()
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
