"""The engines of one model, and the one thread that drives them while requests come and go."""

import queue
import threading
import time
import traceback
from collections.abc import Callable, Sequence

from cosample_jax.errors import UserError
from cosample_jax.gemma.tokenizer import BOS
from cosample_jax.sampling.engine import Engine
from cosample_jax.sampling.loop import Loop, padded_pages
from cosample_jax.sampling.rows import Finished
from cosample_jax.sampling.schedule import Own, Request

Deliver = Callable[[Finished | Exception], None]


class Full(Exception):
    """More samples would wait than may."""


class Stopped(Exception):
    """The server is being stopped: what is not finished is given up."""


class Live:
    """Draws what is submitted, from any thread, with an engine that has the run's prefix or one that has none.

    The second one is made when the first prompt needs it; both read the same parameters. All prompts of a submission
    have `problem_id`s that no other one has.

    An error ends the samples that were being drawn: each submission is told, and the next ones begin with an empty
    cache. Nobody waits for ever.
    """

    def __init__(self, engine: Engine, prompt_tokens: int, most_waiting: int):
        """`engine` is live; prompts have at most `prompt_tokens` tokens; so many samples may wait for a row."""
        self.prompt_tokens, self.most_waiting = prompt_tokens, most_waiting
        self.slots = engine.settings.slots
        self.samples = self.tokens = 0  # delivered so far
        self._engines = [engine]  # the one with the run's prefix first
        if not engine.prefix:
            self._engines.insert(0, None)
        else:
            self._engines.append(None)
        self._loops: list[Loop | None] = [None, None]
        self._inbox: queue.SimpleQueue = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._open: dict[str, tuple[Deliver, int, int]] = {}  # by problem: whom to tell, samples left, which loop
        self._samples_open = 0
        self._until: float | None = None  # told to stop, at this time at the latest
        self._thread = threading.Thread(target=self._run, name='engine', daemon=True)

    @property
    def waiting(self) -> int:
        """Samples that no row has begun, about."""
        return max(0, self._samples_open - self.slots)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        """Compiles what the first requests need, with one question of each padded length; then takes requests."""
        which = 0 if self._engines[0] is not None else 1
        loop = self._loop(which)
        layout, prefix = self._engines[which].layout, self._engines[which].prefix
        own = Own(problem_hash=0, temperature=0, top_k=0, top_p=1, stop_ids=frozenset(), stop_strings=None)
        for padded in sorted({padded_pages(pages) for pages in range(layout.question_pages + 1)}):
            pages = min(padded, layout.question_pages)
            prompt = [*prefix, *[BOS] * (pages * layout.page_size + 1)]
            loop.add([Request(f'warm-up {pages}', 0, prompt, 1, own)])
            while loop.is_busy:
                loop.step()
        self._thread.start()

    def submit(self, requests: Sequence[Request], deliver: Deliver) -> None:
        """Queues samples; the engine's thread calls `deliver` with each, or once a problem with what went wrong.

        Raises:
            Full: They, with those that wait already, are too many.
            Stopped: The server takes no more.
        """
        with self._lock:
            if self._until is not None:
                raise Stopped
            if not self.is_alive:
                raise RuntimeError('the thread of the engine has died')
            # One that is alone is never too many: it could not be asked at all.
            if self._samples_open and self._samples_open + len(requests) - self.slots > self.most_waiting:
                raise Full
            for request in requests:
                _, left, which = self._open.get(request.problem_id, (deliver, 0, self._which(request.prompt)))
                self._open[request.problem_id] = deliver, left + 1, which
            self._samples_open += len(requests)
        self._inbox.put(list(requests))

    def cancel(self, problem_id: str) -> None:
        """Nobody wants the rest of this problem's samples: their rows are for others."""
        self._inbox.put(problem_id)

    def close(self, seconds: float) -> None:
        """Takes no more, and gives up what is not finished in so many seconds."""
        with self._lock:
            self._until = time.monotonic() + seconds
        self._inbox.put(None)

    def join(self, seconds: float) -> None:
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def _which(self, prompt: Sequence[int]) -> int:
        """0 for a prompt that begins with the prefix and goes on, 1 for others."""
        prefixed = self._engines[0]
        return (
            0 if prefixed and len(prompt) > (n := len(prefixed.prefix)) and list(prompt[:n]) == prefixed.prefix else 1
        )

    def _loop(self, which: int) -> Loop:
        if self._engines[which] is None:
            self._engines[which] = self._engines[1 - which].beside(prefix=(), question=self.prompt_tokens - 1)
        if self._loops[which] is None:
            self._loops[which] = self._engines[which].loop()
        return self._loops[which]

    def _run(self) -> None:
        try:
            while self._until is None or (self._open and time.monotonic() < self._until):
                self._take()
                for which, loop in enumerate(self._loops):
                    if loop is not None and loop.is_busy:
                        self._guarded(which, lambda loop=loop: self._deliver(loop.step()))
            self._fail(Stopped())
        except BaseException as error:
            self._fail(error)
            raise

    def _take(self) -> None:
        """All that came in since the last time; waits for something where there is nothing to do."""
        idle = not any(loop is not None and loop.is_busy for loop in self._loops)
        came: list[list[Request]] = [[], []]
        try:
            while True:
                item = self._inbox.get(block=idle)
                idle = False
                if isinstance(item, str):
                    self._cancel(item)
                elif item is not None:
                    for request in item:
                        if request.problem_id in self._open:
                            came[self._open[request.problem_id][2]].append(request)
        except queue.Empty:
            pass
        for which, requests in enumerate(came):
            # What was cancelled before it was begun is not begun.
            if requests := [request for request in requests if request.problem_id in self._open]:
                self._guarded(which, lambda which=which, requests=requests: self._loop(which).add(requests))

    def _cancel(self, problem_id: str) -> None:
        with self._lock:
            _, left, which = self._open.pop(problem_id, (None, 0, 0))
            self._samples_open -= left
        if left and self._loops[which] is not None:
            self._loops[which].cancel(problem_id)

    def _deliver(self, finished: list[Finished]) -> None:
        for done in finished:
            with self._lock:
                deliver, left, which = self._open[done.problem_id]
                if left > 1:
                    self._open[done.problem_id] = deliver, left - 1, which
                else:
                    del self._open[done.problem_id]
                self._samples_open -= 1
            self.samples += 1
            self.tokens += done.num_tokens
            deliver(done)

    def _guarded(self, which: int, work: Callable[[], None]) -> None:
        """Does it; where that fails, ends what this loop was drawing, and drops its cache."""
        try:
            work()
        except Exception as error:
            if not isinstance(error, UserError):
                traceback.print_exc()
            self._loops[which] = None
            self._fail(error, which)

    def _fail(self, error: BaseException, which: int | None = None) -> None:
        """Tells all whose samples are open, or those of one loop."""
        with self._lock:
            gone = {k: open for k, open in self._open.items() if which in (None, open[2])}
            for problem_id, (_, left, _) in gone.items():
                del self._open[problem_id]
                self._samples_open -= left
        told = error if isinstance(error, Exception) else RuntimeError(f'the engine stopped: {type(error).__name__}')
        for deliver, _, _ in gone.values():
            deliver(told)
