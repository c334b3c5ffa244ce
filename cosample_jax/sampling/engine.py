"""Continuous batching over a fixed number of rows: one set of parameters and the shapes of a run; `loop` drives them.

The workload: one prefix shared by all prompts of a run, one question by its k samples, samples of varying
length. The prefix is found, prefilled once and stored once; a question is prefilled once and read once for several
rows; a row whose sample ends is given the next one; only pages in use are read (`schedule`). Every compiled call has a
fixed shape for the whole run, so the same rows, devices and versions give the same tokens after any kill, in any order
and any split of requests.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from cosample_jax import sharding
from cosample_jax.errors import UserError
from cosample_jax.gemma import model
from cosample_jax.gemma.config import GemmaConfig
from cosample_jax.gemma.tokenizer import BOS
from cosample_jax.sampling import decode, schedule
from cosample_jax.sampling.loop import Loop
from cosample_jax.sampling.policy import Policy, SamplingSettings
from cosample_jax.sampling.rows import Finished, Usage
from cosample_jax.sampling.schedule import Request

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
        self.config, self.settings, self.mesh, self.is_live = config, settings, mesh, False
        self.policy = Policy(settings.temperature, settings.top_k, tuple(settings.stop_ids), settings.top_p)
        requests = list(requests)
        prompts = {request.problem_id: request.prompt for request in requests}
        for problem_id, prompt in prompts.items():
            _check_prompt(problem_id, prompt, settings.max_new_tokens, config)
        prefix = common_prefix(list(prompts.values()))
        # The last token of a prompt is not prefilled: it is the first one that decode feeds.
        question = max((len(prompt) for prompt in prompts.values()), default=1) - len(prefix) - 1
        self._shape(prefix, question, shared=len(requests) > len(prompts))
        self._place(params)

    @classmethod
    def live(
        cls,
        params,
        config: GemmaConfig,
        settings: SamplingSettings,
        *,
        prefix: Sequence[int],
        question: int,
        mesh: Mesh | None = None,
    ) -> 'Engine':
        """An engine for requests that are not known yet, each with settings of its `own`; `loop` takes them.

        Args:
            params: As above.
            config: As above.
            settings: Seed, slots, the longest sample, and the `stop_ids` that end every sample; no other is read.
            prefix: Tokens that all prompts begin with, or none.
            question: The most tokens of a prompt between the prefix and its last one.
            mesh: As above.

        Raises:
            UserError: The rows do not divide over the mesh.
        """
        engine = cls.__new__(cls)
        engine.config, engine.settings, engine.mesh, engine.is_live = config, settings, mesh, True
        engine.policy = Policy(0.0, 0, tuple(settings.stop_ids))
        engine._shape(list(prefix), question, shared=True)
        engine._place(params)
        return engine

    def beside(self, *, prefix: Sequence[int], question: int) -> 'Engine':
        """Another live engine for the same parameters, of which there is no second copy."""
        engine = copy.copy(self)
        engine._shape(list(prefix), question, shared=True)
        return engine

    def _shape(self, prefix: list[int], question: int, shared: bool) -> None:
        if self.mesh is not None:
            sharding.check_rows(self.mesh, self.settings.slots, 'sampling.slots')
        self.prefix = prefix
        self.layout = schedule.layout(
            slots=self.settings.slots,
            shards=1 if self.mesh is None else sharding.row_shards(self.mesh),
            question=question,
            max_new_tokens=self.settings.max_new_tokens,
            shared=shared,
            unrolled=self.config.is_unrolled,
        )
        self.usage = Usage()

    def _place(self, params) -> None:
        if model.compute_dtype() != jnp.float32:
            params = jax.tree.map(lambda p: p.astype(model.compute_dtype()), params)
        if self.mesh is not None:
            params = jax.device_put(params, sharding.param_shardings(params, self.mesh))
        self.params = params
        self.decode_params = decode.layered(params, config=self.config)

    def loop(self) -> Loop:
        """A cache of its own with nothing to draw yet."""
        return Loop(self, LOOP)

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
        requests = list(requests)
        if not requests:
            return
        loop = self.loop()
        loop.add(requests)
        while True:
            yield from loop.step()
            if not loop.is_busy or should_stop():
                return

    def own_tokens(self, request: Request) -> list[int]:
        """The prompt after the shared prefix."""
        prefix, layout = len(self.prefix), self.layout
        own = list(request.prompt[prefix:])
        fits = 0 < len(own) <= layout.question_pages * layout.page_size + 1
        if list(request.prompt[:prefix]) != self.prefix or not fits:
            raise ValueError(f'{request.problem_id}: not one of the requests this engine was built for')
        return own


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
