"""What a sample costs, by four lenses, and how many a budget buys: the arithmetic of matched sampling. No JAX here.

A lens turns what is known of a model and the mean `Lengths` of its samples into a `Cost`:

    params_cost  2·P FLOPs a generated token, as the paper: prompts and attention are free
    flops_cost   FLOPs of every matrix product, prompts and attention included, shared as our sampler shares them
    price_cost   what an API asks for
    chip_cost    what a pool took of the devices, by its own counters

`matched` counts samples of equal cost under any of them.
"""

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence

from cosample_jax.gemma.config import GemmaConfig


@dataclasses.dataclass(frozen=True)
class Lengths:
    """Mean tokens of a sample: of the `prefix` that all prompts share, the `question` behind it, and what is
    `generated`.

    ValueError unless a question has a token and one is generated: the last token of a prompt is never shared.
    """

    prefix: float
    question: float
    generated: float

    def __post_init__(self):
        if self.prefix < 0 or self.question < 1 or self.generated <= 0:
            raise ValueError(f'no lengths of a sample: {self}')


@dataclasses.dataclass(frozen=True)
class Price:
    """Of a million tokens, in US$; `batch_discount` is the share taken off all where requests may wait, `cached` the
    price of prompt tokens that a cache had.
    """

    input: float
    output: float
    batch_discount: float = 0.0
    cached: float = 0.0

    @property
    def generated(self) -> float:
        """Of a million generated tokens, less the discount; prompts are free here, as in the paper's 35 : 1."""
        return self.output * (1 - self.batch_discount)

    def of(self, read: float, written: float, cached: float = 0, batch: bool = False) -> float:
        """US$ for a request of so many tokens; the `cached` ones are among those `read`."""
        asked = self.input * (read - cached) + self.cached * cached + self.output * written
        return asked * (1 - batch * self.batch_discount) / 1e6


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a pool costs, in one unit: for each sample, for each problem, and once for them all."""

    sample: float
    problem: float = 0.0
    once: float = 0.0

    def total(self, problems: int, samples: float) -> float:
        """Of a pool of so many problems and, of all of them together, samples."""
        return self.once + problems * self.problem + samples * self.sample


@dataclasses.dataclass(frozen=True)
class Matched:
    """A model's share of a matched budget.

    Attributes:
        mean: Samples a problem, before rounding.
        samples: Of all problems, rounded for each as `samples` does it.
        mismatch: What these cost more than the reference, as a share of the reference's cost.
    """

    mean: float
    samples: int
    mismatch: float


def sample_cost(num_params: float, tokens: float) -> float:
    """FLOPs of one sampled solution, 2·P·W: P parameters, W generated tokens (prefill is not counted, as in
    the paper).
    """
    return 2.0 * num_params * tokens


def params_cost(num_params: float, lengths: Lengths) -> Cost:
    """FLOPs by the paper's 2·P·W."""
    return Cost(sample_cost(num_params, lengths.generated))


def flops_cost(model: GemmaConfig, lengths: Lengths) -> Cost:
    """FLOPs of every matrix product that the samples need, each made once, as our sampler makes them.

    A token takes 2 a weight of the layers' matrices and, in each layer, 4 a query head, dimension and key that it
    sees: those up to itself within the layer's window. Its logits take 2·V·D more, and only drawn tokens need any.
    The prefix goes through once, a question but for its last token once for each problem, that token and all but the
    last of the drawn ones for each sample (:mod:`cosample_jax.sampling.engine`).

    Left out is what the mathematics does not need (keys that are masked, padded questions, rows without a sample:
    `chip_cost` has them), and what is no matrix product: norms, rotations, softmax, the gate. Of samples of differing
    lengths the mean counts, which leaves out half the variance of the lengths, in tokens attended to, a sample.
    """
    attended = 4 * model.num_heads * model.head_dim
    projections = 2 * model.embed_dim * model.head_dim * (model.num_heads + model.num_kv_heads)
    matrices = model.num_layers * (projections + 3 * model.embed_dim * model.ffw_dim)

    def between(start: float, end: float) -> float:
        """FLOPs of the layers, of the tokens at positions from `start` to before `end`."""
        pairs = sum(_keys_seen(end, window) - _keys_seen(start, window) for window in model.windows)
        return 2 * matrices * (end - start) + attended * pairs

    last = lengths.prefix + lengths.question - 1
    logits = 2 * model.vocab_size * model.embed_dim * lengths.generated
    return Cost(
        sample=between(last, last + lengths.generated) + logits,
        problem=between(lengths.prefix, last),
        once=between(0, lengths.prefix),
    )


def _keys_seen(tokens: float, window: int) -> float:
    """By the first `tokens` of a sequence together; a window of 0 has no end."""
    full = min(tokens, window) if window else tokens
    return full * (full + 1) / 2 + (tokens - full) * window


def price_cost(price: Price, lengths: Lengths) -> Cost:
    """US$, where each sample is a request of its own that pays for its whole prompt."""
    return Cost(price.of(lengths.prefix + lengths.question, lengths.generated, batch=True))


def chip_cost(seconds_per_token: float, lengths: Lengths) -> Cost:
    """Chip-seconds, at so many for a generated token: prompts, waste and idle rows are in what was measured."""
    return Cost(seconds_per_token * lengths.generated)


def matched(costs: Mapping[str, Cost], reference: str, count: float, problem_ids: Sequence[str]) -> dict[str, Matched]:
    """How many samples of each model cost what `count` samples a problem of the `reference` cost, in whatever unit.

    None, where a model's prompts alone cost more. ValueError when there is no problem or a sample costs nothing.
    """
    if not problem_ids or min(cost.sample for cost in costs.values()) <= 0:
        raise ValueError(f'nothing to match: {len(problem_ids)} problems, costs {dict(costs)}')
    problems = len(problem_ids)
    target = costs[reference].total(problems, problems * count)
    found = {}
    for name, cost in costs.items():
        left = target - cost.total(problems, 0)
        mean = count if name == reference else matched_ratio(left, problems * cost.sample) if left > 0 else 0.0
        drawn = sum(samples(problem_id, mean, 1) for problem_id in problem_ids)
        found[name] = Matched(mean, drawn, cost.total(problems, drawn) / target - 1)
    return found


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


def samples(problem_id: str, ratio: float, base: float) -> int:
    """How many weak samples this problem gets when the strong model gets `base`.

    A non-integer ratio·base is rounded up for that share of the problems (by a hash of the id) and down for
    the rest, so the mean over problems is ratio·base. The hash is one number per problem, so a larger base
    never gives fewer: pools stay nested.
    """
    mean = ratio * base
    if math.isclose(mean, round(mean), rel_tol=1e-9):
        return round(mean)
    return math.floor(mean + unit(problem_id))


def unit(text: str) -> float:
    """A number in [0, 1) that depends on nothing but `text`."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), 'big') / 2**48
