"""Which row decodes which sample, and where its keys and values lie: the host's bookkeeping, without JAX.

The cache of a shard is a pool of pages of a few dozen tokens. A question is copied into pages once for every few rows
that answer it, and read once for all of them; a row takes a page of its own whenever it has filled the last one.
Pages are given out lowest first, so that those in use lie together and the device reads no others.
"""

import dataclasses
import heapq
from collections import deque
from collections.abc import Sequence, Set
from typing import NamedTuple

import numpy as np

from cosample_jax.gemma.pages import MOST_PAGES_PER_BLOCK, PAGES_PER_BLOCK, Pages
from cosample_jax.sampling.stops import StopStrings

PAGE = 64  # tokens; fewer when samples are shorter
READERS = 4  # rows that share one copy of a question


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """How one sample is drawn, by an engine whose rows have policies of their own.

    Attributes:
        problem_hash: uint32, for `policy.problem_hash`: what its randomness follows from, besides its index.
        temperature: 0 is greedy.
        top_k: 0 is off.
        top_p: 1 is off.
        stop_ids: Tokens that end it.
        stop_strings: Texts that do.
        logprobs: Whether those of its tokens are kept.
    """

    problem_hash: int
    temperature: float
    top_k: int
    top_p: float
    stop_ids: frozenset[int]
    stop_strings: StopStrings | None
    logprobs: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """One sample wanted: the `sample_index`-th of a problem, whose whole prompt is the token ids `prompt`.

    `max_new_tokens` is its own limit, where it has one; at most that of the settings. `own` are its other settings,
    which a live engine asks for and no other reads.
    """

    problem_id: str
    sample_index: int
    prompt: Sequence[int]
    max_new_tokens: int | None = None
    own: Own | None = None


class Layout(NamedTuple):
    """The shapes of a paged cache and its bookkeeping, fixed for a run.

    Attributes:
        shards: D, over how many devices rows are split.
        rows: R, of a shard.
        page_size: C, tokens of a page.
        readers: J, rows that may share a page.
        question_pages: The most that a question takes.
        own_pages: The most that a row writes.
    """

    shards: int
    rows: int
    page_size: int
    readers: int
    question_pages: int
    own_pages: int

    @property
    def question_budget(self) -> int:
        """Pages of a shard that questions may take at a time: one copy a row, or one for two where rows share them.

        A question keeps its pages for its last row, so not all of its readers' places are taken all the time.
        """
        return self.question_pages * -(-self.rows // min(2, self.readers))

    @property
    def pages(self) -> int:
        """P, of a shard: enough for every row at its longest, in whole blocks of what is read at once: the larger
        blocks, where that adds less than an eighth.
        """
        needed = self.rows * self.own_pages + self.question_budget
        block = MOST_PAGES_PER_BLOCK if needed >= 8 * MOST_PAGES_PER_BLOCK else PAGES_PER_BLOCK
        return -(-needed // block) * block


def layout(slots: int, shards: int, question: int, max_new_tokens: int, shared: bool, unrolled: bool = False) -> Layout:
    """For `slots` rows in all, questions of up to `question` tokens; `shared` when problems have several samples.

    A page costs arithmetic for every reader that it has a place for, also a row's own pages, which have one. A small
    model, `unrolled`, is bound by that and not by what it reads: its rows share only what is longer than their own.
    """
    size = min(PAGE, -(-max_new_tokens // 16) * 16)
    question_pages, own_pages = -(-question // size), -(-max_new_tokens // size)
    if unrolled:
        shared = shared and question_pages > own_pages
    return Layout(
        shards=shards,
        rows=slots // shards,
        page_size=size,
        readers=READERS if shared else 1,
        question_pages=question_pages,
        own_pages=own_pages,
    )


class Question:
    """A problem with the samples that are still to be started.

    Attributes:
        tokens: Its prompt between the shared prefix and the last token, which is the first that decode feeds.
        waiting: Requests not yet given a row.
        pages: How many its tokens fill.
        source: Set by the engine: keys and values of a prefill, and which of its pages is this question's first.
    """

    def __init__(self, tokens: Sequence[int], requests: Sequence[Request], page_size: int):
        self.tokens = tokens
        self.waiting = deque(requests)
        self.pages = -(-len(tokens) // page_size)
        self.source = None


class Copy(NamedTuple):
    """A question in pages of a shard; equal to another one only when it is the same."""

    question: Question
    shard: int
    pages: list[int]
    rows: list  # by reader: the row, or None

    __eq__ = object.__eq__


class _Row:
    """What a row is doing."""

    def __init__(self, request: Request, copy: Copy, reader: int):
        self.request, self.copy, self.reader = request, copy, reader
        self.own: list[int] = []  # pages


class Schedule:
    """Rows are numbered through all shards: row r is row r % R of shard r // R."""

    def __init__(self, layout: Layout, prefix: int, questions: Sequence[Question]):
        self._layout, self._prefix = layout, prefix
        self._queue = deque(questions)
        self._rows: list[_Row | None] = [None] * (layout.shards * layout.rows)
        self._copies: list[list[Copy]] = [[] for _ in range(layout.shards)]
        self._free = [list(range(layout.pages)) for _ in range(layout.shards)]  # heaps
        shape = (layout.shards, layout.pages)
        by_row = (layout.shards, layout.rows)
        self._nobody, self._nowhere = layout.rows, layout.pages * layout.readers
        width = max(1, layout.question_pages + layout.own_pages)
        self._pages = Pages(
            readers=np.full((*shape, layout.readers), self._nobody, np.int32),
            starts=np.zeros(shape, np.int32),
            counts=np.zeros(shape, np.int32),
            table=np.full((*by_row, width), self._nowhere, np.int32),
            first_own=np.zeros(by_row, np.int32),
            own_starts=np.zeros(by_row, np.int32),
            used=np.zeros((), np.int32),
        )

    @property
    def requests(self) -> list[Request | None]:
        """By row, what it decodes."""
        return [row and row.request for row in self._rows]

    def is_waiting(self) -> bool:
        """Whether there are samples that no row has begun."""
        return any(question.waiting for question in self._queue)

    def add(self, questions: Sequence[Question]) -> None:
        """Queues them behind the others."""
        self._queue.extend(questions)

    def drop(self, problem_ids: Set[str]) -> list[Question]:
        """Starts no more samples of these problems; returns the questions that had any."""
        dropped = [q for q in self._queue if q.waiting and q.waiting[0].problem_id in problem_ids]
        for question in dropped:
            question.waiting.clear()
        return dropped

    def fill(self) -> tuple[list[int], list[Copy]]:
        """Gives idle rows their next samples; returns these rows and the copies of questions that are to be made."""
        started, made = [], []
        for row, busy in enumerate(self._rows):
            if busy is None and (copy := self._copy_for(row // self._layout.rows, made)) is not None:
                self._start(row, copy)
                started.append(row)
        return started, made

    def _copy_for(self, shard: int, made: list[Copy]) -> Copy | None:
        """One with a reader's place left and samples waiting, or a new one."""
        for copy in self._copies[shard]:
            if copy.question.waiting and None in copy.rows:
                return copy
        while self._queue and not self._queue[0].waiting:
            self._queue.popleft()
        if not self._queue:
            return None
        question = self._queue[0]
        taken = sum(len(copy.pages) for copy in self._copies[shard])
        if taken + question.pages > self._layout.question_budget:
            return None
        copy = Copy(question, shard, [], [None] * self._layout.readers)
        for index in range(question.pages):
            page = self._take(shard, self._prefix, index)
            self._pages.counts[shard, page] = min(
                self._layout.page_size, len(question.tokens) - index * self._layout.page_size
            )
            copy.pages.append(page)
        self._copies[shard].append(copy)
        made.append(copy)
        return copy

    def _take(self, shard: int, start: int, index: int) -> int:
        """The lowest free page, for the `index`-th stretch of tokens from position `start` on."""
        page = heapq.heappop(self._free[shard])
        self._pages.starts[shard, page] = start + index * self._layout.page_size
        self._pages.counts[shard, page] = self._layout.page_size
        return page

    def _start(self, row: int, copy: Copy) -> None:
        request, reader = copy.question.waiting.popleft(), copy.rows.index(None)
        copy.rows[reader] = row
        self._rows[row] = _Row(request, copy, reader)
        shard, at = divmod(row, self._layout.rows)
        for index, page in enumerate(copy.pages):
            self._pages.readers[shard, page, reader] = at
            self._pages.table[shard, at, index] = page * self._layout.readers + reader
        self._pages.first_own[shard, at] = len(copy.pages)
        self._pages.own_starts[shard, at] = len(request.prompt) - 1

    def release(self, row: int) -> None:
        """The row's sample is complete; nobody needs its pages."""
        shard, at = divmod(row, self._layout.rows)
        done, self._rows[row] = self._rows[row], None
        done.copy.rows[done.reader] = None
        for page in done.copy.pages:
            self._pages.readers[shard, page, done.reader] = self._nobody
        freed = done.own
        if not any(other is not None for other in done.copy.rows):
            self._copies[shard].remove(done.copy)
            freed = freed + done.copy.pages
        for page in freed:
            self._pages.readers[shard, page] = self._nobody
            heapq.heappush(self._free[shard], page)
        self._pages.table[shard, at] = self._nowhere

    def pages(self, written: np.ndarray, loop: int) -> Pages:
        """The bookkeeping for `loop` more tokens of every busy row, of which `written` [rows] have some already."""
        for row, busy in enumerate(self._rows):
            if busy is None:
                continue
            limit = self._layout.own_pages * self._layout.page_size
            while len(busy.own) * self._layout.page_size < min(written[row] + loop, limit):
                shard, at = divmod(row, self._layout.rows)
                page = self._take(shard, len(busy.request.prompt) - 1, len(busy.own))
                self._pages.readers[shard, page, 0] = at
                index = len(busy.copy.pages) + len(busy.own)
                self._pages.table[shard, at, index] = page * self._layout.readers
                busy.own.append(page)
        in_use = (self._pages.readers != self._nobody).any((0, 2))
        used = np.flatnonzero(in_use).max(initial=-1) + 1
        return self._pages._replace(used=np.int32(used))
