"""Adapters: a model that computes what merged weights do, of which nothing but the adapters is ever trained."""

import dataclasses
import functools
from types import SimpleNamespace

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from cosample_jax import sharding
from cosample_jax.checkpoint import RunCheckpoints
from cosample_jax.gemma import model, projection
from cosample_jax.gemma.config import variant
from cosample_jax.training import loop, lora, loss, packing
from cosample_jax.training.packing import Example
from cosample_jax.training.step import Recipe, init_state, train_step

RANK = 5
# One of each family. The first is scanned, as real models are, and its layers are recomputed for the gradient.
CONFIGS = {
    'gemma1': dataclasses.replace(variant('tiny_student'), name='scanned', scan_unroll=1),
    'gemma2': variant('tiny_weak'),
    'gemma3': variant('tiny_gemma3'),
}
MATRICES = [('attn', name) for name in ('q_einsum', 'kv_einsum', 'attn_vec_einsum')]
MATRICES += [('mlp', name) for name in ('gating_einsum', 'linear')]
# All of them in the long checks; the last has all there is, windows and norms of queries and keys.
families = pytest.mark.parametrize(
    'family', [family if family == 'gemma3' else pytest.param(family, marks=pytest.mark.slow) for family in CONFIGS]
)
CONFIG = CONFIGS['gemma1']


@functools.cache
def base_of(family):
    """Random weights with norm scales away from 0."""
    params = jax.jit(model.init, static_argnums=0)(CONFIGS[family], jax.random.key(1))
    rng = np.random.default_rng(2)
    return jax.tree.map(lambda x: np.float32(x + 0.1 * rng.standard_normal(x.shape)), params)


@functools.cache
def fresh(family, rank=RANK):
    return jax.jit(lora.init, static_argnums=(0, 1))(CONFIGS[family], rank, jax.random.key(3))


@functools.cache
def trained(family):
    """Adapters whose b is no longer zero."""
    rng = np.random.default_rng(4)
    return jax.tree.map(lambda x: np.float32(x + 0.05 * rng.standard_normal(x.shape)), fresh(family))


def batch(seed=0, count=8, rows=4):
    """Rows [4, 64] of several examples each."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        n = int(rng.integers(8, 20))
        made.append(Example([2, *rng.integers(10, 250, n).tolist(), 1], [i > n // 2 for i in range(n + 2)]))
    return packing.pack(made, row_length=64, row_multiple=rows)


@functools.partial(jax.jit, static_argnums=0)
def logits(config, params, batch, adapters=None):
    read = batch.tokens, batch.positions, batch.segment_ids
    return model.logits(params, config, model.forward(params, config, *read, adapters=adapters)[0])


@functools.partial(jax.jit, static_argnums=0)
def gradient(config, adapters, base, batch):
    return jax.grad(lambda each: loss.summed_loss(base, config, batch, adapters=each)[0])(adapters)


def assert_close(got, expected, tolerance):
    """Within `tolerance` of the range of each leaf."""
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert np.ptp(other) > 0
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * float(np.ptp(other)))


# The other two take ten seconds each.
@pytest.mark.parametrize(
    'family', [pytest.param('gemma1', marks=pytest.mark.slow), 'gemma2', pytest.param('gemma3', marks=pytest.mark.slow)]
)
def test_adapters_that_have_learnt_nothing_change_no_logit(family):
    """Within what two programs round differently; each product by itself exactly."""
    config, base, adapters = CONFIGS[family], base_of(family), fresh(family)
    assert_close(logits(config, base, batch(), adapters), logits(config, base, batch()), 1e-6)
    jax.tree.map(np.testing.assert_array_equal, lora.merge(base, adapters), base)
    for part, name in MATRICES:
        matrix, w = projection.MATRICES[name], base['layers'][part][name]['w']
        stack, inputs, _ = matrix.sizes(w.shape)
        first = (0,) * len(stack)
        x = jax.random.normal(jax.random.key(5), (2, 3, *inputs))
        pair = (adapters['layers'][part][name][each][first] for each in 'ab')
        np.testing.assert_array_equal(matrix.project(x, w[first], *pair), matrix.project(x, w[first]))


@families
def test_merged_weights_compute_what_the_adapters_do(family):
    """In packed rows of several segments, padding and all."""
    config, base, adapters = CONFIGS[family], base_of(family), trained(family)
    got = logits(config, base, batch(), adapters)
    assert_close(logits(config, lora.merge(base, adapters), batch()), got, 1e-5)
    unlike = logits(config, base, batch())
    assert np.abs(got - unlike).max() > 0.05 * np.ptp(unlike)


def test_every_pair_is_used_and_only_where_it_belongs():
    """Each changes the logits by itself, as its merged matrix does and no other part of its stack."""
    base, adapters = base_of('gemma1'), trained('gemma1')
    for sublayer, pairs in adapters['layers'].items():
        for name in pairs:
            alone = jax.tree.map(np.zeros_like, adapters)
            alone['layers'][sublayer][name] = pairs[name]
            merged = lora.merge(base, alone)
            changed = jax.tree.map(lambda x, y: not np.array_equal(x, y), merged, base)
            assert changed['layers'][sublayer].pop(name) == {'w': True}
            assert not any(jax.tree.leaves(changed))
            assert_close(logits(CONFIG, base, batch(), alone), logits(CONFIG, merged, batch()), 1e-5)


def test_merging_by_hand():
    """Of the second layer's values: w + 32 / r a b, head by head."""
    base, adapters = base_of('gemma2'), trained('gemma2')
    a, b = (adapters['layers']['attn']['kv_einsum'][each][1, 1] for each in 'ab')  # [D, r], [r, K, H]
    for head in range(2):
        expected = base['layers']['attn']['kv_einsum']['w'][1, 1, head] + 32 / RANK * a @ b[:, head]
        merged = lora.merge(base, adapters)['layers']['attn']['kv_einsum']['w'][1, 1, head]
        np.testing.assert_allclose(merged, expected, rtol=1e-5, atol=1e-6)


@families
def test_gradients_are_those_through_merged_weights(family):
    config, base, adapters = CONFIGS[family], base_of(family), trained(family)

    @jax.jit
    def through_merged(adapters):
        return jax.grad(lambda each: loss.summed_loss(lora.merge(base, each), config, batch())[0])(adapters)

    assert_close(gradient(config, adapters, base, batch()), through_merged(adapters), 1e-4)


def test_in_bfloat16_gradients_are_float32_and_close():
    base = loss.cast(base_of('gemma1'), jnp.bfloat16)

    @jax.jit
    def rounded(adapters):
        return jax.grad(lambda each: loss.summed_loss(base, CONFIG, batch(), jnp.bfloat16, adapters=each)[0])(adapters)

    got, exact = rounded(trained('gemma1')), gradient(CONFIG, trained('gemma1'), base_of('gemma1'), batch())
    assert {leaf.dtype for leaf in jax.tree.leaves(got)} == {jnp.dtype(jnp.float32)}
    assert_close(got, exact, 0.1)


@pytest.mark.parametrize('name', ['gemma_2b', 'gemma2_27b', 'gemma3_1b', 'tiny_weak'])
def test_what_is_trained_is_what_the_formula_says(name):
    """r (inputs + outputs) of each matrix, in float32 with two moments and two counts of steps."""
    c = variant(name)
    queries, keys, out = c.embed_dim + c.num_heads * c.head_dim, c.embed_dim + c.num_kv_heads * c.head_dim, c.embed_dim
    expected = c.num_layers * 16 * (2 * queries + 2 * keys + 3 * (out + c.ffw_dim))
    assert lora.num_params(c, 16) == expected
    state = jax.eval_shape(lambda adapters: init_state(adapters, Recipe()), lora.shapes(c, 16))
    assert sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)) == 12 * expected + 2 * 4


def test_an_adapter_starts_at_the_scale_of_its_inputs_and_follows_its_key():
    a, b = fresh('gemma2', 64)['layers']['attn']['attn_vec_einsum'].values()  # [L, N, H, r], [L, r, D]
    assert a.shape == (3, 4, 12, 64) and b.shape == (3, 64, 40)
    assert np.std(a) == pytest.approx((4 * 12) ** -0.5, rel=0.05) and not b.any()
    one, other = (lora.init(CONFIG, RANK, jax.random.key(seed)) for seed in (0, 1))
    assert not np.array_equal(*(each['layers']['mlp']['linear']['a'] for each in (one, other)))
    a = one['layers']['mlp']['gating_einsum']['a']
    assert len(np.unique(a)) == a.size  # no two layers, and no two parts of a stack, begin alike


def test_ten_examples_are_learnt_by_heart_and_the_weights_stay_as_they_are():
    base = jax.tree.map(jnp.array, base_of('gemma1'))
    state, made = init_state(fresh('gemma1'), Recipe()), batch(3, count=10)
    first = None
    for _ in range(150):
        state, metrics = train_step(state, made, np.float32(1e-2), base, config=CONFIG, recipe=Recipe())
        first = first or {name: float(value) for name, value in metrics.items()}
    # 0.29 is the least there is: hidden states have the norm that the frozen last scale gives them.
    assert first['loss'] > 5 and first['accuracy'] < 0.1 and metrics['loss'] < 0.35 and metrics['accuracy'] == 1.0
    jax.tree.map(np.testing.assert_array_equal, base, base_of('gemma1'))
    total, counts = loss.summed_loss(lora.merge(base, state.params), CONFIG, made)
    assert total / counts['tokens'] < 0.35 and counts['right'] == counts['tokens']


def results(jaxpr):
    """(primitive, shape) of everything that a program computes, loops and calls included."""
    for equation in jaxpr.eqns:
        yield from ((equation.primitive.name, var.aval.shape) for var in equation.outvars if var.aval.shape)
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from results(inner)


def of_weights_size(state, base):
    """What a step of `state` computes that is as large as the weights of a kind, of all layers or of one, and products
    as large as a matrix, in any order of axes; not what it takes out of weights to multiply it.
    """
    shapes = {name: model.shapes(CONFIG)['layers'][part][name]['w'].shape for part, name in MATRICES}
    matrices = {tuple(sorted(shape[-len(projection.MATRICES[name].w) :])) for name, shape in shapes.items()}
    large = {*shapes.values(), *(shape[1:] for shape in shapes.values())}
    program = jax.make_jaxpr(lambda *given: train_step(*given, config=CONFIG, recipe=Recipe()))(
        state, batch(), np.float32(1e-2), base
    )
    return {
        (name, shape)
        for name, shape in results(program.jaxpr)
        if (shape in large and name != 'squeeze') or (name == 'dot_general' and tuple(sorted(shape)) in matrices)
    }


def test_no_gradient_of_a_weight_is_made():
    found = of_weights_size(init_state(fresh('gemma1'), Recipe()), base_of('gemma1'))
    assert not found
    # A test that can fail: in full fine-tuning all of them are.
    found = of_weights_size(init_state(base_of('gemma1'), Recipe()), None)
    assert {shape for _, shape in found} >= {(3, 2, 88, 40), (3, 88, 40), (2, 88, 40), (3, 4, 40, 12)}


@pytest.mark.parametrize(
    'shape',
    [(2, 2, 2), pytest.param((1, 4, 2), marks=pytest.mark.slow), pytest.param((1, 1, 4), marks=pytest.mark.slow)],
    ids=['data', 'fsdp', 'tensor'],
)
def test_on_eight_devices_gradients_and_merged_weights_are_the_same(shape):
    mesh = sharding.make_mesh(SimpleNamespace(**dict(zip(sharding.MESH_AXES, shape, strict=True))))
    base, adapters = (
        jax.device_put(tree, sharding.param_shardings(tree, mesh)) for tree in (base_of('gemma1'), trained('gemma1'))
    )
    got = gradient(CONFIG, adapters, base, sharding.rows_to_global(batch(), mesh))
    assert_close(got, gradient(CONFIG, trained('gemma1'), base_of('gemma1'), batch()), 1e-4)
    merged = lora.merge(base, adapters, mesh)
    assert_close(merged, lora.merge(base_of('gemma1'), trained('gemma1')), 1e-6)
    placed = jax.tree.map(
        lambda x, place: x.sharding.is_equivalent_to(place, x.ndim), merged, sharding.param_shardings(merged, mesh)
    )
    assert all(jax.tree.leaves(placed))


def run(directory, steps=8, **other):
    arguments = {
        'batch': batch,
        'steps': steps,
        'learning_rate': lambda step: 1e-2,
        'directory': directory,
        'validate': lambda params, should_stop: float(jnp.sum(params['layers']['mlp']['linear']['w'] ** 2)) % 1.0,
        'num_checkpoints': 4,
        'keep': 'all',
        'adapters': fresh('gemma1'),
    }
    return loop.train(base_of('gemma1'), CONFIG, **(arguments | other))


def equal(one, other):
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, one, other)))


@pytest.mark.parametrize('killed_at', [3, 5])
def test_resumed_equals_uninterrupted_to_the_bit(tmp_path, monkeypatch, killed_at):
    whole = run(tmp_path / 'whole')

    class Stop(Exception):
        pass

    def dying(step):
        if step == killed_at:
            raise Stop
        return batch(step)

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(loop, 'STATE_INTERVAL_S', 0.0)
        run(tmp_path / 'cut', batch=dying)
    taken = []
    resumed = run(tmp_path / 'cut', batch=lambda step: taken.append(step) or batch(step))
    assert taken[0] == killed_at // 2 * 2  # the last step that was looked at
    assert equal(resumed.params, whole.params) and resumed.history == whole.history
    saved = []
    for name in ('whole', 'cut'):
        checkpoints = RunCheckpoints(tmp_path / name, 'all')
        saved.append(checkpoints.load_best(CONFIG))
        checkpoints.close()
    assert equal(*saved)


def test_what_is_validated_and_saved_are_merged_weights_and_the_state_is_small(tmp_path, monkeypatch):
    validated = []

    def validate(params, should_stop):
        validated.append(jax.device_get(params))
        return len(validated) / 10

    monkeypatch.setattr(loop, 'STATE_INTERVAL_S', 0.0)
    result = run(tmp_path, validate=validate)
    checkpoints = RunCheckpoints(tmp_path, 'all')
    assert checkpoints.best_step() == 8
    best = checkpoints.load_best(CONFIG)
    state, _ = checkpoints.restore_state(init_state(fresh('gemma1'), Recipe()))
    checkpoints.close()
    assert equal(best, validated[-1]) and equal(best, lora.merge(base_of('gemma1'), result.params))
    assert not equal(best, base_of('gemma1')) and not equal(best, validated[0])
    assert equal(state.params, result.params)
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(state)) == 12 * lora.num_params(CONFIG, RANK) + 2 * 4


@pytest.mark.slow
def test_on_a_mesh_and_in_microbatches_a_run_is_the_same(tmp_path):
    mesh = sharding.make_mesh(SimpleNamespace(data=1, fsdp=2, tensor=2))
    one = run(tmp_path / 'one')
    many = run(tmp_path / 'many', mesh=mesh, microbatch_rows=2)
    # Adam makes a step of full size out of a gradient that is all rounding: losses, and not to the last digit.
    np.testing.assert_allclose(*([entry['loss'] for entry in each.history] for each in (one, many)), rtol=1e-2)
    a = many.params['layers']['mlp']['gating_einsum']['a']  # [L, 2, D, r]
    assert a.sharding.shard_shape(a.shape) == (3, 2, 20, RANK)
