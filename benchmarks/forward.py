"""The forward pass: ours beside the official `gemma` package, on the same weights, interleaved in one process.

    python -m benchmarks.forward                                   # tiny_strong and gemma3_270m, float32
    python -m benchmarks.forward --variant=gemma2_2b --dtype=bfloat16 --rows=8 --length=1024
    python -m benchmarks.forward --lower                           # only: how long lowering gemma3_27b takes

Prints the median time of a call of each, their ratio, and our matrix FLOP/s as a share of what one large matrix product
of the same dtype reaches on this device. Without the package (extra `gemma`, Python 3.12) ours is measured alone.
Weights are random: time does not depend on them.
"""

import argparse
import functools
import importlib.util
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers.official import official_model, official_params
from cosample_jax.gemma import model, weights
from cosample_jax.gemma.config import GemmaConfig, variant

RUNS = 15


def random_params(config: GemmaConfig, dtype):
    """Cheap numbers of about the right size."""
    return jax.tree.map(
        lambda leaf: jax.random.normal(jax.random.key(leaf.size % 997), leaf.shape, dtype) * leaf.shape[-1] ** -0.5,
        weights.abstract_params(config),
    )


def ours(config: GemmaConfig, params):
    @jax.jit
    def run(params, tokens):
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1])[None], tokens.shape)
        hidden, _ = model.forward(params, config, tokens, positions, jnp.ones_like(tokens))
        return model.logits(params, config, hidden)

    return functools.partial(run, params)


def official(config: GemmaConfig, params, dtype):
    """The same of the official package; None where it is not installed or has no such family."""
    if importlib.util.find_spec('gemma') is None or config.family == 'gemma1':
        return None
    made = official_model(config, dtype)
    run = jax.jit(lambda params, tokens: made.apply({'params': params}, tokens).logits)
    return functools.partial(run, official_params(config, params))


def seconds(call) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def matrix_peak(dtype, size: int) -> float:
    """FLOP/s of the best of a few products of two square matrices."""
    a = jnp.ones((size, size), dtype)
    product = jax.jit(lambda a: a @ a)
    jax.block_until_ready(product(a))
    return 2 * size**3 / min(seconds(lambda: product(a)) for _ in range(8))


def matrix_flops(config: GemmaConfig, rows: int, length: int) -> float:
    """2 per weight and token, and 4·N·H per visible pair of positions in each layer (half of them, when causal)."""
    pairs = sum(min(window or length, length) * length * (0.5 if not window or window >= length else 1) for window in config.windows)  # fmt: skip  # noqa: E501
    return rows * (2 * config.num_params() * length + 4 * config.num_heads * config.head_dim * pairs)


def compare(config: GemmaConfig, dtype, rows: int, length: int) -> None:
    params = random_params(config, dtype)
    tokens = jnp.asarray(np.random.default_rng(0).integers(4, config.vocab_size, (rows, length)), jnp.int32)
    calls = {'ours': ours(config, params), 'official': official(config, params, dtype)}
    calls = {name: functools.partial(call, tokens) for name, call in calls.items() if call}
    outputs = {name: np.asarray(call(), np.float32) for name, call in calls.items()}  # compiles
    times = {name: [] for name in calls}
    for _ in range(RUNS):
        for name, call in calls.items():
            times[name].append(seconds(call))
    medians = {name: statistics.median(each) for name, each in times.items()}
    peak = matrix_peak(dtype, 2048 if jax.default_backend() == 'cpu' else 8192)
    share = matrix_flops(config, rows, length) / medians['ours'] / peak
    shown = ', '.join(f'{name} {1e3 * median:,.1f} ms' for name, median in medians.items())
    line = f'{config.name} [{rows}, {length}] {jnp.dtype(dtype).name} on {jax.devices()[0].device_kind}: {shown}'
    if 'official' in medians:
        span = np.ptp(outputs['official'])
        apart = np.abs(outputs['ours'] - outputs['official']).max() / span
        line += f', official / ours = {medians["official"] / medians["ours"]:.2f}, logits apart by {apart:.0e} of range'
    print(f'{line}; ours at {share:.0%} of the matrix peak ({peak / 1e9:,.0f} GFLOP/s)')


def lowering(name: str) -> None:
    """Seconds to trace and lower the forward pass of a model that is never made."""
    config = variant(name)
    shapes = weights.abstract_params(config, jnp.bfloat16)
    tokens = jax.ShapeDtypeStruct((8, 1024), jnp.int32)

    def run(params, tokens):
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1])[None], tokens.shape)
        return model.forward(params, config, tokens, positions, jnp.ones_like(tokens))[0]

    taken = []
    for _ in range(3):
        jax.clear_caches()
        start = time.perf_counter()
        jax.jit(run).lower(shapes, tokens)
        taken.append(time.perf_counter() - start)
    print(f'{name}: lowering its {config.num_layers} layers takes {statistics.median(taken):.2f} s')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--variant', action='append')
    parser.add_argument('--dtype', default='float32', choices=('float32', 'bfloat16'))
    parser.add_argument('--rows', type=int, default=1)
    parser.add_argument('--length', type=int, default=256)
    parser.add_argument('--lower', action='store_true')
    args = parser.parse_args()
    lowering('gemma3_27b')
    for name in [] if args.lower else args.variant or ['tiny_strong', 'gemma3_270m']:
        compare(variant(name), jnp.dtype(args.dtype), args.rows, args.length)


if __name__ == '__main__':
    main()
