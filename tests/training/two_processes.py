"""Trains a tiny model: `python two_processes.py DIRECTORY COUNT INDEX PORT LAST`, as process INDEX of COUNT.

There are four devices in all. Asked for the batch LAST, each process waits for its death; -1 is never. Run by
test_two_processes.py, as the processes of a slice of TPU hosts would run.
"""

import os
import sys

directory, count, index, port, last = sys.argv[1], *map(int, sys.argv[2:])
os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = f'--xla_force_host_platform_device_count={4 // count}'

from cosample_jax import hosts  # noqa: E402

hosts.join(f'localhost:{port}', count, index)

import hashlib  # noqa: E402
import itertools  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax.experimental import multihost_utils  # noqa: E402

from cosample_jax import memory, sharding  # noqa: E402
from cosample_jax.gemma import model  # noqa: E402
from cosample_jax.gemma.config import gemma2  # noqa: E402
from cosample_jax.training import loop, packing  # noqa: E402

config = gemma2('two', layers=2, embed=32, ffw=48, heads=2, kv_heads=1, head_dim=16, vocab=256, window=16)
params = jax.device_get(jax.jit(model.init, static_argnums=0)(config, jax.random.key(0)))
directory = Path(directory)
directory.mkdir(exist_ok=True)
loop.STATE_INTERVAL_S = 3.0
mesh = sharding.make_mesh(memory.Sizes(data=2, fsdp=2))


def batch(step):
    rng = np.random.default_rng(step)
    examples = [
        packing.Example([2, *rng.integers(10, 250, n).tolist(), 1], [i > n // 2 for i in range(n + 2)])
        for n in rng.integers(8, 30, 12)
    ]
    made = packing.pack(examples, row_length=64, row_multiple=4)
    digest = hashlib.sha256(b''.join(array.tobytes() for array in made)).hexdigest()
    with (directory / f'batches-{index}.txt').open('a') as file:
        file.write(f'{step} {digest}\n')
    if step == last:
        time.sleep(600)
    return made


# A batch of everything twice would give the same means.
rows = np.arange(8)
np.testing.assert_array_equal(multihost_utils.process_allgather(sharding.rows_to_global(rows, mesh), tiled=True), rows)

result = loop.train(
    params,
    config,
    batch=batch,
    steps=8,
    learning_rate=loop.warmup_cosine(1e-2, 8, warmup=3),
    directory=directory / 'run',
    validate=lambda p, _: float(jnp.sum(jnp.abs(p['final_norm']['scale']))) % 1.0,
    num_checkpoints=2,
    mesh=mesh,
    # Every look at it is a second later; that of the second process stands still.
    clock=itertools.count().__next__ if index == 0 else lambda: 0,
)
leaves = jax.tree.leaves_with_path(multihost_utils.process_allgather(result.params, tiled=True))
np.savez(
    directory / f'result-{index}.npz',
    history=[[entry['step'], entry['loss'], entry['accuracy']] for entry in result.history],
    tokens=result.tokens,
    **{model.leaf_name(path): leaf for path, leaf in leaves},
)
