"""One model that is served: from what is asked over HTTP to what its engines take, and back.

The same request gets the same samples, from this server, from another one of the same run, and from the run itself. An
OpenAI `seed` s (0 <= s < 2**63) stands for

    problem hash = s & 0xffffffff,    sample index = (s >> 32) + i    for choice i of `n`,

and the root of all randomness is the `config.seed` that the server was started with. So

    seed = (first_index << 32) | problem_hash(purpose, problem_id)     (`sampling.policy`)

asks for the samples that the run draws of that problem. Without a seed it is random. All prompts of one request have
the same randomness. As with the engine, that is to the token with the same slots, devices and versions: products of
other shapes round otherwise, and a draw may part at a near-tie.
"""

import secrets
import uuid
from collections.abc import Sequence

from cosample_jax.gemma.tokenizer import BOS
from cosample_jax.records import Problem
from cosample_jax.sampling.policy import SamplingSettings
from cosample_jax.sampling.rows import Finished
from cosample_jax.sampling.schedule import Own, Request
from cosample_jax.sampling.stops import StopStrings
from cosample_jax.serving.answers import Choice
from cosample_jax.serving.live import Live
from cosample_jax.serving.protocol import MAX_CHOICES, Ask, ChatAsk, CompletionAsk, Refused
from cosample_jax.tasks.prompts import STOP, Template, before_stop

MAX_SAMPLES = 1024  # of one request
_HASH_BITS = 32
_MAX_INDEX = 2**31  # sample indices are int32


class Served:
    """A model with the template that it is asked in.

    What a request leaves out (temperature, top_k, top_p) is as the run samples: `settings`.
    """

    def __init__(self, name: str, template: Template, settings: SamplingSettings, live: Live, fingerprint: str):
        """`fingerprint` tells these weights from others."""
        self.name, self.live, self.fingerprint = name, live, fingerprint
        self.settings = settings
        self._template, self._tokenizer = template, template.tokenizer

    def prompts(self, ask: Ask) -> list[list[int]]:
        """The prompts of a request as token ids. Refused (400) when one is too long or not of this tokenizer."""
        if isinstance(ask, ChatAsk):
            system, turns, question = ask.conversation()
            shots = [Problem(f'turn/{i}', asked, '', answered) for i, (asked, answered) in enumerate(turns)]
            prompts, field = [self._template.conversation(system, shots, question)], 'messages'
        else:
            assert isinstance(ask, CompletionAsk)
            prompts = [self._tokenizer.encode(p, bos=True) if isinstance(p, str) else p for p in ask.prompts]
            field = 'prompt'
        if not prompts:
            raise Refused(400, 'prompt is empty: give a text, token ids, or a list of either', field)
        for prompt in prompts:
            self._check(prompt, field)
        return prompts

    def _check(self, prompt: Sequence[int], field: str) -> None:
        if not prompt or prompt[0] != BOS:
            raise Refused(400, f'{field}: token ids must begin with <bos> ({BOS}), as every text is read', field)
        if max(prompt) >= self._tokenizer.vocab_size:
            raise Refused(400, f'{field} has token {max(prompt)}, and there are {self._tokenizer.vocab_size}', field)
        if len(prompt) > self.live.prompt_tokens:
            raise Refused(
                400,
                f'{field} has {len(prompt)} tokens and may have {self.live.prompt_tokens}: shorten it, or start the '
                'server with a larger --prompt-tokens',
                field,
                'context_length_exceeded',
            )

    def requests(self, ask: Ask, prompts: Sequence[Sequence[int]]) -> list[list[Request]]:
        """For each prompt its `n` samples. Refused (400) where they are too many or too long."""
        if len(prompts) * ask.n > MAX_SAMPLES:
            raise Refused(
                400, f'{len(prompts)} prompts x n={ask.n}: one request may ask for {MAX_SAMPLES} samples', 'n'
            )
        field, limit = ask.most_tokens or ('max_tokens', self.settings.max_new_tokens)
        if limit > self.settings.max_new_tokens:
            raise Refused(
                400,
                f'{field} is {limit} and may be {self.settings.max_new_tokens}: start the server with '
                f'--config.sampling.max_new_tokens={limit}',
                field,
            )
        seed = secrets.randbelow((_MAX_INDEX - MAX_CHOICES) << _HASH_BITS) if ask.seed is None else ask.seed
        first = seed >> _HASH_BITS
        if first + ask.n > _MAX_INDEX:
            raise Refused(400, f'seed: its sample index {first} and n={ask.n} are beyond {_MAX_INDEX}', 'seed')
        own = self._own(ask, seed & (2**_HASH_BITS - 1))
        ids = [uuid.uuid4().hex for _ in prompts]
        return [
            [Request(problem_id, first + i, prompt, limit, own) for i in range(ask.n)]
            for problem_id, prompt in zip(ids, prompts, strict=True)
        ]

    def _own(self, ask: Ask, problem_hash: int) -> Own:
        defaults, stops = self.settings, self._stops(ask)
        ends = self._tokenizer.vocabulary.ends
        # On a page a token that is a blank line ends an answer and is no part of it, as in the run's own samples.
        blank_lines = STOP in stops and STOP in self._template.stop_strings
        return Own(
            problem_hash=problem_hash,
            temperature=defaults.temperature if ask.temperature is None else ask.temperature,
            top_k=defaults.top_k if ask.top_k is None else max(0, ask.top_k),
            top_p=defaults.top_p if ask.top_p is None else ask.top_p,
            stop_ids=frozenset(self._template.stop_ids if blank_lines else ends),
            stop_strings=StopStrings(stops, self._tokenizer.pieces) if stops else None,
            logprobs=ask.wants_logprobs,
        )

    def _stops(self, ask: Ask) -> Sequence[str]:
        return self._template.stop_strings if ask.stops is None else ask.stops

    def choice(self, ask: Ask, index: int, done: Finished) -> Choice:
        """A sample as it is answered: its text ends before the stop."""
        text = before_stop(self._tokenizer.decode(done.tokens), self._stops(ask))
        if isinstance(ask, ChatAsk):
            text = self._template.said(text)
        tokens = done.token_logprobs
        if tokens is not None:
            tokens = [(self._tokenizer.pieces[token], nats) for token, nats in tokens]
        return Choice(index, text, done.finish, tokens)
