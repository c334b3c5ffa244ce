"""Truth for forecasts: the embedded models sampled a thousand times a problem, graded, and their counts.

    python -m benchmarks.forecast_pools DIRECTORY [SAMPLES [POOL ...]]

Fills the pools weak, strong, student (T = 0.7) and strong-hot (T = 1.2, every token allowed) of 60 training problems in
the workdir DIRECTORY, then writes the counts of all of them to benchmarks/forecast_counts.jsonl, which `cosample
forecast --input` and `benchmarks.forecast` read. Goes on where it was stopped.
"""

import dataclasses
import json
import sys
from pathlib import Path

from cosample_jax import checkpoint, cli, progress, tasks
from cosample_jax.commands import forecast
from cosample_jax.gemma import config as gemma_config
from cosample_jax.gemma import model
from cosample_jax.gemma.tokenizer import Tokenizer
from cosample_jax.grading import pool as grading
from cosample_jax.records import commit
from cosample_jax.sampling import asking
from cosample_jax.sampling.engine import Engine
from cosample_jax.sampling.pool import fill_pool
from cosample_jax.workdir import Workdir

COUNTS = Path(__file__).with_name('forecast_counts.jsonl')
PROBLEMS = 60
POOLS = {'weak': {}, 'strong': {}, 'student': {}, 'strong-hot': {'temperature': 1.2, 'top_k': 0}}


def main(directory: str, samples: str = '1000', *names: str) -> None:
    flags = ['--config=configs/arithmetic.py', f'--config.task.num_train={PROBLEMS}', f'--workdir={directory}']
    if cli.main(['prepare', *flags]):
        sys.exit(2)
    args = cli.parse_flags('sample', flags)
    workdir = Workdir(directory)
    for name in names or POOLS:
        _fill(args.config, workdir, name, int(samples))
    rows = [row for name in POOLS for row in _counts(workdir, name, int(samples))]
    commit(COUNTS, ''.join(json.dumps(row) + '\n' for row in rows).encode())


def _fill(config, workdir, name: str, samples: int) -> None:
    source = name.partition('-')[0]
    tokenizer, shots, problems = Tokenizer(workdir.tokenizer_path), asking.shots(workdir), workdir.problems('train')
    template = tasks.template(config, tokenizer, config.models[source].chat)
    variant = gemma_config.variant(config.models[source].variant)
    settings = dataclasses.replace(asking.settings(config, template, 'train'), **POOLS[name])
    requests = asking.requests(template, problems, shots, lambda _: samples)
    params = checkpoint.load_weights(workdir.model_dir(source), variant, model.compute_dtype())
    engine = Engine(params, variant, settings, requests)
    store = workdir.pool('train', name)
    with progress.bar(f'sample {name}', total=len(requests), unit='samples', initial=len(store)) as bar:
        fill_pool(store, engine, requests, text=template.text, model=name, bar=bar)
    grading.grade_pool(workdir, 'train', name, problems, tasks.get(config.task.name))


def _counts(workdir, name: str, samples: int) -> list[dict]:
    # The first ones: where sampling stopped on the way to more, those that are there are the shorter ones.
    pilot = forecast.pool(workdir, name, samples)
    rows = zip(pilot.problem_ids, pilot.total.tolist(), pilot.correct.tolist(), pilot.solutions, strict=True)
    names = ('problem_id', 'model', 'samples', 'correct', 'unique')
    return [dict(zip(names, (i, name, n, c, sorted(s, reverse=True)), strict=True)) for i, n, c, s in rows]


if __name__ == '__main__':
    main(*sys.argv[1:])
