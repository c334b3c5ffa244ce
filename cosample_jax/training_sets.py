"""What a cell learns from: the solutions that its recipe keeps of the pools. No JAX here."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from cosample_jax import cells, overlap
from cosample_jax.analysis import votes
from cosample_jax.errors import UserError
from cosample_jax.records import VALID, Problem, read_json


class Kept(NamedTuple):
    """A problem with a solution to learn from, and which sample of whom that is (0 of 'gold' for the reference)."""

    problem: Problem
    solution: str
    sample_index: int = 0
    source: str = ''


class Training(NamedTuple):
    """What a cell learns from, and how many solutions were left out of it because they quote a test problem."""

    kept: list[Kept]
    contaminated: int


def training_data(config, workdir, data: str, level: str) -> Training:
    """What a cell of this data and budget learns from: the gold solutions, or the samples that are kept.

    Samples come in the order of their keys; exact duplicates are kept, as in the paper. Those that quote a problem of
    `config.evaluate.splits` are not (:mod:`cosample_jax.overlap`).
    """
    problems = workdir.problems('train')
    if data == 'gold':
        return Training([Kept(p, p.solution, source='gold') for p in problems if p.solution], 0)
    recipe = config.recipes.get(data)
    counts = drawn_counts(config, workdir, data, level, problems)
    keep = _filter(workdir, recipe.filter if recipe else 'answer', counts)
    most = recipe.keep if recipe and recipe.keep else None
    found = [each for drawn in _drawn(workdir, problems, counts) for each in keep(drawn)[:most]]
    found = [Kept(each.problem, each.text.strip(), each.index, each.source) for each in found]
    tests = overlap.Quotes(p.question for split in config.evaluate.splits for p in workdir.problems(split))
    clean = [each for each in found if not tests.quotes(each.solution)]
    return Training(clean, len(found) - len(clean))


class _Drawn(NamedTuple):
    problem: Problem
    source: str
    index: int
    text: str
    correct: bool
    answer: str


def drawn_counts(config, workdir, data: str, level: str, problems: Sequence[Problem]) -> dict[str, dict[str, int]]:
    """source -> problem id -> samples: what a source gets at a budget, what a recipe asks for, or what its allocation
    came to.
    """
    recipe = config.recipes.get(data)
    if recipe is None:
        return {data: {problem.id: cells.sample_count(config, data, level, problem.id) for problem in problems}}
    if recipe.allocation != 'uniform':
        return read_json(workdir.allocation(data))['counts']
    here = cells.chosen(config, data, problems)
    return {source: {p.id: cells.recipe_count(config, data, source, p) for p in here} for source in recipe.samples}


def judged(config, workdir, judge: str) -> dict[str, dict[str, int]]:
    """source -> problem id -> samples that `judge` must judge for the recipes that it filters."""
    needed: dict[str, dict[str, int]] = {}
    problems = workdir.problems('train')
    for name, recipe in config.recipes.items():
        if recipe.filter == judge:
            for source, counts in drawn_counts(config, workdir, name, recipe.budget, problems).items():
                here = needed.setdefault(source, {})
                here.update({problem_id: max(count, here.get(problem_id, 0)) for problem_id, count in counts.items()})
    return needed


def _drawn(workdir, problems: Sequence[Problem], counts: Mapping[str, Mapping[str, int]]) -> Iterator[list[_Drawn]]:
    """The graded samples of each problem, the first ones of each source.

    Raises:
        UserError: there are not so many.
    """
    stores = {}
    for source in counts:
        texts = _columns(workdir.pool('train', source), 'text')
        grades = _columns(workdir.grades('train', source), 'correct', 'answer')
        stores[source] = {key: (*texts[key], *grade) for key, grade in grades.items()}
    for problem in problems:
        here = []
        for source, store in stores.items():
            for index in range(counts[source].get(problem.id, 0)):
                if (problem.id, index) not in store:
                    raise UserError(
                        f'sample {index} of {source} for {problem.id} is needed and is not there, or not graded: run '
                        f'`cosample sample` and `cosample grade` --workdir={workdir.root}'
                    )
                here.append(_Drawn(problem, source, index, *store[problem.id, index]))
        yield here


def _columns(store, *names: str) -> dict[tuple[str, int], tuple]:
    """(problem id, sample index) -> the values of these fields; token ids, most of a pool, stay on the disk."""
    table = store.table(names)
    keys = zip(*(table.column(name).to_pylist() for name in ('problem_id', 'sample_index')), strict=True)
    return dict(zip(keys, zip(*(table.column(name).to_pylist() for name in names), strict=True), strict=True))


def _filter(workdir, name: str, counts) -> Callable[[list[_Drawn]], list[_Drawn]]:
    """From the samples of a problem to those that are kept."""
    if name == 'answer':
        return lambda drawn: [each for each in drawn if each.correct]
    if name == 'none':
        return lambda drawn: drawn
    if name == 'majority':
        return _agreeing
    valid = {
        (source, j.problem_id, j.sample_index)
        for source in counts
        for j in workdir.judgments(cells.FILTERING, source, name).read()
        if j.verdict == VALID
    }
    return lambda drawn: [each for each in drawn if (each.source, each.problem.id, each.index) in valid]


def _agreeing(drawn: list[_Drawn]) -> list[_Drawn]:
    """Those with the answer that most have (`votes.majority`): it is taken for the right one. None has none."""
    answer = votes.majority([each.answer for each in drawn])
    return [each for each in drawn if answer and each.answer == answer]
