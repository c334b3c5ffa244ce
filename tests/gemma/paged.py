"""A paged cache as decode takes it, from keys and values in a row."""

import numpy as np

from cosample_jax.gemma.pages import PAGES_PER_BLOCK, Pages


def one_page_a_row(kv, slots, start, fill=0.0):
    """(cache, pages) with keys and values [L, R, K, T, H] in pages of `slots` tokens, the first at position `start`.

    What they do not fill, and the pages of nobody, hold `fill`.
    """
    layers, rows, heads, length, head_dim = kv[0].shape
    cache = tuple(np.full((layers, 1, PAGES_PER_BLOCK, heads, slots, head_dim), fill, np.float32) for _ in kv)
    order = np.arange(rows)[::-1] + 3  # any pages will do
    for whole, each in zip(cache, kv, strict=True):
        whole[:, 0, order, :, :length] = each
    readers = np.full((1, PAGES_PER_BLOCK, 1), rows, np.int32)
    readers[0, order, 0] = np.arange(rows)
    pages = Pages(
        readers=readers,
        starts=np.full((1, PAGES_PER_BLOCK), start, np.int32),
        counts=np.full((1, PAGES_PER_BLOCK), slots, np.int32),
        table=order[None, :, None].astype(np.int32),
        first_own=np.zeros((1, rows), np.int32),
        own_starts=np.full((1, rows), start, np.int32),
        used=np.int32(order.max() + 1),
    )
    return cache, pages
