"""The host's loop around the device: what is wanted goes in while it runs, what is finished comes out.

The host drains one device loop, starts the next, and only then hands out what the first one finished: its consumer
works while the device draws.
"""

import itertools
from collections import defaultdict, deque
from collections.abc import Iterable

import jax
import numpy as np

from cosample_jax.gemma.model import KV
from cosample_jax.sampling import decode, schedule
from cosample_jax.sampling.rows import Finished, Rows
from cosample_jax.sampling.schedule import Question, Request, Schedule

QUESTIONS = 16  # prefilled in one call


class Loop:
    """Draws what is added, until it is told to stop or nothing is left. Not for several threads at once.

    Its shapes are those of the engine that made it (`Engine.loop`): whatever is added, and when, nothing is compiled
    again.
    """

    def __init__(self, engine, tokens: int):
        """`tokens` are drawn between two visits of the host."""
        self._engine, self._tokens = engine, tokens
        self._prefix_kv: KV | None = None
        if engine.prefix:
            self._prefix_kv = decode.prefill_prefix(
                engine.params, np.array(engine.prefix, np.int32), config=engine.config, mesh=engine.mesh
            )
        self._plan = Schedule(engine.layout, len(engine.prefix), [])
        self._rows = Rows(engine.settings, vocab=engine.config.vocab_size if engine.is_live else None)
        self._cache = decode.empty_cache(
            config=engine.config,
            layout=engine.layout,
            dtype=engine.params['embedder']['input_embedding'].dtype,
            mesh=engine.mesh,
        )
        # By the length that they are padded to: not prefilled yet, in the order in which they are due.
        self._unfilled: dict[int, deque[Question]] = defaultdict(deque)
        self._cancelled: set[str] = set()
        self._emitted: decode.Emitted | None = None
        self._waited = False  # whether samples waited for a row when the device loop under way began

    @property
    def is_busy(self) -> bool:
        """Whether a device loop is under way, or samples wait for one."""
        return self._emitted is not None or self._plan.is_waiting()

    def add(self, requests: Iterable[Request]) -> None:
        """Queues samples behind those that wait already; of these, questions of the fewest pages first.

        Raises:
            ValueError: A request is not one of those the engine was built for; nothing was added.
        """
        by_problem: dict[str, list[Request]] = defaultdict(list)
        for request in requests:
            if (request.max_new_tokens or 1) > self._engine.settings.max_new_tokens:
                raise ValueError(f'{request.problem_id}: a limit above that of the settings this engine was built for')
            by_problem[request.problem_id].append(request)
        page_size = self._engine.layout.page_size
        questions = [
            Question(self._engine.own_tokens(group[0])[:-1], group, page_size) for group in by_problem.values()
        ]
        questions.sort(key=lambda question: padded_pages(question.pages))
        for question in questions:
            if question.pages:
                self._unfilled[padded_pages(question.pages)].append(question)
        self._plan.add(questions)

    def cancel(self, problem_id: str) -> None:
        """Gives up all samples of a problem: none comes out of any `step` from now on."""
        self._cancelled.add(problem_id)

    def step(self) -> list[Finished]:
        """Waits for the device loop under way, starts the next one where there is anything to draw, and returns the
        samples that the first one finished.

        Raises:
            UserError: The model returned a logit that is not a number; the message names the problem.
        """
        finished = []
        if self._emitted is not None:
            emitted, self._emitted = self._emitted, None
            finished = self._rows.drain(jax.device_get(emitted), self._engine.usage, self._waited)
            for row in self._rows.ended:
                self._plan.release(row)
        if self._cancelled:
            finished = self._give_up(finished)
        started, copies = self._plan.fill()
        self._make(copies)
        self._rows.start(started, self._plan.requests)
        if self._rows.is_busy():
            self._waited = self._plan.is_waiting()
            engine = self._engine
            self._cache, self._emitted = decode.decode(
                engine.decode_params,
                self._cache,
                self._prefix_kv,
                self._rows.on_device(),
                self._plan.pages(self._rows.written, self._tokens),
                np.uint32(engine.settings.seed),
                self._rows.policies(),
                config=engine.config,
                policy=engine.policy,
                loop=self._tokens,
                mesh=engine.mesh,
            )
        return finished

    def _give_up(self, finished: list[Finished]) -> list[Finished]:
        """Frees the rows of what was cancelled; `finished` without it."""
        for row in self._rows.give_up(self._cancelled):
            self._plan.release(row)
        for question in self._plan.drop(self._cancelled):
            question.source = None
            if question in (unfilled := self._unfilled[padded_pages(question.pages)]):
                unfilled.remove(question)
        kept = [done for done in finished if done.problem_id not in self._cancelled]
        self._cancelled.clear()
        return kept

    def _make(self, copies: list[schedule.Copy]) -> None:
        """Puts these copies of questions into the cache; questions are prefilled when the first of a batch is due."""
        for copy in copies:
            if copy.question.pages and copy.question.source is None:
                self._prefill(copy.question)
        layout = self._engine.layout
        with_pages = [copy for copy in copies if copy.pages]
        for _, same in itertools.groupby(with_pages, key=lambda copy: id(copy.question.source[0])):
            moves: list[list[tuple[int, int]]] = [[] for _ in range(layout.shards)]  # by shard: from, to
            for copy in same:
                kv, first = copy.question.source
                moves[copy.shard] += [(first + index, page) for index, page in enumerate(copy.pages)]
            size = QUESTIONS * kv[0].shape[3] // layout.page_size  # as many at once as the prefill has
            for start in range(0, max(map(len, moves)), size):
                sources = np.zeros((layout.shards, size), np.int32)
                pages = np.full((layout.shards, size), layout.pages, np.int32)  # no such page: skipped
                for shard, of_shard in enumerate(moves):
                    for index, move in enumerate(of_shard[start : start + size]):
                        sources[shard, index], pages[shard, index] = move
                self._cache = decode.fill_pages(self._cache, kv, sources, pages)
        for copy in copies:
            if not copy.question.waiting:
                copy.question.source = None  # a prefill goes when no question needs it any more

    def _prefill(self, due: Question) -> None:
        """Prefills a question and those of its length that come next, as many together as one call takes."""
        padded = padded_pages(due.pages)
        unfilled = self._unfilled[padded]
        assert unfilled[0] is due, 'questions are due in the order they were added'
        batch = [unfilled.popleft() for _ in range(min(QUESTIONS, len(unfilled)))]
        tokens = np.zeros((QUESTIONS, padded * self._engine.layout.page_size), np.int32)
        for row, question in zip(tokens, batch, strict=False):
            row[: len(question.tokens)] = question.tokens
        engine = self._engine
        kv = decode.prefill_questions(engine.params, tokens, self._prefix_kv, config=engine.config, mesh=engine.mesh)
        for index, question in enumerate(batch):
            question.source = kv, index * padded


def padded_pages(pages: int) -> int:
    """Pages that the prefill of a question of `pages` has: a power of two, so that few shapes are compiled."""
    return 1 << (pages - 1).bit_length() if pages else 0
