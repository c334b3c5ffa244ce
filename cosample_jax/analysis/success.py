"""How likely each problem is solved by one sample, from a few graded samples of each: a Bayesian mixture model.

A forecast of coverage@K from n << K samples rests on how many problems have a success probability p near zero, which a
curve through mean coverage at 1 .. n does not tell. So the distribution of p over problems is what is fitted. It has

* an atom at p = 0: problems that are never solved (beyond the model, or their gold answer is wrong),
* two components between a Beta and a logit-normal. A Beta's left tail p^(a - 1) lets coverage near its limit as K^-a,
  the power laws that language models show (Brown et al. 2024, arXiv 2407.21787; Schaeffer et al. 2025, arXiv
  2502.17578, who derive them from such tails); a bend in the log density makes a hump of it, as other pools have.

Below p ~ 1 / n samples say only how much mass there is, not how it is spread. There the prior speaks, and the draws
spread as widely as the tails that it allows, instead of following the one that fits best. Given the distribution,
each problem has a posterior of its own from its own counts.

The distribution lies on a grid of logit p, where a Beta's log density is a log p + b log(1 - p) up to a constant, and
the bend is a parabola.
"""

from typing import NamedTuple

import numpy as np
from scipy import special

from cosample_jax.analysis import population

DRAWS = 1000
_STEP = 0.2
# p from 1e-7 (no budget of interest tells it from zero) to 1 - 1e-4.
_LOGIT = np.arange(special.logit(1e-7), special.logit(1 - 1e-4), _STEP)
_LOG_P, _LOG_MISS = special.log_expit(_LOGIT), special.log_expit(-_LOGIT)
_SHAPES = np.stack([_LOG_P, _LOG_MISS, -(_LOGIT**2) / 2]).astype(np.float32)


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

    def fit(z):
        return np.log(np.maximum(_weights(z) @ likelihood, 1e-30)) @ sizes

    weights = _weights(population.particles(fit, 7, draws, rng))
    log_miss = np.empty((draws, len(total)))
    for cell, size in enumerate(sizes):
        log_miss[:, cell_of.reshape(-1) == cell] = _draw(weights * likelihood[:, cell], size, rng)
    return Success(log_miss, weights)


def _likelihood(total, correct) -> np.ndarray:
    """Probability of each cell's counts at p = 0 and on the grid, relative to the largest: [1 + grid, cells]."""
    log = correct * _LOG_P[:, None] + (total - correct) * _LOG_MISS[:, None]
    log = np.concatenate([np.where(correct == 0, 0.0, -np.inf)[None], log])
    return _exp(log - log.max(0))


def _weights(z) -> np.ndarray:
    """The distribution that standard normal coordinates stand for, [draws, 7] -> [draws, 1 + grid]: this is the prior.

    Each component has the logit of its mean (0.27 in the middle, 1% to 93% at 90%), the tail exponent a of a Beta (0.5,
    0.05 to 5) and a factor exp(-c (logit p - logit mean)^2 / 2), which both share: c is 0 to 0.3, a tenth on average
    and often near none. The second has a share of a third on average, the atom of an eleventh, both often near none.
    """
    centre, tail, bend = -1 + 2.2 * z[:, 0:2], 0.5 * np.exp(1.4 * z[:, 2:4]), 0.3 * special.ndtr(z[:, 6:7]) ** 2
    # logit p is log p - log(1 - p), so the centre of the factor is in the weights of these two.
    of_miss = tail * np.exp(-centre) - bend * centre
    shape = np.stack([tail + bend * centre, of_miss, np.broadcast_to(bend, tail.shape)], axis=2)
    # In single precision, which is 1e-3 of a log density at worst and three times as fast.
    log = shape.astype(np.float32) @ _SHAPES
    density = _exp(log - log.max(2, keepdims=True))
    density /= density.sum(2, keepdims=True)
    second, atom = (special.ndtr(z[:, 4 + i : 5 + i]).astype(np.float32) ** power for i, power in enumerate((2, 10)))
    body = (1 - second) * density[:, 0] + second * density[:, 1]
    return np.concatenate([atom, (1 - atom) * body], axis=1)


def _exp(log) -> np.ndarray:
    """exp in single precision, zero below e^-40: a product of two of them must not be subnormal, which is slow."""
    return np.where(log < -40, np.float32(0), np.exp(log.astype(np.float32)))


def _draw(mass, size, rng) -> np.ndarray:
    """`size` draws of log(1 - p) from each row of unnormalised mass on p = 0 and the grid: [draws, size]."""
    point = population.points(mass, size, rng)
    logit = _LOGIT[np.maximum(point - 1, 0)] + rng.uniform(-_STEP / 2, _STEP / 2, point.shape)
    return np.where(point == 0, 0.0, special.log_expit(-logit))
