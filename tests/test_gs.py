"""A workdir on gs://, through the real clients, gcsfs and TensorStore, to a bucket on this machine (gcs_server.py)."""

import os
import random
import re
import signal
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from gcs_server import PAGE, GcsServer
from hosts_run import SMOKE, cosample, start, tables, trained, wait

from cosample_jax import checkpoint, embedded
from cosample_jax.gemma.config import variant
from cosample_jax.records import Problem, Store, commit, read_json, write_json
from cosample_jax.workdir import Workdir

TINY = variant('tiny_student')


@pytest.fixture(scope='module', autouse=True)
def server():
    """One for all tests of this process: TensorStore asks the environment once."""
    with GcsServer() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture
def workdir(server, request):
    """A place of its own in the bucket. Afterwards the server behaves again."""
    yield Workdir(f'gs://bucket/{request.node.name}')
    server.fault = lambda *request: None


@pytest.fixture(scope='module')
def student():
    return embedded.load_weights('tiny_student', TINY)


def problems(*names):
    return [Problem(name, 'a question', '1', 'a solution') for name in names]


def equal(one, other):
    return jax.tree.all(jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), one, other))


def test_files_are_written_and_read(workdir):
    write_json(workdir.path('a', 'b.json'), {'x': 1})
    large = random.Random(0).randbytes(6_000_000)  # in more than one piece
    commit(workdir.path('a', 'c.bin'), large)

    assert read_json(workdir.path('a', 'b.json')) == {'x': 1}
    assert workdir.path('a', 'c.bin').read_bytes() == large
    assert [path.name for path in sorted(workdir.path('a').iterdir())] == ['b.json', 'c.bin']


def test_parts_of_other_hosts_are_seen(workdir, server, tmp_path):
    here = Store(workdir.path('pool'), Problem)
    here.append(problems('a'))
    assert len(here) == 1  # so it was listed

    # Written as by another machine: nothing in this process hears of it.
    Store(tmp_path, Problem, process=1).append(problems('b', 'c'))
    part = (tmp_path / 'part-00001-000000.parquet').read_bytes()
    server.put(f'{workdir.root.name}/pool/part-00001-000000.parquet', part)

    assert [problem.id for problem in here.read()] == ['a', 'b', 'c'] and len(here) == 3


def test_more_parts_than_a_page_of_a_listing_has(workdir):
    store = Store(workdir.path('pool'), Problem)
    for number in range(PAGE + 2):
        store.append(problems(f'p{number:02d}'))

    assert len(store) == PAGE + 2


def test_what_may_pass_is_asked_again(workdir, server, student):
    """An answer that is lost after the request was carried out, too."""
    faults = {'POST': [503, 'lost', None, 'reset', 429], 'GET': [None, 503, 'reset', None, 429, 'lost']}
    server.fault = lambda method, *_: faults[method].pop() if faults.get(method) else None

    checkpoint.save_weights(workdir.model_dir('student'), student, {'source': 'test'})
    back = checkpoint.load_weights(workdir.model_dir('student'), TINY)

    assert equal(back, student) and not any(faults.values())
    assert server.faults == dict.fromkeys([503, 429, 'reset', 'lost'], 2)


def test_a_training_state_is_whole_or_not_there(workdir, server, student):
    place = workdir.path('cell')
    run = checkpoint.RunCheckpoints(place)
    run.save_state(10, student, {'loss': 1.5})
    run.save_weights(10, student, accuracy=0.5)
    run.close()

    # As a kill leaves it that comes before the last file.
    server.fault = lambda method, name, number: 403 if name.endswith('20/commit_success.txt') else None
    run = checkpoint.RunCheckpoints(place)
    with pytest.raises(OSError):
        run.save_state(20, jax.tree.map(lambda x: x + 1, student), {'loss': 1.0})
    assert [name for name in server.names(f'{workdir.root.name}/cell/state/20/') if 'd/' in name]
    server.fault = lambda *request: None

    run = checkpoint.RunCheckpoints(place)
    state, told = run.restore_state(student)
    assert told == {'loss': 1.5} and equal(state, student)
    assert equal(run.load_best(TINY), student)
    run.close()


def fetched(server, name, directory):
    """A copy of a run in the bucket."""
    for each in server.names(f'{name}/'):
        path = directory / each
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(server.buckets['bucket'][each].data)
    return directory / name


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """What a run on a disk comes to, by one process with two devices."""
    root = tmp_path_factory.mktemp('whole') / 'wd'
    cosample('run', *SMOKE, '--config.mesh.data=2', f'--workdir={root}', devices=2)
    return root


@pytest.mark.slow
def test_a_run_that_is_killed_and_whose_requests_fail_ends_as_one_on_a_disk(server, whole, tmp_path):
    rng, killed = random.Random(0), []
    targets = [
        'data/train',
        'pools/train/strong/part-',
        'metrics.jsonl',
        'finetune/.*/weights/',
        'evaluate/cells/',
        'report/tables/',
    ]

    def fault(method, name, number):
        if targets and method == 'POST' and re.match(f'run/.*{targets[0]}', name):
            os.kill(process.pid, signal.SIGKILL)
            killed.append(targets.pop(0))
            return 'lost'
        return rng.choice([503, 429, 'reset', 'lost']) if rng.random() < 0.02 else None

    server.fault = fault
    command = ('run', *SMOKE, '--config.mesh.data=2', '--workdir=gs://bucket/run')
    while targets:
        (process,) = start(*command, devices=2)
        (ended,) = wait([process])
        assert ended.status == -signal.SIGKILL, ended.printed
    (process,) = start(*command, devices=2)
    (ended,) = wait([process])
    server.fault = lambda *request: None

    print(f'killed while writing {killed}; {sum(server.requests.values())} requests, faults {dict(server.faults)}')
    assert ended.status == 0, ended.printed
    here = fetched(server, 'run', tmp_path)
    assert tables(here) == tables(whole)
    assert trained(here) == trained(whole) and trained(whole)


@pytest.mark.slow
def test_two_hosts_share_a_bucket(server, whole, tmp_path):
    cosample('run', *SMOKE, '--config.mesh.data=2', '--workdir=gs://bucket/hosts', count=2)

    here = fetched(server, 'hosts', tmp_path)
    assert tables(here) == tables(whole) and trained(here) == trained(whole)
