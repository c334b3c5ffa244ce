"""Every peer beside our own model: the same greedy tokens from a loop that is compiled once, and the same losses.

    JAX_PLATFORMS=cpu python -m benchmarks.peers.check [PEER ...]

The reference is the plainest loop there is: our forward pass over the whole sequence so far, and the argmax. Fresh
parameters would make that a poor test: the embedding is tied, so such a model repeats its last token for ever whatever
its attention does. Here they are changed until every part matters, and the reference with one part changed has to
differ (of all parts only the final softcap cannot be seen, since it keeps the order of the logits).

Trainers take three steps on three batches, each with AdamW at the same settings: the first loss compares the models and
what is learned, the others what a step does. Prints one line a peer; the exit status is 1 when one differs or compiles
again.
"""

import dataclasses
import logging
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import sft
from benchmarks.peers import PEERS, TRAINERS
from benchmarks.workload import examples
from cosample_jax.gemma import model
from cosample_jax.gemma.config import gemma2

CONFIG = gemma2('bench', layers=2, embed=512, ffw=2048, heads=8, kv_heads=4, head_dim=64, vocab=8192, window=4096,
                scan_unroll=2)  # fmt: skip
WINDOWED = dataclasses.replace(CONFIG, windows=(16, 0))
STEPS = 12
# Prompts past a window are of one length, because Tunix gets others wrong: see its docstring.
CASES = {
    'of one length': (CONFIG, (40, 40, 40)),
    'of several lengths': (CONFIG, (40, 25, 33)),
    'longer than the window': (WINDOWED, (40, 40, 40)),
}
# What the reference has to notice.
CHANGED = {
    'attention softcap': {'attn_softcap': None},
    'window': {'windows': (17, 0)},
    'RoPE base': {'rope_base': (11_000.0, 11_000.0)},
    'query scale': {'query_scale': 1.1 * CONFIG.query_scale},
}


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
        if message.startswith('Compiling'):
            self.names.append(message.split()[1])

    def __exit__(self, *unused):
        self.logger.propagate, self.logger.handlers = self.before
        jax.config.update('jax_log_compiles', False)


def prompts(lengths) -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [[2, *rng.integers(4, CONFIG.vocab_size, length - 1).tolist()] for length in lengths]


def telling_params():
    """Parameters with which the next token depends on the whole sequence and on every kind of weight.

    A final norm of random signs takes away the last token's lead, larger queries reach into the softcap, and norms are
    not all alike.
    """
    params = jax.jit(model.init, static_argnums=0)(CONFIG, jax.random.key(0))
    rng = np.random.default_rng(1)

    def change(path, leaf):
        name = model.leaf_name(path)
        if name == 'final_norm/scale':
            return jnp.asarray(rng.choice([0.0, -2.0], leaf.shape), leaf.dtype)
        if name.endswith('/scale'):
            return jnp.asarray(rng.normal(scale=0.3, size=leaf.shape), leaf.dtype)
        return leaf * 16 if name == 'layers/attn/q_einsum/w' else leaf

    return jax.tree.map_with_path(change, params)


def expected(config, params, rows: list[list[int]]) -> np.ndarray:
    """Greedy tokens [rows, STEPS]; what lies after a row's end is not seen by what lies before."""
    width = max(map(len, rows)) + STEPS

    @jax.jit
    def following(params, tokens, lengths):
        positions = jnp.broadcast_to(jnp.arange(width)[None], tokens.shape)
        hidden, _ = model.forward(params, config, tokens, positions, jnp.ones_like(tokens))
        last = hidden[jnp.arange(len(tokens)), lengths - 1]
        return jnp.argmax(model.logits(params, config, last), axis=-1)

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


def blind(params) -> list[str]:
    """The parts of the model that the reference does not notice."""
    rows = prompts(CASES['longer than the window'][1])
    right = expected(WINDOWED, params, rows)
    changed = {name: dataclasses.replace(WINDOWED, **change) for name, change in CHANGED.items()}
    return [name for name, config in changed.items() if np.array_equal(expected(config, params, rows), right)]


def check(name: str, params) -> bool:
    wrong = [f'the reference is blind to: {part}' for part in blind(params)]
    for kind, (config, lengths) in CASES.items():
        generate = PEERS[name](config, params)
        if generate is None:
            return True
        rows = prompts(lengths)
        if found := difference(generate(rows, STEPS, 0.0, 0, 0), expected(config, params, rows)):
            wrong.append(f'greedy, prompts {kind}: {found}')

    generate = PEERS[name](CONFIG, params)
    rows = prompts(CASES['of one length'][1])
    second = []
    for temperature, top_k in ((0.0, 0), (1.0, 50), (1.0, 0)):
        drawn = []
        for call, seed in enumerate((1, 2, 1)):
            with Compilations() as compiled:
                start = time.perf_counter()
                drawn.append(generate(rows, STEPS, temperature, top_k, seed))
                taken = time.perf_counter() - start
            if call == 1:
                second += compiled.names
            elif call == 2 and compiled.names:
                wrong.append(f'temperature {temperature}, top_k {top_k} compiles again: {compiled.names}')
        if not np.array_equal(drawn[0], drawn[2]) or np.array_equal(drawn[0], drawn[1]) != (temperature == 0):
            wrong.append(f'temperature {temperature}, top_k {top_k}: the seed does not decide the draw')
    wrong += training_differences(name, params)
    note = f', second calls compile {second}' if second else ''
    print(f'{name}: {"; ".join(wrong) or f"OK ({1e3 * taken:.0f} ms for the last call{note})"}', flush=True)
    return not wrong


def training_differences(name: str, params) -> list[str]:
    """What is wrong with the losses of three steps, in nats a learned token; 1% of what the steps gain is let pass."""
    batches = examples(CONFIG.vocab_size, 3)
    ours, frozen = (np.array(sft.ours(CONFIG, params, rate)(batches)) for rate in (1e-3, 0.0))
    theirs = np.array(TRAINERS[name](CONFIG, params, 1e-3)(batches))
    wrong = []
    if abs(theirs[0] / ours[0] - 1) > 1e-4:
        wrong.append(f'the first loss is {theirs[0]}, not {ours[0]}')
    if (np.abs(theirs - ours)[1:] > 0.01 * np.abs(frozen - ours)[1:]).any():
        wrong.append(f'the losses after a step are {theirs[1:]}, not {ours[1:]}')
    return wrong


def main() -> None:
    names = sys.argv[1:] or list(PEERS)
    if len(names) > 1:
        # A process for each: TensorFlow, which the gemma package imports, and torch's Triton abort beside each other.
        sys.exit(max(subprocess.run([sys.executable, '-m', __spec__.name, name]).returncode != 0 for name in names))
    sys.exit(not check(names[0], telling_params()))


if __name__ == '__main__':
    main()
