"""Weights: what is saved comes back, what does not fit is named weight by weight."""

import jax
import numpy as np
import pytest

from cosample_jax import checkpoint, embedded
from cosample_jax.errors import UserError
from cosample_jax.gemma import model
from cosample_jax.gemma.config import variant


@pytest.fixture(scope='module')
def weak():
    return embedded.load_weights('tiny_weak', variant('tiny_weak'))


def equal(one, other):
    return jax.tree.all(jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), one, other))


@pytest.mark.parametrize('name', ['tiny_weak', 'tiny_strong', 'tiny_student'])
def test_the_shipped_weights_are_the_variants(name):
    params = embedded.load_weights(name, variant(name))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == variant(name).num_params()


def test_the_strong_model_is_three_times_the_weak_one():
    ratio = variant('tiny_strong').num_params() / variant('tiny_weak').num_params()
    assert abs(ratio - 3.0) <= 0.02


def test_weights_and_lineage_come_back(tmp_path, weak):
    checkpoint.save_weights(tmp_path / 'm', weak, {'source': 'test'})
    back = checkpoint.load_weights(tmp_path / 'm', variant('tiny_weak'))
    assert equal(back, weak)
    assert checkpoint.read_lineage(tmp_path / 'm') == {'source': 'test'}


def test_weights_that_are_there_stay(tmp_path, weak):
    checkpoint.save_weights(tmp_path / 'm', weak, {'source': 'first'})
    checkpoint.save_weights(tmp_path / 'm', jax.tree.map(lambda x: x + 1, weak), {'source': 'second'})
    back = checkpoint.load_weights(tmp_path / 'm', variant('tiny_weak'))
    assert equal(back, weak)


def test_the_wrong_variant_is_refused_and_each_culprit_named(tmp_path, weak):
    checkpoint.save_weights(tmp_path / 'm', weak, {})
    with pytest.raises(UserError) as refused:
        checkpoint.load_weights(tmp_path / 'm', variant('tiny_student'))
    message = str(refused.value)
    assert 'does not hold tiny_student weights' in message
    assert 'layers/post_ffw_norm/scale is not part of the model' in message
    assert 'layers/mlp/linear/w is (3, 112, 40), not (3, 88, 40)' in message


def test_a_directory_without_weights_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match='no weights in .* run `cosample prepare`'):
        checkpoint.load_weights(tmp_path, variant('tiny_weak'))


def test_unknown_shipped_weights_are_one_line():
    with pytest.raises(UserError, match='no weights of gemma2_2b ship'):
        embedded.load_weights('gemma2_2b', variant('gemma2_2b'))


def test_writing_the_shipped_format_round_trips(tmp_path, weak, monkeypatch):
    embedded.write_weights(tmp_path / 'tiny_weak.safetensors', weak)
    monkeypatch.setattr(embedded, 'FILES', tmp_path)
    assert equal(embedded.load_weights('tiny_weak', variant('tiny_weak')), weak)


def test_initial_weights_are_those_of_the_analytic_count():
    shapes = jax.eval_shape(lambda key: model.init(variant('tiny_gemma3'), key), jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == variant('tiny_gemma3').num_params()
