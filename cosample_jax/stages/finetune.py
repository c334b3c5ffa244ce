"""finetune: fine-tuning of every cell from its base weights, on the kept solutions, for the same number of steps.

All weights are trained, or adapters of them (config.finetune.lora_rank); what is saved are weights in either case.
Ten checkpoints a cell, the best by validation accuracy is kept (or all: config.finetune.keep). ``metrics.jsonl`` and
``tensorboard/`` lie beside them, for each learning rate; ``run.json`` tells that it is done, and its state is dropped.
``finetune/<cell>/cell.json`` is written last and makes a cell finished; an unfinished one goes on from its latest
state.
"""

import math
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import grain
import jax
import jax.numpy as jnp

from cosample_jax import cells, checkpoint, devices, hosts, progress, sharding, tasks, training_sets
from cosample_jax.errors import UserError
from cosample_jax.gemma import config as gemma_config
from cosample_jax.gemma import model
from cosample_jax.gemma.tokenizer import Tokenizer
from cosample_jax.records import read_json, write_json
from cosample_jax.training import loop, lora, packing
from cosample_jax.validation import Validation

NOT_TRAINED = '0 survivors, not trained'


def run(config, workdir) -> dict:
    tokenizer = Tokenizer(workdir.tokenizer_path)
    validations = {
        chat: Validation(config, workdir.problems('validation'), tasks.template(config, tokenizer, chat))
        for chat in {config.models[name].chat for name in config.roles.trained}
    }
    counters = {'cells': 0, 'not_trained': 0, 'steps': 0, 'tokens': 0}
    steps = {cell: _num_steps(config, cell) for cell in cells.grid(config)}
    finished = sum(n for cell, n in steps.items() if _record_path(workdir, cell).exists())
    # Of all cells before the first is trained: an example that is too long must not turn up after days.
    undone = [cell for cell in steps if not _record_path(workdir, cell).exists()]
    learned = {cell: (cell.data, cell.budget, config.models[cell.model].chat) for cell in undone}
    lessons = {key: _lessons(*key, config, workdir, tokenizer) for key in dict.fromkeys(learned.values())}
    with progress.bar('finetune', total=sum(steps.values()), unit='steps', initial=finished) as bar:
        for cell in steps:
            path = _record_path(workdir, cell)
            if cell in undone:
                validation = validations[config.models[cell.model].chat]
                record = _train_cell(cell, config, workdir, lessons[learned[cell]], validation, bar)
                hosts.alone(write_json, path, record)
            record = read_json(path)
            counters['cells'] += 1
            counters['not_trained'] += not record['trained']
            counters['steps'] += record['steps']
            counters['tokens'] += record['tokens']
    return counters


def _record_path(workdir, cell: cells.Cell):
    return workdir.cell_dir(cell.name) / 'cell.json'


def _num_steps(config, cell: cells.Cell) -> int:
    """Steps of a cell, over all learning rates."""
    return len(config.finetune.learning_rate[cell.model]) * config.finetune.steps[cell.model][cell.budget]


class Lessons(NamedTuple):
    """What a cell learns from, as it is and as tokens; and how many were dropped because no row takes them, or because
    they quote a test problem.
    """

    kept: list[training_sets.Kept]
    examples: list[packing.Example]
    too_long: int
    contaminated: int


def _train_cell(cell: cells.Cell, config, workdir, lessons: Lessons, validation: Validation, bar) -> dict:
    """Trains a cell once per learning rate and returns the record of the best run by validation accuracy."""
    settings = config.finetune
    steps, batch_size = settings.steps[cell.model][cell.budget], settings.batch_size[cell.model]
    kept, examples, too_long, contaminated = lessons
    record = {
        **cell._asdict(),
        'cell': cell.name,
        'kept': len(kept),
        'too_long': too_long,
        'contaminated': contaminated,
        'unique': len({(k.problem.id, k.solution) for k in kept}),
        'problems': len({k.problem.id for k in kept}),
    }
    if not kept:
        bar.advance(_num_steps(config, cell))
        reason = f'{too_long} survivors, all too long for a row, not trained' if too_long else NOT_TRAINED
        return record | {'trained': False, 'reason': reason, 'steps': 0, 'tokens': 0, 'epochs': 0.0}
    variant = gemma_config.variant(config.models[cell.model].variant)
    mesh = sharding.run_mesh(config)
    adapters, dtype = None, jnp.float32
    if settings.lora_rank:  # frozen weights are only multiplied
        adapters = lora.init(variant, settings.lora_rank, jax.random.key(config.seed + cell.seed))
        dtype = model.compute_dtype()
    base = checkpoint.load_weights(workdir.model_dir(cell.model), variant, dtype, mesh)
    # Random access: the examples of step s are a pure function of (seed, s). Every epoch has an order of its own.
    order = grain.MapDataset.range(len(examples)).shuffle(seed=config.seed + cell.seed).repeat()

    def chosen(step: int) -> list[int]:
        return [int(order[i]) for i in range(step * batch_size, (step + 1) * batch_size)]

    def batch(step: int) -> packing.Batch:
        multiple = math.lcm(settings.row_multiple, settings.microbatch_rows or 1)
        return packing.pack([examples[i] for i in chosen(step)], settings.row_length, multiple)

    def show(n: int, metrics: dict) -> None:
        shown = {'loss': 'loss', 'useful tokens/s': 'tokens_per_s', 'MFU': 'mfu'}
        bar.advance(n, **{name: metrics[key] for name, key in shown.items() if key in metrics})

    runs = []
    for rate in settings.learning_rate[cell.model]:
        directory = workdir.cell_dir(cell.name) / f'lr-{rate:g}'
        done = directory / 'run.json'
        if not done.exists():
            result = loop.train(
                base,
                variant,
                batch=batch,
                steps=steps,
                learning_rate=loop.warmup_cosine(rate, steps, warmup=max(1, steps // 20)),
                directory=directory,
                validate=lambda params, should_stop: validation.accuracy(params, variant, should_stop),
                num_checkpoints=settings.checkpoints,
                keep=settings.keep,
                adapters=adapters,
                microbatch_rows=settings.microbatch_rows,
                mesh=mesh,
                names=lambda step: [kept[i].problem.id for i in chosen(step)],
                peak_flops=devices.peak_flops(config.mesh),
                on_progress=show,
            )
            best = {'best_step': result.best['step'], 'validation_accuracy': result.best['accuracy']}
            told = {'learning_rate': rate, 'tokens': result.tokens, **best, 'history': result.history}
            hosts.alone(write_json, done, told)
        else:
            bar.advance(steps)
        checkpoint.drop_state(directory)
        runs.append(read_json(done) | {'weights': directory.name})
    return record | {
        'seen': _seen(kept, examples, (i for step in range(steps) for i in chosen(step))),
        'trained': True,
        'reason': '',
        'steps': steps,
        'examples': steps * batch_size,
        'epochs': round(steps * batch_size / len(kept), 3),
        'lora_rank': settings.lora_rank,
        **max(runs, key=lambda run: run['validation_accuracy']),
    }


def _seen(kept: list[training_sets.Kept], examples: list[packing.Example], drawn: Iterable[int]) -> list[dict]:
    """What one run over the examples `drawn` sees of each source; `tokens` are positions of rows, of which
    `loss_tokens` are learned.
    """
    times = Counter(drawn)
    rows = []
    for source in dict.fromkeys(each.source for each in kept):
        own = [i for i, each in enumerate(kept) if each.source == source]
        met = [kept[i] for i in own if times[i]]
        count = sum(times[i] for i in own)
        rows.append(
            {
                'source': source,
                'kept': len(own),
                'unique': len({(each.problem.id, each.solution) for each in met}),
                'problems': len({each.problem.id for each in met}),
                'examples': count,
                'epochs': round(count / len(own), 3),
                'tokens': sum(times[i] * packing.positions(examples[i]) for i in own),
                'loss_tokens': sum(times[i] * sum(examples[i].learn) for i in own),
            }
        )
    return rows


def _lessons(data: str, level: str, chat: bool, config, workdir, tokenizer: Tokenizer) -> Lessons:
    """UserError for an example that no row takes, unless config.finetune.too_long is 'drop'."""
    kept, contaminated = training_sets.training_data(config, workdir, data, level)
    if contaminated:
        print(f'{data} data ({level} budget): {contaminated:,} solutions quote a test problem and are left out')
    template = tasks.template(config, tokenizer, chat)
    examples = [packing.lesson(template.prompt(k.problem.question), template.answer(k.solution)) for k in kept]
    lengths = [packing.positions(example) for example in examples]
    which = [i for i, length in enumerate(lengths) if length <= config.finetune.row_length]
    if len(which) < len(kept) and config.finetune.too_long == 'fail':
        longest = max(range(len(kept)), key=lambda i: lengths[i])
        raise UserError(
            f'{len(kept) - len(which)} of {len(kept)} examples of {data} data ({level} budget) are longer than a row, '
            f'that of problem {kept[longest].problem.id} most: raise config.finetune.row_length '
            f'({config.finetune.row_length}) to {lengths[longest]}, or leave them out with '
            '--config.finetune.too_long=drop'
        )
    return Lessons([kept[i] for i in which], [examples[i] for i in which], len(kept) - len(which), contaminated)
