"""How many bytes a device holds while a model samples and while it is fine-tuned, before anything is compiled.

What is kept (weights, caches, optimizer) is counted from the shapes of the real programs and the rules of `sharding`,
so it is what the compiler counts. What is made on the way is a model of the programs, one term a line, calibrated on
the TPU compiler (`cosample plan --compile` shows its figures beside these) and meant to err upwards: the terms of a
peak are added although the compiler overlaps some of them.

Letters as in `gemma.model`: R rows, T tokens, S cached tokens, L layers, D embed, F ffw, N and K heads, H head dim, V
vocabulary. Sizes of activations are those of ONE device.
"""

import bisect
import dataclasses
import math
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh

from cosample_jax import sharding
from cosample_jax.errors import UserError, did_you_mean
from cosample_jax.gemma import model
from cosample_jax.gemma.attention import CAUSAL_BLOCKS, MIN_BLOCKED
from cosample_jax.gemma.config import GemmaConfig
from cosample_jax.gemma.weights import abstract_params
from cosample_jax.sampling import engine, schedule
from cosample_jax.sampling.policy import SamplingSettings
from cosample_jax.sampling.schedule import Request
from cosample_jax.training import lora
from cosample_jax.training import loss as loss_lib

GIB = 2**30


class Kind(NamedTuple):
    """A kind of TPU. Sources: its Cloud TPU data sheet (cloud.google.com/tpu/docs/v4, v5e, v5p, v6e), which gives the
    links of a chip together, two a dimension and both ways, and when sizes close to rings; v4's link: arXiv 2304.01433;
    `usable`: what the compiler leaves a program of it.
    """

    dimensions: int  # of its slices
    chips: int  # of its largest
    usable: float  # GiB of a chip
    teraflops: float  # peak of a chip, bfloat16, 1e12 a second
    bandwidth: float  # of a chip's memory, 1e9 bytes a second
    link: float  # of one link to a neighbour, one way, 1e9 bytes a second
    ring: int  # a size of its slices that is a multiple of this closes to a ring; in 3-D slices, when all are


KINDS = {
    'v4': Kind(3, 4096, 30.75, 275, 1228, 50, 4),
    'v5e': Kind(2, 256, 15.75, 197, 819, 50, 16),
    'v5p': Kind(3, 8960, 95, 459, 2765, 100, 4),
    'v6e': Kind(2, 256, 31.24, 918, 1640, 100, 16),
}


class Slice(NamedTuple):
    """A TPU slice.

    Attributes:
        name: As given, 'v5e:2x4'.
        kind: A key of KINDS.
        chips: How many.
        host_bounds: Chips of one host, (x, y, z).
        usable: Bytes of a chip that a program may have.
        links: Neighbours of the chip that has fewest, one in a corner: what it gets comes over these.
    """

    name: str
    kind: str
    chips: int
    host_bounds: tuple[int, int, int]
    usable: int
    links: int


def parse_slice(name: str) -> Slice:
    """The slice called 'v5e:2x4' or 'v5p:2x2x2'. UserError for a kind that does not exist or a shape it cannot have."""
    kind, _, shape = name.partition(':')
    if kind not in KINDS:
        raise UserError(f'--topology={name}: unknown TPU {kind!r}{did_you_mean(kind, KINDS)}')
    example = 'x'.join('224'[-KINDS[kind].dimensions :])
    sizes = shape.split('x')
    if len(sizes) != KINDS[kind].dimensions or not all(size.isdecimal() and int(size) for size in sizes):
        raise UserError(f'--topology={name}: a {kind} slice is written like {kind}:{example}')
    sizes = [int(size) for size in sizes]
    chips = math.prod(sizes)
    if chips > KINDS[kind].chips:
        raise UserError(f'--topology={name}: the largest {kind} slice has {KINDS[kind].chips:,} chips')
    # A host holds 2x2 chips; a whole 2x4 of v5e and v6e is one host, and a single chip has a host of its own.
    if chips == 1:
        bounds = (1, 1, 1)
    elif KINDS[kind].dimensions == 2 and sorted(sizes) == [2, 4]:
        bounds = (*sizes, 1)
    else:
        bounds = (2, 2, 1)
    if any(size % bound for size, bound in zip(sizes, bounds, strict=False)):
        raise UserError(f'--topology={name}: its hosts hold 2x2 chips, so both of its first sizes must be even')
    rings = [size % KINDS[kind].ring == 0 for size in sizes]
    if KINDS[kind].dimensions == 3:
        rings = [all(rings)] * 3
    links = sum((size > 1) + ring for size, ring in zip(sizes, rings, strict=True))
    return Slice(name, kind, chips, bounds, int(KINDS[kind].usable * GIB), links)


def check_mesh(slice_: Slice, sizes) -> None:
    """UserError unless a mesh of `sizes` uses every chip of the slice."""
    wanted = [getattr(sizes, axis) for axis in sharding.MESH_AXES]
    if math.prod(wanted) != slice_.chips:
        shown = ' x '.join(f'mesh.{axis}={size}' for axis, size in zip(sharding.MESH_AXES, wanted, strict=True))
        raise UserError(
            f'{shown} is {math.prod(wanted)} devices and {slice_.name} has {slice_.chips} chips: set '
            f'--config.mesh.fsdp or --config.mesh.tensor so that their product is {slice_.chips}'
        )


class Sampling(NamedTuple):
    """The shapes of a sampling run: rows decoded side by side, and tokens of prefix, question and answer.

    `shared` says whether problems have several samples, whose rows then share the pages of a question.
    """

    slots: int
    prefix: int
    question: int
    new_tokens: int
    shared: bool = True


class Training(NamedTuple):
    """The shape of a packed batch; `microbatch_rows` of it at a time, 0 is all of them."""

    rows: int
    row_length: int
    microbatch_rows: int = 0


class Memory(NamedTuple):
    """Bytes of one device. `optimizer` holds the float32 moments; masters, or frozen weights and adapters, are
    `weights`; gradients are temporaries.
    """

    weights: int
    kv: int
    optimizer: int
    temporaries: int

    @property
    def total(self) -> int:
        return sum(self)


class Sizes(NamedTuple):
    """Of a mesh; a configuration's `mesh` has the same names."""

    data: int = 1
    fsdp: int = 1
    tensor: int = 1


def abstract_mesh(sizes: Sizes) -> AbstractMesh:
    """A mesh of `sizes` (data, fsdp, tensor) without devices: enough to know where things would lie."""
    return AbstractMesh(tuple(getattr(sizes, axis) for axis in sharding.MESH_AXES), sharding.MESH_AXES)


def sampling(config: GemmaConfig, sizes: Sizes, shape: Sampling, dtype=jnp.bfloat16) -> Memory:
    """What sampling takes at its peak.

    KV is the pages, the shared prefix, and the questions of two prefills: the one that rows still wait for and the
    next.
    """
    programs = sampling_temporaries(config, sizes, shape, dtype)
    kv = cache_bytes(config, sizes, shape, dtype)
    kv += prefix_bytes(config, sizes, shape, dtype) + 2 * question_bytes(config, sizes, shape, dtype)
    return Memory(weight_bytes(config, sizes, dtype), kv, 0, max(programs.values()))


def auto_slots(config: GemmaConfig, sizes: Sizes, shape: Sampling, there: int, dtype, most: int) -> int:
    """The most rows, up to `most`, with which sampling takes no more than `there` bytes of a device.

    They divide over the mesh. `shape.slots` is not read. UserError when not even the fewest fit.
    """
    ways = sizes.data * sizes.fsdp

    def needed(times: int) -> int:
        return sampling(config, sizes, shape._replace(slots=times * ways), dtype).total

    times = range(1, max(1, most // ways) + 1)
    fitting = bisect.bisect_right(times, there, key=needed)
    if not fitting:
        raise UserError(
            f'sampling of {config.name} needs {needed(1) / GIB:.1f} GiB a device for {ways} rows, the fewest on this '
            f'mesh, and there are {there / GIB:.1f}: split it over more devices (mesh.tensor, mesh.fsdp)'
        )
    return fitting * ways


def most_rows(accelerated: bool) -> int:
    """Beyond which a step is bound by arithmetic, and more rows gain nothing, on a chip or a CPU."""
    return 1024 if accelerated else 128


def with_slots(
    settings: SamplingSettings, config: GemmaConfig, mesh_sizes, requests: Sequence[Request]
) -> SamplingSettings:
    """The settings with as many rows as fit, up to `most_rows` and the number of requests, where they have 0.

    Follows from the whole run's requests and the device, so an interrupted run goes on with the same rows. UserError
    when not even the fewest fit.
    """
    if settings.slots or not requests:
        return settings
    prompts = {request.problem_id: request.prompt for request in requests}
    prefix = len(engine.common_prefix(list(prompts.values())))
    sizes = Sizes(*(getattr(mesh_sizes, axis) for axis in sharding.MESH_AXES))
    question = max(map(len, prompts.values())) - prefix - 1
    shape = Sampling(0, prefix, question, settings.max_new_tokens, shared=len(requests) > len(prompts))
    most = min(most_rows(jax.default_backend() != 'cpu'), len(requests))
    rows = auto_slots(config, sizes, shape, this_device(sizes)[1], model.compute_dtype(), most)
    return dataclasses.replace(settings, slots=rows)


def this_device(sizes) -> tuple[str, int]:
    """What one device of a mesh of `sizes` is called and has: an accelerator's own memory, or its share of the
    machine's, in bytes.
    """
    device = jax.devices()[0]
    stats = device.memory_stats() if device.platform != 'cpu' else None
    if stats and 'bytes_limit' in stats:
        return f'a {device.device_kind} here', stats['bytes_limit']
    devices = math.prod(getattr(sizes, axis) for axis in sharding.MESH_AXES)
    whole = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    return 'this machine' if devices == 1 else f'each of {devices} devices of this machine', whole // devices


# Of devices that are no TPUs of KINDS, dense bfloat16, from NVIDIA's data sheets: 1e12 FLOP/s.
_GPU_TERAFLOPS = {'H100': 989, 'H200': 989, 'A100': 312}
_TPU_NAMES = {
    'TPU v4': 'v4',
    'TPU v5 lite': 'v5e',
    'TPU v5e': 'v5e',
    'TPU v5': 'v5p',
    'TPU v5p': 'v5p',
    'TPU v6 lite': 'v6e',
}


def peak_flops(sizes, device_kind: str | None = None) -> float | None:
    """FLOP/s in bfloat16 that a mesh of `sizes` has at most by the data sheets; None for devices not known here.

    `device_kind` is what JAX calls the device; None asks for this machine's.
    """
    kind = jax.devices()[0].device_kind if device_kind is None else device_kind
    teraflops = next((flops for name, flops in _GPU_TERAFLOPS.items() if name in kind), None)
    if kind in _TPU_NAMES:
        teraflops = KINDS[_TPU_NAMES[kind]].teraflops
    devices = math.prod(getattr(sizes, axis) for axis in sharding.MESH_AXES)
    return None if teraflops is None else teraflops * 1e12 * devices


def fine_tuning(config: GemmaConfig, sizes: Sizes, shape: Training, dtype=jnp.bfloat16, lora_rank: int = 0) -> Memory:
    """What a training step takes at its peak: of all weights, or of adapters, with the weights kept as multiplied."""
    trained = 4 * sum(_adapters(config, sizes, lora_rank) if lora_rank else _weights(config, sizes))
    kept = trained + (weight_bytes(config, sizes, dtype) if lora_rank else 0)
    return Memory(kept, 0, 2 * trained, training_temporaries(config, sizes, shape, dtype, lora_rank))


def weight_bytes(config: GemmaConfig, sizes: Sizes, dtype) -> int:
    return jnp.dtype(dtype).itemsize * sum(_weights(config, sizes))


def sampling_layout(config: GemmaConfig, shape: Sampling, shards: int) -> schedule.Layout:
    """The engine's, of rows split over so many devices."""
    return schedule.layout(shape.slots, shards, shape.question, shape.new_tokens, shape.shared, config.is_unrolled)


def question_pages(layout: schedule.Layout) -> int:
    """Pages that the longest question is prefilled in: a power of two, so that few shapes are compiled."""
    return engine.padded_pages(layout.question_pages)


def cache_bytes(config: GemmaConfig, sizes: Sizes, shape: Sampling, dtype) -> int:
    """2 of [L, D, P, K, C, H]."""
    layout = sampling_layout(config, shape, sizes.data * sizes.fsdp)
    full = (config.num_layers, layout.shards, layout.pages, config.num_kv_heads, layout.page_size, config.head_dim)
    return 2 * _bytes(sizes, model.CACHE_AXES, full, dtype)


def prefix_bytes(config: GemmaConfig, sizes: Sizes, shape: Sampling, dtype) -> int:
    """2 of [L, K, P, H]."""
    full = (config.num_layers, config.num_kv_heads, shape.prefix, config.head_dim)
    return 2 * _bytes(sizes, model.PREFIX_AXES, full, dtype)


def question_bytes(config: GemmaConfig, sizes: Sizes, shape: Sampling, dtype) -> int:
    """2 of [L, U, K, Q, H], Q in padded pages, which no axis of rows splits: any shard may copy any question."""
    layout = sampling_layout(config, shape, sizes.data * sizes.fsdp)
    length = question_pages(layout) * layout.page_size
    full = (config.num_layers, engine.QUESTIONS, config.num_kv_heads, length, config.head_dim)
    return 2 * _bytes(sizes, model.LOOSE_AXES, full, dtype)


def _bytes(sizes, axes, shape, dtype) -> int:
    return math.prod(sharding.named(abstract_mesh(sizes), axes, shape).shard_shape(shape)) * jnp.dtype(dtype).itemsize


def sampling_temporaries(config: GemmaConfig, sizes: Sizes, shape: Sampling, dtype=jnp.bfloat16) -> dict[str, int]:
    """What each program of the sampler makes on the way, by name."""
    rows, tensor = sizes.data * sizes.fsdp, sizes.tensor
    ffw, heads = _split(config.ffw_dim, tensor), _split(config.num_heads, tensor)
    item = jnp.dtype(dtype).itemsize
    gathered = _gathered_layer(config, sizes) * item

    def prefill(sequences: int, length: int, context: int) -> int:
        tokens = _split(sequences, rows) * length
        stream = 2 * tokens * config.embed_dim * item  # before and after a layer
        feed_forward = 2 * tokens * ffw * item  # both halves of the gate
        scores = tokens // CAUSAL_BLOCKS * heads * context * 4
        return gathered + stream + max(feed_forward, scores)

    layout = sampling_layout(config, shape, rows)
    length = question_pages(layout) * layout.page_size
    questions = question_bytes(config, sizes, shape, dtype)
    gathered_from = questions // rows if rows > 1 else 0  # each device's own questions, before all have them all
    logits = _split(shape.slots, sizes.data) * _split(config.vocab_size, tensor * sizes.fsdp) * 4
    # Of a layer: softmax over each page for each of its readers, then by row, both in float32.
    found = layout.pages * layout.readers + layout.rows * (layout.question_pages + layout.own_pages)
    attention = found * heads * (config.head_dim + 2) * 4
    attention += layout.pages * layout.readers * layout.page_size * 4  # distances
    programs = {
        'prefix': prefill(1, shape.prefix, shape.prefix),
        'questions': prefill(engine.QUESTIONS, length, shape.prefix + length) + gathered_from,
        'fill': questions // config.num_layers,
        # Logits as they come and as they are searched; once more each, where the devices that hold rows hold
        # vocabulary too.
        'decode': gathered + attention + (4 if sizes.fsdp > 1 else 2) * logits,
    }
    return {name: size + SMALL for name, size in programs.items()}


def sampling_programs(
    config: GemmaConfig, sizes: Sizes, shape: Sampling, dtype=jnp.bfloat16
) -> dict[str, tuple[int, int]]:
    """(arguments, temporaries) of each program of the sampler, as the compiler tells them."""
    weights, cache = weight_bytes(config, sizes, dtype), cache_bytes(config, sizes, shape, dtype)
    prefix, questions = prefix_bytes(config, sizes, shape, dtype), question_bytes(config, sizes, shape, dtype)
    arguments = {
        'prefix': weights,
        'questions': weights + prefix,
        'fill': cache + questions,
        'decode': weights + prefix + cache,
    }
    temporaries = sampling_temporaries(config, sizes, shape, dtype)
    return {name: (size, temporaries[name]) for name, size in arguments.items()}


def roofline(
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
    table, *_ = _weights(config, sizes)
    _, *layers = _weights(config, sizes._replace(fsdp=1))
    own = filled * shape.new_tokens
    heads, kv_heads = _split(config.num_heads, sizes.tensor), _split(config.num_kv_heads, sizes.tensor)
    questions = -(-layout.rows // layout.readers) * layout.question_pages * layout.page_size
    cached = shape.prefix + questions + layout.rows * own
    read = table + sum(layers) + 2 * config.num_layers * kv_heads * config.head_dim * cached
    flops = 2 * layout.rows * sum(layers) + 2 * _split(shape.slots, sizes.data) * table
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


def training_roofline(
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
    table, *layers = _weights(config, sizes)
    kept = table + sum(layers)
    _, *layers = _weights(config, sizes._replace(fsdp=1))
    whole, item, again = sum(layers), jnp.dtype(dtype).itemsize, int(not config.is_unrolled)
    tokens = _split(shape.rows, sizes.data * sizes.fsdp) * shape.row_length
    of_vocabulary = _split(shape.rows, sizes.data) * shape.row_length  # tokens whose logits a chip has a part of
    ffw = _split(config.ffw_dim, sizes.tensor)
    heads, kv_heads = _split(config.num_heads, sizes.tensor), _split(config.num_kv_heads, sizes.tensor)

    products = tokens * whole + of_vocabulary * table
    attention = config.num_layers * heads * config.head_dim * tokens * _seen(shape.row_length)
    useful = (4 + 2 * trained) * products + 12 * attention
    flops = useful + again * (2 * products + 4 * attention)

    widths = 2 * (heads + kv_heads) * config.head_dim + 3 * ffw + 2 * config.embed_dim
    activations = config.num_layers * tokens * widths * item
    activations += of_vocabulary * _split(config.vocab_size, sizes.tensor * sizes.fsdp) * 4
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


def training_temporaries(
    config: GemmaConfig, sizes: Sizes, shape: Training, dtype=jnp.bfloat16, lora_rank: int = 0
) -> int:
    """What a training step makes on the way: the larger of two peaks, in the loss and in a layer's gradient.

    The weights as they are multiplied are kept for all layers. Casting each in its own layer does not save them: the
    compiler takes the casts out of the loop again, and the gradients, of float32 weights now, take twice the bytes
    (9B on v5e:4x4: temporaries of 4.08 GiB instead of 3.11).
    """
    table, *layers = _weights(config, sizes)
    frozen = 0
    if lora_rank:  # table and weights have no gradient; the compiler makes up to one copy of the layers' (as measured)
        frozen, table, layers = sum(layers), 0, list(_adapters(config, sizes, lora_rank))
    item, copied = jnp.dtype(dtype).itemsize, jnp.dtype(dtype) != jnp.float32
    rows = shape.microbatch_rows or shape.rows
    tokens = _split(rows, sizes.data * sizes.fsdp) * shape.row_length
    kept = sum(layers) * item * copied + frozen * item  # the weights as they are multiplied
    kept += table * (item * copied + 4)  # the same of the table, and its gradient
    kept += config.num_layers * tokens * config.embed_dim * item  # what goes from layer to layer

    if rows < shape.rows:  # the gradients' sums
        kept += 4 * (table + sum(layers))
    chunk = loss_lib.chunk_length(shape.row_length, config.vocab_size)
    logits = _split(rows, sizes.data) * chunk * _split(config.vocab_size, sizes.tensor * sizes.fsdp) * 4
    in_the_loss = logits + logits * item // 4  # themselves in float32, and their gradient as it is multiplied
    in_the_loss += _split(rows, sizes.data) * shape.row_length * config.embed_dim * item  # what they are made of
    in_the_loss += table * item  # the gradient that a chunk gives the table, before it is added

    ffw, heads = _split(config.ffw_dim, sizes.tensor), _split(config.num_heads, sizes.tensor)
    in_a_layer = sum(layers) * item  # gradients
    in_a_layer += _gathered_layer(config, sizes) * item
    in_a_layer += 8 * tokens * ffw * item  # gate, its GELU, up, product, and the gradient of each
    in_a_layer += 3 * tokens * heads * _seen(shape.row_length) * 4  # scores, probabilities, a gradient
    in_a_layer += 6 * tokens * config.embed_dim * 4  # norms and residuals, in and out
    if config.is_unrolled:  # nothing is computed again
        in_a_layer += (config.num_layers - 1) * tokens * (4 * ffw * item + 2 * heads * _seen(shape.row_length) * 4)
    return kept + max(in_the_loss, in_a_layer) + SMALL


# Keys, indices, counts: each in whole tiles.
SMALL = 2**20


def _seen(length: int) -> int:
    """Keys that a query reads, on average: `attention.attend_causal` goes in blocks."""
    blocks = CAUSAL_BLOCKS if length >= MIN_BLOCKED and length % CAUSAL_BLOCKS == 0 else 1
    return length * (blocks + 1) // (2 * blocks)


def _gathered_layer(config: GemmaConfig, sizes: Sizes) -> int:
    """Elements of one layer's weights when 'fsdp' has brought them together; nothing, where they are not split."""
    if sizes.fsdp == 1:
        return 0
    whole = sum(list(_weights(config, sizes._replace(fsdp=1)))[1:])
    return whole // config.num_layers


def _split(size: int, ways: int) -> int:
    return size if size % ways else size // ways


def _weights(config: GemmaConfig, sizes: Sizes) -> Iterator[int]:
    """Elements of each leaf on one device; the embedding's first."""
    return _elements(abstract_params(config), sizes)


def _adapters(config: GemmaConfig, sizes: Sizes, rank: int) -> Iterator[int]:
    return _elements(lora.shapes(config, rank), sizes)


def _elements(params, sizes: Sizes) -> Iterator[int]:
    places = sharding.param_shardings(params, abstract_mesh(sizes))
    for leaf, place in zip(jax.tree.leaves(params), jax.tree.leaves(places), strict=True):
        yield math.prod(place.shard_shape(leaf.shape))
