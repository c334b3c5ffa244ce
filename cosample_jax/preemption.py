"""SIGTERM, as a spot machine gets it some seconds before it is taken away: stop where nothing is lost."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


class Preempted(BaseException):
    """The work was stopped by SIGTERM, after what was finished had been committed."""


@contextlib.contextmanager
def watch() -> Iterator[Callable[[], bool]]:
    """Within the block SIGTERM interrupts nothing: the function handed out tells whether it came.

    Raises Preempted when the block ends after one. Where Python allows no handler (not in the main thread), SIGTERM
    does what it did before.
    """
    came = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield came.is_set
        return
    before = signal.signal(signal.SIGTERM, lambda *_: came.set())
    try:
        yield came.is_set
    finally:
        signal.signal(signal.SIGTERM, before)
    if came.is_set():
        raise Preempted
