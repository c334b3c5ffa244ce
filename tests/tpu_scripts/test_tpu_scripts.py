"""The scripts around gcloud, against a Google Cloud of our own (tpu_cloud.py): no network, and no sleep."""

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import time

import pytest
import tpu_scenarios
from tpu_scenarios import ENV, ROOT, SCENARIOS, SCRIPTS, Room

ALL = ('collect.sh', 'create.sh', 'delete.sh', 'fits.sh', 'launch.sh', 'logs.sh', 'setup.sh', 'status.sh', 'watch.sh')
HOSTS = {'ACCELERATOR': 'v5p-32'}


@pytest.fixture
def make_room(tmp_path):
    with contextlib.ExitStack() as stack:

        def make(world=None, **env):
            room = Room(tmp_path, world, **env)
            stack.callback(room.cloud.close)
            return room

        yield make


def command_of(call: list[str]) -> str:
    """What an ssh runs there; '' of any other call."""
    return next((word.removeprefix('--command=') for word in call if word.startswith('--command=')), '')


@pytest.mark.parametrize('name', SCENARIOS)
def test_what_may_happen(name, tmp_path):
    scenario = SCENARIOS[name]

    room, result = tpu_scenarios.play(name, tmp_path)

    assert result.returncode == scenario.code, result.stdout
    for line in scenario.lines:
        assert line in result.stdout
    assert tpu_scenarios.collapse(room.told()) == scenario.calls


def test_create_asks_for_what_the_env_file_says(make_room):
    room = make_room(CREATE_FLAGS='(--network=net --labels=a=b)')

    assert room.run('create.sh', '--on-demand').returncode == 0
    room.run('delete.sh')
    assert room.run('create.sh').returncode == 0

    on_demand, spot = (call for call in room.cloud.calls if call[4:5] == ['create'])
    assert on_demand == [
        *('gcloud', 'compute', 'tpus', 'queued-resources', 'create', 'slice-1', '--project=my-project'),
        *('--zone=us-west4-a', '--node-id=slice-1', '--accelerator-type=v5litepod-8'),
        *('--runtime-version=v2-alpha-tpuv5-lite', '--network=net', '--labels=a=b'),
    ]
    assert spot == [*on_demand, '--spot']


def test_what_is_asked_for_already_is_waited_for(make_room):
    room = make_room({'slices': [{'states': ['WAITING_FOR_RESOURCES', 'PROVISIONING', 'PROVISIONING', 'ACTIVE']}]})

    assert room.run('create.sh').returncode == 0
    assert room.run('create.sh').returncode == 0

    assert room.told().count('create') == 1


def test_a_slice_that_was_suspended_has_to_be_deleted_first(make_room):
    room = make_room({'slices': [{'states': ['ACTIVE', 'SUSPENDED']}]})
    room.run('create.sh')

    again = room.run('create.sh')

    assert again.returncode == 3 and 'slice-1 is SUSPENDED: delete.sh makes room for another' in again.stdout


def test_data_disk_is_made_once_and_kept_until_it_is_told(make_room):
    room = make_room(DATA_DISK_GB='200', ACCELERATOR='v6e-8')

    room.run('create.sh')
    room.run('delete.sh', '--disk')

    made = next(call for call in room.cloud.calls if call[2:4] == ['disks', 'create'])
    assert made[4] == 'slice-1-data' and made[-2:] == ['--size=200GB', '--type=hyperdisk-balanced']
    source = '--data-disk=source=projects/my-project/zones/us-west4-a/disks/slice-1-data,mode=read-write'
    assert any(source in call for call in room.cloud.calls)
    assert room.told() == ['create disk', 'create', 'delete', 'delete disk']


def test_the_same_command_is_launched_after_each_preemption(tmp_path):
    room, _ = tpu_scenarios.play('preempted while running', tmp_path)

    launches = [command for command in map(command_of, room.cloud.calls) if 'worker_launch.sh' in command]

    assert len(launches) == 2 and launches[0] == launches[1]
    assert shlex.split(launches[0]) == [
        *('bash', 'worker_launch.sh', 'gs://bucket/run', '0', 'run'),
        *('--config=configs/gsm8k.py:weights=gs://bucket/weights,tensor=8', '--config.name=it is'),
        '--workdir=gs://bucket/run',
    ]


def test_the_plan_is_asked_with_the_same_configuration_before_anything_is_started(make_room):
    room = make_room()
    room.run('create.sh')

    room.run('launch.sh')

    plan = next(index for index, call in enumerate(room.cloud.calls) if call[0] == 'cosample')
    config = '--config=configs/gsm8k.py:weights=gs://bucket/weights,tensor=8'
    assert room.cloud.calls[plan][:5] == ['cosample', 'plan', config, '--config.name=it is', '--topology=v5e:2x4']
    assert not any('ssh' in call for call in room.cloud.calls[:plan])


def test_a_stage_before_fine_tuning_need_not_fit_fine_tuning(make_room):
    room = make_room(COMMAND='(sample --config=configs/gsm8k.py:tensor=8)')

    assert room.run('fits.sh').returncode == 0

    assert room.cloud.calls[0][4:6] == ["--config.roles.trained=('student',)", '--config.finetune.lora_rank=1']


def test_every_worker_is_set_up_and_launched(make_room):
    room = make_room({'slices': [{'workers': 4}]}, **HOSTS)
    room.run('create.sh')

    setup, launch = room.run('setup.sh'), room.run('launch.sh')

    assert '4 worker(s) of slice-1 are set up' in setup.stdout and '[worker 3] started: cosample run' in launch.stdout
    told = room.told()
    for step in ('reach', 'setup', 'doctor', 'launch'):
        assert sorted(word for word in told if word.startswith(f'{step} on')) == [f'{step} on {n}' for n in range(4)]
    # Without the configuration, whose mesh it would hold against the devices of one host.
    assert 'bash worker_doctor.sh' in map(command_of, room.cloud.calls)


@pytest.mark.skipif(not (ROOT / '.git').exists(), reason='INSTALL=checkout packs what git knows: no checkout here')
def test_a_checkout_is_packed_and_copied_to_all_workers(make_room):
    room = make_room(INSTALL='checkout')
    room.run('create.sh')

    result = room.run('setup.sh')  # the stand-in refuses an empty archive

    assert result.returncode == 0, result.stdout
    copy = next(call for call in room.cloud.calls if 'scp' in call)
    assert any(word.endswith('/cosample_jax.tgz') for word in copy) and '--worker=all' in copy
    assert not list(room.directory.glob('tmp.*'))


def test_logs(make_room):
    room = make_room({'slices': [{'workers': 2}]}, **HOSTS)
    room.run('create.sh')

    one, every = room.run('logs.sh', '--worker=1', '--lines=9', '--no-follow'), room.run('logs.sh', '--worker=all')

    assert one.stdout == '1: a line of the log\n'
    assert sorted(every.stdout.splitlines()) == ['[worker 0] 0: a line of the log', '[worker 1] 1: a line of the log']
    assert '--command=tail -n 9 cosample.log' in room.cloud.calls[-4]
    assert '--command=tail -n 50 -F cosample.log' in room.cloud.calls[-1]
    assert room.run('logs.sh', '--worker=first').returncode == 2


def test_status_of_each_state(make_room):
    room = make_room({'objects': ['gs://bucket/run/done/prepare.json', 'gs://bucket/run/done/sample.json']})
    assert 'slice-1 (v5litepod-8, spot, us-west4-a): MISSING' in room.run('status.sh').stdout

    for script in ('create.sh', 'setup.sh', 'launch.sh'):
        room.run(script)
    status = room.run('status.sh')

    assert status.returncode == 0
    assert '[worker 0] running\n[worker 0] sample: 40% of 7,000 problems' in status.stdout
    assert 'run      gs://bucket/run: done prepare sample' in status.stdout


def test_collect_copies_what_is_there(make_room):
    room = make_room({'objects': ['gs://bucket/run/report/index.html', 'gs://bucket/run/config.json']})

    result = room.run('collect.sh', '--to=here')

    assert result.returncode == 0 and 'no logs in gs://bucket/run' in result.stdout and 'no plan.json' in result.stdout
    assert ['gcloud', 'storage', 'rsync', '--recursive', 'gs://bucket/run/report', 'here/report'] in room.cloud.calls
    assert (room.directory / 'here' / 'report').is_dir()


def test_collect_of_nothing_fails(make_room):
    result = make_room().run('collect.sh', '--to=here')

    assert result.returncode == 1 and 'there is nothing of a run in gs://bucket/run' in result.stdout


def test_delete_that_fails_is_tried_again_and_not_for_ever(make_room):
    room = make_room({'slices': [{'states': ['FAILED'], 'why': 'a reason'}], 'delete': ['INTERNAL: try again']})

    result = room.run('watch.sh')

    assert result.returncode == 1 and 'slice-1 could not be deleted (9 of 10)' in result.stdout
    assert room.told().count('delete') == 10


# The env file and the flags


@pytest.mark.parametrize(
    ('env', 'line'),
    (
        ({'PROJECT': None}, 'PROJECT is not set: the id of a Google Cloud project'),
        ({'PROJECT': 'My_Project'}, 'PROJECT=My_Project is not right'),
        ({'ZONE': 'us-west4'}, 'ZONE=us-west4 is not right: a zone, such as us-west4-a'),
        ({'NAME': '1st'}, 'NAME=1st is not right'),
        ({'ACCELERATOR': 'v5e-8'}, 'ACCELERATOR=v5e-8 is not known here: one of v4-8 v4-16'),
        ({'TIER': 'cheap'}, 'TIER=cheap is not right: spot or on-demand'),
        ({'DATA_DISK_GB': 'big'}, 'DATA_DISK_GB=big is not right'),
        ({'DATA_DISK_GB': '200', **HOSTS}, 'DATA_DISK_GB=200: a disk that is written has one host'),
        ({'INSTALL': 'wheel'}, 'INSTALL=wheel is not right: git or checkout'),
        ({'GIT_URL': None}, 'GIT_URL is not set: where INSTALL=git clones from'),
        ({'WORKDIR': 'runs/here'}, 'WORKDIR=runs/here is not right: gs://BUCKET/PATH'),
        ({'WORKDIR': 'gs://bucket/run/'}, 'WORKDIR=gs://bucket/run/ is not right'),
        ({'COMMAND': '(plan --config=c.py)'}, 'COMMAND=plan is not right'),
        ({'COMMAND': '(run)'}, 'COMMAND has no --config=FILE'),
        ({'COMMAND': '(run --config=c.py --workdir=x)'}, 'COMMAND has --workdir=x: WORKDIR says it'),
        ({'COMMAND': None}, 'COMMAND is not set'),
        ({'ENVIRONMENT': '(TOKEN)'}, 'ENVIRONMENT has TOKEN: NAME=value is wanted'),
        ({'POLL_SECONDS': '1m'}, 'POLL_SECONDS=1m is not right: a whole number'),
    ),
)
def test_a_wrong_value_is_a_line_before_any_call(make_room, env, line):
    room = make_room(**env)

    result = room.run('create.sh')

    assert result.returncode == 2
    assert [said for said in result.stdout.splitlines() if said.startswith(f'create.sh: {line}')]
    assert not room.cloud.calls


def test_every_wrong_value_is_told_at_once(make_room):
    result = make_room(PROJECT=None, ZONE='here', WORKDIR='/tmp/run').run('watch.sh')

    assert len(result.stdout.splitlines()) == 3 and result.returncode == 2


def test_the_env_file_has_to_be_there(make_room):
    room = make_room()
    room.environ['TPU_ENV'] = str(room.directory / 'nowhere')

    result = room.run('create.sh')

    assert result.returncode == 2 and result.stdout.startswith(f'create.sh: there is no {room.directory}/nowhere: copy')


def test_the_example_is_right(make_room):
    room = make_room()
    room.environ['TPU_ENV'] = str(SCRIPTS / 'env.example')

    result = room.run('create.sh', '--dry-run')

    assert result.returncode == 0 and '--accelerator-type=v6e-8' in result.stdout


@pytest.mark.parametrize('script', ALL)
def test_dry_run_calls_nothing(make_room, script):
    room = make_room(INSTALL='checkout', DATA_DISK_GB='200')

    result = room.run(script, '--dry-run')

    assert result.returncode == 0, result.stdout
    assert not room.cloud.calls
    assert all(shlex.split(line) for line in result.stdout.splitlines() if not line.startswith('#'))


@pytest.mark.parametrize('script', ('create.sh', 'setup.sh', 'launch.sh', 'delete.sh'))
def test_dry_run_prints_what_is_called(make_room, script):
    room = make_room()
    printed = [shlex.split(line) for line in room.run(script, '--dry-run').stdout.splitlines()]
    if script != 'create.sh':
        room.run('create.sh')
    before = len(room.cloud.calls)

    room.run(script)

    def of_gcloud(calls):
        """Without the looks at the state, of which there are as many as it takes."""
        calls = [['--worker=all' if word == '--worker=0' else word for word in call] for call in calls]
        return [call for call in calls if call[0] == 'gcloud' and not call[-1].startswith('--format=value(state')]

    assert of_gcloud(printed) == of_gcloud(room.cloud.calls[before:])


@pytest.mark.parametrize('script', ALL)
def test_help(make_room, script):
    room = make_room()
    del room.environ['TPU_ENV']

    result = room.run(script, '--help')

    assert result.returncode == 0 and f'  {script} [' in result.stdout and 'source "' not in result.stdout
    assert not room.cloud.calls


def test_an_unknown_flag_is_told(make_room):
    result = make_room().run('delete.sh', '--now')

    assert result.returncode == 2 and result.stdout == 'delete.sh: unknown flag --now; --help tells which there are\n'


# The scripts as they are written


@pytest.mark.parametrize('script', sorted(SCRIPTS.glob('*.sh')), ids=lambda path: path.name)
def test_bash_reads_each(script):
    subprocess.run(['bash', '-n', script], check=True)
    assert not re.search(r'\beval\b', script.read_text())


# In the environment that runs this, or the machine's.
SHELLCHECK = shutil.which('shellcheck', path=f'{os.path.dirname(sys.executable)}:{os.environ["PATH"]}')


@pytest.mark.skipif(not SHELLCHECK, reason='shellcheck is not installed (the extra dev brings it)')
def test_shellcheck_is_content():
    result = subprocess.run([SHELLCHECK, *sorted(SCRIPTS.glob('*.sh'))], capture_output=True, text=True)

    assert result.returncode == 0, result.stdout


def test_the_names_of_slices_are_those_of_the_plan():
    from cosample_jax.devices import parse_slice

    tables = subprocess.run(
        ['bash', '-c', 'source lib.sh; for a in "${!TOPOLOGY[@]}"; do ACCELERATOR=$a; single_host && one=1 || one=0; '
         'echo "$a ${TOPOLOGY[$a]} $one ${RUNTIMES[${a%-*}]}"; done'],
        cwd=SCRIPTS, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip

    assert len(tables.splitlines()) == 26
    for line in tables.splitlines():
        accelerator, topology, one_host, _ = line.split()
        count, slice_ = int(accelerator.split('-')[1]), parse_slice(topology)
        assert slice_.chips == (count if accelerator[:3] in ('v5l', 'v6e') else count // 2)
        bounds = slice_.host_bounds
        assert (one_host == '1') == (slice_.chips == bounds[0] * bounds[1] * bounds[2])


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which('gcloud'), reason='gcloud is not installed')
def test_the_real_gcloud_knows_every_flag(make_room, tmp_path):
    """A flag that no command has is added, so that gcloud gets no further than reading them."""
    room = make_room(DATA_DISK_GB='200')
    printed = ''.join(room.run(script, '--dry-run').stdout for script in ('watch.sh', 'collect.sh'))
    commands = {tuple(shlex.split(line)) for line in printed.splitlines() if line.startswith('gcloud')}

    environ = os.environ | {'CLOUDSDK_CONFIG': str(tmp_path / 'config')}
    for command in sorted(commands):
        result = subprocess.run([*command, '--no-such-flag'], env=environ, capture_output=True, text=True)
        assert 'unrecognized arguments: --no-such-flag' in result.stderr, (command, result.stderr)


# What runs on the workers


@pytest.fixture
def worker(tmp_path):
    """A home whose `cosample` tells its words and ends with 3; PATH has what is not to be called for real."""
    binaries, home = tmp_path / 'bin', tmp_path / 'home'
    binary = home / 'cosample_jax' / '.venv' / 'bin' / 'cosample'
    binary.parent.mkdir(parents=True)
    binaries.mkdir()
    for path, text in {
        binary: 'for word; do echo "word: $word"; done; echo "variable: $VARIABLE"; exit 3',
        binaries / 'gcloud': f'cp "$4" {tmp_path}/copy; echo "$5" >{tmp_path}/copied_to',
        binaries / 'uv': f'echo "$PWD: $*" >>{tmp_path}/uv',
    }.items():
        path.write_text(f'#!/usr/bin/env bash\n{text}\n')
        path.chmod(0o755)
    # tmux has sockets of its own here: a session of the user's is none of the tests' business.
    environ = {name: value for name, value in os.environ.items() if name != 'TMUX'}
    environ |= {'HOME': str(home), 'TMUX_TMPDIR': str(tmp_path), 'PATH': f'{binaries}:{environ["PATH"]}', 'USER': 'me'}

    def run(script, *words):
        command = ['bash', SCRIPTS / script, *words]
        return subprocess.run(command, env=environ, cwd=home, capture_output=True, text=True, timeout=60)

    run.home, run.directory, run.binary = home, tmp_path, binary
    return run


def wait_for_exit(worker):
    end = time.monotonic() + 60
    while not (worker.home / 'cosample.exit').exists() and time.monotonic() < end:
        time.sleep(0.02)


@pytest.mark.skipif(not shutil.which('tmux'), reason='tmux is not installed')
def test_a_worker_launches_logs_and_tells(worker):
    words = ('run', '--config=c.py:a=1', "--config.name=it is 'so'", '--workdir=gs://bucket/run')
    assert worker('worker_state.sh').stdout == 'idle\n'

    launched = worker('worker_launch.sh', 'gs://bucket/run', '1', 'VARIABLE=a b', *words)
    wait_for_exit(worker)

    assert launched.returncode == 0, launched.stderr
    log = (worker.home / 'cosample.log').read_text()
    assert [line[6:] for line in log.splitlines() if line.startswith('word: ')] == list(words)
    assert 'variable: a b\n' in log
    assert worker('worker_state.sh').stdout.startswith('ended with 3\n== ')
    assert (worker.directory / 'copy').read_text() == log
    assert re.match(r'gs://bucket/run/logs/\d{8}-\d{6}-.+\.log', (worker.directory / 'copied_to').read_text())


@pytest.mark.skipif(not shutil.which('tmux'), reason='tmux is not installed')
def test_a_worker_that_runs_the_command_is_left_alone(worker):
    worker.binary.write_text('#!/usr/bin/env bash\necho here; read -r _ <>"$HOME/gate"\n')
    os.mkfifo(worker.home / 'gate')
    worker('worker_launch.sh', 'gs://bucket/run', '0', 'run')

    again = worker('worker_launch.sh', 'gs://bucket/run', '0', 'run')

    try:
        assert again.stdout == 'runs already\n'
        assert worker('worker_state.sh').stdout.startswith('running\n')
        assert 'nothing is changed' in worker('worker_setup.sh', 'git', '', '', '').stdout
        assert 'not looked at' in worker('worker_doctor.sh').stdout
    finally:
        with open(worker.home / 'gate', 'r+b', buffering=0) as gate:
            gate.write(b'\n')
            wait_for_exit(worker)


@pytest.mark.skipif(not (shutil.which('git') and shutil.which('tmux')), reason='git or tmux is not installed')
def test_a_worker_is_set_up_from_git_twice_at_the_wanted_commit(worker, tmp_path):
    origin = tmp_path / 'origin'
    git = ['git', '-C', origin, '-c', 'user.name=me', '-c', 'user.email=me@example.com']
    subprocess.run(['git', 'init', '--quiet', '--initial-branch=main', origin], check=True)
    subprocess.run([*git, 'commit', '--quiet', '--allow-empty', '--message=one'], check=True)
    subprocess.run([*git, 'tag', 'v1'], check=True)
    shutil.rmtree(worker.home / 'cosample_jax')

    def set_up(ref):
        result = worker('worker_setup.sh', 'git', str(origin), ref, '')
        head = subprocess.run(
            [*('git', '-C', worker.home / 'cosample_jax', 'log', '-1', '--format=%s')], capture_output=True, text=True
        )
        return result, head.stdout.strip()

    assert set_up('v1')[1] == 'one'
    subprocess.run([*git, 'commit', '--quiet', '--allow-empty', '--message=two'], check=True)
    assert set_up('main')[1] == 'two'
    assert set_up('v1')[1] == 'one'
    result, _ = set_up('v9')
    assert result.returncode == 1 and f'{origin} has no v9' in result.stdout
    made, installed = (tmp_path / 'uv').read_text().splitlines()[:2]
    assert made.endswith('venv --quiet --python 3.11 ' + str(worker.home / 'cosample_jax' / '.venv'))
    assert installed.endswith('--constraint constraints.txt --editable .[tpu] jax[tpu]')


def test_the_readme_names_every_script():
    text = (SCRIPTS / 'README.md').read_text()

    assert not [name for name in ALL if f'`{name}' not in text]
    assert not [name for name in ENV if name not in (SCRIPTS / 'env.example').read_text()]
