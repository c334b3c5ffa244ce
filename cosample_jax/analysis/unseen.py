"""How many unique correct solutions k samples will hold, from the few that were seen: an unseen-species problem.

The texts of a problem's correct solutions follow a Pitman-Yor process (Pitman and Yor 1997): after c correct ones of K
kinds the next is of a new kind with probability (theta + d K) / (theta + c). The discount d, the power of the count at
which new kinds keep coming, is one for all problems of a model; log theta is normal around a line in the logit of the
problem's success, because solutions of easy problems repeat more often. Both come from their posterior given all
problems, and a problem's theta from its own solutions too; one that is not solved yet is like others as hard as it.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from cosample_jax.analysis import population

DRAWS = 500
_REPEATS = 2  # draws of the number of correct samples for each draw of the rest
_DISCOUNTS = np.array([0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97])
_LOG_THETA = np.arange(np.log(1e-3), np.log(1e4), 0.6)
_EASIEST = 6.0  # logit of the success probability beyond which the line is flat; minus this for the hardest


class Unseen(NamedTuple):
    """Draws from the posterior.

    Attributes:
        kinds: (times a solution was seen, how many were) of each problem, [problems] of [kinds, 2].
        p: success probability, [draws, problems].
        discount: d, [draws].
        theta: [draws, problems].
        seed: of the numbers of correct samples.
    """

    kinds: list[np.ndarray]
    p: np.ndarray
    discount: np.ndarray
    theta: np.ndarray
    seed: int

    def diversity(self, ks: Sequence[float]) -> np.ndarray:
        """Expected number of unique correct solutions among k fresh samples, the mean over problems: [ks, draws].

        Args:
            ks: from small to large, for the larger ones go on where the smaller ones end. A k that is no whole number
                is rounded up or down at random.
        """
        rng = np.random.default_rng([self.seed, 2])
        samples = np.floor(np.reshape(ks, (-1, 1, 1, 1)) + rng.random((_REPEATS, *self.p.shape))).astype(np.int64)
        correct = rng.binomial(np.diff(samples, axis=0, prepend=0), self.p).cumsum(0)
        found = [unique(seen, self.discount, self.theta[:, i], correct[..., i]) for i, seen in enumerate(self.kinds)]
        return np.mean(found, axis=(0, 2))


def unique(kinds, discount, theta, correct) -> np.ndarray:
    """Expected number of unique solutions among `correct` fresh ones, given those that were seen.

    The share of a kind seen m times is Beta(m - d, theta + c - m + d) distributed, so it is among the fresh ones with
    probability 1 - E[(1 - share)^correct]; unseen kinds are as many as new ones in a sequence that goes on (Favaro et
    al. 2009).

    Args:
        kinds: as `Unseen` has them, [kinds, 2], of c solutions; may be empty.
        discount, theta, correct: arrays that broadcast.
    """
    seen = kinds[:, 0] @ kinds[:, 1]
    whole = _log_rising(theta + seen, correct)
    grown = np.expm1(_log_rising(theta + seen + discount, correct) - whole)
    total = (kinds[:, 1].sum() + theta / discount) * grown
    for times, solutions in kinds:
        total = total - solutions * np.expm1(_log_rising(theta + seen - times + discount, correct) - whole)
    return total


def posterior(solutions: Sequence[Sequence[int]], log_miss: np.ndarray, seed: int = 0) -> Unseen:
    """Draws of what makes the solutions of a model's problems repeat.

    Args:
        solutions: how often each distinct correct solution of a problem was seen (`diversity.multiplicities`).
        log_miss: draws of log(1 - p) of each problem, [draws, problems] (`success.posterior`), of which at most about
            `DRAWS` are used.
    """
    rng = np.random.default_rng([seed, 1])  # not the numbers that drew `log_miss`
    p = -np.expm1(log_miss[:: max(1, len(log_miss) // DRAWS)])
    kinds = [np.array(sorted(Counter(s).items()), np.int64).reshape(-1, 2) for s in solutions]
    ease = special.logit(np.clip(p, special.expit(-_EASIEST), special.expit(_EASIEST)))
    # Problems with the same solutions and nearly the same success are alike.
    cells: dict[tuple, list[int]] = {}
    for i in (i for i, seen in enumerate(kinds) if len(seen)):
        cells.setdefault((round(4 * ease[:, i].mean()) / 4, kinds[i].tobytes()), []).append(i)
    of_cell = np.array([at for at, _ in cells])
    sizes = np.array([len(members) for members in cells.values()])
    likelihood = np.array([_likelihood(kinds[members[0]]) for members in cells.values()])
    likelihood = likelihood.reshape(-1, len(_DISCOUNTS), len(_LOG_THETA))

    def fit(z):
        discount, *line = _coordinates(z)
        weights = _theta_weights(line, of_cell[None])
        log = np.zeros(len(z))
        for d in np.unique(discount):
            rows = discount == d
            mass = np.einsum('rct,ct->rc', weights[rows], likelihood[:, d])
            log[rows] = np.log(np.maximum(mass, 1e-300)) @ sizes
        return log

    discount, *line = _coordinates(population.particles(fit, 4, len(p), rng))
    level, slope, spread = (each[:, None] for each in line)
    log_theta = level + slope * ease + spread * rng.standard_normal(p.shape)
    for cell, (at, members) in enumerate(cells.items()):
        weights = _theta_weights(line, np.full((1, 1), at[0]))[:, 0] * likelihood[cell][discount]
        log_theta[:, members] = _LOG_THETA[population.points(weights, len(members), rng)]
    return Unseen(kinds, p, _DISCOUNTS[discount], np.exp(np.clip(log_theta, _LOG_THETA[0], _LOG_THETA[-1])), seed)


def _coordinates(z) -> tuple[np.ndarray, ...]:
    """What standard normal coordinates stand for: this is the prior.

    The place of the discount in its list (0.4 in the middle, 0.07 to 0.84 at 90%), the level of log theta at even odds
    of success (theta 2.7, 0.1 to 73), its slope in the logit of success (-0.4, -1.1 to 0.3) and its spread (0.8, 0.3 to
    2.2).
    """
    discount = np.abs(special.expit(-0.5 + 1.3 * z[:, :1]) - _DISCOUNTS).argmin(1)
    return discount, 1 + 2 * z[:, 1], -0.4 + 0.4 * z[:, 2], np.exp(-0.2 + 0.6 * z[:, 3])


def _theta_weights(line, ease) -> np.ndarray:
    """Prior probability of each log theta of the grid where the logit of success is `ease`: [draws, cells, grid]."""
    # Single precision is enough and fast; nothing is so far away that all weights vanish.
    level, slope, spread = (each[:, None, None].astype(np.float32) for each in line)
    distance = (_LOG_THETA.astype(np.float32) - level - slope * ease[:, :, None].astype(np.float32)) / spread
    weights = np.exp(-(np.minimum(np.abs(distance), 10) ** 2) / 2)
    return weights / weights.sum(2, keepdims=True)


def _likelihood(kinds) -> np.ndarray:
    """Probability of seeing these kinds (Pitman 1995, eq. 16) relative to the largest: [discounts, thetas]."""
    d, theta = _DISCOUNTS[:, None], np.exp(_LOG_THETA)
    log = kinds[:, 1].sum() * np.log(d) + _log_rising(theta / d, kinds[:, 1].sum())
    log = log - _log_rising(theta, kinds[:, 0] @ kinds[:, 1])
    log = log + (kinds[:, 1] * _log_rising(1 - d, kinds[:, 0] - 1)).sum(1, keepdims=True)
    return np.exp(log - log.max())


def _log_rising(start, steps):
    """log of start (start + 1) ... (start + steps - 1)."""
    return special.gammaln(start + steps) - special.gammaln(start)
