"""Chunked logits and recomputed layers change nothing but the memory."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cosample_jax.gemma import config as gemma_config
from cosample_jax.gemma import model
from cosample_jax.training import loss, packing
from cosample_jax.training.packing import Example

WHOLE = gemma_config.variant('tiny_weak')  # layers unrolled: nothing is recomputed
SCANNED = dataclasses.replace(WHOLE, name='scanned', scan_unroll=1)


@pytest.fixture(scope='module')
def params():
    return jax.jit(lambda key: model.init(WHOLE, key))(jax.random.key(0))


@pytest.fixture(scope='module')
def batch():
    rng = np.random.default_rng(0)
    made = [Example([2, *rng.integers(10, 250, n).tolist(), 1], [i > 5 for i in range(n + 2)]) for n in (20, 30, 43)]
    return packing.pack(made, row_length=48, row_multiple=2)


def evaluate(params, config, batch, dtype=jnp.float32):
    """((loss, counts), gradient), and the program's text."""
    function = jax.jit(jax.value_and_grad(lambda p: loss.summed_loss(p, config, batch, dtype), has_aux=True))
    return function(params), function.lower(params).as_text()


def assert_same(one, other):
    (value, counts), gradient = one
    (other_value, other_counts), other_gradient = other
    np.testing.assert_allclose(value, other_value, rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, counts, other_counts)
    for leaf, other_leaf in zip(jax.tree.leaves(gradient), jax.tree.leaves(other_gradient), strict=True):
        scale = float(jnp.abs(other_leaf).max())
        assert scale > 0
        np.testing.assert_allclose(leaf, other_leaf, atol=2e-6 * scale)


def test_chunks_and_recomputed_layers_give_the_plain_value_and_gradient(params, batch, monkeypatch):
    plain, text = evaluate(params, WHOLE, batch)
    assert f'4x48x{WHOLE.vocab_size}xf32' in text
    recomputed, _ = evaluate(params, SCANNED, batch)
    assert_same(recomputed, plain)
    monkeypatch.setattr(loss, 'LOGITS_PER_ROW', 20 * WHOLE.vocab_size)
    chunked, text = evaluate(params, SCANNED, batch)
    assert f'4x16x{WHOLE.vocab_size}xf32' in text and f'4x48x{WHOLE.vocab_size}xf32' not in text
    assert_same(chunked, plain)


def test_scanned_layers_are_recomputed_and_unrolled_ones_are_not(params, batch):
    kept = f'tensor<{WHOLE.num_layers}x4x48x{WHOLE.ffw_dim}xf32>'  # of all layers, for the way back
    assert kept in evaluate(params, WHOLE, batch)[1]
    assert kept not in evaluate(params, SCANNED, batch)[1]


@pytest.mark.parametrize(
    ('length', 'vocab', 'size'),
    [
        *[(512, 256_000, 128), (1024, 262_144, 128), (128, 256, 128)],
        *[(1024, 4096, 1024), (97, 256_000, 97), (254, 256_000, 127)],
    ],
)
def test_a_chunk_divides_the_row_and_is_bounded(length, vocab, size):
    assert loss.chunk_length(length, vocab) == size


def test_bfloat16_gradients_are_float32_and_close(params, batch):
    (value, _), gradient = evaluate(params, SCANNED, batch, jnp.bfloat16)[0]
    (exact, _), _ = evaluate(params, SCANNED, batch)[0]
    np.testing.assert_allclose(value, exact, rtol=1e-2)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype(jnp.float32)}
