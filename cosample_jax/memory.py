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
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh

from cosample_jax import hosts, sharding
from cosample_jax.devices import GIB, this_device
from cosample_jax.errors import UserError
from cosample_jax.gemma import model
from cosample_jax.gemma.attention import CAUSAL_BLOCKS, MIN_BLOCKED
from cosample_jax.gemma.config import GemmaConfig
from cosample_jax.gemma.weights import abstract_params
from cosample_jax.sampling import engine, loop, schedule
from cosample_jax.sampling.policy import SamplingSettings
from cosample_jax.sampling.schedule import Request
from cosample_jax.training import lora
from cosample_jax.training import loss as loss_lib


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


def auto_slots(
    config: GemmaConfig, sizes: Sizes, shape: Sampling, there: int, dtype, most: int, logits: int = 0
) -> int:
    """The most rows, up to `most`, with which sampling takes no more than `there` bytes of a device.

    They divide over the mesh. `shape.slots` is not read. Besides what all sampling takes there may be so many arrays of
    the size of a step's `logits`. UserError when not even the fewest fit.
    """
    ways = sizes.data * sizes.fsdp

    def needed(times: int) -> int:
        slots = times * ways
        more = logits * split(slots, sizes.data) * split(config.vocab_size, sizes.tensor * sizes.fsdp) * 4
        return sampling(config, sizes, shape._replace(slots=slots), dtype).total + more

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
    # Of several processes all need the same rows, and their devices may not have quite the same memory.
    rows = hosts.alone(auto_slots, config, sizes, shape, this_device(sizes)[1], model.compute_dtype(), most)
    return dataclasses.replace(settings, slots=rows)


def live_slots(config: GemmaConfig, mesh_sizes, shapes: Sequence[Sampling], weights: int) -> int:
    """As many rows as fit, up to `most_rows`, for a model that is served with a cache of each of these shapes.

    `weights` are the bytes on a device of all models that are served beside one another, this one included: they share
    what is left in proportion to their weights. UserError when not even the fewest rows fit.
    """
    sizes = Sizes(*(getattr(mesh_sizes, axis) for axis in sharding.MESH_AXES))
    dtype = model.compute_dtype()
    mine = weight_bytes(config, sizes, dtype)
    share = (this_device(sizes)[1] - weights) * mine // (weights * len(shapes))
    most = most_rows(jax.default_backend() != 'cpu')
    return min(auto_slots(config, sizes, shape, mine + share, dtype, most, ORDERED) for shape in shapes)


def fine_tuning(config: GemmaConfig, sizes: Sizes, shape: Training, dtype=jnp.bfloat16, lora_rank: int = 0) -> Memory:
    """What a training step takes at its peak: of all weights, or of adapters, with the weights kept as multiplied."""
    trained = 4 * sum(_adapters(config, sizes, lora_rank) if lora_rank else weight_sizes(config, sizes))
    kept = trained + (weight_bytes(config, sizes, dtype) if lora_rank else 0)
    return Memory(kept, 0, 2 * trained, training_temporaries(config, sizes, shape, dtype, lora_rank))


def weight_bytes(config: GemmaConfig, sizes: Sizes, dtype) -> int:
    return jnp.dtype(dtype).itemsize * sum(weight_sizes(config, sizes))


def sampling_layout(config: GemmaConfig, shape: Sampling, shards: int) -> schedule.Layout:
    """The engine's, of rows split over so many devices."""
    return schedule.layout(shape.slots, shards, shape.question, shape.new_tokens, shape.shared, config.is_unrolled)


def question_pages(layout: schedule.Layout) -> int:
    """Pages that the longest question is prefilled in: a power of two, so that few shapes are compiled."""
    return loop.padded_pages(layout.question_pages)


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
    full = (config.num_layers, loop.QUESTIONS, config.num_kv_heads, length, config.head_dim)
    return 2 * _bytes(sizes, model.LOOSE_AXES, full, dtype)


def _bytes(sizes, axes, shape, dtype) -> int:
    return math.prod(sharding.named(abstract_mesh(sizes), axes, shape).shard_shape(shape)) * jnp.dtype(dtype).itemsize


def sampling_temporaries(config: GemmaConfig, sizes: Sizes, shape: Sampling, dtype=jnp.bfloat16) -> dict[str, int]:
    """What each program of the sampler makes on the way, by name."""
    rows, tensor = sizes.data * sizes.fsdp, sizes.tensor
    ffw, heads = split(config.ffw_dim, tensor), split(config.num_heads, tensor)
    item = jnp.dtype(dtype).itemsize
    gathered = _gathered_layer(config, sizes) * item

    def prefill(sequences: int, length: int, context: int) -> int:
        tokens = split(sequences, rows) * length
        stream = 2 * tokens * config.embed_dim * item  # before and after a layer
        feed_forward = 2 * tokens * ffw * item  # both halves of the gate
        scores = tokens // CAUSAL_BLOCKS * heads * context * 4
        return gathered + stream + max(feed_forward, scores)

    layout = sampling_layout(config, shape, rows)
    length = question_pages(layout) * layout.page_size
    questions = question_bytes(config, sizes, shape, dtype)
    gathered_from = questions // rows if rows > 1 else 0  # each device's own questions, before all have them all
    logits = split(shape.slots, sizes.data) * split(config.vocab_size, tensor * sizes.fsdp) * 4
    # Of a layer: softmax over each page for each of its readers, then by row, both in float32.
    found = layout.pages * layout.readers + layout.rows * (layout.question_pages + layout.own_pages)
    attention = found * heads * (config.head_dim + 2) * 4
    attention += layout.pages * layout.readers * layout.page_size * 4  # distances
    programs = {
        'prefix': prefill(1, shape.prefix, shape.prefix),
        'questions': prefill(loop.QUESTIONS, length, shape.prefix + length) + gathered_from,
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


def training_temporaries(
    config: GemmaConfig, sizes: Sizes, shape: Training, dtype=jnp.bfloat16, lora_rank: int = 0
) -> int:
    """What a training step makes on the way: the larger of two peaks, in the loss and in a layer's gradient.

    The weights as they are multiplied are kept for all layers. Casting each in its own layer does not save them: the
    compiler takes the casts out of the loop again, and the gradients, of float32 weights now, take twice the bytes
    (9B on v5e:4x4: temporaries of 4.08 GiB instead of 3.11).
    """
    table, *layers = weight_sizes(config, sizes)
    frozen = 0
    if lora_rank:  # table and weights have no gradient; the compiler makes up to one copy of the layers' (as measured)
        frozen, table, layers = sum(layers), 0, list(_adapters(config, sizes, lora_rank))
    item, copied = jnp.dtype(dtype).itemsize, jnp.dtype(dtype) != jnp.float32
    rows = shape.microbatch_rows or shape.rows
    tokens = split(rows, sizes.data * sizes.fsdp) * shape.row_length
    kept = sum(layers) * item * copied + frozen * item  # the weights as they are multiplied
    kept += table * (item * copied + 4)  # the same of the table, and its gradient
    kept += config.num_layers * tokens * config.embed_dim * item  # what goes from layer to layer

    if rows < shape.rows:  # the gradients' sums
        kept += 4 * (table + sum(layers))
    logits = sizes.fsdp * min(loss_lib.CHUNK, tokens) * split(config.vocab_size, sizes.tensor * sizes.fsdp) * 4
    in_the_loss = logits + logits * item // 4  # themselves in float32, and their gradient as it is multiplied
    in_the_loss += split(rows, sizes.data) * shape.row_length * config.embed_dim * item  # what they are made of
    in_the_loss += table * 4  # the gradient that a chunk gives the table, before it is added

    ffw, heads = split(config.ffw_dim, sizes.tensor), split(config.num_heads, sizes.tensor)
    in_a_layer = sum(layers) * item  # gradients
    in_a_layer += _gathered_layer(config, sizes) * item
    in_a_layer += 8 * tokens * ffw * item  # gate, its GELU, up, product, and the gradient of each
    in_a_layer += 3 * tokens * heads * seen(shape.row_length) * 4  # scores, probabilities, a gradient
    in_a_layer += 6 * tokens * config.embed_dim * 4  # norms and residuals, in and out
    if config.is_unrolled:  # nothing is computed again
        in_a_layer += (config.num_layers - 1) * tokens * (4 * ffw * item + 2 * heads * seen(shape.row_length) * 4)
    return kept + max(in_the_loss, in_a_layer) + SMALL


# Keys, indices, counts: each in whole tiles.
SMALL = 2**20
# Where rows have policies of their own, any may want all tokens in order (`sampling.each`): in their order the logits,
# ids, noise and scores, and what sorting them takes.
ORDERED = 6


def seen(length: int) -> int:
    """Keys that a query reads, on average: `attention.attend_causal` goes in blocks."""
    blocks = CAUSAL_BLOCKS if length >= MIN_BLOCKED and length % CAUSAL_BLOCKS == 0 else 1
    return length * (blocks + 1) // (2 * blocks)


def _gathered_layer(config: GemmaConfig, sizes: Sizes) -> int:
    """Elements of one layer's weights when 'fsdp' has brought them together; nothing, where they are not split."""
    if sizes.fsdp == 1:
        return 0
    whole = sum(list(weight_sizes(config, sizes._replace(fsdp=1)))[1:])
    return whole // config.num_layers


def split(size: int, ways: int) -> int:
    return size if size % ways else size // ways


def weight_sizes(config: GemmaConfig, sizes: Sizes) -> Iterator[int]:
    """Elements of each leaf on one device; the embedding's first."""
    return _elements(abstract_params(config), sizes)


def _adapters(config: GemmaConfig, sizes: Sizes, rank: int) -> Iterator[int]:
    return _elements(lora.shapes(config, rank), sizes)


def _elements(params, sizes: Sizes) -> Iterator[int]:
    places = sharding.param_shardings(params, abstract_mesh(sizes))
    for leaf, place in zip(jax.tree.leaves(params), jax.tree.leaves(places), strict=True):
        yield math.prod(place.shard_shape(leaf.shape))
