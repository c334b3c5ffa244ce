"""Two processes with two devices each fill the pool that one process with four fills."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from cosample_jax.records import Sample, Store

SCRIPT = Path(__file__).parent / 'two_processes.py'


def fill(directory, count):
    with socket.socket() as free:
        free.bind(('localhost', 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name not in ('XLA_FLAGS', 'JAX_PLATFORMS')}
    processes = [
        subprocess.Popen(
            [sys.executable, SCRIPT, directory, str(count), str(index), str(port)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(count)
    ]
    for process in processes:
        printed, _ = process.communicate(timeout=300)
        assert process.returncode == 0, printed[-3000:]
    return Store(directory, Sample)


def test_two_processes_fill_the_pool_that_one_fills(tmp_path):
    one, two = fill(tmp_path / 'one', 1), fill(tmp_path / 'two', 2)
    assert one.read() == two.read() and len(two) == 27
    writers = {part.name.split('-')[1] for part in two.directory.iterdir()}
    assert writers == {'00000', '00001'}
