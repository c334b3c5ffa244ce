"""Where arrays live: one mesh, and one table from what an axis means to the mesh axes it is split over.

Rows (of a batch, or of the sampler) go over 'data' and 'fsdp'; heads and feed-forward width over 'tensor'; the
embedding width of parameters over 'fsdp'. The vocabulary goes over both, of the table and of the logits alike: the
table is a quarter of a small Gemma, and so it is never gathered, nor is its gradient. An axis that does not divide is
kept whole.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from cosample_jax import hosts
from cosample_jax.errors import UserError

MESH_AXES = ('data', 'fsdp', 'tensor')
RULES: dict[str, tuple[str, ...]] = {
    'rows': ('data', 'fsdp'),
    'embed': ('fsdp',),
    'vocab': ('tensor', 'fsdp'),
    'logit_rows': ('data',),  # the vocabulary takes 'fsdp'
    'heads': ('tensor',),
    'kv_heads': ('tensor',),
    'ffw': ('tensor',),
}

# The axes of each weight, and of the pair that adapts it, by the last two names of a leaf; norm scales, which are not
# listed, are kept whole.
_AXES = {
    ('embedder', 'input_embedding'): ('vocab', 'width'),
    ('q_einsum', 'w'): ('layers', 'heads', 'embed', 'head'),
    ('q_einsum', 'a'): ('layers', 'embed', 'rank'),
    ('q_einsum', 'b'): ('layers', 'rank', 'heads', 'head'),
    ('kv_einsum', 'w'): ('layers', 'kv', 'kv_heads', 'embed', 'head'),
    ('kv_einsum', 'a'): ('layers', 'kv', 'embed', 'rank'),
    ('kv_einsum', 'b'): ('layers', 'kv', 'rank', 'kv_heads', 'head'),
    ('attn_vec_einsum', 'w'): ('layers', 'heads', 'head', 'embed'),
    ('attn_vec_einsum', 'a'): ('layers', 'heads', 'head', 'rank'),
    ('attn_vec_einsum', 'b'): ('layers', 'rank', 'embed'),
    ('gating_einsum', 'w'): ('layers', 'gate', 'ffw', 'embed'),
    ('gating_einsum', 'a'): ('layers', 'gate', 'embed', 'rank'),
    ('gating_einsum', 'b'): ('layers', 'gate', 'rank', 'ffw'),
    ('linear', 'w'): ('layers', 'ffw', 'embed'),
    ('linear', 'a'): ('layers', 'ffw', 'rank'),
    ('linear', 'b'): ('layers', 'rank', 'embed'),
}


def make_mesh(sizes, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh of sizes.data * sizes.fsdp * sizes.tensor devices, the first of `devices` (None: this machine's).

    UserError when there are not that many.
    """
    devices = jax.devices() if devices is None else devices
    shape = tuple(getattr(sizes, axis) for axis in MESH_AXES)
    if math.prod(shape) > len(devices):
        wanted = ' x '.join(f'{axis}={size}' for axis, size in zip(MESH_AXES, shape, strict=True))
        raise UserError(f'mesh.{wanted} needs {math.prod(shape)} devices and there are {len(devices)}')
    devices = devices[: math.prod(shape)]
    return jax.make_mesh(shape, MESH_AXES, axis_types=(AxisType.Auto,) * 3, devices=devices)


def run_mesh(config) -> Mesh | None:
    """The mesh that a run's configuration asks for; None for one device, where nothing is split.

    UserError, too, when there are several processes and it does not take the devices of all.
    """
    size = math.prod(getattr(config.mesh, axis) for axis in MESH_AXES)
    if hosts.count() > 1 and size < jax.device_count():
        raise UserError(
            f'config.mesh takes {size} of the {jax.device_count()} devices of {hosts.count()} processes: set mesh.data '
            f'x mesh.fsdp x mesh.tensor to {jax.device_count()}, so that all take part'
        )
    return make_mesh(config.mesh) if size > 1 else None


def named(mesh: Mesh, axes: tuple[str, ...], shape: tuple[int, ...] | None = None) -> NamedSharding:
    """The sharding of an array whose axes mean `axes`; with its `shape`, what does not divide stays whole."""
    spec = []
    for index, axis in enumerate(axes):
        over = RULES.get(axis, ())
        if shape is not None and shape[index] % math.prod(mesh.shape[name] for name in over):
            over = ()
        spec.append(over or None)
    return NamedSharding(mesh, PartitionSpec(*spec))


def constrain(array: jax.Array, mesh: Mesh, axes: tuple[str, ...]) -> jax.Array:
    """Asks the compiler, inside jit, to lay `array` out so."""
    return jax.lax.with_sharding_constraint(array, named(mesh, axes, array.shape))


def param_shardings(params: Any, mesh: Mesh) -> Any:
    """A sharding for each leaf of parameters or adapters (arrays or shapes), or of moments named like them."""

    def of(path, leaf):
        axes = _AXES.get(tuple(getattr(entry, 'key', None) for entry in path[-2:]), ())
        return named(mesh, axes, leaf.shape[: len(axes)])

    return jax.tree.map_with_path(of, params)


def constrain_params(params: Any, mesh: Mesh) -> Any:
    """Asks the compiler, inside jit, to lay parameters, gradients or moments out as `param_shardings` says."""
    return jax.lax.with_sharding_constraint(params, param_shardings(params, mesh))


def row_shards(mesh: Mesh) -> int:
    """Over how many devices rows are split."""
    return math.prod(mesh.shape[axis] for axis in RULES['rows'])


def check_rows(mesh: Mesh, rows: int, name: str) -> None:
    """UserError, naming the setting, unless so many rows split evenly over the mesh."""
    ways = row_shards(mesh)
    if rows % ways:
        raise UserError(f'{name}={rows} does not divide over mesh.data x mesh.fsdp = {ways} devices')


def rows_to_global(tree: Any, mesh: Mesh) -> Any:
    """Arrays split by rows over the mesh, from all rows, which every host has: each device is given its own."""
    split = named(mesh, ('rows',))
    return jax.tree.map(lambda x: jax.make_array_from_callback(x.shape, split, lambda index: x[index]), tree)
