"""Gemini through google-genai. No JAX here."""

import importlib.util
import io
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from google import genai
from google.genai import errors, types

from cosample_jax.apis.faults import http_fault, retry_after
from cosample_jax.apis.protocol import BLOCKED, LENGTH, STOP, Answer, ApiError, Ask, Choice, JobState, Settings
from cosample_jax.endpoints import Endpoint

_FINISHES = {'STOP': STOP, 'MAX_TOKENS': LENGTH}  # all others are the doing of a filter
# Of the HTTP library, whichever of the two the client was installed with.
_HTTP_ERRORS = tuple(
    importlib.import_module(name).HTTPError for name in ('httpx', 'httpx2') if importlib.util.find_spec(name)
)
_DAY = 'PerDay'  # in the name of a quota that does not come back soon
_RETRY = re.compile(r'"retryDelay": "([0-9.]+)s"')


class GeminiClient:
    """A client of :mod:`.protocol`."""

    def __init__(self, endpoint: Endpoint, key: str, settings: Settings):
        self._endpoint, self._settings = endpoint, settings
        options = types.HttpOptions(timeout=round(1000 * settings.timeout), base_url=endpoint.base_url or None)
        self._client = genai.Client(api_key=key or 'none', http_options=options)

    def check(self) -> None:
        self._call(self._client.models.get, model=self._endpoint.model)

    def ask(self, ask: Ask) -> Answer:
        config = types.GenerateContentConfig(**self._config(ask))
        said = self._call(
            self._client.models.generate_content, model=self._endpoint.model, contents=_contents(ask), config=config
        )
        return _answer(said)

    def submit(self, asks: Sequence[Ask], label: str) -> str:
        for job in self._call(lambda: list(self._client.batches.list(config={'page_size': 100}))):
            if job.display_name == label:
                return job.name
        lines = []
        for ask in asks:
            config = types.GenerateContentConfig(**self._config(ask)).model_dump(
                by_alias=True, exclude_none=True, mode='json'
            )
            said = [content.model_dump(exclude_none=True) for content in _contents(ask)]
            lines.append(json.dumps({'key': ask.id, 'request': {'contents': said, 'generationConfig': config}}))
        file = io.BytesIO('\n'.join(lines).encode())
        upload = {'mime_type': 'application/jsonl', 'display_name': f'{label}.jsonl'}
        uploaded = self._call(self._client.files.upload, file=file, config=upload)
        return self._call(
            self._client.batches.create,
            model=self._endpoint.model,
            src=uploaded.name,
            config={'display_name': label},
        ).name

    def state(self, job: str) -> JobState:
        batch = self._call(self._client.batches.get, name=job)
        why = batch.error.message if batch.error else 'it does not say why'
        state = batch.state.name if batch.state else ''
        answered = batch.completion_stats.successful_count if batch.completion_stats else None
        early = state in ('JOB_STATE_EXPIRED', 'JOB_STATE_CANCELLED')
        return JobState(batch.done, answered or 0, early, why if state == 'JOB_STATE_FAILED' else '')

    def results(self, job: str) -> Iterator[tuple[str, Answer | ApiError]]:
        batch = self._call(self._client.batches.get, name=job)
        if not (batch.dest and batch.dest.file_name):
            return
        text = self._call(self._client.files.download, file=batch.dest.file_name).decode(errors='replace')
        for line in text.split('\n'):
            try:
                row = json.loads(line)
                yield row['key'], _of_job(row)
            except (ValueError, KeyError, TypeError):
                continue  # what is not there was not answered

    def cancel(self, job: str) -> None:
        self._call(self._client.batches.cancel, name=job)

    def _config(self, ask: Ask) -> dict[str, Any]:
        settings = self._settings
        config: dict[str, Any] = {
            'candidate_count': len(ask.indices),
            'seed': (ask.seed ^ ask.seed >> 32) & 0x7FFFFFFF,  # it takes 31 bits
            'temperature': settings.temperature,
            'top_p': settings.top_p,
            'max_output_tokens': settings.most_written,
        }
        if settings.top_k:
            config['top_k'] = settings.top_k
        if settings.stop_strings:
            config['stop_sequences'] = list(settings.stop_strings)
        if settings.thinking:
            config['thinking_config'] = types.ThinkingConfig(thinking_budget=int(settings.thinking))
        return config

    def _call(self, function, *args, **kwargs):
        try:
            return function(*args, **kwargs)
        except errors.APIError as error:
            details = json.dumps(error.details, default=str)
            status = 401 if 'API_KEY_INVALID' in details else error.code  # a wrong key is a bad request to Google
            wait = retry_after(getattr(error.response, 'headers', None) or {})
            if wait is None and (told := _RETRY.search(details)):
                wait = float(told[1])
            quota = _DAY in details
            raise http_fault(self._endpoint, status, error.message or error.status, wait, quota) from None
        except (ValueError, OSError, *_HTTP_ERRORS) as error:
            told = f'{self._endpoint}: {type(error).__name__} {error}'
            raise ApiError(told, again=True, charged=True) from None


def _contents(ask: Ask) -> list[types.Content]:
    said = ask.prompt if not isinstance(ask.prompt, str) else (('user', ask.prompt),)
    return [types.Content(role=who, parts=[types.Part(text=text)]) for who, text in said]


def _answer(said: types.GenerateContentResponse) -> Answer:
    """ApiError when nothing was said, and no filter is to blame."""
    usage = said.usage_metadata or types.GenerateContentResponseUsageMetadata()
    read, cached = usage.prompt_token_count or 0, usage.cached_content_token_count or 0
    written = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
    if said.prompt_feedback and said.prompt_feedback.block_reason:
        return Answer([], read, cached, written, blocked=True)
    candidates, choices = said.candidates or [], []
    told = any(candidate.index for candidate in candidates)  # an index of 0 is left out
    for place, candidate in enumerate(candidates):
        parts = candidate.content.parts if candidate.content and candidate.content.parts else []
        text = ''.join(part.text or '' for part in parts if not part.thought)
        reason = candidate.finish_reason.name if candidate.finish_reason else 'STOP'
        choices.append(Choice((candidate.index or 0) if told else place, text, _FINISHES.get(reason, BLOCKED)))
    return Answer(choices, read, cached, written)


def _of_job(row: dict) -> Answer | ApiError:
    """What a line of a job's results says."""
    if 'response' in row:
        return _answer(types.GenerateContentResponse.model_validate(row['response']))
    error = row.get('error') or row.get('status') or {}
    return ApiError(f'{error.get("code")}: {error.get("message")}', again=True)
