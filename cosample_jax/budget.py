"""What a sample costs and how many a budget buys: the arithmetic of compute-matched sampling."""

import hashlib
import math


def sample_cost(num_params: float, tokens: float) -> float:
    """FLOPs of one sampled solution, 2·P·W: P parameters, W generated tokens (prefill is not counted, as in
    the paper).
    """
    return 2.0 * num_params * tokens


def price(tokens: float, price_per_million: float) -> float:
    """Price of `tokens` generated tokens, in the currency of `price_per_million`."""
    return tokens * price_per_million / 1e6


def matched_ratio(strong_cost: float, weak_cost: float) -> float:
    """Weak samples that cost as much as one strong sample (Eq. 1: S_WC = P_SE / P_WC · S_SE).

    The two costs are of one sample, or of one token when both models write equally long, in any common unit:
    parameters, FLOPs, a price. A quotient within rounding of a whole number is that number. ValueError unless
    both are positive.
    """
    if not (strong_cost > 0 and weak_cost > 0):
        raise ValueError(f'costs must be positive, not {strong_cost} and {weak_cost}')
    ratio = strong_cost / weak_cost
    return float(round(ratio)) if math.isclose(ratio, round(ratio), rel_tol=1e-9) else ratio


def samples(problem_id: str, ratio: float, base: int) -> int:
    """How many weak samples this problem gets when the strong model gets `base`.

    A non-integer ratio·base is rounded up for that share of the problems (by a hash of the id) and down for
    the rest, so the mean over problems is ratio·base. The hash is one number per problem, so a larger base
    never gives fewer: pools stay nested.
    """
    matched = ratio * base
    if math.isclose(matched, round(matched), rel_tol=1e-9):
        return round(matched)
    return math.floor(matched + _unit(problem_id))


def _unit(text: str) -> float:
    """A number in [0, 1) that depends on nothing but `text`."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), 'big') / 2**48
