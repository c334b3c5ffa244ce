"""Choosing tokens where every row has a policy of its own: the same draws as `policy.choose`, one program for all.

What choosing costs depends on what is asked: the best token is found in no time, a few of the best in little, noise for
the whole vocabulary takes long and its whole order longest. So there are five ways, each with those before it, and a
call takes the way of the neediest row (`lax.switch`). A row always takes its result from the way that it needs itself:
what its neighbours need changes nothing.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cosample_jax.sampling.policy import gumbel, token_bits, top_k

FEW = (4, 64)  # of the best tokens: most rows ask for no more than the first; the second costs several times as much
GREEDY, *_, ALL, ORDER = range(len(FEW) + 3)  # what a row needs; between them, so many of the best


class RowPolicies(NamedTuple):
    """How each row chooses, [R] each, and what the neediest of those that are busy needs.

    Attributes:
        temperatures: float32; 0 is greedy.
        top_ks: int32; 0 is all tokens.
        top_ps: float32; 1 is all.
        needs: int32, of `need`.
        most: int32 [], the largest of `needs` where a row draws.
    """

    temperatures: jax.Array
    top_ks: jax.Array
    top_ps: jax.Array
    needs: jax.Array
    most: jax.Array


def need(temperature: float, top_k: int, top_p: float, vocab: int) -> int:
    """The way to choose that is cheapest of those that do for these settings."""
    if temperature == 0:
        return GREEDY
    for index, few in enumerate(FEW):
        if 0 < top_k <= min(few, vocab - 1):
            return GREEDY + 1 + index
    return ORDER if top_p < 1 or 0 < top_k < vocab else ALL


def choose_each(logits: jax.Array, keys: jax.Array, policies: RowPolicies) -> tuple[jax.Array, jax.Array, jax.Array]:
    """As `policy.choose`, with the noise of the same token ids, and the lowest of equals first."""
    vocab = logits.shape[-1]
    normalizer = jax.nn.logsumexp(logits, axis=-1)
    temperatures = jnp.where(policies.temperatures > 0, policies.temperatures, 1.0)[:, None]

    def greedy():
        best, tokens = top_k(logits, 1)
        return tokens[:, 0], best[:, 0] - normalizer, jnp.zeros_like(normalizer)

    def among(count):
        """The best `count` tokens in their order, cut to each row's top-k and top-p."""

        def chosen():
            allowed, ids = top_k(logits, count)
            noise = jax.vmap(lambda key, i: gumbel(token_bits(key, i)))(keys, ids)
            scaled = allowed / temperatures
            kept = jnp.where(policies.top_ks > 0, policies.top_ks, vocab)
            scaled = jnp.where(jnp.arange(count)[None] < kept[:, None], scaled, -jnp.inf)
            before = jnp.cumsum(jax.nn.softmax(scaled, axis=-1), axis=-1)[:, :-1]
            nucleus = (before < policies.top_ps[:, None]) | (policies.top_ps >= 1)[:, None]
            nucleus = jnp.pad(nucleus, ((0, 0), (1, 0)), constant_values=True)  # the first is always in
            return drawn(allowed, jnp.where(nucleus, scaled, -jnp.inf), noise, ids)

        return chosen

    def among_all():
        noise = jax.vmap(lambda key: gumbel(jax.random.bits(key, (vocab,), jnp.uint32)))(keys)
        return drawn(logits, logits / temperatures, noise)

    def drawn(allowed, scaled, noise, ids=None):
        _, pick = top_k(scaled + noise, 1)

        def picked(x):
            return jnp.take_along_axis(x, pick, axis=-1)[:, 0]

        tokens = pick[:, 0] if ids is None else picked(ids)
        return tokens, picked(allowed) - normalizer, picked(scaled) - jax.nn.logsumexp(scaled, axis=-1)

    ways = [greedy, *(among(min(few, vocab)) for few in FEW), among_all, among(vocab)]

    def up_to(last):
        def chosen():
            result = greedy()
            for way in range(1, last + 1):
                mine = policies.needs == way
                result = tuple(jnp.where(mine, new, old) for new, old in zip(ways[way](), result, strict=True))
            return result

        return chosen

    return jax.lax.switch(policies.most, [up_to(last) for last in range(len(ways))])


def no_policies(slots: int) -> RowPolicies:
    """Of idle rows, on the host; `most` is not read."""
    zeros = np.zeros(slots, np.int32)
    return RowPolicies(np.zeros(slots, np.float32), zeros, np.ones(slots, np.float32), zeros.copy(), np.int32(0))
