"""The HTTP side: OpenAI's endpoints, what is refused before anything is drawn, and what becomes of a client that left.

    POST /v1/completions   POST /v1/chat/completions   GET /v1/models   GET /v1/models/{id}   GET /health

With stream=true a choice is sent whole when it is finished, in the order in which choices finish: rows are read by the
host a few tokens apart anyway, and whether a text has reached a stop is known only then.
"""

import asyncio
import contextlib
import hmac
import json
import traceback
from collections.abc import AsyncIterator, Mapping, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from cosample_jax.errors import UserError, did_you_mean
from cosample_jax.sampling import schedule
from cosample_jax.sampling.rows import Finished
from cosample_jax.serving.answers import Answer, ChatAnswer, CompletionAnswer, usage
from cosample_jax.serving.live import Full, Stopped
from cosample_jax.serving.protocol import Ask, ChatAsk, CompletionAsk, Refused, read
from cosample_jax.serving.served import Served

MAX_BODY = 2**20  # bytes
_CLIENT_LEFT = 499  # nobody reads it


class Server:
    """What is served, and since when it is not any more.

    Attributes:
        app: The ASGI application.
        requests: Answered with samples so far.
    """

    def __init__(self, served: Sequence[Served], created: int, key: str = ''):
        """`created` is in seconds since 1970. With a `key`, whoever asks must know it."""
        self._served: Mapping[str, Served] = {each.name: each for each in served}
        self._created, self._key = created, key.encode()
        self._closing = False
        self.requests = 0
        endpoints = (
            ('/v1/completions', self._completions, 'POST'),
            ('/v1/chat/completions', self._chat, 'POST'),
            ('/v1/models', self._models, 'GET'),
            ('/v1/models/{id:path}', self._model, 'GET'),
        )
        routes = [Route(path, self._guarded(endpoint), methods=[method]) for path, endpoint, method in endpoints]
        routes.append(Route('/health', self._health, methods=['GET']))
        self.app = Starlette(routes=routes, exception_handlers={HTTPException: _http_error})

    def close(self, seconds: float) -> None:
        """From now on answers 503, and after so many seconds gives up what is not finished. Not for signal handlers."""
        self._closing = True
        for each in self._served.values():
            each.live.close(seconds)

    def join(self, seconds: float) -> None:
        """Waits for the engines' threads."""
        for each in self._served.values():
            each.live.join(seconds)

    @property
    def is_alive(self) -> bool:
        """Whether all engines can draw."""
        return all(each.live.is_alive for each in self._served.values())

    def totals(self) -> tuple[int, int, int, int]:
        """(requests, samples, tokens) answered so far, and the samples that wait for a row."""
        lives = [each.live for each in self._served.values()]
        return (
            self.requests,
            sum(live.samples for live in lives),
            sum(live.tokens for live in lives),
            sum(live.waiting for live in lives),
        )

    def _guarded(self, endpoint):
        async def answer(request: Request) -> Response:
            try:
                if self._closing:
                    raise _stopped()
                self._check_key(request)
                return await endpoint(request)
            except Refused as refused:
                return _refuse(refused)
            except ClientDisconnect:
                return Response(status_code=_CLIENT_LEFT)
            except Exception:
                traceback.print_exc()
                return _refuse(Refused(500, 'the server failed on this request: its log tells why'))

        return answer

    def _check_key(self, request: Request) -> None:
        if not self._key:
            return
        scheme, _, given = request.headers.get('authorization', '').partition(' ')
        if scheme.lower() != 'bearer' or not hmac.compare_digest(given.strip().encode(), self._key):
            raise Refused(
                401,
                'the key is missing or wrong: send the server\'s COSAMPLE_SERVE_KEY as "Authorization: Bearer KEY"',
                code='invalid_api_key',
                headers={'WWW-Authenticate': 'Bearer'},
            )

    async def _health(self, request: Request) -> Response:
        status = 'stopping' if self._closing else 'ok' if self.is_alive else 'an engine has died'
        return JSONResponse({'status': status}, 200 if status == 'ok' else 503)

    async def _models(self, request: Request) -> Response:
        return JSONResponse({'object': 'list', 'data': [self._described(each) for each in self._served.values()]})

    async def _model(self, request: Request) -> Response:
        return JSONResponse(self._described(self._find(request.path_params['id'])))

    def _described(self, served: Served) -> dict:
        longest = served.live.prompt_tokens + served.settings.max_new_tokens
        about = {'id': served.name, 'object': 'model', 'created': self._created, 'owned_by': 'cosample_jax'}
        return about | {'max_model_len': longest}

    def _find(self, name: str) -> Served:
        if name not in self._served:
            raise Refused(
                404,
                f'the model {name!r} is not served here{did_you_mean(name, self._served)}',
                'model',
                'model_not_found',
            )
        return self._served[name]

    async def _completions(self, request: Request) -> Response:
        ask = read(CompletionAsk, await _body(request))
        served = self._find(ask.model)
        answer = CompletionAnswer(served.name, served.fingerprint, ask.include_usage, ask.logprobs or 0)
        return await self._answer(request, served, ask, answer)

    async def _chat(self, request: Request) -> Response:
        ask = read(ChatAsk, await _body(request))
        served = self._find(ask.model)
        return await self._answer(request, served, ask, ChatAnswer(served.name, served.fingerprint, ask.include_usage))

    async def _answer(self, request: Request, served: Served, ask: Ask, answer: Answer) -> Response:
        prompts = served.prompts(ask)
        prompt_tokens = sum(map(len, prompts))
        samples = _Samples(request, served, served.requests(ask, prompts))
        self.requests += 1
        if ask.stream:
            stream = _stream(samples, served, ask, answer, prompt_tokens)
            return StreamingResponse(stream, media_type='text/event-stream', headers={'Cache-Control': 'no-store'})
        choices, drawn = [], 0
        async with contextlib.aclosing(samples.finished()) as finished:
            async for index, done in finished:
                choices.append(served.choice(ask, index, done))
                drawn += done.num_tokens
        choices.sort(key=lambda choice: choice.index)
        return JSONResponse(answer.whole(choices, usage(prompt_tokens, drawn)))


class _Samples:
    """What one HTTP request asked an engine for."""

    def __init__(self, request: Request, served: Served, groups: Sequence[Sequence[schedule.Request]]):
        """Submits them. Refused when they would wait for too long (429), or the server is stopping (503)."""
        self._request, self._live = request, served.live
        every = [each for group in groups for each in group]
        self._indices = {(each.problem_id, each.sample_index): index for index, each in enumerate(every)}
        self._results: asyncio.Queue[Finished | Exception] = asyncio.Queue()
        here = asyncio.get_running_loop()

        def deliver(result: Finished | Exception) -> None:
            with contextlib.suppress(RuntimeError):  # this loop is closed: nobody is there any more
                here.call_soon_threadsafe(self._results.put_nowait, result)

        try:
            self._live.submit(every, deliver)
        except Full:
            raise Refused(
                429,
                f'{self._live.waiting} samples wait already, and {self._live.most_waiting} may: ask again later',
                code='rate_limit_exceeded',
                headers={'Retry-After': '1'},
            ) from None
        except Stopped:
            raise _stopped() from None

    async def finished(self) -> AsyncIterator[tuple[int, Finished]]:
        """(index of the choice, sample) as they finish; whatever ends it before the last frees the others' rows.

        Raises:
            ClientDisconnect: Nobody waits for them any more.
            Refused: The engine failed (500), or the server gave them up (503).
        """
        left = asyncio.ensure_future(_left(self._request))
        try:
            while self._indices:
                result = asyncio.ensure_future(self._results.get())
                await asyncio.wait({result, left}, return_when=asyncio.FIRST_COMPLETED)
                if not result.done():
                    result.cancel()
                    raise ClientDisconnect
                yield self._taken(result.result())
        finally:
            left.cancel()
            for problem_id in {problem_id for problem_id, _ in self._indices}:
                self._live.cancel(problem_id)

    def _taken(self, result: Finished | Exception) -> tuple[int, Finished]:
        if isinstance(result, Stopped):
            raise _stopped()
        if isinstance(result, UserError):
            raise Refused(500, str(result))
        if isinstance(result, Exception):
            raise Refused(500, f'the engine failed on this request ({type(result).__name__}): its log tells why')
        return self._indices.pop((result.problem_id, result.sample_index)), result


async def _stream(
    samples: _Samples, served: Served, ask: Ask, answer: Answer, prompt_tokens: int
) -> AsyncIterator[str]:
    drawn = 0
    try:
        async with contextlib.aclosing(samples.finished()) as finished:
            async for index, done in finished:
                drawn += done.num_tokens
                for event in answer.events(served.choice(ask, index, done)):
                    yield event
        for event in answer.last_events(usage(prompt_tokens, drawn)):
            yield event
    except Refused as refused:  # the status was sent long ago
        yield f'data: {json.dumps(refused.body)}\n\n'


async def _left(request: Request) -> None:
    """Returns when the client has closed the connection; its request has been read."""
    while (await request.receive())['type'] != 'http.disconnect':
        pass


async def _body(request: Request) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY:
            raise Refused(413, f'the body has more than {MAX_BODY} bytes: ask in several requests')
        parts.append(part)
    return b''.join(parts)


def _stopped() -> Refused:
    return Refused(503, 'the server is being stopped: ask again when it is back', headers={'Retry-After': '10'})


def _refuse(refused: Refused) -> Response:
    return JSONResponse(refused.body, refused.status, refused.headers)


async def _http_error(request: Request, error: HTTPException) -> Response:
    there = 'POST /v1/completions, POST /v1/chat/completions, GET /v1/models, GET /health'
    message = f'{request.method} {request.url.path}: {error.detail.lower()}; there are {there}'
    return _refuse(Refused(error.status_code, message, headers=error.headers))
