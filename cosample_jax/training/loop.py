"""The training loop: steps, validation, checkpoints, resumption. Thin: what a step does is in `step`."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from cosample_jax import hosts, preemption, sharding
from cosample_jax.checkpoint import RunCheckpoints
from cosample_jax.gemma import model
from cosample_jax.gemma.config import GemmaConfig
from cosample_jax.training import lora
from cosample_jax.training import loss as loss_lib
from cosample_jax.training.metrics import Metrics
from cosample_jax.training.packing import Batch
from cosample_jax.training.step import Recipe, init_state, train_step

STATE_INTERVAL_S = 60.0  # how much work a kill may cost
FINETUNE = Recipe()
METRICS_EVERY = 10  # steps between two looks at the loss: each look waits for the device


class Result(NamedTuple):
    """How a run ended: what was trained (weights, or adapters), and one {"step", "loss", "accuracy"} a validation."""

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
    validate: Callable[[dict, Callable[[], bool]], float | None] | None = None,
    num_checkpoints: int = 0,
    keep: str = 'best',
    adapters=None,
    recipe: Recipe = FINETUNE,
    microbatch_rows: int = 0,
    mesh: Mesh | None = None,
    names: Callable[[int], list[str]] = lambda step: [],
    peak_flops: float | None = None,
    on_progress: Callable[[int, dict], None] = lambda steps, metrics: None,
    clock: Callable[[], float] = time.monotonic,
) -> Result:
    """Trains from `params` for `steps` steps, or goes on from the state saved in `directory`.

    An interrupted and resumed run takes exactly the steps of an uninterrupted one, so `batch` must be pure. SIGTERM
    saves the state before it stops the run. What each step measured is in ``metrics.jsonl`` (`metrics.Metrics`).

    Args:
        params: As `gemma.model.init` returns them.
        config: The model's shape.
        batch: The batch of a step, counted from 0; in every process the whole one.
        steps: How many to take in all.
        learning_rate: Of a step, counted from 0.
        directory: Of the run's checkpoints and metrics.
        validate: Called at each of the checkpoints with the parameters, for an accuracy in 0..1. It may ask the
            function it is given whether the run is to stop, and then return None.
        num_checkpoints: So many evenly spaced steps, the last one included, are validated and their weights saved.
        keep: Which weights stay: 'best', or 'all'.
        adapters: Of `lora.init`: these are trained, and are all that the state in `directory` holds. `params` stay as
            they are, in `model.compute_dtype`; what is validated and saved are ordinary weights, merged from both.
        recipe: The optimizer.
        microbatch_rows: See `train_step`.
        mesh: Splits weights, moments and rows; None is one device.
        names: Of a step's examples, for the message when the loss is not finite.
        peak_flops: Of all devices together, a second; gives ``mfu``.
        on_progress: `on_progress(n, metrics)` hears of every n steps taken; metrics are those of the last one.
        clock: Seconds.

    Raises:
        UserError: The loss or a gradient is not finite; the last good state stays in `directory`. Or the rows of a
            batch do not divide over the mesh.
        Preempted: SIGTERM came, to any process.
    """
    with contextlib.ExitStack() as stack:
        checkpoints = stack.enter_context(contextlib.closing(RunCheckpoints(directory, keep)))
        base = None if adapters is None else loss_lib.cast(params, model.compute_dtype())
        state = init_state(params if adapters is None else adapters, recipe)
        told = {'history': [], 'tokens': 0, 'loss': None}
        if mesh is not None:
            state, base = (jax.device_put(each, sharding.param_shardings(each, mesh)) for each in (state, base))
        resumed = checkpoints.restore_state(state)
        if resumed is not None:
            state, told = resumed
        step = looked_at = saved = int(state.step)
        saved_at = clock()
        due = set(checkpoint_steps(steps, num_checkpoints)) - {entry['step'] for entry in told['history']}
        rank = 0 if adapters is None else lora.rank_of(adapters)
        metrics = stack.enter_context(contextlib.closing(Metrics(directory, config, step, peak_flops, clock, rank)))
        if step:
            on_progress(step, {})  # what an earlier attempt did counts too
        preempted = stack.enter_context(preemption.watch(hosts.any_process))
        while True:
            stop = preempted()
            if step > looked_at and (stop or step in due or step % METRICS_EVERY == 0 or step == steps):
                last = metrics.look(names)
                told['loss'] = last['loss']
                on_progress(step - looked_at, last)
                looked_at = step
            if step in due and not stop:
                weights = state.params if base is None else lora.merge(base, state.params, mesh)
                accuracy = validate(weights, preempted)
                stop = accuracy is None
                if not stop:
                    checkpoints.save_weights(step, weights, accuracy)
                    told['history'].append({'step': step, 'loss': told['loss'], 'accuracy': accuracy})
                    due.remove(step)
                    metrics.validated(step, accuracy)
                del weights  # merged ones are a copy, which the steps to come have no room for
            # Only what was seen to be finite is saved: a NaN would be resumed from for ever. And by all processes or
            # none: each saves its part, and their clocks differ.
            if step == looked_at > saved and (stop or hosts.any_process(clock() - saved_at >= STATE_INTERVAL_S)):
                metrics.flush()
                checkpoints.save_state(step, state, told)
                saved, saved_at = step, clock()
            if stop or step == steps:
                break
            this, rate = batch(step), np.float32(learning_rate(step))
            told['tokens'] += int(np.count_nonzero(this.segment_ids))
            on_devices = this
            if mesh is not None:
                sharding.check_rows(mesh, len(this.tokens), 'the packed rows of a batch (finetune.row_multiple)')
                sharding.check_rows(mesh, microbatch_rows, 'finetune.microbatch_rows')
                on_devices = sharding.rows_to_global(this, mesh)
            state, measured = train_step(
                state, on_devices, rate, base, config=config, recipe=recipe, microbatch_rows=microbatch_rows,
                mesh=mesh, dtype=model.compute_dtype(),
            )  # fmt: skip
            step += 1
            metrics.add(step, this, rate, measured)
        metrics.flush()
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
