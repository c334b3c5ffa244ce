"""Continuous batching over a fixed number of rows: a thin host shell around the pure functions in `decode`.

The workload: one prefix shared by all prompts of a run, one question by its k samples, samples of varying
length. The prefix is found, prefilled once and stored once; a question is prefilled once and read once for several
rows; a row whose sample ends is given the next one; only pages in use are read (`schedule`). Every compiled call has a
fixed shape for the whole run, so the same rows, devices and versions give the same tokens after any kill, in any order
and any split of requests.
"""

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cosample_jax import sharding
from cosample_jax.errors import UserError
from cosample_jax.gemma import model
from cosample_jax.gemma.attention import Pages
from cosample_jax.gemma.config import GemmaConfig
from cosample_jax.gemma.model import KV
from cosample_jax.gemma.tokenizer import BOS
from cosample_jax.sampling import decode, schedule
from cosample_jax.sampling.policy import Policy, problem_hash
from cosample_jax.sampling.schedule import Question, Request, Schedule
from cosample_jax.sampling.stops import StopStrings

QUESTIONS = 16  # prefilled in one call
LOOP = 8  # tokens between host visits: a finished row idles for half of it, a visit costs about a token


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
    """

    problem_id: str
    sample_index: int
    tokens: list[int]
    finish: str
    logprob: float
    sampling_logprob: float
    prompt_tokens: int
    num_tokens: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """What a run of the sampler depends on besides the model and the requests.

    Attributes:
        seed: Root of all randomness.
        purpose: 'train', 'validation', ...: different purposes draw independently.
        temperature: 0 is greedy.
        top_k: 0 is off.
        top_p: 1 is off.
        max_new_tokens: A sample that has drawn this many ends with finish 'length'.
        slots: Rows decoded side by side.
        stop_ids: Tokens that end a sample.
        stop_strings: Texts that do, wherever they begin and end in tokens.
    """

    seed: int
    purpose: str
    temperature: float
    top_k: int
    max_new_tokens: int
    slots: int
    stop_ids: tuple[int, ...]
    top_p: float = 1.0
    stop_strings: StopStrings | None = None


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


class Engine:
    """Draws samples from one set of parameters.

    Construction compiles nothing for a model that is scanned, so an engine per checkpoint is cheap; engines with equal
    shapes share their compiled code.
    """

    def __init__(
        self,
        params,
        config: GemmaConfig,
        settings: SamplingSettings,
        requests: Iterable[Request],
        mesh: Mesh | None = None,
    ):
        """Finds the shared prefix and the shapes.

        Args:
            params: As `gemma.model.init` returns them, any floating dtype; caches have the same. On accelerators
                both become bfloat16: half the bytes to read at every token.
            config: The model's shape.
            settings: How to sample.
            requests: ALL requests of the run, also those already drawn: the prefix and every shape follow
                from them, and must not depend on how far an earlier attempt came.
            mesh: Splits rows and parameters as `sharding` says. None is one device.

        Raises:
            UserError: A prompt is empty, does not begin with <bos>, has a token that the model does not know,
                or is with `max_new_tokens` longer than the model's context; the message names the problem.
                Or the rows do not divide over the mesh.
        """
        self._config, self._settings, self._mesh = config, settings, mesh
        self._policy = Policy(settings.temperature, settings.top_k, tuple(settings.stop_ids), settings.top_p)
        requests = list(requests)
        prompts = {request.problem_id: request.prompt for request in requests}
        for problem_id, prompt in prompts.items():
            _check_prompt(problem_id, prompt, settings.max_new_tokens, config)
        self._prefix = common_prefix(list(prompts.values()))
        if mesh is not None:
            sharding.check_rows(mesh, settings.slots, 'sampling.slots')
        self.layout = schedule.layout(
            slots=settings.slots,
            shards=1 if mesh is None else sharding.row_shards(mesh),
            # The last token of a prompt is not prefilled: it is the first one that decode feeds.
            question=max((len(prompt) for prompt in prompts.values()), default=1) - len(self._prefix) - 1,
            max_new_tokens=settings.max_new_tokens,
            shared=len(requests) > len(prompts),
        )
        if model.compute_dtype() != jnp.float32:
            params = jax.tree.map(lambda p: p.astype(model.compute_dtype()), params)
        if mesh is not None:
            params = jax.device_put(params, sharding.param_shardings(params, mesh))
        self._params = params
        self._decode_params = decode.layered(params, config=config)
        self.usage = Usage()

    def sample(
        self, requests: Iterable[Request], should_stop: Callable[[], bool] = lambda: False
    ) -> Iterator[Finished]:
        """Draws the requested samples and yields each when it is finished, those with short questions first.

        The consumer works while the device draws the next tokens. `should_stop` is asked at every visit of the host, a
        few tokens apart: when it says so, the samples that are complete have been yielded and the others are given up.

        Raises:
            UserError: The model returned a logit that is not a number; the message names the problem.
            ValueError: A request is not one of those the engine was built for.
        """
        batches = self._batches(list(requests))
        if not batches:
            return
        prefix_kv = None
        if self._prefix:
            prefix = np.array(self._prefix, np.int32)
            prefix_kv = decode.prefill_prefix(self._params, prefix, config=self._config, mesh=self._mesh)
        plan = Schedule(self.layout, len(self._prefix), [question for batch in batches for question in batch])
        rows = _Rows(self._settings)
        cache = decode.empty_cache(
            config=self._config,
            layout=self.layout,
            dtype=self._params['embedder']['input_embedding'].dtype,
            mesh=self._mesh,
        )
        finished: list[Finished] = []
        while True:
            started, copies = plan.fill()
            cache = self._make(cache, copies, batches, prefix_kv)
            rows.start(started, plan.requests)
            busy = rows.is_busy()
            if busy:
                waiting = plan.is_waiting()
                cache, emitted = decode.decode(
                    self._decode_params,
                    cache,
                    prefix_kv,
                    rows.on_device(),
                    Pages(*plan.pages(rows.written, LOOP)),
                    np.uint32(self._settings.seed),
                    config=self._config,
                    policy=self._policy,
                    loop=LOOP,
                    mesh=self._mesh,
                )
            yield from finished
            if not busy or should_stop():
                return
            finished = rows.drain(jax.device_get(emitted), self.usage, waiting)
            for row in rows.ended:
                plan.release(row)

    def _batches(self, requests: list[Request]) -> list[list[Question]]:
        """The problems by the length that their questions are padded to, as many together as one prefill takes."""
        by_problem: dict[str, list[Request]] = defaultdict(list)
        for request in requests:
            if (request.max_new_tokens or 1) > self._settings.max_new_tokens:
                raise ValueError(f'{request.problem_id}: a limit above that of the settings this engine was built for')
            by_problem[request.problem_id].append(request)
        questions = [
            Question(self._own_tokens(group[0])[:-1], group, self.layout.page_size) for group in by_problem.values()
        ]

        def length(question):
            return padded_pages(question.pages)

        questions.sort(key=length)
        batches = []
        for _, same in itertools.groupby(questions, key=length):
            while batch := list(itertools.islice(same, QUESTIONS)):
                batches.append(batch)
        return batches

    def _own_tokens(self, request: Request) -> list[int]:
        """The prompt after the shared prefix."""
        prefix, layout = len(self._prefix), self.layout
        own = list(request.prompt[prefix:])
        fits = 0 < len(own) <= layout.question_pages * layout.page_size + 1
        if list(request.prompt[:prefix]) != self._prefix or not fits:
            raise ValueError(f'{request.problem_id}: not one of the requests this engine was built for')
        return own

    def _make(self, cache, copies: list[schedule.Copy], batches: list[list[Question]], prefix_kv: KV | None):
        """The cache with these copies of questions, which are prefilled when the first of their batch is due."""
        for copy in copies:
            if copy.question.pages and copy.question.source is None:
                self._prefill(next(batch for batch in batches if copy.question in batch), prefix_kv)
        shards = self.layout.shards
        with_pages = [copy for copy in copies if copy.pages]
        for _, same in itertools.groupby(with_pages, key=lambda copy: id(copy.question.source[0])):
            moves: list[list[tuple[int, int]]] = [[] for _ in range(shards)]  # by shard: from, to
            for copy in same:
                kv, first = copy.question.source
                moves[copy.shard] += [(first + index, page) for index, page in enumerate(copy.pages)]
            size = QUESTIONS * kv[0].shape[3] // self.layout.page_size  # as many at once as the prefill has
            for start in range(0, max(map(len, moves)), size):
                sources = np.zeros((shards, size), np.int32)
                pages = np.full((shards, size), self.layout.pages, np.int32)  # no such page: skipped
                for shard, of_shard in enumerate(moves):
                    for index, move in enumerate(of_shard[start : start + size]):
                        sources[shard, index], pages[shard, index] = move
                cache = decode.fill_pages(cache, kv, sources, pages)
        for copy in copies:
            if not copy.question.waiting:
                copy.question.source = None  # a prefill goes when no question needs it any more
        return cache

    def _prefill(self, batch: list[Question], prefix_kv: KV | None) -> None:
        length = padded_pages(batch[0].pages) * self.layout.page_size
        tokens = np.zeros((QUESTIONS, length), np.int32)
        for row, question in zip(tokens, batch, strict=False):
            row[: len(question.tokens)] = question.tokens
        kv = decode.prefill_questions(self._params, tokens, prefix_kv, config=self._config, mesh=self._mesh)
        for index, question in enumerate(batch):
            question.source = kv, index * padded_pages(question.pages)


class _Rows:
    """The host's side of the rows: which sample each decodes and what it has drawn."""

    def __init__(self, settings: SamplingSettings):
        self._settings = settings
        slots = settings.slots
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
            self._next.hashes[row] = problem_hash(self._settings.purpose, request.problem_id)
            self._next.sample_indices[row] = request.sample_index

    def on_device(self) -> decode.Rows:
        return decode.Rows(*(array.copy() for array in self._next))  # the call may read it when `drain` has changed it

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
            end = None
            if self._settings.stop_strings is not None:
                end, self._tails[row] = self._settings.stop_strings.find(self._tails[row], new)
            if end is not None:
                wasted += len(new) - end
                new, drew[end:, row] = new[:end], False
            tokens = self._tokens[row]
            tokens += new
            stopped_by_id = tokens[-1] in self._settings.stop_ids
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
        usage.capacity, usage.drawn, usage.wasted = (
            usage.capacity + capacity,
            usage.drawn + drawn,
            usage.wasted + wasted,
        )
        if waiting:
            usage.full_capacity, usage.full_drawn = usage.full_capacity + capacity, usage.full_drawn + drawn


def padded_pages(pages: int) -> int:
    """Pages that the prefill of a question of `pages` has: a power of two, so that few shapes are compiled."""
    return 1 << (pages - 1).bit_length() if pages else 0


def common_prefix(prompts: Sequence[Sequence[int]]) -> list[int]:
    """The longest prefix of all prompts that leaves each at least one token of its own."""
    if not prompts:
        return []
    # Whatever the first and the last in lexicographic order share, all between them share.
    first, last = min(map(list, prompts)), max(map(list, prompts))
    shared = 0
    while shared < len(first) and first[shared] == last[shared]:
        shared += 1
    return first[: min(shared, min(map(len, prompts)) - 1)]


def _check_prompt(problem_id: str, prompt: Sequence[int], max_new_tokens: int, config: GemmaConfig) -> None:
    if not prompt:
        raise UserError(f'the prompt of problem {problem_id} is empty')
    if prompt[0] != BOS:
        # Every Gemma was trained with it in front of every text; without it the output is noise, and no error.
        raise UserError(
            f'the prompt of problem {problem_id} begins with token {prompt[0]}, not with <bos> ({BOS}): make it with '
            'Tokenizer.encode(text, bos=True)'
        )
    if max(prompt) >= config.vocab_size:
        raise UserError(
            f'the prompt of problem {problem_id} has token {max(prompt)}, and {config.name} knows {config.vocab_size}: '
            'it was made with the tokenizer of another model'
        )
    if len(prompt) + max_new_tokens > config.context:
        raise UserError(
            f'the prompt of problem {problem_id} has {len(prompt)} tokens, which with {max_new_tokens} new '
            f'ones is more than the {config.context} of {config.name}: shorten it, or lower '
            'sampling.max_new_tokens'
        )
