"""What the benchmarks draw and train on, and how ours does. `benchmarks.sampler` and `benchmarks.sft` say more."""

import csv
import dataclasses
import functools
import time
from pathlib import Path

import numpy as np


@dataclasses.dataclass(frozen=True)
class Work:
    """`problems` problems of `prefix` shared and `question` own tokens, `samples` samples each, of `low` to `high`."""

    problems: int = 8
    samples: int = 16
    prefix: int = 768
    question: int = 64
    low: int = 128
    high: int = 128

    def prompts(self) -> list[list[int]]:
        rng = np.random.default_rng(0)
        prefix = [2, *rng.integers(6, 8192, max(self.prefix - 1, 0)).tolist()]
        return [prefix + rng.integers(6, 8192, self.question).tolist() for _ in range(self.problems)]

    def lengths(self) -> np.ndarray:
        """Of each sample, [problems, samples]."""
        return np.random.default_rng(1).integers(self.low, self.high + 1, (self.problems, self.samples))


FIXED, VARIED = Work(), Work(low=16, high=256)


def model_config(vocab: int = 8192, scan_unroll: int = 2):
    from cosample_jax.gemma.config import gemma2

    shape = {'embed': 512, 'ffw': 2048, 'heads': 8, 'kv_heads': 4, 'head_dim': 64, 'vocab': vocab}
    return gemma2('bench', layers=2, scan_unroll=scan_unroll, **shape)


def random_params(config):
    import jax

    from cosample_jax.gemma import model

    return jax.jit(model.init, static_argnums=0)(config, jax.random.key(0))


@functools.cache
def model_and_params():
    return model_config(), random_params(model_config())


def examples(vocab: int, batches: int) -> list[list]:
    """Batches of 8 examples of 32 to 512 tokens, log-normal around 256; the first 15% to 35% are prompt."""
    from cosample_jax.training.packing import Example

    rng = np.random.default_rng(0)

    def example():
        length = int(np.clip(rng.lognormal(np.log(256), 0.5), 32, 512))
        prompt = int(rng.uniform(0.15, 0.35) * length)
        return Example([2, *rng.integers(6, vocab, length - 2).tolist(), 1], [i >= prompt for i in range(length)])

    return [[example() for _ in range(8)] for _ in range(batches)]


@functools.lru_cache(maxsize=2)
def engine(work: Work, slots: int):
    from cosample_jax.sampling.engine import Engine
    from cosample_jax.sampling.policy import SamplingSettings
    from cosample_jax.sampling.schedule import Request

    lengths = work.lengths()
    requests = [
        Request(f'p{p}', k, prompt, int(lengths[p, k]))
        for p, prompt in enumerate(work.prompts())
        for k in range(work.samples)
    ]
    settings = SamplingSettings(
        seed=0, purpose='bench', temperature=0.7, top_k=3, max_new_tokens=work.high, slots=slots, stop_ids=()
    )
    return Engine(model_and_params()[1], model_and_params()[0], settings, requests), requests


def run_ours(work: Work, slots: int) -> dict:
    """Draws the whole queue; seconds, tokens that were asked for, and how busy the rows were."""
    from cosample_jax.sampling.rows import Usage

    made, requests = engine(work, slots)
    made.usage = Usage()
    start = time.perf_counter()
    tokens = sum(done.num_tokens for done in made.sample(requests))
    seconds = time.perf_counter() - start
    usage = made.usage
    busy = usage.full_drawn / usage.full_capacity if usage.full_capacity else usage.drawn / usage.capacity
    return {'seconds': seconds, 'tokens': tokens, 'busy': busy}


def rate(result: dict) -> float:
    return result['tokens'] / result['seconds']


def write(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'w', newline='') as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f'{v:.4g}' if isinstance(v, float) else v for k, v in row.items()})


def line(row: dict) -> str:
    return '  '.join(f'{k} {v:,.4g}' if isinstance(v, float) else f'{k} {v}' for k, v in row.items())
