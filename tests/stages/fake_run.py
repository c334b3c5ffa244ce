"""A made-up run: a workdir shaped like what the pipeline writes, from a seed, in a second, without any model.

`python tests/stages/fake_run.py DIRECTORY [SEEDS | import]` writes one, to look at its report.
"""

import random
import sys

from cosample_jax import config as config_lib
from cosample_jax import records
from cosample_jax.workdir import Workdir

STAGES = ('prepare', 'pretrain', 'sample', 'grade', 'judge', 'analyze', 'finetune', 'evaluate')
# How able a source is, how often its right answers have wrong reasoning, how many ways of solving it knows.
SOURCES = {'weak': (0.30, 0.24, 14), 'strong': (0.52, 0.15, 6)}


def make_config(problems=60, seeds=(0,), **fields):
    config = config_lib.base()
    config.name = 'made-up'
    config.task.num_train = problems
    config.task.num_test = config.task.num_functional = 2 * problems
    config.evaluate.maj_problems = problems
    config.finetune.seeds = tuple(seeds)
    config.budget.params = 'nominal'  # a ratio of exactly three
    config.models.weak.params_nominal, config.models.strong.params_nominal = 1e6, 3e6
    with config.unlocked():
        for name, value in fields.items():
            parent, _, leaf = name.replace('__', '.').rpartition('.')
            config_lib.get(config, parent)[leaf] = value
    return config_lib.finalize(config)


def make_problems(split, count, seed=0):
    rng = random.Random(f'{split} {seed}')
    problems = []
    for i in range(count):
        a, b, c = rng.randint(12, 90), rng.randint(3, 9), rng.randint(2, 60)
        problems.append(
            records.Problem(
                id=f'{split}/{i}',
                question=f'Mara packs {a} boxes with {b} pears each & gives {c} away. How many are left?',
                answer=str(a * b - c),
                solution=f'{a} * {b} = {a * b}. {a * b} - {c} = {a * b - c}. The answer is {a * b - c}.',
                level=1 + i % 5,
                subject='arithmetic',
            )
        )
    return problems


def write_pool(workdir, purpose, model, problems, count, able, wrong_reasoning, ways, judge=True, tokens=True, seed=0):
    """A graded and judged pool; `count` samples of each problem."""
    rng = random.Random(f'{model} {seed}')
    samples, grades, judgments = [], [], []
    for problem in problems:
        chance = min(0.98, max(0.0, rng.betavariate(1.5, 1.5 * (1 - able) / able) * (1.35 - 0.12 * problem.level)))
        for index in range(count):
            correct = rng.random() < chance
            answer = problem.answer if correct else str(rng.randint(1, 800))
            cut = not correct and rng.random() < 0.06
            way = min(int(rng.expovariate(3 / ways)), ways - 1)
            lead = rng.choice(('First', 'So', 'Then'))
            text = f' {lead} {way + 2} + {way} = {2 * way + 2}. {problem.solution.rsplit(" The", 1)[0]}'
            text += '' if cut else f' The answer is {answer}.'
            key = (problem.id, model, index)
            length = 40 + way + rng.randint(0, 30)
            samples.append(
                records.Sample(*key, text, [], 'length' if cut else 'stop', -9.0, -8.0, 90, length if tokens else 0)
            )
            grades.append(
                records.Grade(*key, correct, '' if cut else answer, '' if cut else 'The answer is', correct, '')
            )
            if correct and judge:
                valid = rng.random() >= wrong_reasoning
                judgments.append(
                    records.Judgment(*key, 'steps', 'valid' if valid else 'wrong', '' if valid else '2 + 3 = 6')
                )
    workdir.pool(purpose, model).append(samples)
    workdir.grades(purpose, model).append(grades)
    workdir.judgments(purpose, model, 'steps').append(judgments)


def make_results(config, seed=0):
    """evaluate/results.json: weak data helps a little; one cell has no survivors."""
    rng = random.Random(f'results {seed}')
    base = {'student': 0.22, 'weak': 0.30, 'strong': 0.52}
    gains = {
        ('gold', 'low'): 0.16,
        ('gold', 'high'): 0.24,
        ('weak', 'low'): 0.10,
        ('strong', 'low'): 0.04,
        ('weak', 'high'): 0.19,
        ('strong', 'high'): 0.10,
    }
    splits = {'test': config.task.num_test, 'functional': config.task.num_functional}
    hardness = {split: [rng.random() for _ in range(size)] for split, size in splits.items()}

    def results(accuracy):
        out = {}
        for split, size in splits.items():
            ids = [f'{split}/{i}' for i in range(size)]
            level = accuracy - (0.04 if split == 'functional' else 0)
            right = [int(0.6 * h + 0.4 * rng.random() < 0.2 + 0.6 * level) for h in hardness[split]]
            polled = ids[: config.evaluate.maj_problems]
            maj = {
                k: [
                    int(0.6 * h + 0.4 * rng.random() < 0.2 + 0.6 * (level + bonus))
                    for h in hardness[split][: len(polled)]
                ]
                for k, bonus in (('1', -0.03), ('4', 0.02), ('8', 0.05), ('16', 0.06))
            }
            fpr = {'wrong': int(0.15 * sum(right)), 'kept': sum(right)}
            out[split] = {'problem_ids': ids, 'pass@1': right, 'fpr': fpr, 'tokens': 50 * size}
            if split == 'test':
                out[split] |= {'maj_problem_ids': polled, 'maj@k': maj}
        return out

    def cell(model, data, budget, cell_seed, **fields):
        name = '-'.join(filter(None, (model, data, budget))) + (f'-s{cell_seed}' if data != 'base' else '')
        return {'cell': name, 'model': model, 'data': data, 'budget': budget, 'seed': cell_seed} | fields

    cells = []
    for model in config.roles.trained:
        cells.append(cell(model, 'base', '', 0, trained=False, reason='', results=results(base[model])))
        for (data, budget), gain in gains.items():
            for s in config.finetune.seeds:
                if (model, data, budget) == ('strong', 'strong', 'low'):
                    fields = {'kept': 0, 'unique': 0, 'problems': 0, 'epochs': 0.0, 'steps': 0, 'tokens': 0}
                    fields |= {'trained': False, 'reason': '0 survivors, not trained', 'results': {}}
                    cells.append(cell(model, data, budget, s, **fields))
                    continue
                steps = config.finetune.steps[model][budget]
                kept = 60 if data == 'gold' else {'low': 55, 'high': 540}[budget]
                accuracy = base[model] + gain + rng.uniform(-0.01, 0.01)
                fields = {
                    'trained': True,
                    'reason': '',
                    'kept': kept,
                    'unique': int(kept * {'gold': 1, 'weak': 0.8, 'strong': 0.5}[data]),
                    'problems': min(kept, 50),
                    'epochs': round(steps * config.finetune.batch_size[model] / kept, 3),
                    'steps': steps,
                    'tokens': 60 * kept,
                    'learning_rate': 1e-3,
                    'best_step': steps * 8 // 10,
                    'validation_accuracy': round(accuracy, 3),
                }
                examples = steps * config.finetune.batch_size[model]
                seen = {name: fields[name] for name in ('kept', 'unique', 'problems', 'epochs')}
                seen |= {'source': data, 'examples': examples, 'tokens': 90 * examples, 'loss_tokens': 55 * examples}
                fields |= {'seen': [seen], 'too_long': 0, 'contaminated': 0}
                cells.append(cell(model, data, budget, s, results=results(accuracy), **fields))
    return {'cells': cells}


def make_run(root, config=None, evaluated=True, timed=True):
    """The whole run, up to but without `analyze` and `report`; returns (config, workdir)."""
    config = config or make_config()
    workdir = Workdir(root)
    workdir.open(config)
    problems = make_problems('train', config.task.num_train)
    workdir.write_problems('train', problems)
    for split in config.evaluate.splits:
        workdir.write_problems(split, make_problems(split, config.task[f'num_{split}']))
    counts = {'weak': int(config.budget.weak.high), 'strong': config.budget.strong.high}
    for model, (able, wrong_reasoning, ways) in SOURCES.items():
        write_pool(workdir, 'train', model, problems, counts[model], able, wrong_reasoning, ways)
    if evaluated:
        for split, count in (('test', config.task.num_test), ('functional', config.task.num_functional)):
            workdir.write_problems(split, make_problems(split, count))
        records.write_json(workdir.path('evaluate', 'results.json'), make_results(config))
    if timed:
        seconds = dict(zip(STAGES, (2.1, 0.2, 48.3, 3.4, 0.8, 1.9, 171.0, 64.2), strict=True))
        plan = {stage: {'seconds': round(1.15 * s, 1), 'tokens': 0} for stage, s in seconds.items()}
        plan['sample']['tokens'] = 640_000
        records.write_json(workdir.path('plan.json'), {'stages': plan})
        for i, (stage, s) in enumerate(seconds.items()):
            told = {'seconds': s, 'attempts': 1, 'after': list(STAGES[:i])}
            if stage == 'sample':  # the weak model is less than three times as fast
                told |= {'weak': {'chip_seconds': 21.0, 'drawn': 100_000, 'device': 'cpu'}}
                told |= {'strong': {'chip_seconds': 46.0, 'drawn': 100_000, 'device': 'cpu'}}
            workdir.mark_done(stage, told)
    return config, workdir


def make_import(root):
    """A workdir that only imported two outside models, neither judged nor counted in tokens."""
    config = make_config()
    workdir = Workdir(root)
    workdir.open(config)
    problems = make_problems('test', 40)
    workdir.write_problems('test', problems)
    write_pool(workdir, 'test', '6B', problems, 4, 0.25, 0, 8, judge=False, tokens=False)
    write_pool(workdir, 'test', '175B', problems[:-3], 4, 0.5, 0, 8, judge=False, tokens=False)
    return config, workdir


if __name__ == '__main__':
    from cosample_jax.stages import analyze, report

    directory, kind = (*sys.argv[1:], '1')[:2]
    made = make_import(directory) if kind == 'import' else make_run(directory, make_config(256, range(int(kind))))
    analyze.run(*made)
    report.run(*made)
