"""Two processes with two devices each fill the pool that one process with four fills."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from cosample_jax.records import Sample, Store

SCRIPT = Path(__file__).parent / 'two_processes.py'


def fill(directory, count, sigterm=0):
    """The pool, and what the processes printed."""
    with socket.socket() as free:
        free.bind(('localhost', 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name not in ('XLA_FLAGS', 'JAX_PLATFORMS')}
    processes = [
        subprocess.Popen(
            [sys.executable, SCRIPT, directory, str(count), str(index), str(port), str(sigterm)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(count)
    ]
    try:
        printed = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()  # one that waits for another for ever
    assert [process.returncode for process in processes] == [0] * count, printed
    return Store(directory, Sample), printed


def test_two_processes_fill_the_pool_that_one_fills(tmp_path):
    (one, _), (two, _) = fill(tmp_path / 'one', 1), fill(tmp_path / 'two', 2)
    assert one.read() == two.read() and len(two) == 27
    writers = {part.name.split('-')[1] for part in two.directory.iterdir()}
    assert writers == {'00000', '00001'}

    # Told to one of them alone, both stop, and two others go on from there.
    cut, printed = fill(tmp_path / 'cut', 2, sigterm=3)
    assert all('preempted' in each for each in printed)
    kept = len(cut)
    assert 3 <= kept < 11
    assert fill(tmp_path / 'cut', 2)[0].read() == one.read()
