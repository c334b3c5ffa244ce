"""What a run will cost, before it starts: tokens, FLOPs and predicted seconds of every stage.

Tokens are counted from the configuration and from the task's own gold solutions. Seconds are a model, not a promise:

    seconds = compilations · COMPILE_S + tokens · (TOKEN_S + FLOPs per token / FLOPS)

with constants measured on a 2-core CPU, scaled by the speed at which THIS machine multiplies two matrices. Tiny models
are bound by the first term in the brackets, real ones by the second.
"""

import time

import numpy as np

from cosample_jax import cells, tasks
from cosample_jax import config as config_lib

# Measured on 2 cores that multiply float32 matrices at REFERENCE_FLOPS: see the docstring.
REFERENCE_FLOPS = 2.65e11
TRAIN = {'compile_s': 6.0, 'token_s': 7e-6, 'flops': 3.4e10}
DECODE = {'compile_s': 2.5, 'token_s': 1.3e-5, 'flops': 1.0e10}
ORDER = ('prepare', 'pretrain', 'sample', 'grade', 'judge', 'analyze', 'finetune', 'evaluate', 'report')
FIXED_S = {'prepare': 1.5, 'grade': 1.0, 'judge': 0.5, 'analyze': 1.0, 'report': 4.5}


def predict(config) -> dict:
    """``{"stages": {name: {"seconds", "tokens", "samples", "flops"}}, "matmul_gflops": ...}`` of a finalized config.

    Generated tokens for sampling and evaluation; tokens read and learned, padding excluded, for training.
    """
    speed = _matmul_flops() / REFERENCE_FLOPS
    splits = tasks.get(config.task.name).build(config)
    count = _token_counter(config)
    solution = float(np.mean([count(p.solution) for p in splits['train']]))
    question = float(np.mean([count(p.question) for p in splits['train']]))
    params = {name: config_lib.num_params(config, name) for name in config.models}
    stages = {name: {'seconds': FIXED_S.get(name, 0.0) / speed} for name in ORDER}

    pretrained = [name for name, entry in config.models.items() if entry.init == 'pretrain']
    stages['pretrain'] = _total(
        [_work(TRAIN, config.pretrain.steps[m] * config.pretrain.batch_tokens, 6 * params[m], 1) for m in pretrained],
        speed,
    )
    sampled = []
    for source in config.roles.sources:
        samples = sum(cells.sample_count(config, source, 'high', p.id) for p in splits['train'])
        sampled.append(_work(DECODE, samples * solution, 2 * params[source], 1, samples))
    stages['sample'] = _total(sampled, speed)

    grid = cells.grid(config)
    learned, answered = [], []
    for model in config.roles.trained:
        mine = [cell for cell in grid if cell.model == model]
        runs = [
            (cell, config.finetune.steps[cell.budget]) for cell in mine for _ in config.finetune.learning_rate[model]
        ]
        tokens = sum(steps for _, steps in runs) * config.finetune.batch_size * (question + solution)
        learned.append(_work(TRAIN, tokens, 6 * params[model], 2))
        validated = len(runs) * config.finetune.checkpoints * config.task.num_validation
        learned.append(_work(DECODE, validated * solution, 2 * params[model], 1))
        per_model = sum(len(splits[split]) for split in config.evaluate.splits)
        per_model += config.evaluate.maj_samples * config.evaluate.maj_problems * ('test' in config.evaluate.splits)
        samples = (len(mine) + 1) * per_model
        answered.append(_work(DECODE, samples * solution, 2 * params[model], 3, samples))
    stages['finetune'] = _total(learned, speed)
    stages['evaluate'] = _total(answered, speed)
    return {'stages': stages, 'matmul_gflops': round(speed * REFERENCE_FLOPS / 1e9, 1)}


def print_table(prediction: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table('stage', 'samples', 'tokens', 'FLOPs', 'seconds', title='plan')
    for column in table.columns[1:]:
        column.justify = 'right'
    for stage, row in prediction['stages'].items():
        table.add_row(
            stage,
            f'{row["samples"]:,}' if row.get('samples') else '',
            f'{row["tokens"]:,}' if row.get('tokens') else '',
            f'{row["flops"]:.1e}' if row.get('flops') else '',
            f'{row["seconds"]:,.0f}',
        )
    total = sum(row['seconds'] for row in prediction['stages'].values())
    table.add_section()
    table.add_row('in all', '', '', '', f'{total:,.0f}')
    console = Console()
    console.print(table)
    console.print(
        f'(seconds: a model for a machine that multiplies matrices at {prediction["matmul_gflops"]:g} GFLOP/s)'
    )


def _work(rates: dict, tokens: float, flops_per_token: float, compilations: int, samples: int = 0) -> dict:
    seconds = compilations * rates['compile_s'] + tokens * (rates['token_s'] + flops_per_token / rates['flops'])
    return {'seconds': seconds, 'tokens': tokens, 'flops': tokens * flops_per_token, 'samples': samples}


def _total(parts: list[dict], speed: float) -> dict:
    total = {name: sum(part[name] for part in parts) for name in ('seconds', 'tokens', 'flops', 'samples')}
    return {
        'seconds': total['seconds'] / speed,
        'tokens': round(total['tokens']),
        'flops': total['flops'],
        'samples': total['samples'],
    }


def _matmul_flops(size: int = 512, repeats: int = 5) -> float:
    """FLOP/s of the best of a few float32 matrix products: a tenth of a second."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, size, size)).astype(np.float32)
    best = min(_timed(lambda: a @ b) for _ in range(repeats))
    return 2 * size**3 / best


def _timed(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _token_counter(config):
    """Tokens of a text: by the shipped tokenizer when a shipped model is used, else 3.5 characters each."""
    from cosample_jax import embedded

    if any(entry.init == 'package' for entry in config.models.values()):
        tokenizer = embedded.tokenizer()
        return lambda text: len(tokenizer.encode(text))
    return lambda text: len(text) / 3.5
