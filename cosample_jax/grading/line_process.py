"""A process that answers each line of JSON with a line of JSON, may die of a question, and can be killed."""

import json
import subprocess
from collections.abc import Sequence


class LineProcess:
    """Ready for a selector: it is readable when an answer has come, or when it has died."""

    def __init__(self, command: Sequence[str], **options):
        """`options` are those of subprocess.Popen."""
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **options
        )

    def fileno(self) -> int:
        return self._process.stdout.fileno()

    def ask(self, question) -> None:
        try:
            self._process.stdin.write(json.dumps(question).encode() + b'\n')
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has died: `read` meets the end of its pipe and says so

    def read(self) -> str | None:
        """Waits for its next line; None when the process has died."""
        line = self._process.stdout.readline()
        return json.loads(line) if line.endswith(b'\n') else None

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()  # reaps it and closes its pipes
