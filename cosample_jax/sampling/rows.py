"""The host's side of the rows between two device loops: what was drawn, which samples are complete, how busy it was."""

import dataclasses
from collections.abc import Set

import numpy as np

from cosample_jax.errors import UserError
from cosample_jax.sampling import decode
from cosample_jax.sampling.each import GREEDY, RowPolicies, need, no_policies
from cosample_jax.sampling.policy import SamplingSettings, problem_hash
from cosample_jax.sampling.schedule import Own, Request


@dataclasses.dataclass(frozen=True, slots=True)
class Finished:
    """One sample drawn.

    Attributes:
        problem_id: Of the request.
        sample_index: Of the request.
        tokens: What was drawn, without the token that is the stop; the one that completes a stop string is kept, as
            it may begin with text that counts.
        finish: 'stop', or 'length' after `max_new_tokens`.
        logprob: Nats, of all `num_tokens` drawn tokens under the raw model.
        sampling_logprob: The same under the policy (temperature, top-k, top-p); 0 when greedy.
        prompt_tokens: Length of the prompt.
        num_tokens: Tokens drawn, the one that completed the stop included.
        token_logprobs: Where the request asked for them, each drawn token with its nats under the raw model.
        text: What it says, where the tokens are another's and not told.
    """

    problem_id: str
    sample_index: int
    tokens: list[int]
    finish: str
    logprob: float
    sampling_logprob: float
    prompt_tokens: int
    num_tokens: int
    token_logprobs: list[tuple[int, float]] | None = None
    text: str | None = None


@dataclasses.dataclass(slots=True)
class Usage:
    """What an engine's device loops did, in row-tokens (one row, one step).

    Attributes:
        capacity: All of them.
        drawn: Tokens that count.
        wasted: Drawn behind a stop string, before the host saw it: time, but no tokens of any sample.
        full_capacity: Those of loops that began with samples waiting for a row: without the run's tail.
        full_drawn: Tokens that count, of these.
    """

    capacity: int = 0
    drawn: int = 0
    wasted: int = 0
    full_capacity: int = 0
    full_drawn: int = 0

    def shares(self) -> dict[str, float]:
        """Of the row-tokens, those that count: `rows_busy` while samples waited, `rows_busy_in_all` with the tail.

        And `tokens_wasted` for one that counts. Empty when nothing was drawn.
        """
        if not self.drawn:
            return {}
        shares = {'rows_busy_in_all': self.drawn / self.capacity, 'tokens_wasted': self.wasted / self.drawn}
        if self.full_capacity:
            shares['rows_busy'] = self.full_drawn / self.full_capacity
        return {name: round(share, 4) for name, share in shares.items()}


class Rows:
    """Which sample each row decodes, what it has drawn, and what the device is to be told."""

    def __init__(self, settings: SamplingSettings, vocab: int | None = None):
        """`vocab`, the number of tokens, is given where rows have policies of their own."""
        self._settings, self._vocab = settings, vocab
        slots = settings.slots
        self._policies = None if vocab is None else no_policies(slots)
        self._by_token: list[list[tuple[int, float]] | None] = [None] * slots
        self._requests: list[Request | None] = [None] * slots
        self._tokens: list[list[int]] = [[] for _ in range(slots)]
        self._tails = [b''] * slots  # of the text, for stop strings
        self._logprobs = np.zeros((2, slots))  # sums of: raw model, policy
        self._next = decode.Rows(*(np.zeros(slots, t) for t in (np.int32,) * 3 + (np.uint32, np.int32)))
        self.written = np.zeros(slots, np.int64)  # tokens that each has in pages of its own
        self.ended: list[int] = []

    def is_busy(self) -> bool:
        return any(request is not None for request in self._requests)

    def start(self, rows: list[int], requests: list[Request | None]) -> None:
        for row in rows:
            request = requests[row]
            self._requests[row], self._tokens[row], self._tails[row] = request, [], b''
            self._logprobs[:, row] = 0.0
            self.written[row] = 0
            self._next.tokens[row] = request.prompt[-1]
            self._next.positions[row] = len(request.prompt) - 1
            self._next.left[row] = request.max_new_tokens or self._settings.max_new_tokens
            self._next.sample_indices[row] = request.sample_index
            if self._policies is None:
                self._next.hashes[row] = problem_hash(self._settings.purpose, request.problem_id)
            else:
                self._start_own(row, request.own)

    def _start_own(self, row: int, own: Own) -> None:
        self._next.hashes[row] = own.problem_hash
        self._by_token[row] = [] if own.logprobs else None
        self._policies.temperatures[row] = own.temperature
        self._policies.top_ks[row], self._policies.top_ps[row] = own.top_k, own.top_p
        self._policies.needs[row] = need(own.temperature, own.top_k, own.top_p, self._vocab)

    def on_device(self) -> decode.Rows:
        return decode.Rows(*(array.copy() for array in self._next))  # the call may read it when `drain` has changed it

    def policies(self) -> RowPolicies | None:
        """How each row chooses; None where all choose alike."""
        if self._policies is None:
            return None
        most = self._policies.needs.max(where=self._next.left > 0, initial=GREEDY)
        return RowPolicies(*(array.copy() for array in self._policies[:-1]), np.int32(most))

    def give_up(self, problem_ids: Set[str]) -> list[int]:
        """Forgets what decodes samples of these problems; returns these rows."""
        rows = [row for row, r in enumerate(self._requests) if r is not None and r.problem_id in problem_ids]
        for row in rows:
            self._requests[row] = None
            self._next.left[row] = 0
        return rows

    def drain(self, emitted: decode.Emitted, usage: Usage, waiting: bool) -> list[Finished]:
        """Adds what a device loop drew; returns the samples that are complete, whose rows `ended` lists.

        `waiting` tells whether others were waiting for a row when the loop began.
        """
        drew = emitted.tokens != decode.NO_TOKEN
        counts = drew.sum(axis=0)
        drawn = emitted.tokens.T.tolist()
        finished, wasted = [], 0
        self.ended = []
        for row, request in enumerate(self._requests):
            if request is None:
                continue
            new = drawn[row][: counts[row]]
            end, by = None, request.own or self._settings
            if request.own is not None:  # of these the device knows none
                end = next((count for count, token in enumerate(new, 1) if token in by.stop_ids), None)
            if by.stop_strings is not None:
                found, self._tails[row] = by.stop_strings.find(self._tails[row], new[:end])
                end = end if found is None else found
            if end is not None:
                wasted += len(new) - end
                new, drew[end:, row] = new[:end], False
            tokens = self._tokens[row]
            tokens += new
            if self._by_token[row] is not None:
                self._by_token[row] += zip(new, emitted.logprobs[: len(new), row].tolist(), strict=True)
            stopped_by_id = tokens[-1] in by.stop_ids
            limit = request.max_new_tokens or self._settings.max_new_tokens
            if end is None and not stopped_by_id and len(tokens) < limit:
                continue
            self.ended.append(row)
            finished.append((row, request, tokens[:-1] if stopped_by_id else tokens, end is not None or stopped_by_id))
        both = np.where(drew, np.stack([emitted.logprobs, emitted.sampling_logprobs]), 0.0)
        for step in range(len(drew)):  # one after the other, so a sum does not depend on where loops begin
            self._logprobs += both[:, step]
        self._check()
        counts = drew.sum(axis=0)
        self._count(usage, emitted, int(counts.sum()), wasted, waiting)
        last = emitted.tokens[counts - 1, np.arange(len(counts))]
        self._next.tokens[:] = np.where(counts > 0, last, self._next.tokens)
        for array, sign in ((self._next.positions, 1), (self._next.left, -1), (self.written, 1)):
            array += (sign * counts).astype(array.dtype)
        for row in self.ended:
            self._requests[row] = None
            self._next.left[row] = 0
        return [self._finished(*each) for each in finished]

    def _finished(self, row: int, request: Request, tokens: list[int], stopped: bool) -> Finished:
        return Finished(
            problem_id=request.problem_id,
            sample_index=request.sample_index,
            tokens=tokens,
            finish='stop' if stopped else 'length',
            logprob=float(self._logprobs[0, row]),
            sampling_logprob=float(self._logprobs[1, row]),
            prompt_tokens=len(request.prompt),
            num_tokens=len(self._tokens[row]),
            token_logprobs=self._by_token[row],
        )

    def _check(self) -> None:
        for row in np.flatnonzero(~np.isfinite(self._logprobs[0])):
            if (request := self._requests[row]) is not None:
                raise UserError(
                    f'the model returns logits that are not numbers on problem {request.problem_id}: check its weights'
                )

    def _count(self, usage: Usage, emitted: decode.Emitted, drawn: int, wasted: int, waiting: bool) -> None:
        steps = int((emitted.tokens != decode.NO_TOKEN).any(axis=1).sum())
        capacity = steps * len(self._requests)
        usage.capacity += capacity
        usage.drawn += drawn
        usage.wasted += wasted
        if waiting:
            usage.full_capacity += capacity
            usage.full_drawn += drawn
