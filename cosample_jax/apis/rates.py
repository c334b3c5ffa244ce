"""How fast an API may be asked: so many requests and tokens a minute, and a pause when it says that it is busy."""

import threading
import time
from collections.abc import Callable

_BURST_S = 5.0  # of unused rate may be spent at once


class Bucket:
    """A token bucket, filled by `rate` a second; 0 is no limit. Nothing waits here: see `Rates`."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic):
        self._rate, self._clock = rate, clock
        self._room = max(1.0, rate * _BURST_S)
        self._level, self._at = self._room, clock()

    def take(self, amount: float) -> float:
        """Takes `amount` and returns 0, or takes nothing and returns the seconds until that is worth another try."""
        if not self._rate:
            return 0.0
        now = self._clock()
        self._level, self._at = min(self._room, self._level + self._rate * (now - self._at)), now
        needed = min(amount, self._room)  # more than ever fits is let through full, and owed
        if self._level < needed:
            return (needed - self._level) / self._rate
        self._level -= amount
        return 0.0


class Rates:
    """Both buckets of a model and the pauses that it asks for; threads share it."""

    def __init__(self, per_minute: float, tokens_per_minute: float, clock: Callable[[], float] = time.monotonic):
        self._requests, self._tokens = Bucket(per_minute / 60, clock), Bucket(tokens_per_minute / 60, clock)
        self._clock, self._lock = clock, threading.Lock()
        self._quiet_until = clock()

    def take(self, tokens: float, stop: threading.Event) -> bool:
        """Waits for the turn of a request of so many tokens; False when `stop` was set instead."""
        counted = False
        while not stop.is_set():
            with self._lock:
                pause = self._quiet_until - self._clock()
                if pause <= 0 and not counted:
                    pause = self._requests.take(1)
                    counted = pause <= 0
                if pause <= 0:
                    pause = self._tokens.take(tokens)
            if pause <= 0:
                return True
            stop.wait(min(pause, 1.0))
        return False

    def hold(self, seconds: float) -> None:
        """Nobody asks for so long."""
        with self._lock:
            self._quiet_until = max(self._quiet_until, self._clock() + seconds)
