"""Low-rank adapters of a block's matrices, trained in their place: LoRA, arXiv 2106.09685.

A matrix w becomes w + (alpha / r) a b, with `projection.ALPHA` and rank r. The weights stay as they are, so a step
keeps neither their gradient nor moments of it. All matrices of a block are adapted, since those of the attention alone
learn less at any rank (arXiv 2405.09673); embedding and norms are not.

Sampling, evaluation and files know nothing of this: `merge` gives ordinary parameters.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from cosample_jax import sharding
from cosample_jax.gemma import model, projection
from cosample_jax.gemma.config import GemmaConfig


def init(config: GemmaConfig, rank: int, key: jax.Array) -> model.Params:
    """Float32 adapters that change nothing yet: a normal with variance 1 / fan-in, b zero. Jittable (both static).

    They are named as the weights, 'layers/attn/q_einsum/a' beside 'layers/attn/q_einsum/w', and stacked as these are:
    a [L, ..., inputs, r], b [L, ..., r, outputs].
    """
    keys = dict(zip(projection.MATRICES, jax.random.split(key, len(projection.MATRICES)), strict=True))

    def pair(name, w):
        stack, inputs, outputs = projection.MATRICES[name].sizes(w.shape)
        a = jax.random.normal(keys[name], (*stack, *inputs, rank)) * math.prod(inputs) ** -0.5
        return {'a': a, 'b': jnp.zeros((*stack, rank, *outputs))}

    def pairs(sublayer):
        return {name: pair(name, leaf['w']) for name, leaf in sublayer.items() if name in projection.MATRICES}

    layers = model.shapes(config)['layers']
    return {'layers': {name: pairs(layers[name]) for name in ('attn', 'mlp')}}


@functools.cache
def shapes(config: GemmaConfig, rank: int) -> model.Params:
    """Shapes and dtypes (float32) of adapters, without making them."""
    return jax.eval_shape(lambda key: init(config, rank, key), jax.random.key(0))


def rank_of(adapters: model.Params) -> int:
    return adapters['layers']['mlp']['linear']['a'].shape[-1]


def num_params(config: GemmaConfig, rank: int) -> int:
    """Of the adapters of a model: rank times the inputs and outputs of every matrix."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes(config, rank)))


@functools.partial(jax.jit, static_argnames=('mesh',))
def merge(base: model.Params, adapters: model.Params, mesh: Mesh | None = None) -> model.Params:
    """Float32 parameters of an ordinary model that computes what `base` and `adapters` do, split over `mesh`."""
    params = jax.tree.map(lambda w: w.astype(jnp.float32), base)
    for sublayer, pairs in adapters['layers'].items():
        for name, pair in pairs.items():
            params['layers'][sublayer][name]['w'] += projection.MATRICES[name].update(**pair)
    return params if mesh is None else sharding.constrain_params(params, mesh)
