"""What was asked of APIs, what came back and what it cost: one JSON line an event, appended, synced, never changed.

``ledger.jsonl`` of a workdir. A request is ``asked`` with the most that it can cost, before it is sent, and then
``answered`` (with its tokens, its cost and what it says), ``refused`` (an error that nobody charges for), or ``lost``
(a connection that broke, a timeout: whether it is charged for is not known, so its most is counted). One that a kill
left open is lost, too. So what the ledger counts is never less than what was spent, and what was paid for is not paid
for again, even where it did not reach a pool. No JAX here.

A ``job`` holds many requests that are answered together; it is written down before they are waited for, so that
another attempt finds it.
"""

import json
import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cosample_jax.errors import UserError
from cosample_jax.records import is_remote


class Account(NamedTuple):
    """What the requests to one model came to. `requests` are those that were answered, `lost` those of which nobody
    knows; both cost, in US$, `usd` and at most `at_risk`.
    """

    requests: int = 0
    retries: int = 0
    lost: int = 0
    read: int = 0
    cached: int = 0  # of those read
    written: int = 0
    usd: float = 0.0
    at_risk: float = 0.0


class Ledger:
    """The ledger of a workdir. Threads may share it; processes take turns, by the workdir's lock. `jobs_ended` counts.

    `limit` is what all requests of the run may cost together, in US$; None is no limit.
    """

    def __init__(self, path, limit: float | None = None):
        """Raises UserError for an object store, which nothing can be appended to."""
        if is_remote(path):
            raise UserError(
                f'{path}: the ledger of API requests is appended to, which an object store cannot do: '
                'take a local --workdir for models of APIs'
            )
        self.path, self._limit = Path(os.fspath(path)), limit
        self._lock = threading.Lock()
        self._file = None
        self._accounts: dict[str, Account] = {}
        self._open: dict[str, tuple[str, float]] = {}  # id -> (model, the most it can cost)
        self._answers: dict[str, dict] = {}
        self._jobs: dict[str, dict] = {}
        self.jobs_ended = 0
        for event in self._read():
            self._count(event)
        # Nobody waits for these any more: but for those of a job, which can still be asked for.
        waiting = {each for job in self._jobs.values() for each in job['ids']}
        for each in [each for each in self._open if each not in waiting]:
            self._settle(each, lost=True)

    def accounts(self) -> dict[str, Account]:
        """By model."""
        with self._lock:
            return dict(self._accounts)

    @property
    def spent(self) -> float:
        """US$, at most: all that was charged, or may have been, or may yet be."""
        with self._lock:
            return self._spent()

    def answers(self) -> dict[str, dict]:
        """The ``answered`` events, by the id of their request."""
        with self._lock:
            return dict(self._answers)

    def jobs(self) -> dict[str, dict]:
        """The jobs that nobody has collected yet, by name."""
        with self._lock:
            return dict(self._jobs)

    def ask(self, each: str, model: str, most: float, **told: Any) -> bool:
        """Notes that a request is about to be sent, which costs `most` US$ at most; False when that could exceed the
        limit, and nothing is noted.
        """
        with self._lock:
            if self._limit is not None and self._spent() + most > self._limit:
                return False
            self._write({'event': 'asked', 'id': each, 'model': model, 'most': most, **told})
            return True

    def answered(self, each: str, usd: float, read: int, cached: int, written: int, **told: Any) -> None:
        event = {'event': 'answered', 'id': each, 'usd': usd, 'read': read, 'cached': cached, 'written': written}
        self._note(event | told)

    def refused(self, each: str, reason: str, again: bool) -> None:
        """An error that is not charged for; `again` tells that it is asked once more."""
        self._note({'event': 'refused', 'id': each, 'reason': reason, 'again': again})

    def lost(self, each: str, reason: str, again: bool) -> None:
        """Whether it is charged for is not known."""
        self._note({'event': 'lost', 'id': each, 'reason': reason, 'again': again})

    def began(self, job: str, model: str, ids: Mapping[str, Any], **told: Any) -> None:
        """A job with these requests, asked before, was accepted; of each is told what another attempt must know."""
        self._note({'event': 'job', 'job': job, 'model': model, 'ids': dict(ids), **told})

    def ended(self, job: str, how: str) -> None:
        """The job was collected."""
        self._note({'event': 'ended', 'job': job, 'how': how})

    def _spent(self) -> float:
        settled = sum(account.usd + account.at_risk for account in self._accounts.values())
        return settled + sum(most for _, most in self._open.values())

    def _note(self, event: dict) -> None:
        with self._lock:
            self._write(event)

    def _write(self, event: dict) -> None:
        line = json.dumps(event, ensure_ascii=False) + '\n'
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, 'ab+')
            # What a power cut left half written is nobody's event: the next one begins a line of its own.
            if self._file.tell() and os.pread(self._file.fileno(), 1, self._file.tell() - 1) != b'\n':
                line = '\n' + line
        self._file.write(line.encode())
        self._file.flush()
        os.fsync(self._file.fileno())
        self._count(event)

    def _read(self) -> Iterable[dict]:
        if not self.path.exists():
            return
        for line in self.path.read_bytes().split(b'\n'):
            try:
                event = json.loads(line)
            except ValueError:
                continue  # half written: see `_write`
            yield event

    def _count(self, event: dict) -> None:
        kind, each = event['event'], event.get('id', '')
        if kind == 'asked':
            if each in self._open:  # a kill has left it open
                self._settle(each, lost=True)
            self._open[each] = event['model'], event['most']
        elif kind == 'job':
            self._jobs[event['job']] = event
        elif kind == 'ended':
            self._jobs.pop(event['job'], None)
            self.jobs_ended += 1
        elif each in self._open:
            self._answers |= {each: event} if kind == 'answered' else {}
            self._settle(each, event if kind == 'answered' else None, kind == 'lost', event.get('again', False))

    def _settle(self, each: str, answer: dict | None = None, lost: bool = False, again: bool = False) -> None:
        model, most = self._open.pop(each)
        account = self._accounts.get(model, Account())
        account = account._replace(retries=account.retries + again)
        if lost:
            account = account._replace(lost=account.lost + 1, at_risk=account.at_risk + most)
        if answer:
            account = account._replace(
                requests=account.requests + 1,
                **{name: getattr(account, name) + answer[name] for name in ('usd', 'read', 'cached', 'written')},
            )
        self._accounts[model] = account


def paid(path, planned: Iterable[dict] = ()) -> list[dict]:
    """A row of each model that was asked, by name: its `Account`, and what was ``planned`` for it in US$ ('' where that
    is not known). `planned` are the rows that a plan has of APIs. Empty where nobody was asked.
    """
    if is_remote(path) or not Path(os.fspath(path)).exists():
        return []
    expected: dict[str, float] = {}
    for row in planned:
        expected[row['model']] = expected.get(row['model'], 0.0) + row['usd']
    accounts = sorted(Ledger(path).accounts().items())
    return [{'model': m, **account._asdict(), 'planned': expected.get(m, '')} for m, account in accounts]
