"""A model behind an API, on this machine: speaks the wire formats of OpenAI and of Gemini, and misbehaves as told.

    from api_server import ApiServer, random_faults

    with ApiServer(fault=random_faults(0.2, 0, ['rate_limit', 'cut'])) as server:
        openai.OpenAI(base_url=server.openai_url, api_key='any')
        genai.Client(api_key='any', http_options={'base_url': server.gemini_url})

Choice i is `answer(prompt, seed, i)`, the prompt is `prompt_of` the request, a token is a word (`tokens`).
"""

import contextlib
import dataclasses
import email.utils
import hashlib
import http.server
import itertools
import json
import math
import os
import random
import re
import select
import socket
import struct
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

# What a fault may be. Before an answer: nothing is generated, nothing is billed. `fault` may also return None.
STATUS_FAULTS = {
    'rate_limit': (429, 'Rate limit reached for requests per minute.', 'rate_limit_exceeded'),  # Retry-After: seconds
    'rate_limit_date': (429, 'Rate limit reached for requests per minute.', 'rate_limit_exceeded'),  # ... a date
    'rate_limit_plain': (429, 'Rate limit reached.', 'rate_limit_exceeded'),  # no Retry-After; Gemini: RetryInfo alone
    'quota': (429, 'You exceeded your current quota, please check your plan.', 'insufficient_quota'),
    'unauthorized': (401, 'Incorrect API key provided.', 'invalid_api_key'),
    'forbidden': (403, 'Your project has no access to this model.', 'model_not_allowed'),
    'missing': (404, 'The model does not exist.', 'model_not_found'),
    'bad_request': (400, 'This value is not allowed here.', 'invalid_value'),
    'server_error': (500, 'The server had an error.', None),
    'bad_gateway': (502, '', None),  # a page of HTML, as proxies write it
    'unavailable': (503, 'The model is overloaded. Please try again later.', None),
    'gateway_timeout': (504, 'The deadline expired before the operation could complete.', None),
    'overloaded': (529, 'Overloaded.', None),
}
# In an answer of status 200: generated and billed. They may stand on a line of a batch job as well.
CONTENT_FAULTS = (
    'no_choices',  # choices or candidates are empty
    'blocked',  # every choice: finish_reason content_filter, SAFETY
    'part_blocked',  # so the first choice
    'blocked_prompt',  # Gemini: promptFeedback and no candidates; OpenAI: 400 with code content_filter
    'refusal',  # OpenAI: message.refusal and no content; Gemini: RECITATION
    'empty',  # an empty text that stopped
    'truncated',  # half of the text: length, MAX_TOKENS
    'no_usage',
    'fewer',  # one choice less than asked for
    'reversed',  # the last choice comes first
)
# Of the connection or of the body as a whole: generated and billed, but for 'refuse' and 'reset'.
TRANSPORT_FAULTS = (
    'hang',  # answers after hang_seconds
    'slow',  # answers after slow_seconds
    'cut',  # closed in the middle of the body
    'refuse',  # closed before any byte
    'reset',  # so, with a TCP reset
    'malformed',  # no JSON, though the content type says so
    'html',  # a page of HTML with status 200
    'half_json',  # a whole body that holds half of the JSON
    'not_utf8',  # a byte in the text that is none of UTF-8
)
FAULTS = (*STATUS_FAULTS, *CONTENT_FAULTS, *TRANSPORT_FAULTS)
# A line of a batch job may have any of STATUS_FAULTS and CONTENT_FAULTS, and these.
LINE_FAULTS = ('missing_line', 'malformed', 'half_json', 'duplicate', 'stranger')

_UNANSWERED = ('refuse', 'reset')
_UNDELIVERED = ('cut', 'malformed', 'html', 'half_json', 'not_utf8')
_PAGE = b'<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>'
_WORDS = ('we', 'add', 'two', 'apples', 'to', 'each', 'basket', 'then', 'take', 'half', 'of', 'them', 'away', 'again')
_BATCHES = 'type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch'
_RPC = 'type.googleapis.com/google.rpc.'
# HTTP status -> the name and the number that Google has for it.
_GOOGLE = {
    400: ('INVALID_ARGUMENT', 3),
    401: ('UNAUTHENTICATED', 16),
    403: ('PERMISSION_DENIED', 7),
    404: ('NOT_FOUND', 5),
    429: ('RESOURCE_EXHAUSTED', 8),
    500: ('INTERNAL', 13),
    503: ('UNAVAILABLE', 14),
    504: ('DEADLINE_EXCEEDED', 4),
}
_STOP_S = 0.8  # until a server that is told to stop gives up on its threads


def answer(prompt: str, seed: int | None, index: int) -> str:
    """The text of choice `index`: three to ten words, and a number that is the answer."""
    digest = hashlib.sha256(json.dumps([prompt, seed, index]).encode()).digest()
    words = ' '.join(_WORDS[byte % len(_WORDS)] for byte in digest[1 : 4 + digest[0] % 8])
    return f'{words.capitalize()}.\nThe answer is {digest[-1] % 100}.'


def tokens(text: str) -> int:
    """How many tokens a text has here: its words."""
    return len(text.split())


def prompt_of(body: dict) -> str:
    """The prompt in the body of a request of any format: all its texts, system's first, a line each."""
    if 'prompt' in body:
        return body['prompt'] if isinstance(body['prompt'], str) else '\n'.join(body['prompt'])
    if 'messages' in body:
        return '\n'.join(_content_text(message['content']) for message in body['messages'])
    body = _camel(body)
    contents = [body.get('systemInstruction'), *body['contents']]
    return '\n'.join(part['text'] for content in contents if content for part in content['parts'])


def random_faults(
    rate: float, seed: int, kinds: Sequence[str], routes: Collection[str] | None = ('generate',)
) -> Callable[[int, 'Request'], str | None]:
    """A share `rate` of the requests has one of `kinds`, each as often.

    What a request gets depends on what it says and how often it was said before, not on which thread came first:
    a run is repeated exactly, and whoever asks again gets through in the end. `routes` None is all of them.
    """

    def fault(number, request):
        if routes is not None and request.route not in routes:
            return None
        rng = random.Random(f'{seed} {request.attempt} {request.digest}')
        return rng.choice(kinds) if rng.random() < rate else None

    return fault


@dataclasses.dataclass
class Request:
    """One request that came in. `route` is one of generate, models, files, batches, None (no such path)."""

    number: int  # from 0, over all requests
    time: float  # time.monotonic()
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]  # names in lower case
    body: Any  # JSON, the fields of a form, or bytes
    dialect: str  # openai or gemini
    route: str | None
    digest: str  # of all that the request says but for its headers
    attempt: int  # how many requests with this digest came before
    fault: str | None = None


@dataclasses.dataclass
class Billed:
    """One prompt that was generated for, which a provider charges."""

    prompt: str
    seed: int | None
    model: str
    choices: int
    input: int
    cached: int  # of the input
    output: int  # with the thoughts
    thoughts: int  # of the output
    batch: bool
    delivered: bool  # whether the answer was sent whole

    @property
    def key(self) -> tuple[str, int | None]:
        return self.prompt, self.seed


@dataclasses.dataclass(frozen=True)
class Plan:
    """What becomes of a batch job.

    At the `polls`-th time that somebody asks it is completed, expired, failed or cancelled (by somebody else), or
    stays in_progress for ever. Where it expired or was cancelled, a share `done` of its requests was answered.
    """

    polls: int = 1
    end: str = 'completed'
    done: float = 1.0
    shuffle: bool = True  # the order of the results
    line: Callable[[int], str | None] = lambda index: None  # the fault of request `index`, e.g. {3: 'malformed'}.get


class _Refused(Exception):
    """An answer with an error status."""

    def __init__(self, status: int, message: str, code: str | None = None, kind: str | None = None):
        super().__init__(message)
        self.status, self.message, self.code, self.kind = status, message, code, kind

    @classmethod
    def of_fault(cls, kind: str) -> '_Refused':
        return cls(*STATUS_FAULTS[kind], kind)


@dataclasses.dataclass
class _Asked:
    """What a request to generate asks for, of either format."""

    model: str
    prompts: list[str]
    seed: int | None
    n: int
    stops: list[str]
    limit: float
    thoughts: int
    chat: bool = True
    show_thoughts: bool = False


@dataclasses.dataclass
class _Choice:
    text: str
    end: str  # stop, length, blocked or refusal
    thoughts: int


@dataclasses.dataclass
class Job:
    """A batch job. It is billed when it ends, and that is when somebody asks how it is."""

    name: str
    number: int
    gemini: bool
    plan: Plan
    created: int
    model: str
    endpoint: str = ''
    source: str = ''  # the input file
    title: str | None = None
    metadata: dict | None = None
    inlined: bool = False
    items: list[tuple[Any, dict]] = dataclasses.field(default_factory=list)  # key or metadata, body of the request
    problem: dict | None = None  # why it is not valid
    polls: int = 0
    state: str = 'validating'  # as OpenAI calls it, for both
    counts: tuple[int, int] = (0, 0)  # completed, failed
    output: str | None = None
    errors: str | None = None
    results: list[dict] | None = None  # inlined ones


class ApiServer:
    """The server; a context manager, within which it runs.

    Args:
        key: the only key that is let in; None lets everybody in.
        answer: (prompt, seed, index) -> the text of a choice.
        fault: (number of the request, request) -> the name of a fault, or None. Content faults are for `generate`.
        job: number of the batch job from 0 -> its plan.
        models: the only models that there are; None: any.
        strict: refuses arguments that OpenAI does not know, as OpenAI does and other servers do not.
        retry_after: what a rate limit says, in seconds.
        latency: how long every answer takes, in seconds.
        thoughts: how many tokens a choice thinks, unless told not to.
        cached: how many tokens of a prompt were cached.
    """

    def __init__(
        self,
        key: str | None = None,
        answer: Callable[[str, int | None, int], str] = answer,
        fault: Callable[[int, Request], str | None] | None = None,
        job: Callable[[int], Plan] = lambda number: Plan(),
        models: Collection[str] | None = None,
        strict: bool = False,
        retry_after: float = 0.02,
        hang_seconds: float = 60.0,
        slow_seconds: float = 0.05,
        latency: float = 0.0,
        thoughts: int = 0,
        cached: int = 0,
    ):
        self.key, self.answer, self.fault, self.job = key, answer, fault, job
        self.models, self.strict, self.retry_after = models, strict, retry_after
        self.hang_seconds, self.slow_seconds, self.latency = hang_seconds, slow_seconds, latency
        self.thoughts, self.cached = thoughts, cached
        self.in_flight_max = 0
        self.stopping = threading.Event()
        self._lock = threading.RLock()
        self._requests, self._billed, self._mistakes = [], [], []
        self._attempts = Counter()
        self._in_flight = set()
        self._handlers = {}  # thread -> connection
        self._files, self._uploads, self._batches = {}, {}, {}
        self._ids = itertools.count()

    def __enter__(self) -> 'ApiServer':
        self._http = _Http(('127.0.0.1', 0), _Handler)
        self._http.api = self
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={'poll_interval': 0.01}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind, *_):
        self.stopping.set()
        self._http.shutdown()
        self._http.server_close()
        end = time.monotonic() + _STOP_S
        with self._lock:
            handlers = dict(self._handlers)
        for connection in handlers.values():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in handlers:
            thread.join(max(end - time.monotonic(), 0))
        # A mistake of the server must not pass for a fault; what the test itself raised goes first.
        if self._mistakes and kind is None:
            raise self._mistakes[0]

    @property
    def url(self) -> str:
        return f'http://127.0.0.1:{self._http.server_address[1]}'

    @property
    def openai_url(self) -> str:
        return f'{self.url}/v1'

    @property
    def gemini_url(self) -> str:
        return self.url

    @property
    def requests(self) -> list[Request]:
        """All requests so far."""
        with self._lock:
            return list(self._requests)

    @property
    def billed(self) -> list[Billed]:
        """All that was generated so far. What follows an answer is seen by whoever has the answer."""
        with self._lock:
            return list(self._billed)

    @property
    def jobs(self) -> list[Job]:
        """All batch jobs that there are."""
        with self._lock:
            return list(self._batches.values())

    # What the connections call.

    def arrived(self, connection, method, path, query, headers, body) -> Request:
        """Notes a request, and chooses its fault."""
        # Both have a /v1/models, but only the library of Google sends such headers.
        gemini = 'v1beta' in path.split('/') or any(name.startswith('x-goog-') for name in headers)
        route = next((name for name in ('models', 'files', 'batches') if name in path.split('/')), None)
        if path.endswith(('/completions', ':generateContent')):
            route = 'generate'
        elif path.endswith(':batchGenerateContent'):
            route = 'batches'
        said = repr([method, path, sorted(query.items()), body])
        digest = hashlib.sha256(said.encode('utf-8', 'surrogatepass')).hexdigest()
        with self._lock:
            request = Request(
                len(self._requests),
                time.monotonic(),
                method,
                path,
                query,
                headers,
                body,
                'gemini' if gemini else 'openai',
                route,
                digest,
                self._attempts[digest],
            )
            self._attempts[digest] += 1
            self._requests.append(request)
            # Who hung up is waiting no more, though nobody may have noticed yet.
            self._in_flight = {each for each in self._in_flight if _is_open(each)} | {connection}
            self.in_flight_max = max(self.in_flight_max, len(self._in_flight))
            fault = self.fault(request.number, request) if self.fault else None
            if fault is not None and fault not in FAULTS:
                raise ValueError(f'there is no fault {fault}')
            if fault not in CONTENT_FAULTS or route == 'generate':
                request.fault = fault
        return request

    def left(self, connection):
        """To be told before the answer is sent: its reader may come back at once."""
        with self._lock:
            self._in_flight.discard(connection)

    def joined(self, thread, connection) -> bool:
        with self._lock:
            self._handlers[thread] = connection
            return not self.stopping.is_set()

    def parted(self, thread):
        with self._lock:
            self._handlers.pop(thread, None)

    def mistake(self, error: Exception):
        with self._lock:
            self._mistakes.append(error)

    def reply(self, request: Request) -> tuple[Any, dict[str, str], list[Billed]]:
        """The body (JSON or bytes), headers and what is to be paid.

        Raises:
            _Refused: the answer is an error.
        """
        if request.fault in STATUS_FAULTS:
            raise _Refused.of_fault(request.fault)
        self._check_key(request)
        for method, pattern, handle in _GEMINI_ROUTES if request.dialect == 'gemini' else _OPENAI_ROUTES:
            match = re.fullmatch(pattern, request.path)
            if match and method == request.method:
                # Answers take as long as the test likes, side by side; what is stored changes one by one.
                with contextlib.nullcontext() if request.route == 'generate' else self._lock:
                    reply = handle(self, request, *match.groups())
                return reply if isinstance(reply, tuple) else (reply, {}, [])
        raise _Refused(404, f'Invalid URL ({request.method} {request.path})')

    def bill(self, billed: list[Billed]):
        with self._lock:
            self._billed.extend(billed)

    def error_body(self, gemini: bool, refused: _Refused) -> Any:
        """The body of an answer with an error status."""
        if refused.kind == 'bad_gateway':
            return _PAGE
        return self._gemini_error(refused) if gemini else self._openai_error(refused)

    def error_headers(self, refused: _Refused) -> dict[str, str]:
        if refused.kind == 'rate_limit':
            return {'Retry-After': f'{self.retry_after:g}'}
        if refused.kind == 'rate_limit_date':
            return {'Retry-After': email.utils.formatdate(time.time() + self.retry_after, usegmt=True)}
        return {}

    def _check_key(self, request):
        # The pieces of a file come without a key: who has the address of the upload may send them.
        if self.key is None or request.query.get('upload_id') in self._uploads:
            return
        if request.dialect == 'gemini':
            given = request.headers.get('x-goog-api-key', request.query.get('key'))
            if given is None:
                raise _Refused(403, 'Method does not allow unregistered callers.')
            if given != self.key:
                # Indeed 400, not 401.
                raise _Refused(400, 'API key not valid. Please pass a valid API key.', 'API_KEY_INVALID')
        elif request.headers.get('authorization') != f'Bearer {self.key}':
            raise _Refused.of_fault('unauthorized')

    def _new_id(self, prefix):
        return f'{prefix}{next(self._ids):06d}'

    def _check_model(self, model):
        if self.models is not None and model not in self.models:
            raise _Refused(404, f'The model {model} does not exist.', 'model_not_found')

    # Generating.

    def _choices(self, asked: _Asked, prompt: str, fault: str | None) -> list[_Choice]:
        choices = []
        for index in range(asked.n):
            text, end = _ended(self.answer(prompt, asked.seed, index), asked.stops, asked.limit - asked.thoughts)
            choices.append(_Choice(text, end, min(asked.thoughts, asked.limit)))
        if fault in ('no_choices', 'blocked_prompt'):
            return []
        if fault == 'fewer':
            return choices[:-1]
        if fault == 'part_blocked':
            choices[0] = _Choice('', 'blocked', choices[0].thoughts)
        elif fault in ('blocked', 'refusal', 'empty'):
            choices = [_Choice('', 'stop' if fault == 'empty' else fault, choice.thoughts) for choice in choices]
        elif fault == 'truncated':
            choices = [_Choice(_first(c.text, tokens(c.text) // 2), 'length', c.thoughts) for c in choices]
        return choices

    def _generate(self, asked: _Asked, fault: str | None, batch: bool) -> tuple[list[list[_Choice]], list[Billed]]:
        """The choices for each prompt, and what is to be paid for it."""
        self._check_model(asked.model)
        chosen = [self._choices(asked, prompt, fault) for prompt in asked.prompts]
        billed = []
        for prompt, choices in zip(asked.prompts, chosen, strict=True):
            words, thoughts = tokens(prompt), sum(choice.thoughts for choice in choices)
            output = sum(tokens(choice.text) for choice in choices) + thoughts
            cached = min(self.cached, words)
            billed.append(
                Billed(prompt, asked.seed, asked.model, len(choices), words, cached, output, thoughts, batch, True)
            )
        return chosen, billed

    def _run(self, gemini, body, fault, batch=False, model='', chat=True) -> tuple[dict, list[Billed]]:
        """The body of the answer to the body of a request, of either format."""
        if fault in STATUS_FAULTS:
            raise _Refused.of_fault(fault)
        if gemini:
            asked = self._gemini_asked(body, model)
            chosen, billed = self._generate(asked, fault, batch)
            return self._gemini_answer(asked, chosen[0], billed, fault), billed
        asked = self._openai_asked(body, chat)
        if fault == 'blocked_prompt':
            raise _Refused(400, 'The prompt was filtered due to our content policy.', 'content_filter')
        chosen, billed = self._generate(asked, fault, batch)
        return self._openai_answer(asked, chosen, billed, fault), billed

    # OpenAI.

    def _openai_error(self, refused):
        kind = 'server_error' if refused.status >= 500 else 'invalid_request_error'
        if refused.status == 429:
            kind = 'insufficient_quota' if refused.kind == 'quota' else 'requests'
        return {'error': {'message': refused.message, 'type': kind, 'param': None, 'code': refused.code}}

    def _openai_asked(self, body, chat):
        if not isinstance(body, dict):
            raise _Refused(400, 'We could not parse the JSON body of your request.')
        unknown = sorted(set(body) - (_CHAT if chat else _COMPLETION))
        if self.strict and unknown:
            raise _Refused(400, f'Unrecognized request argument supplied: {unknown[0]}')
        needed = 'messages' if chat else 'prompt'
        for name in ('model', needed):
            if not body.get(name):
                raise _Refused(400, f"Missing required parameter: '{name}'.", 'missing_required_parameter')
        if 'max_tokens' in body and 'max_completion_tokens' in body:
            raise _Refused(400, 'Setting max_tokens and max_completion_tokens at the same time is not supported.')
        if body.get('stream'):
            raise _Refused(400, 'There is no streaming here.')
        stops = body.get('stop') or []
        stops = [stops] if isinstance(stops, str) else stops
        n = body.get('n') or 1
        if len(stops) > 4 or not 1 <= n <= 128:
            raise _Refused(400, 'Invalid stop or n: at most 4 and 128.', 'invalid_value')
        prompts = [prompt_of(body)]
        if not chat and not isinstance(body['prompt'], str):
            prompts = body['prompt']
        limit = body.get('max_completion_tokens') or body.get('max_tokens') or math.inf
        thoughts = 0 if body.get('reasoning_effort') in ('none', 'minimal') or not chat else self.thoughts
        return _Asked(body['model'], prompts, body.get('seed'), n, stops, limit, thoughts, chat)

    def _openai_answer(self, asked, chosen, billed, fault):
        ends = {'blocked': 'content_filter', 'refusal': 'stop'}
        choices = []
        # With several prompts the choices of the first come first; where some are left out, so are their numbers.
        for which, of_one in enumerate(chosen):
            for index, choice in enumerate(of_one, start=which * asked.n):
                entry = {'index': index, 'logprobs': None, 'finish_reason': ends.get(choice.end, choice.end)}
                if asked.chat:
                    said = None if choice.end in ends else choice.text
                    refusal = 'I cannot help with that.' if choice.end == 'refusal' else None
                    entry['message'] = {'role': 'assistant', 'content': said, 'refusal': refusal, 'annotations': []}
                else:
                    entry['text'] = choice.text
                choices.append(entry)
        if fault == 'reversed':
            choices.reverse()
        reply = {
            'id': self._new_id('chatcmpl-'),
            'object': 'chat.completion' if asked.chat else 'text_completion',
            'created': int(time.time()),
            'model': asked.model,
            'choices': choices,
        }
        if fault != 'no_usage':
            reply['usage'] = _openai_usage(billed)
        return reply

    def _openai_generate(self, request, chat):
        body, billed = self._run(False, request.body, _content_fault(request), chat=bool(chat))
        return body, {}, billed

    def _openai_model(self, request, name):
        self._check_model(name)
        return {'id': name, 'object': 'model', 'created': 0, 'owned_by': 'tests'}

    def _openai_models(self, request):
        return {'object': 'list', 'data': [self._openai_model(request, name) for name in self.models or ()]}

    def _openai_upload(self, request):
        form = request.body if isinstance(request.body, dict) else {}
        if form.get('purpose') != b'batch' or not isinstance(form.get('file'), tuple):
            raise _Refused(400, 'A file with purpose=batch is required.')
        return self._openai_file(request, self._store('file-', *form['file']))

    def _store(self, prefix, name, content, generated=False):
        identifier = self._new_id(prefix)
        self._files[identifier] = (name, content, generated)
        return identifier

    def _openai_file(self, request, identifier):
        name, content, generated = self._found(self._files, identifier)
        return {
            'id': identifier,
            'object': 'file',
            'bytes': len(content),
            'created_at': int(time.time()),
            'filename': name,
            'purpose': 'batch_output' if generated else 'batch',
            'status': 'processed',
        }

    def _found(self, where, name):
        if name not in where:
            raise _Refused(404, f'No such {"batch" if where is self._batches else "File"} object: {name}')
        return where[name]

    def _openai_content(self, request, identifier):
        return self._found(self._files, identifier)[1]

    def _openai_delete(self, request, identifier):
        self._found(self._files, identifier)
        del self._files[identifier]
        return {'id': identifier, 'object': 'file', 'deleted': True}

    def _openai_batch(self, request):
        body = request.body
        if body.get('completion_window') != '24h' or 'endpoint' not in body:
            raise _Refused(400, 'completion_window must be 24h, endpoint must be given.')
        _, content, _ = self._found(self._files, body.get('input_file_id'))
        batch = self._new_batch('batch_', False, '')
        batch.endpoint, batch.source, batch.metadata = body['endpoint'], body['input_file_id'], body.get('metadata')
        seen = set()
        for number, line in enumerate(_lines(content), start=1):
            try:
                row = json.loads(line)
                key, url = row['custom_id'], row['url']
                known = row['method'] == 'POST' and url == batch.endpoint and isinstance(key, str)
                batch.items.append((key, row['body']))
            except (ValueError, KeyError, TypeError) as error:
                batch.problem = {'code': 'invalid_json_line', 'message': repr(error), 'line': number, 'param': None}
                break
            if not known or key in seen:
                code = 'duplicate_custom_id' if known else 'invalid_request'
                batch.problem = {'code': code, 'message': 'This line is not valid.', 'line': number, 'param': None}
                break
            seen.add(key)
        if not batch.items and not batch.problem:
            batch.problem = {'code': 'empty_file', 'message': 'The file is empty.', 'line': None, 'param': None}
        return self._openai_shown(batch)

    def _openai_shown(self, batch):
        at = dict.fromkeys(f'{state}_at' for state in ('completed', 'expired', 'failed', 'cancelled', 'cancelling'))
        if f'{batch.state}_at' in at:
            at[f'{batch.state}_at'] = int(time.time())
        completed, failed = batch.counts
        return {
            'id': batch.name,
            'object': 'batch',
            'endpoint': batch.endpoint,
            'errors': {'object': 'list', 'data': [batch.problem]} if batch.state == 'failed' else None,
            'input_file_id': batch.source,
            'completion_window': '24h',
            'status': batch.state,
            'output_file_id': batch.output,
            'error_file_id': batch.errors,
            'created_at': batch.created,
            'expires_at': batch.created + 86400,
            'request_counts': {'total': len(batch.items), 'completed': completed, 'failed': failed},
            'metadata': batch.metadata,
            **at,
        }

    def _openai_poll(self, request, name):
        batch = self._found(self._batches, name)
        self._advance(batch)
        return self._openai_shown(batch)

    def _openai_cancel(self, request, name):
        batch = self._found(self._batches, name)
        if batch.state not in ('validating', 'in_progress', 'finalizing'):
            raise _Refused(400, f'Cannot cancel a batch with status {batch.state}.')
        batch.state = 'cancelling'
        return self._openai_shown(batch)

    def _openai_batches(self, request):
        # The newest comes first.
        batches = [batch for batch in reversed(self._batches.values()) if not batch.gemini]
        after = request.query.get('after')
        start = 1 + [batch.name for batch in batches].index(after) if after else 0
        end = start + int(request.query.get('limit', 20))
        shown = [self._openai_shown(batch) for batch in batches[start:end]]
        ids = {'first_id': shown[0]['id'], 'last_id': shown[-1]['id']} if shown else {}
        return {'object': 'list', 'data': shown, 'has_more': end < len(batches), **ids}

    # Batch jobs of both.

    def _new_batch(self, prefix, gemini, model):
        number = len(self._batches)
        name = self._new_id(prefix)
        self._batches[name] = Job(name, number, gemini, self.job(number), int(time.time()), model)
        return self._batches[name]

    def _advance(self, batch):
        """Somebody asks how the job is."""
        plan = batch.plan
        if batch.state == 'cancelling':
            self._finish(batch, 'cancelled', min(plan.done, batch.polls / max(plan.polls, 1)))
        elif batch.state in ('validating', 'in_progress', 'finalizing'):
            batch.polls += 1
            if batch.problem:
                batch.state = 'failed'
            elif batch.polls < plan.polls or plan.end == 'in_progress':
                batch.state = 'finalizing' if 2 < plan.polls == batch.polls + 1 else 'in_progress'
            elif plan.end == 'failed':
                message = 'Enqueued token limit reached.'
                batch.problem = {'code': 'token_limit_exceeded', 'message': message, 'line': None, 'param': None}
                batch.state = 'failed'
            else:
                self._finish(batch, plan.end, 1.0 if plan.end == 'completed' else plan.done)

    def _finish(self, batch, state, share):
        batch.state = state
        # A job of Gemini that did not succeed has no results at all.
        done = round(len(batch.items) * share) if state == 'completed' or not batch.gemini else 0
        good, bad, failures = [], [], 0
        for index, (key, body) in enumerate(batch.items[:done]):
            fault = batch.plan.line(index)
            if fault is not None and fault not in (*STATUS_FAULTS, *CONTENT_FAULTS, *LINE_FAULTS):
                raise ValueError(f'a line has no fault {fault}')
            chat = batch.endpoint != '/v1/completions'
            try:
                reply, billed = self._run(batch.gemini, body, fault, True, batch.model, chat)
            except _Refused as refused:
                failures += 1
                lines, row = bad, self._error_line(batch, key, refused)
            else:
                lines, row = good, self._answer_line(batch, key, reply)
                for each in billed:
                    each.delivered = fault not in ('missing_line', 'malformed', 'half_json', 'stranger')
                self.bill(billed)
            lines.extend(_line(batch, row, fault))
        if state == 'expired' and not batch.gemini:
            message = 'This request could not be executed before the completion window expired.'
            for key, _ in batch.items[done:]:
                error = {'code': 'batch_expired', 'message': message}
                bad.append({'id': self._new_id('batch_req_'), 'custom_id': key, 'response': None, 'error': error})
        batch.counts = (done - failures, len(batch.items) - done + failures)
        if batch.gemini:
            good, bad = good + bad, []
        if batch.plan.shuffle:
            random.Random(batch.number).shuffle(good)
            random.Random(batch.number).shuffle(bad)
        if batch.inlined:
            batch.results = good if state == 'completed' else None
        else:
            batch.output, batch.errors = self._results(batch, good), self._results(batch, bad)

    def _results(self, batch, rows):
        """The file of the rows, if there are any; a row may be text already."""
        lines = [row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False).encode() for row in rows]
        content = b''.join(line + b'\n' for line in lines)
        return self._store('batch' if batch.gemini else 'file-', 'results.jsonl', content, True) if rows else None

    def _answer_line(self, batch, key, reply):
        if batch.gemini:
            return {'metadata' if batch.inlined else 'key': key, 'response': reply}
        response = {'status_code': 200, 'request_id': self._new_id('req_'), 'body': reply}
        return {'id': self._new_id('batch_req_'), 'custom_id': key, 'response': response, 'error': None}

    def _error_line(self, batch, key, refused):
        if batch.gemini:
            error = {'code': _GOOGLE.get(refused.status, ('UNKNOWN', 2))[1], 'message': refused.message}
            return {'metadata' if batch.inlined else 'key': key, 'error': error}
        body = self._openai_error(refused)
        response = {'status_code': refused.status, 'request_id': self._new_id('req_'), 'body': body}
        return {'id': self._new_id('batch_req_'), 'custom_id': key, 'response': response, 'error': None}

    # Gemini.

    def _gemini_error(self, refused):
        status = _GOOGLE.get(refused.status, ('UNAVAILABLE', 14))[0]
        details = []
        if refused.status == 429:
            period = 'Day' if refused.kind == 'quota' else 'Minute'
            violation = {
                'quotaMetric': 'generativelanguage.googleapis.com/generate_content_free_tier_requests',
                'quotaId': f'GenerateRequestsPer{period}PerProjectPerModel-FreeTier',
                'quotaDimensions': {'location': 'global', 'model': 'any'},
                'quotaValue': '10',
            }
            details = [
                {'@type': f'{_RPC}QuotaFailure', 'violations': [violation]},
                {'@type': f'{_RPC}Help', 'links': [{'description': 'Learn more', 'url': 'https://ai.google.dev'}]},
                # A quota of the day names a short delay as well.
                {'@type': f'{_RPC}RetryInfo', 'retryDelay': f'{self.retry_after:g}s'},
            ]
        elif refused.code == 'API_KEY_INVALID':
            details = [{'@type': f'{_RPC}ErrorInfo', 'reason': refused.code, 'domain': 'googleapis.com'}]
        error = {'code': refused.status, 'message': refused.message, 'status': status}
        return {'error': {**error, 'details': details} if details else error}

    def _gemini_asked(self, body, model):
        if not isinstance(body, dict) or not body.get('contents'):
            raise _Refused(400, '* GenerateContentRequest.contents: contents is not specified')
        body = _camel(body)
        config = body.get('generationConfig') or {}
        for given, known in ((body, _GEMINI), (config, _GENERATION)):
            for name in set(given) - known:
                raise _Refused(400, f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.')
        model = body.get('model', model).removeprefix('models/')
        n = config.get('candidateCount', 1)
        stops = config.get('stopSequences', [])
        if not 1 <= n <= 8 or len(stops) > 5:
            raise _Refused(400, 'Invalid candidateCount or stopSequences: at most 8 and 5.')
        thinking = config.get('thinkingConfig') or {}
        thoughts = min(self.thoughts, thinking.get('thinkingBudget', math.inf))
        if thoughts < 0 or thinking.get('thinkingLevel', '').upper() == 'MINIMAL':
            thoughts = self.thoughts if thoughts < 0 else 0  # a budget of -1 is the model's own
        limit = config.get('maxOutputTokens', math.inf)
        shown = thinking.get('includeThoughts', False)
        return _Asked(model, [prompt_of(body)], config.get('seed'), n, stops, limit, thoughts, True, shown)

    def _gemini_answer(self, asked, choices, billed, fault):
        ends = {'stop': 'STOP', 'length': 'MAX_TOKENS', 'blocked': 'SAFETY', 'refusal': 'RECITATION'}
        candidates = []
        for index, choice in enumerate(choices):
            candidate = {'finishReason': ends[choice.end]}
            if index:  # a zero is left out, as everywhere in this format
                candidate['index'] = index
            if choice.end == 'blocked':
                rating = {'category': 'HARM_CATEGORY_DANGEROUS_CONTENT', 'probability': 'HIGH', 'blocked': True}
                candidate['safetyRatings'] = [rating]
            elif choice.end != 'refusal':
                parts = [{'text': 'Let me think.', 'thought': True}] if asked.show_thoughts and choice.thoughts else []
                if choice.text or choice.end == 'stop':
                    parts.append({'text': choice.text})
                candidate['content'] = {'role': 'model', **({'parts': parts} if parts else {})}
            candidates.append(candidate)
        if fault == 'reversed':
            candidates.reverse()
        reply = {'modelVersion': asked.model, 'responseId': self._new_id('response')}
        if fault == 'blocked_prompt':
            reply['promptFeedback'] = {'blockReason': 'PROHIBITED_CONTENT'}
        else:
            reply['candidates'] = candidates
        if fault != 'no_usage':
            (paid,) = billed
            counts = {
                'promptTokenCount': paid.input,
                'cachedContentTokenCount': paid.cached,
                'candidatesTokenCount': paid.output - paid.thoughts,
                'thoughtsTokenCount': paid.thoughts,
                'totalTokenCount': paid.input + paid.output,
            }
            reply['usageMetadata'] = {name: count for name, count in counts.items() if count}
        return reply

    def _gemini_generate(self, request, model):
        body, billed = self._run(True, request.body, _content_fault(request), model=model)
        return body, {}, billed

    def _gemini_model(self, request, name):
        self._check_model(name)
        actions = ['generateContent', 'countTokens', 'batchGenerateContent']
        limits = {'inputTokenLimit': 1048576, 'outputTokenLimit': 65536}
        return {'name': f'models/{name}', 'displayName': name, 'supportedGenerationMethods': actions, **limits}

    def _gemini_upload(self, request):
        command = request.headers.get('x-goog-upload-command')
        if command == 'start':
            file = request.body.get('file', {})
            name = (file.get('name') or self._new_id('files/upload')).removeprefix('files/')
            token = self._new_id('token')
            self._uploads[token] = [name, file.get('displayName'), b'']
            url = f'{self.url}/upload/v1beta/files?upload_id={token}&upload_protocol=resumable'
            return {}, {'X-Goog-Upload-URL': url, 'X-Goog-Upload-Status': 'active'}, []
        upload = self._uploads.get(request.query.get('upload_id'))
        if not upload or int(request.headers.get('x-goog-upload-offset', -1)) != len(upload[2]):
            raise _Refused(400, 'There is no such upload, or it is elsewhere.')
        upload[2] += request.body
        if 'finalize' not in command:
            return {}, {'X-Goog-Upload-Status': 'active'}, []
        name, title, content = upload
        self._files[name] = (title, content, False)
        return {'file': self._gemini_file(request, name)}, {'X-Goog-Upload-Status': 'final'}, []

    def _gemini_file(self, request, name):
        title, content, generated = self._found(self._files, name)
        shown = {
            'name': f'files/{name}',
            'mimeType': 'application/jsonl',
            'sizeBytes': str(len(content)),
            'createTime': _moment(time.time()),
            'uri': f'{self.url}/v1beta/files/{name}',
            'state': 'ACTIVE',
            'source': 'GENERATED' if generated else 'UPLOADED',
        }
        if generated:
            shown['downloadUri'] = f'{shown["uri"]}:download?alt=media'
        return {**shown, 'displayName': title} if title else shown

    def _gemini_download(self, request, name):
        _, content, generated = self._found(self._files, name)
        if not generated:
            raise _Refused(400, 'Only generated files can be downloaded.')
        return content

    def _gemini_delete(self, request, kind, name):
        where = {'files': self._files, 'batches': self._batches}[kind]
        self._found(where, name)
        del where[name]
        return {}

    def _gemini_batch(self, request, model):
        self._check_model(model)
        asked = _camel(request.body.get('batch', {}), depth=2)
        source = asked.get('inputConfig', {})
        inlined, content = 'requests' in source, b''
        if not inlined:
            _, content, _ = self._found(self._files, source.get('fileName', '').removeprefix('files/'))
        batch = self._new_batch('job', True, model)
        batch.title, batch.inlined = asked.get('displayName'), inlined
        for row in source['requests']['requests'] if inlined else ():
            batch.items.append((row.get('metadata'), row['request']))
        for number, line in enumerate(_lines(content), start=1):
            try:
                row = json.loads(line)
                batch.items.append((row['key'], row['request']))
            except (ValueError, KeyError, TypeError) as error:
                batch.problem = {'message': f'line {number}: {error!r}'}
                break
        return self._gemini_shown(batch)

    def _gemini_shown(self, batch):
        states = {'validating': 'PENDING', 'in_progress': 'RUNNING', 'finalizing': 'RUNNING', 'cancelling': 'RUNNING'}
        state = states.get(batch.state, batch.state.upper()).replace('COMPLETED', 'SUCCEEDED')
        completed, failed = batch.counts
        stats = {'requestCount': str(len(batch.items))}
        if state == 'SUCCEEDED':
            stats |= {'successfulRequestCount': str(completed), 'failedRequestCount': str(failed)}
        about = {
            '@type': _BATCHES,
            'model': f'models/{batch.model}',
            'displayName': batch.title or '',
            'createTime': _moment(batch.created),
            'updateTime': _moment(time.time()),
            'batchStats': stats,
            'state': f'BATCH_STATE_{state}',
            'name': f'batches/{batch.name}',
        }
        shown = {'name': f'batches/{batch.name}', 'metadata': about}
        if state in ('PENDING', 'RUNNING'):
            return shown
        about['endTime'] = about['updateTime']
        if state == 'SUCCEEDED':
            if batch.inlined:
                about['output'] = {'inlinedResponses': {'inlinedResponses': batch.results}}
            elif batch.output:
                about['output'] = {'responsesFile': f'files/{batch.output}'}
            return {**shown, 'done': True, 'response': {'@type': f'{_BATCHES}Output', **about.get('output', {})}}
        message = batch.problem['message'] if batch.problem else f'The batch is {batch.state}.'
        return {**shown, 'done': True, 'error': {'code': 3 if batch.problem else 1, 'message': message}}

    def _gemini_poll(self, request, name):
        batch = self._found(self._batches, name)
        self._advance(batch)
        return self._gemini_shown(batch)

    def _gemini_cancel(self, request, name):
        batch = self._found(self._batches, name)
        if batch.state not in ('validating', 'in_progress', 'finalizing'):
            raise _Refused(400, f'The batch is {batch.state}.')
        batch.state = 'cancelling'
        return {}

    def _gemini_batches(self, request):
        batches = [batch for batch in reversed(self._batches.values()) if batch.gemini]
        start = int(request.query.get('pageToken') or 0)
        end = start + int(request.query.get('pageSize') or 20)
        more = {'nextPageToken': str(end)} if end < len(batches) else {}
        return {'operations': [self._gemini_shown(batch) for batch in batches[start:end]], **more}


def _names(text):
    return frozenset(text.split())


_OPENAI_ROUTES = [
    ('POST', r'/v1/(chat/)?completions', ApiServer._openai_generate),
    ('GET', r'/v1/models/(.+)', ApiServer._openai_model),
    ('GET', r'/v1/models', ApiServer._openai_models),
    ('POST', r'/v1/files', ApiServer._openai_upload),
    ('GET', r'/v1/files/([^/]+)', ApiServer._openai_file),
    ('GET', r'/v1/files/([^/]+)/content', ApiServer._openai_content),
    ('DELETE', r'/v1/files/([^/]+)', ApiServer._openai_delete),
    ('POST', r'/v1/batches', ApiServer._openai_batch),
    ('GET', r'/v1/batches', ApiServer._openai_batches),
    ('GET', r'/v1/batches/([^/]+)', ApiServer._openai_poll),
    ('POST', r'/v1/batches/([^/]+)/cancel', ApiServer._openai_cancel),
]
_GEMINI_ROUTES = [
    ('POST', r'/v1(?:beta)?/models/([^:]+):generateContent', ApiServer._gemini_generate),
    ('POST', r'/v1(?:beta)?/models/([^:]+):batchGenerateContent', ApiServer._gemini_batch),
    ('GET', r'/v1(?:beta)?/models/([^:]+)', ApiServer._gemini_model),
    ('POST', r'/upload/v1(?:beta)?/files', ApiServer._gemini_upload),
    ('GET', r'/v1(?:beta)?/files/([^:]+)', ApiServer._gemini_file),
    ('GET', r'/v1(?:beta)?/files/([^:]+):download', ApiServer._gemini_download),
    ('DELETE', r'/v1(?:beta)?/(files|batches)/([^:]+)', ApiServer._gemini_delete),
    ('GET', r'/v1(?:beta)?/batches', ApiServer._gemini_batches),
    ('GET', r'/v1(?:beta)?/batches/([^:]+)', ApiServer._gemini_poll),
    ('POST', r'/v1(?:beta)?/batches/([^:]+):cancel', ApiServer._gemini_cancel),
]
_BOTH = _names(
    'frequency_penalty logit_bias logprobs max_tokens model n presence_penalty seed stop stream stream_options '
    'temperature top_p user'
)
_CHAT = _BOTH | _names(
    'audio max_completion_tokens messages metadata modalities parallel_tool_calls prediction prompt_cache_key '
    'reasoning_effort response_format safety_identifier service_tier store tool_choice tools top_logprobs verbosity '
    'web_search_options'
)
_COMPLETION = _BOTH | {'prompt', 'best_of', 'echo', 'suffix'}
_GEMINI = _names(
    'cachedContent contents generationConfig labels model safetySettings serviceTier store systemInstruction '
    'toolConfig tools'
)
_GENERATION = _names(
    'candidateCount enableEnhancedCivicAnswers frequencyPenalty logprobs maxOutputTokens mediaResolution '
    'presencePenalty responseJsonSchema responseLogprobs responseMimeType responseModalities responseSchema seed '
    'speechConfig stopSequences temperature thinkingConfig topK topP'
)


def _content_text(content: str | list[dict]) -> str:
    """The text of an OpenAI message."""
    return content if isinstance(content, str) else ''.join(part['text'] for part in content)


def _content_fault(request):
    return request.fault if request.fault in CONTENT_FAULTS else None


def _first(text, count):
    """The first words of a text, and what is between them."""
    ends = [word.end() for word in re.finditer(r'\S+', text)]
    return text[: ends[min(count, len(ends)) - 1]] if ends and count > 0 else ''


def _ended(text, stops, limit) -> tuple[str, str]:
    """The text up to the first stop string or as long as it may be, and why it ended."""
    text = text[: min((place for place in map(text.find, stops) if place >= 0), default=None)]
    return (text, 'stop') if tokens(text) <= limit else (_first(text, limit), 'length')


def _openai_usage(billed):
    prompt, completion = sum(each.input for each in billed), sum(each.output for each in billed)
    return {
        'prompt_tokens': prompt,
        'completion_tokens': completion,
        'total_tokens': prompt + completion,
        'prompt_tokens_details': {'cached_tokens': sum(each.cached for each in billed)},
        'completion_tokens_details': {'reasoning_tokens': sum(each.thoughts for each in billed)},
    }


def _lines(content):
    return [line for line in content.split(b'\n') if line.strip()]


def _line(batch, row, fault):
    """A result as it comes in the file: once, twice, broken or not at all."""
    if fault == 'missing_line':
        return []
    if fault == 'duplicate':
        return [row, row]
    if fault == 'stranger':
        name = 'metadata' if batch.inlined else 'key' if batch.gemini else 'custom_id'
        return [{**row, name: {'key': 'a stranger'} if batch.inlined else 'a stranger'}]
    if fault in ('malformed', 'half_json'):
        if batch.inlined:  # within the JSON of the job: there is no answer in it
            return [{'metadata': row['metadata']}]
        whole = json.dumps(row).encode()
        return [whole[: len(whole) // 2] if fault == 'half_json' else b'upstream connect error \xff']
    return [row]


def _camel(value, depth=3):
    """Names of fields as the API writes them; it reads snake_case as well."""
    if isinstance(value, list):
        return [_camel(each, depth) for each in value]
    if not isinstance(value, dict) or depth == 0:
        return value
    return {re.sub('_([a-z])', lambda m: m[1].upper(), name): _camel(each, depth - 1) for name, each in value.items()}


def _moment(seconds):
    return time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(seconds))


def _form(body, boundary):
    """The fields of multipart/form-data: bytes, or (file name, bytes)."""
    fields = {}
    for part in body.split(b'--' + boundary.encode())[1:-1]:
        head, _, content = part.removeprefix(b'\r\n').partition(b'\r\n\r\n')
        names = dict(re.findall(r'\b(name|filename)="([^"]*)"', head.decode()))
        content = content.removesuffix(b'\r\n')
        fields[names['name']] = (names['filename'], content) if 'filename' in names else content
    return fields


def _is_open(connection):
    """Whether the other side has not hung up."""
    try:
        readable, _, _ = select.select([connection], [], [], 0)
        return not readable or connection.recv(1, socket.MSG_PEEK) != b''
    except (OSError, ValueError):
        return False


class _Http(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256  # many clients come at once

    def handle_error(self, request, client_address):
        """Connections break, which is what the server is for."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        self.api = self.server.api
        if not self.api.joined(threading.current_thread(), self.connection):
            raise ConnectionAbortedError  # the server is stopping

    def finish(self):
        self.api.parted(threading.current_thread())
        super().finish()

    def log_message(self, *_):
        """Says nothing: tests print what they want."""

    def _serve(self):
        url = urllib.parse.urlsplit(self.path)
        path = urllib.parse.unquote(url.path)
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get('content-length', 0)))
        try:
            request = self.api.arrived(self.connection, self.command, path, query, headers, _read(body, headers))
            self._answer(request)
        except OSError:
            self.close_connection = True
        except Exception as error:
            self.api.mistake(error)
            self.api.left(self.connection)
            self._send(500, {}, json.dumps({'error': {'message': repr(error)}}).encode())

    do_GET = do_POST = do_DELETE = _serve

    def _answer(self, request):
        fault = request.fault
        if fault in _UNANSWERED:
            return self._close(reset=fault == 'reset')
        status, billed = 200, []
        try:
            body, headers, billed = self.api.reply(request)
        except _Refused as refused:
            body = self.api.error_body(request.dialect == 'gemini', refused)
            status, headers = refused.status, self.api.error_headers(refused)
        if not isinstance(body, bytes):
            body = json.dumps(body, ensure_ascii=False).encode()
            headers = {'Content-Type': 'application/json; charset=UTF-8', **headers}
        for each in billed:
            each.delivered = fault not in (*_UNDELIVERED, 'hang')
        self.api.bill(billed)
        seconds = {'hang': self.api.hang_seconds, 'slow': self.api.slow_seconds}.get(fault, 0.0)
        if not self._wait(seconds + self.api.latency):
            return self._close()
        if fault == 'hang':
            for each in billed:
                each.delivered = True
        self.api.left(self.connection)
        if fault in _UNDELIVERED and status == 200:
            return self._spoil(fault, headers, body)
        return self._send(status, headers, body)

    def _wait(self, seconds) -> bool:
        """Whether anybody waits for the answer still."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if self.api.stopping.wait(min(left, 0.02)) or not _is_open(self.connection):
                return False
        return not self.api.stopping.is_set()

    def _spoil(self, fault, headers, body):
        if fault == 'malformed':
            body = b'upstream connect error or disconnect/reset before headers'
        elif fault == 'html':
            headers, body = {**headers, 'Content-Type': 'text/html'}, _PAGE
        elif fault == 'half_json':
            body = body[: len(body) // 2]
        elif fault == 'not_utf8':
            body = re.sub(rb'("(?:text|content|id|name)": ")', b'\\1\xff', body, count=1)
        if fault != 'cut':
            return self._send(200, headers, body)
        self._send(200, {**headers, 'Content-Length': str(len(body))}, body[: len(body) // 2])
        return self._close()

    def _send(self, status, headers, body):
        lines = {'Content-Length': str(len(body)), 'x-request-id': f'req_{time.monotonic_ns()}', **headers}
        head = f'HTTP/1.1 {status} {self.responses.get(status, ("Unknown",))[0]}\r\n'
        head += ''.join(f'{name}: {value}\r\n' for name, value in lines.items())
        # In one piece: a head without a body would make the reader wait.
        self.wfile.write(head.encode() + b'\r\n' + body)

    def _close(self, reset=False):
        self.api.left(self.connection)
        self.close_connection = True
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
            os.close(self.connection.detach())  # close() would wait for the files that read from it
        else:
            self.connection.shutdown(socket.SHUT_RDWR)


def _read(body, headers):
    """The body of a request as its content type says."""
    kind = headers.get('content-type', '')
    if kind.startswith('multipart/form-data'):
        return _form(body, kind.partition('boundary=')[2].strip('"'))
    # A piece of a file passes for JSON, too: of one line it is.
    if kind.startswith('application/json') and body and 'x-goog-upload-offset' not in headers:
        try:
            return json.loads(body)
        except ValueError:
            return body
    return body
