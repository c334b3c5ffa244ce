"""What a run tells of itself: counted by hand, timed by a clock that is handed in."""

import json

import numpy as np
import pytest

from cosample_jax.gemma import config as gemma_config
from cosample_jax.training import lora, packing
from cosample_jax.training.metrics import Metrics, step_flops
from cosample_jax.training.packing import Example

CONFIG = gemma_config.gemma2('counted', layers=2, embed=8, ffw=16, heads=4, kv_heads=2, head_dim=4, vocab=32, window=3)
MEASURED = {'loss': 2.0, 'accuracy': 0.5, 'tokens': 30.0, 'grad_norm': 1.0}
BATCH = packing.pack(
    [Example([2, 5, 6, 7, 1], [False, False, False, True, True]), Example([2, 5, 1], [False, True, True])], 8, 1
)


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_flops_are_those_of_the_real_tokens():
    """Segments of 4 and 2 positions; the first layer's window is 3, the second layer sees everything."""
    assert CONFIG.windows == (3, 0)
    weights = CONFIG.num_non_embedding_params()
    pairs = (1 + 2 + 3 + 3) + (1 + 2) + (1 + 2 + 3 + 4) + (1 + 2)
    learned = 2 + 2
    assert step_flops(CONFIG, BATCH) == 6 * weights * 6 + 6 * 32 * 8 * learned + 12 * 4 * 4 * pairs
    adapted = 4 * weights * 6 + 4 * 32 * 8 * learned + 6 * lora.num_params(CONFIG, 2) * 6 + 12 * 4 * 4 * pairs
    assert step_flops(CONFIG, BATCH, lora_rank=2) == adapted


def test_rates_are_over_the_steps_since_the_last_look(tmp_path):
    clock = Clock()
    metrics = Metrics(tmp_path, CONFIG, peak_flops=1e6, clock=clock)
    for step in (1, 2):
        metrics.add(step, BATCH, 1e-3, MEASURED)
        clock.now += 2.0
    last = metrics.look(lambda step: [])
    assert last == {'step': 2, 'learning_rate': 1e-3, **MEASURED, 'tokens_per_s': 15.0, 'mfu': last['mfu']}
    assert last['mfu'] == pytest.approx(2 * step_flops(CONFIG, BATCH) / 4.0 / 1e6)
    clock.now += 1000.0  # a validation
    metrics.add(3, BATCH, 1e-3, MEASURED)
    clock.now += 1.0
    assert metrics.look(lambda step: [])['tokens_per_s'] == 30.0
    metrics.close()


def test_a_resumed_run_tells_each_step_once(tmp_path):
    first = Metrics(tmp_path, CONFIG)
    for step in range(1, 6):
        first.add(step, BATCH, 1e-3, MEASURED | {'loss': 1.0 * step})
    first.look(lambda step: [])
    first.validated(5, 0.25)
    first.flush()
    first.close()
    again = Metrics(tmp_path, CONFIG, after=3)
    for step in (4, 5):
        again.add(step, BATCH, 1e-3, MEASURED | {'loss': 10.0 * step})
    again.look(lambda step: [])
    again.flush()
    again.close()
    rows = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
    assert [(row['step'], row['loss']) for row in rows] == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 40.0), (5, 50.0)]
    assert 'validation_accuracy' not in rows[-1]


def test_tensorboard_reads_what_was_written(tmp_path):
    from tensorboardX.proto.event_pb2 import Event

    metrics = Metrics(tmp_path, CONFIG)
    metrics.add(7, BATCH, 1e-3, MEASURED)
    metrics.look(lambda step: [])
    metrics.validated(7, 0.25)
    metrics.close()
    (path,) = (tmp_path / 'tensorboard').iterdir()
    data, at, seen = path.read_bytes(), 0, {}
    while at < len(data):  # length, its checksum, the event, its checksum
        length = int(np.frombuffer(data, '<u8', 1, at)[0])
        event = Event.FromString(data[at + 12 : at + 12 + length])
        seen |= {value.tag: (event.step, value.simple_value) for value in event.summary.value}
        at += 16 + length
    assert seen['loss'] == (7, 2.0) and seen['validation_accuracy'] == (7, 0.25) and seen['grad_norm'] == (7, 1.0)
