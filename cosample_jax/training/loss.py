"""Next-token cross-entropy over packed rows."""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from cosample_jax import sharding
from cosample_jax.gemma import model
from cosample_jax.gemma.config import GemmaConfig

# Of the tokens of a device's rows, how many get their logits at once: 190 MiB of 256,000 in float32. More leave a CPU's
# caches; of fewer, each chunk would mostly read the table and add to its gradient.
CHUNK = 192


def summed_loss(
    params, config: GemmaConfig, batch, dtype=jnp.float32, mesh: Mesh | None = None, adapters=None
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The summed loss of a batch in nats, with ``tokens`` (how many it falls on) and ``right`` (argmax hits).

    Sums, not means: shards and microbatches of different token counts add up to the same number. Logits are made a
    chunk at a time, only of tokens that the loss falls on, and once, for value and gradient: [R, T, V] never exists.

    Args:
        params: Float32, or of `dtype` when they are not trained.
        config: The model's shape.
        batch: A `packing.Batch` with arrays [R, T].
        dtype: What is multiplied; logits and sums are float32 in any case.
        mesh: Splits the rows.
        adapters: Of `lora.init`, float32; None for the model of `params` alone.
    """
    read = batch.tokens, batch.positions, batch.segment_ids
    hidden, _ = model.forward(cast(params, dtype), config, *read, mesh=mesh, adapters=cast(adapters, dtype))
    learned = hidden, jnp.asarray(batch.targets), jnp.asarray(batch.weights)
    table = params['embedder']['input_embedding']
    loss, right = _over_chunks(config, dtype, mesh, table, *_learned_first(*learned, mesh))
    return loss, {'tokens': jnp.sum(batch.weights), 'right': right}


def _sums(table, hidden, targets, weights, config: GemmaConfig, mesh: Mesh | None):
    """((loss, argmax hits), summed, logits [S, t, V], their log-sum-exp) of arrays [S, t], hidden states [S, t, D]."""
    logits = model.logits({'embedder': {'input_embedding': table}}, config, hidden)
    if mesh is not None:
        logits = sharding.constrain(logits, mesh, ('logit_rows', 'tokens', 'vocab'))
    top = jax.nn.logsumexp(logits, axis=-1)
    target = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    hits = target >= jnp.max(logits, axis=-1)
    return (jnp.sum((top - target) * weights), jnp.sum(hits * weights)), logits, top


def _learned_first(hidden, targets, weights, mesh: Mesh | None):
    """[R, T, ...] to [chunks, S, t, ...] with S shards of rows: the tokens of each in an order in which those that are
    learned come first.
    """
    shards = 1 if mesh is None else sharding.row_shards(mesh)
    order = jnp.argsort(weights.reshape(shards, -1) == 0, axis=1, stable=True)
    size = min(CHUNK, order.shape[1])
    missing = -order.shape[1] % size

    def chunked(x):
        ordered = jax.vmap(lambda each, order: each[order])(x.reshape(shards, -1, *x.shape[2:]), order)
        whole = jnp.pad(ordered, [(0, 0), (0, missing), *[(0, 0)] * (ordered.ndim - 2)])
        return jnp.swapaxes(whole.reshape(shards, -1, size, *x.shape[2:]), 0, 1)

    return chunked(hidden), chunked(targets), chunked(weights)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _over_chunks(config: GemmaConfig, dtype, mesh: Mesh | None, table, hidden, targets, weights):
    """`_sums` of all chunks, [chunks, S, t, ...]; those after the last one with something to learn are left out."""

    def add(chunk, sums):
        found, *_ = _sums(table.astype(dtype), hidden[chunk], targets[chunk], weights[chunk], config, mesh)
        return jax.tree.map(jnp.add, sums, found)

    return jax.lax.fori_loop(0, _used(weights), add, (jnp.float32(0), jnp.float32(0)))


def _value_and_gradient(config, dtype, mesh, table, hidden, targets, weights):
    """The gradient of a chunk is made with its value, while its logits are there: they are made once, not twice."""
    multiplied = table.astype(dtype)

    def add(chunk, carry):
        sums, of_table, of_hidden = carry
        found, logits, top = _sums(multiplied, hidden[chunk], targets[chunk], weights[chunk], config, mesh)
        # By hand, since all of it is then one pass over the logits: what is kept for an automatic one takes five.
        is_target = jax.lax.broadcasted_iota(jnp.int32, logits.shape, 2) == targets[chunk][..., None]
        to_logits = (jnp.exp(logits - top[..., None]) - is_target) * weights[chunk][..., None]
        if config.final_softcap is not None:
            to_logits *= 1 - jnp.square(logits / config.final_softcap)
        to_logits = to_logits.astype(dtype)
        to_hidden = jnp.einsum('stv,vd->std', to_logits, multiplied)
        # In float32, as it is added up; as [D, V], for which a CPU reads the large factor as it lies.
        to_table = jnp.einsum('std,stv->dv', hidden[chunk], to_logits, preferred_element_type=jnp.float32)
        return jax.tree.map(jnp.add, sums, found), of_table + to_table, of_hidden.at[chunk].set(to_hidden)

    none = (jnp.float32(0), jnp.float32(0)), jnp.zeros_like(table.T, jnp.float32), jnp.zeros_like(hidden)
    sums, of_table, of_hidden = jax.lax.fori_loop(0, _used(weights), add, none)
    return sums, (of_table.astype(table.dtype), of_hidden)


def _gradient(config, dtype, mesh, gradients, cotangents):
    of_table, of_hidden = (gradient * cotangents[0].astype(gradient.dtype) for gradient in gradients)
    return of_table.T, of_hidden, None, None  # targets and weights are data


_over_chunks.defvjp(_value_and_gradient, _gradient)


def _used(weights) -> jax.Array:
    """How many chunks have something to learn."""
    return jnp.sum(jnp.any(weights != 0, axis=(1, 2)))


def cast(params, dtype):
    return jax.tree.map(lambda p: p.astype(dtype), params)
