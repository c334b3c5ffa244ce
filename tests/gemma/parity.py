"""What every comparison with another implementation shares: models, weights, token ids, our own logits and gradients.

The weights come from the raw bits of a generator, so they are the same on any platform and in any version, and a file
of logits that somebody else's code made from them stays valid (`tests/golden`).
"""

import functools
import math

import jax
import numpy as np
from paged import one_page_a_row

from cosample_jax.gemma import model, weights
from cosample_jax.gemma.config import gemma1, gemma2, gemma3
from cosample_jax.training import loss, packing
from cosample_jax.training.packing import Example

# Of the range of the logits. Measured: 4e-6 at most; a GELU without the tanh approximation is 7e-5 away.
TOLERANCE = 1e-5
# Long enough for attention in blocks; the first decoded tokens still see some of the prefix.
V, T, PREFIX, QUESTION, WINDOW = 200, 160, 128, 4, 7
ROW, LENGTHS = T, (150, 100, 61, 40, 24, 9)  # of training: rows, and the examples packed into them
SHAPE = {'embed': 48, 'ffw': 80, 'heads': 4, 'head_dim': 16, 'vocab': V}
LOCAL = SHAPE | {'window': WINDOW}
GEMMA3 = LOCAL | {'layers': 7}  # five local, one global, one local
LARGE = {'query_scale': (48 / 4) ** -0.5}  # as in the 27B models: by D / N, not by H

CASES = {
    'gemma1-mha': gemma1('mha', layers=2, kv_heads=4, **SHAPE),
    'gemma1-gqa': gemma1('gqa', layers=2, kv_heads=2, **SHAPE),
    'gemma1-mqa': gemma1('mqa', layers=2, kv_heads=1, **SHAPE),
    'gemma1-faint': gemma1('faint', layers=2, kv_heads=1, **SHAPE),  # see `parameters`
    'gemma2-mha': gemma2('mha', layers=4, kv_heads=4, **LOCAL),
    'gemma2-gqa': gemma2('gqa', layers=4, kv_heads=2, **LOCAL),
    'gemma2-mqa': gemma2('mqa', layers=4, kv_heads=1, **LOCAL),
    'gemma2-large': gemma2('large', layers=4, kv_heads=2, **LOCAL, **LARGE),
    'gemma2-low_caps': gemma2('caps', layers=4, kv_heads=2, attn_softcap=3.0, final_softcap=5.0, **LOCAL),
    'gemma3-mha': gemma3('mha', kv_heads=4, scale=1.0, **GEMMA3),
    'gemma3-gqa': gemma3('gqa', kv_heads=2, scale=1.0, **GEMMA3),
    'gemma3-mqa': gemma3('mqa', kv_heads=1, scale=1.0, **GEMMA3),
    'gemma3-linear': gemma3('linear', kv_heads=2, scale=8.0, **GEMMA3),
    'gemma3-large': gemma3('large', kv_heads=2, scale=8.0, **GEMMA3, **LARGE),
}


def uniform(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """float32 in [-1/2, 1/2), from raw bits: unlike a generator's distributions these never change."""
    raw = np.random.PCG64(seed).random_raw(int(np.prod(shape)))
    return ((raw >> np.uint64(40)).astype(np.float32) / 2**24 - np.float32(0.5)).reshape(shape)


@functools.cache
def parameters(case):
    """Random parameters, norm scales included: at 0 a wrong norm would not show."""
    leaves, tree = jax.tree.flatten(weights.abstract_params(CASES[case]))
    params = tree.unflatten([np.float32(1.1) * uniform(100 + i, leaf.shape) for i, leaf in enumerate(leaves)])
    if case == 'gemma1-faint':  # an embedding so small that the epsilon of the first norm counts
        params['embedder']['input_embedding'] *= np.float32(1e-3)
    return params


def tokens() -> np.ndarray:
    """int32 [2, T], the prefix the same in both rows."""
    ids = ((uniform(7, (2, T)) + 0.5) * V).astype(np.int32)
    ids[1, :PREFIX] = ids[0, :PREFIX]
    return ids


@functools.partial(jax.jit, static_argnums=0)
def run(config, params, ids, positions, segments, prefix_kv=None):
    hidden, kv = model.forward(params, config, ids, positions, segments, prefix_kv)
    return model.logits(params, config, hidden), kv


@functools.partial(jax.jit, static_argnums=0)
def step(config, params, ids, positions, cache, pages, prefix_kv):
    hidden, cache = model.decode_step(params, config, ids, positions, cache, pages, prefix_kv)
    return model.logits(params, config, hidden), cache


def positions_from(start: int) -> np.ndarray:
    return np.broadcast_to(np.arange(start, start + T, dtype=np.int32), (2, T))


def forward(config, params, start=0) -> np.ndarray:
    """Logits [2, T, V], every sequence run whole, at positions from `start` on."""
    return np.asarray(run(config, params, tokens(), positions_from(start), np.ones_like(tokens()))[0])


def packed(config, params) -> np.ndarray:
    """The same logits with both sequences, and padding between and behind them, in one row."""
    gap, ids = 5, tokens()
    row = np.zeros((1, 2 * T + 2 * gap), np.int32)
    segments, positions = np.zeros_like(row), np.zeros_like(row)
    spans = [slice(0, T), slice(T + gap, 2 * T + gap)]
    for number, span in enumerate(spans):
        row[0, span], segments[0, span], positions[0, span] = ids[number], number + 1, np.arange(T)
    logits = run(config, params, row, positions, segments)[0]
    return np.stack([logits[0, span] for span in spans])


def padded(config, params, lengths) -> np.ndarray:
    """Logits [2, T, V] of sequences cut to `lengths` and padded on the right; what is behind an end means nothing."""
    segments = (np.arange(T) < np.array(lengths)[:, None]).astype(np.int32)
    ids = np.where(segments, tokens(), 0)
    return np.asarray(run(config, params, ids, positions_from(0), segments)[0])


def decode(config, params) -> np.ndarray:
    """The same logits the way the sampler gets them: shared prefix, question, then token by token."""
    ids, positions, ones = tokens(), positions_from(0), np.ones_like(tokens())
    prefix, question = slice(0, PREFIX), slice(PREFIX, PREFIX + QUESTION)
    prefix_logits, kv = run(config, params, ids[:1, prefix], positions[:1, prefix], ones[:1, prefix])
    prefix_kv = tuple(each[:, 0] for each in kv)
    question_logits, kv = run(config, params, ids[:, question], positions[:, question], ones[:, question], prefix_kv)
    cache, pages = one_page_a_row(kv, T - PREFIX, PREFIX)
    pieces = [np.repeat(prefix_logits, 2, axis=0), question_logits]
    for position in range(PREFIX + QUESTION, T):
        here = (ids[:, position], positions[:, position])
        logits, cache = step(config, params, *here, cache, pages, prefix_kv)
        pieces.append(logits[:, None])
    return np.concatenate(pieces, axis=1)


def difference(got, reference) -> float:
    """The largest deviation, as a fraction of the reference's range."""
    return float(np.abs(got - reference).max() / np.ptp(reference))


def examples() -> list[Example]:
    """Longer and shorter than the window; every second one has a second prompt.

    Token 0 is in none: it is what rows are padded with, and torch gives its embedding no gradient.
    """
    drawn = (uniform(8, (len(LENGTHS), max(LENGTHS))) + 0.5) * (V - 1)
    made = []
    for number, n in enumerate(LENGTHS):
        prompts = [slice(0, n // 3)] + [slice(n // 2, 2 * n // 3)] * (number % 2)
        learn = np.ones(n, bool)
        for prompt in prompts:
            learn[prompt] = False
        made.append(Example((1 + drawn[number, :n].astype(np.int32)).tolist(), learn.tolist()))
    return made


def batch(made: list[Example]) -> packing.Batch:
    """[4, ROW], the last row all padding."""
    return packing.pack(made, ROW, row_multiple=4)


@functools.partial(jax.jit, static_argnums=0)
def loss_and_gradient(config, params, batch):
    """The loss summed over tokens, and its gradient."""
    return jax.value_and_grad(lambda p: loss.summed_loss(p, config, batch)[0])(params)


def by_tensor(tree) -> dict[str, np.ndarray]:
    """Each leaf as [tensors, elements]: layers, keys and values, and gates apart.

    What is large in one of them must not hide what is wrong in another.
    """
    tensors = {}
    for path, leaf in jax.tree.leaves_with_path(tree):
        name = model.leaf_name(path)
        axes = 2 if name.endswith(('kv_einsum/w', 'gating_einsum/w')) else int(name.startswith('layers/'))
        tensors[name] = np.asarray(leaf).reshape(math.prod(leaf.shape[:axes]), -1)
    return tensors


def norms(gradient) -> dict[str, np.ndarray]:
    """Of each tensor."""
    return {name: np.linalg.norm(each.astype(np.float64), axis=1) for name, each in by_tensor(gradient).items()}


def gradient_difference(got, reference) -> float:
    """The largest deviation, as a fraction of the largest element of its tensor in the reference."""
    got, reference = by_tensor(got), by_tensor(reference)
    assert got.keys() == reference.keys()
    return max(
        float((np.abs(got[name] - each).max(axis=1) / np.abs(each).max(axis=1)).max())
        for name, each in reference.items()
    )
