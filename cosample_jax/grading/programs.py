"""Programs as answers: found in what a model wrote, and right when the problem's tests pass in a sandbox.

A program is never run in this process, nor parsed: :mod:`cosample_jax.grading.sandbox` is handed its text.
"""

import atexit
import functools
import hashlib
import os
import re
import selectors
import sys
import textwrap
from collections.abc import Iterable

from cosample_jax.errors import UserError
from cosample_jax.grading import sandbox as sandbox_process
from cosample_jax.grading.line_process import LineProcess

CPU_SECONDS = 3
SECONDS = 10.0  # of wall clock: a program that sleeps uses no CPU time
MEGABYTES = 512
MAX_WORKERS = 16
_PATIENCE = 60.0  # seconds beyond SECONDS that a sandbox may take on a busy machine

_MAX_NORMAL_CHARS = 1_000
# A fence may stay open: a page stops where a program ends, and a truncated one fails its tests.
_FENCED = re.compile(r'^[ \t]*```[^\n`]*\n(?P<program>.*?)(?:^[ \t]*```|\Z)', re.MULTILINE | re.DOTALL)
_DEFINES = re.compile(r'^[ \t]*(?:async def|def|class)\b', re.MULTILINE)
_BEGINS = re.compile(r'^(?:(?:async def|def|class) \w|import \w|from [\w.]+ import |@\w)', re.MULTILINE)

Job = tuple[str, str]  # (program, tests)


def extract(text: str) -> tuple[str, str]:
    """The program in `text` and what announced it: '```', 'def' (it stands there bare) or '' when there is none.

    Of several fenced blocks the last that defines something is the program: examples of its use come behind it.
    Without a fence the program runs from the first line that begins one to the end.
    """
    blocks = [match['program'] for match in _FENCED.finditer(text)]
    if blocks:
        defining = [block for block in blocks if _DEFINES.search(block)]
        return textwrap.dedent((defining or blocks)[-1]).strip('\n'), '```'
    text = text.strip()
    begins = _BEGINS.search(text)
    if begins and _DEFINES.search(text, begins.start()):
        return text[begins.start() :], 'def'
    return '', ''


def normal_form(program: str) -> str:
    """One spelling for votes: without blank lines, comment lines and trailing space; the end of a long one as a hash.

    Two programs that do the same differently are two answers: only their own tests could tell.
    """
    lines = (line.rstrip() for line in program.split('\n'))
    text = '\n'.join(line for line in lines if line and not line.lstrip().startswith('#'))
    if len(text) <= _MAX_NORMAL_CHARS:
        return text
    digest = hashlib.sha256(text.encode(errors='replace')).hexdigest()[:16]
    return f'{text[:_MAX_NORMAL_CHARS]}\n# and more: {digest}'


class _Sandbox(LineProcess):
    """One sandbox process. UserError when this machine has no walls for it."""

    def __init__(self, cpu_seconds: int, seconds: float, megabytes: int):
        limits = map(str, (cpu_seconds, seconds, megabytes))
        # As a file with the standard library alone (-S). Nothing of the environment goes in but what Python may need to
        # start; the order of sets is fixed, and with it verdicts.
        kept = {name: os.environ[name] for name in ('LD_LIBRARY_PATH',) if name in os.environ}
        super().__init__(
            [sys.executable, '-S', '-P', '-B', '-Wignore', sandbox_process.__file__, *limits],
            env=kept | {'PYTHONHASHSEED': '0'},
            start_new_session=True,
        )
        self.said = self.read()
        if not (self.said or '').startswith('ready'):
            self.kill()
            raise UserError(
                f'programs cannot be run safely here ({self.said or "the sandbox does not start"}): grade them on '
                'Linux (x86-64 or arm64) where seccomp filters are allowed, as they are in Docker by default'
            )


class Pool:
    """At most `workers` sandboxes, started when first needed, replaced when they die."""

    def __init__(
        self,
        workers: int = min(os.cpu_count() or 1, MAX_WORKERS),
        cpu_seconds: int = CPU_SECONDS,
        seconds: float = SECONDS,
        megabytes: int = MEGABYTES,
    ):
        self._workers = workers
        self._limits = cpu_seconds, seconds, megabytes
        self._patience = seconds + _PATIENCE
        self._idle: list[_Sandbox] = []

    def outcomes(self, jobs: Iterable[Job]) -> dict[Job, str]:
        """'passed', 'failed: reason' or 'ungraded: reason' for every (program, tests); each runs once.

        What a program does is never an exception, nor a lost job.

        Raises:
            UserError: this machine cannot hold a program; nothing was run.
        """
        results: dict[Job, str] = {}
        waiting = list(dict.fromkeys(jobs))
        busy: dict[_Sandbox, Job] = {}
        try:
            with selectors.DefaultSelector() as selector:
                while waiting or busy:
                    while waiting and len(busy) < self._workers:
                        sandbox = self._idle.pop() if self._idle else _Sandbox(*self._limits)
                        busy[sandbox] = waiting.pop()
                        sandbox.ask(busy[sandbox])
                        selector.register(sandbox, selectors.EVENT_READ)
                    answered = [key.fileobj for key, _ in selector.select(self._patience)]
                    # A sandbox kills what is late itself: nobody answering means that they hang, all of them.
                    for sandbox in answered or list(busy):
                        selector.unregister(sandbox)
                        reply = sandbox.read() if answered else None
                        results[busy.pop(sandbox)] = reply or 'ungraded: the sandbox died'
                        if reply:
                            self._idle.append(sandbox)
                        else:
                            sandbox.kill()
        finally:
            for sandbox in busy:  # interrupted: nobody reads their answers any more
                sandbox.kill()
        return results

    def walls(self) -> str:
        """What holds a program on this machine, by name. Raises UserError when nothing does."""
        if not self._idle:
            self._idle.append(_Sandbox(*self._limits))
        return self._idle[0].said.removeprefix('ready: ')

    def close(self) -> None:
        while self._idle:
            self._idle.pop().kill()


@functools.cache
def shared_pool() -> Pool:
    """The process-wide pool, closed at exit."""
    pool = Pool()
    atexit.register(pool.close)
    return pool
