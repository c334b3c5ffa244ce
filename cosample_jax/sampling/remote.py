"""The engine's door for models behind an API: requests in, finished samples out, in any order.

A request has a few samples of one problem. Each is asked with a seed that is made of its key (seed, purpose, problem,
index), as the engine's randomness is: a server that honours it answers the same to the same question. What was answered
is in the ledger (:mod:`cosample_jax.ledger`) before it goes on, so nothing is paid twice: what an attempt had paid for
is handed out first, whether it reached a pool or not.

Errors that may pass are asked again, after a pause that doubles and is drawn at random, or the one that the server asks
for; others end the attempt, when what is under way has come back.
"""

import hashlib
import itertools
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from cosample_jax.apis.protocol import BLOCKED, Answer, ApiError, Ask, Choice, Client, Settings
from cosample_jax.apis.rates import Rates
from cosample_jax.budget import Price
from cosample_jax.errors import UserError
from cosample_jax.ledger import Ledger
from cosample_jax.sampling.policy import problem_hash
from cosample_jax.sampling.rows import Finished
from cosample_jax.sampling.schedule import Request

ATTEMPTS = 8  # of a request, before it is given up
HOPELESS = 4  # requests given up one after the other: the server is not there
GRACE_S = 10.0  # for what is under way when everything stops, and is still handed out
LAST_S = 2.0  # and for what is not
JOB_REQUESTS = 10_000  # in a job


class Patience(NamedTuple):
    """Seconds: of the first pause and of the longest, and between two looks at a job."""

    first: float = 1.0
    longest: float = 60.0
    look: float = 30.0

    def pause(self, attempt: int, wished: float | None) -> float:
        """Before the next attempt: at random, so that those that failed together do not come back together."""
        drawn = random.uniform(0.5, 1.0) * min(self.longest, self.first * 2**attempt)
        return max(drawn, wished or 0.0)


PATIENCE = Patience()


class Remote:
    """Draws samples from a model behind an API.

    Attributes:
        counters: What `sample` came to, over all attempts, as :class:`cosample_jax.ledger.Account` has it; and of the
            samples handed out, ``blocked`` ones and ``empty`` ones.
    """

    def __init__(
        self,
        client: Client,
        ledger: Ledger,
        *,
        model: str,
        purpose: str,
        seed: int,
        settings: Settings,
        price: Price,
        api,
        text: Callable[[str], str],
        patience: Patience | None = None,
    ):
        """`model` is the name that the ledger has it under; `api` its group of that name of the configuration; `text`
        makes a sample's text of what was said.
        """
        self._client, self._ledger, self._settings, self._price = client, ledger, settings, price
        self._model, self._purpose, self._seed = model, purpose, seed
        self._api, self._text, self._patience = api, text, patience or PATIENCE
        self._rates = Rates(api.per_minute, api.tokens_per_minute)
        self._turn = threading.Condition()
        self._under_way = 0
        self._spoiled = {'blocked': 0, 'empty': 0}

    @property
    def counters(self) -> dict[str, float]:
        account = self._ledger.accounts().get(self._model)
        return (account._asdict() if account else {}) | self._spoiled

    def sample(
        self, requests: Iterable[Request], should_stop: Callable[[], bool] = lambda: False
    ) -> Iterator[Finished]:
        """Draws the requested samples; their prompts are those of :mod:`cosample_jax.tasks.api_prompts`.

        Raises:
            UserError: the API refuses (a key, a model, a quota), does not answer, or would cost more than the ledger's
                limit; what was answered has been handed out. The same command goes on from there.
        """
        missing = {(request.problem_id, request.sample_index): request for request in requests}
        for finished in self._paid():
            if missing.pop((finished.problem_id, finished.sample_index), None):
                yield finished
        if self._api.batch:
            yield from self._in_jobs(missing, should_stop)
        else:
            yield from self._at_once(self._asks(missing.values()), should_stop)

    # -----------------------------------------------------------------------------------------------------------------
    # One request after the other, many at a time.

    def _at_once(self, asks: Sequence[Ask], should_stop: Callable[[], bool]) -> Iterator[Finished]:
        todo, out, stop = deque(asks), queue.Queue(), threading.Event()
        workers = min(self._api.at_once, len(asks))
        # Daemons: nobody waits for an answer that never comes when everything else has ended.
        for _ in range(workers):
            threading.Thread(target=self._work, args=(todo, out, stop), daemon=True).start()
        given_up: list[ApiError] = []
        in_a_row, problem, stopped_at = 0, None, None
        try:
            while workers:
                try:
                    said = out.get(timeout=0.1)
                except queue.Empty:
                    said = []
                if should_stop():
                    stop.set()
                if said is None:
                    workers -= 1
                elif isinstance(said, ApiError) and said.again:
                    given_up.append(said)
                    in_a_row += 1
                    problem = said if in_a_row >= HOPELESS else problem
                elif isinstance(said, BaseException):
                    problem = problem or said
                elif said:
                    in_a_row = 0
                    yield from said
                if problem:
                    stop.set()
                if stop.is_set():
                    stopped_at = stopped_at or time.monotonic()
                    if time.monotonic() - stopped_at > GRACE_S:
                        break
        finally:
            stop.set()
            with self._turn:  # whatever interrupts: what is paid for reaches the ledger, if it comes at once
                self._turn.wait_for(lambda: not self._under_way, timeout=LAST_S)
        if isinstance(problem, ApiError):
            raise UserError(f'{problem}; the same command continues')
        if problem:
            raise problem
        if given_up:
            raise UserError(
                f'{len(given_up):,} requests were given up after {ATTEMPTS} attempts each, the last with: '
                f'{given_up[-1]}; the same command asks these again'
            )

    def _work(self, todo: deque[Ask], out: queue.Queue, stop: threading.Event) -> None:
        """Puts lists of samples and errors, and None at its end."""
        try:
            while todo and not stop.is_set():
                try:
                    ask = todo.popleft()
                except IndexError:  # another worker was faster
                    break
                try:
                    answer = self._ask(ask, stop)
                except ApiError as error:
                    if not error.again:
                        raise
                    out.put(error)  # this one is given up, others may do better
                    continue
                if answer is None:
                    break
                finished = self._finished(ask, answer)
                have = {each.sample_index for each in finished}
                if left := tuple(index for index in ask.indices if index not in have):
                    todo.append(self._made(ask.problem_id, left, ask.prompt))
                out.put(finished)
        except BaseException as error:
            stop.set()  # at once: nobody asks for what will be refused, too
            out.put(error)
        finally:
            out.put(None)

    def _ask(self, ask: Ask, stop: threading.Event) -> Answer | None:
        """None when `stop` was set before it was answered."""
        for attempt in range(ATTEMPTS):
            if not self._rates.take(self._guessed(ask), stop) or not self._start(ask, stop):
                return None
            try:
                answer = self._client.ask(ask)
                if not (answer.choices or answer.blocked):
                    raise ApiError('an answer without any choice', again=True, charged=True)
                self._settle(ask, answer)
                return answer
            except ApiError as error:
                again = error.again and attempt + 1 < ATTEMPTS
                self._settle(ask, error, again)
                if not again:
                    raise
                pause = self._patience.pause(attempt, error.wait)
                if error.busy:
                    self._rates.hold(pause)
                if stop.wait(pause):
                    return None
            finally:
                with self._turn:
                    self._under_way -= 1
                    self._turn.notify_all()
        raise AssertionError('the last attempt raises')

    def _start(self, ask: Ask, stop: threading.Event) -> bool:
        """Waits until it is certain that the request cannot exceed the limit; False when `stop` was set instead.

        Raises:
            UserError: it could, even when nothing else is under way.
        """
        with self._turn:
            while not self._noted(ask):
                if not self._under_way:
                    raise UserError(self._too_dear(ask))
                if stop.is_set():
                    return False
                self._turn.wait(0.1)
            self._under_way += 1
            return True

    # -----------------------------------------------------------------------------------------------------------------
    # In jobs.

    def _in_jobs(self, missing: dict[tuple, Request], should_stop: Callable[[], bool]) -> Iterator[Finished]:
        """Jobs of earlier attempts first; then one job after the other with all that is missing, until it is there."""
        stop, fruitless = threading.Event(), 0
        while fruitless < ATTEMPTS:
            before = len(missing)
            for name, job in self._ledger.jobs().items():
                if job['model'] == self._model and job['purpose'] == self._purpose:
                    for finished in self._job(name, job, missing, should_stop, stop):
                        # A kill may have left a job half collected: what is in the ledger was handed out before.
                        if missing.pop((finished.problem_id, finished.sample_index), None):
                            yield finished
            if not missing or stop.is_set() or should_stop():
                return
            fruitless = fruitless + 1 if len(missing) == before else 0
            if fruitless > 1:
                stop.wait(self._patience.pause(fruitless, None))
            self._submit(self._asks(missing.values()), stop)
        raise UserError(
            f'{self._model}: {ATTEMPTS - 1} jobs in a row answered none of {len(missing):,} samples; '
            'the same command continues'
        )

    def _submit(self, asks: Sequence[Ask], stop: threading.Event) -> None:
        """Sends as many requests as the limit and a job allow."""
        sent = []
        for ask in asks[:JOB_REQUESTS]:
            if not self._noted(ask):
                break
            sent.append(ask)
        if not sent:
            raise UserError(self._too_dear(asks[0]))
        # The same requests make another job only when the last one has ended.
        label = _digest(f'{self._ledger.jobs_ended}', *(ask.id for ask in sent))
        name = self._patiently(lambda: self._client.submit(sent, label), stop)
        told = {ask.id: [ask.problem_id, list(ask.indices)] for ask in sent}
        self._ledger.began(name, self._model, told, purpose=self._purpose, at=time.time())

    def _job(self, name, job, missing, should_stop, stop) -> Iterator[Finished]:
        """Waits for a job, then for what it says."""
        late, shown = False, -1
        while True:
            state = self._patiently(lambda: self._client.state(name), stop)
            if state.answered != shown:
                shown = state.answered
                print(f'{self._model}: job {name}: {shown:,} of {len(job["ids"]):,} requests answered', flush=True)
            if state.ended:
                break
            if not late and time.time() - job['at'] > 3600 * self._api.job_hours:
                late = True
                print(f'{self._model}: job {name} has taken {self._api.job_hours:g} hours: it is cancelled', flush=True)
                self._patiently(lambda: self._client.cancel(name), stop)
            looked = time.monotonic()
            while time.monotonic() - looked < self._patience.look:
                if should_stop():
                    stop.set()
                    return  # the next attempt finds it
                stop.wait(min(0.1, self._patience.look))
        said = self._patiently(lambda: dict(self._client.results(name)), stop)
        for each, (problem_id, indices) in job['ids'].items():
            known = missing.get((problem_id, indices[0]))
            ask = self._made(problem_id, tuple(indices), known.prompt if known else '')._replace(id=each)
            found = said.get(each)
            if isinstance(found, Answer) and (found.choices or found.blocked):
                self._settle(ask, found)
                yield from self._finished(ask, found)
            elif isinstance(found, ApiError):
                self._settle(ask, found, again=True)
            else:
                # A job that ended early charges for nothing that it does not say.
                unsaid = ApiError(
                    'not among the answers of its job', again=True, charged=not (state.fault or state.early)
                )
                self._settle(ask, unsaid, again=True)
        self._ledger.ended(name, state.fault or 'collected')
        if state.fault:
            raise UserError(f'{self._model}: job {name} failed: {state.fault}')

    def _patiently(self, call: Callable[[], Any], stop: threading.Event) -> Any:
        """What `call` returns, after as many attempts as a request has."""
        for attempt in range(ATTEMPTS):
            try:
                return call()
            except ApiError as error:
                if not error.again or attempt + 1 == ATTEMPTS:
                    raise UserError(f'{error}; the same command continues') from None
                stop.wait(self._patience.pause(attempt, error.wait))
        raise AssertionError('the last attempt raises')

    # -----------------------------------------------------------------------------------------------------------------
    # From requests to asks, from answers to samples.

    def _asks(self, requests: Iterable[Request]) -> list[Ask]:
        """Up to `api.samples` of a problem whose indices follow one another are asked for together."""
        asks: list[Ask] = []
        for request in requests:
            last = asks[-1] if asks else None
            joins = last and last.problem_id == request.problem_id and last.indices[-1] + 1 == request.sample_index
            if joins and len(last.indices) < self._api.samples:
                asks[-1] = self._made(request.problem_id, (*last.indices, request.sample_index), request.prompt)
            else:
                asks.append(self._made(request.problem_id, (request.sample_index,), request.prompt))
        return asks

    def _made(self, problem_id: str, indices: tuple[int, ...], prompt) -> Ask:
        each = _digest(self._purpose, self._model, problem_id, *map(str, indices))
        # As `cosample serve` reads a seed: the problem's hash, and above it the sample's index. The run's own seed
        # moves the hash; 0 leaves it, so a server of seed 0 draws what a local run of seed 0 draws.
        hashed = (int(problem_hash(self._purpose, problem_id)) + 0x9E3779B1 * self._seed) & 0xFFFFFFFF
        return Ask(each, problem_id, indices, prompt, indices[0] << 32 | hashed)

    def _paid(self) -> Iterator[Finished]:
        """What the ledger has of this pool."""
        for event in self._ledger.answers().values():
            if event.get('of') == self._model and event.get('purpose') == self._purpose:
                for index, text, finish, tokens in event['samples']:
                    yield self._made_of(event['problem'], index, text, finish, event['prompt'], tokens)

    def _noted(self, ask: Ask) -> bool:
        return self._ledger.ask(ask.id, self._model, self._most(ask))

    def _settle(self, ask: Ask, said: Answer | ApiError, again: bool = False) -> None:
        if isinstance(said, ApiError):
            (self._ledger.lost if said.charged else self._ledger.refused)(ask.id, str(said), again)
            return
        usd = self._price.of(said.read, said.written, said.cached, self._api.batch)
        if not (said.read or said.written or said.blocked):
            usd = self._most(ask)  # it does not say what it took
        self._ledger.answered(
            ask.id,
            usd,
            said.read,
            said.cached,
            said.written,
            of=self._model,
            purpose=self._purpose,
            problem=ask.problem_id,
            prompt=said.read,
            samples=_samples(ask, said),
        )

    def _finished(self, ask: Ask, answer: Answer) -> list[Finished]:
        return [
            self._made_of(ask.problem_id, index, text, finish, answer.read, tokens)
            for index, text, finish, tokens in _samples(ask, answer)
        ]

    def _made_of(self, problem_id: str, index: int, text: str, finish: str, prompt: int, tokens: int) -> Finished:
        self._spoiled['blocked'] += finish == BLOCKED
        self._spoiled['empty'] += finish != BLOCKED and not text.strip()
        unknown = float('nan')
        return Finished(problem_id, index, [], finish, unknown, unknown, prompt, tokens, text=self._text(text))

    def _most(self, ask: Ask) -> float:
        """US$ that a request can cost: a token has a byte at least, and a turn a few of its own."""
        read = sum(len(text.encode()) + 16 for text in _texts(ask))
        return self._price.of(read, len(ask.indices) * self._settings.most_written, batch=self._api.batch)

    def _guessed(self, ask: Ask) -> float:
        """Tokens that count for a rate: a quarter of the prompt's characters, and all that may be written."""
        return sum(map(len, _texts(ask))) / 4 + len(ask.indices) * self._settings.most_written

    def _too_dear(self, ask: Ask) -> str:
        return (
            f'--max-spend: {self._ledger.spent:,.4f} US$ are spent, or may have been, and the next request to '
            f'{self._model} can cost {self._most(ask):,.4f}: raise it, and the same command continues'
        )


def _texts(ask: Ask) -> list[str]:
    return [ask.prompt] if isinstance(ask.prompt, str) else [text for _, text in ask.prompt]


def _samples(ask: Ask, answer: Answer) -> list[list]:
    """[index, text, finish, tokens] of each choice. Tokens are told of all together: each has its share by length."""
    choices = answer.choices
    if answer.blocked:
        choices = [Choice(place, '', BLOCKED) for place in range(len(ask.indices))]
    by_place = {choice.place: choice for choice in choices if 0 <= choice.place < len(ask.indices)}
    weights = list(itertools.accumulate(len(choice.text) + 1 for choice in by_place.values()))
    ends = [round(answer.written * weight / weights[-1]) for weight in weights]
    starts = [0, *ends[:-1]]
    return [
        [ask.indices[place], choice.text, choice.finish, end - start]
        for (place, choice), start, end in zip(by_place.items(), starts, ends, strict=True)
    ]


def _digest(*parts: str) -> str:
    return hashlib.blake2b('\0'.join(parts).encode(), digest_size=12).hexdigest()
