"""configs/arithmetic_remote.py through `cosample serve`: its pools are those of the run whose models are served."""

import pytest
from serving_run import PROMPT_TOKENS, running

from cosample_jax import config as config_lib
from cosample_jax import stages
from cosample_jax.commands import serve
from cosample_jax.serving.app import Server
from cosample_jax.workdir import Workdir

SOURCES = ('weak', 'strong')


@pytest.fixture(scope='module')
def both(run):
    """The address of a server of both sources; the run of the fixture `run` has sampled, too."""
    config, workdir = run
    for stage in ('prepare', 'pretrain', 'sample'):
        stages.execute(stage, config, workdir)
    models = serve.load(config, workdir, SOURCES, PROMPT_TOKENS)
    with running(Server(models, created=1)) as url:
        yield url
    for served in models:
        served.live.close(0)
        served.live.join(30)


@pytest.mark.parametrize('samples', [1, 4])
def test_pools_are_those_of_a_local_run(run, both, tmp_path, repository, samples):
    remote = config_lib.load(f'{repository}/configs/arithmetic_remote.py:size=smoke,samples={samples},url={both}/v1')
    remote.task.num_train = run[0].task.num_train
    remote = config_lib.finalize(remote)
    workdir = Workdir(tmp_path)
    workdir.open(remote)
    for stage in ('prepare', 'pretrain', 'sample', 'grade'):
        stages.execute(stage, remote, workdir)
    for source in SOURCES:
        local, drawn = (where.pool('train', source).read() for where in (run[1], workdir))
        assert len(drawn) == len(local) > 0
        for ours, theirs in zip(local, drawn, strict=True):
            for field in ('problem_id', 'sample_index', 'text', 'finish', 'prompt_tokens'):
                assert getattr(theirs, field) == getattr(ours, field)
        if samples == 1:
            assert [s.num_tokens for s in drawn] == [s.num_tokens for s in local]
        assert sum(s.num_tokens for s in drawn) == sum(s.num_tokens for s in local)  # of several, each has its share
    account = workdir.ledger.accounts()['weak']
    assert account.requests == 12 * -(-6 // samples) and account.usd == account.lost == 0


def test_another_seed_draws_other_samples(run, both, tmp_path, repository):
    remote = config_lib.load(f'{repository}/configs/arithmetic_remote.py:size=smoke,url={both}/v1')
    remote.task.num_train, remote.seed = run[0].task.num_train, 1
    remote.roles.sources = ('strong',)
    remote = config_lib.finalize(remote)
    workdir = Workdir(tmp_path)
    workdir.open(remote)
    for stage in ('prepare', 'pretrain', 'sample'):
        stages.execute(stage, remote, workdir)
    texts = [sample.text for where in (run[1], workdir) for sample in where.pool('train', 'strong').read()]
    assert len(texts) == 48 and sum(a != b for a, b in zip(texts[:24], texts[24:], strict=True)) > 12
