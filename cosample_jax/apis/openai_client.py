"""OpenAI, and every server that speaks its format, through the official client. No JAX here."""

import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

import openai

from cosample_jax.apis.faults import Blocked, http_fault, retry_after
from cosample_jax.apis.protocol import BLOCKED, LENGTH, STOP, Answer, ApiError, Ask, Choice, JobState, Settings
from cosample_jax.endpoints import Endpoint

_FINISHES = {'stop': STOP, 'length': LENGTH, 'content_filter': BLOCKED}
_BLOCKED_CODES = ('content_filter', 'content_policy_violation', 'context_length_exceeded')
_BLOCKED = Answer([], 0, 0, 0, blocked=True)
_ENDED = ('completed', 'failed', 'expired', 'cancelled')


class OpenAIClient:
    """A client of :mod:`.protocol`: completions of text where the prompts are texts, chat where they are turns."""

    def __init__(self, endpoint: Endpoint, key: str, settings: Settings):
        self._endpoint, self._settings = endpoint, settings
        # A server without keys is still sent one, as the library insists. Retries are counted and paid for elsewhere.
        base_url = endpoint.base_url or None
        self._client = openai.OpenAI(api_key=key or 'none', base_url=base_url, max_retries=0, timeout=settings.timeout)

    def check(self) -> None:
        self._call(self._client.models.retrieve, self._endpoint.model)

    def ask(self, ask: Ask) -> Answer:
        of = self._client if isinstance(ask.prompt, str) else self._client.chat
        try:
            said = self._call(of.completions.create, **self._request(ask))
        except Blocked:
            return _BLOCKED
        return _answer(said.model_dump() if hasattr(said, 'model_dump') else said)

    def submit(self, asks: Sequence[Ask], label: str) -> str:
        for batch in self._call(self._client.batches.list, limit=100).data or []:
            if (batch.metadata or {}).get('label') == label:
                return batch.id
        url = '/v1/completions' if isinstance(asks[0].prompt, str) else '/v1/chat/completions'
        lines = []
        for ask in asks:
            body = self._request(ask)
            body |= body.pop('extra_body', {})
            lines.append(json.dumps({'custom_id': ask.id, 'method': 'POST', 'url': url, 'body': body}))
        file = io.BytesIO('\n'.join(lines).encode())
        uploaded = self._call(self._client.files.create, file=(f'{label}.jsonl', file), purpose='batch')
        return self._call(
            self._client.batches.create,
            input_file_id=uploaded.id,
            endpoint=url,
            completion_window='24h',
            metadata={'label': label},
        ).id

    def state(self, job: str) -> JobState:
        batch = self._call(self._client.batches.retrieve, job)
        answered = batch.request_counts.completed if batch.request_counts else 0
        faults = [error.message or '' for error in (batch.errors.data or [])] if batch.errors else []
        fault = '; '.join(faults) or 'it does not say why'
        ended, early = batch.status in _ENDED, batch.status in ('expired', 'cancelled')
        return JobState(ended, answered, early, fault if batch.status == 'failed' else '')

    def results(self, job: str) -> Iterator[tuple[str, Answer | ApiError]]:
        batch = self._call(self._client.batches.retrieve, job)
        for file in filter(None, (batch.output_file_id, batch.error_file_id)):
            text = self._call(self._client.files.content, file).text
            for line in text.split('\n'):
                try:
                    row = json.loads(line)
                    yield row['custom_id'], _of_job(row)
                except (ValueError, KeyError, TypeError):
                    continue  # what is not there was not answered

    def cancel(self, job: str) -> None:
        self._call(self._client.batches.cancel, job)

    def _request(self, ask: Ask) -> dict[str, Any]:
        settings, official = self._settings, not self._endpoint.base_url
        request: dict[str, Any] = {'model': self._endpoint.model, 'n': len(ask.indices), 'seed': ask.seed}
        request |= {'temperature': settings.temperature, 'top_p': settings.top_p}
        if isinstance(ask.prompt, str):
            request |= {'prompt': ask.prompt, 'max_tokens': settings.max_new_tokens}
        else:
            # Only the provider itself has renamed it; others know the old name.
            limit = 'max_completion_tokens' if official else 'max_tokens'
            said = [{'role': 'assistant' if who == 'model' else 'user', 'content': text} for who, text in ask.prompt]
            request |= {'messages': said, limit: settings.most_written}
        if settings.stop_strings:
            request['stop'] = list(settings.stop_strings)
        if settings.thinking and not settings.thinking.isdigit():
            request['reasoning_effort'] = settings.thinking
        if settings.top_k:
            request['extra_body'] = {'top_k': settings.top_k}
        return request

    def _call(self, function, *args, **kwargs):
        try:
            return function(*args, **kwargs)
        except openai.APIStatusError as error:
            if error.code in _BLOCKED_CODES:
                raise Blocked(error.message) from None
            quota = error.code in ('insufficient_quota', 'billing_hard_limit_reached')
            raise http_fault(
                self._endpoint, error.status_code, error.message, retry_after(error.response.headers), quota
            ) from None
        except openai.APIConnectionError as error:
            raise ApiError(f'{self._endpoint}: {_why(error)}', again=True, charged=True) from None
        except openai.OpenAIError as error:
            raise ApiError(f'{self._endpoint}: {_why(error)}', again=True, charged=True) from None
        except ValueError as error:  # a body that is no JSON
            raise ApiError(f'{self._endpoint}: an answer that is no JSON ({error})', again=True, charged=True) from None


def _answer(said: Any) -> Answer:
    """From an answer as JSON; ApiError when it is not one."""
    try:
        choices = []
        for place, choice in enumerate(said['choices']):
            message = choice.get('message') or {}
            text = choice['text'] if 'text' in choice else message['content']
            finish = BLOCKED if message.get('refusal') else _FINISHES.get(choice.get('finish_reason'), STOP)
            choices.append(Choice(choice.get('index', place), text or '', finish))
        usage = said.get('usage') or {}
        cached = (usage.get('prompt_tokens_details') or {}).get('cached_tokens') or 0
        return Answer(choices, usage.get('prompt_tokens') or 0, cached, usage.get('completion_tokens') or 0)
    except (KeyError, TypeError, AttributeError):
        raise ApiError(f'an answer of another form: {str(said)[:200]}', again=True, charged=True) from None


def _of_job(row: dict) -> Answer | ApiError:
    """What a line of a job's results says."""
    response, error = row.get('response') or {}, row.get('error') or {}
    body = response.get('body') or {}
    if response.get('status_code') == 200:
        return _answer(body)
    error = body.get('error') or error
    if error.get('code') in _BLOCKED_CODES:
        return _BLOCKED
    return ApiError(f'{error.get("code")}: {error.get("message")}', again=True)


def _why(error: Exception) -> str:
    cause = error.__cause__
    return f'{error} ({type(cause).__name__})' if cause else str(error)
