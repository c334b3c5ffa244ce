"""Progress of anything longer than a few seconds: a live bar on a terminal, a plain line now and then
elsewhere.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

_SECONDS_BETWEEN_LINES = 10.0


class Bar:
    """What `bar` hands out: counts what is done and shows it."""

    def __init__(self, description: str, total: int, unit: str, initial: int, clock: Callable[[], float]):
        self.description = description
        self.total = total
        self.unit = unit
        self.done = initial
        self._initial = initial  # done by an earlier attempt: part of the bar, not of the rate
        self._counters: dict[str, float] = {}
        self._clock = clock
        self._start = clock()
        self._show: Callable[[], None] = lambda: None

    def advance(self, count: int = 1, **counters: float) -> None:
        """`count` more units are done. Whole counters add up (tokens=512, solved=3), real ones show the
        latest (loss=2.31).
        """
        self.done += count
        for name, value in counters.items():
            adds = isinstance(value, int)
            self._counters[name] = self._counters.get(name, 0) + value if adds else value
        self._show()

    def text(self) -> str:
        """'120/400 samples  31/s  5,210 tokens/s  17 solved  0:00:09 left'."""
        elapsed = max(self._clock() - self._start, 1e-9)
        rate = (self.done - self._initial) / elapsed
        parts = [f'{self.done:,}/{self.total:,} {self.unit}', f'{_number(rate)}/s']
        for name, value in self._counters.items():
            if name == 'tokens':
                parts.append(f'{_number(value / elapsed)} tokens/s')
            else:
                parts.append(f'{value:,} {name}' if isinstance(value, int) else f'{name} {value:.4g}')
        if self.done < self.total and rate > 0:
            parts.append(f'{_duration((self.total - self.done) / rate)} left')
        else:
            parts.append(f'{_duration(elapsed)} in all')
        return '  '.join(parts)


@contextlib.contextmanager
def bar(
    description: str, total: int, unit: str, initial: int = 0, clock: Callable[[], float] = time.monotonic
) -> Iterator[Bar]:
    """Shows the progress of `total` units, of which `initial` were done before this attempt.

    On a terminal a live bar; otherwise (a log file) a plain line at most every ten seconds, and one at the
    end.
    """
    state = Bar(description, total, unit, initial, clock)
    if sys.stdout.isatty():
        with _live(state):
            yield state
    else:
        with _lines(state, clock):
            yield state


@contextlib.contextmanager
def _live(state: Bar) -> Iterator[None]:
    from rich.progress import BarColumn, Progress, TextColumn

    columns = TextColumn('{task.description}'), BarColumn(bar_width=24), TextColumn('{task.fields[text]}')
    with Progress(*columns, refresh_per_second=4) as display:
        task = display.add_task(state.description, total=state.total, completed=state.done, text='')

        def show() -> None:
            display.update(task, completed=state.done, text=state.text())

        state._show = show
        try:
            yield
        finally:
            show()


@contextlib.contextmanager
def _lines(state: Bar, clock: Callable[[], float]) -> Iterator[None]:
    last = clock()

    def show() -> None:
        nonlocal last
        if clock() - last >= _SECONDS_BETWEEN_LINES:
            last = clock()
            print(f'{state.description}: {state.text()}', flush=True)

    state._show = show
    yield
    print(f'{state.description}: {state.text()}', flush=True)


class Traffic:
    """What a server did, for a line now and then: '1,204 requests  31 samples/s  1,100 tokens/s  17 waiting'."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._since, self._requests, self._samples, self._tokens = clock(), 0, 0, 0

    def text(self, requests: int, samples: int, tokens: int, waiting: int) -> str | None:
        """Totals so far, as rates since the last call; None where nothing happened since."""
        before, self._since = self._since, self._clock()
        seconds = max(self._since - before, 1e-9)
        more = samples - self._samples, tokens - self._tokens
        happened = requests != self._requests or any(more) or waiting
        self._requests, self._samples, self._tokens = requests, samples, tokens
        if not happened:
            return None
        rates = f'{_number(more[0] / seconds)} samples/s  {_number(more[1] / seconds)} tokens/s'
        return f'{requests:,} requests  {rates}  {waiting:,} waiting'


def _number(value: float) -> str:
    return f'{value:,.0f}' if value >= 10 else f'{value:.2g}'


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02}:{seconds:02}'
