"""One optimisation step as a pure function of (state, batch, learning rate)."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from cosample_jax import sharding
from cosample_jax.gemma.config import GemmaConfig
from cosample_jax.training import loss as loss_lib
from cosample_jax.training.packing import Batch


class Recipe(NamedTuple):
    """What the compiled step depends on; the learning rate is an argument: a schedule or a sweep compiles nothing."""

    optimizer: str = 'adamw'  # or "muon": for training from scratch
    weight_decay: float = 0.0
    b2: float = 0.999
    max_grad_norm: float = 1.0


class TrainState(NamedTuple):
    """Float32 master weights, or adapters, and the optimizer's moments; `step` counts finished steps."""

    step: jax.Array
    params: Any
    opt_state: Any


def optimizer(recipe: Recipe) -> optax.GradientTransformation:
    """Clipping by the global norm, then AdamW (arXiv 1711.05101) or Muon; updates are for a learning rate of 1."""
    if recipe.optimizer == 'muon':
        update = optax.contrib.muon(
            learning_rate=1.0,
            weight_decay=recipe.weight_decay,
            adam_b2=recipe.b2,
            adam_learning_rate=MUON_ADAM_RATE,
            muon_weight_dimension_numbers=_muon_dimensions,
        )
        update = optax.chain(update, optax.scale(-1.0))
    else:
        update = optax.chain(optax.scale_by_adam(b2=recipe.b2), optax.add_decayed_weights(recipe.weight_decay))
    return optax.chain(optax.clip_by_global_norm(recipe.max_grad_norm), update)


# Muon orthogonalises the matrices of the blocks; embeddings and norms get Adam at this share of the learning rate.
MUON_ADAM_RATE = 0.25
# Which axes of a stacked leaf are a matrix's inputs and outputs; the others (layers, keys/values, gates) are a batch.
_MUON_MATRICES = {
    'q_einsum': optax.contrib.MuonDimensionNumbers(reduction_axis=2, output_axis=(1, 3)),  # [L, N, D, H]
    'kv_einsum': optax.contrib.MuonDimensionNumbers(reduction_axis=3, output_axis=(2, 4)),  # [L, 2, K, D, H]
    'attn_vec_einsum': optax.contrib.MuonDimensionNumbers(reduction_axis=(1, 2), output_axis=3),  # [L, N, H, D]
    'gating_einsum': optax.contrib.MuonDimensionNumbers(reduction_axis=3, output_axis=2),  # [L, 2, F, D]
    'linear': optax.contrib.MuonDimensionNumbers(reduction_axis=1, output_axis=2),  # [L, F, D]
}


def _muon_dimensions(params):
    def dimensions(path, _):
        names = (str(key.key) for key in path)
        return next((_MUON_MATRICES[name] for name in names if name in _MUON_MATRICES), None)

    return jax.tree.map_with_path(dimensions, params)


@functools.partial(jax.jit, static_argnames=('recipe',))
def init_state(params, recipe: Recipe) -> TrainState:
    """A state at step 0. It owns copies of `params`, since `train_step` donates its state."""
    params = jax.tree.map(lambda p: jnp.array(p, jnp.float32, copy=True), params)
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer(recipe).init(params))


@functools.partial(
    jax.jit,
    static_argnames=('config', 'recipe', 'microbatch_rows', 'mesh', 'dtype'),
    donate_argnames=('state',),
)
def train_step(
    state: TrainState,
    batch: Batch,
    learning_rate,
    base=None,
    *,
    config: GemmaConfig,
    recipe: Recipe,
    microbatch_rows: int = 0,
    mesh: Mesh | None = None,
    dtype=jnp.float32,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Takes one step; compiled once per (model, recipe, batch shape) in a process, whatever run calls it.

    The loss is summed over tokens and divided by the batch's token count. With `microbatch_rows`, a divisor of the
    batch's rows, so many rows at a time go through the model and their gradients are summed: the same step, with the
    activations of fewer rows and one more float32 copy of the gradients.

    Metrics are scalars: ``loss`` (nats per token), ``accuracy`` (teacher-forced argmax), ``tokens`` (that the loss
    falls on), ``grad_norm`` (before clipping).

    With `base`, the state's parameters are the adapters of these weights, which stay as they are; given in `dtype`, no
    copy of them is made.
    """
    tokens = jnp.sum(batch.weights)

    def objective(params, part):
        weights, adapters = (params, None) if base is None else (base, params)
        total, counts = loss_lib.summed_loss(weights, config, part, dtype, mesh, adapters)
        return total / jnp.maximum(tokens, 1.0), counts['right']

    gradient = jax.value_and_grad(objective, has_aux=True)
    if microbatch_rows in (0, len(batch.tokens)):
        (loss, right), grads = gradient(state.params, batch)
    else:
        nothing = (jnp.float32(0), jnp.float32(0)), jax.tree.map(jnp.zeros_like, state.params)

        def add(sums, part):
            sums = jax.tree.map(jnp.add, sums, gradient(state.params, part))
            return (sums if mesh is None else (sums[0], sharding.constrain_params(sums[1], mesh))), None

        ((loss, right), grads), _ = jax.lax.scan(add, nothing, _microbatches(batch, microbatch_rows, mesh))
    updates, opt_state = optimizer(recipe).update(grads, state.opt_state, state.params)
    params = jax.tree.map(lambda p, u: p - learning_rate * u, state.params, updates)
    metrics = {
        'loss': loss,
        'accuracy': right / jnp.maximum(tokens, 1.0),
        'tokens': tokens,
        'grad_norm': optax.global_norm(grads),
    }
    state = TrainState(state.step + 1, params, opt_state)
    if mesh is not None:  # what comes out lies as what went in, so the next step is the same program
        state = sharding.constrain_params(state, mesh)
    return state, metrics


def _microbatches(batch: Batch, rows: int, mesh: Mesh | None) -> Batch:
    """[R, T] as [R / rows, rows, T]. On a mesh each takes equally many rows of every device, so that none moves."""
    shards = 1 if mesh is None else sharding.row_shards(mesh)

    def split(x):
        parts = x.shape[0] // rows
        x = jnp.asarray(x).reshape(shards, parts, rows // shards, *x.shape[1:])
        x = jnp.swapaxes(x, 0, 1).reshape(parts, rows, *x.shape[3:])
        return x if mesh is None else sharding.constrain(x, mesh, ('', 'rows'))

    return jax.tree.map(split, batch)
