"""prepare: which tokenizer a run gets, and that weights meet the one they were trained with."""

import pytest

from cosample_jax import config as config_lib
from cosample_jax import embedded
from cosample_jax.errors import UserError
from cosample_jax.gemma import tokenizer as tokenizer_lib
from cosample_jax.stages import prepare
from cosample_jax.workdir import Workdir


def small_config(init=lambda name: 'pretrain', tokenizer=''):
    config = config_lib.base()
    config.name, config.tokenizer = 'test', str(tokenizer)
    config.task.num_train = config.task.num_validation = config.task.num_test = config.task.num_functional = 4
    config.evaluate.maj_problems = 4
    for name in config_lib.MODELS:
        config.models[name].init = str(init(name))
    return config_lib.finalize(config)


@pytest.fixture
def other_tokenizer(tmp_path):
    """Of the right size for the tiny models, but another one than they ship with."""
    path = tmp_path / 'other.model'
    words = (f'{a}{b}{c}' for a in 'abcdefg' for b in 'hijklm' for c in 'nopqr')
    tokenizer_lib.train(path, [' '.join(words)] + [chr(code) for code in range(0x100, 0x180)], 256)
    return path


def test_the_given_tokenizer_becomes_the_runs(tmp_path, other_tokenizer):
    workdir = Workdir(tmp_path / 'run')
    prepare.run(small_config(tokenizer=other_tokenizer), workdir)
    assert workdir.tokenizer_path.read_bytes() == other_tokenizer.read_bytes() != embedded.tokenizer_bytes()


def test_a_wrong_tokenizer_is_refused_before_anything_is_written(tmp_path, gemma_tokenizer):
    workdir = Workdir(tmp_path / 'run')
    with pytest.raises(UserError, match='a tokenizer of this package .* is the tokenizer of Gemma 3'):
        prepare.run(small_config(tokenizer=gemma_tokenizer('gemma3')), workdir)
    assert not (tmp_path / 'run').exists()


def test_weights_meet_the_tokenizer_they_were_trained_with(tmp_path, other_tokenizer):
    """Two tokenizers of one size and one set of special pieces: only the lineage of the weights tells them apart."""
    first = Workdir(tmp_path / 'first')
    prepare.run(small_config(lambda name: 'package'), first)
    right = small_config(first.model_dir, first.tokenizer_path)
    assert prepare.run(right, Workdir(tmp_path / 'right'))['models_imported'] == 3
    wrong = small_config(first.model_dir, other_tokenizer)
    with pytest.raises(UserError, match='were trained with another tokenizer .* tokenizer/tokenizer.model of their'):
        prepare.run(wrong, Workdir(tmp_path / 'wrong'))
