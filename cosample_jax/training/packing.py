"""From token sequences to rows: several examples share a row, kept apart by segment ids. Pure functions, no JAX."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from cosample_jax.errors import UserError


class Example(NamedTuple):
    """A sequence of token ids and, for each, whether it is to be learned (a solution's tokens) or only read."""

    tokens: Sequence[int]
    learn: Sequence[bool]


def lesson(prompt: Sequence[int], answer: Sequence[int]) -> Example:
    """A prompt that is read and an answer, its end included, that is learned."""
    return Example([*prompt, *answer], [False] * len(prompt) + [True] * len(answer))


def example(tokenizer, turns: Sequence[tuple[str, str]]) -> Example:
    """Prompts and what is to be written after each, in turn: <bos> prompt target prompt target ... <eos>.

    Loss falls on the targets and on <eos>. Prompt and target are tokenised apart, as they are when the model is asked.
    """
    tokens, learn = [tokenizer.bos], [False]
    for prompt, target in turns:
        for text, learned in ((prompt, False), (target, True)):
            ids = tokenizer.encode(text)
            tokens += ids
            learn += [learned] * len(ids)
    return Example([*tokens, tokenizer.eos], [*learn, True])


def positions(example: Example) -> int:
    """How many positions of a row it takes: the last token is only a target."""
    return len(example.tokens) - 1


class Batch(NamedTuple):
    """R packed rows of T tokens, all arrays [R, T].

    `targets` is the next token of each position, `weights` is 1.0 where the loss falls. Segment 0 is padding.
    """

    tokens: np.ndarray
    targets: np.ndarray
    positions: np.ndarray
    segment_ids: np.ndarray
    weights: np.ndarray


def pack(examples: Sequence[Example], row_length: int, row_multiple: int) -> Batch:
    """Packs ALL examples, longest first, each into the fullest row that takes it; rows are added in `row_multiple`s.

    Few multiples mean few shapes, and so few compilations. Raises UserError for an example longer than a row.
    """
    order = sorted(range(len(examples)), key=lambda i: -len(examples[i].tokens))
    rows: list[list[Example]] = []
    free: list[int] = []
    for index in order:
        need = positions(examples[index])
        if need > row_length:
            raise UserError(
                f'an example of {need + 1} tokens does not fit a row: raise config.finetune.row_length '
                f'({row_length}) to {need}'
            )
        fitting = [row for row in range(len(rows)) if free[row] >= need]
        if fitting:
            row = min(fitting, key=lambda r: free[r])
        else:
            row = len(rows)
            rows.append([])
            free.append(row_length)
        rows[row].append(examples[index])
        free[row] -= need
    return _to_arrays(rows, -(-len(rows) // row_multiple) * row_multiple, row_length)


def pack_stream(examples: Iterable[Example], row_length: int, num_rows: int) -> Iterator[Batch]:
    """An endless stream to batches of exactly `num_rows` rows. Examples longer than a row are left out.

    An example goes into the first row with room; the one that fits nowhere opens the next batch.
    """
    rows: list[list[Example]] = [[] for _ in range(num_rows)]
    free = [row_length] * num_rows
    for this in examples:
        need = positions(this)
        if need > row_length:
            continue
        row = next((r for r in range(num_rows) if free[r] >= need), None)
        if row is None:
            yield _to_arrays(rows, num_rows, row_length)
            rows, free, row = [[] for _ in range(num_rows)], [row_length] * num_rows, 0
        rows[row].append(this)
        free[row] -= need


def _to_arrays(rows: list[list[Example]], num_rows: int, row_length: int) -> Batch:
    shape = (num_rows, row_length)
    batch = Batch(*(np.zeros(shape, np.int32) for _ in range(4)), np.zeros(shape, np.float32))
    for r, row in enumerate(rows):
        start = 0
        for segment, (tokens, learn) in enumerate(row, 1):
            n = len(tokens) - 1
            span = slice(start, start + n)
            batch.tokens[r, span] = tokens[:-1]
            batch.targets[r, span] = tokens[1:]
            batch.positions[r, span] = np.arange(n)
            batch.segment_ids[r, span] = segment
            batch.weights[r, span] = learn[1:]
            start += n
    return batch
