"""The symbolic engine's process: math-verify behind a pipe, one JSON line in, one JSON line out.

Run as `python worker.py SECONDS MEGABYTES`. It reads untrusted text with a library that may hang or allocate
without end, so it limits itself, and :mod:`cosample_jax.grading.symbolic` kills it when it is late.
"""

import contextlib
import json
import logging
import resource
import sys

READY = 'ready'


def main(seconds: float, megabytes: int) -> None:
    from math_verify import LatexExtractionConfig, parse, verify

    # Only the LaTeX reading: the other one goes through sympy's parse_expr, which evaluates Python. The
    # library's own time limits rest on signals; the parent's kill is the one that always works.
    def read(text: str) -> list:
        stripped = text.replace('$', ' ').strip()
        return parse(f'${stripped}$', [LatexExtractionConfig()], parsing_timeout=None, raise_on_error=True)

    def verdict(gold: str, answer: str) -> str:
        wanted = read(gold)
        if verify(wanted, read(answer), timeout_seconds=None, raise_on_error=True):
            return 'yes'
        # What could not be read comes back as text alone.
        readable = any(not isinstance(reading, str) for reading in wanted)
        return 'no' if readable else 'ungraded: the gold answer cannot be read'

    answers, sys.stdout = sys.stdout, sys.stderr  # whatever the library prints is not an answer
    logging.disable(logging.CRITICAL)
    with contextlib.suppress(ValueError, OSError):  # macOS refuses a limit on address space
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    print(json.dumps(READY), file=answers, flush=True)
    for line in sys.stdin:
        # A worker whose parent was killed while it hung must not burn a core for ever.
        used = resource.getrusage(resource.RUSAGE_SELF)
        resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime + 10 * seconds + 1), hard))
        try:
            reply = verdict(*json.loads(line))
        except Exception as error:  # the library may raise anything on hostile text: a recorded reason
            reply = f'ungraded: {type(error).__name__}'
        print(json.dumps(reply), file=answers, flush=True)


if __name__ == '__main__':
    main(float(sys.argv[1]), int(sys.argv[2]))
