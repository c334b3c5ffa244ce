import os
import signal
import subprocess
import sys
import textwrap

import pytest

from cosample_jax import config as config_lib
from cosample_jax import stages
from cosample_jax.errors import UserError
from cosample_jax.records import Problem, Sample, read_json
from cosample_jax.workdir import Workdir


def finalized(**fields):
    config = config_lib.base()
    config.name = 'test'
    for name, value in fields.items():
        config[name] = value
    return config_lib.finalize(config)


def test_open_remembers_the_configuration_and_refuses_another(tmp_path):
    workdir = Workdir(tmp_path / 'run')
    workdir.open(finalized())
    assert read_json(workdir.path('config.json'))['sampling']['temperature'] == 0.7
    Workdir(tmp_path / 'run').open(finalized())
    workdir.write_problems('train', [Problem('p', 'q', 'a', 's')])
    with pytest.raises(UserError, match='another configuration: seed is 0 there, 5 here'):
        Workdir(tmp_path / 'run').open(finalized(seed=5))
    assert read_json(workdir.path('config.json'))['seed'] == 0


def test_a_configuration_that_made_nothing_has_no_claim(tmp_path):
    """It was refused, and is typed again, corrected."""
    workdir = Workdir(tmp_path / 'run')
    workdir.open(finalized())
    workdir.open(finalized(seed=5))
    assert read_json(workdir.path('config.json'))['seed'] == 5


def test_open_records_an_environment_once_and_each_change_of_it(tmp_path, monkeypatch):
    workdir = Workdir(tmp_path)
    workdir.open(finalized())
    workdir.open(finalized())
    (first,) = read_json(workdir.path('versions.json'))
    assert first['python'] and first['jax'] and 'commit' in first
    monkeypatch.setattr('cosample_jax.workdir.environment', lambda: {**first, 'jax': 'other'})
    workdir.open(finalized())
    assert [entry['jax'] for entry in read_json(workdir.path('versions.json'))] == [first['jax'], 'other']


def test_the_stored_configuration_finalizes_to_itself(tmp_path):
    workdir, config = Workdir(tmp_path), finalized(seed=3)
    workdir.open(config)
    again = config_lib.finalize(config_lib.load_resolved(workdir.path('config.json')))
    assert again.to_dict() == config.to_dict()
    workdir.open(again)


def test_problems_keep_their_order(tmp_path):
    workdir = Workdir(tmp_path)
    problems = [Problem(f'p{i}', 'q', 'a', 's') for i in (10, 9, 2)]
    workdir.write_problems('test', problems)
    assert workdir.problems('test') == problems


def test_bad_problem_sets_are_named(tmp_path):
    workdir = Workdir(tmp_path)
    with pytest.raises(UserError, match="'train' split has no problems"):
        workdir.write_problems('train', [])
    with pytest.raises(UserError, match="'train' split is not usable: two records with the key"):
        workdir.write_problems('train', [Problem('p', 'q', 'a', 's')] * 2)
    with pytest.raises(UserError, match='run `cosample prepare`'):
        workdir.problems('train')


def test_the_advice_about_a_damaged_part_makes_its_stage_run_again(tmp_path):
    workdir = Workdir(tmp_path)
    part = workdir.pool('train', 'weak').directory / 'part-00000-000000.parquet'
    part.parent.mkdir(parents=True)
    part.write_bytes(b'PAR1')
    with pytest.raises(UserError, match=f'delete it, then remove {tmp_path}/done and run the same command'):
        workdir.pool('train', 'weak').read()


def test_done_markers(tmp_path):
    workdir = Workdir(tmp_path)
    assert not workdir.is_done('sample')
    with pytest.raises(UserError, match='run `cosample sample'):
        workdir.done_info('sample')
    workdir.mark_done('sample', {'samples': 3})
    workdir.mark_done('grade', {})
    assert workdir.done_info('sample') == {'samples': 3}
    workdir.clear_done('grade', 'analyze')
    assert workdir.is_done('sample') and not workdir.is_done('grade')


def _hold(root, shard=None):
    """A process that holds the workdir's lock until it is killed, with a forked child that outlives it."""
    script = f"""
        import os, time
        from cosample_jax.workdir import Workdir
        with Workdir({str(root)!r}).lock({shard}):
            child = os.fork()
            if child:
                print(child, flush=True)
            else:
                os.close(1)
            time.sleep(60)
    """
    command = [sys.executable, '-c', textwrap.dedent(script)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    return process, int(process.stdout.readline())


def test_one_process_writes_at_a_time_and_a_killed_one_does_not_block(tmp_path):
    process, child = _hold(tmp_path)
    try:
        with (
            pytest.raises(UserError, match=f'another cosample process .pid {process.pid} on .* is writing'),
            Workdir(tmp_path).lock(),
        ):
            pass
        process.kill()
        process.wait()
        with Workdir(tmp_path).lock():  # although the killed process's worker still lives
            os.kill(child, 0)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        os.kill(child, signal.SIGKILL)


def test_shards_write_side_by_side_and_nobody_else_beside_them(tmp_path):
    process, child = _hold(tmp_path, shard=0)
    try:
        with Workdir(tmp_path).lock(1):
            pass
        for shard in (0, None):
            with pytest.raises(UserError, match='is writing'), Workdir(tmp_path).lock(shard):
                pass
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        os.kill(child, signal.SIGKILL)
    process, child = _hold(tmp_path)
    try:
        with pytest.raises(UserError, match='is writing'), Workdir(tmp_path).lock(0):
            pass
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        os.kill(child, signal.SIGKILL)


def test_the_parts_of_shards_have_names_of_their_own(tmp_path):
    workdirs = [Workdir(tmp_path), Workdir(tmp_path, process=1)]
    workdirs += [workdir.of_shard(shard) for workdir in workdirs for shard in range(2)]
    for number, workdir in enumerate(workdirs):
        workdir.pool('train', 'weak').append([Sample(f'p{number}', 'weak', 0, '', [], 'stop', 0.0, 0.0, 1, 1)])
    names = sorted(part.name for part in tmp_path.glob('pools/train/weak/part-*'))
    assert names == [f'part-{n:05d}-000000.parquet' for n in (0, 1, 1000, 1001, 2000, 2001)]


@pytest.fixture
def calls(monkeypatch):
    """Stages replaced by ones that note their names."""
    made = []

    class Fake:
        def __init__(self, name):
            self.name = name.rpartition('.')[2]

        def run(self, config, workdir):
            made.append(self.name)
            if config == f'break {self.name}':
                raise KeyboardInterrupt
            return {'count': len(made)}

    monkeypatch.setattr('importlib.import_module', Fake)
    return made


def test_execute_does_each_stage_once_and_marks_it_last(tmp_path, calls):
    workdir = Workdir(tmp_path)
    for _ in range(2):
        for stage in stages.STAGES:
            stages.execute(stage, None, workdir)
    assert calls == list(stages.STAGES)
    info = workdir.done_info('grade')
    assert info['count'] == 4 and info['seconds'] >= 0 and info['attempts'] == 1


def test_an_interrupted_stage_is_not_done_and_its_attempts_are_counted(tmp_path, calls):
    workdir = Workdir(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        stages.execute('prepare', 'break prepare', workdir)
    assert not workdir.is_done('prepare')
    stages.execute('prepare', None, workdir)
    assert workdir.done_info('prepare')['attempts'] == 2


def test_a_stage_without_its_inputs_is_refused(tmp_path, calls):
    with pytest.raises(UserError, match='grade needs sample.*cosample sample --workdir='):
        stages.execute('grade', None, Workdir(tmp_path))
    assert calls == []


def test_a_report_made_early_is_made_again_when_more_is_done(tmp_path, calls):
    workdir = Workdir(tmp_path)
    early = ('prepare', 'pretrain', 'sample', 'grade', 'judge', 'analyze', 'report')
    for stage in (*early, *stages.STAGES):
        stages.execute(stage, None, workdir)
    assert calls == [*early, 'finetune', 'evaluate', 'report']
