"""Where official data comes from, and how it is known to be whole. No TFDS here."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Rows = list[dict[str, str]]


@dataclass(frozen=True)
class Source:
    """A file to download. `content` is that of its rows (:func:`content`), which a mirror in another spelling shares;
    `sha256` and `num_bytes` are those of the file, '' and 0 where they are not known.
    """

    url: str
    num_rows: int
    content: str
    sha256: str = ''
    num_bytes: int = 0


def content(rows: Iterable[Sequence[str]]) -> str:
    """The SHA-256 of rows of texts."""
    return hashlib.sha256(''.join(json.dumps(list(row)) + '\n' for row in rows).encode()).hexdigest()
