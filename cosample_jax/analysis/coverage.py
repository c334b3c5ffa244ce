"""coverage@k: how likely k samples of a problem hold at least one correct solution."""

import numpy as np
from scipy import special


def hit_probability(total, marked, k) -> np.ndarray:
    """Probability that k samples drawn without replacement from `total` hold at least one of the `marked`
    ones.

    1 - C(total - marked, k) / C(total, k): the unbiased estimator of Chen et al. 2021 (arXiv 2107.03374, eq.
    1), through log-gamma so that ten thousand samples a problem neither overflow nor cancel. The three
    arguments broadcast against one another and hold whole numbers.

    Raises:
        ValueError: k exceeds the number of samples (nothing unbiased can be said there), k < 0, or a count of
        marked
            samples outside 0 .. total.
    """
    total, marked, k = np.broadcast_arrays(*(np.asarray(x, np.int64) for x in (total, marked, k)))
    if np.any(k > total):
        raise ValueError(f'k = {int(k[k > total][0])} exceeds the {int(total[k > total][0])} samples a problem has')
    if np.any(k < 0):
        raise ValueError('k must not be negative')
    if np.any((marked < 0) | (marked > total)):
        raise ValueError('the count of correct samples must lie between 0 and the number of samples')
    unmarked = total - marked
    certain = k > unmarked  # fewer unmarked samples than draws: C(unmarked, k) = 0
    drawn = np.where(certain, 0, k)
    # Grouped so that marked = 0 cancels to exactly zero.
    log_miss = _log_falling(unmarked, drawn) - _log_falling(total, drawn)
    return np.where(certain, 1.0, -np.expm1(np.minimum(log_miss, 0.0)))


def _log_falling(n, k):
    """log of n (n - 1) ... (n - k + 1)."""
    return special.gammaln(n + 1.0) - special.gammaln(n - k + 1.0)


def coverage(total, correct, k) -> float:
    """coverage@k, the mean of `hit_probability` over problems (0 when there is no problem).

    Args:
        total: samples of each problem, [problems] or one number.
        correct: correct samples of each problem, [problems].
        k: draws, one number or one per problem (a budget that is no whole number alternates between
        problems).
    """
    values = hit_probability(total, correct, k)
    return float(values.mean()) if values.size else 0.0


def coverage_curve(total, correct, ks) -> np.ndarray:
    """`hit_probability` of every problem at every k: [problems, len(ks)], so that means and bootstraps share
    it.
    """
    total = np.broadcast_to(np.asarray(total), np.shape(correct))
    return hit_probability(total[:, None], np.asarray(correct)[:, None], np.asarray(ks)[None, :])
