"""The device side of the sampler as pure functions: prefill, fill pages, decode many tokens.

All jitted at module level with the model and the policy static: every engine of a process with the same
shapes shares one compilation, whatever its parameters. The cache is all that stays on the device; what a row decodes
and whose a page is comes from the host with every call.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from cosample_jax import sharding
from cosample_jax.gemma import model
from cosample_jax.gemma.config import GemmaConfig
from cosample_jax.gemma.model import KV, Params
from cosample_jax.gemma.pages import Pages
from cosample_jax.sampling.each import RowPolicies, choose_each
from cosample_jax.sampling.policy import Policy, choose, sample_keys, token_keys
from cosample_jax.sampling.schedule import Layout

NO_TOKEN = -1  # in `Emitted.tokens`, where a row drew nothing


class Rows(NamedTuple):
    """What is being decoded, each [rows of all shards].

    Attributes:
        tokens: int32, to be fed next: the last one of the prompt, or the last one drawn.
        positions: int32, absolute, of `tokens`.
        left: int32, how many tokens the row may still draw; 0 when it is idle.
        hashes: uint32, `policy.problem_hash`.
        sample_indices: int32.
    """

    tokens: jax.Array
    positions: jax.Array
    left: jax.Array
    hashes: jax.Array
    sample_indices: jax.Array


class Emitted(NamedTuple):
    """What a device loop drew, each [loop, R]; `tokens` is NO_TOKEN after a row's end."""

    tokens: jax.Array
    logprobs: jax.Array  # of the raw model
    sampling_logprobs: jax.Array


def layered(params: Params, *, config: GemmaConfig) -> Params:
    """The parameters as `decode` takes them: the very same, or a copy layer by layer of a tiny model's."""
    return _unstack(params, config) if config.is_unrolled else params


_unstack = jax.jit(model.unstack, static_argnums=1)


@functools.partial(jax.jit, static_argnames=('config', 'mesh'))
def prefill_prefix(params: Params, tokens: jax.Array, *, config: GemmaConfig, mesh: Mesh | None = None) -> KV:
    """Keys and values [L, K, P, H] of the shared prefix, int32 [P]; heads are split over `mesh`."""
    ones = jnp.ones((1, tokens.size), jnp.int32)
    _, (k, v) = model.forward(params, config, tokens[None], jnp.arange(tokens.size)[None], ones, mesh=mesh)
    return _placed((k[:, 0], v[:, 0]), mesh, model.PREFIX_AXES)


@functools.partial(jax.jit, static_argnames=('config', 'mesh'))
def prefill_questions(
    params: Params, tokens: jax.Array, prefix_kv: KV | None, *, config: GemmaConfig, mesh: Mesh | None = None
) -> KV:
    """Keys and values [L, U, K, Q, H] of questions int32 [U, Q], padded on the right to whole pages.

    Rows of the mesh compute a part of the questions each and are given all of them: any may have to copy any.
    """
    tokens = _placed(tokens, mesh, ('rows', 'slots'))
    prefix = 0 if prefix_kv is None else prefix_kv[0].shape[-2]
    positions = jnp.broadcast_to(prefix + jnp.arange(tokens.shape[1])[None], tokens.shape)
    kv = model.forward(params, config, tokens, positions, jnp.ones_like(tokens), prefix_kv, mesh)[1]
    return _placed(kv, mesh, model.LOOSE_AXES)


def _placed(tree: Any, mesh: Mesh | None, axes: tuple[str, ...]) -> Any:
    """Arrays with these axes, laid out over `mesh` (None: as they are)."""
    return tree if mesh is None else jax.tree.map(lambda x: sharding.constrain(x, mesh, axes[: x.ndim]), tree)


@functools.partial(jax.jit, static_argnames=('config', 'layout', 'dtype', 'mesh'))
def empty_cache(*, config: GemmaConfig, layout: Layout, dtype, mesh: Mesh | None) -> Any:
    """Keys and values, [L, D, P, K, C, H] each or the list `model.unstack` goes with, split by shards and heads."""
    shape = (layout.shards, layout.pages, config.num_kv_heads, layout.page_size, config.head_dim)
    if config.is_unrolled:
        cache = [(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype)) for _ in range(config.num_layers)]
    else:
        cache = tuple(jnp.zeros((config.num_layers, *shape), dtype) for _ in 'kv')
    return cache if mesh is None else jax.lax.with_sharding_constraint(cache, cache_shardings(cache, mesh))


def cache_shardings(cache: Any, mesh: Mesh) -> Any:
    """Where a cache (arrays or shapes) lives."""
    return jax.tree.map(lambda x: sharding.named(mesh, model.CACHE_AXES[-x.ndim :], x.shape), cache)


@functools.partial(jax.jit, donate_argnames=('cache',))
def fill_pages(cache: Any, questions: KV, sources: jax.Array, pages: jax.Array) -> Any:
    """Copies pages of a prefill into pages of the shards.

    Args:
        cache: Of `empty_cache`.
        questions: Of `prefill_questions`.
        sources: int32 [D, M], pages counted through the questions: where each has four, 5 is the second's second.
        pages: int32 [D, M], of the cache; what is no page is skipped.
    """
    shards = jnp.arange(sources.shape[0])[:, None]

    def filled(cache, questions, *layer):  # [(L,) D, P, K, C, H] and, of one layer, [U, K, Q, H]
        page_size = cache.shape[-2]
        each = questions.shape[2] // page_size
        questions = questions.reshape(*questions.shape[:2], each, page_size, questions.shape[3])
        return cache.at[(*layer, shards, pages)].set(questions[sources // each, :, sources % each], mode='drop')

    if isinstance(cache, list):
        return [
            tuple(filled(c, q[layer]) for c, q in zip(pair, questions, strict=True)) for layer, pair in enumerate(cache)
        ]

    # Layer by layer: at once, all layers of all copies would be made beside the cache.
    def layer(index, cache):
        return tuple(filled(c, q[index], index) for c, q in zip(cache, questions, strict=True))

    return jax.lax.fori_loop(0, cache[0].shape[0], layer, cache)


@functools.partial(jax.jit, static_argnames=('config', 'policy', 'loop', 'mesh'), donate_argnames=('cache',))
def decode(
    params: Params,
    cache: Any,
    prefix_kv: KV | None,
    rows: Rows,
    pages: Pages,
    seed: jax.Array,
    policies: RowPolicies | None = None,
    *,
    config: GemmaConfig,
    policy: Policy,
    loop: int,
    mesh: Mesh | None = None,
) -> tuple[Any, Emitted]:
    """Draws up to `loop` tokens in every row that is not finished.

    What was drawn is a fresh output, so that the host may read it while the next call owns the donated cache.
    The loop ends early when no row has anything left to draw, which changes no output.

    Args:
        params: As `model.init` returns them, `model.unstack`ed when `config.is_unrolled`.
        cache: Of `empty_cache`.
        prefix_kv: Of `prefill_prefix`, or None.
        rows: What to decode.
        pages: Where the rows' tokens are; each row has pages for all that it may write here.
        seed: Root of the randomness, uint32 [].
        policies: How each row chooses; None, where all choose as `policy` says.
        config: The model's shape.
        policy: How to choose, and what ends every sample.
        loop: Tokens, at most.
        mesh: Splits rows and parameters.

    Returns:
        The cache, and what was drawn: whole on every device.
    """
    num_rows = rows.tokens.shape[0]
    rows, pages, policies = (_placed(x, mesh, ('rows', *[''] * 3)) for x in (rows, pages, policies))
    stop_ids = jnp.array(policy.stop_ids, jnp.int32)
    # All at once: the hash is cheap, starting it at every token is not.
    keys = sample_keys(seed, rows.hashes, rows.sample_indices)
    keys = token_keys(keys, rows.positions[None] + jnp.arange(1, loop + 1, dtype=jnp.int32)[:, None])

    def running(carry):
        step, rows, _, _ = carry
        return (step < loop) & jnp.any(rows.left > 0)

    def body(carry):
        step, rows, cache, emitted = carry
        hidden, cache = model.decode_step(params, config, rows.tokens, rows.positions, cache, pages, prefix_kv)
        logits = _placed(model.logits(params, config, hidden), mesh, ('logit_rows', 'vocab'))
        drawn = choose(logits, keys[step], policy) if policies is None else choose_each(logits, keys[step], policies)
        drawn = Emitted(*drawn)
        active = rows.left > 0
        stopped = jnp.any(drawn.tokens[:, None] == stop_ids[None], axis=-1)
        left = jnp.where(active & ~stopped, rows.left - 1, 0)
        drawn = drawn._replace(tokens=jnp.where(active, drawn.tokens, NO_TOKEN))
        emitted = jax.tree.map(lambda all, new: all.at[step].set(new), emitted, drawn)
        # A finished row feeds its last token again, into the same slot, until it is given another sample.
        going = left > 0
        rows = rows._replace(
            tokens=jnp.where(going, drawn.tokens, rows.tokens), positions=rows.positions + going, left=left
        )
        return step + 1, rows, cache, emitted

    nothing = Emitted(
        tokens=jnp.full((loop, num_rows), NO_TOKEN, jnp.int32),
        logprobs=jnp.zeros((loop, num_rows), jnp.float32),
        sampling_logprobs=jnp.zeros((loop, num_rows), jnp.float32),
    )
    _, _, cache, emitted = jax.lax.while_loop(running, body, (jnp.int32(0), rows, cache, nothing))
    return cache, _placed(emitted, mesh, ('', ''))
