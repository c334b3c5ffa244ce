"""What a run will cost, before it starts: tokens, FLOPs and predicted seconds of every stage.

Tokens are counted from the configuration and from the task's own gold solutions. Seconds are a model, not a promise:

    seconds = compilations · COMPILE_S + tokens · (TOKEN_S + FLOPs per token / FLOPS)

with constants measured on a 2-core CPU, scaled by the speed at which THIS machine multiplies two matrices. Tiny models
are bound by the first term in the brackets, real ones by the second.

What the budget's samples cost by each lens is :mod:`cosample_jax.spending`'s. Memory of each model, sampling and
fine-tuned, is that of :mod:`cosample_jax.memory`, against what a device has.
"""

import math
import time
from collections.abc import Iterator

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from cosample_jax import cells, devices, memory, roofline, sharding, spending, tasks
from cosample_jax import config as config_lib
from cosample_jax.budget import Lengths
from cosample_jax.errors import UserError
from cosample_jax.gemma import model as gemma_model
from cosample_jax.gemma.config import variant
from cosample_jax.gemma.tokenizer import BOS, OWN, UNK, Tokenizer
from cosample_jax.tasks import prompts

# Measured on 2 cores that multiply float32 matrices at REFERENCE_FLOPS: see the docstring.
REFERENCE_FLOPS = 2.65e11
TRAIN = {'compile_s': 6.0, 'token_s': 7e-6, 'flops': 3.4e10}
DECODE = {'compile_s': 2.5, 'token_s': 1.3e-5, 'flops': 1.0e10}
ORDER = ('prepare', 'pretrain', 'sample', 'grade', 'judge', 'analyze', 'finetune', 'evaluate', 'report')
FIXED_S = {'prepare': 1.5, 'grade': 1.0, 'judge': 0.5, 'analyze': 1.0, 'report': 4.5}


def predict(config, slice_: devices.Slice | None = None, workdir=None) -> dict:
    """``{"stages": {name: {"seconds", "tokens", "samples", "flops"}}, "matmul_gflops": ..., "memory": ...,
    "budget": ..., "recipes": ..., "apis": ..., "notes": of the problems and the pilot, a line each}`` of a finalized
    config; on a slice ``"training"``, too.

    Generated tokens for sampling and evaluation; tokens read and learned, padding excluded, for training. Memory is as
    `memory_section` says: of the chips of `slice_`, or of this machine's devices. Training is as `training_section`
    says, and the budget as `spending.section`: with what the pools of `workdir` have measured, when there are any.
    """
    speed = _matmul_flops() / REFERENCE_FLOPS
    splits = tasks.build(config)
    tokenizer = planning_tokenizer(config)
    written = [len(tokenizer.encode(p.solution)) for p in splits['train'] if p.solution]
    solution = float(np.mean(written)) if written else config.sampling.max_new_tokens
    question = float(np.mean([len(tokenizer.encode(p.question)) for p in splits['train']]))
    params = {name: config_lib.num_params(config, name) for name in config.models}
    local = config_lib.local_models(config)
    stages = {name: {'seconds': FIXED_S.get(name, 0.0) / speed} for name in ORDER}

    pretrained = [name for name, entry in config.models.items() if entry.init == 'pretrain']
    stages['pretrain'] = _total(
        [_work(TRAIN, config.pretrain.steps[m] * config.pretrain.batch_tokens, 6 * params[m], 1) for m in pretrained],
        speed,
    )
    sampled = []
    for source in cells.sources(config):
        samples = sum(cells.pool_counts(config, source, splits['train']).values())
        work = _work(DECODE, samples * solution, 2 * params[source], 1, samples)
        sampled.append(work if source in local else work | {'seconds': 0.0, 'flops': 0.0})
    stages['sample'] = _total(sampled, speed)

    grid = cells.grid(config)
    learned, answered = [], []
    for model in config.roles.trained:
        mine = [cell for cell in grid if cell.model == model]
        runs = [
            (cell, config.finetune.steps[model][cell.budget])
            for cell in mine
            for _ in config.finetune.learning_rate[model]
        ]
        tokens = sum(steps for _, steps in runs) * config.finetune.batch_size[model] * (question + solution)
        # Frozen weights need no gradient of their own, a third of the operations.
        learned.append(_work(TRAIN, tokens, (4 if config.finetune.lora_rank else 6) * params[model], 2))
        validated = len(runs) * config.finetune.checkpoints * len(splits['validation'])
        learned.append(_work(DECODE, validated * solution, 2 * params[model], 1))
        per_model = sum(len(splits[split]) for split in config.evaluate.splits)
        if 'test' in config.evaluate.splits:
            per_model += config.evaluate.maj_samples * min(config.evaluate.maj_problems, len(splits['test']))
        samples = (len(mine) + 1) * per_model
        answered.append(_work(DECODE, samples * solution, 2 * params[model], 3, samples))
    stages['finetune'] = _total(learned, speed)
    stages['evaluate'] = _total(answered, speed)
    told = {chat: lengths(splits, tasks.template(config, tokenizer, chat)) for chat in {e.chat for e in local.values()}}
    section = memory_section(config, {name: told[entry.chat] for name, entry in local.items()}, slice_)
    assumed = mean_lengths(config, splits, tokenizer, solution)
    sampled = {r['model']: memory.Sampling(**r['shape']) for r in section['rows'] if r['stage'] == 'sampling'}
    measured, note = spending.pilot(config, workdir, assumed) if workdir else (None, '')
    on = spending.Slice(slice_, sampled) if slice_ else None
    budget = spending.section(config, [p.id for p in splits['train']], assumed, measured, on)
    prediction = {
        'stages': stages,
        'matmul_gflops': round(speed * REFERENCE_FLOPS / 1e9, 1),
        'memory': section,
        'budget': budget,
        'recipes': spending.recipes(config, splits['train']),
        'apis': spending.apis(config, splits['train'], measured.lengths if measured else assumed),
        'notes': [*getattr(splits, 'notes', ()), *filter(None, [note, getattr(tokenizer, 'note', '')])],
    }
    if slice_ is not None:
        prediction['training'] = training_section(config, section, slice_)
        prediction['hours'] = _slice_hours(config, prediction)
    return prediction


def _slice_hours(config, prediction: dict) -> dict:
    """What a whole run takes on the slice at least: of sampling, where its models run there, and of all `runs` of
    fine-tuning, one for each cell and learning rate. Validation, evaluation and whatever needs no chip are in neither.
    """
    of_cell = {row['model']: row['hours'] for row in prediction['training']}
    runs = [(c.model, c.budget) for c in cells.grid(config) for _ in config.finetune.learning_rate[c.model]]
    budget = prediction['budget']
    return {
        'sampling': spending.slice_hours(budget) if 'slice_seconds' in budget['rows'][0]['cost'] else 0.0,
        'training': sum(of_cell[model][level] for model, level in runs),
        'runs': len(runs),
        'chips': budget['slice']['chips'],
    }


def lengths(splits: dict, template: prompts.Template) -> dict[str, int]:
    """Tokens of the few-shot ``prefix``, and of the longest ``question``, as a zero-shot prompt, of any split."""
    frame = len(template.prompt(''))
    return {
        'prefix': 1 + len(template.prompt('', splits.get('shots', ()))) - frame,
        'question': max(len(template.prompt(p.question)) for ps in splits.values() for p in ps) - 1,  # <bos> is above
    }


def mean_lengths(config, splits: dict, tokenizer, solution: float) -> dict[str, Lengths]:
    """What the samples of each compared model have on the training problems, if all write so many tokens. One behind an
    API is counted as if it were asked on a page, in the run's own tokens.
    """
    found = {}
    for name in spending.compared(config):
        chat = config.models[name].chat and name in config_lib.local_models(config)
        template = tasks.template(config, tokenizer, chat)
        question = float(np.mean([len(template.prompt(problem.question)) for problem in splits['train']])) - 1
        found[name] = Lengths(lengths(splits, template)['prefix'], question, solution)
    return found


def sampling_shape(config, tokens: dict[str, int], name: str) -> memory.Sampling:
    """Of the model called `name`: a source draws many samples of a problem, the others are evaluated on one."""
    return memory.Sampling(
        slots=config.sampling.slots,
        prefix=tokens['prefix'],
        question=16 * -(-tokens['question'] // 16),
        new_tokens=config.sampling.max_new_tokens,
        shared=name in cells.sources(config),
    )


def training_shape(config, tokens: dict[str, int], name: str) -> memory.Training:
    """Of the model called `name`, the most rows that a batch can be packed into: every example as long as the longest
    question and answer.
    """
    row_length = config.finetune.row_length
    in_a_row = max(1, row_length // (tokens['question'] + config.sampling.max_new_tokens))
    rows = -(-config.finetune.batch_size[name] // in_a_row)
    multiple = math.lcm(config.finetune.row_multiple, config.finetune.microbatch_rows or 1)
    return memory.Training(-(-rows // multiple) * multiple, row_length, config.finetune.microbatch_rows)


def memory_section(config, tokens: dict[str, dict[str, int]], slice_: devices.Slice | None = None) -> dict:
    """``{"device": ..., "slice": its name or '', "bytes": what one has, "rows": [...]}``: of each model and stage what
    a device must hold, and under ``fix`` the smallest change of one setting that makes it fit, when it does not (''
    when nothing tried does). `tokens` are the `lengths` of each model's prompts.

    UserError when the mesh is not the slice's, asks for more devices than there are, or does not divide the rows.
    """
    if slice_ is not None:
        devices.check_mesh(slice_, config.mesh)
        device, there = f'a chip of {slice_.name}', slice_.usable
    else:
        sharding.run_mesh(config)
        device, there = devices.this_device(config.mesh)
    mesh = memory.abstract_mesh(config.mesh)
    sharding.check_rows(mesh, config.sampling.slots, 'sampling.slots')
    sharding.check_rows(mesh, config.finetune.row_multiple, 'finetune.row_multiple')
    sharding.check_rows(mesh, config.finetune.microbatch_rows, 'finetune.microbatch_rows')
    sampled = dict.fromkeys((*cells.sources(config), *config.roles.trained))
    stages = [('sampling', name) for name in sampled if name in config_lib.local_models(config)]
    stages += [('fine-tuning', name) for name in config.roles.trained]
    accelerated = slice_ is not None
    rows = []
    for stage, name in stages:
        shape, needed = _needed(config, tokens[name], stage, name, accelerated, there)
        row = {'model': name, 'variant': config.models[name].variant, 'stage': stage, **needed._asdict()}
        row |= {'total': needed.total, 'shape': shape._asdict()}
        if needed.total > there:
            more_devices = accelerated or jax.default_backend() != 'cpu'  # those of a CPU share its memory
            row['fix'] = _smallest_fix(config, tokens[name], stage, name, accelerated, there, more_devices)
        rows.append(row)
    return {'device': device, 'slice': slice_.name if slice_ else '', 'bytes': there, 'rows': rows}


def training_section(config, section: dict, slice_: devices.Slice) -> list[dict]:
    """Of each trained model of a `memory_section`, how fast its fullest batch can be on the slice at most: seconds a
    step, what ``bound`` it is by, its ``mfu``, and the ``hours`` of a cell's steps at each budget.
    """
    sizes = memory.Sizes(*(config.mesh[axis] for axis in sharding.MESH_AXES))
    rows = []
    for row in section['rows']:
        if row['stage'] != 'fine-tuning':
            continue
        shape = memory.Training(**row['shape'])
        rank = config.finetune.lora_rank
        step = roofline.training(variant(row['variant']), slice_, sizes, shape, lora_rank=rank)
        hours = {
            level: config.finetune.steps[row['model']][level] * step.seconds / 3600 for level in config.budget.levels
        }
        told = {'seconds': step.seconds, 'bound': step.bound, 'mfu': step.mfu, 'hours': hours}
        rows.append({'model': row['model'], 'variant': row['variant'], 'shape': row['shape'], **told})
    return rows


def require_fit(prediction: dict) -> None:
    """UserError when a device cannot hold every model at every stage: for the one that needs most."""
    section = prediction['memory']
    row = max(section['rows'], key=lambda row: row['total'])
    if row['total'] > section['bytes']:
        cure = f'{row["fix"]} would fit' if row['fix'] else 'no such change would fit, of slots, batch size or mesh'
        raise UserError(
            f'{row["stage"]} of config.models.{row["model"]} ({row["variant"]}) needs '
            f'{row["total"] / devices.GIB:.1f} GiB a device, and {section["device"]} has '
            f'{section["bytes"] / devices.GIB:.1f}: {cure}'
        )


def _needed(config, tokens: dict[str, int], stage: str, name: str, accelerated: bool, there: int):
    """(shape, memory.Memory) of a stage; as many rows as fit in `there` bytes where `sampling.slots` is 0."""
    dtype = jax.numpy.bfloat16 if accelerated else gemma_model.compute_dtype()
    sizes = memory.Sizes(*(config.mesh[axis] for axis in sharding.MESH_AXES))
    model = variant(config.models[name].variant)
    if stage != 'sampling':
        shape = training_shape(config, tokens, name)
        return shape, memory.fine_tuning(model, sizes, shape, dtype, config.finetune.lora_rank)
    shape = sampling_shape(config, tokens, name)
    if not shape.slots:
        most = memory.most_rows(accelerated)
        shape = shape._replace(slots=memory.auto_slots(model, sizes, shape, there, dtype, most))
    return shape, memory.sampling(model, sizes, shape, dtype)


def _smallest_fix(
    config, tokens: dict[str, int], stage: str, name: str, accelerated: bool, there: int, more_devices: bool
) -> str:
    """The change by the smallest factor that makes a stage fit, as flags, and on how many devices when these are more;
    of equals, the one that needs no more devices. A mesh axis may take what 'data' has, too.
    """
    have = math.prod(config.mesh[axis] for axis in sharding.MESH_AXES)
    for (_, wanted), changes in sorted(_changes(config, stage, name), key=lambda change: change[0]):
        if wanted > have and not more_devices:
            continue
        other = ConfigDict(config.to_dict())
        other.update_from_flattened_dict(changes)
        if _needed(other, tokens, stage, name, accelerated, there)[1].total <= there:
            flags = ' '.join(f'--config.{field}={value}' for field, value in changes.items())
            return flags if wanted <= have else f'{wanted} such devices with {flags}'
    return ''


def _changes(config, stage: str, name: str) -> Iterator[tuple[tuple[float, int], dict[str, int]]]:
    """((factor, devices), fields) of the settings to try."""
    mesh = memory.Sizes(*(config.mesh[axis] for axis in sharding.MESH_AXES))
    field = 'sampling.slots' if stage == 'sampling' else f'finetune.batch_size.{name}'
    value = config_lib.get(config, field)
    ways = mesh.data * mesh.fsdp if stage == 'sampling' else 1
    for fewer in range(value - ways, 0, -ways):
        yield (value / fewer, math.prod(mesh)), {field: fewer}
    for axis in ('fsdp', 'tensor'):
        for factor in (2**n for n in range(1, 11)):
            larger = mesh._replace(**{axis: getattr(mesh, axis) * factor})
            taken = larger._replace(data=mesh.data // factor)
            for sizes in [larger] + [taken] * (mesh.data % factor == 0):
                changes = {
                    f'mesh.{a}': getattr(sizes, a) for a in sharding.MESH_AXES if getattr(sizes, a) != getattr(mesh, a)
                }
                rows = sizes.data * sizes.fsdp
                if stage == 'sampling' and value % rows:
                    continue
                if stage == 'fine-tuning' and config.finetune.row_multiple % rows:
                    changes['finetune.row_multiple'] = math.lcm(config.finetune.row_multiple, rows)
                yield (factor, math.prod(sizes)), changes


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


def planning_tokenizer(config):
    """The shipped one when a shipped model is used, the one that the configuration names, or a guess: one that is not
    downloaded yet is no reason not to plan.
    """
    from cosample_jax import embedded

    if any(entry.init == 'package' for entry in config.models.values()):
        return embedded.tokenizer()
    if config.tokenizer and epath.Path(config.tokenizer).exists():
        return Tokenizer(config.tokenizer)
    return _Guess()


class _Guess:
    """Stands in for a tokenizer where only the number of tokens matters: 3.5 characters each."""

    bos, vocabulary = BOS, OWN
    note = 'tokens are a guess, 3.5 characters each: config.tokenizer is not there yet'

    def encode(self, text: str, bos: bool = False) -> list[int]:
        return [UNK] * (bos + math.ceil(len(text) / 3.5))
