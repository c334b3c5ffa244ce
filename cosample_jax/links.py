"""The connections between the processes of a run: JSON lines over TCP, all to process 0."""

import json
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator

from cosample_jax.errors import UserError

# A host that vanishes without a word is missed after IDLE + COUNT x INTERVAL seconds: before JAX's 100.
_IDLE_S, _INTERVAL_S, _COUNT = 20, 5, 4


class Link:
    """One process's end: to all others in process 0, to process 0 in the others.

    Attributes:
        index: Of this process.
        count: Of all processes.
        port: Free in process 0 when they met: for JAX.
        failed: The exit status of a process that failed; 0 where none did.
    """

    def __init__(self, index: int, count: int, port: int, peers: dict[int, tuple[socket.socket, Iterator[str]]]):
        self.index, self.count, self.port = index, count, port
        self.failed = 0
        self._peers = peers
        self._sending = threading.Lock()
        self._inbox: dict[int, queue.Queue] = {process: queue.Queue() for process in peers}
        self._byes: dict[int, int] = {}
        self._changed = threading.Condition()

    def start(self, hear: Callable[[int, dict | None], None]) -> None:
        """Begins to listen: `hear(process, message)` gets what is no part of a meeting, and None for a process that is
        gone without a bye.
        """
        for process, (_, lines) in self._peers.items():
            threading.Thread(target=self._read, args=(process, lines, hear), daemon=True).start()

    def send(self, message: dict) -> None:
        """To all at the other end; one that is gone is told of by `hear`, not here."""
        data = (json.dumps(message) + '\n').encode()
        with self._sending:
            for peer, _ in self._peers.values():
                try:
                    peer.sendall(data)
                except OSError:
                    continue

    def receive(self) -> dict | None:
        """The next message of process 0 that belongs to a meeting; None when a process failed before."""
        return self._get(0)

    def receive_all(self) -> Iterator[tuple[int, dict | None]]:
        """The next one of each of the others, likewise."""
        for process in self._peers:
            yield process, self._get(process)

    def wait_for_byes(self, seconds: float | None) -> dict[int, int]:
        """The exit status of those at the other end that said goodbye, when all have or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._byes) == len(self._peers), seconds)
            return dict(self._byes)

    def _get(self, process: int) -> dict | None:
        while True:
            try:
                return self._inbox[process].get(timeout=0.5)  # signals are handled in between
            except queue.Empty:
                if self.failed:
                    return None

    def _read(self, process: int, lines: Iterator[str], hear: Callable[[int, dict | None], None]) -> None:
        try:
            for line in lines:
                message = json.loads(line)
                self.failed = self.failed or message.get('bye') or message.get('failed') or 0
                if 'bye' in message:
                    with self._changed:
                        self._byes[process] = message['bye']
                        self._changed.notify_all()
                if not {'at', 'result', 'error'} & message.keys():
                    hear(process, message)
                else:
                    self._inbox[process].put(message)
        except (OSError, ValueError):
            pass
        with self._changed:
            said_bye = process in self._byes
            self._byes.setdefault(process, 1)
            self._changed.notify_all()
        if not said_bye:
            hear(process, None)


def listen(host: str, port: int, count: int, index: int, command: str, seconds: float) -> Link:
    """Process 0's end, when all have come.

    Raises:
        UserError: the port is taken, not all came in time, or one does not belong to this run.
    """
    end = time.monotonic() + seconds
    peers: dict[int, tuple[socket.socket, Iterator[str]]] = {}
    try:
        server = socket.create_server(('', port), backlog=count)
    except OSError as error:
        raise UserError(f'--coordinator={host}:{port}: process 0 cannot listen there ({error.strerror})') from None
    with server:
        while len(peers) < count - 1:
            server.settimeout(max(end - time.monotonic(), 0.01))
            try:
                peer, _ = server.accept()
            except TimeoutError:
                missing = ', '.join(str(i) for i in range(1, count) if i not in peers)
                raise UserError(
                    f'process {missing} of {count} did not come to {host}:{port} in {seconds:.0f} s: start the same '
                    'command on every host, each with its own --process'
                ) from None
            _keep_alive(peer)
            peer.settimeout(10)
            lines = peer.makefile('r', encoding='utf-8')
            try:
                hello = json.loads(lines.readline())
                wrong = _mismatch(hello, count, command, peers)
            except (OSError, ValueError, KeyError, TypeError):
                peer.close()  # somebody else's knock
                continue
            if wrong:
                for each in (peer, *(known for known, _ in peers.values())):
                    each.sendall((json.dumps({'refused': wrong}) + '\n').encode())
                raise UserError(wrong)
            peer.settimeout(None)
            peers[hello['process']] = peer, lines
    with socket.socket() as free:
        free.bind(('', 0))
        jax_port = free.getsockname()[1]
    link = Link(0, count, jax_port, dict(sorted(peers.items())))
    link.send({'port': jax_port})
    return link


def connect(host: str, port: int, count: int, index: int, command: str, seconds: float) -> Link:
    """The end of another process, when all have come.

    Raises:
        UserError: nobody listens there in time, or this process does not belong to the run.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            peer = socket.create_connection((host, port), timeout=max(end - time.monotonic(), 0.01))
            break
        except OSError as error:
            if time.monotonic() >= end:
                raise UserError(
                    f'process {index} of {count} cannot reach process 0 at {host}:{port} ({error.strerror or error}): '
                    'start the same command on every host, process 0 on the one that --coordinator names'
                ) from None
            time.sleep(0.2)
    _keep_alive(peer)
    peer.sendall((json.dumps({'process': index, 'processes': count, 'command': command}) + '\n').encode())
    lines = peer.makefile('r', encoding='utf-8')
    peer.settimeout(max(end - time.monotonic(), 0.01) + 5)  # process 0 gives up first, and says why
    try:
        answer = json.loads(lines.readline() or '{"refused": "process 0 gave up: its output says why"}')
    except (OSError, ValueError):
        raise UserError(f'process 0 at {host}:{port} says nothing: is it of this run?') from None
    if 'refused' in answer:
        raise UserError(answer['refused'])
    peer.settimeout(None)
    return Link(index, count, answer['port'], {0: (peer, lines)})


def _mismatch(hello: dict, count: int, command: str, known: dict) -> str:
    """Why a process does not belong to this run; '' where it does."""
    process = hello['process']
    if hello['processes'] != count:
        return f'process {process} was told of {hello["processes"]} --processes, process 0 of {count}'
    if process in known or not 0 < process < count:
        return f'two processes are --process={process}: each has a number of its own'
    if hello['command'] != command:
        return f'process {process} was given another command ({hello["command"]}) than process 0 ({command})'
    return ''


def _keep_alive(peer: socket.socket) -> None:
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (('TCP_KEEPIDLE', _IDLE_S), ('TCP_KEEPINTVL', _INTERVAL_S), ('TCP_KEEPCNT', _COUNT)):
        if hasattr(socket, option):  # not on every system
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
