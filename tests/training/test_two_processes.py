"""Two processes with two devices each, killed and started again, train the model that one process with four trains."""

from pathlib import Path

import jax
import numpy as np
import pytest

from cosample_jax.checkpoint import RunCheckpoints
from cosample_jax.gemma import model
from cosample_jax.gemma.config import gemma2

CONFIG = gemma2(
    'two', layers=2, embed=32, ffw=48, heads=2, kv_heads=1, head_dim=16, vocab=256, window=16
)  # the script's
SCRIPT = Path(__file__).parent / 'two_processes.py'
STEPS, KILLED_AT, SAVED_AT = 8, 6, 4  # the state is saved where the loss was looked at: at the validation before
TOLERANCE = 2e-6  # measured: 2.2e-7 of weights and 5e-7 of losses


def batches(directory, index):
    return (directory / f'batches-{index}.txt').read_text().splitlines()


def outcome(directory, index=0):
    """All that a process ended with: told numbers and weights, by name."""
    with np.load(directory / f'result-{index}.npz') as file:
        return dict(file)


def best(directory):
    """The step of the best weights, and the weights, as whoever goes on with them reads them: in one process."""
    checkpoints = RunCheckpoints(directory / 'run')
    leaves = jax.tree.leaves_with_path(checkpoints.load_best(CONFIG))
    step = checkpoints.best_step()
    checkpoints.close()
    return {'step': np.array(str(step))} | {model.leaf_name(path): np.asarray(leaf) for path, leaf in leaves}


def assert_same(one, other, tolerance=0.0):
    assert one.keys() == other.keys()
    for name, each in one.items():
        if each.dtype.kind == 'f':
            np.testing.assert_allclose(each, other[name], rtol=0, atol=tolerance, err_msg=name)
        else:
            np.testing.assert_array_equal(each, other[name], err_msg=name)


@pytest.mark.slow
def test_two_killed_processes_train_the_model_that_one_trains(tmp_path, run_processes):
    one, two, cut = (tmp_path / name for name in ('one', 'two', 'cut'))
    run_processes(SCRIPT, one, 1, -1)
    run_processes(SCRIPT, two, 2, -1)

    def both_wait():
        return all((cut / f'batches-{i}.txt').exists() and len(batches(cut, i)) > KILLED_AT for i in range(2))

    run_processes(SCRIPT, cut, 2, KILLED_AT, kill_when=both_wait)
    assert not list(cut.glob('result-*'))
    run_processes(SCRIPT, cut, 2, -1)

    seen = batches(one, 0)
    assert len(seen) == STEPS
    for index in range(2):
        assert batches(two, index) == seen
        assert batches(cut, index) == seen[: KILLED_AT + 1] + seen[SAVED_AT:]
        assert_same(outcome(cut, index), outcome(two))
    assert_same(best(cut), best(two))
    # Sums over processes are added up in another order than those over the devices of one.
    assert_same(outcome(two), outcome(one), TOLERANCE)
    assert_same(best(two), best(one), TOLERANCE)
