"""What becomes of hostile programs in the sandbox, and how many honest ones it runs a second.

    python -m benchmarks.sandbox

Prints a table (attack, verdict and why, seconds), then programs a second. `tests/grading/test_sandbox.py` asserts the
outcomes, and that files, processes and the network outside are as they were.
"""

import os
import re
import socket
import tempfile
import time
from pathlib import Path

from cosample_jax.grading import programs

TESTS = 'assert f(1) == 2'
_WRONG = 'def f(x):\n    return 0\n'
_RIGHT = 'def f(x):\n    return x + 1\n'
_LIBC = 'import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n'
_REFUSED = 'failed: PermissionError'
_KILLED = ('failed: used', 'failed: stopped after')  # by the CPU's clock or, on a busy machine, by the wall's
_EARLY = 'failed: ended before its tests did'

# name: (program, how its outcome begins: several when that depends on the Python). DIRECTORY has a file `kept`, PORT is
# listened to on the loopback, PARENT is the process that asked for the grade.
ATTACKS = {
    'infinite loop': ('while True: pass', _KILLED),
    'sleep for ever': ('import time\nwhile True: time.sleep(1000)', ('failed: stopped after',)),
    'loop deaf to every signal': (
        'import signal\nfor number in signal.valid_signals():\n    try: signal.signal(number, signal.SIG_IGN)\n'
        '    except (OSError, ValueError): pass\nwhile True: pass',
        _KILLED,
    ),
    'fork bomb': ('import os\nwhile True: os.fork()', (_REFUSED,)),
    'fork bomb that goes on trying': (
        'import os\nwhile True:\n    try: os.fork()\n    except OSError: pass',
        _KILLED,
    ),
    'daemon: fork, setsid, fork': (
        'import os\nif not os.fork():\n    os.setsid()\n    if not os.fork():\n        while True: pass',
        (_REFUSED,),
    ),
    'shell command': ('import os\nif os.system("sleep 1000"): raise PermissionError', (_REFUSED,)),
    'subprocess': ('import subprocess\nsubprocess.Popen(["sleep", "1000"])', (_REFUSED,)),
    'becoming another program': ('import os\nos.execv("/bin/sh", ["sh", "-c", "sleep 1000"])', (_REFUSED,)),
    'threads without end': (
        'import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(1000,)).start()',
        ("failed: RuntimeError: can't start new thread",),
    ),
    'huge allocation': ('kept = bytearray(10**12)', ('failed: MemoryError',)),
    'memory growing without end': ('kept = []\nwhile True: kept.append(bytearray(1 << 20))', ('failed: MemoryError',)),
    'endless recursion': ('def g(): return g()\ng()', ('failed: RecursionError',)),
    'recursion through the stack': (
        'import sys\nsys.setrecursionlimit(10**9)\nclass A:\n    def __repr__(self): return repr(self)\nrepr(A())',
        (*_KILLED, 'failed: died of SIGSEGV', 'failed: MemoryError', 'failed: RecursionError'),
    ),
    'output without end': ('while True: print("x" * 10**6)', _KILLED),
    'verdicts without end': ('import os\nwhile True: os.write(3, b"passed\\n" * 10**4)', ('failed: passed',)),
    'deleting a file': ('import os\nos.unlink("DIRECTORY/kept")', (_REFUSED,)),
    'deleting all files': (
        'import shutil\nshutil.rmtree("DIRECTORY")',
        (_REFUSED,),
    ),
    'renaming a file': ('import os\nos.rename("DIRECTORY/kept", "DIRECTORY/lost")', (_REFUSED,)),
    'emptying a file': ('import os\nos.truncate("DIRECTORY/kept", 0)', (_REFUSED,)),
    'opening a file to write': ('open("DIRECTORY/new", "w")', (_REFUSED,)),
    'filling the disk': (
        'import tempfile\nfile = tempfile.TemporaryFile()\nwhile True: file.write(bytes(1 << 20))',
        ('failed: FileNotFoundError', _REFUSED),  # no directory in which it could
    ),
    'filling memory with a file': ('import os\nos.memfd_create("x")', (_REFUSED,)),
    'reading a file': ('open("DIRECTORY/kept")', (_REFUSED,)),
    'listing a directory': ('import os\nos.listdir("DIRECTORY")', (_REFUSED,)),
    'reading its environment': ('import os\nos.environ["COSAMPLE_SECRET"]', ('failed: KeyError',)),
    "reading its parent's environment": ('open("/proc/PARENT/environ", "rb")', (_REFUSED,)),
    'reading what it was started with': ('open("/proc/self/environ", "rb")', (_REFUSED,)),
    'reading the next job': ('raise EOFError(open(0).readline() or "nothing there")', ('failed: EOFError: nothing',)),
    'connecting to a port': ('import socket\nsocket.socket().connect(("127.0.0.1", PORT))', (_REFUSED,)),
    'sending a datagram': (
        'import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", PORT))',
        (_REFUSED,),
    ),
    'killing its parent': ('import os\nos.kill(PARENT, 9)', (_REFUSED,)),
    'tracing its parent': (f'{_LIBC}if libc.ptrace(16, PARENT, 0, 0): raise PermissionError', (_REFUSED,)),
    'more memory by prlimit': (
        'import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))',
        ('failed: PermissionError', 'failed: ValueError'),
    ),
    'leaving its namespaces': (f'{_LIBC}if libc.unshare(0x10000000): raise PermissionError', (_REFUSED,)),
    'system call by number': (
        # openat of either architecture, and by the numbers of x32
        f'{_LIBC}'
        'for number in (257, 56, 0x40000000 + 257):\n'
        '    assert libc.syscall(number, -100, b"DIRECTORY/kept", 0) == -1 and ctypes.get_errno() == 1\n'
        'raise PermissionError',
        (_REFUSED,),
    ),
    'exit(0)': ('import sys\nsys.exit(0)', ('failed: SystemExit: 0',)),
    'exit(0) in the tests': ('import sys\ndef f(x): sys.exit(0)', ('failed: SystemExit: 0',)),
    '_exit(0)': ('import os\nos._exit(0)', (_EARLY,)),
    'closing the pipe of verdicts': (f'import os\nos.close(3)\n{_RIGHT}', (_EARLY,)),
    'printing the verdict': (f'print("passed")\n{_WRONG}', ('failed: AssertionError',)),
    'writing the verdict everywhere': (
        'import os\nfor fd in range(64):\n    try: os.write(fd, b\'"passed"\\n\')\n    except OSError: pass\n' + _WRONG,
        ('failed: "passed"',),
    ),
    'taking assertions away': (
        f'import builtins\nbuiltins.AssertionError = SystemExit\nAssertionError = None\n{_WRONG}',
        ('failed: AssertionError',),
    ),
    # By the rules of Python, which are the tests' own: see the docstring of grading/sandbox.py.
    'an object equal to everything': (
        'class Any:\n    def __eq__(self, other): return True\ndef f(x): return Any()',
        ('passed',),
    ),
}
# int 0x80: the calls of 32-bit x86, of which the filter knows no numbers.
if os.uname().machine == 'x86_64':
    ATTACKS['32-bit system call'] = (
        'import ctypes, mmap\n'
        'page = mmap.mmap(-1, 4096, prot=7)\n'
        'page.write(b"\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3")\n'
        'ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()',
        ('failed: died of SIGSYS',),
    )


def program(attack: str, directory: Path, port: int) -> str:
    """The source of an attack, aimed at what may be hit."""
    source, _ = ATTACKS[attack]
    aims = {'DIRECTORY': directory, 'PORT': port, 'PARENT': os.getpid()}
    for name, aim in aims.items():
        source = source.replace(name, str(aim))
    return source


def rate(pool: programs.Pool, count: int) -> float:
    """Honest programs a second, all different, half of them wrong."""
    jobs = [(f'def f(x):\n    return x + {i}\n', f'assert f(1) == {1 + i - i % 2}') for i in range(count)]
    pool.outcomes(jobs[:8])  # starts the sandboxes
    start = time.perf_counter()
    outcomes = pool.outcomes(jobs)
    seconds = time.perf_counter() - start
    assert sum(outcome == 'passed' for outcome in outcomes.values()) == (count + 1) // 2
    return count / seconds


def main() -> None:
    pool = programs.Pool()
    print(f'walls here: {pool.walls()}\n\n| attack | graded | why | seconds |\n|---|---|---|---|')
    with tempfile.TemporaryDirectory() as directory, socket.create_server(('127.0.0.1', 0)) as listener:
        Path(directory, 'kept').write_text('kept')
        for attack, (_, expected) in ATTACKS.items():
            source = program(attack, Path(directory), listener.getsockname()[1])
            start = time.perf_counter()
            (outcome,) = pool.outcomes([(source, TESTS)]).values()
            seconds = time.perf_counter() - start
            graded, _, why = outcome.splitlines()[0].partition(': ')
            why = re.split(r": '/| found in ", why)[0] + ('' if outcome.startswith(expected) else ' UNEXPECTED')
            print(f'| {attack} | {graded} | {why} | {seconds:.2f} |')
    pool.close()
    print()
    for workers in (1, os.cpu_count() or 1):
        pool = programs.Pool(workers)
        print(f'{rate(pool, 2_000):,.0f} programs a second with {workers} of them at a time')
        pool.close()


if __name__ == '__main__':
    main()
