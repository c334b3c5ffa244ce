"""A model behind an API, on this machine: speaks the wire formats of OpenAI and of Gemini, and misbehaves as told.

    from api_parts import random_faults
    from api_server import ApiServer

    with ApiServer(fault=random_faults(0.2, 0, ['rate_limit', 'cut'])) as server:
        openai.OpenAI(base_url=server.openai_url, api_key='any')
        genai.Client(api_key='any', http_options={'base_url': server.gemini_url})

Choice i is `answer(prompt, seed, i)`, the prompt is `prompt_of` the request, a token is a word (`tokens`).
"""

import contextlib
import email.utils
import hashlib
import http.server
import itertools
import json
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
from collections.abc import Callable, Collection
from typing import Any

from api_gemini import GEMINI_ROUTES, GOOGLE, Gemini
from api_openai import OPENAI_ROUTES, OpenAI
from api_parts import (
    CONTENT_FAULTS,
    FAULTS,
    LINE_FAULTS,
    STATUS_FAULTS,
    Asked,
    Billed,
    Choice,
    Job,
    Plan,
    Refused,
    Request,
    answer,
    ended,
    first_words,
    tokens,
)

_UNANSWERED = ('refuse', 'reset')
_UNDELIVERED = ('cut', 'malformed', 'html', 'half_json', 'not_utf8')
_PAGE = b'<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>'
_STOP_S = 0.8  # until a server that is told to stop gives up on its threads


class ApiServer(OpenAI, Gemini):
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
            Refused: the answer is an error.
        """
        if request.fault in STATUS_FAULTS:
            raise Refused.of_fault(request.fault)
        self._check_key(request)
        for method, pattern, handle in GEMINI_ROUTES if request.dialect == 'gemini' else OPENAI_ROUTES:
            match = re.fullmatch(pattern, request.path)
            if match and method == request.method:
                # Answers take as long as the test likes, side by side; what is stored changes one by one.
                with contextlib.nullcontext() if request.route == 'generate' else self._lock:
                    reply = handle(self, request, *match.groups())
                return reply if isinstance(reply, tuple) else (reply, {}, [])
        raise Refused(404, f'Invalid URL ({request.method} {request.path})')

    def bill(self, billed: list[Billed]):
        with self._lock:
            self._billed.extend(billed)

    def error_body(self, gemini: bool, refused: Refused) -> Any:
        """The body of an answer with an error status."""
        if refused.kind == 'bad_gateway':
            return _PAGE
        return self._gemini_error(refused) if gemini else self._openai_error(refused)

    def error_headers(self, refused: Refused) -> dict[str, str]:
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
                raise Refused(403, 'Method does not allow unregistered callers.')
            if given != self.key:
                # Indeed 400, not 401.
                raise Refused(400, 'API key not valid. Please pass a valid API key.', 'API_KEY_INVALID')
        elif request.headers.get('authorization') != f'Bearer {self.key}':
            raise Refused.of_fault('unauthorized')

    def _new_id(self, prefix):
        return f'{prefix}{next(self._ids):06d}'

    def _check_model(self, model):
        if self.models is not None and model not in self.models:
            raise Refused(404, f'The model {model} does not exist.', 'model_not_found')

    # Generating.

    def _choices(self, asked: Asked, prompt: str, fault: str | None) -> list[Choice]:
        choices = []
        for index in range(asked.n):
            text, end = ended(self.answer(prompt, asked.seed, index), asked.stops, asked.limit - asked.thoughts)
            choices.append(Choice(text, end, min(asked.thoughts, asked.limit)))
        if fault in ('no_choices', 'blocked_prompt'):
            return []
        if fault == 'fewer':
            return choices[:-1]
        if fault == 'part_blocked':
            choices[0] = Choice('', 'blocked', choices[0].thoughts)
        elif fault in ('blocked', 'refusal', 'empty'):
            choices = [Choice('', 'stop' if fault == 'empty' else fault, choice.thoughts) for choice in choices]
        elif fault == 'truncated':
            choices = [Choice(first_words(c.text, tokens(c.text) // 2), 'length', c.thoughts) for c in choices]
        return choices

    def _generate(self, asked: Asked, fault: str | None, batch: bool) -> tuple[list[list[Choice]], list[Billed]]:
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
            raise Refused.of_fault(fault)
        if gemini:
            asked = self._gemini_asked(body, model)
            chosen, billed = self._generate(asked, fault, batch)
            return self._gemini_answer(asked, chosen[0], billed, fault), billed
        asked = self._openai_asked(body, chat)
        if fault == 'blocked_prompt':
            raise Refused(400, 'The prompt was filtered due to our content policy.', 'content_filter')
        chosen, billed = self._generate(asked, fault, batch)
        return self._openai_answer(asked, chosen, billed, fault), billed

    def _store(self, prefix, name, content, generated=False):
        identifier = self._new_id(prefix)
        self._files[identifier] = (name, content, generated)
        return identifier

    def _found(self, where, name):
        if name not in where:
            raise Refused(404, f'No such {"batch" if where is self._batches else "File"} object: {name}')
        return where[name]

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
            except Refused as refused:
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
            error = {'code': GOOGLE.get(refused.status, ('UNKNOWN', 2))[1], 'message': refused.message}
            return {'metadata' if batch.inlined else 'key': key, 'error': error}
        body = self._openai_error(refused)
        response = {'status_code': refused.status, 'request_id': self._new_id('req_'), 'body': body}
        return {'id': self._new_id('batch_req_'), 'custom_id': key, 'response': response, 'error': None}


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
        except Refused as refused:
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
