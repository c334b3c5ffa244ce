"""What the stages hand to one another, and how it reaches the disk: keyed records in atomic parquet parts.

A store is a directory of parts `part-<process>-<seq>.parquet`. A part appears whole or not at all (`commit`),
is never changed afterwards, and no key occurs in two parts; so a reader may look at any moment, a writer may
be killed at any moment, and what is lost is at most the records not yet handed to `append`.
"""

import dataclasses
import io
import json
import os
import re
import typing
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from cosample_jax.errors import UserError


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """A question with its gold final answer; `meta` is JSON for the task's own checker."""

    KEY: ClassVar[tuple[str, ...]] = ('id',)

    id: str
    question: str
    answer: str
    solution: str
    level: int = 0
    subject: str = ''
    meta: str = ''


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One solution drawn from a model.

    `finish` is 'stop', 'length', or 'blocked' by an API's filter; `num_tokens` counts the token that completes the
    stop; `logprob` is the raw model's log-probability (nats) of the counted tokens, `sampling_logprob` the one after
    temperature and top-k. An API tells neither these (NaN) nor its `tokens` (none); what it counts, thoughts too, is
    `num_tokens`.
    """

    KEY: ClassVar[tuple[str, ...]] = ('problem_id', 'model', 'sample_index')

    problem_id: str
    model: str
    sample_index: int
    text: str
    tokens: list[int]
    finish: str
    logprob: float
    sampling_logprob: float
    prompt_tokens: int
    num_tokens: int


@dataclasses.dataclass(frozen=True, slots=True)
class Grade:
    """Whether a sample's final answer is the gold one, with both engines' verdicts.

    `answer` is what was extracted ('' when nothing was), `marker` names the marker that matched ('' none),
    `strict` is the normaliser's verdict and `symbolic` is 'yes', 'no', '' (not asked) or 'ungraded: reason'.
    """

    KEY: ClassVar[tuple[str, ...]] = ('problem_id', 'model', 'sample_index')

    problem_id: str
    model: str
    sample_index: int
    correct: bool
    answer: str
    marker: str
    strict: bool
    symbolic: str


@dataclasses.dataclass(frozen=True, slots=True)
class Judgment:
    """Whether the REASONING of a correct sample is right, and who says so.

    `verdict` is VALID or WRONG, which are what a false-positive rate is counted in; or UNCHECKED (there was nothing
    that this judge can judge) or UNPARSABLE (a model judge wrote no verdict), which are counted apart. Each judge has
    a store of its own.
    """

    KEY: ClassVar[tuple[str, ...]] = ('problem_id', 'model', 'sample_index')

    problem_id: str
    model: str
    sample_index: int
    judge: str
    verdict: str
    reason: str


VALID, WRONG, UNCHECKED, UNPARSABLE = VERDICTS = ('valid', 'wrong', 'unchecked', 'unparsable')


Record = TypeVar('Record', Problem, Sample, Grade, Judgment)

_PART = re.compile(r'part-(\d+)-(\d+)\.parquet')


def key(record) -> tuple:
    """The identity of a record, e.g. (problem_id, model, sample_index)."""
    return tuple(getattr(record, field) for field in record.KEY)


def is_remote(path) -> bool:
    """Whether `path` is on an object store (gs://...), where a put is atomic and there is no rename."""
    return '://' in str(path)


def commit(path, data: bytes) -> None:
    """Writes `data` to `path`: a reader, or a crash at any instant, sees the old file or the new one, whole.

    Local: a hidden temporary file in the same directory, fsync, rename, fsync of the directory. Object store:
    one put. An OSError (disk full) names `path` and leaves nothing behind.
    """
    if is_remote(path):
        from etils import epath

        epath.Path(path).write_bytes(data)
        return
    path = Path(os.fspath(path))
    temp = path.parent / f'.{path.name}.{uuid.uuid4().hex}.tmp'
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temp, 'wb') as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temp, path)
    except BaseException as error:
        temp.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename, error.filename2 = str(path), None  # the user knows `path`, not the temporary name
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # without it a power cut may forget the rename
    finally:
        os.close(directory)


def write_json(path, obj) -> None:
    """Commits `obj` as JSON: sorted keys, so that equal content is equal bytes."""
    commit(path, (json.dumps(obj, sort_keys=True, indent=1) + '\n').encode())


def read_json(path):
    """Reads a JSON file; UserError when it is not JSON."""
    try:
        return json.loads(_read_bytes(path))
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError both are
        raise UserError(f'{path} is not valid JSON ({error}): delete it and run the same command again') from None


def write_table(path, kind: type[Record], records: Sequence[Record]) -> None:
    """Commits `records` as one parquet file, in the order given; ValueError when two share a key."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    seen: set[tuple] = set()
    for record in records:
        if key(record) in seen:
            raise ValueError(f'two records with the key {key(record)} in one batch for {path}')
        seen.add(key(record))
    names = [field.name for field in dataclasses.fields(kind)]
    columns = {name: [getattr(record, name) for record in records] for name in names}
    buffer = io.BytesIO()
    # The checksums are what makes a flipped bit on disk an error rather than another number in a table.
    pq.write_table(pa.table(columns, schema=_schema(kind)), buffer, compression='zstd', write_page_checksum=True)
    commit(path, buffer.getvalue())


def read_table(path, kind: type[Record], fix: str = 'run the same command again', columns=None):
    """One parquet file as a pyarrow.Table; UserError when it is damaged or does not hold `kind`."""
    import pyarrow.parquet as pq

    data = _read_bytes(path)
    try:
        schema = pq.read_schema(io.BytesIO(data))
        if schema.equals(_schema(kind)):
            return pq.read_table(io.BytesIO(data), columns=columns, page_checksum_verification=True)
    except Exception as error:  # damaged bytes make the reader raise whatever they happen to spell
        reason = str(error).split('\n')[0].rstrip('. ')
        raise UserError(f'{path} is corrupt or truncated ({reason}): delete it, then {fix}') from None
    names = ', '.join(schema.names)
    raise UserError(f'{path} does not hold {kind.__name__} records (its columns: {names}): delete it, then {fix}')


def to_records(table, kind: type[Record]) -> list[Record]:
    """The rows of a table as records."""
    columns = [table.column(field.name).to_pylist() for field in dataclasses.fields(kind)]
    return [kind(*row) for row in zip(*columns, strict=True)]


class Store(Generic[Record]):
    """An append-only, keyed collection of one kind of record in a directory of parquet parts.

    `process` is the writing host's index: hosts never compete for a part's name. `fix` is the advice in the
    error about a damaged part.
    """

    def __init__(
        self,
        directory,
        kind: type[Record],
        process: int = 0,
        fix: str = 'run the same command again',
    ):
        from etils import epath

        self.directory = epath.Path(directory)
        self.kind = kind
        self._process = process
        self._fix = fix

    def append(self, records: Sequence[Record]) -> None:
        """Commits `records` as one new part; nothing for an empty batch; ValueError for a key twice in the
        batch.
        """
        if not records:
            return
        used = [int(_PART.fullmatch(part.name)[2]) for part in self._parts() if self._is_own(part)]
        name = f'part-{self._process:05d}-{max(used, default=-1) + 1:06d}.parquet'
        write_table(self.directory / name, self.kind, records)

    def read(self) -> list[Record]:
        """All records in the order of their keys; UserError for a damaged part, a foreign one, a key in two
        parts.
        """
        return to_records(self.table(), self.kind)

    def keys(self) -> set[tuple]:
        """The keys of all records; reads only the key columns."""
        return set(self._rows_of_keys(self._load(list(self.kind.KEY))))

    def table(self, columns: Sequence[str] = ()):
        """All records as one pyarrow.Table in the order of their keys, for columnar work on large pools.

        With `columns` it has the key and these alone: a pool's token ids are most of its bytes.
        """
        names = list(dict.fromkeys((*self.kind.KEY, *columns))) if columns else None
        return self._load(names).sort_by([(field, 'ascending') for field in self.kind.KEY])

    def __len__(self) -> int:
        """The number of records, from the parts' footers alone."""
        import pyarrow.parquet as pq

        count = 0
        for part in self._parts():
            try:
                with part.open('rb') as file:
                    count += pq.read_metadata(file).num_rows
            except Exception:
                read_table(part, self.kind, self._fix)  # says what is wrong
                raise
        return count

    def _parts(self) -> list:
        if not self.directory.exists():
            return []
        return sorted((path for path in self.directory.iterdir() if _PART.fullmatch(path.name)), key=lambda p: p.name)

    def _is_own(self, part) -> bool:
        return int(_PART.fullmatch(part.name)[1]) == self._process

    def _load(self, columns: list[str] | None = None):
        import pyarrow as pa

        origin: dict[tuple, str] = {}
        tables = []
        for part in self._parts():
            table = read_table(part, self.kind, self._fix, columns)
            rows = list(self._rows_of_keys(table))
            new = dict.fromkeys(rows, part.name)
            if len(new) < len(rows) or not new.keys().isdisjoint(origin):
                row = next(row for row, count in Counter([*origin, *rows]).items() if count > 1)
                where = ' and '.join(dict.fromkeys((origin.get(row, part.name), part.name)))
                raise UserError(
                    f'{self.directory}: the key {row} occurs twice, in {where}: delete the wrong part, then {self._fix}'
                )
            origin |= new
            tables.append(table)
        if tables:
            return pa.concat_tables(tables)
        schema = _schema(self.kind)
        return (pa.schema([schema.field(name) for name in columns]) if columns else schema).empty_table()

    def _rows_of_keys(self, table) -> Iterator[tuple]:
        return zip(*(table.column(field).to_pylist() for field in self.kind.KEY), strict=True)


def _read_bytes(path) -> bytes:
    from etils import epath

    return epath.Path(path).read_bytes()


def _schema(kind: type):
    import pyarrow as pa

    arrow: dict[Any, Callable] = {str: pa.string, int: pa.int64, float: pa.float64, bool: pa.bool_}
    hints = typing.get_type_hints(kind)
    fields = []
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        fields.append((field.name, pa.list_(pa.int32()) if hint == list[int] else arrow[hint]()))
    return pa.schema(fields)
