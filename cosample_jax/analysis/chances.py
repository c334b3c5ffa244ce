"""What every problem's chance is with each of one or two sources, from all outcomes so far: in milliseconds.

:mod:`cosample_jax.analysis.success` draws from a posterior, which takes seconds and knows one source. To decide what to
sample next, a posterior mean is enough, and what matters is what it learns from:

* the other source: chances with both are distributed TOGETHER, on a grid of pairs. That distribution is fitted, not
  assumed, so how much a failure of one says of the other is learned, too;
* problems of the same kind (level and subject), by a distribution of their own;
* and all others: of few problems it is near that of all, and of few in all near a weak prior.

Both are empirical Bayes: the weights of the grid are those that the outcomes make most likely (Laird 1978), by EM, with
pseudo-problems for a prior. Which problems were sampled how often follows from their outcomes alone, so it does not
bias the fit: the likelihood is the same whatever made one stop.
"""

from collections.abc import Hashable, Sequence

import numpy as np
from scipy import special

_LOGIT = np.linspace(special.logit(1e-3), special.logit(0.98), 20)
P = np.concatenate([[0.0], special.expit(_LOGIT)])
"""The grid of chances; some problems are never solved."""
_ATOM = 0.05  # of the prior, at p = 0
_SPREAD = 2.5  # of its logits around 0: near uniform in p, and so wider than what it is meant for
_CORRELATION = 0.4  # low, so that a source that was not tried yet is tried where the other failed
_PRIOR = 4.0  # in problems
_SHARED = 1.0  # problems that the distribution of all counts for in that of a kind
_STEPS = 40


def posterior(drawn, correct, kinds: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """The distribution of the chances of every problem; problems with the same kind and outcomes share one.

    Args:
        drawn, correct: samples and correct samples, whole numbers, [problems, sources], one or two sources.
        kinds: of each problem, [problems]; they can be sorted.

    Returns:
        The row of each problem, [problems], and the rows: weights on the grid of pairs, [rows, P, P], or of one source
        [rows, P, 1].
    """
    drawn, correct = np.asarray(drawn), np.asarray(correct)
    names = sorted(set(kinds))
    at = {name: place for place, name in enumerate(names)}
    table = np.column_stack([[at[kind] for kind in kinds], drawn, correct])
    table, row_of, sizes = np.unique(table, axis=0, return_inverse=True, return_counts=True)
    kind, drawn, correct = table[:, 0], *np.split(table[:, 1:], 2, axis=1)
    likelihoods = [_likelihood(n, c) for n, c in zip(drawn.T, correct.T, strict=True)]
    first, second = likelihoods if len(likelihoods) == 2 else (*likelihoods, np.ones((len(table), 1)))
    everything = _fit(_prior(len(likelihoods)), _PRIOR, first, second, sizes)
    rows = np.empty((len(table), *everything.shape))
    for place in range(len(names)):
        of = kind == place
        weights = _fit(everything, _SHARED, first[of], second[of], sizes[of])
        rows[of] = weights * first[of][:, :, None] * second[of][:, None, :]
    return row_of.reshape(-1), rows / rows.sum((1, 2), keepdims=True)


def _likelihood(drawn, correct) -> np.ndarray:
    """Of the outcomes with one source at each chance, relative to the largest: [rows, P]."""
    log = special.xlogy(correct[:, None], P) + special.xlog1py((drawn - correct)[:, None], -P)
    return np.exp(log - log.max(1, keepdims=True))


def _fit(prior, strength, first, second, sizes) -> np.ndarray:
    """Weights on the grid given `sizes` problems of each row and `strength` that are distributed as `prior` says."""
    weights = prior
    for _ in range(_STEPS):
        share = sizes / np.maximum(((first @ weights) * second).sum(1), 1e-300)
        weights = weights * (first.T @ (second * share[:, None])) + strength * prior
        weights = weights / weights.sum()
    return weights


def _prior(sources: int) -> np.ndarray:
    """Normal in the logits, with the atom below them; of two sources, correlated."""
    density = np.exp(-((_LOGIT / _SPREAD) ** 2) / 2)
    one = np.concatenate([[_ATOM], (1 - _ATOM) * density / density.sum()])
    if sources == 1:
        return one[:, None]
    place = np.concatenate([[_LOGIT[0]], _LOGIT]) / _SPREAD
    pairs = np.exp(_CORRELATION / (1 - _CORRELATION**2) * np.outer(place, place))
    for _ in range(50):  # each source's own distribution as `one` has it (Sinkhorn)
        pairs *= (one / pairs.sum(1))[:, None]
        pairs *= one / pairs.sum(0)
    return pairs
