"""Chunked logits and recomputed layers change nothing but the memory."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cosample_jax import memory, sharding
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


@pytest.fixture
def chunks_of_16(monkeypatch):
    """Of 3 chunks of a row of 48; the batch has 81 tokens to learn in 4 rows, so two of them have something."""
    monkeypatch.setattr(loss, 'LOGITS_PER_ROW', 20 * WHOLE.vocab_size)


def evaluate(params, config, batch, dtype=jnp.float32, mesh=None):
    """((loss, counts), gradient), and the program's text."""
    function = jax.jit(jax.value_and_grad(lambda p, b: loss.summed_loss(p, config, b, dtype, mesh), has_aux=True))
    return function(params, batch), function.lower(params, batch).as_text()


def assert_same(one, other, atol=2e-6):
    (value, counts), gradient = one
    (other_value, other_counts), other_gradient = other
    np.testing.assert_allclose(value, other_value, rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, counts, other_counts)
    for leaf, other_leaf in zip(jax.tree.leaves(gradient), jax.tree.leaves(other_gradient), strict=True):
        scale = float(jnp.abs(other_leaf).max())
        assert scale > 0
        np.testing.assert_allclose(leaf, other_leaf, atol=atol * scale)


def test_chunks_and_recomputed_layers_give_the_plain_value_and_gradient(params, batch, monkeypatch):
    plain, text = evaluate(params, WHOLE, batch)
    assert f'4x48x{WHOLE.vocab_size}xf32' in text
    recomputed, _ = evaluate(params, SCANNED, batch)
    assert_same(recomputed, plain)
    monkeypatch.setattr(loss, 'LOGITS_PER_ROW', 20 * WHOLE.vocab_size)  # chunks of 16
    chunked, text = evaluate(params, SCANNED, batch)
    assert f'4x16x{WHOLE.vocab_size}xf32' in text and f'4x48x{WHOLE.vocab_size}xf32' not in text
    assert_same(chunked, plain)


def test_the_logits_of_a_chunk_are_made_once_and_only_where_there_is_something_to_learn(params, batch, chunks_of_16):
    text = evaluate(params, SCANNED, batch)[1]
    assert len(re.findall(rf'dot_general.*-> tensor<4x16x{WHOLE.vocab_size}xf32>', text)) == 1
    hidden = np.arange(batch.tokens.size, dtype=np.float32).reshape(4, 48, 1)
    read, targets, weights = loss._learned_first(hidden, batch.targets, batch.weights, 16, None)
    assert loss._used(weights) == 2 and weights.sum() == batch.weights.sum() == 81
    place = read.astype(int).reshape(-1)
    assert sorted(place) == list(range(batch.tokens.size))
    np.testing.assert_array_equal(targets.reshape(-1), batch.targets.reshape(-1)[place])
    np.testing.assert_array_equal(weights.reshape(-1), batch.weights.reshape(-1)[place])


def test_one_program_for_any_number_of_learned_tokens_and_none_is_no_loss(params, batch, chunks_of_16):
    function = jax.jit(jax.value_and_grad(lambda p, b: loss.summed_loss(p, SCANNED, b)[0]))
    alone = jax.jit(lambda p, b: loss.summed_loss(p, SCANNED, b)[0])
    for learned in (1, 40, batch.tokens.size, 0):
        weights = (np.arange(batch.tokens.size) < learned).astype(np.float32).reshape(batch.tokens.shape)
        value, gradient = function(params, batch._replace(weights=weights))
        np.testing.assert_allclose(alone(params, batch._replace(weights=weights)), value, rtol=1e-6)
    assert function._cache_size() == 1
    assert value == 0 and all((leaf == 0).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize('sizes', [(2, 2, 2), (1, 4, 1), (4, 1, 1)])
def test_chunks_on_a_mesh_give_the_same_value_and_gradient(params, batch, chunks_of_16, sizes):
    mesh = sharding.make_mesh(memory.Sizes(*sizes))
    split = jax.device_put(params, sharding.param_shardings(params, mesh))
    (one, _), (many, _) = (
        evaluate(params, SCANNED, batch),
        evaluate(split, SCANNED, sharding.rows_to_global(batch, mesh), mesh=mesh),
    )
    assert_same(many, one, atol=1e-5)


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


@pytest.mark.parametrize('logits', [2**25, 20 * WHOLE.vocab_size], ids=['whole rows', 'chunks'])
def test_bfloat16_gradients_are_float32_and_close(params, batch, monkeypatch, logits):
    monkeypatch.setattr(loss, 'LOGITS_PER_ROW', logits)
    (value, _), gradient = evaluate(params, SCANNED, batch, jnp.bfloat16)[0]
    (exact, _), exact_gradient = evaluate(params, SCANNED, batch)[0]
    np.testing.assert_allclose(value, exact, rtol=1e-2)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype(jnp.float32)}
    table, exact_table = (each['embedder']['input_embedding'] for each in (gradient, exact_gradient))
    assert jnp.linalg.norm(table - exact_table) < 0.03 * jnp.linalg.norm(exact_table)
