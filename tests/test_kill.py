"""kill -9 in every stage, then the same command again: the tables are those of a run that was left in peace."""

import hashlib
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cosample_jax.stages import STAGES

COMMAND = [
    *(sys.executable, '-m', 'cosample_jax.cli', 'run', '--config=configs/arithmetic.py:size=smoke'),
    *('--config.roles.trained=("student",)', '--config.budget.levels=("low",)'),
]


# Stages that take long enough to be met; each is killed soon after its start, and later.
TARGETS = ('prepare', 'sample', 'finetune', 'evaluate', 'report')


def tables(root: Path) -> dict[str, str]:
    files = [
        *root.glob('report/tables/*.csv'),
        *root.glob('analysis/*.json'),
        root / 'evaluate' / 'results.json',
    ]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def parts(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.rglob('part-*.parquet')}


def first_undone(root: Path) -> str | None:
    """The stage that is being run, or is to be run next."""
    return next((stage for stage in STAGES if not (root / 'done' / f'{stage}.json').exists()), None)


@pytest.mark.slow
@pytest.mark.parametrize('seed', range(2))
def test_killed_in_every_stage_the_tables_are_the_same(tmp_path, repository, seed):
    rng = random.Random(seed)
    whole, cut = tmp_path / 'whole', tmp_path / 'cut'
    subprocess.run([*COMMAND, f'--workdir={whole}'], cwd=repository, check=True, capture_output=True)
    killed = []
    for target, patience in itertools.product(TARGETS, (0.5, 3.0)):
        before = parts(cut)
        process = subprocess.Popen(
            [*COMMAND, f'--workdir={cut}'], cwd=repository, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        started, done = cut / 'started' / f'{target}.json', cut / 'done' / f'{target}.json'
        while not (started.exists() or done.exists() or process.poll() is not None):
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, patience))
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            killed.append(first_undone(cut))
        assert process.wait() in (0, -signal.SIGKILL)
        assert before.items() <= parts(cut).items()  # committed work is neither lost nor done again
    subprocess.run([*COMMAND, f'--workdir={cut}'], cwd=repository, check=True, capture_output=True)
    print('killed in', killed)
    assert {'sample', 'finetune', 'evaluate'} <= set(killed) and len(killed) >= 7
    assert tables(cut) == tables(whole)
