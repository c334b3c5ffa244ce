"""Gemma 1, 2 and 3 as one uniform block scanned over the layers.

What differs between layers (window, RoPE) is an array scanned along with the stacked weights, so there is no
pattern to unroll and a 62-layer model compiles like one layer. Parameters are a plain nested dict with the
leaf names of the official checkpoints, per-layer leaves stacked [L, ...] under 'layers'.

Axis letters: B or R rows, T tokens, S cached tokens, P prefix tokens, L layers, D embed, F ffw hidden,
N query heads, K kv heads, H head dim, V vocabulary.
"""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from cosample_jax import sharding
from cosample_jax.gemma.attention import (
    UNREACHABLE,
    Pages,
    Part,
    attend_causal,
    attend_paged,
    distances,
    inverse_wavelengths,
    page_distances,
    page_places,
    rotate,
)
from cosample_jax.gemma.config import GemmaConfig
from cosample_jax.gemma.projection import Projection

Params = dict[str, Any]
KV = tuple[jax.Array, jax.Array]  # keys (rotated) and values
# What their axes mean, to `sharding`: those of a paged cache, [L, D, P, K, C, H], of questions that any shard of rows
# may copy into pages, [L, U, K, Q, H], and of a shared prefix, [L, K, P, H].
CACHE_AXES = ('layers', 'rows', 'pages', 'kv_heads', 'slots', 'head')
LOOSE_AXES = ('layers', 'questions', 'kv_heads', 'slots', 'head')
PREFIX_AXES = ('layers', 'kv_heads', 'slots', 'head')


class Layer(NamedTuple):
    """What one iteration of the layer scan reads besides its weights."""

    index: jax.Array | None  # int32 [], None when the cache is this layer's own
    window: jax.Array  # int32 [], UNREACHABLE for a global layer
    rope: jax.Array  # int32 [], which of the model's one or two rotations it uses
    prefix_kv: KV | None  # each [K, P, H]


class Shared(NamedTuple):
    """What all layers read."""

    rotations: tuple[jax.Array, jax.Array]  # sines and cosines, float32 [rotations, B, T, H / 2]
    distance: jax.Array  # int32 [B, T, S] to the row's own keys; in decode, to those of the pages
    prefix_distance: jax.Array | None  # int32 [B, T, P]
    pages: Pages | None = None  # of decode
    places: tuple[jax.Array, jax.Array] | None = None  # pages and slots that decode writes, int32 [D, R]


class RMSNorm(nn.Module):
    """x / rms(x) * (1 + scale) over the last axis, in float32: arXiv 1910.07467 with Gemma's offset."""

    @nn.compact
    def __call__(self, x):
        scale = self.param('scale', nn.initializers.zeros_init(), (x.shape[-1],))
        factor = jnp.expand_dims(1.0 + scale.astype(jnp.float32), range(x.ndim - 1))
        x32 = x.astype(jnp.float32)
        x32 *= jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + 1e-6)
        return (x32 * factor).astype(x.dtype)


class Attention(nn.Module):
    """Multi-head, grouped-query or multi-query attention with RoPE."""

    config: GemmaConfig

    @nn.compact
    def __call__(self, x, cache: KV | None, layer: Layer, shared: Shared):
        """See `Block`."""
        c = self.config
        n, k, h, d = c.num_heads, c.num_kv_heads, c.head_dim, c.embed_dim
        queries = Projection((n, d, h), name='q_einsum')(x)
        keys, values = Projection((2, k, d, h), name='kv_einsum')(x)
        if c.qk_norm:
            queries = RMSNorm(name='_query_norm')(queries)
            keys = RMSNorm(name='_key_norm')(keys)
        sin, cos = (table[layer.rope] for table in shared.rotations)
        queries = rotate(queries, sin, cos) * c.query_scale
        keys, values = (each.transpose(0, 2, 1, 3) for each in (rotate(keys, sin, cos), values))

        prefix = None if layer.prefix_kv is None else Part(*layer.prefix_kv, shared.prefix_distance)
        if cache is None:
            new_kv = (keys, values)
            own = Part(keys, values, shared.distance)
            out = attend_causal(queries, own, [] if prefix is None else [prefix], layer.window, c.attn_softcap)
        else:
            # A stacked cache stays whole in the scan carry and one token a row is written into it: as a
            # scanned input and output it would be copied whole at every token. Heads are indexed one by one: a
            # slice over them makes the TPU compiler keep the cache in another order, and copy it there and back.
            new_kv = None
            stack = () if layer.index is None else (layer.index,)
            page, slot = (each[..., None] for each in shared.places)  # [D, R, 1]
            shards, rows, _ = page.shape
            where = (*stack, jnp.arange(shards)[:, None, None], page, jnp.arange(k)[None, None], slot)
            cache = tuple(
                whole.at[where].set(new.reshape(shards, rows, k, h), mode='drop', unique_indices=True)
                for whole, new in zip(cache, (keys, values), strict=True)
            )
            out = attend_paged(
                queries[:, 0], cache, layer.index, shared.pages, shared.distance, prefix, layer.window, c.attn_softcap
            )[:, None]
        return Projection((n, h, d), name='attn_vec_einsum')(out), cache, new_kv


class FeedForward(nn.Module):
    """GeGLU with the tanh approximation of GELU; arXiv 2002.05202."""

    config: GemmaConfig

    @nn.compact
    def __call__(self, x):
        d, f = self.config.embed_dim, self.config.ffw_dim
        gate, up = Projection((2, f, d), name='gating_einsum')(x)
        return Projection((f, d), name='linear')(nn.gelu(gate, approximate=True) * up)


class Block(nn.Module):
    """One layer, shaped for `nn.scan`: carry and scanned inputs to carry and scanned outputs.

    Without a cache in the carry (training, prefill) tokens attend to one another and the layer's keys and
    values are the scanned output. With one (decode, T = 1) they are written into it.
    """

    config: GemmaConfig
    mesh: Mesh | None = None  # whole rows stay on their devices, and the weights come to them

    @nn.compact
    def __call__(self, carry: tuple[jax.Array, KV | None], layer: Layer, shared: Shared):
        c = self.config
        x, cache = carry
        if self.mesh is not None:
            x = sharding.constrain(x, self.mesh, ('rows', 'tokens', 'width'))
        out, cache, new_kv = Attention(c, name='attn')(RMSNorm(name='pre_attention_norm')(x), cache, layer, shared)
        x += RMSNorm(name='post_attention_norm')(out) if c.post_norms else out
        out = FeedForward(c, name='mlp')(RMSNorm(name='pre_ffw_norm')(x))
        x += RMSNorm(name='post_ffw_norm')(out) if c.post_norms else out
        return (x, cache), new_kv


class Embedder(nn.Module):
    """The tied token embedding, multiplied by sqrt(D) on the way in."""

    config: GemmaConfig

    @nn.compact
    def __call__(self, tokens):
        v, d = self.config.vocab_size, self.config.embed_dim
        # With this variance the residual stream starts at rms 1 and the first logits have variance 1.
        table = self.param('input_embedding', nn.initializers.normal(d**-0.5), (v, d))
        return table[tokens] * jnp.asarray(d**0.5, table.dtype)


class Transformer(nn.Module):
    """Embedding, scanned blocks, final norm."""

    config: GemmaConfig
    mesh: Mesh | None = None

    @nn.compact
    def __call__(self, tokens, shared: Shared, cache: KV | None, prefix_kv: KV | None):
        c = self.config
        block = Block
        if cache is None and not c.is_unrolled:
            # A gradient then keeps only what goes from layer to layer and computes the rest again. The models whose
            # layers are not scanned are small enough to keep everything.
            block = nn.remat(Block, prevent_cse=False)
        scanned = nn.scan(
            block,
            variable_axes={'params': 0, 'lora': 0},
            split_rngs={'params': True},
            in_axes=(0, nn.broadcast),
            length=c.num_layers,
            unroll=c.scan_unroll,
        )
        x = Embedder(c, name='embedder')(tokens)
        (x, cache), kv = scanned(c, self.mesh, name='layers')((x, cache), _layers(c, prefix_kv), shared)
        return RMSNorm(name='final_norm')(x), cache, kv


def init(config: GemmaConfig, key: jax.Array) -> Params:
    """Random float32 parameters: normal with variance 1 / fan-in, norm scales 0. Jittable (config static)."""
    one = jnp.zeros((1, 1), jnp.int32)
    shared = Shared(_rotations(config, one), distances(one, one), None)
    return Transformer(config).init(key, one, shared, None, None)['params']


@functools.cache
def shapes(config: GemmaConfig) -> Params:
    """Shapes and dtypes (float32) of a model's parameters, without making them."""
    return jax.eval_shape(lambda key: init(config, key), jax.random.key(0))


def leaf_name(path) -> str:
    """'layers/attn/q_einsum/w' from a path of `jax.tree.leaves_with_path`."""
    return '/'.join(str(entry.key) for entry in path)


def forward(
    params: Params,
    config: GemmaConfig,
    tokens: jax.Array,
    positions: jax.Array,
    segment_ids: jax.Array,
    prefix_kv: KV | None = None,
    mesh: Mesh | None = None,
    adapters: Params | None = None,
) -> tuple[jax.Array, KV]:
    """Runs whole sequences, several of which may be packed into one row.

    A token attends to the tokens of its own segment at positions up to its own (and within the layer's
    window), and to the prefix, whatever its segment. Positions must ascend along the tokens of a segment.

    Args:
        params: As `init` returns them.
        config: The model's shape.
        tokens: int32 [B, T].
        positions: int32 [B, T], absolute: those of a sequence after a prefix start at P.
        segment_ids: int32 [B, T]; padding is a segment like any other, by custom 0.
        prefix_kv: Keys and values, each [L, K, P, H], of a prefix at positions 0 .. P-1 shared by all rows.
        mesh: Splits the rows; left alone, the compiler may give every device all of them and part of the width.
        adapters: As `training.lora.init` returns them, multiplied beside the matrices of `params`.

    Returns:
        The hidden states [B, T, D] after the final norm, and (keys, values), each [L, B, K, T, H].
    """
    same_segment = segment_ids[:, :, None] == segment_ids[:, None, :]
    shared = Shared(
        rotations=_rotations(config, positions),
        distance=distances(positions, positions, same_segment),
        prefix_distance=_prefix_distance(positions, prefix_kv),
    )
    variables = {'params': params} if adapters is None else {'params': params, 'lora': adapters}
    hidden, _, kv = Transformer(config, mesh).apply(variables, tokens, shared, None, prefix_kv)
    return hidden, kv


def decode_step(
    params: Params,
    config: GemmaConfig,
    tokens: jax.Array,
    positions: jax.Array,
    cache: KV,
    pages: Pages,
    prefix_kv: KV | None = None,
) -> tuple[jax.Array, KV]:
    """Runs one token of every row against the row's pages and the shared prefix.

    The token is written into the row's page first. What a page holds of later positions is not read, so a page needs
    no clearing when it is given to another row. A row without pages sees the prefix alone.

    Args:
        params: As `init` or `unstack` returns them.
        config: The model's shape.
        tokens: int32 [D * R].
        positions: int32 [D * R], absolute.
        cache: Keys and values, each [L, D, P, K, C, H]; or, with `unstack`ed parameters, a list of L pairs of
            [D, P, K, C, H].
        pages: Whose they are.
        prefix_kv: Keys and values, each [L, K, P, H], or None (P = 0).

    Returns:
        The hidden states [D * R, D] after the final norm, and the cache.
    """
    unstacked = isinstance(params['layers'], list)
    page_size = (cache[0] if unstacked else cache)[0].shape[-2]
    by_shard = positions.reshape(pages.table.shape[:2])
    positions = positions[:, None]
    shared = Shared(
        rotations=_rotations(config, positions),
        distance=page_distances(pages, by_shard, page_size),
        prefix_distance=_prefix_distance(positions, prefix_kv),
        pages=pages,
        places=page_places(pages, by_shard, page_size),
    )
    if not unstacked:
        hidden, cache, _ = Transformer(config).apply({'params': params}, tokens[:, None], shared, cache, prefix_kv)
        return hidden[:, 0], cache

    x = Embedder(config).apply({'params': params['embedder']}, tokens[:, None])
    layers = _layers(config, prefix_kv)
    new_cache = []
    for index in range(config.num_layers):
        layer = jax.tree.map(lambda x, i=index: x[i], layers)._replace(index=None)
        (x, kv), _ = Block(config).apply({'params': params['layers'][index]}, (x, cache[index]), layer, shared)
        new_cache.append(kv)
    return RMSNorm().apply({'params': params['final_norm']}, x)[:, 0], new_cache


def compute_dtype():
    """What weights are multiplied in: bfloat16 on accelerators, float32 on CPU, which has no fast bfloat16."""
    return jnp.float32 if jax.default_backend() == 'cpu' else jnp.bfloat16


def unstack(params: Params, config: GemmaConfig) -> Params:
    """The parameters with a list of per-layer trees in place of the stacked leaves.

    `decode_step` then runs the layers one after the other without a scan, each on a cache of its own, and
    nothing is sliced out of a stack at every token: for tiny models that copying is a third of the time, for
    real ones the scan is worth more (one layer to compile).
    """
    layers = [jax.tree.map(lambda x, i=index: x[i], params['layers']) for index in range(config.num_layers)]
    return {**params, 'layers': layers}


def logits(params: Params, config: GemmaConfig, hidden: jax.Array) -> jax.Array:
    """float32 [..., V] from hidden states [..., D]: the tied embedding, then the final softcap."""
    table = params['embedder']['input_embedding']
    out = jnp.einsum('...d,vd->...v', hidden, table, preferred_element_type=jnp.float32)
    if config.final_softcap is not None:
        out = config.final_softcap * jnp.tanh(out / config.final_softcap)
    return out


def _layers(config: GemmaConfig, prefix_kv: KV | None) -> Layer:
    """What the scan reads, [L, ...]."""
    ropes = [_ropes(config).index(rope) for rope in zip(config.rope_base, config.rope_scale, strict=True)]
    return Layer(
        index=jnp.arange(config.num_layers, dtype=jnp.int32),
        window=jnp.array([window or UNREACHABLE for window in config.windows], jnp.int32),
        rope=jnp.array(ropes, jnp.int32),
        prefix_kv=prefix_kv,
    )


def _ropes(config: GemmaConfig) -> list[tuple[float, float]]:
    """The distinct (base, scale) of the layers: one, or two in Gemma 3."""
    return sorted(set(zip(config.rope_base, config.rope_scale, strict=True)))


def _rotations(config: GemmaConfig, positions: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Once for all layers: sines and cosines cost more than the rotation itself."""
    wavelengths = jnp.array([inverse_wavelengths(config.head_dim, *rope) for rope in _ropes(config)])
    angles = positions[None, ..., None].astype(jnp.float32) * wavelengths[:, None, None, :]
    return jnp.sin(angles), jnp.cos(angles)


def _prefix_distance(positions: jax.Array, prefix_kv: KV | None) -> jax.Array | None:
    if prefix_kv is None:
        return None
    return distances(positions, jnp.arange(prefix_kv[0].shape[-2], dtype=jnp.int32)[None])
