"""Samples are taken over from another run where they are what this one would draw, and nowhere else."""

import pytest

from cosample_jax import config as config_lib
from cosample_jax import embedded, reuse
from cosample_jax.errors import UserError
from cosample_jax.records import Problem, Sample, read_json, write_json
from cosample_jax.sampling import asking
from cosample_jax.sampling.schedule import Request
from cosample_jax.tasks import prompts
from cosample_jax.workdir import Workdir


def make(root, texts, pools='', **fields):
    """A run with samples (problem, index) of the weak model."""
    config = config_lib.base()
    config.name, config.sampling.pools = 'run', str(pools)
    for name, value in fields.items():
        parent, _, leaf = name.rpartition('__')
        (config_lib.get(config, parent.replace('__', '.')) if parent else config)[leaf] = value
    config, workdir = config_lib.finalize(config), Workdir(root)
    workdir.open(config)
    workdir.write_problems('train', [Problem(name, f'What is {name}?', '1', 'It is 1.') for name in 'abc'])
    store = workdir.pool('train', 'weak')
    asking.store_prompt(store.directory, prompts.template(embedded.tokenizer(), False), [])
    write_json(workdir.model_dir('weak') / 'lineage.json', {'source': 'package:tiny_weak'})
    store.append([Sample(*key, text, [7], 'stop', -1.0, -1.0, 9, 1) for key, text in texts.items()])
    return config, workdir


@pytest.fixture
def other(tmp_path):
    texts = {(name, 'weak', k): f'{name}{k}' for name in 'abc' for k in range(3)}
    return make(tmp_path / 'other', texts)[1]


def requests(count):
    return [Request(name, k, [1, 2]) for name in 'ab' for k in range(count)]


def test_what_is_wanted_and_not_there_yet_is_taken(tmp_path, other):
    config, workdir = make(tmp_path / 'mine', {('a', 'weak', 0): 'my own'}, other.root)
    assert reuse.take(config, workdir, 'weak', requests(2)) == 3
    assert [sample.text for sample in workdir.pool('train', 'weak').read()] == ['my own', 'a1', 'b0', 'b1']
    assert reuse.take(config, workdir, 'weak', requests(2)) == 0  # as after a kill
    assert reuse.take(config, workdir, 'weak', requests(9)) == 2  # the rest is drawn
    assert reuse.take(config, workdir, 'strong', requests(2)) == 0


def test_samples_drawn_otherwise_are_refused(tmp_path, other):
    def refused(match, **fields):
        config, workdir = make(tmp_path / match.replace(' ', '_'), {}, other.root, **fields)
        with pytest.raises(UserError, match=match):
            reuse.take(config, workdir, 'weak', requests(1))

    refused('sampling.temperature 0.7, not 0.9', sampling__temperature=0.9)
    refused('models.weak.temperature 0.0, not 1.0', models__weak__temperature=1.0)
    refused('seed 0, not 3', seed=3)
    config = read_json(other.path('config.json'))
    changed = config | {'pretrain': config['pretrain'] | {'warmup_steps': 7}}
    write_json(other.path('config.json'), changed | {'name': 'trained otherwise'})
    refused('pretrain.warmup_steps 7, not 100', models__weak__init='pretrain')
    write_json(other.path('config.json'), config)
    lineage = read_json(other.model_dir('weak') / 'lineage.json')
    write_json(other.model_dir('weak') / 'lineage.json', lineage | {'source': 'elsewhere'})
    refused('the weights of weak')
    write_json(other.model_dir('weak') / 'lineage.json', lineage)
    prompt = other.pool('train', 'weak').directory / 'prompt.json'
    write_json(prompt, read_json(prompt) | {'sha256': 'another'})
    refused('the prompt of weak')


def test_another_problem_of_the_same_id_is_refused(tmp_path, other):
    config, workdir = make(tmp_path / 'mine', {}, other.root)
    workdir.write_problems('train', [Problem('a', 'What is another?', '1', 'It is 1.')])
    with pytest.raises(UserError, match='problem a of .* is another one'):
        reuse.take(config, workdir, 'weak', requests(1))


def test_no_run_there(tmp_path):
    config, workdir = make(tmp_path / 'mine', {}, tmp_path / 'nowhere')
    with pytest.raises(UserError, match='nowhere is not the workdir of a run'):
        reuse.take(config, workdir, 'weak', requests(1))
