"""The device side of the sampler as pure functions: prefill, insert into rows, decode many tokens.

All jitted at module level with the model and the policy static: every engine of a process with the same
shapes shares one compilation, whatever its parameters.
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
from cosample_jax.sampling.policy import Policy, choose, sample_keys, token_keys

NO_TOKEN = -1  # in `Emitted.tokens`, where a row drew nothing


class State(NamedTuple):
    """The rows being decoded.

    Attributes:
        tokens: int32 [R], to be fed next: the last one of the prompt, or the last one drawn.
        positions: int32 [R], absolute, of `tokens`.
        left: int32 [R], how many tokens the row may still draw; 0 when it is finished or idle.
        keys: [R], the key of the row's sample.
        cache: [L, R, K, S, H] twice, or the list `model.unstack` goes with.
    """

    tokens: jax.Array
    positions: jax.Array
    left: jax.Array
    keys: jax.Array
    cache: Any


class Emitted(NamedTuple):
    """What a device loop drew, each [loop, R]; `tokens` is NO_TOKEN after a row's end."""

    tokens: jax.Array
    logprobs: jax.Array  # of the raw model
    sampling_logprobs: jax.Array


class Starts(NamedTuple):
    """Samples to put into rows, each [M]; entries whose row is R or more are padding."""

    rows: jax.Array
    questions: jax.Array  # which of the prefilled questions
    tokens: jax.Array  # the last one of the prompt
    positions: jax.Array  # and where it stands
    hashes: jax.Array  # uint32, `policy.problem_hash`
    sample_indices: jax.Array


def is_unrolled(config: GemmaConfig) -> bool:
    """Whether decode runs without a layer scan (see `model.unstack`)."""
    return config.scan_unroll >= config.num_layers


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
    """Keys and values [L, U, K, Q, H] of questions int32 [U, Q], padded on the right, where it is not seen."""
    tokens = _placed(tokens, mesh, ('rows', 'slots'))
    prefix = 0 if prefix_kv is None else prefix_kv[0].shape[-2]
    positions = jnp.broadcast_to(prefix + jnp.arange(tokens.shape[1])[None], tokens.shape)
    kv = model.forward(params, config, tokens, positions, jnp.ones_like(tokens), prefix_kv, mesh)[1]
    return _placed(kv, mesh, model.CACHE_AXES)


def _placed(tree: Any, mesh: Mesh | None, axes: tuple[str, ...]) -> Any:
    """Arrays with these axes, laid out over `mesh` (None: as they are)."""
    return tree if mesh is None else jax.tree.map(lambda x: sharding.constrain(x, mesh, axes), tree)


@functools.partial(jax.jit, static_argnames=('config', 'rows', 'slots', 'dtype', 'mesh'))
def empty_state(*, config: GemmaConfig, rows: int, slots: int, dtype, mesh: Mesh | None) -> State:
    """R idle rows with caches of S slots; rows and heads are split over `mesh`, and stay so."""
    shape = (rows, config.num_kv_heads, slots, config.head_dim)
    if is_unrolled(config):
        cache = [(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype)) for _ in range(config.num_layers)]
    else:
        cache = tuple(jnp.zeros((config.num_layers, *shape), dtype) for _ in 'kv')
    idle = jnp.zeros(rows, jnp.int32)
    state = State(idle, idle, idle, sample_keys(0, idle.astype(jnp.uint32), idle), cache)
    return state if mesh is None else jax.lax.with_sharding_constraint(state, state_shardings(state, mesh))


def state_shardings(state: State, mesh: Mesh) -> State:
    """Where a state (arrays or shapes) lives: rows over the rows' axes, caches also by heads."""
    return jax.tree.map(
        lambda x: sharding.named(mesh, ('rows',) if x.ndim == 1 else model.CACHE_AXES[-x.ndim :], x.shape), state
    )


@functools.partial(jax.jit, donate_argnames=('state',))
def insert(state: State, question_kv: KV, starts: Starts, seed: jax.Array, max_new_tokens: jax.Array) -> State:
    """Starts samples: copies their questions' keys and values into their rows."""

    def into_rows(cache, question, *layer):  # [(L,) R, K, S, H] and, of one layer, [U, K, Q, H]
        length = question.shape[-2]
        return cache.at[(*layer, starts.rows, slice(None), slice(length))].set(question[starts.questions], mode='drop')

    cache = state.cache
    if isinstance(cache, list):
        cache = [
            tuple(into_rows(c, q[layer]) for c, q in zip(pair, question_kv, strict=True))
            for layer, pair in enumerate(cache)
        ]
    else:
        # Layer by layer: at once, all layers of all picked questions would be made beside the cache.
        def layer(index, cache):
            return tuple(into_rows(c, q[index], index) for c, q in zip(cache, question_kv, strict=True))

        cache = jax.lax.fori_loop(0, cache[0].shape[0], layer, cache)

    def put(array, values):
        return array.at[starts.rows].set(values, mode='drop')

    return State(
        tokens=put(state.tokens, starts.tokens),
        positions=put(state.positions, starts.positions),
        left=put(state.left, max_new_tokens),
        keys=put(state.keys, sample_keys(seed, starts.hashes, starts.sample_indices)),
        cache=cache,
    )


@functools.partial(jax.jit, static_argnames=('config', 'policy', 'loop', 'mesh'), donate_argnames=('state',))
def decode(
    params: Params,
    state: State,
    prefix_kv: KV | None,
    *,
    config: GemmaConfig,
    policy: Policy,
    loop: int,
    mesh: Mesh | None = None,
) -> tuple[State, Emitted]:
    """Draws up to `loop` tokens in every row that is not finished.

    What was drawn is a fresh output, so that the host may read it while the next call owns the donated state.
    The loop ends early when no row has anything left to draw, which changes no output.
    """
    rows = state.tokens.shape[0]
    if is_unrolled(config):
        params = model.unstack(params, config)
    stop_ids = jnp.array(policy.stop_ids, jnp.int32)
    # All at once: the hash is cheap, starting it at every token is not.
    keys = token_keys(state.keys, state.positions[None] + jnp.arange(1, loop + 1, dtype=jnp.int32)[:, None])

    def running(carry):
        step, state, _ = carry
        return (step < loop) & jnp.any(state.left > 0)

    def body(carry):
        step, state, emitted = carry
        hidden, cache = model.decode_step(params, config, state.tokens, state.positions, state.cache, prefix_kv)
        logits = _placed(model.logits(params, config, hidden), mesh, ('logit_rows', 'vocab'))
        drawn = Emitted(*choose(logits, keys[step], policy))
        active = state.left > 0
        stopped = jnp.any(drawn.tokens[:, None] == stop_ids[None], axis=-1)
        left = jnp.where(active & ~stopped, state.left - 1, 0)
        drawn = drawn._replace(tokens=jnp.where(active, drawn.tokens, NO_TOKEN))
        emitted = jax.tree.map(lambda all, new: all.at[step].set(new), emitted, drawn)
        # A finished row feeds its last token again, into the same slot, until it is given another sample.
        going = left > 0
        state = State(
            tokens=jnp.where(going, drawn.tokens, state.tokens),
            positions=state.positions + going,
            left=left,
            keys=state.keys,
            cache=cache,
        )
        return step + 1, state, emitted

    nothing = Emitted(
        tokens=jnp.full((loop, rows), NO_TOKEN, jnp.int32),
        logprobs=jnp.zeros((loop, rows), jnp.float32),
        sampling_logprobs=jnp.zeros((loop, rows), jnp.float32),
    )
    _, state, emitted = jax.lax.while_loop(running, body, (jnp.int32(0), state, nothing))
    return state, emitted
