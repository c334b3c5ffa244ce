"""Continuous batching over a fixed number of rows: a thin host shell around the pure functions in `decode`.

The workload: one prefix shared by all prompts of a run, one question by its k samples, samples of varying
length. The prefix is found, prefilled once and stored once; a question is prefilled once and read once for several
rows; a row whose sample ends is given the next one; only pages in use are read (`schedule`). Every compiled call has a
fixed shape for the whole run, so the same rows, devices and versions give the same tokens after any kill, in any order
and any split of requests.
"""

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
from cosample_jax.gemma.config import GemmaConfig
from cosample_jax.gemma.model import KV
from cosample_jax.gemma.tokenizer import BOS
from cosample_jax.sampling import decode, schedule
from cosample_jax.sampling.policy import Policy, SamplingSettings
from cosample_jax.sampling.rows import Finished, Rows, Usage
from cosample_jax.sampling.schedule import Question, Request, Schedule

QUESTIONS = 16  # prefilled in one call
LOOP = 8  # tokens between host visits: a finished row idles for half of it, a visit costs about a token


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
            unrolled=config.is_unrolled,
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
        rows = Rows(self._settings)
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
                    plan.pages(rows.written, LOOP),
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
