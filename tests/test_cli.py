import errno
import os
import subprocess
import sys
import time
import types

import pytest

from cosample_jax import cli, stages
from cosample_jax.errors import UserError
from cosample_jax.records import Sample, read_json
from cosample_jax.workdir import Workdir


@pytest.fixture
def config(repository):
    return f'--config={repository}/configs/arithmetic.py:size=smoke'


@pytest.fixture
def ran(monkeypatch):
    """The stages and commands that the cli would have started; their work is left out."""
    made = []

    def execute(stage, config, workdir):
        made.append(stage)
        workdir.mark_done(stage, {'seconds': 1.0, 'samples': 1234})

    monkeypatch.setattr(stages, 'execute', execute)
    plan = types.ModuleType('cosample_jax.plan')
    plan.predict = lambda config: {'stages': {'sample': {'seconds': 2.0}}}
    plan.require_fit = lambda prediction: None
    plan_tables = types.ModuleType('cosample_jax.plan_tables')
    plan_tables.print_all = lambda prediction: print('the plan')
    for module in (plan, plan_tables):
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(module.__name__, module, raising=False)
    return made


def one_line(capsys):
    err = capsys.readouterr().err
    assert err.startswith('cosample: error: ') and err.count('\n') == 1, err
    return err


def test_help_is_immediate_and_needs_nothing_heavy():
    start = time.monotonic()
    done = subprocess.run([sys.executable, '-m', 'cosample_jax.cli', '--help'], capture_output=True, text=True)
    seconds = time.monotonic() - start
    assert done.returncode == 0 and all(f'  {verb}' in done.stdout for verb in cli.VERBS)
    assert seconds < 1
    script = (
        'import sys; from cosample_jax import cli; cli.main(["--help"]); cli.main(["run", "--help"]); '
        'print(sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)'
    )
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, check=True)
    for heavy in ('absl', 'jax', 'ml_collections', 'pyarrow', 'rich', 'etils', 'numpy'):
        assert f"'{heavy}'" not in done.stderr


@pytest.mark.parametrize('verb', cli.VERBS)
def test_every_verb_has_help(capsys, verb):
    assert cli.main([verb, '--help']) == 0
    text = capsys.readouterr().out
    assert cli.main(['help', verb]) == 0
    assert capsys.readouterr().out == text and cli.VERBS[verb].help in text
    assert all(len(line) <= 120 for line in text.splitlines())


def test_version(capsys):
    assert cli.main(['--version']) == 0
    assert capsys.readouterr().out.startswith('cosample 0.')


def test_the_verbs_are_the_stages_and_the_commands_on_disk(repository):
    # Sampling is a stage or one shard of it, judging also what people do, reporting also of several runs: these have a
    # file in both.
    both = ('sample', 'judge', 'report')
    assert [name for name in cli.VERBS if not cli.VERBS[name].module or name in both] == ['run', *stages.STAGES]
    files = {path.stem for path in (repository / 'cosample_jax' / 'commands').glob('[!_]*.py')}
    named = {verb.module.rpartition('.')[2] for verb in cli.VERBS.values() if verb.module}
    assert files == named


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        ([], 'no verb given'),
        (['sampel'], "unknown verb 'sampel' (did you mean 'sample'?)"),
        (['help', 'rum'], "did you mean 'run'"),
        (['--workdir=x', 'run'], 'the verb comes first'),
        (['run'], '--config is needed'),
        (['run', '--config'], 'Missing value'),
        (['run', '--config=none.py'], 'no file none.py'),
        (['run', 'CONFIG', 'extra'], "unexpected argument 'extra'"),
        (['run', 'CONFIG', '--wrkdir=x'], "unknown flag --wrkdir (did you mean 'workdir'?)"),
        (['run', 'CONFIG,sise=2'], "unknown config argument 'sise' (did you mean 'size'?)"),
        (['run', 'CONFIG', '--config.bugdet.params=exact'], "(did you mean 'budget.params'?)"),
        (['run', 'CONFIG', '--config.sampling=3'], '--config.sampling is a group'),
        (['run', 'CONFIG', '--config.seed=x'], '--config.seed=x'),
        (['run', 'CONFIG', '--config.seed=1.5'], '--config.seed=1.5'),
        (['run', 'CONFIG', '--config.sampling.temperature=warm'], '--config.sampling.temperature=warm'),
        (['run', 'CONFIG', '--config.budget.weak.low=5'], 'config.budget.weak.low is derived'),
        (['run', 'CONFIG', '--config.budget.ratio=5'], 'config.budget.ratio is derived'),
        (['run', 'CONFIG', '--config.models.weak.variant=tiny_weka'], 'tiny_weak'),
        (['status'], '--workdir is needed'),
        (['status', '--workdir=nowhere'], 'nowhere is not the workdir of a run'),
        (['status', '--workdir=x', '--config.seed=1'], 'takes no configuration'),
        (['grade-file', '--task=gsm8k'], 'needs --input'),
        (['generate', 'CONFIG', '--n=many', '--model=weak'], '--n=many'),
    ],
)
def test_a_mistake_is_one_line_and_exit_2_and_nothing_is_written(
    capsys, tmp_path, monkeypatch, config, ran, argv, message
):
    monkeypatch.chdir(tmp_path)
    argv = [arg.replace('CONFIG', config) for arg in argv]
    assert cli.main(argv) == 2
    assert message in one_line(capsys)
    assert ran == [] and list(tmp_path.iterdir()) == []


def test_run_plans_does_every_stage_and_sums_up(capsys, tmp_path, config, ran):
    root = tmp_path / 'run'
    assert cli.main(['run', f'--workdir={root}', '--config.seed=7', config]) == 0
    assert ran == list(stages.STAGES)
    out = capsys.readouterr().out
    assert out.startswith('the plan') and '1,234' in out
    assert out.strip().endswith(f'report: {root}/report/index.html')
    assert read_json(root / 'config.json')['seed'] == 7
    assert read_json(root / 'plan.json') == {'stages': {'sample': {'seconds': 2.0}}}


def test_overrides_reach_the_configuration(config):
    argv = [config, '--config.finetune.learning_rate.weak=1e-4', '--config.sampling.temperature=1']
    args = cli.parse_flags('run', [*argv, '--config.finetune.seeds=(3,4)', '--config.task.num_train', '9'])
    assert args.config.finetune.learning_rate.weak == (1e-4,)
    assert args.config.sampling.temperature == 1.0 and args.config.finetune.seeds == (3, 4)
    assert args.config.task.num_train == 9


def test_the_workdir_has_a_default_and_remembers_its_configuration(tmp_path, monkeypatch, config, ran):
    monkeypatch.chdir(tmp_path)
    assert cli.main(['prepare', config, '--config.seed=4']) == 0
    assert read_json('runs/arithmetic-smoke/config.json')['seed'] == 4
    assert cli.main(['pretrain', '--workdir=runs/arithmetic-smoke']) == 0
    assert ran == ['prepare', 'pretrain']


def test_the_workdir_of_another_configuration_is_refused(capsys, tmp_path, config, ran):
    assert cli.main(['prepare', config, f'--workdir={tmp_path}']) == 0
    capsys.readouterr()
    assert cli.main(['pretrain', config, f'--workdir={tmp_path}', '--config.sampling.top_k=4']) == 2
    assert 'sampling.top_k is 3 there, 4 here' in one_line(capsys)
    assert ran == ['prepare']


def test_status_reads_while_another_process_writes(capsys, tmp_path, config, ran):
    assert cli.main(['prepare', config, f'--workdir={tmp_path}']) == 0
    workdir = Workdir(tmp_path)
    workdir.pool('train', 'weak').append(
        [Sample('p', 'weak', i, 'text', [1], 'stop', 0.0, 0.0, 1, 1) for i in range(1500)]
    )
    before = sorted(tmp_path.rglob('*'))
    script = (
        'import sys; from cosample_jax.workdir import Workdir\n'
        'with Workdir(sys.argv[1]).lock(): print("held", flush=True); sys.stdin.read()'
    )
    command = [sys.executable, '-c', script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == 'held\n'
        capsys.readouterr()
        assert cli.main(['status', f'--workdir={tmp_path}']) == 0
        out = capsys.readouterr().out
        assert cli.main(['sample', f'--workdir={tmp_path}']) == 2
        assert 'another cosample process' in one_line(capsys)
        holder.stdin.close()
    assert 'prepare' in out and 'done' in out and '1,500' in out
    assert sorted(tmp_path.rglob('*')) == before


@pytest.mark.parametrize(
    ('error', 'status', 'message'),
    [
        (UserError('two\nlines'), 2, 'cosample: error: two lines\n'),
        (KeyboardInterrupt(), 130, '\ncosample: interrupted; the same command continues from here\n'),
        (OSError(errno.ENOSPC, 'No space left on device', 'pools/x'), 2, 'the disk is full, writing pools/x'),
        (
            ValueError('RESOURCE_EXHAUSTED: No space left on device: /a/b'),
            2,
            'the disk is full, writing {root}',
        ),
        (
            PermissionError(errno.EACCES, 'Permission denied', 'x'),
            2,
            'no permission for x (Permission denied)',
        ),
    ],
)
def test_what_goes_wrong_inside_a_stage(capsys, tmp_path, monkeypatch, config, error, status, message):
    def execute(*_):
        raise error

    monkeypatch.setattr(stages, 'execute', execute)
    assert cli.main(['prepare', config, f'--workdir={tmp_path}']) == status
    err = capsys.readouterr().err
    assert message.format(root=tmp_path) in err and err.strip().count('\n') == 0


def test_a_bug_keeps_its_traceback(tmp_path, monkeypatch, config):
    def execute(*_):
        raise KeyError('bug')

    monkeypatch.setattr(stages, 'execute', execute)
    with pytest.raises(KeyError):
        cli.main(['prepare', config, f'--workdir={tmp_path}'])


def test_a_reader_that_goes_away_is_no_error(tmp_path, config, ran):
    assert cli.main(['prepare', config, f'--workdir={tmp_path}']) == 0
    command = f'{sys.executable} -m cosample_jax.cli status --workdir={tmp_path} | true'
    done = subprocess.run(['bash', '-c', command], capture_output=True, text=True, env={**os.environ, 'COLUMNS': '80'})
    assert 'Traceback' not in done.stderr


def test_gs_paths_without_their_package_are_one_line(monkeypatch, capsys):
    def refuse(*_, **__):
        raise ImportError('Please install gcsfs to access Google Storage')

    monkeypatch.setattr('cosample_jax.workdir.Workdir.path', refuse)
    assert cli.main(['status', '--workdir=gs://nobody/run']) == 2
    assert "pip install -e '.[gcs]'" in capsys.readouterr().err


def test_a_bucket_that_cannot_be_reached_is_one_line_and_no_mistake(monkeypatch, capsys):
    class ClientConnectorError(OSError):
        __module__ = 'aiohttp.client_exceptions'

    def refuse(*_, **__):
        raise ClientConnectorError('Cannot connect to host storage')

    monkeypatch.setattr('cosample_jax.workdir.Workdir.path', refuse)
    assert cli.main(['status', '--workdir=gs://nobody/run']) == 1
    assert one_line(capsys).startswith('cosample: error: gs://nobody/run cannot be reached or read: Cannot connect')


def test_slots_may_be_left_to_the_device():
    args = cli.parse_flags('run', ['--config=configs/arithmetic.py:size=smoke', '--config.sampling.slots=auto'])
    assert args.config.sampling.slots == 0
