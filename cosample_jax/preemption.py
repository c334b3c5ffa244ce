"""SIGTERM, as a spot machine gets it some seconds before it is taken away: stop where nothing is lost."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


class Preempted(BaseException):
    """The work was stopped by SIGTERM, after what was finished had been committed."""


@contextlib.contextmanager
def watch(agree: Callable[[bool], bool]) -> Iterator[Callable[[], bool]]:
    """Within the block SIGTERM interrupts nothing: the function handed out tells whether it came, to any process.

    `agree` makes one answer of all processes' (`hosts.any_process`), so all must ask at the same points: one that
    stopped alone would leave the others waiting for it. Raises Preempted, in all, when the block ends after a SIGTERM.
    Where Python allows no handler (not in the main thread), SIGTERM does what it did before.
    """
    came = threading.Event()

    def asked() -> bool:
        if agree(came.is_set()):
            came.set()
        return came.is_set()

    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, lambda *_: came.set()) if in_main else None
    try:
        yield asked
        stopped = asked()
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, before)
    if stopped:
        raise Preempted
