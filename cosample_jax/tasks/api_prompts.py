"""How models behind an API are asked: as text or as turns, since their tokens are theirs. No JAX here.

The format is that of :mod:`.prompts`; what is learned from their samples is taught by the student's own template.
"""

from collections.abc import Sequence

from cosample_jax.records import Problem
from cosample_jax.tasks.prompts import STOP_STRINGS, before_stop, few_shot

Prompt = str | tuple[tuple[str, str], ...]  # a page to continue, or turns of ('user' | 'model', what is said)


class ApiPage:
    """A page of questions and answers, for a server that completes text."""

    stop_ids = ()

    def __init__(self, stop_strings: Sequence[str] = STOP_STRINGS):
        self.stop_strings = tuple(stop_strings)

    def prompt(self, question: str, shots: Sequence[Problem] = ()) -> str:
        return few_shot(shots, question, self.stop_strings)

    def spelled(self, question: str, shots: Sequence[Problem] = ()) -> str:
        return self.prompt(question, shots)

    def text(self, said: str) -> str:
        """What a sample says: some servers return the stop, too."""
        return before_stop(said, self.stop_strings)


class ApiTurns:
    """A conversation; shots are earlier turns. A model ends its turn itself."""

    stop_ids = stop_strings = ()

    def prompt(self, question: str, shots: Sequence[Problem] = ()) -> tuple[tuple[str, str], ...]:
        told = [turn for s in shots for turn in (('user', s.question.strip()), ('model', s.solution.strip()))]
        return (*told, ('user', question.strip()))

    def spelled(self, question: str, shots: Sequence[Problem] = ()) -> str:
        """The same prompt to read."""
        return ''.join(f'<{role}>\n{said}\n' for role, said in self.prompt(question, shots))

    def text(self, said: str) -> str:
        return said


ApiTemplate = ApiPage | ApiTurns


def template(chat: bool, stops: Sequence[str] = STOP_STRINGS) -> ApiTemplate:
    """How a model behind an API is asked; `chat` is its setting in `config.models`, `stops` are its task's."""
    return ApiTurns() if chat else ApiPage(stops)
