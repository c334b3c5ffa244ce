"""Which problems get the next samples, and from which source: a fixed budget, spent in rounds.

Samples are keyed by problem and index, so all that is to be decided are COUNTS: the first n samples of a problem from
a source. `next_round` says how many more of each are worth drawing given the outcomes so far, and nothing else enters:
whoever was interrupted asks again and is told the same. The policies, at exactly the same cost:

    uniform   as many of every problem, from each source what its own budget pays for
    cascade   the first source's budget evenly over all problems, then the second source's on those that stay unsolved,
              as FrugalGPT (arXiv 2305.05176) asks the stronger model where the weaker one's answer will not do
    adaptive  wherever, and from whichever source, the next sample most likely adds a solved problem, per cost

A sample's worth under the adaptive policy is the chance that it is correct (:mod:`cosample_jax.analysis.chances`, from
the outcomes of all problems and of both sources) and that none of those before it was, those of the same round, whose
outcomes are not known yet, included. So more samples of one problem are worth less and less, and taking the best per
cost one after the other is near the best that could be done knowing the chances (Nemhauser et al. 1978). Damani et al.
(arXiv 2410.04707) allocate in the same way, once, by chances that a trained probe predicts; here they are learned from
the outcomes themselves, round after round.
"""

import hashlib
import heapq
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np

from cosample_jax.analysis import chances

ROUNDS = 12
"""Rounds that a budget is spent in. Benchmarked: 4 cost one to four points of coverage, 24 gain less than one."""
_ROUNDING = 1e-9  # of the budget: a third of a strong sample three times is a strong sample


class Problems(NamedTuple):
    """What is known of the problems before anything is sampled; `kinds` can be sorted, e.g. (level, subject)."""

    ids: Sequence[str]
    kinds: Sequence[Hashable]


class Source(NamedTuple):
    """Attributes:
    name: The model.
    cost: Of a sample, in samples of the strong model.
    budget: Of all problems together, in the same unit; only `adaptive` moves it from one source to another.
    """

    name: str
    cost: float
    budget: float


def next_round(policy: str, problems: Problems, sources: Sequence[Source], drawn, correct) -> np.ndarray:
    """How many more samples of each problem to draw from each source: [problems, sources]; zeros when that is all.

    In the end less is left than the cheapest sample costs. Ties go by a hash of the problem's id.

    Args:
        policy: One of POLICIES.
        problems: In any order, the same in all rounds.
        sources: One or two, the cheapest first.
        drawn, correct: Samples and correct samples so far, [problems, sources].

    Raises:
        ValueError: A cascade without a second source, or no such policy.
    """
    if policy == 'cascade' and len(sources) != 2:
        raise ValueError(f'a cascade needs two sources, not {[source.name for source in sources]}')
    if policy not in POLICIES:
        raise ValueError(f'no policy {policy!r}: {", ".join(POLICIES)}')
    return POLICIES[policy](_State(problems, sources, np.asarray(drawn), np.asarray(correct)))


class _State:
    """Where a run stands."""

    def __init__(self, problems, sources, drawn, correct):
        self.problems, self.sources, self.drawn, self.correct = problems, sources, drawn, correct
        self.costs = np.array([source.cost for source in sources])
        total = sum(source.budget for source in sources)
        self.left = total * (1 + _ROUNDING) - float((drawn @ self.costs).sum())
        self.round = min(self.left, total / ROUNDS)
        order = sorted(range(len(problems.ids)), key=lambda i: _hash(problems.ids[i]))
        self.rank = np.empty(len(order), int)
        self.rank[order] = range(len(order))

    def evenly(self, samples: int) -> np.ndarray:
        """So many samples, spread over all problems: [problems]."""
        each, more = divmod(samples, len(self.rank))
        return each + (self.rank < more)

    def affordable(self, source: int) -> int:
        """Samples that the source's budget pays for."""
        return int(self.sources[source].budget * (1 + _ROUNDING) / self.costs[source])


# Problem, its extra samples [sources] and what is left to spend -> (value to be sorted by, the least first; source).
_Index = Callable[[int, np.ndarray, float], tuple[tuple, int] | None]


def _best_first(state: _State, index: _Index) -> np.ndarray:
    """The samples of a round, the one with the least index first."""
    more = np.zeros_like(state.drawn)
    left, goal = state.left, state.left - state.round
    heap: list = []

    def push(problem):
        found = index(problem, more[problem], left)
        if found:
            heapq.heappush(heap, (found[0], state.rank[problem], problem, found[1]))

    for problem in range(len(more)):
        push(problem)
    while heap and left > goal:
        *_, problem, source = heapq.heappop(heap)
        if state.costs[source] <= left:
            more[problem, source] += 1
            left -= state.costs[source]
        push(problem)  # with what it is worth now; one that is too dear is offered from a cheaper source, or not at all
    return more


def _uniform(state: _State) -> np.ndarray:
    counts = [state.affordable(source) for source in range(len(state.sources))]
    counts[0] += int((sum(s.budget for s in state.sources) * (1 + _ROUNDING) - counts @ state.costs) / state.costs[0])
    return np.column_stack([state.evenly(count) for count in counts]) - state.drawn


def _cascade(state: _State) -> np.ndarray:
    first = state.evenly(state.affordable(0)) - state.drawn[:, 0]
    if (first > 0).any():
        return np.column_stack([first, np.zeros_like(first)])
    solved = state.correct.any(1)
    asked = ~solved | solved.all()

    def fewest(problem, more, left):
        for source in (1, 0):
            if asked[problem] and state.costs[source] <= left:
                return (state.drawn[problem, source] + more[source],), source
        return None

    return _best_first(state, fewest)


def _adaptive(state: _State) -> np.ndarray:
    row_of, rows = chances.posterior(state.drawn, state.correct, state.problems.kinds)
    axes = (chances.P[:, None], chances.P[None, :] if len(state.sources) == 2 else np.zeros((1, 1)))
    found: dict = {}  # problems alike are worth the same

    def worth(row, correct, more):
        key = (row, correct, *more)
        if key not in found:
            if correct:
                found[key] = [0.0] * len(more)
            else:
                missed = rows[row]
                for p, count in zip(axes, more, strict=False):
                    missed = missed * (1 - p) ** int(count)
                found[key] = [float(f'{(missed * p).sum():.9g}') for p, _ in zip(axes, more, strict=False)]
        return found[key]

    def per_cost(problem, more, left):
        values = worth(row_of[problem], correct[problem], more)
        rated = [(-v / c, s) for s, (v, c) in enumerate(zip(values, state.costs, strict=True)) if c <= left]
        if not rated:
            return None
        value, source = min(rated)
        # Where nothing is left to be solved, problems with few correct solutions come first.
        return (value, correct[problem], state.drawn[problem].sum() + more.sum()), source

    correct = state.correct.sum(1)
    return _best_first(state, per_cost)


POLICIES = {'uniform': _uniform, 'cascade': _cascade, 'adaptive': _adaptive}


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()
