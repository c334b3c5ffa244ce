"""What a training run measures: step by step to JSONL, at every look to TensorBoard."""

import collections
import json
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from etils import epath

from cosample_jax import hosts
from cosample_jax.errors import UserError
from cosample_jax.gemma.config import GemmaConfig
from cosample_jax.records import commit, is_remote
from cosample_jax.training import lora
from cosample_jax.training.packing import Batch


class Metrics:
    """The metrics of one run, which stay on the device until somebody looks.

    ``metrics.jsonl`` has a row a step: ``step``, ``loss`` (nats a token), ``accuracy`` (teacher-forced argmax),
    ``tokens`` (that the loss falls on), ``grad_norm`` (before clipping), ``learning_rate``; after a validation
    ``validation_accuracy``. The last step of every look has ``tokens_per_s`` (the same tokens: neither prompts nor
    padding) and, where the devices' peak is known, ``mfu``, both over the steps since the look before. The file is
    written whole when the run's state is saved, and tells no more than that state: after a kill the same rows come
    again. ``tensorboard/`` has what every look saw, of runs in local directories.
    """

    def __init__(
        self,
        directory,
        config: GemmaConfig,
        after: int = 0,
        peak_flops: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        lora_rank: int = 0,
    ):
        """Goes on after the step `after`. `peak_flops` are of all devices together, a second."""
        self._lora_rank = lora_rank
        self._directory, self._config, self._peak, self._clock = epath.Path(directory), config, peak_flops, clock
        self._path = self._directory / 'metrics.jsonl'
        self._rows: dict[int, dict[str, Any]] = {}
        if self._path.exists():
            rows = map(json.loads, self._path.read_text().splitlines())
            self._rows = {row['step']: row for row in rows if row['step'] <= after}
        self._pending: list[tuple[dict[str, Any], dict[str, jax.Array]]] = []
        self._flops, self._since = 0.0, 0.0
        self._board = None
        if hosts.index() == 0 and not is_remote(directory):
            import tensorboardX

            board = self._directory / 'tensorboard'
            self._board = tensorboardX.SummaryWriter(str(board), purge_step=after + 1, write_to_disk=True)

    def add(self, step: int, batch: Batch, learning_rate: float, measured: dict[str, jax.Array]) -> None:
        """A step was sent to the devices, with this (host's) batch."""
        if not self._pending:
            self._flops, self._since = 0.0, self._clock()
        if self._peak:
            self._flops += step_flops(self._config, batch, self._lora_rank)
        self._pending.append(({'step': step, 'learning_rate': float(learning_rate)}, measured))

    def look(self, names: Callable[[int], list[str]]) -> dict[str, Any]:
        """Waits for the steps added since the last look; returns the row of the last one.

        Raises UserError for the first step whose loss or gradient is not finite, with `names` of its examples.
        """
        values = jax.device_get([measured for _, measured in self._pending])
        seconds = self._clock() - self._since
        rows = [
            row | {k: float(v) for k, v in each.items()} for (row, _), each in zip(self._pending, values, strict=True)
        ]
        self._pending = []
        for row in rows:
            if not math.isfinite(row['loss'] + row['grad_norm']):
                examples = ', '.join(dict.fromkeys(names(row['step'] - 1)))
                raise UserError(
                    f'the loss became {row["loss"]} (gradient norm {row["grad_norm"]}) at step {row["step"]} of '
                    f'{self._directory}' + (f', on {examples}' if examples else '') + ': lower the learning rate, or '
                    'leave these examples out; the last good state is kept'
                )
            self._rows[row['step']] = row
        last = rows[-1]
        if seconds > 0:
            last['tokens_per_s'] = sum(row['tokens'] for row in rows) / seconds
            if self._peak:
                last['mfu'] = self._flops / seconds / self._peak
        self._show(last)
        return last

    def validated(self, step: int, accuracy: float) -> None:
        self._rows.setdefault(step, {'step': step})['validation_accuracy'] = accuracy
        self._show({'step': step, 'validation_accuracy': accuracy})

    def flush(self) -> None:
        """Writes the file."""
        if hosts.index() == 0:
            lines = [json.dumps(row) + '\n' for _, row in sorted(self._rows.items())]
            commit(self._path, ''.join(lines).encode())
        if self._board is not None:
            self._board.flush()

    def close(self) -> None:
        if self._board is not None:
            self._board.close()

    def _show(self, row: dict[str, Any]) -> None:
        if self._board is not None:
            for name, value in row.items():
                if name != 'step':
                    self._board.add_scalar(name, value, row['step'])


def step_flops(config: GemmaConfig, batch: Batch, lora_rank: int = 0) -> float:
    """Floating-point operations that a step cannot do without: 2 forward and 4 backward a weight and token; of the 4,
    the 2 for a weight's own gradient fall away where only adapters of `lora_rank` are trained.

    As MFU counts them (PaLM, arXiv 2204.02311, appendix B), for packed rows: padding is no token, a query meets the
    keys of its own segment within the layer's window (12 a query head, dimension and pair), and the vocabulary is
    multiplied at the positions that carry loss. What is computed a second time to save memory does not count.
    """
    real = batch.segment_ids > 0
    seen = batch.positions[real].astype(np.int64) + 1
    windows = collections.Counter(config.windows)
    pairs = sum(n * int((np.minimum(seen, window) if window else seen).sum()) for window, n in windows.items())
    learned = int(np.count_nonzero(batch.weights))
    a_weight = 4.0 if lora_rank else 6.0
    flops = a_weight * config.num_non_embedding_params() * int(real.sum())
    flops += a_weight * config.vocab_size * config.embed_dim * learned
    if lora_rank:
        flops += 6.0 * lora.num_params(config, lora_rank) * int(real.sum())
    return flops + 12.0 * config.num_heads * config.head_dim * pairs
