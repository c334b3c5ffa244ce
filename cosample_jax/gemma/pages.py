"""Whose the pages of a paged KV cache are: what the host hands to attention with every call. No JAX here.

The host (`sampling.schedule`) keeps it in numpy, the device (`attention.attend_paged`) reads it.
"""

from typing import Any, NamedTuple

# Read in one iteration. Of a cache of one layer, as tiny models have on CPU: keys and values stay in the second-level
# cache. Of stacked ones: a TPU starts some 15 kernels an iteration at 2 microseconds each, which reading 16 pages does
# not hide (the compiler's own estimate of Gemma 2 9B's page loop on four v5e chips falls by half).
PAGES_PER_BLOCK = 16
MOST_PAGES_PER_BLOCK = 64


class Pages(NamedTuple):
    """Who reads which page of a paged cache. D shards of rows with pages of their own, R rows and P pages a shard, C
    tokens a page, J readers a page, M pages a row.

    A page is read from memory once for all its readers: the tokens of a question by the rows that answer it. Which
    physical page holds what changes nothing in a row's result.

    Attributes:
        readers: int32 [D, P, J], rows of the shard; R is nobody.
        starts: int32 [D, P], absolute position of the page's first token.
        counts: int32 [D, P], how many of its C tokens may be seen at all.
        table: int32 [D, R, M], a row's pages in the order of their positions, each as page * J + (which of its
            readers); P * J is no page.
        first_own: int32 [D, R], where in `table` the pages begin that the row writes.
        own_starts: int32 [D, R], absolute position of the first token written there.
        used: int32 [], pages from this one on are nobody's, in every shard.
    """

    readers: Any
    starts: Any
    counts: Any
    table: Any
    first_own: Any
    own_starts: Any
    used: Any
