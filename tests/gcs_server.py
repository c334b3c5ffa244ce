"""A bucket on this machine: speaks the JSON API of Google Cloud Storage as far as gcsfs and TensorStore use it, keeps
objects in memory, and misbehaves as told.

    with GcsServer() as server:
        os.environ |= server.environment  # before either client is first used
        epath.Path('gs://bucket/run').mkdir()

What is as in the real one and matters here: an object appears whole, with a new generation; reads and writes may be
conditional on generations (TensorStore's are); there are no directories, and listings come in pages.
"""

import base64
import contextlib
import http.server
import itertools
import json
import os
import re
import socket
import struct
import threading
import urllib.parse
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import google_crc32c

_UPLOAD = re.compile(r'/upload/storage/v1/b/(?P<bucket>[^/]+)/o')
_OBJECTS = re.compile(r'(?:/download)?/storage/v1/b/(?P<bucket>[^/]+)/o')
_OBJECT = re.compile(r'(?:/download)?/storage/v1/b/(?P<bucket>[^/]+)/o/(?P<name>[^/]+)')
_BUCKET = re.compile(r'/storage/v1/b/(?P<bucket>[^/]+)')
PAGE = 8  # names in a page of a listing: few, so that there are pages
MINUTE = '2026-01-01T00:00:00.000Z'


@dataclass
class Object:
    data: bytes
    generation: int

    @property
    def crc32c(self) -> str:
        return base64.b64encode(struct.pack('>I', google_crc32c.value(self.data))).decode()


class GcsServer:
    """The server; a context manager, within which it runs.

    Args:
        fault: Called with (method, name of the object, or '', number of the request, from 0); what it returns is done
            instead of an answer: a status such as 503, 'reset' (the connection breaks, nothing was done), 'lost' (it
            was done, and the connection breaks), or None for none.
    """

    def __init__(self, fault: Callable[[str, str, int], int | str | None] = lambda *request: None):
        self.fault = fault
        self.buckets: dict[str, dict[str, Object]] = {'bucket': {}}
        self.requests = Counter()  # by method
        self.faults = Counter()
        self._uploads: dict[str, tuple[str, str, dict, bytearray]] = {}
        self._numbers, self._generations, self._lock = itertools.count(), itertools.count(1), threading.Lock()
        self._http = http.server.ThreadingHTTPServer(('127.0.0.1', 0), _handler(self))
        self._http.daemon_threads = True

    def __enter__(self) -> 'GcsServer':
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def url(self) -> str:
        return f'http://127.0.0.1:{self._http.server_port}'

    @property
    def environment(self) -> dict[str, str]:
        """For gcsfs, and for TensorStore."""
        return {
            'STORAGE_EMULATOR_HOST': self.url,
            'TENSORSTORE_GCS_HTTP_URL': self.url,
            'GOOGLE_AUTH_TOKEN_FOR_TESTING': 'none',
            # gcsfs asks what kind of bucket it is over gRPC, which nobody answers here.
            'GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT': 'false',
        }

    def names(self, prefix: str = '') -> list[str]:
        with self._lock:
            return sorted(name for name in self.buckets['bucket'] if name.startswith(prefix))

    def put(self, name: str, data: bytes) -> None:
        """As another machine does."""
        with self._lock:
            self._put('bucket', name, data, {})

    def answer(self, method: str, path: str, query: dict[str, str], headers, body: bytes):
        """(status, headers, body) of a request."""
        with self._lock:
            for pattern, do in (
                (_UPLOAD, self._upload),
                (_OBJECT, self._object),
                (_OBJECTS, self._list),
                (_BUCKET, self._bucket),
            ):
                if match := pattern.fullmatch(path):
                    places = {key: urllib.parse.unquote(value) for key, value in match.groupdict().items()}
                    if places['bucket'] not in self.buckets:
                        return _error(404, 'The specified bucket does not exist.')
                    return do(method, places, query, headers, body)
        return _error(400, f'not known here: {method} {path}')

    def _bucket(self, method, places, query, headers, body):
        return _json({'kind': 'storage#bucket', 'name': places['bucket'], 'storageClass': 'STANDARD'})

    def _list(self, method, places, query, headers, body):
        prefix, delimiter = query.get('prefix', ''), query.get('delimiter', '')
        start, end = query.get('startOffset', ''), query.get('endOffset', '')
        seen: dict[str, Object | None] = {}
        for name, found in sorted(self.buckets[places['bucket']].items()):
            if name.startswith(prefix) and name >= start and (not end or name < end):
                head, cut, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, '', '')
                seen[prefix + head + cut if cut else name] = None if cut else found
        rest = [name for name in seen if name > query.get('pageToken', '')]
        page = rest[: min(PAGE, int(query.get('maxResults', PAGE)))]
        told = {
            'kind': 'storage#objects',
            'items': [self._told(places['bucket'], name) for name in page if seen[name] is not None],
            'prefixes': [name for name in page if seen[name] is None],
        }
        if len(page) < len(rest):
            told['nextPageToken'] = page[-1]
        return _json(told)

    def _object(self, method, places, query, headers, body):
        objects, name = self.buckets[places['bucket']], places['name']
        found = objects.get(name)
        if refused := self._refused(method, found, query):
            return refused
        if found is None:
            return _error(404, f'No such object: {places["bucket"]}/{name}')
        if method == 'DELETE':
            del objects[name]
            return 204, {}, b''
        if query.get('alt') != 'media':
            return _json(self._told(places['bucket'], name))
        status, data, told = 200, found.data, {'x-goog-generation': str(found.generation)}
        told['x-goog-hash'] = f'crc32c={found.crc32c}'
        if asked := re.fullmatch(r'bytes=(\d*)-(\d*)', headers.get('Range', '')):
            first = int(asked[1]) if asked[1] else max(0, len(data) - int(asked[2]))
            last = min(int(asked[2]), len(data) - 1) if asked[1] and asked[2] else len(data) - 1
            if first >= len(data):
                return 416, {'Content-Range': f'bytes */{len(data)}'}, b''
            status, told['Content-Range'] = 206, f'bytes {first}-{last}/{len(data)}'
            data = data[first : last + 1]
        return status, told, data

    def _refused(self, method: str, found: Object | None, query: dict[str, str]):
        """The answer where a condition on the generation does not hold. An object that is not there has 0."""
        generation = found.generation if found else 0
        if 'ifGenerationMatch' in query and int(query['ifGenerationMatch']) != generation:
            return _error(412, 'At least one of the pre-conditions you specified did not hold.')
        if found and 'ifGenerationNotMatch' in query and int(query['ifGenerationNotMatch']) == generation:
            return (304, {}, b'') if method == 'GET' else _error(412, 'the same generation')
        return None

    def _upload(self, method, places, query, headers, body):
        kind, name = query.get('uploadType'), query.get('name', '')
        if 'upload_id' in query:
            return self._upload_part(query['upload_id'], headers, body)
        if kind == 'resumable':
            upload = f'upload-{next(self._generations)}'
            self._uploads[upload] = places['bucket'], name, query, bytearray()
            where = f'{self.url}/upload/storage/v1/b/{places["bucket"]}/o?uploadType=resumable&upload_id={upload}'
            return 200, {'Location': where}, b''
        if kind == 'multipart':
            boundary = re.search(r'boundary="?([^";]+)"?', headers['Content-Type'])[1].encode()
            data = body.split(b'--' + boundary)[2].split(b'\n\n', 1)[1].removesuffix(b'\n')
            return self._put(places['bucket'], name, data, query)
        return self._put(places['bucket'], name, body, query)

    def _upload_part(self, upload: str, headers, body: bytes):
        if upload not in self._uploads:
            return _error(404, 'no such upload')
        bucket, name, query, received = self._uploads[upload]
        first, size = re.fullmatch(r'bytes (?:(\d+)-\d+|\*)/(\d+|\*)', headers['Content-Range']).groups()
        if first is not None and int(first) <= len(received):
            received[int(first) :] = body
        if size == '*' or len(received) < int(size):
            return 308, {'Range': f'bytes=0-{len(received) - 1}'} if received else {}, b''
        return self._put(bucket, name, bytes(received), query)

    def _put(self, bucket: str, name: str, data: bytes, query: dict[str, str]):
        if refused := self._refused('POST', self.buckets[bucket].get(name), query):
            return refused
        self.buckets[bucket][name] = Object(data, next(self._generations))
        return _json(self._told(bucket, name))

    def _told(self, bucket: str, name: str) -> dict:
        found = self.buckets[bucket][name]
        return {
            'kind': 'storage#object',
            'bucket': bucket,
            'name': name,
            'id': f'{bucket}/{name}/{found.generation}',
            'size': str(len(found.data)),
            'generation': str(found.generation),
            'metageneration': '1',
            'crc32c': found.crc32c,
            'timeCreated': MINUTE,
            'updated': MINUTE,
            'storageClass': 'STANDARD',
        }


def _name(path: str, body: bytes) -> str:
    """Of the object that a request is about; where it is not in the query."""
    if match := _OBJECT.match(path):
        return urllib.parse.unquote(match['name'])
    if _UPLOAD.fullmatch(path) and (match := re.search(rb'"name": ?("(?:[^"\\]|\\.)*")', body[:2000])):
        return json.loads(match[1])
    return ''


def _json(told: dict):
    return 200, {'Content-Type': 'application/json; charset=UTF-8'}, json.dumps(told).encode()


def _error(status: int, message: str):
    return status, *_json({'error': {'code': status, 'message': message, 'errors': [{'message': message}]}})[1:]


def _handler(server: GcsServer):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = 'HTTP/1.1'

        def handle_any(self) -> None:
            path, _, query = self.path.partition('?')
            body = self._body()
            asked = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
            asked.setdefault('name', _name(path, body))
            fault = server.fault(self.command, asked['name'], next(server._numbers))
            server.requests[self.command] += 1
            if fault is not None:
                server.faults[fault] += 1
            if fault == 'reset':
                self._break()
                return
            if isinstance(fault, int):
                status, headers, data = _error(fault, 'as told')
            else:
                status, headers, data = server.answer(self.command, path, asked, self.headers, body)
            if fault == 'lost':
                self._break()
                return
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if status not in (204, 304):
                self.send_header('Content-Length', str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):  # a client that was killed
                super().handle()

        do_GET = do_POST = do_DELETE = handle_any

        def _body(self) -> bytes:
            if self.headers.get('Transfer-Encoding', '').lower() != 'chunked':
                return self.rfile.read(int(self.headers.get('Content-Length') or 0))
            data = b''
            while size := int(self.rfile.readline().strip() or b'0', 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data

        def _break(self) -> None:
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
            self.connection.close()

        def log_message(self, *_) -> None:
            if 'GCS_LOG' in os.environ:
                print(self.requestline, flush=True)

    return Handler
