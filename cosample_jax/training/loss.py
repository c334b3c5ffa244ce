"""Next-token cross-entropy over packed rows."""

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from cosample_jax import sharding
from cosample_jax.gemma import model
from cosample_jax.gemma.config import GemmaConfig

# Of a row, how many logits exist at once: 128 MiB in float32. Small vocabularies stay under it with whole rows.
LOGITS_PER_ROW = 2**25


def summed_loss(
    params, config: GemmaConfig, batch, dtype=jnp.float32, mesh: Mesh | None = None, adapters=None
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The summed loss of a batch in nats, with ``tokens`` (how many it falls on) and ``right`` (argmax hits).

    Sums, not means: shards and microbatches of different token counts add up to the same number. Logits are made a
    chunk of every row at a time, and again for the gradient: [R, T, V] never exists.

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
    # Only the table is a part of every chunk, and as a float32 array, so that its gradients are added up in float32.
    table = {'embedder': params['embedder']}

    @jax.checkpoint
    def chunk_loss(table, hidden, targets, weights):
        logits = model.logits(cast(table, dtype), config, hidden)  # [R, t, V]
        if mesh is not None:
            logits = sharding.constrain(logits, mesh, ('logit_rows', 'tokens', 'vocab'))
        top = jax.nn.logsumexp(logits, axis=-1)
        target = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
        loss = jnp.sum((top - target) * weights)
        return loss, jnp.sum((target >= jnp.max(logits, axis=-1)) * weights)

    rows, length = batch.tokens.shape
    size = chunk_length(length, config.vocab_size)
    if size == length:
        loss, right = chunk_loss.__wrapped__(table, hidden, batch.targets, batch.weights)
    else:

        def add(sums, chunk):
            return jax.tree.map(jnp.add, sums, chunk_loss(table, *chunk)), None

        chunks = jax.tree.map(
            lambda x: jnp.swapaxes(x.reshape(rows, length // size, size, *x.shape[2:]), 0, 1),
            (hidden, jnp.asarray(batch.targets), jnp.asarray(batch.weights)),
        )
        (loss, right), _ = jax.lax.scan(add, (jnp.float32(0), jnp.float32(0)), chunks)
    return loss, {'tokens': jnp.sum(batch.weights), 'right': right}


def chunk_length(length: int, vocab_size: int) -> int:
    """How many tokens of a row get their logits at once: a divisor of `length`, all of them when V is small."""
    most = max(1, LOGITS_PER_ROW // vocab_size)
    return max(size for size in range(1, min(length, most) + 1) if length % size == 0)


def cast(params, dtype):
    return jax.tree.map(lambda p: p.astype(dtype), params)
