"""Your own problems, as JSON lines: `train.jsonl`, `test.jsonl` and, if you have one, `validation.jsonl` in
`config.task.manual_dir`. Without it validation problems are held out of the training ones, a third at most. The sizes
in `config.task` are the most that is taken: a smaller file is taken whole.

Rows are {question, answer} with, optionally, `id`, `solution`, `level` and `subject`. An id becomes `train/<id>`, the
row's number from 0 where there is none. An answer as GSM8K has it, `reasoning #### 72`, is a solution and its answer.
Answers are compared as mathematics, numbers included. Solutions are for shots and for the gold cells, which leave out
problems without one; one that does not announce its answer is given the last line `The answer is ...`. Files are read
anew by each run. No JAX here.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from cosample_jax import jsonl
from cosample_jax.errors import UserError
from cosample_jax.records import Problem
from cosample_jax.tasks import splits as splits_lib
from cosample_jax.tasks.splits import Splits

MARKERS = ('\\boxed', 'The answer is', '####', 'A:', '"answer":')
ANSWERS = 'math'

_ANNOUNCED = re.compile(r'\\boxed|\banswer is\b|####|"answer":|^A(?:nswer)?:', re.IGNORECASE | re.MULTILINE)


def build(config) -> Splits:
    """The splits 'train', 'validation', 'test' and 'shots'; each is a seeded shuffle cut to its size in `config.task`.

    Raises:
        UserError: a file or field that is missing, an id that occurs twice, an unknown shot id, nothing left of a file.
    """
    task = config.task
    problems = load(task.manual_dir)
    shots = splits_lib.shots(config, problems['train'])
    rest = [p for p in problems['train'] if p.id not in task.shots]
    rest = splits_lib.shuffled(rest, f'own {config.seed} train')
    if 'validation' in problems:
        validation = splits_lib.shuffled(problems['validation'], f'own {config.seed} validation')
    else:
        held_out = min(task.num_validation, len(rest) // 3)
        validation, rest = rest[:held_out], rest[held_out:]
    rest, note = splits_lib.decontaminated(rest, problems['test'])
    test = splits_lib.shuffled(problems['test'], f'own {config.seed} test')
    splits = {
        name: among[: task[f'num_{name}']]
        for name, among in (('train', rest), ('validation', validation), ('test', test))
    }
    for name, chosen in splits.items():
        if not chosen:
            raise UserError(
                f'{task.manual_dir}: no {name} problems are left of {len(problems["train"])} rows in train.jsonl '
                f'({len(shots)} shots, {len(validation)} for validation) and {len(problems["test"])} in test.jsonl '
                f'({note}): write more rows'
            )
    counts = ', '.join(f'{len(chosen):,} {name}' for name, chosen in splits.items())
    return Splits(splits | ({'shots': shots} if shots else {}), [f'problems of {task.manual_dir}: {counts}', note])


def documents(config) -> Iterator[list[tuple[str, str]]]:
    """Endless text to train a tokenizer or a model on: the training problems with a solution, and the shots."""
    splits = build(config)
    problems = [p for p in splits.get('shots', []) + splits['train'] if p.solution]
    if not problems:
        raise UserError(
            f'{config.task.manual_dir}/train.jsonl has no solutions, and a model is to be pretrained on them: add the '
            'field solution, or take models that are trained already (config.models.<name>.init)'
        )
    return splits_lib.documents(problems, len(config.task.shots), f'own {config.seed} documents')


def load(manual_dir: str) -> dict[str, list[Problem]]:
    """The problems of each file, in the order of its rows."""
    return {split: _read(path, split) for split, path in find_files(manual_dir).items()}


def find_files(manual_dir: str) -> dict[str, Path]:
    """The files there are; UserError without the two that are needed."""
    found = {}
    for split in ('train', 'validation', 'test'):
        path = Path(manual_dir).expanduser() / f'{split}.jsonl'
        if manual_dir and path.is_file():
            found[split] = path
        elif split != 'validation':
            where = path if manual_dir else 'config.task.manual_dir'
            raise UserError(
                f'{where} is not there: write train.jsonl and test.jsonl, one JSON object a line with question and '
                'answer, into a directory and set config.task.manual_dir to it (configs/own_data.py:data=DIR)'
            )
    return found


def _read(path: Path, split: str) -> list[Problem]:
    problems: dict[str, Problem] = {}
    rows = jsonl.read(path, {'question': (str,), 'answer': (str, int, float)})
    for number, (line, row) in enumerate(rows):
        problem_id = f'{split}/{row.get("id", number)}'
        if problem_id in problems:
            raise UserError(f'{path} line {line}: the id {row["id"]!r} was there already: ids must differ')
        answer, solution = _written(row['answer']), str(row.get('solution') or '').strip()
        if not solution and '####' in answer:
            solution, answer = answer, answer.rpartition('####')[2].strip()
        if not answer:
            raise UserError(f'{path} line {line}: the answer is empty: leave the problem out')
        problems[problem_id] = Problem(
            problem_id,
            row['question'].strip(),
            answer,
            _announced(solution, answer),
            level=_level(f'{path} line {line}', row.get('level', 0)),
            subject=str(row.get('subject') or ''),
        )
    if not problems:
        raise UserError(f'{path} is empty: write one JSON object a line with question and answer')
    return list(problems.values())


def _written(answer: str | int | float) -> str:
    """As it is written in a prompt: 72.0 of a JSON file is 72."""
    return str(int(answer) if isinstance(answer, float) and answer.is_integer() else answer).strip()


def _announced(solution: str, answer: str) -> str:
    return solution if not solution or _ANNOUNCED.search(solution) else f'{solution}\nThe answer is {answer}.'


def _level(where: str, level) -> int:
    if isinstance(level, bool) or not isinstance(level, int) or level < 0:
        raise UserError(f'{where}: level is {level!r}, it must be a whole number, 0 for none')
    return level
