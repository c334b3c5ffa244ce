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

import contextlib
import hashlib
import io
import json
import os
import random
import re
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cosample_jax import jsonl
from cosample_jax.errors import UserError
from cosample_jax.records import Problem
from cosample_jax.tasks import prompts

MARKERS = ('####', 'The answer is', 'A:', '"answer":', '\\boxed')
ANSWERS = 'number'

NUM_VALIDATION = 500
"""Training problems held out, as in the paper; `config.task.num_validation` takes the first of them."""


@dataclass(frozen=True)
class Source:
    """An official file; `content` is the SHA-256 of its rows, which a mirror in another JSON spelling
    shares.
    """

    url: str
    sha256: str
    num_bytes: int
    num_rows: int
    content: str


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


def build(config) -> dict[str, list[Problem]]:
    """The splits 'train', 'validation', 'test' and 'shots' (when config.task.shots names any), all disjoint.

    Validation is held out of the training rows by `config.seed`; each split is a seeded shuffle cut to the
    size in `config.task`, so a larger size extends a smaller one.

    Raises:
        UserError: the data can neither be read nor downloaded, an unknown shot id, a size larger than the
        data.
    """
    task = config.task
    problems = load(task.manual_dir)
    by_id = {problem.id: problem for problem in problems['train']}
    unknown = [shot for shot in task.shots if shot not in by_id]
    if unknown:
        raise UserError(
            f'config.task.shots has {unknown[0]!r}: shots are training problems, train/0 to train/{len(by_id) - 1}'
        )
    train, validation = _hold_out(config, problems['train'])
    test = _shuffled(problems['test'], f'{config.seed} test')
    splits = {
        'train': _first(train, task.num_train, 'train'),
        'validation': _first(validation, task.num_validation, 'validation'),
        'test': _first(test, task.num_test, 'test'),
    }
    if task.shots:
        splits['shots'] = [by_id[shot] for shot in task.shots]
    return splits


def documents(config) -> Iterator[list[tuple[str, str]]]:
    """Endless text to train a tokenizer or a model on: lists of turns (prompt, what is written after it).

    It is made of the training problems, reshuffled every epoch: shots included, validation left out,
    because checkpoints are chosen by it. Half of the documents are one problem, half are as many more as the
    prompt has shots, in the form of the few-shot prompt, so that its prefix is something the model knows.
    """
    problems = load(config.task.manual_dir)['train']
    held_out = {problem.id for problem in _hold_out(config, problems)[1]}
    problems = [problem for problem in problems if problem.id not in held_out]
    rng = random.Random(f'gsm8k {config.seed} documents')
    while True:
        rest = rng.sample(problems, len(problems))
        while rest:
            count = 1 + len(config.task.shots) * (rng.random() < 0.5)
            *shots, last = rest[:count]
            del rest[:count]
            turns = [(prompts.zero_shot(shot.question), prompts.target(shot.solution) + prompts.STOP) for shot in shots]
            yield [*turns, (prompts.zero_shot(last.question), prompts.target(last.solution))]


def load(manual_dir: str = '') -> dict[str, list[Problem]]:
    """All official problems in row order, `{'train': ..., 'test': ...}`, through TFDS.

    TFDS keeps the prepared data under `$TFDS_DATA_DIR` (default `~/tensorflow_datasets`).

    Raises:
        UserError: says which files to fetch from where, and where to put them.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
    from tensorflow_datasets.core.download.util import DownloadError

    from cosample_jax.tasks import gsm8k_builder

    files = find_files(manual_dir) if manual_dir else None
    tfds.disable_progress_bar()
    builder = gsm8k_builder.Gsm8k(files=files, data_dir=os.environ.get('TFDS_DATA_DIR'), file_format='array_record')
    if not builder.data_path.exists():
        print(f'GSM8K: {"reading local files" if files else "downloading"}, kept in {builder.data_path}')
        try:
            if not files:
                # TFDS retries for minutes where there is no network.
                urllib.request.urlopen(SOURCES['test'].url, timeout=30).close()
            with contextlib.redirect_stdout(io.StringIO()):  # it announces a download of "Unknown size"
                builder.download_and_prepare()
        except (OSError, DownloadError, NonMatchingChecksumError) as error:
            if files:
                raise
            reason = str(error).split('\n')[0]
            raise UserError(f'GSM8K cannot be downloaded ({reason}): {_instructions("a directory")}') from error
    data = builder.as_data_source()
    return {split: [_problem(row) for row in data[split]] for split in SOURCES}


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
        rows = [json.dumps([row['question'], row['answer']]) + '\n' for row in read_rows(path)]
        if len(rows) != source.num_rows:
            raise UserError(f'{path} has {len(rows)} problems, GSM8K has {source.num_rows}: fetch {source.url} again')
        if hashlib.sha256(''.join(rows).encode()).hexdigest() != source.content:
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


def _problem(row: dict) -> Problem:
    problem_id, question, written = (row[name].decode() for name in ('id', 'question', 'answer'))
    steps, _, answer = written.rpartition('####')
    # No blank lines: a blank line is where a solution ends.
    lines = [line.strip() for line in re.sub(r'<<[^<>]*>>', '', steps).splitlines()]
    answer = answer.strip()
    solution = '\n'.join([*filter(None, lines), f'The answer is {answer}.'])
    return Problem(problem_id, question.strip(), answer, solution, subject='gsm8k')


def _hold_out(config, problems: list[Problem]) -> tuple[list[Problem], list[Problem]]:
    """(train, validation), shuffled, without the shots."""
    rest = [p for p in _shuffled(problems, f'{config.seed} train') if p.id not in set(config.task.shots)]
    return rest[NUM_VALIDATION:], rest[:NUM_VALIDATION]


def _shuffled(problems: list[Problem], seed: str) -> list[Problem]:
    return random.Random(f'gsm8k {seed}').sample(problems, len(problems))


def _first(problems: list[Problem], size: int, split: str) -> list[Problem]:
    if size > len(problems):
        raise UserError(f'config.task.num_{split} is {size}: GSM8K has {len(problems)} {split} problems here')
    return problems[:size]
