"""GSM8K: 7,473 + 1,319 grade-school word problems (Cobbe et al. 2021, arXiv 2110.14168).

What is made of the official rows:

* ids are `train/<row>` and `test/<row>`, rows counted from 0 in the official files;
* the calculator annotations (`<<48/2=24>>`) are taken out of the solutions: they are instructions to a
  calculator that no model here has, they double a solution's arithmetic tokens, and few-shot prompts never
  show them;
* the last line `#### 72` becomes `The answer is 72.`, the form the other tasks' prompts and solutions end
  in; the marker `####` is still understood in what a model writes.

No JAX here; TFDS is imported when data is asked for.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from cosample_jax import jsonl
from cosample_jax.errors import UserError
from cosample_jax.records import Problem
from cosample_jax.tasks import splits as splits_lib
from cosample_jax.tasks.sources import Rows, Source, content
from cosample_jax.tasks.splits import Splits

MARKERS = ('####', 'The answer is', 'A:', '"answer":', '\\boxed')
ANSWERS = 'number'

NUM_VALIDATION = 500
"""Training problems held out, as in the paper; `config.task.num_validation` takes the first of them."""


_URL = 'https://raw.githubusercontent.com/openai/grade-school-math/3101c7d5072418e28b9008a6636bde82a006892c'
SOURCES = {
    'train': Source(
        url=f'{_URL}/grade_school_math/data/train.jsonl',
        sha256='17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465',
        num_bytes=4_166_206,
        num_rows=7_473,
        content='937e90ecc5698135a95d098621de3388f3b63bec4dbd8fc1b349adf8612890aa',
    ),
    'test': Source(
        url=f'{_URL}/grade_school_math/data/test.jsonl',
        sha256='3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14',
        num_bytes=749_738,
        num_rows=1_319,
        content='5b736e25f3d1e6cdeef6b3d89e3dc71a7e3c20288f93f1bda635f6fbeb4f41b5',
    ),
}


def build(config) -> Splits:
    """The splits 'train', 'validation', 'test' and 'shots' (when config.task.shots names any), all disjoint.

    Validation is held out of the training rows by `config.seed`; each split is a seeded shuffle cut to the
    size in `config.task`, so a larger size extends a smaller one.

    Raises:
        UserError: the data can neither be read nor downloaded, an unknown shot id, a size larger than the
        data.
    """
    problems = load(config.task.manual_dir)
    return split_up(config, problems['train'], problems['test'], 'GSM8K')


def split_up(config, train: list[Problem], test: list[Problem], title: str) -> Splits:
    """`build` with any test problems, of the data called `title`."""
    task = config.task
    shots = splits_lib.shots(config, train)
    rest, validation = _hold_out(config, train)
    rest, note = splits_lib.decontaminated(rest, test)
    test = splits_lib.shuffled(test, f'gsm8k {config.seed} test')
    splits = splits_lib.cut(task, title, train=rest, validation=validation, test=test)
    return Splits(splits | ({'shots': shots} if shots else {}), [note])


def documents(config) -> Iterator[list[tuple[str, str]]]:
    """Endless text to train a tokenizer or a model on (:func:`cosample_jax.tasks.splits.documents`).

    It is made of the training problems: shots included, validation left out, because checkpoints are chosen by it.
    """
    problems = load(config.task.manual_dir)['train']
    held_out = {problem.id for problem in _hold_out(config, problems)[1]}
    problems = [problem for problem in problems if problem.id not in held_out]
    return splits_lib.documents(problems, len(config.task.shots), f'gsm8k {config.seed} documents')


def load(manual_dir: str = '') -> dict[str, list[Problem]]:
    """All official problems in row order, `{'train': ..., 'test': ...}`, through TFDS, which keeps them.

    Raises:
        UserError: says which files to fetch from where, and where to put them.
    """
    from cosample_jax.tasks import builder

    files = find_files(manual_dir) if manual_dir else None

    def make(downloads: dict[str, Path]) -> dict[str, Rows]:
        return {split: _numbered(split, path) for split, path in (files or downloads).items()}

    fields = ('id', 'question', 'answer')
    sources = {} if files else SOURCES
    rows = builder.prepared('gsm8k', 'GSM8K', make, fields, sources, _instructions('a directory'))
    return {split: [_problem(row) for row in rows[split]] for split in SOURCES}


def _numbered(split: str, path: Path) -> Rows:
    return [
        {'id': f'{split}/{index}', 'question': row['question'], 'answer': row['answer']}
        for index, row in enumerate(read_rows(path))
    ]


def find_files(manual_dir: str) -> dict[str, Path]:
    """The local files of both splits, checked to hold exactly the official rows.

    Raises:
        UserError: a file is missing, has another number of rows, or other rows.
    """
    files = {}
    for split, source in SOURCES.items():
        candidates = [Path(manual_dir).expanduser() / name for name in (f'{split}.jsonl', f'gsm8k_{split}.jsonl')]
        path = next((path for path in candidates if path.is_file()), None)
        if path is None:
            raise UserError(f'GSM8K: {candidates[0]} is not there: {_instructions(manual_dir)}')
        rows = [(row['question'], row['answer']) for row in read_rows(path)]
        if len(rows) != source.num_rows:
            raise UserError(f'{path} has {len(rows)} problems, GSM8K has {source.num_rows}: fetch {source.url} again')
        if content(rows) != source.content:
            raise UserError(f'{path} does not hold the official GSM8K rows: fetch {source.url} again')
        files[split] = path
    return files


def read_rows(path: Path) -> Iterator[dict[str, str]]:
    """The rows of an official file; UserError names the line that is not one."""
    for _, row in jsonl.read(path, {'question': (str,), 'answer': (str,)}):
        yield row


def _instructions(directory: str) -> str:
    urls = ' and '.join(source.url for source in SOURCES.values())
    return f'fetch {urls} into {directory} (train.jsonl, test.jsonl) and set config.task.manual_dir to it'


def _problem(row: dict[str, str]) -> Problem:
    steps, _, answer = row['answer'].rpartition('####')
    # No blank lines: a blank line is where a solution ends.
    lines = [line.strip() for line in re.sub(r'<<[^<>]*>>', '', steps).splitlines()]
    answer = answer.strip()
    solution = '\n'.join([*filter(None, lines), f'The answer is {answer}.'])
    return Problem(row['id'], row['question'].strip(), answer, solution, subject='gsm8k')


def _hold_out(config, problems: list[Problem]) -> tuple[list[Problem], list[Problem]]:
    """(train, validation), shuffled, without the shots."""
    rest = [p for p in splits_lib.shuffled(problems, f'gsm8k {config.seed} train') if p.id not in config.task.shots]
    return rest[NUM_VALIDATION:], rest[:NUM_VALIDATION]
