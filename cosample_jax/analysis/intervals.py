"""Intervals: Wilson for a share, bootstraps over problems for everything else."""

import functools
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from scipy import special

from cosample_jax.analysis import significance

LEVEL = 0.95
DRAWS = 10_000
# A difference this many standard errors wide is found with 80% power at the two-sided 5% level: 1.96 + 0.84.
DETECTABLE = NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(0.8)
_CHUNK = 8_000_000  # resampled problems held at once as numbers: bounds the memory


class Interval(NamedTuple):
    low: float
    high: float


class Difference(NamedTuple):
    """a - b, its interval, the p of "there is none", its standard error, the minimum detectable difference, and over
    how many problems. `p` is of this comparison alone: `significance.holm` weighs it among others.
    """

    value: float
    low: float
    high: float
    p: float
    standard_error: float
    detectable: float
    problems: int


def wilson(successes: int, trials: int, level: float = LEVEL) -> Interval:
    """Wilson's score interval for a share (Wilson 1927); the whole of [0, 1] when there was no trial."""
    if not 0 <= successes <= trials:
        raise ValueError(f'{successes} successes in {trials} trials')
    if trials == 0:
        return Interval(0.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share = successes / trials
    scale = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / scale
    half = z / scale * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    # At the ends the two terms cancel exactly in theory, not in floating point.
    low = 0.0 if successes == 0 else float(centre - half)
    high = 1.0 if successes == trials else float(centre + half)
    return Interval(low, high)


def resampled_means(values, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Means over problems drawn with replacement: values [problems, columns] -> [draws, columns].

    Every column sees the same draws, so differences between columns are paired.
    """
    values = np.asarray(values, np.float64)
    problems = len(values)
    if problems == 0:
        raise ValueError('no problem to resample')
    counts = _resample(problems, draws, seed)
    rows = max(1, _CHUNK // problems)
    sums = [counts[start : start + rows].astype(np.float64) @ values for start in range(0, draws, rows)]
    return np.concatenate(sums) / problems


@functools.lru_cache(maxsize=2)  # a table asks for the same problems over and over
def _resample(problems, draws, seed):
    """How often each draw takes each problem, uint8 [draws, problems].

    A byte is enough: of n draws from n problems one takes a given problem 256 times with a chance below 1e-500.
    """
    rng = np.random.default_rng(seed)
    counts = np.empty((draws, problems), np.uint8)
    rows = max(1, _CHUNK // 16 // problems)  # few enough for the cache of a core
    for start in range(0, draws, rows):
        part = counts[start : start + rows]
        picks = rng.integers(problems, size=part.shape)
        picks += problems * np.arange(len(part))[:, None]
        part[:] = np.bincount(picks.ravel(), minlength=part.size).reshape(part.shape)
    return counts


def quantiles(draws: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """The percentile interval of each column: [draws, columns] -> [2, columns]."""
    # Rounded far below any count's resolution: an end that is zero must not come out as 1e-18 and be read as above it.
    return np.round(np.quantile(draws, [0.5 - level / 2, 0.5 + level / 2], axis=0), 12)


def mean_interval(values, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Bootstrap interval of the mean over problems of each column: values [problems, columns] -> [2,
    columns].
    """
    return quantiles(resampled_means(values, draws, seed))


def share_interval(values, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """As `mean_interval` for values in [0, 1], with Wilson's interval where every problem has 0, or every one
    has 1.

    There each draw is the same and the bootstrap would claim certainty.
    """
    values = np.asarray(values, np.float64)
    bounds = mean_interval(values, draws, seed)
    for column in np.flatnonzero((values == values[0]).all(0) & np.isin(values[0], (0, 1))):
        bounds[:, column] = wilson(int(values[:, column].sum()), len(values))
    return bounds


def paired_difference(a, b, draws: int = DRAWS, seed: int = 0) -> Difference:
    """Mean of a - b over the SAME problems, bootstrapped over them.

    Args:
        a, b: one value a problem, [problems], in the same problem order.

    Returns:
        The difference, its percentile interval, p by flipping signs (:mod:`significance`), the paired standard error
        std(a - b) / sqrt(problems), and the minimum detectable difference (80% power, two-sided 5%) from it. Where
        all pairs are equal the detectable difference is computed as if one had differed by one: equal pairs do not
        prove that no difference exists.

    Raises:
        ValueError: different shapes, or no problem.
    """
    (result,) = paired_differences(np.asarray(a)[..., None], np.asarray(b)[..., None], draws, seed)
    return result


def paired_differences(a, b, draws: int = DRAWS, seed: int = 0) -> list[Difference]:
    """`paired_difference` of each column of a and b, [problems, columns], in one pass over the draws."""
    a, b = _same_shape(a, b)
    pairs = a - b
    problems = len(pairs)
    bounds = mean_interval(pairs, draws, seed).T
    p = significance.sign_flips(pairs, draws, seed)
    errors = pairs.std(0, ddof=1) / np.sqrt(problems) if problems > 1 else np.full(pairs.shape[1], np.inf)
    columns = zip(pairs.mean(0), bounds, p, errors, strict=True)
    return [_difference(value, *ends, p, error, problems) for value, ends, p, error in columns]


def seeded_difference(a, b, draws: int = DRAWS, seed: int = 0) -> Difference:
    """Mean of a - b over training seeds and problems, both resampled: the two-level bootstrap.

    Problems are crossed with seeds (each seed is tested on the same problems), so each draw picks problems, shared by
    a and b, and seeds, apart for a and b (Owen 2007, Annals of Applied Statistics 1, 386-411: the pigeonhole
    bootstrap). Its spread counts the luck of single outcomes up to three times, and knows nothing of how little three
    seeds tell: so the draws are stretched to the standard error of `significance.crossed`, times t / z for its degrees
    of freedom (as Hesterberg 2015, American Statistician 69, 371-386, widens bootstrap intervals). p is that of t.
    With one seed on either side that level says nothing and the interval holds for this run only.

    Args:
        a, b: [seeds of a, problems] and [seeds of b, problems], the same problems in the same order.
    """
    a, b = np.atleast_2d(np.asarray(a, np.float64)), np.atleast_2d(np.asarray(b, np.float64))
    if a.shape[1] != b.shape[1]:
        raise ValueError(f'not paired: {a.shape[1]} and {b.shape[1]} problems')
    error, freedom = significance.crossed(a, b)
    if len(a) == len(b) == 1 or not error:
        return paired_difference(a.mean(0), b.mean(0), draws, seed)
    means = resampled_means(np.concatenate([a, b]).T, draws, seed)
    rng = np.random.default_rng(seed)
    sides = means[:, : len(a)], means[:, len(a) :]
    sampled = np.subtract(*((side * _seed_weights(rng, side.shape[1], draws)).sum(1) for side in sides))
    value = a.mean() - b.mean()
    t = special.stdtrit(freedom, 0.5 + LEVEL / 2)
    width = error / sampled.std() * t / NormalDist().inv_cdf(0.5 + LEVEL / 2)
    low, high = quantiles(value + width * (sampled - value)[:, None])[:, 0]
    p = 2 * special.stdtr(freedom, -abs(value) / error)
    detectable = (t + special.stdtrit(freedom, 0.8)) / DETECTABLE
    return _difference(value, low, high, p, error, a.shape[1], detectable)


def unpaired_difference(a, b, draws: int = DRAWS, seed: int = 0) -> Difference:
    """Mean of a - b over DIFFERENT problems, each side bootstrapped alone: over its problems, and its seeds if several.

    Args:
        a, b: [seeds of a, problems of a] and [seeds of b, problems of b].

    Returns:
        As `paired_difference`, with p from the same draws: twice the share of them beyond zero, counting one more
        (Efron and Tibshirani 1993, An Introduction to the Bootstrap, 15.4); `problems` are those of the smaller side.
    """
    a, b = np.atleast_2d(np.asarray(a, np.float64)), np.atleast_2d(np.asarray(b, np.float64))
    rng = np.random.default_rng(seed)
    # Other draws for b: with the same ones two sides of equally many problems would be paired by chance.
    means = (resampled_means(x.T, draws, each) for x, each in ((a, seed), (b, seed + 1)))
    drawn_a, drawn_b = ((x * _seed_weights(rng, x.shape[1], draws)).sum(1) for x in means)
    sampled = drawn_a - drawn_b
    low, high = quantiles(sampled[:, None])[:, 0]
    problems = min(a.shape[1], b.shape[1])
    error = float(sampled.std(ddof=1)) if problems > 1 else float('inf')
    p = min(1.0, 2 * (min((sampled <= 0).sum(), (sampled >= 0).sum()) + 1) / (draws + 1))
    return _difference(a.mean() - b.mean(), low, high, p, error, problems)


def _seed_weights(rng, seeds, draws):
    return rng.multinomial(seeds, [1 / seeds] * seeds, size=draws) / seeds


def ratio_difference(a_part, a_whole, b_part, b_whole, draws: int = DRAWS, seed: int = 0) -> Difference:
    """sum(a_part) / sum(a_whole) - sum(b_part) / sum(b_whole), bootstrapped over the problems with a sample.

    For shares of samples (false positives among kept ones): samples of one problem resemble one another, so
    problems, not samples, are drawn. p flips the signs of what each problem adds to the difference where both sides
    have the shared rate R: (a_part - R a_whole) / mean(a_whole) - (b_part - R b_whole) / mean(b_whole), whose mean is
    the difference itself. Not a number where a side has no sample at all.
    """
    columns = np.stack([np.asarray(x, np.float64) for x in (a_part, a_whole, b_part, b_whole)], axis=1)
    columns = columns[columns.any(1)]
    sums = columns.sum(0)
    if not (sums[1] and sums[3]):
        nan = float('nan')
        return Difference(nan, nan, nan, nan, nan, nan, len(columns))
    drawn = resampled_means(columns, draws, seed)
    drawn = drawn[(drawn[:, 1] > 0) & (drawn[:, 3] > 0)]
    sampled = drawn[:, 0] / drawn[:, 1] - drawn[:, 2] / drawn[:, 3]
    low, high = quantiles(sampled[:, None])[:, 0]
    value = sums[0] / sums[1] - sums[2] / sums[3]
    shared = (sums[0] + sums[2]) / (sums[1] + sums[3])
    a, b = ((part - shared * whole) / whole.mean() for part, whole in (columns[:, :2].T, columns[:, 2:].T))
    (p,) = significance.sign_flips((a - b)[:, None], draws, seed)
    return _difference(value, low, high, p, sampled.std(ddof=1), len(columns))


def ratio_interval(part, whole, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Interval of sum(part) / sum(whole) of each column, drawing problems: [problems, columns] each -> [2, columns].

    Wilson's, of the problems that the column has, where nothing or everything is part: there each draw is the same.
    Not a number in a column that is empty.
    """
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    drawn = resampled_means(np.hstack((part, whole)), draws, seed)
    above, below = np.split(drawn, 2, axis=1)
    shares = np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
    bounds = np.full((2, part.shape[1]), np.nan)
    for column in np.flatnonzero(whole.any(0)):
        sampled = shares[:, column]
        bounds[:, column] = quantiles(sampled[~np.isnan(sampled)][:, None])[:, 0]
        if part[:, column].sum() in (0, whole[:, column].sum()):
            problems = np.count_nonzero(whole[:, column])
            bounds[:, column] = wilson(np.count_nonzero(part[:, column]), problems)
    return bounds


def _difference(value, low, high, p, error, problems, widened=1.0):
    detectable = widened * DETECTABLE * max(error, 1 / problems)
    return Difference(*map(float, (value, low, high, p, error, detectable)), problems)


def _same_shape(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(f'not paired: shapes {a.shape} and {b.shape}')
    if not len(a):
        raise ValueError('no problem to compare')
    return a, b
