"""Programming: trained on MBPP (Austin et al. 2021, arXiv 2108.07732), tested on HumanEval (Chen et al. 2021,
arXiv 2107.03374), as in the paper's appendix. A solution is a Python program, right when its problem's tests pass.

What is made of the official rows:

* MBPP's own splits: `train/601` to `train/974`, `validation/511` to `validation/600`, and `shots/1` to `shots/10`, the
  ten that its authors show in prompts; its 500 test problems (11 to 510) are left alone;
* HumanEval's 164 problems are `test/0` to `test/163`;
* an MBPP question is its text and the first of its tests, which tells the function's name and arguments; the others
  stay hidden. All of its tests count, the challenge tests do not, as is usual;
* a HumanEval question is its signature and docstring, and asks for the whole function. What its prompt has before the
  function (imports, helpers) is defined for the program and for the tests, whether the program repeats it or not;
* `answer` is the program of tests, which runs after the solution, in the same namespace.

HumanEval was published as test data: nothing here trains on it. No JAX here.
"""

import hashlib
import os
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cosample_jax import jsonl
from cosample_jax.errors import UserError
from cosample_jax.records import Problem, commit
from cosample_jax.tasks import splits as splits_lib

MARKERS = ()  # a program is known by its form
ANSWERS = 'program'
STOPS = ('\nQ:',)


@dataclass(frozen=True)
class Source:
    """An official file, and the fields and ids of its rows."""

    url: str
    sha256: str
    fields: dict[str, tuple[type, ...]]
    ids: tuple

    @property
    def name(self) -> str:
        return self.url.rpartition('/')[2]


SOURCES = {
    'mbpp': Source(
        url='https://raw.githubusercontent.com/google-research/google-research/'
        '4700efb9afa54286b0e04473ba80a13e8461e25f/mbpp/mbpp.jsonl',
        sha256='ccf64ceae9c5403bf50a044cb6d505bfd2a2963ee58338ba268fd65beab92a9f',
        fields={'task_id': (int,), 'text': (str,), 'code': (str,), 'test_list': (list,), 'test_setup_code': (str,)},
        ids=tuple(range(1, 975)),
    ),
    'humaneval': Source(
        url='https://raw.githubusercontent.com/openai/human-eval/'
        '6d43fb980f9fee3c892a914eda09951f772ad10d/data/HumanEval.jsonl.gz',
        sha256='b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef',
        fields=dict.fromkeys(('task_id', 'prompt', 'canonical_solution', 'test', 'entry_point'), (str,)),
        ids=tuple(f'HumanEval/{number}' for number in range(164)),
    ),
}
_SPLITS = {'shots': range(1, 11), 'validation': range(511, 601), 'train': range(601, 975)}  # of MBPP, by task_id


def build(config) -> dict[str, list[Problem]]:
    """The splits 'train', 'validation', 'test' and 'shots' (when config.task.shots names any), all disjoint.

    Each split is a seeded shuffle cut to the size in `config.task`, so a larger size extends a smaller one.

    Raises:
        UserError: the data can neither be read nor downloaded, an unknown shot id, a size larger than the data.
    """
    task = config.task
    problems = load(task.manual_dir)
    shots = {problem.id: problem for problem in problems.pop('shots')}
    unknown = [shot for shot in task.shots if shot not in shots]
    if unknown:
        raise UserError(f'config.task.shots has {unknown[0]!r}: shots are MBPP problems, shots/1 to shots/10')
    mixed = {split: splits_lib.shuffled(found, f'code {config.seed} {split}') for split, found in problems.items()}
    splits = splits_lib.cut(task, 'the coding task', **mixed)
    if task.shots:
        splits['shots'] = [shots[shot] for shot in task.shots]
    return splits


def documents(config) -> Iterator[list[tuple[str, str]]]:
    """Endless text to train a tokenizer or a model on: turns of (prompt, what is written after it).

    It is made of MBPP's training problems and shots, reshuffled every epoch. Half of the documents are one problem,
    half are as many more as the prompt has shots.
    """
    splits = load(config.task.manual_dir)
    problems = splits['train'] + splits['shots']
    return splits_lib.documents(problems, len(config.task.shots), f'code {config.seed} documents', STOPS)


def load(manual_dir: str = '') -> dict[str, list[Problem]]:
    """All problems, `{'train': ..., 'validation': ..., 'test': ..., 'shots': ...}`, in the order of their ids.

    Files come from `manual_dir`, or are downloaded once and kept under `$TFDS_DATA_DIR/code` (default
    `~/tensorflow_datasets/code`).

    Raises:
        UserError: says which files to fetch from where, and where to put them.
    """
    files = find_files(manual_dir) if manual_dir else _download()
    mbpp = _rows(files['mbpp'], SOURCES['mbpp'])
    splits = {split: [_mbpp(split, mbpp[number]) for number in numbers] for split, numbers in _SPLITS.items()}
    return splits | {'test': [_humaneval(row) for row in _rows(files['humaneval'], SOURCES['humaneval']).values()]}


def find_files(manual_dir: str) -> dict[str, Path]:
    """The local files, `mbpp.jsonl` and `HumanEval.jsonl` or `HumanEval.jsonl.gz`, checked to have every problem once.

    That the texts are the official ones is not checked: what is published has been spelled anew by many.

    Raises:
        UserError: a file is missing, or is not of these problems.
    """
    files = {}
    for key, source in SOURCES.items():
        candidates = [Path(manual_dir).expanduser() / name for name in (source.name, source.name.removesuffix('.gz'))]
        path = next((path for path in candidates if path.is_file()), None)
        if path is None:
            raise UserError(f'{candidates[0]} is not there: {_instructions(manual_dir)}')
        _rows(path, source)
        files[key] = path
    return files


def _rows(path: Path, source: Source) -> dict:
    """The rows of a file by task_id, in the order of `source.ids`; UserError unless it has each exactly once."""
    rows = [row for _, row in jsonl.read(path, source.fields)]
    by_id = {row['task_id']: row for row in rows}
    if len(rows) != len(source.ids) or by_id.keys() != set(source.ids):
        raise UserError(
            f'{path} has {len(rows)} problems, it should have {len(source.ids)}, task_id {source.ids[0]} to '
            f'{source.ids[-1]}: fetch {source.url} again'
        )
    return {task_id: by_id[task_id] for task_id in source.ids}


def _download() -> dict[str, Path]:
    directory = Path(os.environ.get('TFDS_DATA_DIR') or Path.home() / 'tensorflow_datasets') / 'code'
    files = {key: directory / source.name for key, source in SOURCES.items()}
    for key, source in SOURCES.items():
        if files[key].exists():
            continue
        print(f'{source.name}: downloading, kept in {directory}')
        try:
            with urllib.request.urlopen(source.url, timeout=30) as response:
                content = response.read()
        except OSError as error:
            raise UserError(f'{source.name} cannot be downloaded ({error}): {_instructions("a directory")}') from error
        if hashlib.sha256(content).hexdigest() != source.sha256:
            raise UserError(f'{source.url} has other bytes than were published: {_instructions("a directory")}')
        directory.mkdir(parents=True, exist_ok=True)
        commit(files[key], content)
    return files


def _instructions(directory: str) -> str:
    urls = ' and '.join(source.url for source in SOURCES.values())
    return f'fetch {urls} into {directory} and set config.task.manual_dir to it'


def _mbpp(split: str, row: dict) -> Problem:
    tests = [_unix(test) for test in row['test_list']]
    question = f'{row["text"].strip()}\nYour code should pass this test:\n{tests[0].strip()}'
    answer = '\n'.join(filter(None, [_unix(row['test_setup_code']), *tests]))
    return Problem(f'{split}/{row["task_id"]}', question, answer, _tidy(row['code']), subject='mbpp')


def _humaneval(row: dict) -> Problem:
    prompt, number = row['prompt'], row['task_id'].partition('/')[2]
    before = prompt[: prompt.rindex(f'def {row["entry_point"]}(')]
    question = f'Complete this function and write all of it:\n{_tidy(prompt)}'
    answer = '\n\n'.join(filter(None, [_unix(before), _unix(row['test']), f'check({row["entry_point"]})']))
    return Problem(f'test/{number}', question, answer, _tidy(prompt + row['canonical_solution']), subject='humaneval')


def _unix(source: str) -> str:
    return source.replace('\r\n', '\n').strip('\n')


def _tidy(source: str) -> str:
    """A program to be shown or learned from: no spaces behind its lines."""
    return '\n'.join(line.rstrip() for line in _unix(source).split('\n'))
