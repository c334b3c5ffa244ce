"""MATH and Functional MATH as people have them on disk: found, recognised, checked. No JAX here.

MATH's own download is gone (take-down notice, hendrycks/math issue 29), so it comes from a directory of the user's, as

* the original tree, `MATH/train/algebra/0.json` ..., with or without the `MATH`;
* JSON lines, `train.jsonl` and `test.jsonl`, or `math_train.jsonl` and `math_test.jsonl`;
* a mirror's parquet files, `train*.parquet` and `test*.parquet` at any depth, one a split or one a subject.

Rows have `problem`, `level`, `type` and `solution`. Mirrors have no ids, and no checksum fits all of these forms. So
the package brings an index, `data/math_index.txt`: the ids of MATH (`train/algebra/0`), of each the first 8 hex digits
of the SHA-256 of its problem without white space, and a mark on the 500 problems of PRM800K's test split (`*`, MATH500)
and on the 1,745 that have functional variants (`+`). A row without an id is found by its hash, one with an id is
checked by it; a few rows may differ (editions do, by some bytes: of test/counting_and_probability/1087 there are two),
and one that is alone in that has the one id that is left.
"""

import dataclasses
import functools
import hashlib
import io
import json
import re
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path

from cosample_jax import jsonl
from cosample_jax.errors import UserError
from cosample_jax.tasks.sources import Rows, Source, content

FIELDS = ('id', 'problem', 'level', 'type', 'solution')
_TYPES = {'problem': (str,), 'level': (str, int), 'type': (str,), 'solution': (str,)}  # a mirror may say 5 for Level 5
TOLERATED = 5
"""Rows of a split that may differ from the index."""

INSTRUCTIONS = (
    "MATH's own download was taken down (hendrycks/math issue 29): put the original tree (MATH/train/algebra/0.json "
    '...) or a mirror of it there, as parquet (train*.parquet and test*.parquet, such as those of the data set '
    'EleutherAI/hendrycks_math) or as JSON lines (train.jsonl and test.jsonl, with problem, level, type and solution), '
    'and set config.task.manual_dir to that directory'
)

_FNEVAL = 'https://github.com/ConsequentAI/fneval/raw/a89e561466dac1d0a376aaad9d84fa366a9f8e93'


def _snapshot(month: str, rows_content: str) -> Source:
    return Source(f'{_FNEVAL}/{month}-2023.tar.gz', 1_745, rows_content)


SNAPSHOTS = {
    'oct2023': _snapshot('Oct', 'c274b0412a8e9c5c574dbf086aaed827f3784516ba702eb1b4f40d3c1099ee18'),
    'nov2023': _snapshot('Nov', 'ca95a3cfc4f1988cacaf1fba3ab9c9b5821a6d789c83ff8d12a39119fdc48ed3'),
    'dec2023': _snapshot('Dec', '16b55f968ece110b4e4a601988a893e46336ac84078b535fa550c16e61f6ba3c'),
}
"""The monthly snapshots of Functional MATH (Srivastava et al. 2024). Nobody published checksums of the archives, so it
is their rows that are checked."""


@dataclasses.dataclass(frozen=True)
class Index:
    """The ids of MATH: `hashes[split][id]`, and which are in MATH500 or have functional variants."""

    hashes: dict[str, dict[str, str]]
    math500: frozenset[str]
    functional: frozenset[str]


@functools.cache
def index() -> Index:
    hashes: dict[str, dict[str, str]] = {'train': {}, 'test': {}}
    marked: dict[str, set[str]] = {'*': set(), '+': set()}
    for line in resources.files('cosample_jax').joinpath('data', 'math_index.txt').read_text().splitlines():
        subject, *entries = line.split()
        for entry in entries:
            number, _, mark = entry.partition(':')
            problem_id = f'{subject}/{number}'
            hashes[subject.partition('/')[0]][problem_id] = mark.rstrip('*+')
            for sign in mark[len(mark.rstrip('*+')) :]:
                marked[sign].add(problem_id)
    return Index(hashes, frozenset(marked['*']), frozenset(marked['+']))


def fingerprint(problem: str) -> str:
    return hashlib.sha256(''.join(problem.split()).encode()).hexdigest()[:8]


def read_math(manual_dir: str, split: str) -> Rows:
    """The rows of 'train' or 'test', in the order of the index, every one with its id.

    Raises:
        UserError: nothing is there, or it is not MATH; says what to fetch and where to put it.
    """
    where, rows = _found(_directory(manual_dir), split)
    hashes = index().hashes[split]
    if len(rows) != len(hashes):
        raise UserError(f'{where} has {len(rows):,} problems, MATH has {len(hashes):,} for {split}: {INSTRUCTIONS}')
    named = _named(where, split, rows, hashes)
    return [named[problem_id] for problem_id in hashes]


def find(manual_dir: str, split: str) -> Path:
    """Where the rows of `split` are; UserError when nowhere."""
    return _places(_directory(manual_dir), split)[0]


def _directory(manual_dir: str) -> Path:
    if not manual_dir:
        raise UserError(f'config.task.manual_dir is empty: {INSTRUCTIONS}')
    return Path(manual_dir).expanduser()


def _places(directory: Path, split: str) -> list[Path]:
    """The directory of a tree, a JSONL file, or parquet files."""
    trees = [tree for tree in (directory / 'MATH' / split, directory / split) if (tree / 'algebra').is_dir()]
    if trees and any((trees[0] / 'algebra').glob('*.json')):
        return trees[:1]
    lines = [path for path in (directory / f'{split}.jsonl', directory / f'math_{split}.jsonl') if path.is_file()]
    if found := lines[:1] or sorted(directory.rglob(f'{split}*.parquet')):
        return found
    raise UserError(f'{directory} has no {split} problems of MATH: {INSTRUCTIONS}')


def _found(directory: Path, split: str) -> tuple[str, Rows]:
    """(where, rows), as they are written there."""
    places = _places(directory, split)
    if places[0].is_dir():
        files = sorted(places[0].glob('*/*.json'))
        return str(places[0]), list(_tree((str(path), path.read_bytes()) for path in files))
    if places[0].suffix == '.jsonl':
        return str(places[0]), [_texts(row) for _, row in jsonl.read(places[0], _TYPES)]
    return f'{directory}/**/{split}*.parquet', [row for path in places for row in _parquet(path)]


def _tree(files: Iterable[tuple[str, bytes]]) -> Iterator[dict[str, str]]:
    """Rows of (path, JSON), whose ids are the paths' last three parts."""
    for path, data in files:
        try:
            row = json.loads(data)
            texts = {name: str(row[name]) for name in FIELDS[1:]}
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f'{path} is no problem of MATH ({error!r}): fetch it again') from None
        yield {'id': '/'.join(path.removesuffix('.json').split('/')[-3:]), **texts}


def _parquet(path: Path) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f'{path} cannot be read ({str(error).splitlines()[0]}): fetch it again') from None
    missing = [name for name in FIELDS[1:] if name not in table.column_names]
    if missing:
        raise UserError(f'{path} has no column {missing[0]!r} (its columns: {", ".join(table.column_names)})')
    return [_texts(row) for row in table.to_pylist()]


def _texts(row: dict) -> dict[str, str]:
    """A row's fields; its id, when it has one, in the form of the index."""
    written = row.get('id', row.get('unique_id'))
    named = {'id': written.removesuffix('.json')} if isinstance(written, str) else {}
    return named | {name: str(row[name]) for name in FIELDS[1:]}


def _named(where: str, split: str, rows: Rows, hashes: dict[str, str]) -> dict[str, dict[str, str]]:
    """id -> row. UserError when more than TOLERATED rows are not those of the index, or one cannot be told."""
    by_hash = defaultdict(list)
    for problem_id, mark in hashes.items():
        by_hash[mark].append(problem_id)
    named: dict[str, dict[str, str]] = {}
    unknown, nameless = 0, []
    for row in rows:
        mark = fingerprint(row['problem'])
        if row.get('id') in hashes:
            problem_id = row['id']
            unknown += hashes[problem_id] != mark
        else:
            # Two pairs of training problems are the same but for white space: each gets an id of the pair.
            problem_id = next((known for known in by_hash[mark] if known not in named), '')
            unknown += not problem_id
        if problem_id in named:
            raise UserError(f'{where} has {problem_id} twice: {INSTRUCTIONS}')
        if problem_id:
            named[problem_id] = row | {'id': problem_id}
        else:
            nameless.append(row)
    left = [problem_id for problem_id in hashes if problem_id not in named]
    if unknown > TOLERATED or len(nameless) > 1:
        raise UserError(f'{where} holds {unknown:,} {split} problems that are not those of MATH: {INSTRUCTIONS}')
    return named | {problem_id: row | {'id': problem_id} for problem_id, row in zip(left, nameless, strict=True)}


def find_snapshot(manual_dir: str, snapshot: str) -> Path | None:
    """`Dec-2023` (unpacked), `Dec-2023.tar.gz`, `math_fn_dec2023.jsonl` or `dec2023.jsonl`, if one is there."""
    if not manual_dir:
        return None
    archive = Path(SNAPSHOTS[snapshot].url).name
    names = (archive.removesuffix('.tar.gz'), archive, f'math_fn_{snapshot}.jsonl', f'{snapshot}.jsonl')
    return next((path for name in names if (path := Path(manual_dir).expanduser() / name).exists()), None)


def read_snapshot(path: Path, snapshot: str) -> Rows:
    """The rows of a snapshot, named as the test problems they vary, in the order of the index.

    Raises:
        UserError: they are not those that were published.
    """
    source = SNAPSHOTS[snapshot]
    if path.is_dir():
        rows = list(_tree((str(file), file.read_bytes()) for file in sorted(path.rglob('test/*/*.json'))))
    elif path.suffix == '.jsonl':
        rows = [_texts(row) for _, row in jsonl.read(path, {'id': (str,)} | _TYPES)]
    else:
        rows = list(_tree(_archived(path)))
    by_id = {row['id']: row for row in rows}
    wanted = [problem_id for problem_id in index().hashes['test'] if problem_id in index().functional]
    fetch = f'fetch {source.url} again'
    if len(rows) != len(wanted) or set(by_id) != set(wanted):
        raise UserError(f'{path} has {len(rows):,} problems, not the {len(wanted):,} of {snapshot}: {fetch}')
    ordered = [by_id[problem_id] for problem_id in wanted]
    if snapshot_content(ordered) != source.content:
        raise UserError(f'{path} does not hold the published problems of {snapshot}: {fetch}')
    return ordered


def snapshot_content(rows: Rows) -> str:
    """That of ids, problems and solutions without white space."""
    return content((row['id'], ''.join(row['problem'].split()), ''.join(row['solution'].split())) for row in rows)


def _archived(path: Path) -> Iterator[tuple[str, bytes]]:
    """(path, content) of the problems in a tar archive; nothing is unpacked to disk."""
    try:
        with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as archive:
            for member in archive:
                if member.isfile() and re.search(r'(?:^|/)test/[a-z_]+/\d+\.json$', member.name):
                    yield member.name, archive.extractfile(member).read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f'{path} is no whole tar archive ({error}): fetch it again') from None
