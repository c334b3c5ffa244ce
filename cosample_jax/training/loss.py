"""Next-token cross-entropy over packed rows."""

import jax
import jax.numpy as jnp

from cosample_jax.gemma import model
from cosample_jax.gemma.config import GemmaConfig


def summed_loss(params, config: GemmaConfig, batch) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The summed loss of a batch in nats, with ``tokens`` (how many it falls on) and ``right`` (argmax hits).

    Sums, not means: shards and microbatches of different token counts add up to the same number. `batch` is a
    `packing.Batch` with arrays [R, T].
    """
    hidden, _ = model.forward(params, config, batch.tokens, batch.positions, batch.segment_ids)
    logits = model.logits(params, config, hidden)  # [R, T, V]
    top = jax.nn.logsumexp(logits, axis=-1)
    target = jnp.take_along_axis(logits, batch.targets[..., None], axis=-1)[..., 0]
    loss = jnp.sum((top - target) * batch.weights)
    right = jnp.sum((target >= jnp.max(logits, axis=-1)) * batch.weights)
    return loss, {'tokens': jnp.sum(batch.weights), 'right': right}
