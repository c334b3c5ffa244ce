"""maj@k: the answer most samples agree on (self-consistency: Wang et al. 2022, arXiv 2203.11171)."""

from collections import Counter
from collections.abc import Sequence


def majority(answers: Sequence[str]) -> str:
    """The most frequent answer; a tie goes to the answer that was sampled first.

    Samples without an answer ('') never vote; '' comes back when nobody voted.
    """
    votes = Counter(answer for answer in answers if answer)  # keeps first-seen order, which max() respects
    return max(votes, key=votes.__getitem__) if votes else ''


def majority_at(answers: Sequence[str], k: int) -> str:
    """The majority answer of the first k samples.

    The first k are k independent draws, whatever was drawn after them: so the share of problems where this is right
    is an unbiased estimate of voting with k. Of all subsets of k it takes one: its noise is that of k samples a
    problem, and those of several k go together, as each k holds the smaller ones.

    Raises:
        ValueError: fewer than k samples.
    """
    if not 0 < k <= len(answers):
        raise ValueError(f'maj@{k} needs {k} samples, there are {len(answers)}')
    return majority(answers[:k])
