"""Every peer beside our own model: the same greedy tokens, and nothing compiled by a second call.

    JAX_PLATFORMS=cpu python -m benchmarks.peers.check [PEER ...]

The reference is the plainest loop there is: our forward pass over the whole sequence so far, and the argmax. Prints one
line a peer; the exit status is 1 when one differs or compiles again.
"""

import logging
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers import PEERS
from cosample_jax.gemma import model
from cosample_jax.gemma.config import gemma2

CONFIG = gemma2('bench', layers=2, embed=512, ffw=2048, heads=8, kv_heads=4, head_dim=64, vocab=8192, window=4096,
                scan_unroll=2)  # fmt: skip
STEPS = 12
LENGTHS = {'of one length': (40, 40, 40), 'of several lengths': (40, 25, 33)}


class Compilations(logging.Handler):
    """Counts what JAX compiles while it is entered."""

    def __enter__(self):
        self.names = []
        jax.config.update('jax_log_compiles', True)
        self.logger = logging.getLogger('jax')
        self.before = self.logger.propagate, self.logger.handlers
        self.logger.propagate, self.logger.handlers = False, [self]
        return self

    def emit(self, record):
        message = record.getMessage()
        if message.startswith(('Compiling', 'Finished XLA compilation')):
            self.names.append(message)

    def __exit__(self, *unused):
        self.logger.propagate, self.logger.handlers = self.before
        jax.config.update('jax_log_compiles', False)


def prompts(lengths) -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [[2, *rng.integers(4, CONFIG.vocab_size, length - 1).tolist()] for length in lengths]


def expected(params, rows: list[list[int]]) -> np.ndarray:
    """Greedy tokens [rows, STEPS]; what lies after a row's end is not seen by what lies before."""
    width = max(map(len, rows)) + STEPS

    @jax.jit
    def following(params, tokens, lengths):
        positions = jnp.broadcast_to(jnp.arange(width)[None], tokens.shape)
        hidden, _ = model.forward(params, CONFIG, tokens, positions, jnp.ones_like(tokens))
        last = hidden[jnp.arange(len(tokens)), lengths - 1]
        return jnp.argmax(model.logits(params, CONFIG, last), axis=-1)

    tokens = np.zeros((len(rows), width), np.int32)
    lengths = np.array([len(row) for row in rows])
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = row
    for step in range(STEPS):
        drawn = following(params, tokens, lengths + step)
        tokens[np.arange(len(rows)), lengths + step] = drawn
    return np.stack([row[length : length + STEPS] for row, length in zip(tokens, lengths, strict=True)])


def difference(got: np.ndarray, want: np.ndarray) -> str:
    """'' when they are the same."""
    if got.shape != want.shape or got.dtype != np.int32:
        return f'{got.dtype} {got.shape}, not int32 {want.shape}'
    if np.array_equal(got, want):
        return ''
    row, step = np.argwhere(got != want)[0]
    return f'prompt {row}, token {step}: {got[row, step]}, not {want[row, step]}'


def check(name: str, params) -> bool:
    generate = PEERS[name](CONFIG, params)
    if generate is None:
        return True
    wrong = []
    for kind, lengths in LENGTHS.items():
        rows = prompts(lengths)
        if found := difference(generate(rows, STEPS, 0.0, 0, 0), expected(params, rows)):
            wrong.append(f'greedy, prompts {kind}: {found}')
    rows = prompts(LENGTHS['of one length'])
    for temperature, top_k in ((0.0, 0), (1.0, 50), (1.0, 0)):
        first, other = (generate(rows, STEPS, temperature, top_k, seed) for seed in (1, 2))
        with Compilations() as compiled:
            start = time.perf_counter()
            again = generate(rows, STEPS, temperature, top_k, 1)
            taken = time.perf_counter() - start
        if compiled.names:
            wrong.append(f'temperature {temperature}, top_k {top_k} compiles again: {compiled.names}')
        if not np.array_equal(first, again) or np.array_equal(first, other) != (temperature == 0):
            wrong.append(f'temperature {temperature}, top_k {top_k}: the seed does not decide the draw')
    print(f'{name}: {"; ".join(wrong) or f"OK ({1e3 * taken:.0f} ms for the last call)"}', flush=True)
    return not wrong


def main() -> None:
    names = sys.argv[1:] or list(PEERS)
    if len(names) > 1:
        # A process for each: TensorFlow, which gemma imports, and the Triton of torch abort beside each other.
        sys.exit(max(subprocess.run([sys.executable, '-m', __spec__.name, name]).returncode != 0 for name in names))
    params = jax.jit(model.init, static_argnums=0)(CONFIG, jax.random.key(0))
    sys.exit(not check(names[0], params))


if __name__ == '__main__':
    main()
