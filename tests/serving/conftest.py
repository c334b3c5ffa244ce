"""A run of the embedded task with one of its models served, and clients of it."""

import sys
from pathlib import Path
from types import SimpleNamespace

import openai
import pytest

from cosample_jax import config as config_lib
from cosample_jax.commands import serve
from cosample_jax.serving.app import Server
from cosample_jax.stages import prepare
from cosample_jax.workdir import Workdir

sys.path.insert(0, str(Path(__file__).parent))  # importlib mode leaves it alone
from serving_run import MODEL, PROMPT_TOKENS, running


@pytest.fixture(scope='session')
def run(tmp_path_factory, repository):
    """(config, workdir) of a small run that is prepared."""
    config = config_lib.load(f'{repository}/configs/arithmetic.py:size=smoke')
    config.task.num_train = 12
    config = config_lib.finalize(config)
    workdir = Workdir(tmp_path_factory.mktemp('run'))
    workdir.open(config)
    prepare.run(config, workdir)
    return config, workdir


@pytest.fixture(scope='session')
def served(run):
    config, workdir = run
    (served,) = serve.load(config, workdir, [MODEL], PROMPT_TOKENS)
    yield served
    served.live.close(0)
    served.live.join(30)


@pytest.fixture(scope='session')
def server(served):
    with running(Server([served], created=1)) as url:
        yield SimpleNamespace(url=url, live=served.live, served=served)


@pytest.fixture(scope='session')
def client(server):
    with openai.OpenAI(base_url=f'{server.url}/v1', api_key='none', max_retries=0) as client:
        yield client
