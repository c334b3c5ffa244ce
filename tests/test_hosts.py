"""Processes that are one run: what one does for all, and that all end together, however one ends. Without JAX."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cosample_jax import cli, hosts

SCRIPT = Path(__file__).with_name('hosts_script.py')
DIED = 'died or cannot be reached: the same command on every host continues'


def free_port() -> int:
    with socket.socket() as free:
        free.bind(('localhost', 0))
        return free.getsockname()[1]


def start(mode, directory, count=3, indices=None):
    port = free_port()
    return [
        subprocess.Popen(
            [sys.executable, SCRIPT, *map(str, (count, index, port, mode, directory))],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {'PYTHONPATH': str(SCRIPT.parent.parent)},
        )
        for index in (range(count) if indices is None else indices)
    ]


def ended(processes):
    """[(exit status, what it printed)]; within a minute, or they hang."""
    try:
        printed = [process.communicate(timeout=60)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, text.strip()) for process, text in zip(processes, printed, strict=True)]


def reach(directory, *names):
    end = time.monotonic() + 60
    while not all((directory / name).exists() for name in names):
        assert time.monotonic() < end, list(directory.iterdir())
        time.sleep(0.02)


def test_one_works_and_all_have_what_it_returned(tmp_path):
    processes = start('fine', tmp_path)
    first = processes[0].pid
    assert ended(processes) == [(0, f'done by {first}')] * 3
    assert (tmp_path / 'written').read_text() == '0'
    assert not (tmp_path / 'working-1').exists()


@pytest.mark.parametrize(
    ('mode', 'status', 'line'),
    [
        ('refused', 2, 'cosample: error: there are no problems'),
        ('full', 2, 'cosample: error: the disk is full, writing pools/x.parquet'),
        ('bug', 1, "KeyError: 'x'"),
        ('astray', 1, 'cosample: error: process 1 is at 1: left, process 0 at 1: right'),
        ('fails', 2, 'cosample: error: this disk is gone'),
        ('stuck', 2, 'cosample: error: this disk is gone'),
        (
            'unlike',
            2,
            'process 1 was given another command (run --seed=1) than process 0 (run --seed=0)',
        ),
        ('miscounted', 2, 'process 1 was told of 3 --processes, process 0 of 2'),
    ],
)
def test_all_end_with_the_status_of_the_one_that_failed(tmp_path, mode, status, line):
    """Whether it failed in what it did for all, or where the others cannot know."""
    both = ended(start(mode, tmp_path, count=2))
    assert [each for each, _ in both] == [status] * 2, both
    assert any(line in text for _, text in both), both
    for _, text in both:
        assert text.count('cosample: error:') == 1 or mode == 'bug', text


def test_sigterm_to_one_that_waits_stops_the_one_that_works(tmp_path):
    processes = start('long', tmp_path)
    reach(tmp_path, 'working-0')
    processes[2].send_signal(signal.SIGTERM)
    for status, text in ended(processes):
        assert status == 143 and text.startswith('cosample: stopped by SIGTERM') and '\n' not in text, text


@pytest.mark.parametrize('victim', [0, 1])
def test_a_process_that_is_killed_ends_the_others(tmp_path, victim):
    processes = start('killed', tmp_path)
    reach(tmp_path, 'working-0', 'met-1', 'met-2')
    processes[victim].kill()
    told = time.monotonic()
    found = ended(processes)
    assert time.monotonic() - told < 30
    assert found.pop(victim) == (-signal.SIGKILL, '')
    assert found == [(1, f'cosample: error: process {victim} of 3 {DIED}')] * 2


def test_a_process_that_does_not_come_is_named(tmp_path):
    (first, text), (second, other) = ended(start('late', tmp_path, count=3, indices=(0, 1)))
    assert (first, second) == (2, 2)
    assert 'process 2 of 3 did not come to localhost' in text and 'gave up' in other


def test_a_coordinator_that_is_not_there_is_named(tmp_path):
    ((status, text),) = ended(start('unreachable', tmp_path, count=2, indices=(1,)))
    assert status == 2 and 'process 1 of 2 cannot reach process 0 at localhost' in text and '\n' not in text


@pytest.mark.parametrize(
    ('flags', 'line'),
    [
        (['--processes=2'], '--processes needs --coordinator, too'),
        (['--coordinator=localhost:1', '--processes=2'], '--coordinator needs --process, too'),
        (['--coordinator=localhost', '--processes=2', '--process=0'], 'give it as host:port'),
        (['--coordinator=localhost:1', '--processes=2', '--process=2'], '--process=2 is none of the 2'),
        (['--coordinator=localhost:1', '--processes=2', '--process=one'], '--process=one is no number'),
    ],
)
def test_flags_that_tell_too_little(tmp_path, capsys, repository, monkeypatch, flags, line):
    monkeypatch.chdir(repository)
    assert cli.main(['grade', '--config=configs/arithmetic.py:size=smoke', f'--workdir={tmp_path}', *flags]) == 2
    assert line in capsys.readouterr().err


def test_the_hosts_of_a_slice_need_no_flags(monkeypatch):
    cloud = pytest.importorskip('jax._src.clusters.cloud_tpu_cluster', reason='this JAX asks a slice elsewhere')
    joined = []
    monkeypatch.setattr(hosts, '_may_have_tpus', lambda: True)
    monkeypatch.setattr(hosts, 'join', lambda *args: joined.append(args))
    monkeypatch.setattr(cloud, 'running_in_cloud_tpu_vm', True)
    monkeypatch.setenv('TPU_SKIP_MDS_QUERY', '1')
    monkeypatch.setenv('TPU_WORKER_ID', '1')
    for name in ('COORDINATOR_ADDRESS', 'NUM_SLICES', 'SLICE_ID'):
        monkeypatch.setenv(f'MEGASCALE_{name}', '')
    monkeypatch.setenv('TPU_WORKER_HOSTNAMES', 'localhost')
    hosts.join_slice('run')
    assert joined == []  # one host
    monkeypatch.setenv('TPU_WORKER_HOSTNAMES', 'localhost,other')
    hosts.join_slice('run')
    assert joined == [('localhost:8482', 2, 1, 'run')]


def test_without_the_library_of_tpus_nobody_is_asked(monkeypatch):
    monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
    assert not hosts._may_have_tpus()
    monkeypatch.delenv('JAX_PLATFORMS')
    monkeypatch.delenv('TPU_LIBRARY_PATH', raising=False)
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    assert not hosts._may_have_tpus()
