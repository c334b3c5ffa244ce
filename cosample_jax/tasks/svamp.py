"""SVAMP: 1,000 one-step word problems that vary earlier ones to catch solvers out (Patel et al., arXiv 2103.07191).

It is a challenge set, with nothing to train on: `test` is SVAMP, and the other splits are GSM8K's, which a model is
trained on as in :mod:`cosample_jax.tasks.gsm8k`. Ids are `test/chal-1`. A solution is the official equation.

The address is a branch's, for no commit of it is known here; the checksum is one that others
published, and the rows of another copy, written as the official file is, have it. The download was tested from a local
server only. No JAX here.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from cosample_jax.errors import UserError
from cosample_jax.records import Problem
from cosample_jax.tasks import gsm8k
from cosample_jax.tasks.sources import Rows, Source, content
from cosample_jax.tasks.splits import Splits

MARKERS = gsm8k.MARKERS
ANSWERS = gsm8k.ANSWERS

SOURCE = Source(
    url='https://raw.githubusercontent.com/arkilpatel/SVAMP/main/SVAMP.json',
    num_rows=1_000,
    content='1113956e75e2775e1ee2b8917c860835aa04eb0e94b54a2acbf710a01e494685',
    sha256='5be77703a6d891ae476d7c082787ad361392aa02453b132516cdd5f4e7934e3e',
    num_bytes=339_970,
)
_FIELDS = ('ID', 'Body', 'Question', 'Equation', 'Answer', 'Type')


def build(config) -> Splits:
    """GSM8K's splits with SVAMP as `test`; `config.task.manual_dir`, if given, has the files of both.

    Raises:
        UserError: as :func:`cosample_jax.tasks.gsm8k.build`.
    """
    manual_dir = config.task.manual_dir
    return gsm8k.split_up(config, gsm8k.load(manual_dir)['train'], load(manual_dir), 'SVAMP with GSM8K')


def documents(config) -> Iterator[list[tuple[str, str]]]:
    """GSM8K's."""
    return gsm8k.documents(config)


def load(manual_dir: str = '') -> list[Problem]:
    """All problems in the order of their ids, through TFDS, which keeps them.

    Raises:
        UserError: says what to fetch and where to put it.
    """
    from cosample_jax.tasks import builder

    local = _find(manual_dir) if manual_dir else None

    def make(downloads: dict[str, Path]) -> dict[str, Rows]:
        return {'test': read_rows(local or downloads['test'])}

    sources = {} if local else {'test': SOURCE}
    rows = builder.prepared('svamp', 'SVAMP', make, _FIELDS, sources, _instructions('a directory'))
    return [_problem(row) for row in rows['test']]


def find_files(manual_dir: str) -> dict[str, Path]:
    """The local files of SVAMP and GSM8K, checked to hold the official rows; UserError otherwise."""
    path = _find(manual_dir)
    read_rows(path)
    return {'svamp': path, **gsm8k.find_files(manual_dir)}


def read_rows(path: Path) -> Rows:
    """The rows of SVAMP.json, or of the same as JSON lines in any order; UserError unless they are the official."""
    fetch = f'fetch {SOURCE.url} again'
    try:
        text = path.read_text(encoding='utf-8')
        is_list = text.lstrip().startswith('[')
        written = json.loads(text) if is_list else [json.loads(line) for line in text.splitlines()]
        rows = [{name: str(row[name]) for name in _FIELDS} for row in written]
        rows.sort(key=lambda row: int(row['ID'].removeprefix('chal-')))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f'{path} does not hold problems of SVAMP ({error!r}): {fetch}') from None
    if len(rows) != SOURCE.num_rows:
        raise UserError(f'{path} has {len(rows)} problems, SVAMP has {SOURCE.num_rows}: {fetch}')
    if content(row.values() for row in rows) != SOURCE.content:
        raise UserError(f'{path} does not hold the official SVAMP rows: {fetch}')
    return rows


def _find(manual_dir: str) -> Path:
    paths = [Path(manual_dir).expanduser() / name for name in ('SVAMP.json', 'svamp_test.jsonl')]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise UserError(f'SVAMP: {paths[0]} is not there: {_instructions(manual_dir)}')
    return path


def _instructions(directory: str) -> str:
    return f'fetch {SOURCE.url} into {directory}, beside the files of GSM8K, and set config.task.manual_dir to it'


def _problem(row: dict[str, str]) -> Problem:
    body, asked = row['Body'].strip(), row['Question'].strip()
    answer = row['Answer'].removesuffix('.0')
    equation = row['Equation'].replace('.0 ', ' ').strip('() ')
    return Problem(
        f'test/{row["ID"]}',
        f'{body}{"" if body[-1] in ".,?!" else "."} {asked}',
        answer,
        f'{equation} = {answer}.\nThe answer is {answer}.',
        subject='Common-Division' if row['Type'] == 'Common-Divison' else row['Type'],
    )
