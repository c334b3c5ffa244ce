"""Host memory and time of loading a checkpoint: a synthetic one of 4 GB in bfloat16, read as a run reads it.

    python benchmarks/loading.py [--format=huggingface|official|cosample] [--directory=DIR]

The checkpoint is shaped like Gemma 2 9B with 9 layers and 64,000 rows of vocabulary. It is written into DIR (made anew
unless it is there) and loaded in a process of its own; the peak of that process's resident memory, less what it held
before and less the weights it ends up with, is what loading costs. `tests/gemma/test_loading_memory.py` asserts the
figure for the memory-mapped format.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from cosample_jax.gemma.config import GemmaConfig, gemma2

LARGEST = 2 * 2 * 14_336 * 3584  # bytes of the largest tensor of one layer: the two gating matrices


def config() -> GemmaConfig:
    return gemma2('synthetic', layers=9, embed=3584, ffw=14_336, heads=16, kv_heads=8, head_dim=256, vocab=64_000)


def write(directory: Path, kind: str) -> None:
    """Random bfloat16 weights; the same whatever the format."""
    import jax
    import ml_dtypes

    from cosample_jax import checkpoint
    from cosample_jax.gemma import huggingface, orbax, weights

    rng = np.random.default_rng(0)

    def random(leaf):
        bits = rng.integers(0, 2**14, leaf.shape, np.uint16)  # small positive numbers
        return bits.view(ml_dtypes.bfloat16)

    params = jax.tree.map(random, weights.abstract_params(config()))
    if kind == 'huggingface':
        huggingface.write(directory, params, config())
    elif kind == 'cosample':
        checkpoint.save_weights(directory, params, {})
    else:
        checkpoint.save_tree(directory, orbax.official_params(params, config()))


def load(directory: Path) -> dict:
    """Bytes: the peak above what is held before and after, the weights; seconds."""
    import jax

    from cosample_jax.gemma import weights

    jax.block_until_ready(jax.numpy.ones(8) + 1)  # what JAX itself takes is there before
    before, start = _status('VmRSS'), time.perf_counter()
    params = weights.load(weights.open_checkpoint(directory), config())
    jax.block_until_ready(params)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    return {
        'weights': size,
        'overhead': _status('VmHWM') - before - size,
        'seconds': time.perf_counter() - start,
        'checksum': int(sum(int(np.asarray(x).view(np.uint16).sum(dtype=np.uint64)) for x in jax.tree.leaves(params))),
    }


def _status(field: str) -> int:
    """Bytes of a field of this process's status."""
    return 1024 * int(re.search(rf'{field}:\s+(\d+)', Path('/proc/self/status').read_text())[1])


def measure(directory: Path, kind: str) -> dict:
    """Writes the checkpoint unless it is there, and loads it, each in a process of its own."""
    run = [sys.executable, __file__, f'--directory={directory}', f'--format={kind}']
    if not directory.exists():
        subprocess.run([*run, '--do=write'], check=True)
    done = subprocess.run([*run, '--do=load'], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--format', default='huggingface', choices=('huggingface', 'official', 'cosample'))
    parser.add_argument('--directory', type=Path)
    parser.add_argument('--do', choices=('write', 'load'), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.do == 'write':
        write(args.directory, args.format)
    elif args.do == 'load':
        print(json.dumps(load(args.directory)))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            result = measure(args.directory or Path(scratch) / 'checkpoint', args.format)
        print(
            f'{args.format}: {result["weights"] / 1e9:.2f} GB in {result["seconds"]:.1f} s, '
            f'{result["overhead"] / 2**20:.0f} MiB above the weights '
            f'= {result["overhead"] / LARGEST:.2f} of the largest per-layer tensor ({LARGEST / 2**20:.0f} MiB)'
        )


if __name__ == '__main__':
    main()
