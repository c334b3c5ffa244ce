"""diversity@k: how many UNIQUE correct solutions k samples of a problem are expected to hold."""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from cosample_jax.analysis import coverage

# GSM8K's calculator annotations repeat the sum they stand beside.
_ANNOTATION = re.compile(r'<<[^<>]*>>')
_THOUSANDS = re.compile(r'(?<=\d),(?=\d{3}(?!\d))')
_TIMES = re.compile(r'(?<=\d)\s*[xX]\s*(?=\d)')
# A hyphen between letters joins a word; anything else here computes.
_TOKEN = re.compile(r'\d+(?:\.\d+)?|[+*/=^%()<>]|(?<![A-Za-z])-(?!-)')
_SIGNS = str.maketrans({'×': '*', '·': '*', '÷': '/', '−': '-', '–': '-', '[': '(', ']': ')'})


def exact(text: str) -> str:
    """The normal form "same text": the text without surrounding white space."""
    return text.strip()


def skeleton(text: str) -> str:
    """The normal form "same numbers and operators": what is computed and in which order, wording dropped.

    'Then 3 x 1,200 = 3600 apples.' and '3 * 1200 = 3600' share the skeleton '3 * 1200 = 3600'.
    """
    text = _ANNOTATION.sub('', text.translate(_SIGNS))
    text = _TIMES.sub(' * ', _THOUSANDS.sub('', text))
    return ' '.join(_TOKEN.findall(text))


FORMS = {'exact': exact, 'skeleton': skeleton}


def multiplicities(normal: Sequence[Sequence[str]]) -> list[list[int]]:
    """For each problem, how often each of its distinct correct solutions was sampled, given in their normal form."""
    return [list(Counter(forms).values()) for forms in normal]


def diversity(total, counts: Sequence[Sequence[int]], k) -> np.ndarray:
    """Expected number of unique correct solutions of each problem among k samples: [problems, columns].

    The metric of Bansal et al. 2024 (arXiv 2408.16737, section 3). Drawing k of M without replacement, a solution that
    was sampled m times is seen with probability
    1 - C(M - m, k) / C(M, k); expectations add, so the sum over the distinct solutions is exact and unbiased
    (rarefaction: Hurlbert 1971, Ecology 52, 577-586).

    Args:
        total: samples of each problem (M), [problems] or one number.
        counts: `multiplicities` of each problem's correct solutions.
        k: draws: [columns], the same for every problem, or [problems, columns].

    Raises:
        ValueError: k exceeds the samples of a problem, even of one without a correct solution.
    """
    total = np.broadcast_to(np.asarray(total, np.int64), (len(counts),))[:, None]
    k = np.broadcast_to(np.asarray(k, np.int64), (len(counts), np.shape(k)[-1]))
    result = coverage.hit_probability(total, 0, k)  # zeros, and the check of every k
    owner = np.repeat(np.arange(len(counts)), [len(c) for c in counts])
    seen = np.array([m for c in counts for m in c], np.int64)[:, None]
    np.add.at(result, owner, coverage.hit_probability(total[owner], seen, k[owner]))
    return result
