"""The real TPU compiler on a machine without a TPU.

libtpu (extra `tpu`) compiles for a slice that is only described; nothing is executed. ``python -m cosample_jax.aot``
compiles a training step of Gemma 2 2B on a v5e slice and prints what the compiler says of its memory.
"""

import os

# Read by libtpu and JAX when they start: no TPU is looked for, and only the CPU is there to run on.
os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
os.environ.setdefault('JAX_PLATFORMS', 'cpu')

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cosample_jax.errors import UserError
from cosample_jax.gemma.config import GemmaConfig, variant
from cosample_jax.gemma.weights import abstract_params
from cosample_jax.training.packing import Batch
from cosample_jax.training.step import Recipe, TrainState, optimizer, train_step

# Chips of one host, as libtpu wants to be told: (x, y, z).
HOST_BOUNDS = {'v4': (2, 2, 1), 'v5e': (2, 4, 1), 'v5p': (2, 2, 1), 'v6e': (2, 4, 1)}


def topology_mesh(name: str, axis: str = 'fsdp') -> Mesh:
    """A one-axis mesh over the chips of a slice such as 'v5e:2x4'. Raises UserError when libtpu is not installed."""
    from jax.experimental import topologies

    kind = name.partition(':')[0]
    if kind not in HOST_BOUNDS:
        raise UserError(f'unknown TPU {kind!r}: one of {", ".join(HOST_BOUNDS)}')
    try:
        topology = topologies.get_topology_desc(
            platform='tpu',
            topology_name=name,
            chip_config_name='default',
            chips_per_host_bounds=HOST_BOUNDS[kind],
            num_slices=1,
        )
    except (RuntimeError, NotImplementedError) as error:
        raise UserError(f'no TPU compiler for {name} ({error}): pip install "cosample_jax[tpu]"') from None
    return Mesh(np.array(topology.devices), (axis,))


def compile_train_step(config: GemmaConfig, mesh: Mesh, rows: int, row_length: int):
    """One optimisation step of `config` as a compiled program; weights are split over the mesh's only axis."""
    (axis,) = mesh.axis_names
    chips = mesh.devices.size

    def sharded(leaf):
        """Along the largest axis that divides evenly."""
        axes = sorted(range(len(leaf.shape)), key=lambda i: -leaf.shape[i])
        along = next((i for i in axes if leaf.shape[i] % chips == 0), None)
        spec = PartitionSpec(*(axis if i == along else None for i in range(len(leaf.shape))))
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec))

    params = abstract_params(config)
    recipe = Recipe()
    state = TrainState(jax.ShapeDtypeStruct((), np.int32), params, jax.eval_shape(optimizer(recipe).init, params))
    state = jax.tree.map(sharded, state)
    dtypes = Batch(*(np.int32,) * 4, np.float32)
    by_rows = NamedSharding(mesh, PartitionSpec(axis))
    batch = Batch(*(jax.ShapeDtypeStruct((rows, row_length), dtype, sharding=by_rows) for dtype in dtypes))
    return train_step.lower(state, batch, np.float32(1e-6), config=config, recipe=recipe).compile()


def main() -> None:
    topology, config = 'v5e:2x4', variant('gemma2_2b')
    mesh = topology_mesh(topology)
    memory = compile_train_step(config, mesh, rows=8, row_length=512).memory_analysis()
    gib = {
        'arguments': memory.argument_size_in_bytes,
        'aliased': memory.alias_size_in_bytes,
        'temporaries': memory.temp_size_in_bytes,
    }
    shown = ', '.join(f'{name} {size / 2**30:.2f} GiB' for name, size in gib.items())
    print(f'{config.name}: one training step compiles for {topology}; per chip {shown}')


if __name__ == '__main__':
    main()
