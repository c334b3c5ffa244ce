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
from hosts_run import tables, trained

from cosample_jax.records import Sample, Store
from cosample_jax.stages import STAGES

COMMAND = [
    *(sys.executable, '-m', 'cosample_jax.cli', 'run', '--config=configs/arithmetic.py:size=smoke'),
    *('--config.roles.trained=("student",)', '--config.budget.levels=("low",)'),
]


# Stages that take long enough to be met; each is killed soon after its start, and later.
TARGETS = ('prepare', 'sample', 'finetune', 'evaluate', 'report')


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
    print('fine-tuned', {cell: said[:16] for cell, said in trained(cut).items()})
    assert trained(cut) == trained(whole) and trained(cut)


def pool_hash(root: Path) -> str:
    """Of all samples, in the order of their keys."""
    return hashlib.sha256(repr(Store(root / 'pools' / 'train' / 'weak', Sample).read()).encode()).hexdigest()


@pytest.mark.slow
def test_sigterm_commits_what_is_finished_and_the_same_command_goes_on(tmp_path, repository):
    """As a spot machine is told that it goes: rows that are complete are kept, within seconds."""
    verb = [*(sys.executable, '-m', 'cosample_jax.cli')]
    config = ['--config=configs/arithmetic.py:size=demo', '--config.roles.sources=("weak",)']
    roots = [tmp_path / 'cut', tmp_path / 'whole']
    for root in roots:
        for stage in ('prepare', 'pretrain'):
            subprocess.run(
                [*verb, stage, *config, f'--workdir={root}'], cwd=repository, check=True, capture_output=True
            )
    process = subprocess.Popen(
        [*verb, 'sample', f'--workdir={roots[0]}'],
        cwd=repository,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    started = roots[0] / 'started' / 'sample.json'
    while not started.exists():
        time.sleep(0.01)
    time.sleep(12)
    process.send_signal(signal.SIGTERM)
    told = time.monotonic()
    printed, _ = process.communicate()
    assert time.monotonic() - told < 15
    assert process.returncode == 143, printed
    assert 'stopped by SIGTERM' in printed and 'Traceback' not in printed
    cut = Store(roots[0] / 'pools' / 'train' / 'weak', Sample)
    kept, before = len(cut), parts(roots[0])
    assert kept > 0
    for root in roots:
        subprocess.run([*verb, 'sample', f'--workdir={root}'], cwd=repository, check=True, capture_output=True)
    assert before.items() <= parts(roots[0]).items()
    print(f'{kept} of {len(cut)} samples kept by SIGTERM; both pools have hash {pool_hash(roots[1])[:16]}')
    assert pool_hash(roots[0]) == pool_hash(roots[1])
