"""What is asked of an API and what it says, whoever provides it. No JAX here."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from cosample_jax.tasks.api_prompts import Prompt

# How a choice ended.
STOP, LENGTH, BLOCKED = 'stop', 'length', 'blocked'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How every request of a pool is asked.

    Attributes:
        temperature: 0 is greedy.
        top_k: 0 is off.
        top_p: 1 is off.
        max_new_tokens: Of a choice, its thoughts not counted.
        stop_strings: End a choice.
        thinking: Tokens (Gemini) or an effort (OpenAI); '' is the model's own.
        timeout: Seconds for an answer.
    """

    temperature: float
    top_k: int
    top_p: float
    max_new_tokens: int
    stop_strings: Sequence[str]
    thinking: str
    timeout: float

    @property
    def most_written(self) -> int:
        """Tokens that a choice can cost."""
        return self.max_new_tokens + (int(self.thinking) if self.thinking.isdigit() else 0)


class Ask(NamedTuple):
    """One request: samples `indices` of a problem. `seed` has 63 bits."""

    id: str
    problem_id: str
    indices: tuple[int, ...]
    prompt: Prompt
    seed: int


class Choice(NamedTuple):
    """A text and how it ended; 'blocked' by a filter, it is empty or cut. `place` is that of its index in the `Ask`."""

    place: int
    text: str
    finish: str


class Answer(NamedTuple):
    """The choices, perhaps fewer than were asked for, and the tokens of all together: those `read`, of which a cache
    had `cached`, and those `written`, thoughts included. A `blocked` prompt is not answered, however often it is asked.
    """

    choices: list[Choice]
    read: int
    cached: int
    written: int
    blocked: bool = False


class ApiError(Exception):
    """A request that was not answered, in one line.

    Attributes:
        again: Whether asking again may help; otherwise nothing will until the user does something.
        charged: Whether it may have been charged for.
        wait: Seconds that the server wants to be left alone; None when it does not say.
        busy: The server has too much to do: all requests had better wait.
    """

    def __init__(
        self, message: str, *, again: bool, charged: bool = False, wait: float | None = None, busy: bool = False
    ):
        super().__init__(' '.join(str(message).split())[:400])
        self.again, self.charged, self.wait, self.busy = again, charged, wait, busy


class JobState(NamedTuple):
    """`ended`: it will answer nothing more; `early`: with requests left over, which are not charged for. `answered` so
    far, as far as is known. `fault` says why it failed.
    """

    ended: bool
    answered: int
    early: bool = False
    fault: str = ''


class Client(Protocol):
    """Raises ApiError, and nothing else for what a network and a server can do. Threads may share one."""

    def check(self) -> None:
        """Whether the key is good and the model is there; costs nothing."""
        ...

    def ask(self, ask: Ask) -> Answer: ...

    def submit(self, asks: Sequence[Ask], label: str) -> str:
        """The name of the job that has this label, made when there is none."""
        ...

    def state(self, job: str) -> JobState: ...

    def results(self, job: str) -> Iterator[tuple[str, Answer | ApiError]]:
        """What an ended job says, by the id of the request, in any order; not all need be there."""
        ...

    def cancel(self, job: str) -> None: ...
