"""MATH: 7,500 + 5,000 competition problems of seven subjects and five levels (Hendrycks et al. 2021, arXiv 2103.03874),
with the functional variants of 1,745 of them (Srivastava et al. 2024, arXiv 2402.19450).

Splits:

* `train`: the training problems. Left out: the shots, two without an answer (`\\boxed{}`), copies of test problems;
* `test`: MATH500, the 500 test problems of PRM800K;
* `functional`: of `config.task.num_functional` test problems the variants with new numbers, in each snapshot of
  `config.task.snapshots`; `static`: those test problems themselves, so that the gap between the two can be told. `meta`
  of a variant names its twin;
* `validation`: from the 2,936 test problems in none of these, so that no twin chose a checkpoint.

Ids are the places in the original tree (`train/algebra/0`), `dec2023/algebra/6` is the variant of `test/algebra/6`.
Solutions are the official ones, to the letter: the last `\\boxed{...}` is the answer. A variant has an answer only.
Level 0 stands for the two problems whose level is `?`.

Nothing of MATH or of its variants (GPL-3.0) is shipped: see :mod:`cosample_jax.tasks.math_files` for where they come
from. Downloading a snapshot was tested with an archive made here, not with the published one.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from cosample_jax import boxes
from cosample_jax.records import Problem
from cosample_jax.tasks import math_files
from cosample_jax.tasks import splits as splits_lib
from cosample_jax.tasks.sources import Rows
from cosample_jax.tasks.splits import Splits

MARKERS = ('\\boxed', 'The answer is', '####', 'A:', '"answer":')
ANSWERS = 'math'


def build(config) -> Splits:
    """The splits of a run; each is a seeded shuffle cut to its size in `config.task`, so a larger size extends a
    smaller one.

    Raises:
        UserError: no data, an unknown shot id, a size larger than the data.
    """
    task, index = config.task, math_files.index()
    problems = load(task.manual_dir)
    train, test = problems['train'], problems['test']
    shots = splits_lib.shots(config, train)
    math500 = [problem for problem in test if problem.id in index.math500]
    static = [problem for problem in test if problem.id in index.functional]
    others = [problem for problem in test if problem.id not in index.math500 | index.functional]
    variants = {name: load_snapshot(task.manual_dir, name) for name in task.snapshots} if task.num_functional else {}
    usable = [problem for problem in train if problem.answer]
    notes = [f'no answer: {len(train) - len(usable):,} of {len(train):,} training problems left out']
    tests = {problem.id: problem for problem in (*math500, *static)}
    tests |= {variant.id: variant for each in variants.values() for variant in each.values()}
    usable, note = splits_lib.decontaminated(usable, list(tests.values()))

    def seeded(split: str, among: list[Problem], size: int) -> list[Problem]:
        among = splits_lib.shuffled(among, f'math {config.seed} {split}')
        return splits_lib.first(among, size, split, 'MATH')

    splits = {
        'train': seeded('train', [p for p in usable if p.id not in task.shots], task.num_train),
        'validation': seeded('validation', others, task.num_validation),
        'test': seeded('test', math500, task.num_test),
    }
    if task.num_functional:
        twins = seeded('functional', static, task.num_functional)
        splits['static'] = twins
        splits['functional'] = [variants[name][twin.id] for name in task.snapshots for twin in twins]
    return Splits(splits | ({'shots': shots} if shots else {}), [*notes, note])


def documents(config) -> Iterator[list[tuple[str, str]]]:
    """Endless text to train a tokenizer or a model on: the training problems and the shots, none of a test split."""
    splits = build(config)
    problems = splits.get('shots', []) + splits['train']
    return splits_lib.documents(problems, len(config.task.shots), f'math {config.seed} documents')


def load(manual_dir: str) -> dict[str, list[Problem]]:
    """All problems, `{'train': ..., 'test': ...}`, in the order of the index; kept by TFDS once they were read.

    Raises:
        UserError: says what to fetch and where to put it.
    """
    from cosample_jax.tasks import builder

    def make(_) -> dict[str, Rows]:
        return {split: math_files.read_math(manual_dir, split) for split in ('train', 'test')}

    rows = builder.prepared('math', 'MATH', make, math_files.FIELDS, {}, math_files.INSTRUCTIONS)
    return {split: [_problem(row) for row in rows[split]] for split in ('train', 'test')}


def load_snapshot(manual_dir: str, snapshot: str) -> dict[str, Problem]:
    """The variants of a snapshot by the ids of their twins; downloaded unless `manual_dir` has them.

    Raises:
        UserError: says what to fetch and where to put it.
    """
    from cosample_jax.tasks import builder

    local = math_files.find_snapshot(manual_dir, snapshot)
    source = math_files.SNAPSHOTS[snapshot]

    def make(downloads: dict[str, Path]) -> dict[str, Rows]:
        return {'test': math_files.read_snapshot(local or downloads['test'], snapshot)}

    instructions = f'fetch {source.url} into {manual_dir or "a directory"} and set config.task.manual_dir to it'
    sources = {} if local else {'test': source}
    title = f'Functional MATH {snapshot}'
    rows = builder.prepared(f'math_{snapshot}', title, make, math_files.FIELDS, sources, instructions)['test']
    return {row['id']: _variant(row, snapshot) for row in rows}


def find_files(manual_dir: str) -> dict[str, Path]:
    """Where the problems of both splits are; UserError when they are not there or not MATH's."""
    for split in ('train', 'test'):
        math_files.read_math(manual_dir, split)
    return {split: math_files.find(manual_dir, split) for split in ('train', 'test')}


def _problem(row: dict[str, str], meta: str = '') -> Problem:
    level, box = row['level'].removeprefix('Level '), boxes.last_box(row['solution'])
    return Problem(
        row['id'],
        row['problem'],
        box[1] if box else '',
        row['solution'],
        level=int(level) if level.isdigit() else 0,
        subject=row['type'],
        meta=meta,
    )


def _variant(row: dict[str, str], snapshot: str) -> Problem:
    problem_id = f'{snapshot}/{row["id"].partition("/")[2]}'
    return _problem(row | {'id': problem_id}, json.dumps({'static': row['id']}))
