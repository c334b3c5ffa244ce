"""The real TPU compiler on a machine without a TPU, and structural checks on what it compiled.

libtpu (`make libtpu`, or extra `tpu`) compiles for a slice that is only described; nothing is executed. Lowered here
are the programs that the product runs, on its own mesh: both prefills, the copies into pages, the decode loop, the
training step.

`memory_analysis` may be trusted. `cost_analysis` may not (a loop's body counts once): what a program moves is proven by
its structure instead. ``python -m cosample_jax.aot`` takes every program of a small Gemma through the compiler and
checks it.
"""

import argparse
import collections
import math
import os
import pathlib
import re
import tempfile
import time
from collections.abc import Iterable
from typing import NamedTuple

# Read by libtpu and JAX when they start: no TPU is looked for, and only the CPU is there to run on.
os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')  # nothing is executed: two processes may compile at once

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cosample_jax import roofline, sharding
from cosample_jax.devices import GIB, Slice, check_mesh, parse_slice
from cosample_jax.errors import UserError
from cosample_jax.gemma import model
from cosample_jax.gemma.config import GemmaConfig, variant
from cosample_jax.gemma.pages import Pages
from cosample_jax.gemma.weights import abstract_params
from cosample_jax.memory import Sampling, Sizes, Training, auto_slots, question_pages, sampling_layout
from cosample_jax.memory import fine_tuning as planned_training
from cosample_jax.memory import sampling as planned_sampling
from cosample_jax.sampling import decode, engine, loop
from cosample_jax.sampling.policy import Policy
from cosample_jax.sampling.schedule import Schedule
from cosample_jax.training import lora
from cosample_jax.training.loop import FINETUNE
from cosample_jax.training.packing import Batch
from cosample_jax.training.step import TrainState, init_state, train_step


def slice_mesh(slice_: Slice, sizes) -> Mesh:
    """The mesh of a slice's chips. UserError when libtpu is not installed or the sizes are not the slice's."""
    from jax.experimental import topologies

    check_mesh(slice_, sizes)
    try:
        topology = topologies.get_topology_desc(
            platform='tpu',
            topology_name=slice_.name,
            # Both cores of a v4 chip work as one device, as they do on a Cloud TPU.
            chip_config_name='megacore' if slice_.kind == 'v4' else 'default',
            chips_per_host_bounds=slice_.host_bounds,
            num_slices=1,
        )
    except (RuntimeError, NotImplementedError) as error:
        reason = str(error).split('\n')[0]
        raise UserError(
            f"no TPU compiler for {slice_.name} ({reason}): make libtpu, or pip install -e '.[tpu]'"
        ) from None
    return sharding.make_mesh(sizes, topology.devices)


def lower_sampling(
    config: GemmaConfig, mesh: Mesh, shape: Sampling, dtype=jnp.bfloat16
) -> dict[str, jax.stages.Lowered]:
    """The programs of `sampling.engine`, by name: 'prefix' (when there is one), 'questions', 'fill', 'decode'."""
    params = abstract_params(config, dtype, mesh)
    layout = sampling_layout(config, shape, sharding.row_shards(mesh))
    arguments = {'config': config, 'mesh': mesh}
    prefix, lowered = None, {}
    if shape.prefix:
        lowered['prefix'] = decode.prefill_prefix.lower(params, _whole((shape.prefix,), mesh), **arguments)
        kv = (config.num_layers, config.num_kv_heads, shape.prefix, config.head_dim)
        prefix = (_array(kv, model.PREFIX_AXES, mesh, dtype),) * 2
    length = question_pages(layout) * layout.page_size
    questions = _whole((loop.QUESTIONS, length), mesh)
    lowered['questions'] = decode.prefill_questions.lower(params, questions, prefix, **arguments)
    kv = (config.num_layers, loop.QUESTIONS, config.num_kv_heads, length, config.head_dim)
    cache = abstract_cache(config, mesh, shape, dtype)
    moves = _whole((layout.shards, loop.QUESTIONS * question_pages(layout)), mesh)
    lowered['fill'] = decode.fill_pages.lower(cache, (_array(kv, model.LOOSE_AXES, mesh, dtype),) * 2, moves, moves)
    policy = Policy(temperature=0.7, top_k=3, stop_ids=(1, 108))
    lowered['decode'] = decode.decode.lower(
        _layered(params, config, mesh), cache, prefix, *_from_host(layout, mesh), policy=policy, loop=engine.LOOP,
        **arguments,
    )  # fmt: skip
    return lowered


def _from_host(layout, mesh: Mesh) -> tuple[decode.Rows, Pages, jax.ShapeDtypeStruct]:
    """What the engine sends with every call of decode: rows, pages and seed, in numpy and so whole on every device."""
    rows = layout.shards * layout.rows
    dtypes = decode.Rows(*(np.int32,) * 5)._replace(hashes=np.uint32)
    empty = Schedule(layout, 0, []).pages(np.zeros(rows), engine.LOOP)
    return (
        decode.Rows(*(_whole((rows,), mesh, each) for each in dtypes)),
        Pages(*(_whole(each.shape, mesh, each.dtype) for each in empty)),
        _whole((), mesh, np.uint32),
    )


def _layered(params, config: GemmaConfig, mesh: Mesh):
    """As `decode.layered`: where layers are not scanned, a list of each layer's part of the stacks."""
    if not config.is_unrolled:
        return params

    def of_layer(x):
        spec = NamedSharding(mesh, PartitionSpec(*x.sharding.spec[1:]))
        return jax.ShapeDtypeStruct(x.shape[1:], x.dtype, sharding=spec)

    return {**params, 'layers': [jax.tree.map(of_layer, params['layers'])] * config.num_layers}


def abstract_cache(config: GemmaConfig, mesh: Mesh, shape: Sampling, dtype=jnp.bfloat16):
    """The paged cache, which 'fill' and 'decode' are given to write in place."""
    layout = sampling_layout(config, shape, sharding.row_shards(mesh))
    cache = jax.eval_shape(lambda: decode.empty_cache(config=config, layout=layout, dtype=dtype, mesh=None))
    return _placed(cache, decode.cache_shardings, mesh)


def lower_train_step(
    config: GemmaConfig, mesh: Mesh, shape: Training, dtype=jnp.bfloat16, lora_rank: int = 0
) -> jax.stages.Lowered:
    """One optimisation step, computed in `dtype` on float32 master weights or adapters."""
    dtypes = Batch(*(np.int32,) * 4, np.float32)
    by_rows = sharding.named(mesh, ('rows',))
    batch = Batch(*(jax.ShapeDtypeStruct((shape.rows, shape.row_length), each, sharding=by_rows) for each in dtypes))
    state = abstract_train_state(config, mesh, lora_rank)
    base = abstract_params(config, dtype, mesh) if lora_rank else None
    return train_step.lower(
        state, batch, np.float32(1e-6), base, config=config, recipe=FINETUNE, microbatch_rows=shape.microbatch_rows,
        mesh=mesh, dtype=dtype,
    )  # fmt: skip


def abstract_train_state(config: GemmaConfig, mesh: Mesh, lora_rank: int = 0) -> TrainState:
    """The donated state of the training step."""
    trained = lora.shapes(config, lora_rank) if lora_rank else abstract_params(config)
    state = jax.eval_shape(lambda params: init_state(params, FINETUNE), trained)
    return _placed(state, sharding.param_shardings, mesh)


def _placed(tree, shardings, mesh: Mesh):
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, shardings(tree, mesh))


def _whole(shape: tuple[int, ...], mesh: Mesh, dtype=np.int32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding.named(mesh, ()))


def compile_with_text(lowered: jax.stages.Lowered) -> tuple[jax.stages.Compiled, str]:
    """The compiled program and its text, as the compiler dumps it: `as_text` fails for a training step on v5p, where
    libtpu makes an instruction (async-update of several arrays) that this jaxlib cannot read.
    """
    with tempfile.TemporaryDirectory() as directory:
        compiled = lowered.compile(compiler_options={'xla_dump_to': directory, 'xla_dump_hlo_as_text': True})
        (text,) = pathlib.Path(directory).glob('*.after_codegen.txt')
        return compiled, text.read_text()


def device_bytes(tree) -> int:
    """Bytes of a tree of arrays (or shapes) on one device."""
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def not_donated(compiled: jax.stages.Compiled, state) -> int:
    """Bytes of the donated `state` that the program does not write in place: 0 when all is well.

    The compiler counts whole tiles, so what it aliases is at least the state's bytes.
    """
    return max(0, device_bytes(state) - compiled.memory_analysis().alias_size_in_bytes)


def temporary_share(compiled: jax.stages.Compiled, cache) -> float:
    """The program's temporaries as a share of the KV cache's bytes."""
    return compiled.memory_analysis().temp_size_in_bytes / device_bytes(cache)


class Instruction(NamedTuple):
    """One kind of instruction of a compiled program, and how often its text holds it (a loop's body once)."""

    op: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    count: int


_INSTRUCTION = re.compile(r'^\s*(?:ROOT )?%?[\w.-]+ = (?P<result>\(.*?\)|\S+) (?P<op>[a-z][a-z0-9-]*)\(')
_ARRAY = re.compile(r'\b(?P<dtype>pred|[a-z]+[0-9]+[a-z0-9]*)\[(?P<shape>[0-9,]*)\]')
_MOVES = ('copy', 'transpose', 'all-gather')
_COLLECTIVES = ('all-gather', 'all-reduce', 'reduce-scatter', 'all-to-all', 'collective-permute')


def instructions(hlo: str, ops: Iterable[str] | None = None) -> list[Instruction]:
    """The instructions of a compiled program's text (`compiled.as_text()`) that are one of `ops`, or all of them;
    largest first.

    An asynchronous one counts once, at its start, with the largest array of its result.
    """
    counts = collections.Counter()
    for line in hlo.splitlines():
        found = _INSTRUCTION.match(line)
        if found is None or (ops is not None and found['op'].removesuffix('-start') not in ops):
            continue
        dtype, shape = max(_arrays(found['result']), key=lambda array: math.prod(array[1]), default=('token', ()))
        counts[found['op'].removesuffix('-start'), dtype, shape] += 1
    made = [
        Instruction(op, dtype, shape, math.prod(shape) * _item_bytes(dtype), count)
        for (op, dtype, shape), count in counts.items()
    ]
    return sorted(made, key=lambda instruction: -instruction.bytes)


def _arrays(result: str) -> list[tuple[str, tuple[int, ...]]]:
    return [
        (array['dtype'], tuple(int(size) for size in array['shape'].split(',') if size))
        for array in _ARRAY.finditer(result)
    ]


def carried(hlo: str) -> list[list[tuple[str, tuple[int, ...]]]]:
    """What each loop of a compiled program holds from one iteration to the next: (dtype, shape) of every array."""
    found = filter(None, map(_INSTRUCTION.match, hlo.splitlines()))
    return [_arrays(each['result']) for each in found if each['op'] == 'while']


def collectives(hlo: str) -> list[Instruction]:
    """What the devices send one another."""
    return instructions(hlo, _COLLECTIVES)


def whole_moves(
    hlo: str, arrays: dict[str, jax.ShapeDtypeStruct], mesh: Mesh, ops: Iterable[str] | None = _MOVES
) -> list[str]:
    """The copies, transposes and all-gathers (or other `ops`; None: all instructions) whose result is as large as one
    of the named `arrays`, one line each.

    As large means: as many elements as its part on a device, or as several devices' parts put together. Not its very
    shape, which the compiler is free to merge, split and permute.
    """
    over = {1}
    for size in mesh.shape.values():
        over |= {ways * size for ways in over}
    sizes = {
        math.prod(array.sharding.shard_shape(array.shape)) * ways: name
        for name, array in arrays.items()
        for ways in over
    }
    return [
        f'{i.op} {i.dtype}{list(i.shape)} ({i.bytes / 2**20:.0f} MiB, {i.count} times) is as large as {name}'
        for i in instructions(hlo, ops)
        if (name := sizes.get(math.prod(i.shape)))
    ]


def _item_bytes(dtype: str) -> int:
    bits = re.search(r'[0-9]+', dtype)
    return max(1, int(bits[0]) // 8) if bits else 1


def faults(hlo: str, config: GemmaConfig, mesh: Mesh, shape: Sampling | Training, dtype=jnp.bfloat16) -> list[str]:
    """What a program of this shape moves whole and must not, one line each: caches, stacked matrices, logits. Nor may
    decode cut a layer out of the cache, which copies what nobody reads.

    A training step is let off copies of the matrices: it casts each to `dtype` once, and lays some out anew as it does.
    """
    matrices = {
        f'the stacked weight {model.leaf_name(path)}': leaf
        for path, leaf in jax.tree.leaves_with_path(abstract_params(config, dtype, mesh))
        if len(leaf.shape) > 2
    }
    if isinstance(shape, Training):
        logits = (shape.rows, shape.row_length, config.vocab_size)
        whole = {'the logits of all tokens': _array(logits, ('logit_rows', 'tokens', 'vocab'), mesh, jnp.float32)}
        return whole_moves(hlo, whole, mesh, ops=None) + whole_moves(hlo, matrices, mesh, ('all-gather',))
    logits = _array((shape.slots, config.vocab_size), ('logit_rows', 'vocab'), mesh, jnp.float32)
    cache = jax.tree.leaves(abstract_cache(config, mesh, shape, dtype))[0]
    found = whole_moves(hlo, matrices | {'the KV cache': cache, 'the logits of all rows': logits}, mesh)
    if not config.is_unrolled:
        layer = _array(cache.shape[1:], model.CACHE_AXES[1:], mesh, dtype)
        found += whole_moves(hlo, {'a layer of the KV cache': layer}, mesh, ('copy', 'dynamic-slice'))
    return found


def _array(shape, axes, mesh: Mesh, dtype) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding.named(mesh, axes, shape))


def main() -> None:
    """The decode loop and the training step of a small Gemma on a slice: compiled, and their structure checked.

    UserError for what is wrong with them. With ``--table``: what real ones take, as a table.
    """
    parser = argparse.ArgumentParser(description=main.__doc__.partition('\n')[0])
    parser.add_argument('--table', action='store_true', help='sampling and fine-tuning of real ones: bytes, a roofline')
    if parser.parse_args().table:
        print_sampling_table()
        print_training_table()
        return
    slice_, config = parse_slice('v5e:2x2'), variant('gemma3_270m')
    mesh = slice_mesh(slice_, Sizes(fsdp=2, tensor=2))
    # Rows whose queries are not cut in blocks compile in a third of the time, and these get their logits in two chunks;
    # `make check-all` compiles real ones.
    sampling, training = Sampling(slots=64, prefix=512, question=128, new_tokens=256), Training(8, 130)
    programs, cache = lower_sampling(config, mesh, sampling), abstract_cache(config, mesh, sampling)
    step = lower_train_step(config, mesh, training), abstract_train_state(config, mesh), training
    checked = {
        'decode loop': (programs['decode'], cache, sampling),
        'copy into pages': (programs['fill'], cache, sampling),
        'training step': step,
    }
    for name, (lowered, state, shape) in checked.items():
        start = time.perf_counter()
        compiled = lowered.compile()
        seconds, sizes = time.perf_counter() - start, compiled.memory_analysis()
        moves = faults(compiled.as_text(), config, mesh, shape)
        if copied := not_donated(compiled, state):
            moves.append(f'{copied} bytes of the state are not written in place')
        if moves:
            raise UserError(f'the {name} of {config.name} on {slice_.name}: {"; ".join(moves)}')
        print(
            f'{config.name} on {slice_.name}: the {name} compiles in {seconds:.1f} s; a chip has '
            f'{sizes.argument_size_in_bytes / 2**20:.0f} MiB of arguments, {sizes.temp_size_in_bytes / 2**20:.1f} of '
            'temporaries'
        )


# What `--table` shows: the smallest slices that each model is sampled and fine-tuned on.
SAMPLED = (
    ('gemma_2b', 'v5e:1x1', 1),
    ('gemma_7b', 'v5e:2x2', 4),
    ('gemma2_2b', 'v5e:1x1', 1),
    ('gemma2_9b', 'v5e:2x2', 4),
    ('gemma2_27b', 'v5e:2x4', 8),
)
SAMPLING = Sampling(slots=64, prefix=800, question=256, new_tokens=512)
# Every example a row: batches of 8 for Gemma 1 7B and of 32 for Gemma 2 9B and 27B are the paper's.
TRAINED = (
    ('gemma_2b', 'v5e:2x2', Sizes(fsdp=2, tensor=2), Training(16, 1024)),
    ('gemma2_2b', 'v5e:2x2', Sizes(fsdp=4), Training(16, 512)),
    ('gemma_7b', 'v5p:2x2x1', Sizes(fsdp=4), Training(8, 1024)),
    ('gemma2_9b', 'v5e:4x4', Sizes(fsdp=16), Training(32, 512)),
    ('gemma2_9b', 'v5p:2x2x1', Sizes(fsdp=4), Training(32, 512)),
    ('gemma2_27b', 'v5e:4x8', Sizes(fsdp=32), Training(32, 512)),
    ('gemma2_27b', 'v5p:2x2x2', Sizes(fsdp=8), Training(32, 512)),
)


def print_sampling_table() -> None:
    """Sampling with 64 rows and with as many as fit: bytes of a chip by the compiler, and the roofline."""
    print(
        f'Decode with a prefix of {SAMPLING.prefix}, questions of {SAMPLING.question} and samples of up to '
        f'{SAMPLING.new_tokens} tokens, half of which rows have drawn on average.\n'
    )
    print('| model | slice | rows | arguments + temporaries, GiB a chip | in all, planned | tokens/s at most |')
    print('|---|---|---|---|---|---|')
    for name, topology, tensor in SAMPLED:
        config, slice_, sizes = variant(name), parse_slice(topology), Sizes(tensor=tensor)
        mesh = slice_mesh(slice_, sizes)
        for slots in (SAMPLING.slots, auto_slots(config, sizes, SAMPLING, slice_.usable, jnp.bfloat16, 512)):
            shape = SAMPLING._replace(slots=slots)
            told = lower_sampling(config, mesh, shape)['decode'].compile().memory_analysis()
            print(
                f'| {name} | {topology}, tensor={tensor} | {slots} | {told.argument_size_in_bytes / GIB:.2f} + '
                f'{told.temp_size_in_bytes / GIB:.2f} | {planned_sampling(config, sizes, shape).total / GIB:.2f} | '
                f'{roofline.sampling(config, slice_.kind, sizes, shape):,.0f} |',
                flush=True,
            )


def print_training_table() -> None:
    """Optimisation steps: bytes of a chip by the compiler, and the roofline."""
    print('\nFine-tuning of all weights, bfloat16 arithmetic on float32 masters and moments.\n')
    print(
        '| model | slice | rows x tokens | arguments + temporaries, GiB a chip | in all, planned | steps/s at most | '
        'by | MFU at most |'
    )
    print('|---|---|---|---|---|---|---|---|')
    for name, topology, sizes, shape in TRAINED:
        config, slice_ = variant(name), parse_slice(topology)
        told = lower_train_step(config, slice_mesh(slice_, sizes), shape).compile().memory_analysis()
        step = roofline.training(config, slice_, sizes, shape)
        split = ', '.join(f'{axis}={size}' for axis, size in sizes._asdict().items() if size > 1)
        print(
            f'| {name} | {topology}, {split} | {shape.rows} x {shape.row_length:,} | '
            f'{told.argument_size_in_bytes / GIB:.2f} + {told.temp_size_in_bytes / GIB:.2f} | '
            f'{planned_training(config, sizes, shape).total / GIB:.2f} | {1 / step.seconds:.2f} | {step.bound} | '
            f'{step.mfu:.0%} |',
            flush=True,
        )


if __name__ == '__main__':
    main()
