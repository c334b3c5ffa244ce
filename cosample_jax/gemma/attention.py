"""Attention over several parts (shared prefix, own tokens, pages) as one softmax, and rotary positions.

Every key carries its distance to every query; `UNREACHABLE` stands for "may not be seen" (the future, another
segment, padding). With that, causality, segments and a layer's window are one comparison: distance < window.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cosample_jax.gemma.pages import MOST_PAGES_PER_BLOCK, PAGES_PER_BLOCK, Pages

UNREACHABLE = np.iinfo(np.int32).max  # also the window of a global layer, which excludes exactly these keys
# Below any real score, and finite: a query whose every key is masked must give zeros, not NaN.
FLOOR = -1e30
# Into how many blocks `attend_causal` cuts the queries, and the shortest sequence worth it (measured on CPU: a training
# step of the tiny models at 128 and 256 tokens takes a fifth less time).
CAUSAL_BLOCKS = 4
MIN_BLOCKED = 128
# Bytes of a layer's keys that are read in one block, the pages of nobody too: cutting and joining blocks costs more.
SMALL = 2**21


class Part(NamedTuple):
    """Keys and values of one stretch of the context.

    Heads come before tokens, as in the caches: the products with the queries and probabilities of a decode step then
    need no transposed copy of the cache, and one token is whole lanes of a TPU's tiles, so writing it moves nothing
    else ([K, H, S] made the TPU compiler copy every cache in and out; on CPU no difference is seen).

    Attributes:
        k: Rotated keys, [B, K, S, H], or [K, S, H] when all rows share them.
        v: Values, same shape.
        distance: int32 [B, T, S], q_pos - k_pos, or UNREACHABLE.
    """

    k: jax.Array
    v: jax.Array
    distance: jax.Array


def attend(q: jax.Array, parts: list[Part], window: jax.Array | int, softcap: float | None) -> jax.Array:
    """Softmax attention over the union of the parts' keys.

    The parts are joined by their log-sum-exp, written as one shared maximum and one sum, so the result is
    that of attention over the concatenated keys. A query that sees no key at all gets zeros.

    Args:
        q: Rotated and scaled queries, [B, T, N, H].
        parts: Where to look; a part shared by all rows is read as one matrix product for all of them.
        window: Keys at distance >= window are not seen; UNREACHABLE for a global layer. May be traced.
        softcap: Scores become cap * tanh(scores / cap), before masking.

    Returns:
        [B, T, N, H] in the dtype of q.
    """
    batch, length, num_heads, head_dim = q.shape
    num_kv_heads = parts[0].k.shape[-3]
    groups = num_heads // num_kv_heads
    q = q.reshape(batch, length, num_kv_heads, groups, head_dim)
    own_q = q.transpose(0, 2, 1, 3, 4).reshape(batch, num_kv_heads, length * groups, head_dim)
    all_q = q.transpose(2, 0, 1, 3, 4).reshape(num_kv_heads, batch * length * groups, head_dim)

    # The scores of a part stay in the order its product comes out in, [B, K, T, G, S] or, of a shared part,
    # [K, B, T, G, S]; what is joined across parts has no S and is small.
    shared = [part.k.ndim == 3 for part in parts]
    scores = []
    for part, is_shared in zip(parts, shared, strict=True):
        if is_shared:
            s = jnp.einsum('kmh,ksh->kms', all_q, part.k, preferred_element_type=jnp.float32)
            s = s.reshape(num_kv_heads, batch, length, groups, -1)
            seen = (part.distance < window)[None, :, :, None]
        else:
            s = jnp.einsum('bkmh,bksh->bkms', own_q, part.k, preferred_element_type=jnp.float32)
            s = s.reshape(batch, num_kv_heads, length, groups, -1)
            seen = (part.distance < window)[:, None, :, None]
        if softcap is not None:
            s = softcap * jnp.tanh(s / softcap)
        scores.append(jnp.where(seen, s, FLOOR))

    def batch_first(x, is_shared):
        return jnp.swapaxes(x, 0, 1) if is_shared else x

    # The maximum is subtracted even where a softcap bounds the scores: the forward pass would do without, but
    # the gradient of the quotient squares the sum, and e**-100 is no float32.
    tops = [batch_first(s.max(-1), is_shared) for s, is_shared in zip(scores, shared, strict=True)]
    top = jax.lax.stop_gradient(jnp.maximum(jax.tree.reduce(jnp.maximum, tops), 0.5 * FLOOR))[..., None]

    out, total = 0.0, 0.0
    for s, part, is_shared in zip(scores, parts, shared, strict=True):
        p = jnp.exp(s - batch_first(top, is_shared))
        total += batch_first(p.sum(-1), is_shared)
        p = p.astype(part.v.dtype)
        if is_shared:
            p = p.reshape(num_kv_heads, batch * length * groups, -1)
            o = jnp.einsum('kms,ksh->kmh', p, part.v, preferred_element_type=jnp.float32)
            o = jnp.swapaxes(o.reshape(num_kv_heads, batch, length, groups, head_dim), 0, 1)
        else:
            p = p.reshape(batch, num_kv_heads, length * groups, -1)
            o = jnp.einsum('bkms,bksh->bkmh', p, part.v, preferred_element_type=jnp.float32)
            o = o.reshape(batch, num_kv_heads, length, groups, head_dim)
        out += o
    out /= jnp.maximum(total, jnp.finfo(jnp.float32).tiny)[..., None]
    return out.transpose(0, 2, 1, 3, 4).reshape(batch, length, num_heads, head_dim).astype(q.dtype)


def attend_causal(
    q: jax.Array, own: Part, others: list[Part], window: jax.Array | int, softcap: float | None
) -> jax.Array:
    """`attend` where query t reads, of its own row's T keys, only the first t + 1: whole sequences side by side.

    Queries go in a few blocks, each against the keys up to its end, so 3 of 8 scores are never computed.

    Args:
        q: As in `attend`.
        own: The row's own keys, S = T; distances to later keys must be UNREACHABLE.
        others: Parts that all queries may read.
        window: As in `attend`.
        softcap: As in `attend`.
    """
    length = q.shape[1]
    blocks = CAUSAL_BLOCKS if length >= MIN_BLOCKED and length % CAUSAL_BLOCKS == 0 else 1
    size = length // blocks
    out = []
    for start in range(0, length, size):
        rows, end = slice(start, start + size), start + size
        part = Part(own.k[..., :end, :], own.v[..., :end, :], own.distance[:, rows, :end])
        rest = [Part(other.k, other.v, other.distance[:, rows]) for other in others]
        out.append(attend(q[:, rows], [*rest, part], window, softcap))
    return jnp.concatenate(out, axis=1)


class Partial(NamedTuple):
    """Softmax attention over a part of the keys, ready to be joined with that over others."""

    out: jax.Array  # float32 [..., H], the sum of e**(score - top) * value
    total: jax.Array  # float32 [...], the sum of e**(score - top)
    top: jax.Array  # float32 [...], the largest score; at least FLOOR / 2


def page_places(pages: Pages, positions: jax.Array, page_size: int) -> tuple[jax.Array, jax.Array]:
    """Where the tokens at `positions` [D, R] are written: page (P for a row that has none) and slot, [D, R]."""
    offset = positions - pages.own_starts
    index = pages.first_own + offset // page_size
    place = jnp.take_along_axis(pages.table, index[..., None], axis=-1, mode='clip')[..., 0]
    return place // pages.readers.shape[-1], offset % page_size


def page_distances(pages: Pages, positions: jax.Array, page_size: int) -> jax.Array:
    """int32 [D, P, J, C], from the token at `positions` [D, R] of each reader back to each key, or UNREACHABLE."""
    q_pos = jax.vmap(lambda rows, readers: rows.at[readers].get(mode='clip'))(positions, pages.readers)
    slots = jnp.arange(page_size, dtype=jnp.int32)[None, None]
    k_pos = pages.starts[..., None] + slots
    visible = slots < pages.counts[..., None]
    return distances(q_pos, k_pos, visible[:, :, None])


def attend_paged(
    q: jax.Array,
    cache: tuple[jax.Array, jax.Array],
    layer: jax.Array | None,
    pages: Pages,
    distance: jax.Array,
    prefix: Part | None,
    window: jax.Array | int,
    softcap: float | None,
) -> jax.Array:
    """Softmax attention of one token a row over a shared prefix and the row's pages.

    Pages are read in blocks, as many as are in use and no more; a small cache in one. The results of a row's pages are
    joined in the order of its table.

    Args:
        q: Rotated and scaled queries, [D * R, N, H].
        cache: Keys (rotated) and values, each [D, P, K, C, H], or [L, D, P, K, C, H] of all layers.
            PAGES_PER_BLOCK divides P.
        layer: int32 [], which of these layers; None when the cache is of one.
        pages: Who reads what.
        distance: As `page_distances` gives them.
        prefix: Keys that all rows share, [K, S, H], with distances [D * R, 1, S].
        window: As in `attend`.
        softcap: As in `attend`.

    Returns:
        [D * R, N, H] in the dtype of q.
    """
    shards, num_pages, num_kv_heads, page_size, head_dim = cache[0].shape[-5:]
    readers = pages.readers.shape[-1]
    rows = q.shape[0] // shards
    groups = q.shape[1] // num_kv_heads
    q = q.reshape(shards, rows, -1, head_dim)
    block_pages = math.gcd(num_pages, PAGES_PER_BLOCK if layer is None else MOST_PAGES_PER_BLOCK)
    if layer is None and cache[0].nbytes <= SMALL:
        block_pages = num_pages

    def block(index, partials):
        def of(x):
            return jax.lax.dynamic_slice_in_dim(x, index * block_pages, block_pages, axis=1)

        def of_layer(x):
            # The block is cut out of all layers at once: a layer cut out first would be copied whole, with the pages
            # of nobody, at every token.
            if layer is None:
                return of(x)
            size = (1, shards, block_pages, num_kv_heads, page_size, head_dim)
            return jax.lax.dynamic_slice(x, (layer, 0, index * block_pages, 0, 0, 0), size)[0]

        asked = jax.vmap(lambda q, rows: q.at[rows].get(mode='clip'))(q, of(pages.readers))
        asked = asked.reshape(*asked.shape[:3], num_kv_heads, groups, head_dim).swapaxes(2, 3)
        asked = asked.reshape(shards, block_pages, num_kv_heads, readers * groups, head_dim)
        seen = jnp.repeat(of(distance) < window, groups, axis=2)[:, :, None]
        found = _partial(asked, *map(of_layer, cache), seen, softcap)
        start = index * block_pages

        def stored(all, new):
            new = new.reshape(shards, block_pages, num_kv_heads, readers, groups, *new.shape[4:]).swapaxes(2, 3)
            return jax.lax.dynamic_update_slice_in_dim(all, new.reshape(*new.shape[:3], -1, *new.shape[5:]), start, 1)

        return jax.tree.map(stored, partials, found)

    # A reader's heads lie together, whole rows of a TPU's tiles that are fetched as they are. What nobody's pages have
    # here is never fetched, so nothing is cleared: by the TPU compiler's estimate that took half a feed-forward's time.
    shape = (shards, num_pages, readers, num_kv_heads * groups)
    unset = Partial(*(jax.lax.empty(s, jnp.float32) for s in ((*shape, head_dim), shape, shape)))
    if block_pages == num_pages:
        partials = block(0, unset)
    else:
        partials = jax.lax.fori_loop(0, -(-pages.used // block_pages), block, unset)

    def of_rows(x, fill):  # [D, P, J, N, ...] to [D, R, M, N, ...]
        x = x.reshape(shards, num_pages * readers, *x.shape[3:])
        return jax.vmap(lambda x, table: x.at[table].get(mode='fill', fill_value=fill))(x, pages.table)

    parts = Partial(of_rows(partials.out, 0), of_rows(partials.total, 0), of_rows(partials.top, 0.5 * FLOOR))
    top = parts.top.max(2)
    if prefix is not None:
        seen = jnp.repeat(prefix.distance[:, 0] < window, groups, axis=0)[None]
        q_all = q.reshape(shards * rows, num_kv_heads, groups, head_dim).swapaxes(0, 1)
        q_all = q_all.reshape(num_kv_heads, -1, head_dim)

        def by_row(x):  # [K, D * R * G, ...] to [D, R, N, ...]
            x = x.reshape(num_kv_heads, shards, rows, groups, *x.shape[2:])
            return jnp.moveaxis(x, 0, 2).reshape(shards, rows, -1, *x.shape[4:])

        shared = jax.tree.map(by_row, _partial(q_all, prefix.k, prefix.v, seen, softcap))
        top = jnp.maximum(top, shared.top)
    # Page by page: as one sum over an axis the CPU compiler makes it thirty times slower than its arithmetic.
    out, total = 0.0, 0.0
    each = [jax.tree.map(lambda x, i=index: x[:, :, i], parts) for index in range(pages.table.shape[-1])]
    for part in each if prefix is None else [*each, shared]:
        weight = jnp.exp(part.top - top)
        out += part.out * weight[..., None]
        total += part.total * weight
    out /= jnp.maximum(total, jnp.finfo(jnp.float32).tiny)[..., None]
    return out.reshape(shards * rows, -1, head_dim).astype(q.dtype)


def _partial(q: jax.Array, k: jax.Array, v: jax.Array, seen: jax.Array, softcap: float | None) -> Partial:
    """Of queries [..., X, H] over keys [..., S, H]; `seen` is [..., X, S]."""
    s = jnp.einsum('...xh,...sh->...xs', q, k, preferred_element_type=jnp.float32)
    if softcap is not None:
        s = softcap * jnp.tanh(s / softcap)
    s = jnp.where(seen, s, FLOOR)
    top = jnp.maximum(s.max(-1), 0.5 * FLOOR)
    p = jnp.exp(s - top[..., None])
    out = jnp.einsum('...xs,...sh->...xh', p.astype(v.dtype), v, preferred_element_type=jnp.float32)
    return Partial(out, p.sum(-1), top)


def distances(q_pos: jax.Array, k_pos: jax.Array, visible: jax.Array | bool = True) -> jax.Array:
    """int32 [B, T, S] of q_pos - k_pos; UNREACHABLE where the key is in the future or not `visible`.

    Args:
        q_pos: [B, T].
        k_pos: [B, S], or [1, S].
        visible: [B, T, S].
    """
    distance = q_pos[..., :, None] - k_pos[..., None, :]
    return jnp.where((distance >= 0) & visible, distance, UNREACHABLE)


def inverse_wavelengths(head_dim: int, base: float, scale: float) -> np.ndarray:
    """Radians a position turns each pair of head dimensions by, float32 [H / 2]; RoFormer, arXiv 2104.09864.

    Computed in float64: at position 8,000 a rounding error of the float32 power is already 1e-3 radians.
    """
    exponent = np.arange(0, head_dim, 2, dtype=np.float64) / head_dim
    return (float(base) ** -exponent / scale).astype(np.float32)


def rotate(x: jax.Array, sin: jax.Array, cos: jax.Array) -> jax.Array:
    """RoPE: turns the pair (x[i], x[i + H/2]) by the i-th angle.

    Args:
        x: [B, T, N, H].
        sin: float32 [B, T, H / 2].
        cos: Same shape.
    """
    sin, cos = sin[:, :, None], cos[:, :, None]
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)
