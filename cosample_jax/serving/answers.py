"""Answers as the OpenAI API has them: whole, or as the events of a stream. No JAX here."""

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Choice:
    """One sample as it is answered.

    Attributes:
        index: Among the choices of the answer.
        text: Up to where it stopped.
        finish: 'stop' or 'length'.
        tokens: Where they were asked for, each drawn token as bytes with its nats under the raw model: also the one
            that ended the sample, so that there are as many as `usage` counts.
    """

    index: int
    text: str
    finish: str
    tokens: Sequence[tuple[bytes, float]] | None = None


class Answer:
    """What the answers to one request have in common; `CompletionAnswer` and `ChatAnswer` are the two forms."""

    prefix = kind = chunk_kind = ''

    def __init__(self, model: str, fingerprint: str, include_usage: bool):
        self._head = {'id': f'{self.prefix}-{uuid.uuid4().hex}', 'created': int(time.time()), 'model': model}
        self._fingerprint, self._include_usage = fingerprint, include_usage

    def whole(self, choices: Sequence[Choice], usage: dict) -> dict[str, Any]:
        return self._body(self.kind, [self.choice(choice) for choice in choices]) | {'usage': usage}

    def events(self, choice: Choice) -> Iterator[str]:
        """Those of a choice, which is sent when it is finished."""
        for part in self.parts(choice):
            yield event(self._chunk([part]) | ({'usage': None} if self._include_usage else {}))

    def last_events(self, usage: dict) -> Iterator[str]:
        if self._include_usage:
            yield event(self._chunk([]) | {'usage': usage})
        yield event('[DONE]')

    def choice(self, choice: Choice) -> dict[str, Any]:
        """Of a whole answer."""
        raise NotImplementedError

    def parts(self, choice: Choice) -> list[dict[str, Any]]:
        """Of a stream."""
        raise NotImplementedError

    def _chunk(self, choices: list[dict]) -> dict[str, Any]:
        return self._body(self.chunk_kind, choices)

    def _body(self, kind: str, choices: list[dict]) -> dict[str, Any]:
        return self._head | {'object': kind, 'choices': choices, 'system_fingerprint': self._fingerprint}


class CompletionAnswer(Answer):
    prefix, kind, chunk_kind = 'cmpl', 'text_completion', 'text_completion'

    def __init__(self, model: str, fingerprint: str, include_usage: bool, top: int = 0):
        """`top` alternatives of each token were asked for: 0, or 1, which is the token itself."""
        super().__init__(model, fingerprint, include_usage)
        self._top = top

    def choice(self, choice: Choice) -> dict[str, Any]:
        told = {'index': choice.index, 'text': choice.text, 'finish_reason': choice.finish}
        return told | {'logprobs': None if choice.tokens is None else self._logprobs(choice.tokens)}

    def parts(self, choice: Choice) -> list[dict[str, Any]]:
        return [self.choice(choice)]

    def _logprobs(self, tokens: Sequence[tuple[bytes, float]]) -> dict[str, list | None]:
        texts = [text.decode(errors='replace') for text, _ in tokens]
        nats = [nat for _, nat in tokens]
        offsets = [0]
        for text in texts[:-1]:
            offsets.append(offsets[-1] + len(text))
        top = [{text: nat} for text, nat in zip(texts, nats, strict=True)] if self._top else None
        return {'tokens': texts, 'token_logprobs': nats, 'top_logprobs': top, 'text_offset': offsets[: len(texts)]}


class ChatAnswer(Answer):
    prefix, kind, chunk_kind = 'chatcmpl', 'chat.completion', 'chat.completion.chunk'

    def choice(self, choice: Choice) -> dict[str, Any]:
        message = {'role': 'assistant', 'content': choice.text, 'refusal': None}
        told = {'index': choice.index, 'message': message, 'finish_reason': choice.finish}
        return told | {'logprobs': _chat_logprobs(choice)}

    def parts(self, choice: Choice) -> list[dict[str, Any]]:
        delta = {'role': 'assistant', 'content': choice.text}
        said = {'index': choice.index, 'delta': delta, 'logprobs': _chat_logprobs(choice), 'finish_reason': None}
        return [said, {'index': choice.index, 'delta': {}, 'logprobs': None, 'finish_reason': choice.finish}]


def _chat_logprobs(choice: Choice) -> dict | None:
    if choice.tokens is None:
        return None
    content = [
        {'token': text.decode(errors='replace'), 'bytes': list(text), 'logprob': nat, 'top_logprobs': []}
        for text, nat in choice.tokens
    ]
    return {'content': content, 'refusal': None}


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    return {
        'prompt_tokens': prompt_tokens,
        'completion_tokens': completion_tokens,
        'total_tokens': prompt_tokens + completion_tokens,
    }


def event(body: dict | str) -> str:
    """One server-sent event."""
    return f'data: {body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)}\n\n'
