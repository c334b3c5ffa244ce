"""`cosample import`: brings generations from elsewhere into a pool, for grade, analyze and report."""

import math
import re

from cosample_jax import jsonl, tasks
from cosample_jax.errors import UserError, did_you_mean
from cosample_jax.records import Problem, Sample, key

_FIELDS = {'problem_id': (str,), 'sample_index': (int,), 'text': (str,)}
_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9._-]*')
# What an import makes stale.
_LATER = ('grade', 'judge', 'analyze', 'report')


def main(args) -> None:
    """Appends the rows {problem_id, model, sample_index, text} of `args.input` to the pools of their models.

    `args.model` takes the place of the rows' own model. All or nothing: a bad row anywhere, and nothing is
    written. Rows that are there already are left alone, so importing a file twice changes nothing.

    Raises:
        UserError: names the line that is not usable and why.
    """
    workdir = args.workdir
    purpose = args.purpose or 'train'
    problems = {problem.id: problem for problem in _problems(args.config, workdir, purpose)}
    rows = _rows(args, problems, purpose)
    new: dict[str, list[Sample]] = {}
    for model, samples in rows.items():
        there = {key(sample): sample.text for sample in workdir.pool(purpose, model).read()}
        for line, sample in samples:
            if there.get(key(sample), sample.text) != sample.text:
                raise UserError(
                    f'{args.input} line {line}: sample {sample.sample_index} of {sample.problem_id} by '
                    f'{model} is in the pool with another text: give it a sample_index of its own, or take '
                    'another --workdir'
                )
        new[model] = [sample for _, sample in samples if key(sample) not in there]
    if any(new.values()):
        workdir.clear_done(*_LATER)
        for model, samples in new.items():
            workdir.pool(purpose, model).append(samples)
    # Nothing is pretrained or sampled before an import can be graded. No stage is called 'import': this
    # marker never fits, and `cosample run` in this workdir still does both.
    for stage in ('pretrain', 'sample'):
        if not workdir.is_done(stage):
            workdir.mark_done(stage, {'seconds': 0.0, 'attempts': 0, 'after': ['import']})
    for model, samples in new.items():
        known = len(rows[model]) - len(samples)
        print(
            f'{purpose}/{model}: {len(samples):,} samples imported'
            + (f', {known:,} were there already' if known else '')
        )


def _problems(config, workdir, purpose: str) -> list[Problem]:
    """The problems of the split that `purpose` names; a workdir that was never prepared gets them now."""
    if not workdir.is_done('prepare') and not workdir.path('data', f'{purpose}.parquet').exists():
        splits = tasks.build(config)
        if purpose not in splits:
            raise UserError(
                f'--purpose={purpose}: {config.task.name} has no such problems{did_you_mean(purpose, splits)}'
            )
        for split, problems in splits.items():
            workdir.write_problems(split, problems)
    return workdir.problems(purpose)


def _rows(args, problems: dict[str, Problem], purpose: str) -> dict[str, list[tuple[int, Sample]]]:
    """model -> [(line, sample)]; UserError for the first row that cannot be imported."""
    fields = _FIELDS if args.model else _FIELDS | {'model': (str,)}
    lines: dict[tuple, int] = {}
    samples: dict[str, list[tuple[int, Sample]]] = {}
    for line, row in jsonl.read(args.input, fields):
        where = f'{args.input} line {line}'
        problem_id, model, index = row['problem_id'], args.model or row['model'], row['sample_index']
        if problem_id not in problems:
            raise UserError(
                f'{where}: problem_id {problem_id!r} is none of the {len(problems):,} {purpose} problems, '
                f'which are called like {next(iter(problems))!r}{did_you_mean(problem_id, problems)}'
            )
        if not _NAME.fullmatch(model):
            raise UserError(
                f'{where}: model {model!r} cannot name a pool: use letters, digits, dots, dashes (or --model)'
            )
        if index < 0:
            raise UserError(f'{where}: sample_index is {index}, it must be at least 0')
        first = lines.setdefault((problem_id, model, index), line)
        if first != line:
            raise UserError(
                f'{where}: sample {index} of {problem_id} by {model} was on line {first} already: '
                'number the samples of a problem 0, 1, 2, ...'
            )
        # Another model's tokens and probabilities are not known: 0 tokens and NaN say so.
        sample = Sample(problem_id, model, index, row['text'], [], 'stop', math.nan, math.nan, 0, 0)
        samples.setdefault(model, []).append((line, sample))
    if not samples:
        raise UserError(
            f'{args.input} has no rows: write {{problem_id, model, sample_index, text}}, one JSON object a line'
        )
    return samples
