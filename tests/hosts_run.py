"""Starts `cosample` as the hosts of a slice would, tells how each process ended, and what a run came to."""

import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 1800  # a busy machine is slow
SMOKE = (
    '--config=configs/arithmetic.py:size=smoke',
    '--config.roles.trained=("student",)',
    '--config.budget.levels=("low",)',
)


class Ended(NamedTuple):
    """A process that has ended; `error` is its line or lines of cosample's own."""

    status: int
    printed: str

    @property
    def error(self) -> str:
        return '\n'.join(line for line in self.printed.splitlines() if line.startswith('cosample: '))


def start(verb, *arguments, count=1, devices=1) -> list[subprocess.Popen]:
    """`count` processes with so many CPU devices each; one of its own where `count` is 1."""
    environment = os.environ | {
        'JAX_PLATFORMS': 'cpu',
        'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}',
        'PYTHONUNBUFFERED': '1',
    }
    with socket.socket() as free:
        free.bind(('localhost', 0))
        port = free.getsockname()[1]
    started = []
    for index in range(count):
        hosts = (f'--coordinator=localhost:{port}', f'--processes={count}', f'--process={index}') if count > 1 else ()
        started.append(
            subprocess.Popen(
                [sys.executable, '-m', 'cosample_jax.cli', verb, *arguments, *hosts],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    return started


def wait(processes) -> list[Ended]:
    """How they ended; what is left of them when that fails is killed."""
    try:
        printed = [process.communicate(timeout=PATIENCE_S)[0] for process in processes]
        return [Ended(process.wait(), text) for process, text in zip(processes, printed, strict=True)]
    finally:
        for process in processes:
            process.kill()


def cosample(verb, *arguments, count=1, devices=1) -> list[Ended]:
    """Starts them and waits for all, which must end well."""
    ended = wait(start(verb, *arguments, count=count, devices=devices))
    assert [each.status for each in ended] == [0] * count, '\n====\n'.join(each.printed for each in ended)
    return ended


def wait_until(condition, processes) -> None:
    """Returns once `condition()` holds; AssertionError when a process ended before."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        ended = [process for process in processes if process.poll() is not None]
        assert not ended, wait(processes)
        with contextlib.suppress(InterruptedError):
            time.sleep(0.02)


def tables(root: Path) -> dict[str, str]:
    files = [
        *root.glob('report/tables/*.csv'),
        *root.glob('analysis/*.json'),
        root / 'evaluate' / 'results.json',
    ]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def trained(root: Path) -> dict[str, str]:
    """Of every fine-tuned cell: its best weights, and what each step of it measured but for the time."""
    import jax
    import numpy as np

    from cosample_jax.checkpoint import RunCheckpoints
    from cosample_jax.gemma.config import variant

    found = {}
    for cell in root.glob('finetune/*/cell.json'):
        record = json.loads(cell.read_text())
        if not record['trained']:
            continue
        directory = cell.parent / record['weights']
        checkpoints = RunCheckpoints(directory)
        leaves = jax.tree.leaves(checkpoints.load_best(variant(f'tiny_{record["model"]}')))
        checkpoints.close()
        rows = map(json.loads, (directory / 'metrics.jsonl').read_text().splitlines())
        rows = [{k: v for k, v in row.items() if k not in ('tokens_per_s', 'mfu')} for row in rows]
        said = b''.join(np.asarray(leaf).tobytes() for leaf in leaves) + repr(rows).encode()
        found[record['cell']] = hashlib.sha256(said).hexdigest()
    return found
