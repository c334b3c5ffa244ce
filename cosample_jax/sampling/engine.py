"""Continuous batching over a fixed number of rows: a thin host shell around the pure functions in `decode`.

The workload: one prefix shared by all prompts of a run, one question by its k samples, samples of varying
length. The prefix is found, prefilled once and stored once; a question is prefilled once; a row whose sample
ends is given the next one from the queue. Every compiled call has a fixed shape for the whole run, so the
same rows, devices and versions give the same tokens after any kill, in any order and any split of requests.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cosample_jax import sharding
from cosample_jax.errors import UserError
from cosample_jax.gemma import model
from cosample_jax.gemma.config import GemmaConfig
from cosample_jax.gemma.model import KV
from cosample_jax.gemma.tokenizer import BOS
from cosample_jax.sampling import decode
from cosample_jax.sampling.policy import Policy, problem_hash

_QUESTION_BUCKET = 16  # question lengths are padded to a multiple of this
QUESTIONS = 16  # prefilled in one call
LOOP = 8  # tokens between host visits: a finished row idles for half of it, a visit costs about a token

_START = np.dtype([(f, np.uint32 if f == 'hashes' else np.int32) for f in decode.Starts._fields])


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """One sample wanted: the `sample_index`-th of a problem, whose whole prompt is the token ids `prompt`."""

    problem_id: str
    sample_index: int
    prompt: Sequence[int]


@dataclasses.dataclass(frozen=True, slots=True)
class Finished:
    """One sample drawn.

    Attributes:
        problem_id: Of the request.
        sample_index: Of the request.
        tokens: What was drawn, without the token that completed the stop.
        finish: 'stop', or 'length' after `max_new_tokens`.
        logprob: Nats, of all `num_tokens` drawn tokens under the raw model.
        sampling_logprob: The same under the policy (temperature, top-k); 0 when greedy.
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
        max_new_tokens: A sample that has drawn this many ends with finish 'length'.
        slots: Rows decoded side by side.
        stop_ids: Tokens that end a sample.
    """

    seed: int
    purpose: str
    temperature: float
    top_k: int
    max_new_tokens: int
    slots: int
    stop_ids: tuple[int, ...]


class _Job(NamedTuple):
    """A request whose question is prefilled."""

    request: Request
    question_kv: KV  # of the whole prefill, [L, U, K, Q, H] twice
    question: int  # which of its U


class Engine:
    """Draws samples from one set of parameters.

    Construction compiles nothing, so an engine per checkpoint is cheap; engines with equal shapes share their
    compiled code.
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
        self._policy = Policy(settings.temperature, settings.top_k, tuple(settings.stop_ids))
        prompts = {request.problem_id: request.prompt for request in requests}
        for problem_id, prompt in prompts.items():
            _check_prompt(problem_id, prompt, settings.max_new_tokens, config)
        self._prefix = common_prefix(list(prompts.values()))
        # The last token of a prompt is not prefilled: it is the first one that decode feeds.
        longest = max((len(prompt) for prompt in prompts.values()), default=0) - len(self._prefix) - 1
        self._question_length = _QUESTION_BUCKET * max(1, -(-longest // _QUESTION_BUCKET))
        if model.compute_dtype() != jnp.float32:
            params = jax.tree.map(lambda p: p.astype(model.compute_dtype()), params)
        self._params = params
        if mesh is not None:
            sharding.check_rows(mesh, settings.slots, 'sampling.slots')
            self._params = jax.device_put(params, sharding.param_shardings(params, mesh))

    def sample(self, requests: Iterable[Request]) -> Iterator[Finished]:
        """Draws the requested samples and yields each when it is finished.

        Neighbours in `requests` with the same problem share one prefill of their question.

        Raises:
            UserError: The model returned a logit that is not a number; the message names the problem.
            ValueError: A request is not one of those the engine was built for.
        """
        requests = list(requests)
        if not requests:
            return
        prefix_kv = None
        if self._prefix:
            prefix = np.array(self._prefix, np.int32)
            prefix_kv = decode.prefill_prefix(self._params, prefix, config=self._config, mesh=self._mesh)
        queue = self._prefilled(requests, prefix_kv)
        rows = _Rows(self._settings)
        state = decode.empty_state(
            config=self._config,
            rows=self._settings.slots,
            slots=self._question_length + self._settings.max_new_tokens,
            dtype=self._params['embedder']['input_embedding'].dtype,
            mesh=self._mesh,
        )
        while True:
            state = self._insert(state, rows.fill(queue))
            if rows.are_idle():
                return
            state, emitted = decode.decode(
                self._params,
                state,
                prefix_kv,
                config=self._config,
                policy=self._policy,
                loop=LOOP,
                mesh=self._mesh,
            )
            yield from rows.drain(jax.device_get(emitted))

    def _prefilled(self, requests: list[Request], prefix_kv: KV | None) -> Iterator[_Job]:
        """The requests in order; questions are prefilled some at a time, when the first of them is due."""
        problems = (list(group) for _, group in itertools.groupby(requests, key=lambda r: r.problem_id))
        while batch := list(itertools.islice(problems, QUESTIONS)):
            tokens = np.zeros((QUESTIONS, self._question_length), np.int32)
            for question, group in enumerate(batch):
                own = self._own_tokens(group[0])[:-1]
                tokens[question, : len(own)] = own
            kv = decode.prefill_questions(self._params, tokens, prefix_kv, config=self._config, mesh=self._mesh)
            for question, group in enumerate(batch):
                for request in group:
                    yield _Job(request, kv, question)

    def _own_tokens(self, request: Request) -> list[int]:
        """The prompt after the shared prefix."""
        prefix = len(self._prefix)
        own = list(request.prompt[prefix:])
        if list(request.prompt[:prefix]) != self._prefix or not 0 < len(own) <= self._question_length + 1:
            raise ValueError(f'{request.problem_id}: not one of the requests this engine was built for')
        return own

    def _insert(self, state: decode.State, filled: list[tuple[int, _Job]]) -> decode.State:
        """Starts jobs in rows, in calls of a fixed size; jobs of different prefills cannot share one."""
        settings = self._settings
        size = insert_size(settings.slots)
        for _, same_prefill in itertools.groupby(filled, key=lambda item: id(item[1].question_kv)):
            while batch := list(itertools.islice(same_prefill, size)):
                starts = np.zeros(size, _START)
                starts['rows'] = settings.slots  # no such row: what is not overwritten below is dropped
                for start, (row, job) in zip(starts, batch, strict=False):
                    start['rows'], start['questions'] = row, job.question
                    start['tokens'] = job.request.prompt[-1]
                    start['positions'] = len(job.request.prompt) - 1
                    start['hashes'] = problem_hash(settings.purpose, job.request.problem_id)
                    start['sample_indices'] = job.request.sample_index
                state = decode.insert(
                    state,
                    batch[0][1].question_kv,
                    decode.Starts(*(np.ascontiguousarray(starts[field]) for field in decode.Starts._fields)),
                    np.uint32(settings.seed),
                    np.int32(settings.max_new_tokens),
                )
        return state


class _Rows:
    """The host's side of the rows: which sample each decodes and what it has drawn."""

    def __init__(self, settings: SamplingSettings):
        self._settings = settings
        self._requests: list[Request | None] = [None] * settings.slots
        self._tokens: list[list[int]] = [[] for _ in range(settings.slots)]
        self._logprobs = np.zeros((2, settings.slots))  # sums of: raw model, policy

    def are_idle(self) -> bool:
        return all(request is None for request in self._requests)

    def fill(self, queue: Iterator[_Job]) -> list[tuple[int, _Job]]:
        """Gives each idle row the next job, as long as there are any; returns (row, job) pairs."""
        idle = [row for row, request in enumerate(self._requests) if request is None]
        filled = list(zip(idle, queue, strict=False))
        for row, job in filled:
            self._requests[row], self._tokens[row] = job.request, []
            self._logprobs[:, row] = 0.0
        return filled

    def drain(self, emitted: decode.Emitted) -> Iterator[Finished]:
        """Adds what a device loop drew; yields, and frees, the rows whose sample is complete."""
        drew = emitted.tokens != decode.NO_TOKEN
        both = np.where(drew, np.stack([emitted.logprobs, emitted.sampling_logprobs]), 0.0)
        for step in range(len(drew)):  # one after the other, so a sum does not depend on where loops begin
            self._logprobs += both[:, step]
        counts = drew.sum(axis=0)
        drawn = emitted.tokens.T.tolist()
        for row, request in enumerate(self._requests):
            if request is None:
                continue
            tokens = self._tokens[row]
            tokens += drawn[row][: counts[row]]
            if not np.isfinite(self._logprobs[0, row]):
                raise UserError(
                    f'the model returns logits that are not numbers on problem {request.problem_id}: check its weights'
                )
            stopped = tokens[-1] in self._settings.stop_ids
            if not stopped and len(tokens) < self._settings.max_new_tokens:
                continue
            self._requests[row] = None
            yield Finished(
                problem_id=request.problem_id,
                sample_index=request.sample_index,
                tokens=tokens[:-1] if stopped else tokens,
                finish='stop' if stopped else 'length',
                logprob=float(self._logprobs[0, row]),
                sampling_logprob=float(self._logprobs[1, row]),
                prompt_tokens=len(request.prompt),
                num_tokens=len(tokens),
            )


def insert_size(slots: int) -> int:
    """How many samples one call of `decode.insert` can start."""
    return -(-slots // 4)


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
