"""Weights from any checkpoint of a Gemma, read piece by piece straight into their place.

Three formats are read: Hugging Face safetensors (`huggingface`), the Orbax checkpoints of the official `gemma` package
in each of its layouts, and our own (`orbax`). A format names its tensors; what it finds under those names are arrays
that read only what is sliced out of them (memory maps, TensorStores). `load` cuts every parameter into pieces, and each
device writes the pieces of its own shard into it in place. So a host holds a piece at a time, not a checkpoint, and
reads only what its own devices keep.
"""

import contextlib
import dataclasses
import functools
import itertools
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import Mesh, SingleDeviceSharding

from cosample_jax import progress, sharding
from cosample_jax.errors import UserError
from cosample_jax.gemma import huggingface, model, orbax
from cosample_jax.gemma.config import VARIANTS, GemmaConfig
from cosample_jax.records import read_json

PIECE_BYTES = 16 * 2**20
_ALIGNMENT = 64  # at which XLA shares host memory instead of copying it
DTYPES = ('bfloat16', 'float16', 'float32')

# Something sliced like a numpy array, whose slices alone are read; or a list of such, stacked on a new leading axis.
View = Any


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint found on disk, before any weight is read.

    Attributes:
        path: Where its tensors lie.
        format: 'cosample', 'official' (the `gemma` package) or 'huggingface'.
        tensors: Its text model's tensors by name, readable slice by slice.
        wanted: The shape of each tensor, by name, that a model needs.
        views: Maps the tensors to the parameters of a model: leaf name to `View` of its shape.
        release: Gives back the memory that the pieces read so far are mapped to.
    """

    path: Any
    format: str
    tensors: dict[str, Any]
    wanted: Callable[[GemmaConfig], dict[str, tuple[int, ...]]]
    views: Callable[[GemmaConfig], dict[str, View]]
    release: Callable[[], None] = lambda: None


def open_checkpoint(path) -> Checkpoint:
    """Finds out what lies at `path`, a directory (gs:// too, but for safetensors) or one safetensors file. Of a
    fine-tuned cell of a run it is the best checkpoint.

    Raises:
        UserError: There is nothing, or nothing known; a file is truncated or missing; or a cell that was not trained.
    """
    path = _best_of_cell(epath.Path(path))
    if path.suffix == '.safetensors' or (path.is_dir() and huggingface.files(path)):
        tensors, release = huggingface.read(path)
        if not orbax.is_ours(tensors):  # the embedded models are safetensors with our own names
            views = functools.partial(huggingface.views, tensors)
            return Checkpoint(path, 'huggingface', tensors, huggingface.wanted, views, release)
        return _with_layout(path, tensors, orbax.OURS, release)
    for place in (path / 'weights', path, path / 'default'):
        if (place / '_METADATA').exists():
            tensors = orbax.read(place)
            return _with_layout(place, tensors, orbax.OURS if orbax.is_ours(tensors) else orbax.OFFICIAL)
    if not path.exists():
        raise UserError(f'{path} is not there')
    inside = [child for child in sorted(path.iterdir()) if _is_checkpoint(child)] if path.is_dir() else []
    if len(inside) == 1:  # as an archive is unpacked: the checkpoint beside its tokenizer
        return open_checkpoint(inside[0])
    raise UserError(
        f'{path} holds no weights, neither *.safetensors (Hugging Face) nor an Orbax _METADATA (official, or our own)'
        + (f', but these do: {", ".join(map(str, inside))}' if inside else '')
    )


def _best_of_cell(path):
    """The best checkpoint of a fine-tuned cell's directory; any other path as it is."""
    if path.suffix == '.safetensors' or not (path / 'cell.json').exists():
        return path
    record = read_json(path / 'cell.json')
    if not record['trained']:
        raise UserError(f'{path} was not trained: {record["reason"]}')
    return path / record['weights'] / 'weights' / str(record['best_step'])


def _is_checkpoint(path) -> bool:
    return path.is_dir() and ((path / '_METADATA').exists() or any(path.glob('*.safetensors')))


def _with_layout(path, tensors, layout: orbax.Layout, release: Callable[[], None] = lambda: None) -> Checkpoint:
    wanted, views = (functools.partial(function, tensors) for function in (layout.wanted, layout.views))
    return Checkpoint(path, layout.format, tensors, wanted, views, release)


def check(checkpoint: Checkpoint, config: GemmaConfig) -> None:
    """Raises UserError that lists each weight by which `checkpoint` differs from what `config` needs."""
    culprits = _culprits(checkpoint, config)
    if culprits:
        fits = fitting_variant(checkpoint)
        instead = f' but those of {fits}' if fits else ''
        raise UserError(f'{checkpoint.path} does not hold {config.name} weights{instead}: {"; ".join(culprits)}')


def fitting_variant(checkpoint: Checkpoint) -> str | None:
    """The name of the variant whose weights these are; None when they fit none."""
    return next((name for name, config in VARIANTS.items() if not _culprits(checkpoint, config)), None)


def _culprits(checkpoint: Checkpoint, config: GemmaConfig) -> list[str]:
    wanted = checkpoint.wanted(config)
    found = {name: tuple(array.shape) for name, array in checkpoint.tensors.items()}
    dtypes = {name: _dtype(array).name for name, array in checkpoint.tensors.items()}
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted]
    shapes = {
        name: f'is {found[name]}, not {wanted[name]}'
        for name in wanted
        if found.get(name, wanted[name]) != wanted[name]
    }
    types = {
        name: f'is {dtype}, not one of {", ".join(DTYPES)}' for name, dtype in dtypes.items() if dtype not in DTYPES
    }
    return [
        *_by_layer(dict.fromkeys(missing, 'is missing')),
        *_by_layer(dict.fromkeys(extra, 'is not part of the model')),
        *_by_layer(shapes),
        *_by_layer({name: what for name, what in types.items() if name in wanted}),
    ]


def _by_layer(culprits: dict[str, str]) -> list[str]:
    """'layer_{0,1,2}/mlp/linear is missing': the same trouble in many layers takes one entry."""
    groups: dict[tuple[str, str], list[int]] = {}
    for name, what in culprits.items():
        layer = re.search(r'(?<=layer_)\d+|(?<=layers\.)\d+', name)
        key = (f'{name[: layer.start()]}{{}}{name[layer.end() :]}' if layer else name, what)
        groups.setdefault(key, []).extend([int(layer[0])] if layer else [])
    return [
        f'{name.replace("{}", _ranges(layers))} {what}' if layers else f'{name} {what}'
        for (name, what), layers in groups.items()
    ]


def _ranges(numbers: list[int]) -> str:
    """'7', or '{0-3,5}'."""
    numbers = sorted(numbers)
    runs = [list(run) for _, run in itertools.groupby(numbers, key=lambda n: n - numbers.index(n))]
    shown = ','.join(str(run[0]) if len(run) == 1 else f'{run[0]}-{run[-1]}' for run in runs)
    return shown if len(numbers) == 1 else f'{{{shown}}}'


def abstract_params(config: GemmaConfig, dtype=jnp.float32, mesh: Mesh | None = None):
    """Shapes, dtypes and, with a mesh, shardings of a model's parameters, without making them."""
    shapes = model.shapes(config)
    places = sharding.param_shardings(shapes, mesh) if mesh else jax.tree.map(lambda _: None, shapes)
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=place),
        shapes,
        places,
    )


def stored_dtype(checkpoint: Checkpoint) -> np.dtype:
    """The widest dtype of its tensors: loading as that loses nothing."""
    return functools.reduce(jnp.promote_types, {_dtype(array) for array in checkpoint.tensors.values()})


def load(
    checkpoint: Checkpoint,
    config: GemmaConfig,
    dtype=None,
    mesh: Mesh | None = None,
    description: str = '',
) -> model.Params:
    """The parameters as `model.init` shapes them, in `dtype` (None: as stored), split over `mesh`.

    Args:
        checkpoint: From `open_checkpoint`.
        config: The model it must hold.
        dtype: What the parameters become, on the device.
        mesh: None puts them on the first device.
        description: What to call the work in a progress bar; '' shows none.

    Raises:
        UserError: The checkpoint does not hold these weights (each culprit is listed), or cannot be read.
    """
    check(checkpoint, config)
    views = checkpoint.views(config)
    wanted = abstract_params(config, dtype or stored_dtype(checkpoint), mesh)
    here = SingleDeviceSharding(jax.local_devices()[0])

    def place(path, leaf):
        name = model.leaf_name(path)
        try:
            return _assemble(views[name], leaf, leaf.sharding or here, checkpoint.release, bar.advance)
        except ValueError as error:  # TensorStore's, for a part that is gone or cut short
            reason = str(error).split('[')[0].strip()
            raise UserError(f'{checkpoint.path}: {name} cannot be read ({reason}): fetch it again') from error

    total = sum(_num_local(leaf, leaf.sharding or here) for leaf in jax.tree.leaves(wanted))
    with progress.bar(description, total, 'weights') if description else contextlib.nullcontext(_NoBar) as bar:
        return jax.tree.map_with_path(place, wanted)


class _NoBar:
    @staticmethod
    def advance(count: int) -> None:
        pass


def _num_local(leaf, where) -> int:
    """How many numbers this host's devices hold of it."""
    return math.prod(where.shard_shape(leaf.shape)) * len(where.addressable_devices)


def _assemble(view: View, leaf, where, release, on_progress) -> jax.Array:
    """One parameter, every addressable shard of it put together from pieces."""
    shards = []
    shape = where.shard_shape(leaf.shape)
    for device, index in where.addressable_devices_indices_map(leaf.shape).items():
        starts = [axis.start or 0 for axis in index]

        def pieces(starts=starts):
            for piece in _pieces(shape, leaf.dtype.itemsize, _chunk(view)):
                index = tuple(slice(s + p.start, s + p.stop) for s, p in zip(starts, piece, strict=True))
                yield piece, _read(view, index)
                release()
                on_progress(math.prod(p.stop - p.start for p in piece))

        fill = _fill_host if device.platform == 'cpu' else _fill_device
        shards.append(fill(pieces(), shape, leaf.dtype, device))
    return jax.make_array_from_single_device_arrays(leaf.shape, where, shards)


def _fill_host(pieces, shape: tuple[int, ...], dtype, device) -> jax.Array:
    """On the CPU the pieces go into memory that the array then shares.

    XLA's CPU backend would pass over the whole array at each update of a bfloat16 one.
    """
    size = math.prod(shape) * dtype.itemsize
    room = np.empty(size + _ALIGNMENT, np.uint8)
    begin = -room.ctypes.data % _ALIGNMENT
    whole = room[begin : begin + size].view(dtype).reshape(shape)
    for where, piece in pieces:
        whole[where] = piece
    return jax.device_put(whole, device)


def _fill_device(pieces, shape: tuple[int, ...], dtype, device) -> jax.Array:
    """Elsewhere each piece is sent and written in place, so the host never holds a shard."""
    whole = _zeros(shape, dtype, SingleDeviceSharding(device))
    for where, piece in pieces:
        whole = _write(whole, jax.device_put(piece, device), [axis.start for axis in where])
        whole.block_until_ready()  # before the memory that `piece` is mapped to is given back
    return whole


def _read(view: View, index: tuple[slice, ...]) -> np.ndarray:
    if isinstance(view, list):
        return np.stack([_read(part, index[1:]) for part in view[index[0]]])
    return np.asarray(view[index])


def _chunk(view: View) -> tuple[int, ...]:
    """The block that is read to read any of it: a TensorStore decodes a chunk whole, a memory map goes by elements."""
    if isinstance(view, list):
        return (1, *_chunk(view[0]))
    layout = getattr(view, 'chunk_layout', None)
    return tuple(layout.read_chunk.shape) if layout else (1,) * len(view.shape)


def _pieces(shape: tuple[int, ...], itemsize: int, chunk: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Cuts an array into blocks of whole chunks, of at most PIECE_BYTES unless one chunk is more, last axis first."""
    block = list(chunk)
    for axis in reversed(range(len(shape))):
        block[axis] = min(shape[axis], block[axis] * max(1, PIECE_BYTES // (math.prod(block) * itemsize)))
    for start in itertools.product(*(range(0, n, step) for n, step in zip(shape, block, strict=True))):
        yield tuple(slice(s, min(s + step, n)) for s, step, n in zip(start, block, shape, strict=True))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _zeros(shape, dtype, where):
    return jax.lax.with_sharding_constraint(jnp.zeros(shape, dtype), where)


@functools.partial(jax.jit, donate_argnums=0)
def _write(shard, piece, starts):
    return jax.lax.dynamic_update_slice(shard, piece.astype(shard.dtype), starts)


def _dtype(array) -> np.dtype:
    return np.dtype(getattr(array.dtype, 'numpy_dtype', array.dtype))
