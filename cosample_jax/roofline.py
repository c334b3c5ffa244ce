"""How fast a model can sample and be fine-tuned at most, by data sheets: models, stated in full, and no measurements.

Letters as in `gemma.model`. Sizes are those of ONE device; weights that 'fsdp' splits are multiplied whole.
"""

from typing import NamedTuple

import jax.numpy as jnp

from cosample_jax.devices import KINDS, Slice
from cosample_jax.gemma.config import GemmaConfig
from cosample_jax.memory import Sampling, Sizes, Training, sampling_layout, seen, split, weight_sizes


def sampling(
    config: GemmaConfig, kind: str, sizes: Sizes, shape: Sampling, filled: float = 0.5, dtype=jnp.bfloat16
) -> float:
    """Tokens a second of the whole mesh that decode cannot exceed on chips of this kind, all rows busy.

    A step draws one token a row and takes the longer of reading memory and of multiplying:

        seconds = max(bytes a chip / bandwidth, FLOPs a chip / peak FLOP/s)
        bytes   = weights as multiplied + prefix + question pages once for every READERS rows + own tokens of each row
        FLOPs   = 2 a weight and row + 4 a query head, dimension and token that it sees

    Rows have drawn `filled` of their tokens on average: a half when all samples end at the limit, and less when they
    end before it. Questions are as long as the longest and all their readers busy. Weights that 'fsdp' brings together
    are read whole; what chips send one another, activations and the start of kernels cost nothing here.

    Args:
        config: The model's shape.
        kind: A key of KINDS.
        sizes: Of the mesh.
        shape: Of the run.
        filled: Of `shape.new_tokens`.
        dtype: Of weights and cache.
    """
    layout = sampling_layout(config, shape, sizes.data * sizes.fsdp)
    table, *_ = weight_sizes(config, sizes)
    _, *layers = weight_sizes(config, sizes._replace(fsdp=1))
    own = filled * shape.new_tokens
    heads, kv_heads = split(config.num_heads, sizes.tensor), split(config.num_kv_heads, sizes.tensor)
    questions = -(-layout.rows // layout.readers) * layout.question_pages * layout.page_size
    cached = shape.prefix + questions + layout.rows * own
    read = table + sum(layers) + 2 * config.num_layers * kv_heads * config.head_dim * cached
    flops = 2 * layout.rows * sum(layers) + 2 * split(shape.slots, sizes.data) * table
    seen = shape.prefix + shape.question + own
    flops += 4 * layout.rows * config.num_layers * heads * config.head_dim * seen
    chip = KINDS[kind]
    seconds = max(read * jnp.dtype(dtype).itemsize / (chip.bandwidth * 1e9), flops / (chip.teraflops * 1e12))
    return shape.slots / seconds


class StepTime(NamedTuple):
    """What an optimisation step takes at least, in seconds, of a chip's arithmetic, its memory and its links."""

    arithmetic: float
    memory: float
    links: float
    useful: float  # arithmetic without what is computed again

    @property
    def bound(self) -> str:
        """What it takes longest for."""
        return max(('arithmetic', 'memory', 'links'), key=lambda name: getattr(self, name))

    @property
    def seconds(self) -> float:
        return getattr(self, self.bound)

    @property
    def mfu(self) -> float:
        """Model FLOPs utilisation (arXiv 2204.02311, appendix B): useful FLOPs as a share of the peak."""
        return self.useful / self.seconds


def training(
    config: GemmaConfig, slice_: Slice, sizes: Sizes, shape: Training, dtype=jnp.bfloat16, lora_rank: int = 0
) -> StepTime:
    """The least time of a step on a packed batch, padding included.

        seconds = max(FLOPs a chip / peak FLOP/s, bytes a chip / bandwidth, bytes received / links of a corner chip)
        FLOPs   = 8 a weight and token + 16 a query head, dimension, token and key that it reads; of these 2 and 4 are
                  the forward pass once more, which `useful` leaves out (6 and 12; unrolled layers do without, too)
        bytes   = masters and moments, 12 a weight, read and written
                + weights as multiplied, whole layers: read forward, again and backward; and their gradients, once
                + what each product of a layer gives, and logits: written and read forward, again and as a gradient
        received = fsdp: layers' weights, forward and backward, and their gradients: 3 (n - 1) / n of a whole layer
                + data: gradients, all-reduced
                + tensor: two all-reduces of the stream a layer, forward, again and backward

    The three overlap wholly. Scores stay on the chip, the vocabulary's sums, norms and the start of kernels cost
    nothing. Embedding rows are looked up, not multiplied: the table counts once, for the logits of all tokens, on all
    of which the loss falls. Each microbatch has its own passes over weights and over links. With adapters of
    `lora_rank`, which cost nothing themselves, weights have neither moments nor gradients: 2 FLOPs a weight and token
    less, useful ones.
    """
    parts = shape.rows // shape.microbatch_rows if shape.microbatch_rows else 1
    trained = int(not lora_rank)
    table, *layers = weight_sizes(config, sizes)
    kept = table + sum(layers)
    _, *layers = weight_sizes(config, sizes._replace(fsdp=1))
    whole, item, again = sum(layers), jnp.dtype(dtype).itemsize, int(not config.is_unrolled)
    tokens = split(shape.rows, sizes.data * sizes.fsdp) * shape.row_length
    of_vocabulary = split(shape.rows, sizes.data) * shape.row_length  # tokens whose logits a chip has a part of
    ffw = split(config.ffw_dim, sizes.tensor)
    heads, kv_heads = split(config.num_heads, sizes.tensor), split(config.num_kv_heads, sizes.tensor)

    products = tokens * whole + of_vocabulary * table
    attention = config.num_layers * heads * config.head_dim * tokens * seen(shape.row_length)
    useful = (4 + 2 * trained) * products + 12 * attention
    flops = useful + again * (2 * products + 4 * attention)

    widths = 2 * (heads + kv_heads) * config.head_dim + 3 * ffw + 2 * config.embed_dim
    activations = config.num_layers * tokens * widths * item
    activations += of_vocabulary * split(config.vocab_size, sizes.tensor * sizes.fsdp) * 4
    moved = (
        trained * 2 * 12 * kept + parts * (2 + again + trained) * (whole + table) * item + 2 * (2 + again) * activations
    )

    received = parts * (2 + trained) * whole * item * (1 - 1 / sizes.fsdp)
    received += trained * parts * 2 * kept * item * (1 - 1 / sizes.data)
    stream = tokens * config.embed_dim * item
    received += 2 * config.num_layers * (2 + again) * 2 * stream * (1 - 1 / sizes.tensor)

    chip = KINDS[slice_.kind]
    peak = chip.teraflops * 1e12
    links = received / (chip.link * 1e9 * slice_.links) if received else 0.0
    return StepTime(flops / peak, moved / (chip.bandwidth * 1e9), links, useful / peak)
