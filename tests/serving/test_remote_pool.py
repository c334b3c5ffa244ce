"""configs/arithmetic_remote.py through `cosample serve`: its pools are those of the run whose models are served."""

import pytest
from serving_run import MODEL

from cosample_jax import cells, config_schema, stages
from cosample_jax import config as config_lib
from cosample_jax.workdir import Workdir
from cosample_jax.writers import Writer


@pytest.fixture(scope='module')
def local(run):
    """The samples of the run itself."""
    config, workdir = run
    counts = cells.pool_counts(config, MODEL, workdir.problems('train'))
    writer = Writer(config, workdir, MODEL, counts.__getitem__)
    writer.fill(writer.requests)
    return writer.store.read()


def drawn(server, repository, root, seed=0, samples=1):
    """The workdir of a run whose source is the served model."""
    config = config_lib.load(f'{repository}/configs/arithmetic_remote.py:size=smoke,url={server.url}/v1')
    config.task.num_train, config.seed, config.roles.sources = 12, seed, (MODEL,)
    config.models[MODEL].api.samples = samples
    config_schema.use_api(config, 'strong', f'openai:{MODEL}@{server.url}/v1')  # is asked nothing
    config = config_lib.finalize(config)
    workdir = Workdir(root)
    workdir.open(config)
    for stage in ('prepare', 'pretrain', 'sample', 'grade'):
        stages.execute(stage, config, workdir)
    return workdir


@pytest.mark.parametrize('samples', [1, 4])
def test_the_pool_is_that_of_a_local_run(server, local, repository, tmp_path, samples):
    workdir = drawn(server, repository, tmp_path, samples=samples)
    theirs = workdir.pool('train', MODEL).read()
    assert len(theirs) == len(local) == 72
    for field in ('problem_id', 'sample_index', 'text', 'finish', 'prompt_tokens'):
        assert [getattr(sample, field) for sample in theirs] == [getattr(sample, field) for sample in local]
    told, counted = [s.num_tokens for s in theirs], [s.num_tokens for s in local]
    assert sum(told) == sum(counted) and (told == counted or samples > 1)  # of several, each is told its share
    account = workdir.ledger.accounts()[MODEL]
    assert account.requests == 12 * -(-6 // samples) and account.usd == account.lost == 0


def test_another_seed_draws_other_samples(server, local, repository, tmp_path):
    theirs = drawn(server, repository, tmp_path, seed=1).pool('train', MODEL).read()
    assert sum(a.text != b.text for a, b in zip(theirs, local, strict=True)) > 36
