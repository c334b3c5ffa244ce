"""Chunked logits and recomputed layers change nothing but the memory."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
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
def chunks_of_50(monkeypatch):
    """Four of the 192 tokens, the last of them short; 81 are learned, so two chunks have something."""
    monkeypatch.setattr(loss, 'CHUNK', 50)


def plain_loss(params, config, batch, *_):
    """What `loss.summed_loss` is: of all logits, differentiated by JAX."""
    hidden, _ = model.forward(params, config, batch.tokens, batch.positions, batch.segment_ids)
    logits = model.logits(params, config, hidden)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.targets)
    right = jnp.argmax(logits, axis=-1) == batch.targets
    return jnp.sum(losses * batch.weights), {'tokens': jnp.sum(batch.weights), 'right': jnp.sum(right * batch.weights)}


def evaluate(params, config, batch, dtype=jnp.float32, mesh=None, summed_loss=loss.summed_loss):
    """((loss, counts), gradient), and the program's text."""
    function = jax.jit(jax.value_and_grad(lambda p, b: summed_loss(p, config, b, dtype, mesh), has_aux=True))
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


@pytest.mark.parametrize('config', [WHOLE, SCANNED], ids=lambda config: config.name)
@pytest.mark.parametrize('chunk', [192, 50, 1])
def test_chunks_and_recomputed_layers_give_the_plain_value_and_gradient(params, batch, monkeypatch, config, chunk):
    plain, _ = evaluate(params, WHOLE, batch, summed_loss=plain_loss)
    monkeypatch.setattr(loss, 'CHUNK', chunk)
    chunked, text = evaluate(params, config, batch)
    assert {int(size) for size in re.findall(rf'tensor<1x(\d+)x{WHOLE.vocab_size}xf32>', text)} == {chunk}
    assert_same(chunked, plain)


def test_the_logits_of_a_chunk_are_made_once_and_only_where_there_is_something_to_learn(params, batch, chunks_of_50):
    text = evaluate(params, SCANNED, batch)[1]
    assert len(re.findall(rf'dot_general.*-> tensor<1x50x{WHOLE.vocab_size}xf32>', text)) == 1
    hidden = 1 + np.arange(batch.tokens.size, dtype=np.float32).reshape(4, 48, 1)
    read, targets, weights = loss._learned_first(hidden, batch.targets, batch.weights, None)
    assert loss._used(weights) == 2 and weights.sum() == batch.weights.sum() == 81
    place = read.astype(int).reshape(-1)[: batch.tokens.size] - 1
    assert sorted(place) == list(range(batch.tokens.size))
    for moved, there in ((targets, batch.targets), (weights, batch.weights)):
        moved, padding = np.split(moved.reshape(-1), [batch.tokens.size])
        np.testing.assert_array_equal(moved, there.reshape(-1)[place])
        assert len(padding) == 8 and not padding.any()


def test_one_program_for_any_number_of_learned_tokens_and_none_is_no_loss(params, batch, chunks_of_50):
    function = jax.jit(jax.value_and_grad(lambda p, b: loss.summed_loss(p, SCANNED, b)[0]))
    alone = jax.jit(lambda p, b: loss.summed_loss(p, SCANNED, b)[0])
    for learned in (1, 40, batch.tokens.size, 0):
        weights = (np.arange(batch.tokens.size) < learned).astype(np.float32).reshape(batch.tokens.shape)
        value, gradient = function(params, batch._replace(weights=weights))
        np.testing.assert_allclose(alone(params, batch._replace(weights=weights)), value, rtol=1e-6)
    assert function._cache_size() == 1
    assert value == 0 and all((leaf == 0).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize('sizes', [(2, 2, 2), (1, 4, 1), (4, 1, 1)])
def test_chunks_on_a_mesh_give_the_same_value_and_gradient(params, batch, chunks_of_50, sizes):
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


def test_bfloat16_gradients_are_float32_and_close(params, batch, chunks_of_50):
    ((value, _), gradient), text = evaluate(params, SCANNED, batch, jnp.bfloat16)
    of_table = rf'tensor<{WHOLE.embed_dim}x{WHOLE.vocab_size}xf32>'
    assert re.search(rf'dot_general.*bf16>\) -> {of_table}', text)  # not rounded before it is added up
    (exact, _), exact_gradient = evaluate(params, SCANNED, batch)[0]
    np.testing.assert_allclose(value, exact, rtol=1e-2)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype(jnp.float32)}
    table, exact_table = (each['embedder']['input_embedding'] for each in (gradient, exact_gradient))
    assert jnp.linalg.norm(table - exact_table) < 0.03 * jnp.linalg.norm(exact_table)
