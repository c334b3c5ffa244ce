"""Posterior draws of the parameters of a population, by sequential Monte Carlo (Del Moral et al. 2006).

Particles go from the prior, standard normal in every coordinate, to the posterior through tempered likelihoods; at each
temperature they are resampled and moved. No burn-in to judge, and no chain to get stuck.
"""

from collections.abc import Callable

import numpy as np

_MOVES = 5  # at each temperature
_SETTLE = 20  # and at the last


def particles(fit: Callable[[np.ndarray], np.ndarray], coordinates: int, draws: int, rng) -> np.ndarray:
    """Draws of the coordinates given the data, [draws, coordinates].

    Args:
        fit: log likelihood of each row of coordinates, [draws, coordinates] -> [draws].
    """
    z = rng.standard_normal((draws, coordinates))
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
        shape = np.linalg.cholesky(np.cov(z.T) + 1e-6 * np.eye(coordinates)).T
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


def points(mass: np.ndarray, size: int, rng) -> np.ndarray:
    """`size` draws of a column from each row of unnormalised masses: [draws, columns] -> [draws, size]."""
    cumulative = np.cumsum(mass, axis=1, dtype=np.float64)
    cumulative /= cumulative[:, -1:]
    rows = np.arange(len(mass))[:, None]
    # All rows in one search: row r lies between r and r + 1.
    place = np.searchsorted((cumulative + rows).ravel(), rng.random((len(mass), size)) * (1 - 1e-12) + rows)
    return np.minimum(place - rows * mass.shape[1], mass.shape[1] - 1)
