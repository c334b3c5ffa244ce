"""Grading whole pools, in committed parts: whoever is interrupted goes on where it stopped."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from cosample_jax import hosts, progress
from cosample_jax.errors import UserError
from cosample_jax.grading import equivalence
from cosample_jax.records import Grade, Problem, Sample, Store, key, to_records

# The purpose of the pools in which model judges write.
JUDGING = 'judge'
# Samples a part: about a second of grading, so little is lost and parts stay few. Fewer need no bar.
_PART = 5_000


def grade_pool(workdir, purpose: str, model: str, problems: Iterable[Problem], task: equivalence.Task) -> dict:
    """Grades every sample of a pool of `task` that has no grade yet, in one process.

    Returns the counts of the WHOLE pool: 'graded', 'correct', 'no_marker', 'ungraded', and 'markers', how
    often each was the one that counted.

    Raises:
        UserError: a sample of a problem that is not in `problems`.
    """
    return hosts.alone(_grade_pool, workdir, purpose, model, problems, task)


def _grade_pool(workdir, purpose: str, model: str, problems: Iterable[Problem], task: equivalence.Task) -> dict:
    by_id = {problem.id: problem for problem in problems}
    grades = workdir.grades(purpose, model)

    def grade(samples: list[Sample]) -> list[Grade]:
        pairs = {key(sample): (by_id[sample.problem_id].answer, sample.text) for sample in samples}
        verdicts = equivalence.grade_many(task, pairs)
        return [Grade(*k, v.correct, v.answer, v.marker, v.strict, v.symbolic) for k, v in verdicts.items()]

    samples = workdir.pool(purpose, model).read()
    fill(grades, samples, by_id, grade, f'grade {purpose}/{model}')
    table = grades.table()
    used = Counter(table.column('marker').to_pylist())
    return {
        'graded': len(table),
        'correct': sum(table.column('correct').to_pylist()),
        'no_marker': used.pop('', 0),
        'ungraded': sum(verdict.startswith('ungraded') for verdict in table.column('symbolic').to_pylist()),
        'markers': dict(sorted(used.items())),
    }


def disagreements(grades: Store[Grade]) -> list[Grade]:
    """The answers that math-verify accepts and the strict engine does not: correct where that one could not tell, not
    correct where it refused them.
    """
    table = grades.table()
    found = [symbolic == 'yes' for symbolic in table.column('symbolic').to_pylist()]
    return [grade for grade in to_records(table.filter(found), Grade) if not grade.strict]


def pools(workdir) -> list[tuple[str, str]]:
    """(purpose, model) of every pool of solutions in the workdir, in order; what judges wrote is none."""
    return [
        (purpose.name, model.name)
        for purpose in _children(workdir.path('pools'))
        for model in _children(purpose)
        if purpose.name != JUDGING and len(workdir.pool(purpose.name, model.name))
    ]


def all_problems(workdir) -> list[Problem]:
    """The problems of every split that the workdir has."""
    names = [path.name for path in _children(workdir.path('data'))]
    splits = [name.removesuffix('.parquet') for name in names if name.endswith('.parquet') and name[0] != '.']
    return [problem for split in splits for problem in workdir.problems(split)]


def _children(directory) -> list:
    return sorted(directory.iterdir(), key=str) if directory.exists() else []


def fill(
    store: Store,
    samples: list[Sample],
    by_id: Mapping[str, Problem],
    work: Callable[[list[Sample]], list],
    title: str,
) -> None:
    """Appends `work(part)` to `store`, part by part, for the samples whose key it does not have. All processes work
    where several do; one writes.
    """
    done = store.keys()
    missing = [sample for sample in samples if key(sample) not in done]
    unknown = next((sample for sample in missing if sample.problem_id not in by_id), None)
    if unknown:
        raise UserError(
            f'{title}: {unknown.problem_id!r} is no problem of this run: its pool was made with other task settings'
        )
    if not missing:
        return
    with contextlib.ExitStack() as stack:
        bar = None
        if len(missing) > _PART:
            bar = stack.enter_context(
                progress.bar(title, total=len(samples), unit='samples', initial=len(samples) - len(missing))
            )
        for start in range(0, len(missing), _PART):
            part = missing[start : start + _PART]
            hosts.alone(store.append, work(part))
            if bar:
                bar.advance(len(part))
