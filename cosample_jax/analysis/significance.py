"""Whether a difference is more than luck: a test of one comparison, and Holm's adjustment for a table of them.

Of one comparison the test flips signs: where two sources are alike, a problem's difference is as likely to be +x as -x.
It assumes nothing else (no normal distribution, no many problems), is exact for the number right or wrong (there it is
McNemar's test), and with many problems it holds for any distribution with a mean of zero. Training seeds are too few to
be shuffled: three against three have 20 arrangements, and no p below 0.1. For them there is `crossed`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

ALPHA = 0.05
_CHUNK = 8_000_000  # signs held at once as numbers: bounds the memory


def sign_flips(pairs, draws: int, seed: int = 0) -> np.ndarray:
    """Two-sided p of "the mean difference is zero" for each column: pairs [problems, columns] -> [columns].

    The share of random sign assignments with at least the observed |sum| (Fisher 1935, The Design of Experiments, 21;
    asymptotically valid without symmetry: Romano 1990, JASA 85, 686-692), counting the observed one, so that it is
    never zero and never too small (Phipson and Smyth 2010, SAGMB 9, 39). All columns see the same signs.
    """
    pairs = np.asarray(pairs, np.float64)
    pairs = pairs[pairs.any(1)]  # the others are the same with either sign
    rng = np.random.default_rng([seed, 1])  # other numbers than the bootstrap's
    sums, reach = pairs.sum(0), np.abs(pairs).sum(0)
    as_far = np.zeros(pairs.shape[1], np.int64)
    rows = max(1, _CHUNK // max(1, len(pairs)))
    bytes_each = 4 * -(-len(pairs) // 32)  # whole words: the generator gives no less, whatever the chunk
    for start in range(0, draws, rows):
        count = min(rows, draws - start)
        drawn = np.frombuffer(rng.bytes(count * bytes_each), np.uint8).reshape(count, bytes_each)
        positive = np.unpackbits(drawn, axis=1, count=len(pairs)).astype(np.float64)
        flipped = 2 * (positive @ pairs) - sums
        # What ties on paper must not be parted by rounding.
        as_far += (np.abs(flipped) >= np.abs(sums) - 1e-9 * reach).sum(0)
    return (as_far + 1) / (draws + 1)


class Crossed(NamedTuple):
    """The standard error of a difference of two means over seeds and problems, and its degrees of freedom."""

    error: float
    freedom: float


def crossed(a: np.ndarray, b: np.ndarray) -> Crossed:
    """Of mean(a) - mean(b), where a [seeds of a, problems] and b [seeds of b, problems] share the problems.

    Seeds and problems are both random and crossed (Clark 1973, J. Verbal Learning and Verbal Behavior 12, 335-359;
    Judd, Westfall and Kenny 2012, J. Personality and Social Psychology 103, 54-69). The squared error is the spread
    between the seeds' means, for each side, and what the spread between the problems' mean differences adds to it: the
    luck of single outcomes is in both and is taken from the second, by the residual mean squares. Each variance comes
    from few or many values, hence Satterthwaite's degrees of freedom (1946, Biometrics Bulletin 2, 110-114), which
    with few seeds are few. A side of one seed says nothing of the spread between seeds: there the error is of this
    training alone. Error 0 (and no freedom) where neither level varies.
    """
    seeds, residual = [], 0.0
    for side in (a, b):
        count, problems = side.shape
        if count > 1:
            means = side.mean(1)
            left = side - means[:, None] - side.mean(0) + side.mean()
            residual += float((left**2).sum()) / ((count - 1) * max(1, problems - 1)) / (count * problems)
            seeds.append((float(means.var(ddof=1)) / count, count - 1))
    pairs = a.mean(0) - b.mean(0)
    between = (float(pairs.var(ddof=1)) / len(pairs), len(pairs) - 1) if len(pairs) > 1 else (0.0, 1)
    variance = sum(v for v, _ in seeds) + max(0.0, between[0] - residual)
    if not variance:
        return Crossed(0.0, 0.0)
    return Crossed(variance**0.5, variance**2 / sum(v**2 / freedom for v, freedom in (*seeds, between)))


def holm(values: Sequence[float]) -> list[float]:
    """Adjusted p, in the order given: those up to `ALPHA` are what Holm's step-down test rejects.

    The i-th smallest of m is multiplied by m - i + 1, and none is less than the one before (Holm 1979, Scandinavian
    Journal of Statistics 6, 65-70). The chance of even one false finding among the m stays below `ALPHA`, however the
    comparisons depend on one another.
    """
    adjusted = [0.0] * len(values)
    floor = 0.0
    for place, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        floor = max(floor, min(1.0, (len(values) - place) * values[index]))
        adjusted[index] = floor
    return adjusted


def with_holm(rows: Sequence[dict]) -> list[dict]:
    """The rows of one table with `p_holm` filled in: adjusted over all rows that have a `p` ('' is none)."""
    compared = [i for i, row in enumerate(rows) if row['p'] != '']
    adjusted = dict(zip(compared, holm([rows[i]['p'] for i in compared]), strict=True))
    return [row | {'p_holm': adjusted.get(i, '')} for i, row in enumerate(rows)]
