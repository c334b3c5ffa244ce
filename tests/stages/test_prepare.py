"""prepare: which tokenizer a run gets, and that weights meet the one they were trained with."""

import pytest

from cosample_jax import checkpoint, cli, embedded
from cosample_jax import config as config_lib
from cosample_jax.errors import UserError
from cosample_jax.gemma import tokenizer as tokenizer_lib
from cosample_jax.gemma.config import variant
from cosample_jax.stages import prepare
from cosample_jax.workdir import Workdir


def small_config(init=lambda name: 'pretrain', tokenizer='', judges=()):
    config = config_lib.base()
    config.name, config.tokenizer = 'test', str(tokenizer)
    config.task.num_train = config.task.num_validation = config.task.num_test = config.task.num_functional = 4
    config.evaluate.maj_problems = 4
    for name in config_lib.MODELS:
        config.models[name].init = str(init(name))
    config.judge.by = judges
    config.judge.model.variant, config.judge.model.init = 'tiny_strong', str(init('judge'))
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


@pytest.mark.parametrize('kind', ['huggingface', 'official', 'cosample'])
def test_a_base_model_comes_from_any_format(tmp_path, kind):
    source = str(embedded.FILES / 'tiny_weak.safetensors')
    flags = ['--variant=tiny_weak', f'--from={source}', f'--to={tmp_path}/w', f'--format={kind}']
    assert cli.main(['convert', *flags]) == 0
    workdir = Workdir(tmp_path / 'run')
    config = small_config(lambda name: tmp_path / 'w' if name == 'weak' else 'package')
    prepare.run(config, workdir)
    assert checkpoint.read_lineage(workdir.model_dir('weak'))['format'] == kind
    loaded = checkpoint.load_weights(workdir.model_dir('weak'), variant('tiny_weak'))
    shipped = embedded.load_weights('tiny_weak', variant('tiny_weak'))
    assert (loaded['layers']['mlp']['linear']['w'] == shipped['layers']['mlp']['linear']['w']).all()


def test_weights_that_are_not_there_are_refused_before_anything_is_written(tmp_path):
    workdir = Workdir(tmp_path / 'run')
    config = small_config(lambda name: tmp_path / 'nowhere' if name == 'strong' else 'package')
    with pytest.raises(UserError, match=r'config.models.strong.init: .*nowhere is not there \(`cosample doctor`'):
        prepare.run(config, workdir)
    assert not (tmp_path / 'run').exists()


def test_a_model_that_only_judges_is_imported_where_it_is_asked(tmp_path):
    workdir = Workdir(tmp_path / 'run')
    assert prepare.run(small_config(lambda name: 'package'), workdir)['models_imported'] == 3
    assert not workdir.model_dir('judge').exists()
    assert prepare.run(small_config(lambda name: 'package', judges=('steps', 'judge')), workdir)['models_imported'] == 1
    assert checkpoint.read_lineage(workdir.model_dir('judge'))['variant'] == 'tiny_strong'


def test_a_judge_that_is_not_there_is_refused_before_anything_is_written(tmp_path):
    nowhere = small_config(lambda name: tmp_path / 'nowhere' if name == 'judge' else 'package', judges=('judge',))
    with pytest.raises(UserError, match=r'config.judge.model.init: .*nowhere is not there'):
        prepare.run(nowhere, Workdir(tmp_path / 'run'))
    assert not (tmp_path / 'run').exists()
