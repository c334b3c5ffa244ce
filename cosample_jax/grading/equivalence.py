"""Whether a solution's final answer is the gold answer: two engines, both verdicts kept. Programs are run instead
(:mod:`cosample_jax.grading.programs`).

The strict engine (:func:`cosample_jax.grading.answers.equal`) compares exact values and is the one to
trust: it never accepts a wrong pair of numbers. math-verify, the symbolic engine, reads far more and
accepts some wrong pairs (1/2^99 = 1/2^98), so for tasks with numeric answers it is asked only where the
strict engine cannot read the answer as a number although it looks like an expression of one (`2^3`,
`\\sqrt{16}`, `12cm`).
"""

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cosample_jax.grading import answers, programs, symbolic

# An expression of numbers: digits, operators, brackets, LaTeX commands, and a unit glued to a number. Prose
# is no answer: math-verify would read "10+John's age" as a product of ten variables.
_EXPRESSION = re.compile(r'(?:\\[a-zA-Z]+|[0-9][a-z]{1,2}\b|[0-9.,+\-*/^×÷·!%°$(){}\[\]\s])+')
# Something to compute; without it the strict engine has already read all there is.
_OPERATION = re.compile(r'[0-9]\s*[+\-*/^×÷·!a-z({\\]|[(\\{]')


@dataclass(frozen=True, slots=True)
class Verdict:
    """The grading of one solution.

    Attributes:
        correct: what the task's policy makes of both engines.
        answer: the extracted answer in normal form, "" when there was none.
        marker: the name of the marker that announced it, "" when there was none (never correct then).
        strict: the strict engine's verdict.
        symbolic: "yes" | "no" | "" (not asked) | "ungraded: reason".
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
    return f'{task.ANSWERS}s are compared'


def _numbers(markers: Sequence[str], pairs: Pairs) -> dict[Hashable, Verdict]:
    extracted = {key: answers.extract(text, markers) for key, (_, text) in pairs.items()}
    sides = {key: (gold, extracted[key][0]) for key, (gold, _) in pairs.items()}
    strict = {key: answers.equal(*side) for key, side in sides.items()}
    unsure = [side for key, side in sides.items() if not strict[key] and _needs_symbolic(*side)]
    symbolic_verdicts = symbolic.shared_pool().verdicts(unsure) if unsure else {}
    verdicts = {}
    for key, (answer, marker) in extracted.items():
        verdict = '' if strict[key] else symbolic_verdicts.get(sides[key], '')
        correct = strict[key] or verdict == 'yes'
        verdicts[key] = Verdict(correct, answers.normal_form(answer), marker, strict[key], verdict)
    return verdicts


def _needs_symbolic(gold: str, answer: str) -> bool:
    read = [answers.number(side) is not None for side in (gold, answer)]
    return not all(read) and all(
        is_number or (_EXPRESSION.fullmatch(side) and _OPERATION.search(side))
        for is_number, side in zip(read, (gold, answer), strict=True)
    )


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


ENGINES = {'number': _numbers, 'program': _programs}
"""How each kind of answer is graded, by the name that a task has for it in ``ANSWERS``."""
