"""Reading JSON lines that somebody else wrote: every mistake is named with its line."""

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from cosample_jax.errors import UserError

_NAMES = {str: 'text', int: 'a whole number', float: 'a number', list: 'a list'}


def read(path: str | Path, fields: Mapping[str, tuple[type, ...]]) -> Iterator[tuple[int, dict]]:
    """`(line number from 1, row)` of each line that is not blank; every row has `fields`, of one of their
    types. A name that ends in .gz is that of a compressed file.

    Raises:
        UserError: no such file, not UTF-8, or a line that is no JSON object with these fields.
    """
    try:
        # Not splitlines(): texts may hold U+2028, which ends a line there but not in JSON lines.
        content = Path(path).read_bytes()
        if str(path).endswith('.gz'):
            content = gzip.decompress(content)
        lines = content.decode('utf-8-sig').split('\n')
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f'{path} cannot be read: {getattr(error, "strerror", None) or error}') from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b'\n') + 1
        raise UserError(f'{path} line {line} is not UTF-8 text: save the file as UTF-8') from None
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, _row(f'{path} line {number}', line, fields)


def _row(where: str, line: str, fields: Mapping[str, tuple[type, ...]]) -> dict:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f'{where} is not JSON ({error}): write one JSON object a line') from None
    if not isinstance(row, dict):
        raise UserError(f'{where} is not a JSON object: write {{{", ".join(fields)}}}')
    for name, types in fields.items():
        if name not in row:
            raise UserError(f'{where} has no field {name!r}: rows need {", ".join(fields)}')
        if not isinstance(row[name], types) or isinstance(row[name], bool):
            wanted = ' or '.join(_NAMES[kind] for kind in types)
            raise UserError(f'{where}: {name} is {json.dumps(row[name])[:60]}, it must be {wanted}')
    return row
