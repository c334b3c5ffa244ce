"""Whether a solution's final answer is the gold answer: two engines, both verdicts kept. Programs are run instead
(:mod:`cosample_jax.grading.programs`).

The strict engine (:mod:`cosample_jax.grading.answers` for numbers, :mod:`cosample_jax.grading.expressions` for all that
mathematics writes) compares exact values and is the one to trust. What it can read it decides. math-verify, the
symbolic engine, reads more and accepts some wrong pairs (1/2^99 = 1/2^98), so it is asked only where the strict one
cannot tell, and about one in twenty of the mathematical answers that the strict one refuses: `cosample grade` lists
where the two disagree.
"""

import re
import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cosample_jax.grading import answers, expressions, programs, symbolic

# An expression of numbers: digits, operators, brackets, LaTeX commands, and a unit glued to a number. Prose
# is no answer: math-verify would read "10+John's age" as a product of ten variables.
_EXPRESSION = re.compile(r'(?:\\[a-zA-Z]+|[0-9][a-z]{1,2}\b|[0-9.,+\-*/^×÷·!%°$(){}\[\]\s])+')
# Something to compute; without it the strict engine has already read all there is.
_OPERATION = re.compile(r'[0-9]\s*[+\-*/^×÷·!a-z({\\]|[(\\{]')


AUDITED = 20
"""The symbolic engine is asked about one in so many of the answers that the strict one refuses."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The grading of one solution.

    Attributes:
        correct: what the task's policy makes of both engines.
        answer: the extracted answer in normal form, "" when there was none.
        marker: the name of the marker that announced it, "" when there was none (never correct then).
        strict: the strict engine's verdict.
        symbolic: "yes" | "no" | "" (not asked) | "ungraded: reason". "yes" makes an answer correct only where the
            strict engine could not tell.
    """

    correct: bool
    answer: str
    marker: str
    strict: bool
    symbolic: str


class Task(Protocol):
    """What is to be known of a task (:mod:`cosample_jax.tasks`) to grade its solutions."""

    MARKERS: Sequence[str]
    ANSWERS: str


Pairs = Mapping[Hashable, tuple[str, str]]


def grade(task: Task, gold: str, text: str) -> Verdict:
    """Grades one solution `text` against its problem's `gold` answer."""
    return grade_many(task, {0: (gold, text)})[0]


def grade_many(task: Task, pairs: Pairs) -> dict[Hashable, Verdict]:
    """Grades `{key: (gold, text)}`; the result has exactly the keys of `pairs`, in their order."""
    return ENGINES[task.ANSWERS](task.MARKERS, pairs)


def readiness(task: Task) -> str:
    """What grades the answers of `task` on this machine, in words.

    Raises:
        UserError: nothing can; better known before anything is sampled.
    """
    if task.ANSWERS == 'program':
        return f'programs run behind {programs.shared_pool().walls()}'
    return 'answers are compared'


def _numbers(markers: Sequence[str], pairs: Pairs) -> dict[Hashable, Verdict]:
    return _two_engines(markers, pairs, _compare_numbers, answers.normal_form)


def _mathematics(markers: Sequence[str], pairs: Pairs) -> dict[Hashable, Verdict]:
    return _two_engines(markers, pairs, expressions.compare, expressions.normal_form, _is_audited)


def _two_engines(
    markers: Sequence[str],
    pairs: Pairs,
    compare: Callable[[str, str], bool | None],
    normal_form: Callable[[str], str],
    is_audited: Callable[[tuple[str, str]], bool] = lambda side: False,
) -> dict[Hashable, Verdict]:
    """The strict engine first; the symbolic one, all at once, for what it cannot tell."""
    extracted = {key: answers.extract(text, markers) for key, (_, text) in pairs.items()}
    sides = {key: (gold, extracted[key][0]) for key, (gold, _) in pairs.items()}
    strict = {side: _guarded(compare, side) for side in dict.fromkeys(sides.values())}
    asked = [side for side, verdict in strict.items() if verdict is None or (verdict is False and is_audited(side))]
    told = symbolic.shared_pool().verdicts(asked) if asked else {}
    verdicts = {}
    for key, (answer, marker) in extracted.items():
        side = sides[key]
        if isinstance(strict[side], str):
            verdicts[key] = Verdict(False, answer, marker, False, strict[side])
            continue
        correct = strict[side] or (strict[side] is None and told[side] == 'yes')
        verdicts[key] = Verdict(correct, normal_form(answer), marker, strict[side] is True, told.get(side, ''))
    return verdicts


def _guarded(compare: Callable[[str, str], bool | None], side: tuple[str, str]) -> bool | None | str:
    """As `compare` says; a fault of its own is a recorded reason, and stops no run over a million rows."""
    try:
        return compare(*side)
    except Exception as error:
        return f'ungraded: {type(error).__name__}'


def _is_audited(side: tuple[str, str]) -> bool:
    """Whether the symbolic engine is heard on a pair that was refused as mathematics: it changes no verdict."""
    if all(answers.number(text) is not None for text in side) or not all(map(expressions.has_value, side)):
        return False
    return zlib.crc32('\0'.join(side).encode(errors='replace')) % AUDITED == 0


def _compare_numbers(gold: str, answer: str) -> bool | None:
    """By value where both are numbers; an expression of one (2^3, \\sqrt{16}, 12cm) is read as mathematics."""
    read = [answers.number(side) is not None for side in (gold, answer)]
    if all(read) or not all(
        is_number or (_EXPRESSION.fullmatch(side) and _OPERATION.search(side))
        for is_number, side in zip(read, (gold, answer), strict=True)
    ):
        return answers.equal(gold, answer)
    return answers.equal(gold, answer) or expressions.compare(gold, answer)


def _programs(_: Sequence[str], pairs: Pairs) -> dict[Hashable, Verdict]:
    """The gold answer is a program of tests; right is what passes them in a sandbox.

    There is one engine, so `strict` is `correct`. A program that hangs or crashes is wrong; `ungraded` is one that the
    sandbox could not run.
    """
    found = {key: programs.extract(text) for key, (_, text) in pairs.items()}
    jobs = {key: (found[key][0], tests) for key, (tests, _) in pairs.items() if found[key][1]}
    outcomes = programs.shared_pool().outcomes(jobs.values()) if jobs else {}
    verdicts = {}
    for key, (program, marker) in found.items():
        outcome = outcomes[jobs[key]] if marker else ''
        passed = outcome == 'passed'
        ungraded = outcome if outcome.startswith('ungraded') else ''
        verdicts[key] = Verdict(passed, programs.normal_form(program), marker, passed, ungraded)
    return verdicts


ENGINES = {'number': _numbers, 'math': _mathematics, 'program': _programs}
"""How each kind of answer is graded, by the name that a task has for it in ``ANSWERS``."""
