"""`cosample` on several hosts: the tables of one, also after the death of a process, and of shards side by side."""

import os
import signal
import time

import hosts_run
import pytest
from hosts_run import cosample, start, tables, trained, wait, wait_until

from cosample_jax.records import Sample, Store

SMOKE = (*hosts_run.SMOKE, '--config.evaluate.splits=("test",)')
TWO, FOUR = (*SMOKE, '--config.mesh.data=2'), (*SMOKE, '--config.mesh.data=2', '--config.mesh.fsdp=2')

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """What one process with two devices comes to, left in peace."""
    root = tmp_path_factory.mktemp('whole') / 'wd'
    cosample('run', *TWO, f'--workdir={root}', devices=2)
    return root


def samples(root, model):
    return Store(root / 'pools' / 'train' / model, Sample).read()


def test_two_processes_whatever_ends_them_come_to_the_tables_of_one(whole, tmp_path):
    """Killed or told to stop, one of them or the other, in every stage with devices: all end, and go on together."""
    for stage, victim, how in (
        ('sample', 1, signal.SIGKILL),
        ('finetune', 1, signal.SIGTERM),
        ('finetune', 0, signal.SIGKILL),
        ('evaluate', 1, signal.SIGKILL),
    ):
        processes = start('run', *TWO, f'--workdir={tmp_path}', count=2)
        wait_until((tmp_path / 'started' / f'{stage}.json').exists, processes)
        time.sleep(3)
        assert not (tmp_path / 'done' / f'{stage}.json').exists()
        os.kill(processes[victim].pid, how)
        told = time.monotonic()
        ended = wait(processes)
        print(stage, how.name, f'{time.monotonic() - told:.1f} s', ended[1 - victim].error)
        if how == signal.SIGTERM:
            assert [each.status for each in ended] == [143, 143], ended
        else:
            assert [ended[victim].status, ended[1 - victim].status] == [-signal.SIGKILL, 1], ended
            assert ended[1 - victim].error.startswith(f'cosample: error: process {victim} of 2 died'), ended
    cosample('run', *TWO, f'--workdir={tmp_path}', count=2)
    assert tables(tmp_path) == tables(whole)
    assert trained(tmp_path) == trained(whole) and trained(whole)
    for model in ('weak', 'strong'):
        assert samples(tmp_path, model) == samples(whole, model)


def test_processes_of_several_devices_come_to_the_tables_of_one(tmp_path):
    one, two, four = (tmp_path / name for name in ('one', 'two', 'four'))
    cosample('run', *FOUR, f'--workdir={one}', devices=4)
    cosample('run', *FOUR, f'--workdir={two}', count=2, devices=2)
    cosample('run', *FOUR, f'--workdir={four}', count=4)
    assert tables(two) == tables(one)
    assert tables(four) == tables(one)


def test_shards_side_by_side_fill_the_pools_that_one_run_fills(whole, tmp_path):
    for stage in ('prepare', 'pretrain'):
        cosample(stage, *TWO, f'--workdir={tmp_path}', devices=2)
    shards = [start('sample', *TWO, f'--shard={i}/2', f'--workdir={tmp_path}', devices=2)[0] for i in range(2)]
    wait_until(lambda: all((tmp_path / f'.lock-shard-{i}').exists() for i in range(2)), shards)
    (beside,) = wait(start('prepare', *TWO, f'--workdir={tmp_path}', devices=2))
    assert beside.status == 2 and 'is writing' in beside.error
    (twice,) = wait(start('sample', *TWO, '--shard=1/2', f'--workdir={tmp_path}', devices=2))
    assert twice.status == 2 and 'is writing' in twice.error
    for ended in wait(shards):
        assert ended.status == 0, ended.printed
    assert (tmp_path / 'done' / 'sample.json').exists()
    for model in ('weak', 'strong'):
        assert samples(tmp_path, model) == samples(whole, model)
        parts = {part.name.split('-')[1] for part in (tmp_path / 'pools' / 'train' / model).glob('part-*')}
        assert parts == {'01000', '02000'}


def test_what_prepare_refuses_ends_all(tmp_path):
    refused = '--config.task.num_train=0'
    ended = wait(start('prepare', *TWO, refused, f'--workdir={tmp_path}', count=2))
    assert [each.status for each in ended] == [2, 2], ended
    assert ended[0].error == ended[1].error and ended[0].error.startswith('cosample: error: '), ended
