"""Runs programs that nobody has read, one after the other: a process of its own, with the standard library alone.

Run as `python sandbox.py CPU_SECONDS SECONDS MEGABYTES`; :mod:`cosample_jax.grading.programs` does. A line of JSON in,
[program, tests], both Python source; a line out: "passed", "failed: reason" or "ungraded: reason", the last when the
program was not, or could not be, run. The first line out is "ready: the walls there are" or "refused: reason".

A program runs in a process forked for it, confined before the first line of the program is read by

* a seccomp filter that lets through the few system calls that computing takes, by number, and refuses all others: to
  open, make, change or delete any file, to have a socket, to start a process or a thread, to run another program, to
  signal or trace any process. What a program may import is imported before (`MODULES`): it opens nothing at all;
* limits of CPU time and address space, and a clock outside that kills it; no core dump, no file may grow;
* no environment, no open file but /dev/null and the pipe for its verdict; a session of its own.

That is one wall, the same wherever there is Linux: no root, no namespace and no container needed. Where the kernel
grants them, Landlock (no file) and namespaces (no network, no privileges) stand behind it as a second. What a program
is refused is tried out first, on this machine: where the filter does not hold, nothing is run.

Passing is said by a number that the program is not told, once its tests have run: to print, to exit early or to write
into every file says nothing. The tests run in the program's own process, as they do in HumanEval, since they handle its
objects. So what Python lets a program do it may do: an object equal to everything passes, and a program written against
this very file could find the number among the caller's variables. It would have cheated in a test, and still be caged.
"""

import __future__

import ctypes
import gc
import importlib
import json
import os
import platform
import random
import resource
import select
import signal
import struct
import sys
import time
import types

# What computing takes. The numbers are the kernel's, for ever: linux/arch/x86/entry/syscalls/syscall_64.tbl and
# include/uapi/asm-generic/unistd.h.
CALLS = {
    # name: (x86-64, arm64)
    'read': (0, 63),
    'write': (1, 64),
    'close': (3, 57),
    'fstat': (5, 80),
    'lseek': (8, 62),
    'mmap': (9, 222),
    'mprotect': (10, 226),
    'munmap': (11, 215),
    'brk': (12, 214),
    'mremap': (25, 216),
    'madvise': (28, 233),
    'rt_sigaction': (13, 134),
    'rt_sigprocmask': (14, 135),
    'rt_sigreturn': (15, 139),
    'restart_syscall': (219, 128),
    'sched_yield': (24, 124),
    'futex': (202, 98),
    'nanosleep': (35, 101),
    'clock_nanosleep': (230, 115),
    'clock_gettime': (228, 113),
    'clock_getres': (229, 114),
    'gettimeofday': (96, 169),
    'times': (100, 153),
    'getrusage': (98, 165),
    'getrandom': (318, 278),
    'getpid': (39, 172),
    'gettid': (186, 178),
    'exit': (60, 93),
    'exit_group': (231, 94),
}
# platform.machine() -> (AUDIT_ARCH of linux/audit.h, column of CALLS)
MACHINES = {'x86_64': (0xC000003E, 0), 'aarch64': (0xC00000B7, 1)}

MODULES = """
abc argparse array ast base64 binascii bisect calendar cmath codecs collections collections.abc colorsys
concurrent.futures contextlib copy csv ctypes dataclasses datetime decimal difflib encodings.ascii encodings.idna
encodings.latin_1 encodings.rot_13 encodings.utf_16 encodings.utf_32 enum fractions functools gc getpass glob
graphlib hashlib heapq hmac html inspect io itertools json keyword linecache locale logging math mmap
multiprocessing numbers operator os pathlib pickle platform pprint queue random re resource secrets select
shutil signal socket stat statistics string stringprep struct subprocess sys tempfile textwrap threading time
timeit tokenize traceback types typing unicodedata unittest urllib.parse uuid warnings weakref zlib zoneinfo
_strptime
"""
"""What a program can import besides what these import: the standard library, as far as it has use for a program."""

_HONEST = ('def increment(x):\n    return x + 1', 'assert increment(1) == 2')
# Each must be refused, or nothing is run here.
_PROBE = """
import ctypes, os, socket, signal, threading
def refused(attempt, *args):
    try:
        attempt(*args)
    except (PermissionError, RuntimeError):
        return True
    return False
def closed():
    return {
        'read a file': refused(open, '/proc/self/environ'),
        'list a directory': refused(os.listdir, '/'),
        'write a file': refused(open, '/tmp/cosample_probe', 'w'),
        'delete a file': refused(os.unlink, '/tmp/cosample_probe'),
        'have a socket': refused(socket.socket),
        'start a process': refused(os.fork),
        'start a thread': refused(threading.Thread(target=print).start),
        'run a program': refused(os.execv, '/bin/true', ['true']),
        'signal a process': refused(os.kill, os.getpid(), 0),
        'have an environment': not os.environ,
    }
"""
_PROBE_TESTS = """
for name, is_closed in closed().items():
    if not is_closed:
        raise RuntimeError('a program can ' + name)
"""

_libc = ctypes.CDLL(None, use_errno=True)
_REPORT_FD = 3
_NAMED = 200  # characters of a reason


class Refused(Exception):
    """This machine cannot hold a program."""


class Sandbox:
    """Forks for each program. Times in seconds; `cpu_seconds` is a whole number, as the kernel counts it."""

    def __init__(self, cpu_seconds: int, seconds: float, megabytes: int):
        self._cpu_seconds, self._seconds = cpu_seconds, seconds
        size = megabytes << 20
        self._limits = {
            resource.RLIMIT_CPU: cpu_seconds,
            resource.RLIMIT_AS: size,
            resource.RLIMIT_FSIZE: 0,
            resource.RLIMIT_NPROC: 0,  # binds no root: the filter refuses forks
            resource.RLIMIT_CORE: 0,
        }
        self._filter = _filter()

    def run(self, program: str, tests: str) -> str:
        """'passed', 'failed: reason' or 'ungraded: reason'."""
        try:
            checks = compile(tests, '<tests>', 'exec')
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            return f'ungraded: the tests are not Python ({error})'[:_NAMED]
        number = os.urandom(16)
        ours, theirs = os.pipe()
        above = os.getpid()
        child = os.fork()
        if not child:
            try:
                self._confine(theirs, above)
                reason = _run(program, checks)
                os.write(_REPORT_FD, number if reason is None else reason)
            except BaseException as error:  # nothing leaves this branch
                os.write(_REPORT_FD, _told(error))
            finally:
                os._exit(0)
        os.close(theirs)
        readable, _, _ = select.select([ours], [], [], self._seconds)
        said = os.read(ours, _NAMED) if readable else None
        os.close(ours)
        # It has said what there is to say, or is late. It is alone, since it cannot fork; one that was dying keeps its
        # status.
        os.kill(child, signal.SIGKILL)
        _, status, usage = os.wait4(child, 0)
        if said == number:
            return 'passed'
        if said:
            return f'failed: {said.decode(errors="replace")}'
        if said is None:
            return f'failed: stopped after {self._seconds:g} s'
        if usage.ru_utime + usage.ru_stime > 0.9 * self._cpu_seconds:  # the kernel's two clocks differ a little
            return f'failed: used {self._cpu_seconds} s of CPU time'
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) != signal.SIGKILL:
            return f'failed: died of {signal.Signals(os.WTERMSIG(status)).name}'
        return 'failed: ended before its tests did'

    def _confine(self, report: int, above: int) -> None:
        os.dup2(report, _REPORT_FD)
        os.closerange(_REPORT_FD + 1, 64)
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != above:
            os._exit(0)
        _prctl(_PR_SET_DUMPABLE, 0)  # a core dump through a pipe heeds no limit
        for limit, value in self._limits.items():
            hard = resource.getrlimit(limit)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(limit, (value, value))
        _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(self._filter))


def _run(program: str, checks: types.CodeType) -> bytes | None:
    """None when the tests ran to their end, or why they did not."""
    module = types.ModuleType('solution')
    sys.modules.update({'solution': module, '__main__': module})  # dataclasses look their module up
    random.seed(0)  # the same verdict each time
    try:
        # Annotations unevaluated: a solution may use what its prompt imports, List for one.
        code = compile(program, '<solution>', 'exec', __future__.annotations.compiler_flag, dont_inherit=True)
        exec(code, module.__dict__)
        exec(checks, module.__dict__)
    except BaseException as error:  # SystemExit too: whoever leaves has not passed
        return _told(error)
    return None


def _told(error: BaseException) -> bytes:
    message = str(error)
    return f'{type(error).__name__}{": " * bool(message)}{message}'.encode(errors='replace')[:_NAMED]


_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_SECCOMP_MODE_FILTER = 2
_SECCOMP_KILL_PROCESS, _SECCOMP_ERRNO_EPERM, _SECCOMP_ALLOW = 0x80000000, 0x00050001, 0x7FFF0000
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4  # in struct seccomp_data


class _Program(ctypes.Structure):
    """struct sock_fprog; keeps its instructions."""

    _fields_ = (('length', ctypes.c_ushort), ('instructions', ctypes.c_char_p))


def _filter() -> _Program:
    """A BPF program: other architectures' calls kill, the allowed numbers pass, the rest is refused with EPERM."""
    architecture, column = MACHINES[platform.machine()]
    numbers = [call[column] for call in CALLS.values()]
    instructions = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_JUMP_IF_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _SECCOMP_KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER_AT),
        *((_JUMP_IF_EQUAL, len(numbers) - i, 0, number) for i, number in enumerate(numbers)),
        (_RETURN, 0, 0, _SECCOMP_ERRNO_EPERM),
        (_RETURN, 0, 0, _SECCOMP_ALLOW),
    ]
    return _Program(len(instructions), b''.join(struct.pack('HBBI', *each) for each in instructions))


def _prctl(option: int, *arguments: int) -> None:
    padded = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    if _libc.prctl(option, *padded):
        code = ctypes.get_errno()
        raise OSError(code, f'prctl {option}: {os.strerror(code)}')


def _second_walls() -> list[str]:
    """Of this process and all that it forks, as far as the kernel grants them: the names of those there are."""
    walls = []
    new_user, new_network, new_ipc = 0x10000000, 0x40000000, 0x08000000
    if not _libc.unshare(new_user | new_network | new_ipc):
        walls.append('namespaces')
    # Every kind of access that the first Landlock knew is handled, and no rule allows any.
    rules = ctypes.c_uint64((1 << 13) - 1)
    landlock_create_ruleset, landlock_restrict_self = 444, 446
    fd = _libc.syscall(landlock_create_ruleset, ctypes.byref(rules), 8, 0)
    if fd >= 0:
        if not _libc.syscall(landlock_restrict_self, fd, 0):
            walls.append('Landlock')
        os.close(fd)
    return walls


def _prepare(sandbox: Sandbox) -> list[str]:
    """Makes ready to fork and tries the walls out: their names. Raises Refused when a program would get through."""
    for name in MODULES.split():
        importlib.import_module(name)
    time.localtime()  # reads the time zone
    os.environ.clear()
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    # The filter alone must hold: on the next machine it is alone.
    for program, tests in (_HONEST, (_PROBE, _PROBE_TESTS)):
        outcome = sandbox.run(program, tests)
        if outcome != 'passed':
            raise Refused(f'its trial {outcome}')
    walls = ['seccomp', *_second_walls()]
    gc.collect()
    gc.freeze()  # what is never collected need not be copied
    return walls


def main(cpu_seconds: int, seconds: float, megabytes: int) -> None:
    jobs, replies = os.fdopen(os.dup(0), 'rb'), os.fdopen(os.dup(1), 'w')
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    os.close(nothing)

    def say(line: str) -> None:
        replies.write(json.dumps(line) + '\n')
        replies.flush()

    if sys.platform != 'linux' or platform.machine() not in MACHINES:
        return say(f'refused: no walls are known for {platform.system()} on {platform.machine()}')
    try:
        sandbox = Sandbox(cpu_seconds, seconds, megabytes)
        walls = _prepare(sandbox)
    except (Refused, OSError) as error:
        return say(f'refused: {error}')
    say(f'ready: {", ".join(walls)}')
    for line in jobs:
        say(sandbox.run(*json.loads(line)))


if __name__ == '__main__':
    main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
