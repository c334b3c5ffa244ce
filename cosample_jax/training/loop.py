"""The training loop: steps, validation, checkpoints, resumption. Thin: what a step does is in `step`."""

import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from cosample_jax import sharding
from cosample_jax.checkpoint import RunCheckpoints
from cosample_jax.errors import UserError
from cosample_jax.gemma import model
from cosample_jax.gemma.config import GemmaConfig
from cosample_jax.training.packing import Batch
from cosample_jax.training.step import Recipe, init_state, train_step

STATE_INTERVAL_S = 60.0  # how much work a kill may cost
FINETUNE = Recipe()
METRICS_EVERY = 10  # steps between two looks at the loss: each look waits for the device


class Result(NamedTuple):
    """How a run ended. `history` holds one {"step", "loss", "accuracy"} a validation."""

    params: dict
    history: list[dict]
    tokens: int

    @property
    def best(self) -> dict:
        """The validation of the highest accuracy; of equals, the earliest."""
        return max(self.history, key=lambda entry: (entry['accuracy'], -entry['step']))


def train(
    params,
    config: GemmaConfig,
    *,
    batch: Callable[[int], Batch],
    steps: int,
    learning_rate: Callable[[int], float],
    directory,
    validate: Callable[[dict], float] | None = None,
    num_checkpoints: int = 0,
    recipe: Recipe = FINETUNE,
    mesh: Mesh | None = None,
    on_progress: Callable[[int, dict], None] = lambda steps, metrics: None,
    clock: Callable[[], float] = time.monotonic,
) -> Result:
    """Trains from `params` for `steps` steps, or goes on from the state saved in `directory`.

    `batch(step)` must be a pure function of the step: then an interrupted and resumed run takes exactly the steps of an
    uninterrupted one. At each of `num_checkpoints` evenly spaced steps (the last one included) `validate(params)` gives
    an accuracy in 0..1 and the weights are saved with it. `on_progress(n, metrics)` hears of every n steps taken;
    metrics are those of the last one, and ``step``. `mesh` splits weights, moments and rows; None is one device.

    Raises UserError when the loss is no longer finite; the last good state stays in `directory`.
    """
    checkpoints = RunCheckpoints(directory)
    try:
        state, told = init_state(params, recipe), {'history': [], 'tokens': 0}
        if mesh is not None:
            state = jax.device_put(state, sharding.param_shardings(state, mesh))
        resumed = checkpoints.restore_state(state)
        if resumed is not None:
            state, told = resumed
        dtype = model.compute_dtype()
        at = set(checkpoint_steps(steps, num_checkpoints))
        begun, reported, saved_at = int(state.step), 0, clock()  # what an earlier attempt did is reported too
        for step in range(begun + 1, steps + 1):
            this = batch(step - 1)
            told['tokens'] += int(np.count_nonzero(this.segment_ids))
            if mesh is not None:
                sharding.check_rows(mesh, len(this.tokens), 'the packed rows of a batch (finetune.row_multiple)')
                this = sharding.rows_to_global(this, mesh)
            rate = np.float32(learning_rate(step - 1))
            state, metrics = train_step(state, this, rate, config=config, recipe=recipe, mesh=mesh, dtype=dtype)
            due = clock() - saved_at >= STATE_INTERVAL_S
            looked = step in at or step % METRICS_EVERY == 0 or step == steps
            if looked:
                metrics = {name: float(value) for name, value in metrics.items()}
                if not math.isfinite(metrics['loss'] + metrics['grad_norm']):
                    raise UserError(
                        f'the loss became {metrics["loss"]} (gradient norm {metrics["grad_norm"]}) by step {step} of '
                        f'{directory}: lower the learning rate'
                    )
                on_progress(step - reported, metrics | {'step': step})
                reported = step
            if step in at:
                accuracy = float(validate(state.params))
                checkpoints.save_weights(step, state.params, accuracy)
                told['history'].append({'step': step, 'loss': metrics['loss'], 'accuracy': accuracy})
            # Only what was seen to be finite: a saved NaN would be resumed from for ever. And by all processes or none:
            # each saves its part, and their clocks differ.
            if looked and sharding.any_process(due):
                checkpoints.save_state(step, state, told)
                saved_at = clock()
    finally:
        checkpoints.close()
    return Result(state.params, told['history'], told['tokens'])


def checkpoint_steps(steps: int, count: int) -> list[int]:
    """`count` evenly spaced steps of 1..steps; the last is `steps`."""
    return [round(steps * (i + 1) / count) for i in range(count)]


def warmup_cosine(peak: float, steps: int, warmup: int, floor: float = 0.05) -> Callable[[int], float]:
    """Linear warm-up, then a cosine down to `floor` times the peak (arXiv 1608.03983)."""

    def learning_rate(step: int) -> float:
        cosine = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * step / steps))
        return peak * min(1.0, (step + 1) / max(1, warmup)) * cosine

    return learning_rate


def rewindable(stream: Callable[[], Iterator[Batch]]) -> Callable[[int], Batch]:
    """Turns a stream that can only be read from its beginning into `batch(step)`; steps are cheap when they ascend."""
    position, batches = 0, stream()

    def batch(step: int) -> Batch:
        nonlocal position, batches
        if step < position:
            position, batches = 0, stream()
        for _ in range(step - position):
            next(batches)
        position = step + 1
        return next(batches)

    return batch
