"""Killable processes for the symbolic engine: the main process never imports math-verify or sympy."""

import atexit
import functools
import selectors
import sys
import time
from collections.abc import Iterable

from cosample_jax.errors import UserError
from cosample_jax.grading import worker as worker_process
from cosample_jax.grading.latex_tokens import MAX_CHARS
from cosample_jax.grading.line_process import LineProcess

SECONDS = 5.0
MEGABYTES = 1_024

Pair = tuple[str, str]  # (gold, answer)


class _Worker(LineProcess):
    """One process, given one pair at a time, so that the pair that kills it is known."""

    def __init__(self, seconds: float):
        # As a file, not a module: its imports must not depend on the directory the user is in.
        super().__init__([sys.executable, '-P', worker_process.__file__, str(seconds), str(MEGABYTES)])
        self._seconds = seconds
        self.pair: Pair = ('', '')
        self.deadline = 0.0
        # Importing sympy takes a second, more on a loaded machine: that is no pair's fault.
        if self.read() != worker_process.READY:
            self.kill()
            raise UserError('the symbolic grader does not start: is math-verify installed in this environment?')

    def ask(self, pair: Pair) -> None:
        self.pair = pair
        self.deadline = time.monotonic() + self._seconds
        super().ask(pair)


class Pool:
    """At most `workers` processes, each pair limited to `seconds`. Started when first needed, replaced when
    they die.
    """

    def __init__(self, workers: int = 2, seconds: float = SECONDS):
        self._workers = workers
        self._seconds = seconds
        self._idle: list[_Worker] = []

    def verdicts(self, pairs: Iterable[Pair]) -> dict[Pair, str]:
        """ "yes" | "no" | "ungraded: reason" for every (gold, answer).

        A crash, a hang, too much memory or an oversized input is a reason: never an exception, never a lost
        pair.

        Raises:
            UserError: the symbolic engine is not installed.
        """
        results: dict[Pair, str] = {}
        waiting = list(dict.fromkeys(pairs))
        busy: list[_Worker] = []
        try:
            while waiting or busy:
                while waiting and len(busy) < self._workers:
                    pair = waiting.pop()
                    length = max(map(len, pair))
                    if length > MAX_CHARS:
                        results[pair] = f'ungraded: {length} characters, more than {MAX_CHARS}'
                        continue
                    busy.append(self._idle.pop() if self._idle else _Worker(self._seconds))
                    busy[-1].ask(pair)
                for worker, reply in _wait(busy):
                    busy.remove(worker)
                    results[worker.pair] = reply or f'ungraded: stopped after {self._seconds:g} s'
                    if reply in (None, _CRASHED):
                        worker.kill()
                    else:
                        self._idle.append(worker)
        finally:
            for worker in busy:  # interrupted: nobody reads their answers any more
                worker.kill()
        return results

    def close(self) -> None:
        while self._idle:
            self._idle.pop().kill()


_CRASHED = 'ungraded: the symbolic engine crashed'


def _wait(busy: list[_Worker]) -> list[tuple[_Worker, str | None]]:
    """Waits for the first replies; failing that, the workers that are past their deadline, with None."""
    if not busy:
        return []
    with selectors.DefaultSelector() as selector:
        for worker in busy:
            selector.register(worker, selectors.EVENT_READ)
        wait = min(worker.deadline for worker in busy) - time.monotonic()
        answered = [key.fileobj for key, _ in selector.select(max(wait, 0))]
    if answered:
        return [(worker, worker.read() or _CRASHED) for worker in answered]
    return [(worker, None) for worker in busy if time.monotonic() >= worker.deadline]


@functools.cache
def shared_pool() -> Pool:
    """The process-wide pool, closed at exit."""
    pool = Pool()
    atexit.register(pool.close)
    return pool
