"""The sandbox against programs that mean harm: each ends as told, nothing outside changes, the next one is graded."""

import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cosample_jax.errors import UserError
from cosample_jax.grading import programs, sandbox

pytestmark = pytest.mark.skipif(sys.platform != 'linux', reason='programs are run on Linux alone')

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location('sandbox_benchmark', ROOT / 'benchmarks' / 'sandbox.py')
benchmark = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(benchmark)

HONEST = 'def f(x):\n    return x + 1'
# The filter alone, as on a machine that grants neither namespaces nor Landlock, and with all there is.
ALONE = 'sandbox._second_walls = lambda: []'


def launch(*arguments, change='', python=sys.executable, **options):
    """The process of a sandbox, its module changed by a line of Python first."""
    script = (
        f'import sys; sys.path.insert(0, {str(Path(sandbox.__file__).parent)!r}); import sandbox\n{change}\n'
        'sandbox.main(*map(int, sys.argv[1:]))'
    )
    return subprocess.Popen(
        [python, '-S', '-B', '-c', script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={'PYTHONHASHSEED': '0', 'COSAMPLE_SECRET': 'told to nobody'},
        **options,
    )


def replies(process, jobs):
    """What a sandbox says first, and to each of `jobs`."""
    out, _ = process.communicate(''.join(json.dumps(job) + '\n' for job in jobs), timeout=120)
    assert process.returncode == 0
    return [json.loads(line) for line in out.splitlines()]


@pytest.fixture(scope='module')
def outside(tmp_path_factory):
    """(directory with a file, port listened to, listener)."""
    directory = tmp_path_factory.mktemp('outside')
    (directory / 'kept').write_text('kept')
    with socket.create_server(('127.0.0.1', 0)) as listener:
        listener.setblocking(False)
        yield directory, listener.getsockname()[1], listener


@pytest.fixture(scope='module')
def alone():
    """A sandbox with the filter alone."""
    process = launch(1, 4, 256, change=ALONE)
    assert json.loads(process.stdout.readline()) == 'ready: seccomp'
    yield process
    process.stdin.close()
    process.wait(10)


def ask(process, *job):
    process.stdin.write(json.dumps(job) + '\n')
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def children(pid):
    """Processes whose parent is `pid`, zombies included."""
    found = []
    for path in Path('/proc').glob('[0-9]*/stat'):
        try:
            after_name = path.read_text().rpartition(')')[2].split()
        except OSError:  # gone meanwhile
            continue
        if int(after_name[1]) == pid:
            found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize('attack', benchmark.ATTACKS)
def test_an_attack_is_refused_and_the_next_program_is_graded(alone, outside, attack):
    directory, port, listener = outside
    start = time.monotonic()
    outcome = ask(alone, benchmark.program(attack, directory, port), benchmark.TESTS)
    assert outcome.startswith(benchmark.ATTACKS[attack][1]), outcome
    assert time.monotonic() - start < 20
    assert ask(alone, HONEST, benchmark.TESTS) == 'passed'
    assert not children(alone.pid)
    assert [path.name for path in directory.iterdir()] == ['kept'] and (directory / 'kept').read_text() == 'kept'
    with pytest.raises(BlockingIOError):  # nobody called
        listener.accept()


@pytest.mark.parametrize('python', ['this Python', 'python3.11', 'python3.12', 'python3.13', 'python3.14'])
def test_all_walls_and_other_pythons(python, outside):
    name, python = python, sys.executable if python == 'this Python' else shutil.which(python)
    if not python or subprocess.run([python, '-c', ''], capture_output=True).returncode:
        pytest.skip(f'the sandbox on {name}: there is none on the PATH')
    directory, port, _ = outside
    quick = [name for name, (_, expected) in benchmark.ATTACKS.items() if not re.search('used|stopped', str(expected))]
    jobs = [(benchmark.program(attack, directory, port), benchmark.TESTS) for attack in quick]
    ready, honest, *outcomes = replies(launch(1, 8, 256, python=python), [(HONEST, benchmark.TESTS), *jobs])
    assert ready.startswith('ready: seccomp') and honest == 'passed'
    for attack, outcome in zip(quick, outcomes, strict=True):
        assert outcome.startswith(benchmark.ATTACKS[attack][1]), (attack, outcome)


@pytest.mark.parametrize(
    ('change', 'why'),
    [
        ("sandbox.CALLS['openat'] = (257, 56)", 'a program can read a file'),
        ("sandbox.CALLS['socket'] = (41, 198)", 'a program can have a socket'),
        ("sandbox.CALLS['clone'] = (56, 220)", 'a program can start a process'),
        ("sandbox.CALLS['kill'] = (62, 129)", 'a program can signal a process'),
        ("sandbox.CALLS['execve'] = (59, 221)", 'ended before its tests did'),
        ('sandbox.os.environ.clear = lambda: None', 'a program can have an environment'),
        ("del sandbox.CALLS['write']", 'its trial failed: ended before its tests did'),
        ('sandbox._SECCOMP_MODE_FILTER = 9', r'prctl 22: Invalid argument'),
        ("sandbox.sys.platform = 'darwin'", 'no walls are known'),
        ("sandbox.platform.machine = lambda: 'riscv64'", 'no walls are known for Linux on riscv64'),
    ],
)
def test_where_a_wall_has_a_hole_nothing_is_run(change, why, tmp_path):
    program = f'open({str(tmp_path / "ran")!r}, "w")'
    said = replies(launch(1, 8, 256, change=change), [(program, '')])
    assert len(said) == 1 and said[0].startswith('refused: ') and why in said[0]
    assert not list(tmp_path.iterdir())


def test_a_refusal_is_one_line_for_the_user(monkeypatch, tmp_path):
    refusing = tmp_path / 'sandbox.py'
    refusing.write_text('print(\'"refused: no walls"\')')
    monkeypatch.setattr(programs.sandbox_process, '__file__', str(refusing))
    with pytest.raises(
        UserError, match=r'programs cannot be run safely here \(refused: no walls\): .* on Linux'
    ) as error:
        programs.Pool().outcomes([('1', '1')])
    assert '\n' not in str(error.value)
    refusing.write_text('raise SystemExit(1)')
    with pytest.raises(UserError, match='the sandbox does not start'):
        programs.Pool().walls()


def test_a_program_dies_with_its_sandbox_and_a_sandbox_with_its_owner():
    for victim in ('sandbox', 'owner'):
        process = launch(30, 60, 256)
        assert json.loads(process.stdout.readline()).startswith('ready')
        process.stdin.write(json.dumps(['while True: pass', '']) + '\n')
        process.stdin.flush()
        end = time.monotonic() + 20
        while not (found := children(process.pid)) and time.monotonic() < end:
            time.sleep(0.01)
        (program,) = found
        assert os.getsid(program) == program != os.getsid(process.pid)  # a session, so a process group, of its own
        if victim == 'sandbox':
            process.kill()
        else:
            process.stdin.close()  # as when its owner is killed; it ends with the program that it is at
            os.kill(program, signal.SIGKILL)
        process.wait(20)
        while Path(f'/proc/{program}').exists() and time.monotonic() < end:
            time.sleep(0.01)
        assert not Path(f'/proc/{program}').exists()
        process.stdout.close()
