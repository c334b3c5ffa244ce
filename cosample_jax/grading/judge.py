"""Judging the reasoning of kept solutions: one protocol for every judge, and the words of those that are models.

Judges are the exact step checker of a task, the calculator, models, and people; the last two are asked elsewhere
(:mod:`cosample_jax.judges`, `cosample judge --export`). Whoever judges says VALID, WRONG, UNCHECKED or UNPARSABLE
(:class:`cosample_jax.records.Judgment`) and why. No JAX here.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Protocol

from cosample_jax import hosts
from cosample_jax.errors import UserError
from cosample_jax.grading import calculator
from cosample_jax.grading import pool as pool_lib
from cosample_jax.records import UNPARSABLE, VALID, VERDICTS, WRONG, Judgment, Problem, Sample, key

STEPS, CALCULATOR = 'steps', 'calculator'

Key = tuple  # (purpose, problem id, model, sample index)
Items = Mapping[Key, tuple[Problem, str]]  # the solutions to judge
Said = dict[Key, tuple[str, str]]  # (verdict, reason); '' for what is valid


class Judge(Protocol):
    """`samples` kept solutions of each pool are judged, 0 = all. Where there are several processes, one asks it, or all
    together when it `needs_all`: a model that lies on the devices of all.
    """

    name: str
    samples: int
    needs_all: bool

    def judge(self, items: Items) -> Said:
        """What it says of each item."""
        ...


class Program:
    """A judge that costs nothing, so that it judges everything."""

    samples, needs_all = 0, False

    def __init__(self, name: str, check: Callable[[Problem, str], tuple[str, str]]):
        self.name = name
        self._check = check

    def judge(self, items: Items) -> Said:
        return {key: self._check(problem, text) for key, (problem, text) in items.items()}


def steps(task: ModuleType) -> Program:
    """The task's own checker."""

    def check(problem: Problem, text: str) -> tuple[str, str]:
        valid, reason = task.check_steps(problem, text)
        return VALID if valid else WRONG, reason

    return Program(STEPS, check)


def calculating() -> Program:
    """The calculator."""
    return Program(CALCULATOR, lambda problem, text: calculator.check(text))


def names(config, task: ModuleType) -> tuple[str, ...]:
    """Who judges in a run, the one whose verdicts are the false-positive rate first. Nobody judges programs unless the
    configuration names somebody: they show no reasoning, and their tests are no final answer.

    Raises:
        UserError: 'steps' for a task that has no step checker.
    """
    has_steps = hasattr(task, 'check_steps')
    if STEPS in config.judge.by and not has_steps:
        raise UserError(f"config.judge.by has 'steps', and {config.task.name} has no step checker: take 'calculator'")
    default = STEPS if has_steps else CALCULATOR if task.ANSWERS != 'program' else None
    return tuple(config.judge.by) or ((default,) if default else ())


def selected(samples: Iterable[Sample], problems: Mapping[str, Problem], count: int, seed: int) -> list[Sample]:
    """`count` of the samples (0 = all), each level with its share of them, drawn by `seed`.

    Within a level samples are in the order of a hash, and the levels are merged evenly: fewer are a prefix of more.
    """
    by_level: dict[int, list[tuple[str, Sample]]] = {}
    for sample in samples:
        drawn = hashlib.blake2b(repr((seed, *key(sample))).encode(), digest_size=8).hexdigest()
        level = problems[sample.problem_id].level if sample.problem_id in problems else 0
        by_level.setdefault(level, []).append((drawn, sample))
    placed = []
    for level, members in by_level.items():
        members.sort(key=lambda member: member[0])
        placed += [((i + 0.5) / len(members), level, sample) for i, (_, sample) in enumerate(members)]
    placed.sort(key=lambda each: each[:2])
    return [sample for _, _, sample in placed[: count or None]]


def kept(workdir, purpose: str, model: str) -> list[Sample]:
    """The samples of a graded pool whose final answer is right."""
    correct = {key(grade) for grade in workdir.grades(purpose, model).read() if grade.correct}
    return [sample for sample in workdir.pool(purpose, model).read() if key(sample) in correct]


def judge_pool(
    workdir, purpose: str, model: str, samples: Sequence[Sample], problems: Mapping[str, Problem], judge: Judge
) -> dict[str, int]:
    """Has `judge` judge the samples of a pool that it has not judged yet.

    Returns the counts of each verdict over all that it has judged.

    Raises:
        UserError: a sample of a problem that is not in `problems`.
    """
    given = workdir, purpose, model, samples, problems, judge
    return _judge_pool(*given) if judge.needs_all else hosts.alone(_judge_pool, *given)


def _judge_pool(workdir, purpose, model, samples, problems, judge) -> dict[str, int]:
    judgments = workdir.judgments(purpose, model, judge.name)

    def work(part: list[Sample]) -> list[Judgment]:
        said = judge.judge({(purpose, *key(s)): (problems[s.problem_id], s.text) for s in part})
        return [Judgment(*k[1:], judge.name, *verdict) for k, verdict in said.items()]

    pool_lib.fill(judgments, samples, problems, work, f'judge {purpose}/{model} by {judge.name}')
    counts = Counter(judgments.table().column('verdict').to_pylist())
    return {verdict: counts[verdict] for verdict in VERDICTS}


def rate(counts: Mapping[str, int]) -> dict[str, int]:
    """What a false-positive rate is made of: the wrong ones, of all that were decided."""
    return {'wrong': counts[WRONG], 'kept': counts[WRONG] + counts[VALID]}


# ---------------------------------------------------------------------------------------------------------------------
# The words of a judge that is a model.

ANSWER_IS_RIGHT = """\
A student solved the problem below. The final answer is known to be right. Judge the reasoning alone.
"""
ANSWER_IS_OPEN = """\
A student solved the problem below. Judge whether the final answer is right and the reasoning sound.
"""
RUBRIC = """\
The reasoning is wrong if a calculation is false, if a step does not follow from the problem or from earlier steps, \
if a needed step is missing or guessed, or if errors cancel out. Another method, or few words, is not wrong.

Problem: {question}

Solution: {solution}

Check each step. Then write a last line that says "Verdict: correct" or "Verdict: wrong"."""

_VERDICT = re.compile(r'[\W_]*(?:final\W+)?verdict[\W_]*(correct|wrong|incorrect)[\W_]*', re.IGNORECASE)
_REASON = 300  # characters; the whole text is in the judge's pool


def question(problem: Problem, text: str, answer_is_right: bool = True) -> str:
    """What a model is asked about a solution, of which the final answer is known to be right, or nothing is known.
    Paragraphs become lines: a blank one ends a base model's question.
    """
    start = ANSWER_IS_RIGHT if answer_is_right else ANSWER_IS_OPEN
    asked = start + RUBRIC.format(question=problem.question.strip(), solution=text.strip())
    return re.sub(r'\n\s*\n', '\n', asked)


def parse(text: str) -> tuple[str, str]:
    """(verdict, reason) from what a model wrote: its last line must be the verdict and nothing else.

    So a text that was cut before it came to one, or that says both, is UNPARSABLE.
    """
    lines = [line for line in text.split('\n') if re.search(r'\w', line)]
    match = _VERDICT.fullmatch(lines[-1]) if lines else None
    if match is None:
        return UNPARSABLE, f'no verdict at the end: {text.strip()[-_REASON:]}'
    if match[1].lower() == 'correct':
        return VALID, ''
    return WRONG, ' '.join(lines[:-1])[:_REASON]
