"""The official `gemma` package's model under a plain optax loop, as its users write one for themselves.

Its best setting: compiled once a shape with weights and moments donated, and cross-entropy by integer labels, which
needs no one-hot array. Positions and the causal mask are the model's own; to it, token 0 is padding.

What it cannot do: several examples in a row without a mask and positions of one's own, and a loss without the logits of
every position: its model returns them all.
"""

import functools

import numpy as np

from benchmarks.peers import padded
from benchmarks.peers.official import official_model, official_params
from cosample_jax.gemma.config import GemmaConfig


def make(config: GemmaConfig, params, learning_rate: float):
    """`train(batches)`; the dtype is that of `params`."""
    import jax
    import jax.numpy as jnp
    import optax

    model = official_model(config, jax.tree.leaves(params)[0].dtype)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(learning_rate, b2=0.999, weight_decay=0.0))
    weights = official_params(config, params)
    state = weights, optimizer.init(weights)
    del weights  # or the first step could not have their memory

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, tokens, learned):
        weights, moments = state

        def mean_loss(weights):
            logits = model.apply({'params': weights}, tokens).logits[:, :-1]
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:])
            return jnp.mean(losses, where=learned[:, 1:])

        loss, gradient = jax.value_and_grad(mean_loss)(weights)
        updates, moments = optimizer.update(gradient, moments, weights)
        return (optax.apply_updates(weights, updates), moments), loss

    def train(batches) -> list[float]:
        nonlocal state
        losses = []
        with jax.numpy_rank_promotion('allow'):  # which its code needs
            for examples in batches:
                state, loss = step(state, *padded(examples))
                losses.append(loss)
        return np.asarray(losses).tolist()

    return train
