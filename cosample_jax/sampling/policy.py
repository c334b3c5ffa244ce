"""How the next token is chosen, and where its randomness comes from.

The key of a token is key(seed) -> hash32(purpose, problem id) -> sample index -> position. Nothing else is in
it, so a sample does not depend on the order, the neighbours or the number of the others, pools are nested,
and two models draw with common random numbers.
"""

import dataclasses
import hashlib

import jax
import jax.numpy as jnp
import numpy as np

from cosample_jax.sampling.stops import StopStrings


@dataclasses.dataclass(frozen=True)
class Policy:
    """What compiled sampling code depends on.

    Attributes:
        temperature: Logits are divided by it; 0 is greedy.
        top_k: Only the k most likely tokens are drawn from; 0 is all of them.
        stop_ids: Tokens that end a sample.
        top_p: Of these, only the most likely that together have at least this probability (arXiv 1904.09751); 1 is all.
    """

    temperature: float
    top_k: int
    stop_ids: tuple[int, ...]
    top_p: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """What a run of the sampler depends on besides the model and the requests.

    Attributes:
        seed: Root of all randomness.
        purpose: 'train', 'validation', ...: different purposes draw independently.
        temperature: 0 is greedy.
        top_k: 0 is off.
        top_p: 1 is off.
        max_new_tokens: A sample that has drawn this many ends with finish 'length'.
        slots: Rows decoded side by side.
        stop_ids: Tokens that end a sample.
        stop_strings: Texts that do, wherever they begin and end in tokens.
    """

    seed: int
    purpose: str
    temperature: float
    top_k: int
    max_new_tokens: int
    slots: int
    stop_ids: tuple[int, ...]
    top_p: float = 1.0
    stop_strings: StopStrings | None = None


def hash32(text: str) -> np.uint32:
    """A hash of `text` that is the same in every process (Python's own is not)."""
    return np.frombuffer(hashlib.blake2b(text.encode(), digest_size=4).digest(), '<u4')[0]


def problem_hash(purpose: str, problem_id: str) -> np.uint32:
    """What the keys of a problem's samples are folded with; different purposes draw independently."""
    return hash32(f'{purpose}/{problem_id}')


def sample_keys(seed: jax.Array, hashes: jax.Array, sample_indices: jax.Array) -> jax.Array:
    """The key of each sample, [R] typed, from uint32 `problem_hash`es and sample indices [R]."""
    # The generator is named: an environment that changes JAX's default must not change the samples.
    root = jax.random.key(seed, impl='threefry2x32')
    return jax.vmap(lambda h, i: jax.random.fold_in(jax.random.fold_in(root, h), i))(hashes, sample_indices)


def token_keys(keys: jax.Array, positions: jax.Array) -> jax.Array:
    """The keys, [T, R], of the tokens at absolute `positions` int32 [T, R] of the samples with keys [R]."""
    return jax.vmap(jax.vmap(jax.random.fold_in), in_axes=(None, 0))(keys, positions)


def choose(logits: jax.Array, keys: jax.Array, policy: Policy) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Draws one token a row: the Gumbel-max trick over the allowed tokens.

    The noise belongs to the token id, not to its rank: a near-tie in the logits cannot swap two noises.

    Args:
        logits: float32 [R, V], of the raw model.
        keys: [R], from `token_keys`.
        policy: Temperature, top-k and top-p.

    Returns:
        The tokens int32 [R], and the log-probability (nats) of each under the raw model and under the policy
        (0 when greedy); NaN where the logits hold a NaN.
    """
    normalizer = jax.nn.logsumexp(logits, axis=-1)
    if policy.temperature == 0:
        # top_k, not argmax: equal (the lowest id wins a tie) and several times faster on CPU.
        best, tokens = top_k(logits, 1)
        return tokens[:, 0], best[:, 0] - normalizer, jnp.zeros_like(normalizer)

    vocab = logits.shape[-1]
    in_order = policy.top_p < 1 or 0 < policy.top_k < vocab
    if in_order:
        allowed, ids = top_k(logits, min(policy.top_k or vocab, vocab))
        noise = jax.vmap(lambda key, i: gumbel(token_bits(key, i)))(keys, ids)
    else:
        allowed = logits
        noise = jax.vmap(lambda key: gumbel(jax.random.bits(key, (vocab,), jnp.uint32)))(keys)
    scaled = allowed / policy.temperature
    if policy.top_p < 1:
        before = jnp.cumsum(jax.nn.softmax(scaled, axis=-1), axis=-1)[:, :-1]
        nucleus = jnp.pad(before < policy.top_p, ((0, 0), (1, 0)), constant_values=True)  # the first is always in
        scaled = jnp.where(nucleus, scaled, -jnp.inf)
    _, pick = top_k(scaled + noise, 1)

    def picked(x):
        return jnp.take_along_axis(x, pick, axis=-1)[:, 0]

    tokens = picked(ids) if in_order else pick[:, 0]
    return tokens, picked(allowed) - normalizer, picked(scaled) - jax.nn.logsumexp(scaled, axis=-1)


_GROUP = 128  # tokens; see `top_k`


def top_k(x: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """`lax.top_k` over the last axis of [R, V]: values in order and their indices, the lowest of equals first.

    On CPU groups of tokens are searched by their maxima first, which is exact (a group that is not among the k best
    has k better tokens before it) and takes a fifth of the time. On accelerators plain `lax.top_k` is partitioned well
    over a split vocabulary.
    """

    def grouped(x):
        rows, vocab = x.shape
        groups = -(-vocab // _GROUP)
        x = jnp.pad(x, ((0, 0), (0, groups * _GROUP - vocab)), constant_values=-jnp.inf).reshape(rows, groups, _GROUP)
        best = jnp.sort(jax.lax.top_k(x.max(-1), min(k, groups))[1], axis=-1)
        values, at = jax.lax.top_k(jnp.take_along_axis(x, best[..., None], axis=1).reshape(rows, -1), k)
        return values, jnp.take_along_axis(best, at // _GROUP, axis=-1) * _GROUP + at % _GROUP

    if x.shape[-1] < 4 * k * _GROUP:
        return tuple(jax.lax.top_k(x, k))
    return jax.lax.platform_dependent(x, cpu=grouped, default=lambda x: tuple(jax.lax.top_k(x, k)))


def token_bits(key: jax.Array, ids: jax.Array) -> jax.Array:
    """Elements `ids` of `jax.random.bits(key, (vocab,), uint32)`, without drawing the others.

    JAX's partitionable threefry makes element i the two halves of the hash of the counter i, xored; folding i
    into the key computes that same hash. A test holds the two equal.
    """
    words = jax.random.key_data(jax.vmap(lambda i: jax.random.fold_in(key, i))(ids))
    return words[..., 0] ^ words[..., 1]


def gumbel(bits: jax.Array) -> jax.Array:
    """Standard Gumbel noise from uint32 bits, exact to 2**-33 in the tail that wins.

    A large value comes from a small uniform, where float32 is dense; the usual -log(-log(u)) stops at 16.
    """
    uniform = (bits.astype(jnp.float32) + 0.5) * 2.0**-32
    uniform = jnp.minimum(uniform, 1.0 - 2.0**-24)  # the largest bits round up to 1
    return -jnp.log(-jnp.log1p(-uniform))
