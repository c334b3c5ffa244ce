"""Several processes as one run: the same command on every host of a slice, which meet before JAX does.

Process 0 listens, and the others keep a connection to it as long as they live. What only one may do (the workdir's
records, problems, grades, tables) process 0 does while the others wait for its outcome (`alone`); what all must decide
alike is asked of all (`any_process`). That goes over these connections and not over the devices: a process that waits
still hears of SIGTERM, and of the death of another, which in a collective it would not, but hang.

Without `join` there is one process, and all of this is nothing. No JAX until then.
"""

import contextlib
import importlib.util
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from cosample_jax import links
from cosample_jax.errors import UserError
from cosample_jax.preemption import Preempted

JOIN_S = 300.0  # for all to come
GRACE_S = 10.0  # for a process to end by itself after another failed
LAST_S = 2.0  # that process 0 stays: JAX aborts a process whose coordinator is gone
ENDED = 'the same command on every host continues'

T = TypeVar('T')


class _Run:
    """The processes of this run, as one of them sees them."""

    def __init__(self):
        self.link: links.Link | None = None
        self.alone = 0  # calls of `alone` that this process is inside of
        self.meetings = 0
        self.leaving = self.stopping = False
        self.ending = threading.Lock()


_run = _Run()


class Unlike(RuntimeError):
    """The processes came to different places of the program, or one failed in a way that has no line of its own."""


def count() -> int:
    """How many processes share the work at this point: one, within `alone`."""
    return 1 if _run.link is None or _run.alone else _run.link.count


def index() -> int:
    """Of this process, from 0."""
    return 0 if _run.link is None else _run.link.index


def is_mine(number: int) -> bool:
    """Whether, of the processes, this one has to do with what `number` (a hash) stands for."""
    return int(number) % count() == (0 if count() == 1 else index())


def join(coordinator: str, processes: int, process: int, command: str = '') -> None:
    """Meets the other processes (`meet`), then initializes JAX for all of them.

    UserError as `meet`.
    """
    meet(coordinator, processes, process, command)
    if _run.link is None:
        return
    import jax

    # JAX would take SIGTERM for itself.
    jax.config.update('jax_enable_preemption_service', False)
    address = f'{coordinator.rpartition(":")[0]}:{_run.link.port}'
    jax.distributed.initialize(address, processes, process, shutdown_timeout_seconds=60)
    jax.devices()  # all at once: a backend waits for those of the others


def meet(coordinator: str, processes: int, process: int, command: str = '') -> None:
    """Meets the other processes; one alone has nobody to meet.

    Args:
        coordinator: host:port at which process 0 listens.
        processes: How many there are.
        process: Which of them this is, from 0.
        command: What it was told to do; all must have been told the same.

    Raises:
        UserError: They did not meet in time, or do not belong together; names the process.
    """
    host, _, port = coordinator.rpartition(':')
    if not host or not port.isdigit():
        raise UserError(f'--coordinator={coordinator}: give it as host:port, where process 0 can listen')
    if not 0 <= process < processes:
        raise UserError(f'--process={process} is none of the {processes} of --processes: they count from 0')
    if processes == 1:
        return
    end = links.listen if process == 0 else links.connect
    _run.link = end(host, int(port), processes, process, command, JOIN_S)
    _run.link.start(_hear)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _on_sigterm)


def join_slice(command: str) -> None:
    """Joins the hosts of a TPU slice, where this is one of several: its environment tells who they are.

    UserError when it cannot be asked, or they do not meet.
    """
    if not _may_have_tpus():
        return
    from jax._src.clusters import cloud_tpu_cluster, cluster

    try:
        if not any(
            each.is_env_present() for each in (cloud_tpu_cluster.GceTpuCluster, cloud_tpu_cluster.GkeTpuCluster)
        ):
            return
        found = cluster.ClusterEnv.auto_detect_unset_distributed_params(None, None, None, None, None, int(JOIN_S))
    except Exception as error:
        raise UserError(
            f'which hosts the TPU slice has cannot be asked ({error}): give --coordinator, --processes and --process'
        ) from None
    coordinator, processes, process, _ = found
    if processes > 1:
        join(coordinator, processes, process, command)


def _may_have_tpus() -> bool:
    """Whether JAX would look for them: without its library there are none, and JAX need not be imported yet."""
    platforms = os.environ.get('JAX_PLATFORMS', 'tpu')
    return 'tpu' in platforms and ('TPU_LIBRARY_PATH' in os.environ or importlib.util.find_spec('libtpu') is not None)


def joined() -> bool:
    """Whether there are several processes, `alone` or not."""
    return _run.link is not None


def alone(work: Callable[..., T], *args) -> T:
    """`work(*args)`, done by process 0 when all are here; what it returned (JSON) or raised, in all of them.

    Within it the process is the only one: it may use all that is here, and no devices but its own.

    Raises:
        Unlike: to the other processes, where process 0 failed in a way that is no UserError, OSError or signal.
    """
    return _meet(getattr(work, '__qualname__', 'work'), None, lambda _: work(*args))


def any_process(flag: bool) -> bool:
    """Whether `flag` is true in any process; all must ask at the same point of the program."""
    return flag if count() == 1 else _meet('any_process', flag, any)


def wait(name: str) -> None:
    """Returns when all processes are here."""
    if count() > 1:
        _meet(name, None, lambda _: None)


def listen_a_moment() -> None:
    """A collective fails when a process dies: what hears of the death ends this process, with a line that says so."""
    if _run.link is not None:
        time.sleep(1)


def leave(status: int) -> int:
    """Ends this process's part with its exit status; returns it where that of all is 0 or there is one process.

    A process that failed takes the others along: those that do not come to an end by themselves in `GRACE_S` are ended
    with its status, for they may wait for it in a collective.
    """
    link = _run.link
    if link is None:
        return status
    _run.leaving = True
    link.send({'bye': status, 'process': link.index})
    waited = link.wait_for_byes(None if status == 0 else GRACE_S + 2)
    waited_for = link.failed or next((each for each in waited.values() if each), 0)
    if waited_for or status:
        _exit(waited_for or status)
    return status


def _meet(name: str, mine: Any, decide: Callable[[list], T]) -> T:
    if count() == 1:
        return decide([mine])
    link, _run.meetings = _run.link, _run.meetings + 1
    here = f'{_run.meetings}: {name}'
    if link.index:
        link.send({'at': here, 'value': mine})
        return _unpack(_received(link.receive()))
    values = [mine]
    for process, message in link.receive_all():
        message = _received(message)
        if message['at'] != here:
            raise Unlike(f'process {process} is at {message["at"]}, process 0 at {here}')
        values.append(message['value'])
    _run.alone += 1
    try:
        result = decide(values)
    except BaseException as error:
        link.send({'error': _packed(error)})
        raise
    finally:
        _run.alone -= 1
    link.send({'result': result})
    return result


def _received(message: dict | None) -> dict:
    """What was waited for; raises as the process that failed did, where it was given up."""
    if message is not None:
        return message
    if _run.link.failed == 143:
        raise Preempted
    if _run.link.failed == 130:
        raise KeyboardInterrupt
    raise Unlike('another process failed: its output says why')


def _packed(error: BaseException) -> dict:
    if isinstance(error, OSError):
        return {'type': 'OSError', 'args': [error.errno, error.strerror, error.filename and str(error.filename)]}
    kind = next((name for name, kind in _ERRORS.items() if isinstance(error, kind)), 'Unlike')
    text = str(error) if kind == 'UserError' else f'process 0 failed: {type(error).__name__}: {error}'
    return {'type': kind, 'args': [text]}


def _unpack(message: dict) -> Any:
    if 'error' not in message:
        return message['result']
    raise _ERRORS[message['error']['type']](*message['error']['args'])


_ERRORS = {
    'UserError': UserError,
    'Preempted': Preempted,
    'KeyboardInterrupt': KeyboardInterrupt,
    'OSError': OSError,
    'Unlike': Unlike,
}


def _on_sigterm(*_) -> None:
    """A second SIGTERM changes nothing: the process is ending, and the others hear of it."""
    if not (_run.stopping or _run.leaving):
        _run.stopping = True
        raise Preempted


def _hear(process: int, message: dict | None) -> None:
    """What came from a process besides meetings; None is its death. Called in threads of the link."""
    link = _run.link
    if message is None:
        if link.index == 0:
            link.send({'lost': process})
        _end(1, f'process {process} of {link.count} died or cannot be reached: {ENDED}')
    elif 'lost' in message:
        _end(1, f'process {message["lost"]} of {link.count} died or cannot be reached: {ENDED}')
    elif status := message.get('bye') or message.get('failed'):
        if link.index == 0:
            link.send({'failed': status, 'process': process})
        if status == 143:  # told to one, told to all
            signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)
        line = f'process {message["process"]} of {link.count} failed: its output says why'
        ender = threading.Timer(GRACE_S, _end, (status, line))
        ender.daemon = True
        ender.start()


def _end(status: int, line: str) -> None:
    """Ends the process from a thread, with a line, unless it is ending by itself."""
    with _run.ending:
        if _run.leaving:
            return
        _run.leaving = True
        os.write(2, f'\ncosample: error: {line}\n'.encode())
    _exit(status)


def _exit(status: int) -> None:
    """Without Python's way out, on which JAX waits for processes that do not come."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    if _run.link.index == 0:
        time.sleep(LAST_S)
    os._exit(status)
