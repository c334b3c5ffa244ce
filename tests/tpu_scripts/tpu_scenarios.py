"""What may happen to a slice, told to the stand-in for gcloud, and what the scripts do then.

`python tests/tpu_scripts/tpu_scenarios.py` prints them as a table.
"""

import itertools
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tpu_cloud import Cloud

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / 'tpu_scripts'
ENV = {
    'PROJECT': 'my-project',
    'ZONE': 'us-west4-a',
    'NAME': 'slice-1',
    'ACCELERATOR': 'v5litepod-8',
    'TIER': 'spot',
    'INSTALL': 'git',
    'GIT_URL': 'https://example.com/cosample_jax.git',
    'GIT_REF': 'v1.0',
    'WORKDIR': 'gs://bucket/run',
    'COMMAND': "(run --config=configs/gsm8k.py:weights=gs://bucket/weights,tensor=8 '--config.name=it is')",
    'MAX_CREATES': '4',
}
QUOTA = "Quota limit 'TPUV5sPreemptibleLitepodPerProjectPerZoneForTPUAPI' has been exceeded. Limit: 8."
STOCKOUT = 'There is no more capacity in the zone "us-west4-a"; you can try in another zone.'
QUEUE = ['WAITING_FOR_RESOURCES', 'WAITING_FOR_RESOURCES', 'PROVISIONING', 'ACTIVE']
FINE = {'run': ['running', 'done']}


class Room:
    """A directory with the stand-ins on its PATH, an env file and a world; `run` runs a script there."""

    def __init__(self, directory: Path, world: dict | None = None, **env: str | None):
        """`env` is set in, or with None taken out of, the env file."""
        self.directory = Path(directory)
        binaries = self.directory / 'bin'
        binaries.mkdir()
        for name in ('gcloud', 'sleep', 'cosample'):
            (binaries / name).symlink_to(Path(__file__).with_name('stand_in.sh'))
        values = ENV | env
        text = ''.join(f'{name}={value}\n' for name, value in values.items() if value is not None)
        (self.directory / 'env').write_text(text)
        self.cloud = Cloud({'slices': [FINE]} | (world or {}))
        self.environ = os.environ | {
            'PATH': f'{binaries}:{os.environ["PATH"]}',
            'CLOUD': str(self.cloud.port),
            'TPU_ENV': str(self.directory / 'env'),
            'COSAMPLE': str(binaries / 'cosample'),
            'TMPDIR': str(self.directory),
            'TZ': 'UTC',
        }

    def run(self, script: str, *flags: str) -> subprocess.CompletedProcess:
        """Both streams in `stdout`, as a terminal shows them."""
        command = [str(SCRIPTS / script), *flags]
        streams = {'stdin': subprocess.DEVNULL, 'stdout': subprocess.PIPE, 'stderr': subprocess.STDOUT}
        return subprocess.run(command, env=self.environ, cwd=self.directory, text=True, timeout=60, **streams)

    def told(self) -> list[str]:
        """The calls in words, without those that only ask."""
        return [word for call in self.cloud.calls if (word := in_words(call)) and word not in ('ask', 'plan')]


def in_words(call: list[str]) -> str:
    name, *argv = call
    if name == 'sleep':
        return f'sleep {argv[0]}'
    if name == 'cosample':
        return argv[0]
    if argv[0] == 'storage':
        return 'ask' if argv[1] == 'ls' else argv[1]
    if argv[1] == 'disks':
        return 'ask' if argv[2] == 'describe' else f'{argv[2]} disk'
    if argv[3] == 'ssh':
        worker = next(word for word in argv if word.startswith('--worker=')).partition('=')[2]
        command = next(word for word in argv if word.startswith('--command=')).partition('=')[2]
        what = re.match(r'(?:bash worker_)?(\w+)', command)[1]
        what = {'true': 'reach'}.get(what, what)
        return 'ask' if what == 'state' else f'{what} on {worker}'
    return 'ask' if argv[3] in ('describe', 'list') else argv[3]


class Scenario(NamedTuple):
    """`scripts` run one after the other; `calls` is what they did, `code` what the last ended with and `lines` what it
    said among other things.
    """

    world: dict
    scripts: list[str]
    calls: str
    code: int
    lines: tuple[str, ...] = ()
    env: dict = {}


# A slice of one worker is set up and launched by these calls.
UP = 'reach on 0, scp, setup on 0, doctor on 0, launch on 0'

SCENARIOS = {
    'there is room at once': Scenario(
        {}, ['create.sh', 'setup.sh', 'launch.sh'], 'create, UP', 0, ('cosample run runs on 1 worker(s) of slice-1',)
    ),
    'no capacity for a while': Scenario(
        {'slices': [{'states': QUEUE}]},
        ['create.sh'],
        'create, sleep 60 (3 times)',
        0,
        ('slice-1 is WAITING_FOR_RESOURCES', 'slice-1 is PROVISIONING', 'slice-1 is ACTIVE'),
    ),
    'no capacity for a day': Scenario(
        {'slices': [{'states': ['WAITING_FOR_RESOURCES']}]},
        ['create.sh'],
        'create',
        3,
        ('is still WAITING_FOR_RESOURCES after 0 hours; it stays in the queue',),
        {'WAIT_HOURS': '0'},
    ),
    'a stockout fails the request': Scenario(
        {'slices': [{'states': ['WAITING_FOR_RESOURCES', 'FAILED'], 'why': STOCKOUT}]},
        ['create.sh'],
        'create, sleep 60',
        3,
        (f'the request failed: {STOCKOUT}', 'delete.sh makes room'),
    ),
    'quota exceeded at create': Scenario(
        {'create': [QUOTA]}, ['create.sh'], 'create', 4, (QUOTA, 'my-project has no quota left for v5litepod-8 (spot)')
    ),
    'create is refused for good': Scenario(
        {'create': ['PERMISSION_DENIED: tpu.nodes']}, ['watch.sh'], 'create', 1, ('PERMISSION_DENIED', 'giving up')
    ),
    'preempted during set-up': Scenario(
        {'slices': [{'setup': ['node PREEMPTED']}]},
        ['create.sh', 'setup.sh'],
        'create, reach on 0, scp, setup on 0',
        3,
        ('slice-1 is PREEMPTED: it was taken away during set-up',),
    ),
    'one worker unreachable': Scenario(
        {'slices': [{'workers': 4, 'ssh': {'2': -1}}]},
        ['create.sh', 'setup.sh'],
        'create, reach on 0-3 (5 times), sleep 15 (4 times)',
        3,
        ('[worker 2] ssh: connect', 'worker 2 of slice-1 cannot be reached'),
        {'ACCELERATOR': 'v5p-32'},
    ),
    'ssh comes up late': Scenario(
        {'slices': [{'ssh': {'0': 2}}]},
        ['create.sh', 'setup.sh'],
        'create, reach on 0, sleep 15, reach on 0, sleep 15, reach on 0, scp, setup on 0, doctor on 0',
        0,
        ('no ssh yet to worker 0 (try 2 of 5)', '1 worker(s) of slice-1 are set up'),
    ),
    'the installation fails': Scenario(
        {'slices': [{'setup': ['1']}]},
        ['create.sh', 'setup.sh'],
        'create, reach on 0, scp, setup on 0',
        1,
        ('[worker 0] exit 1', 'the installation failed on worker 0'),
    ),
    'the run does not fit': Scenario(
        {'plan': 'cosample: error: sampling needs 60.5 GiB a device, and a chip has 15.8', 'plan_code': 2},
        ['watch.sh'],
        '',
        2,
        ('does not fit v5litepod-8',),
    ),
    'the plan cannot tell': Scenario(
        {'plan': 'cosample: error: gs:// paths need one more package', 'plan_code': 2},
        ['watch.sh'],
        '',
        2,
        ('one more package', 'cosample plan could not tell, for the reason above'),
    ),
    'the TPU compiler refuses': Scenario(
        {'plan': 'strong train: 9 s; arguments of a chip, GiB: compiler RESOURCE_EXHAUSTED: hbm; ours 9 and 1'},
        ['create.sh', 'launch.sh'],
        'create',
        2,
        ('the TPU compiler refuses a program on v5litepod-8',),
    ),
    'watched, and nothing happens': Scenario(
        {},
        ['watch.sh'],
        'create, UP, sleep 60',
        0,
        ('running: sample: 40% of 7,000 problems', 'gs://bucket/run/done/report.json is there: the run is done'),
    ),
    'preempted while running': Scenario(
        {'slices': [{'run': ['running', 'node PREEMPTED']}, FINE]},
        ['watch.sh --delete'],
        'create, UP, sleep 60 (2 times), delete, sleep 60, create, UP, sleep 60, delete',
        0,
        ('slice-1 is PREEMPTED', 'slice 2 of at most 4', 'the run is done', 'slice-1 is deleted'),
    ),
    'suspended while running': Scenario(
        {'slices': [{'run': ['SUSPENDED']}, FINE]},
        ['watch.sh'],
        'create, UP, sleep 60, delete, sleep 60, create, UP, sleep 60',
        0,
        ('slice-1 is SUSPENDED: it was taken away or failed',),
    ),
    'SUSPENDING takes a while': Scenario(
        {'slices': [{'states': ['SUSPENDING'] * 3 + ['SUSPENDED']}, FINE]},
        ['watch.sh'],
        'create, sleep 60, delete, sleep 60, create, UP, sleep 60',
        0,
        ('slice-1 is SUSPENDING (1 of 10)', 'the run is done'),
    ),
    'watched, suspended during set-up': Scenario(
        {'slices': [{'setup': ['SUSPENDED']}, FINE]},
        ['watch.sh'],
        'create, reach on 0, scp, setup on 0, delete, sleep 60, create, UP, sleep 60',
        0,
        ('slice-1 is SUSPENDED: it was taken away during set-up', 'the run is done'),
    ),
    'stopped by SIGTERM, then preempted': Scenario(
        {'slices': [{'run': ['ended with 143', 'node PREEMPTED']}, FINE]},
        ['watch.sh'],
        'create, UP, sleep 60, UP, sleep 60, delete, sleep 60, create, UP, sleep 60',
        0,
        ('the command ended with 143: launching it again (1 of 3)',),
    ),
    'preempted again and again': Scenario(
        {'slices': [{'setup': ['SUSPENDED']}]},
        ['watch.sh'],
        'create, reach on 0, scp, setup on 0, delete'
        + ''.join(f', sleep {s}, create, reach on 0, scp, setup on 0, delete' for s in (60, 120, 240)),
        3,
        ('giving up after 4 slices (MAX_CREATES)',),
    ),
    'watched, quota exceeded for a while': Scenario(
        {'create': [QUOTA, QUOTA, 'ok']},
        ['watch.sh'],
        'create, sleep 60, create, sleep 120, create, UP, sleep 60',
        0,
        ('no quota left', 'the run is done'),
    ),
    'watched, a stockout': Scenario(
        {'slices': [{'states': ['FAILED'], 'why': STOCKOUT}, FINE]},
        ['watch.sh'],
        'create, delete, sleep 60, create, UP, sleep 60',
        0,
        (STOCKOUT, 'the run is done'),
    ),
    'the command fails on a healthy slice': Scenario(
        {'slices': [{'run': ['ended with 1']}]},
        ['watch.sh'],
        'create, UP' + ', sleep 60, UP' * 3 + ', sleep 60',
        1,
        ('launched again 3 times on this slice', 'it costs, delete.sh ends that'),
    ),
    'the command is a mistake': Scenario(
        {'slices': [{'run': ['ended with 2']}]}, ['watch.sh'], 'create, UP', 2, ('a mistake that has to be corrected',)
    ),
    'worker 0 stops answering': Scenario(
        {'slices': [{'run': ['running', '255']}, FINE]},
        ['watch.sh'],
        'create, UP, sleep 60 (5 times), delete, sleep 60, create, UP, sleep 60',
        0,
        ('worker 0 does not answer', 'worker 0 has not answered five times', 'the run is done'),
    ),
    'gcloud cannot tell': Scenario(
        {'slices': [{'states': ['ACTIVE', 'ACTIVE', 'UNKNOWN'], **FINE}]},
        ['create.sh', 'watch.sh'],
        'create, UP, sleep 60 (9 times)',
        1,
        ('gcloud does not tell: ERROR: could not reach the service', 'giving up'),
    ),
    'the watch is started again': Scenario(
        {'slices': [{'run': ['running', 'running', 'done']}]},
        ['create.sh', 'setup.sh', 'launch.sh', 'watch.sh'],
        'create, UP, sleep 60 (2 times)',
        0,
        ('running: sample',),
    ),
    'the run is done already': Scenario(
        {'objects': ['gs://bucket/run/done/report.json']}, ['watch.sh'], '', 0, ('is there already: nothing to do',)
    ),
    'delete of what is not there': Scenario(
        {}, ['delete.sh'], '', 0, ('there is no slice-1 in us-west4-a: nothing to delete',)
    ),
    'delete of what is there': Scenario({}, ['create.sh', 'delete.sh'], 'create, delete', 0, ('slice-1 is deleted',)),
}


def play(name: str, directory: Path) -> tuple[Room, subprocess.CompletedProcess]:
    """The room afterwards, and how the last script ended."""
    scenario = SCENARIOS[name]
    room = Room(directory, scenario.world, **scenario.env)
    for line in scenario.scripts:
        result = room.run(*line.split())
    room.cloud.close()
    return room, result


def collapse(words: list[str]) -> str:
    """'reach on 0-3 (5 times), sleep 15': what repeats once, with how often."""
    several = {}
    for word in words:
        if match := re.fullmatch(r'(\w+) on (\d+)', word):
            several.setdefault(match[1], set()).add(int(match[2]))
    words = [re.sub(r'^(\w+) on \d+$', lambda m: f'{m[1]} on {_range(several[m[1]])}', word) for word in words]
    size = max(map(len, several.values()), default=1)
    if size > 1:  # one step on all workers; their order is nobody's
        counts = {word: words.count(word) // (size if ' on ' in word else 1) for word in dict.fromkeys(words)}
        return ', '.join(f'{word} ({n} times)' if n > 1 else word for word, n in counts.items())
    groups = [(word, len(list(group))) for word, group in itertools.groupby(words)]
    return ', '.join(f'{word} ({n} times)' if n > 1 else word for word, n in groups).replace(UP, 'UP')


def _range(workers: set[int]) -> str:
    return f'{min(workers)}-{max(workers)}' if len(workers) > 1 else str(*workers)


def main() -> None:
    print('| what happens | scripts | calls that do something | exit code, last line |\n|---|---|---|---|')
    for name, scenario in SCENARIOS.items():
        with tempfile.TemporaryDirectory() as directory:
            room, result = play(name, Path(directory))
        lines = [line for line in result.stdout.splitlines() if not re.search('delete.sh ends that$', line)]
        last = lines[-1].split('.sh: ', 1)[-1]
        last = re.sub(r'^\d\d:\d\d:\d\d +', '', last)
        calls = collapse(room.told()) or 'none'
        print(f'| {name} | {" ".join(scenario.scripts)} | {calls} | {result.returncode}: {last} |')
    print(f'\nUP: {UP}. Calls that only ask (describe, ls, state of the command) and `cosample plan` are left out.')


if __name__ == '__main__':
    sys.exit(main())
