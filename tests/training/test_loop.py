"""The loop: packed equals apart, resumed equals uninterrupted to the bit, the best checkpoint is the best."""

import dataclasses
import json
import os
import signal
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cosample_jax import sharding
from cosample_jax.checkpoint import RunCheckpoints
from cosample_jax.errors import UserError
from cosample_jax.gemma import config as gemma_config
from cosample_jax.gemma import model
from cosample_jax.preemption import Preempted
from cosample_jax.training import loop, loss, packing
from cosample_jax.training.packing import Example
from cosample_jax.training.step import Recipe, init_state, train_step

CONFIG = dataclasses.replace(gemma_config.variant('tiny_student'), name='test')


@pytest.fixture(scope='module')
def params():
    return jax.jit(lambda key: model.init(CONFIG, key))(jax.random.key(0))


def examples(seed, count=8, length=20):
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        n = int(rng.integers(8, length))
        made.append(Example([2, *rng.integers(10, 250, n).tolist(), 1], [i > n // 2 for i in range(n + 2)]))
    return made


def batch(step):
    return packing.pack(examples(step), row_length=64, row_multiple=4)


def validate(p, should_stop):
    return float(jnp.sum(jnp.abs(p['final_norm']['scale']))) % 1.0


def run(params, directory, steps=12, **other):
    arguments = {
        'batch': batch,
        'steps': steps,
        'learning_rate': loop.warmup_cosine(1e-2, steps, warmup=3),
        'directory': directory,
        'validate': validate,
        'num_checkpoints': 4,
    }
    return loop.train(params, CONFIG, **(arguments | other))


def mesh_of(*shape):
    return sharding.make_mesh(SimpleNamespace(**dict(zip(sharding.MESH_AXES, shape, strict=True))))


def rows_of(directory):
    """What metrics.jsonl tells, but for the time it took."""
    rows = map(json.loads, (directory / 'metrics.jsonl').read_text().splitlines())
    return [{name: value for name, value in row.items() if name not in ('tokens_per_s', 'mfu')} for row in rows]


def equal(one, other):
    return all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((np.asarray(a) == np.asarray(b)).all()), one, other)))


def test_packed_and_apart_give_the_same_loss_and_gradients(params):
    made = examples(0)

    measured = jax.jit(jax.value_and_grad(lambda p, batch: loss.summed_loss(p, CONFIG, batch)[0]))
    together = measured(params, packing.pack(made, 64, 4))
    each = [measured(params, packing.pack([example], 64, 1)) for example in made]
    apart = jax.tree.map(lambda *parts: sum(parts), *each)
    np.testing.assert_allclose(together[0], apart[0], rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), together[1], apart[1])


def test_a_neighbour_in_the_row_cannot_change_an_examples_loss(params):
    made = examples(1)
    other = [Example([2, *range(30, 44), 1], [False] * 16), *made]  # a neighbour without a loss of its own
    alone = loss.summed_loss(params, CONFIG, packing.pack(made, 64, 4))[0]
    crowded = loss.summed_loss(params, CONFIG, packing.pack(other, 64, 4))[0]
    np.testing.assert_allclose(alone, crowded, rtol=1e-5)


def test_the_prompt_carries_no_loss_and_the_loss_is_cross_entropy(params):
    example = Example([2, 10, 11, 12, 1], [False, False, False, True, True])
    total, counts = loss.summed_loss(params, CONFIG, packing.pack([example], 8, 1))
    tokens = jnp.array([example.tokens[:-1]])
    hidden, _ = model.forward(params, CONFIG, tokens, jnp.arange(4)[None], jnp.ones((1, 4), jnp.int32))
    logprobs = jax.nn.log_softmax(model.logits(params, CONFIG, hidden))[0]
    assert counts['tokens'] == 2
    np.testing.assert_allclose(total, -(logprobs[2, 12] + logprobs[3, 1]), rtol=1e-5)


@pytest.mark.parametrize('recipe', [Recipe(), Recipe('muon', weight_decay=0.01, b2=0.99)])
def test_it_learns_ten_examples_by_heart(params, recipe):
    made = packing.pack(examples(3, count=10), 64, 4)
    state = init_state(params, recipe)
    for _ in range(150):
        state, metrics = train_step(state, made, np.float32(1e-2), config=CONFIG, recipe=recipe)
    assert metrics['loss'] < 0.05 and metrics['accuracy'] == 1.0


def test_the_step_compiles_once_for_all_learning_rates_and_runs(params):
    before = train_step._cache_size()
    for rate in (1e-3, 1e-4):
        state = init_state(params, Recipe(b2=0.9))
        for _step in range(2):
            state, _ = train_step(state, batch(0), np.float32(rate), config=CONFIG, recipe=Recipe(b2=0.9))
    assert train_step._cache_size() == before + 1


def test_the_step_compiles_once_per_count_of_rows(params):
    recipe, shapes = Recipe(b2=0.95), set()
    before, state = train_step._cache_size(), init_state(params, recipe)
    for step in range(12):
        made = packing.pack(examples(step, count=8, length=44), row_length=48, row_multiple=2)
        shapes.add(made.tokens.shape)
        state, _ = train_step(state, made, np.float32(1e-3), config=CONFIG, recipe=recipe)
    assert train_step._cache_size() == before + len(shapes) and 1 < len(shapes) < 12


@pytest.mark.parametrize(
    'shape',
    [(2, 2, 2), pytest.param((1, 4, 2), marks=pytest.mark.slow), pytest.param((1, 1, 4), marks=pytest.mark.slow)],
    ids=['data', 'fsdp', 'tensor'],
)
def test_on_eight_devices_the_steps_are_the_same(params, tmp_path, shape):
    mesh = mesh_of(*shape)
    one, many = (run(params, tmp_path / str(m is None), steps=4, mesh=m) for m in (None, mesh))
    np.testing.assert_allclose(*([entry['loss'] for entry in r.history] for r in (one, many)), rtol=1e-4)
    embedding = many.params['embedder']['input_embedding']
    assert embedding.sharding.shard_shape(embedding.shape) == (256 // (shape[1] * shape[2]), 40)

    # Gradients, not updated weights: Adam makes a step of full size out of a gradient that is all rounding.
    gradient = jax.jit(jax.grad(lambda p, b: loss.summed_loss(p, CONFIG, b)[0]))
    split = jax.device_put(params, sharding.param_shardings(params, mesh))
    whole, pieces = gradient(params, batch(0)), gradient(split, sharding.rows_to_global(batch(0), mesh))
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(whole))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5 * largest), whole, pieces)


class Stop(Exception):
    pass


@pytest.mark.parametrize(
    'killed_at', [pytest.param(2, marks=pytest.mark.slow), 7, pytest.param(11, marks=pytest.mark.slow)]
)
def test_resumed_equals_uninterrupted_to_the_bit(params, tmp_path, killed_at):
    whole = run(params, tmp_path / 'whole')

    def dying(step):
        if step == killed_at:
            raise Stop
        return batch(step)

    clock = iter(range(10**6)).__next__  # every look at the clock is a second later: saves often
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, 'STATE_INTERVAL_S', 4.0)
        with pytest.raises(Stop):
            run(params, tmp_path / 'cut', batch=dying, clock=clock)
    taken = []
    resumed = run(params, tmp_path / 'cut', batch=lambda step: taken.append(step) or batch(step))
    assert equal(resumed.params, whole.params)
    assert resumed.history == whole.history and resumed.tokens == whole.tokens
    assert rows_of(tmp_path / 'cut') == rows_of(tmp_path / 'whole')
    assert [row['step'] for row in rows_of(tmp_path / 'cut')] == list(range(1, 13))
    assert taken[0] > 0 or killed_at == 2  # it did not start over


@pytest.mark.parametrize('where', ['in a step', 'in a validation'])
def test_sigterm_saves_the_state_and_the_same_call_goes_on_from_it(params, tmp_path, where):
    def stopping_batch(step):
        if step == 7 and where == 'in a step':
            os.kill(os.getpid(), signal.SIGTERM)
        return batch(step)

    whole = run(params, tmp_path / 'whole')

    def stopping_validate(p, should_stop):
        if where == 'in a validation':
            os.kill(os.getpid(), signal.SIGTERM)
        return None if should_stop() else validate(p, should_stop)

    with pytest.raises(Preempted):
        run(params, tmp_path / 'cut', batch=stopping_batch, validate=stopping_validate)
    taken = []
    resumed = run(params, tmp_path / 'cut', batch=lambda step: taken.append(step) or batch(step))
    assert taken[0] == {'in a step': 8, 'in a validation': 3}[where]
    assert equal(resumed.params, whole.params) and resumed.history == whole.history
    assert rows_of(tmp_path / 'cut') == rows_of(tmp_path / 'whole')


@pytest.mark.slow
def test_a_run_goes_on_on_another_mesh(params, tmp_path):
    whole = run(params, tmp_path / 'whole', mesh=mesh_of(1, 4, 2))

    def stopping(step):
        if step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch(step)

    with pytest.raises(Preempted):
        run(params, tmp_path / 'cut', batch=stopping, mesh=mesh_of(1, 4, 2))
    resumed = run(params, tmp_path / 'cut', mesh=mesh_of(2, 2, 1))
    kernel = resumed.params['layers']['mlp']['linear']['w']
    assert kernel.sharding.mesh.shape == {'data': 2, 'fsdp': 2, 'tensor': 1}
    # Other devices add in another order, which Adam's first steps amplify: 1% of a loss, not of its last digit.
    losses = [[row['loss'] for row in rows_of(tmp_path / name)] for name in ('whole', 'cut')]
    assert losses[0][:6] == losses[1][:6]
    np.testing.assert_allclose(*losses, rtol=1e-2)
    assert whole.params['layers']['mlp']['linear']['w'].sharding.mesh.shape['fsdp'] == 4


def test_microbatches_are_the_same_step(params):
    whole, _ = train_step(init_state(params, Recipe()), batch(0), np.float32(0), config=CONFIG, recipe=Recipe())
    measured = {}
    for mesh, rows in ((None, 1), (None, 2), (mesh_of(1, 2, 2), 2), (None, 4)):
        state = init_state(params, Recipe())
        this = batch(0)
        if mesh is not None:
            state = jax.device_put(state, sharding.param_shardings(state, mesh))
            this = sharding.rows_to_global(this, mesh)
        state, measured[mesh, rows] = train_step(
            state, this, np.float32(0), config=CONFIG, recipe=Recipe(), microbatch_rows=rows, mesh=mesh
        )
        # Adam's first moments are the clipped gradients, a tenth of them.
        for leaf, other in zip(jax.tree.leaves(state.opt_state), jax.tree.leaves(whole.opt_state), strict=True):
            np.testing.assert_allclose(leaf, other, atol=2e-6 * float(jnp.abs(other).max()))
    first = measured.pop((None, 4))
    for each in measured.values():
        assert each['tokens'] == first['tokens'] and each['accuracy'] == first['accuracy']
        np.testing.assert_allclose(each['loss'], first['loss'], rtol=1e-6)


def test_all_weights_stay_and_the_best_follows_from_the_metrics(params, tmp_path):
    result = run(params, tmp_path, steps=20, num_checkpoints=10, keep='all')
    validated = {row['step']: row['validation_accuracy'] for row in rows_of(tmp_path) if 'validation_accuracy' in row}
    assert list(validated) == list(range(2, 21, 2))
    checkpoints = RunCheckpoints(tmp_path, 'all')
    assert sorted(checkpoints.all_steps()) == list(validated)
    best = min(validated, key=lambda step: (-validated[step], step))
    assert checkpoints.best_step() == best == result.best['step']
    assert validated[best] > validated[20]  # it is not just the latest
    checkpoints.close()


def test_the_best_weights_are_those_of_the_best_validation(params, tmp_path):
    seen = {}

    def validate(p, _):
        seen[len(seen)] = (jax.device_get(p), accuracy := (0.2, 0.6, 0.6, 0.1)[len(seen)])
        return accuracy

    result = run(params, tmp_path, validate=validate)
    assert [entry['accuracy'] for entry in result.history] == [0.2, 0.6, 0.6, 0.1]
    assert result.best['step'] == 6  # of equals the earlier
    checkpoints = RunCheckpoints(tmp_path)
    assert checkpoints.best_step() == 6
    assert equal(checkpoints.load_best(CONFIG), seen[1][0])
    checkpoints.close()


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(params, tmp_path):
    def exploding(step):
        made = batch(step)
        return made._replace(weights=made.weights * (np.inf if step == 5 else 1))

    with pytest.raises(UserError, match='at step 6 of .*, on p5, q5: lower the learning rate'):
        run(params, tmp_path, batch=exploding, names=lambda step: [f'p{step}', f'q{step}', f'p{step}'])


def test_a_state_that_is_not_finite_is_never_saved(params, tmp_path, monkeypatch):
    """The loss is looked at every few steps only; a state saved between two looks could be one of NaNs."""
    monkeypatch.setattr(loop, 'STATE_INTERVAL_S', 1.0)

    def exploding(step):
        made = batch(step)
        return made._replace(weights=made.weights * (np.nan if step == 3 else 1))

    with pytest.raises(UserError, match='at step 4 '):
        run(params, tmp_path, batch=exploding, clock=iter(range(10**6)).__next__)
    checkpoints = RunCheckpoints(tmp_path)
    state, _ = checkpoints.restore_state(init_state(params, loop.FINETUNE))
    checkpoints.close()
    assert state.step == 3 and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))


def test_checkpoints_are_evenly_spaced_and_the_last_is_the_end():
    assert loop.checkpoint_steps(40, 10) == [4, 8, 12, 16, 20, 24, 28, 32, 36, 40]
    assert loop.checkpoint_steps(15, 4)[-1] == 15


def test_a_stream_can_be_read_from_any_step():
    at = loop.rewindable(lambda: iter(range(100)))
    assert [at(3), at(4), at(50), at(2)] == [3, 4, 50, 2]


def test_the_history_is_plain_json(params, tmp_path):
    assert json.loads(json.dumps(run(params, tmp_path).history))
