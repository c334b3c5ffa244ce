"""Two processes with two devices each fill the pool that one process with four fills."""

from pathlib import Path

import pytest

from cosample_jax.records import Sample, Store

SCRIPT = Path(__file__).parent / 'two_processes.py'


@pytest.mark.slow
def test_two_processes_fill_the_pool_that_one_fills(tmp_path, run_processes):
    def fill(name, count, sigterm=0):
        """The pool, and what the processes printed."""
        printed = run_processes(SCRIPT, tmp_path / name, count, sigterm)
        return Store(tmp_path / name, Sample), printed

    (one, _), (two, _) = fill('one', 1), fill('two', 2)
    assert one.read() == two.read() and len(two) == 27
    writers = {part.name.split('-')[1] for part in two.directory.iterdir()}
    assert writers == {'00000', '00001'}

    # Told to one of them alone, both stop, and two others go on from there.
    cut, printed = fill('cut', 2, sigterm=3)
    assert all('preempted' in each for each in printed)
    kept = len(cut)
    assert 3 <= kept < 11
    assert fill('cut', 2)[0].read() == one.read()
