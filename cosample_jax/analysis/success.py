"""How likely each problem is solved by one sample, from a few graded samples of each: a Bayesian mixture model.

A forecast of coverage@K from n << K samples rests on how many problems have a success probability p near zero, which a
curve through mean coverage at 1 .. n does not tell. So the distribution of p over problems is what is fitted. It has

* an atom at p = 0: problems that are never solved (beyond the model, or their gold answer is wrong),
* two Beta components, left tails p^(a - 1): coverage then nears its limit as K^-a, the power laws that language models
  show (Brown et al. 2024, arXiv 2407.21787; Schaeffer et al. 2025, arXiv 2502.17578, who derive them from such tails).

Below p ~ 1 / n samples say only how much mass there is, not how it is spread. There the prior speaks, and the draws
spread as widely as the tails that it allows, instead of following the one that fits best. Given the distribution,
each problem has a posterior of its own from its own counts.

The distribution lies on a grid of logit p, where a Beta's log density is a log p + b log(1 - p) up to a constant. Its
six parameters are drawn from the posterior by sequential Monte Carlo (Del Moral et al. 2006): particles go from prior
to posterior through tempered likelihoods, and are resampled and moved at each temperature.
"""

from typing import NamedTuple

import numpy as np
from scipy import special

DRAWS = 1000
_STEP = 0.2
# p from 1e-7 (no budget of interest tells it from zero) to 1 - 1e-4.
_LOGIT = np.arange(special.logit(1e-7), special.logit(1 - 1e-4), _STEP)
_LOG_P, _LOG_MISS = special.log_expit(_LOGIT), special.log_expit(-_LOGIT)
_MOVES = 5  # at each temperature
_SETTLE = 20  # and at the last


class Success(NamedTuple):
    """Draws from the posterior.

    Attributes:
        log_miss: log(1 - p) of each problem of the pilot, [draws, problems].
        weights: the distribution of p over problems like these, on p = 0 and the grid, [draws, 1 + grid].
    """

    log_miss: np.ndarray
    weights: np.ndarray

    def coverage(self, k) -> np.ndarray:
        """Expected coverage@k of the pilot's problems, the mean of 1 - (1 - p)^k: [draws]."""
        return -np.expm1(k * self.log_miss).mean(1)

    def coverage_elsewhere(self, k) -> np.ndarray:
        """The same for the population that the problems were drawn from, [draws]."""
        return self.weights[:, 1:] @ -np.expm1(k * _LOG_MISS)


def posterior(total, correct, draws: int = DRAWS, seed: int = 0) -> Success:
    """Draws of every problem's success probability given its samples and those of all others.

    Args:
        total, correct: samples and correct samples of each problem, [problems] whole numbers.

    Raises:
        ValueError: no problem, or a count of correct samples outside 0 .. total.
    """
    total, correct = np.asarray(total, np.int64), np.asarray(correct, np.int64)
    if not total.size or np.any((correct < 0) | (correct > total)):
        raise ValueError('every problem needs 0 <= correct <= total, and there must be one')
    # Problems with the same counts are alike.
    cells, cell_of, sizes = np.unique(np.stack([total, correct], 1), axis=0, return_inverse=True, return_counts=True)
    likelihood = _likelihood(*cells.T)
    rng = np.random.default_rng(seed)
    weights = _weights(_particles(likelihood, sizes, draws, rng))
    log_miss = np.empty((draws, len(total)))
    for cell, size in enumerate(sizes):
        log_miss[:, cell_of.reshape(-1) == cell] = _draw(weights * likelihood[:, cell], size, rng)
    return Success(log_miss, weights)


def _likelihood(total, correct) -> np.ndarray:
    """Probability of each cell's counts at p = 0 and on the grid, relative to the largest: [1 + grid, cells]."""
    log = correct * _LOG_P[:, None] + (total - correct) * _LOG_MISS[:, None]
    log = np.concatenate([np.where(correct == 0, 0.0, -np.inf)[None], log])
    return np.exp(log - log.max(0))


def _weights(z) -> np.ndarray:
    """The distribution that standard normal coordinates stand for, [draws, 6] -> [draws, 1 + grid]: this is the prior.

    Each component has the logit of its mean (0.27 in the middle, 1% to 93% at 90%) and its tail exponent a (0.6, 0.08
    to 4); the second has a share of a third on average, the atom of a sixth, both often near none.
    """
    mean, tail = special.expit(-1 + 2.2 * z[:, 0:2]), 0.6 * np.exp(1.2 * z[:, 2:4])
    b = tail * (1 - mean) / mean
    log = tail[:, :, None] * _LOG_P + b[:, :, None] * _LOG_MISS
    density = np.exp(log - log.max(2, keepdims=True))
    density /= density.sum(2, keepdims=True)
    second, atom = special.ndtr(z[:, 4:5]) ** 2, special.ndtr(z[:, 5:6]) ** 5
    body = (1 - second) * density[:, 0] + second * density[:, 1]
    return np.concatenate([atom, (1 - atom) * body], axis=1)


def _particles(likelihood, sizes, draws, rng) -> np.ndarray:
    """Draws of the coordinates given the cells' sizes, [draws, 6]."""

    def fit(z):
        return np.log(np.maximum(_weights(z) @ likelihood, 1e-300)) @ sizes

    z = rng.standard_normal((draws, 6))
    log = fit(z)
    temperature, scale = 0.0, 0.7
    while temperature < 1:
        step = _next_step(log, 1 - temperature)
        temperature = min(1.0, temperature + step)
        weight = np.exp(step * (log - log.max()))
        # Systematic resampling: one random number, evenly spaced.
        places = (rng.random() + np.arange(draws)) / draws
        picked = np.minimum(np.searchsorted(np.cumsum(weight) / weight.sum(), places), draws - 1)
        z, log = z[picked], log[picked]
        shape = np.linalg.cholesky(np.cov(z.T) + 1e-6 * np.eye(6)).T
        for _ in range(_MOVES if temperature < 1 else _SETTLE):
            there = z + scale * rng.standard_normal(z.shape) @ shape
            log_there = fit(there)
            gain = temperature * (log_there - log) + ((z**2).sum(1) - (there**2).sum(1)) / 2
            accepted = np.log(rng.random(draws)) < gain
            z[accepted], log[accepted] = there[accepted], log_there[accepted]
            scale *= np.exp(accepted.mean() - 0.25)  # a quarter accepted is near the best (Roberts et al. 1997)
    return z


def _next_step(log, most) -> float:
    """How much the temperature can grow until reweighting halves the effective number of particles."""

    def enough(step):
        weight = np.exp(step * (log - log.max()))
        return weight.sum() ** 2 / (weight**2).sum() >= len(log) / 2

    if enough(most):
        return most
    low, high = 0.0, most
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if enough(middle) else (low, middle)
    return low


def _draw(mass, size, rng) -> np.ndarray:
    """`size` draws of log(1 - p) from each row of unnormalised mass on p = 0 and the grid: [draws, size]."""
    cumulative = np.cumsum(mass, axis=1)
    cumulative /= cumulative[:, -1:]
    rows = np.arange(len(mass))[:, None]
    # All rows in one search: row r lies between r and r + 1.
    place = np.searchsorted((cumulative + rows).ravel(), rng.random((len(mass), size)) * (1 - 1e-12) + rows)
    point = np.minimum(place - rows * mass.shape[1], mass.shape[1] - 1)
    logit = _LOGIT[np.maximum(point - 1, 0)] + rng.uniform(-_STEP / 2, _STEP / 2, point.shape)
    return np.where(point == 0, 0.0, special.log_expit(-logit))
