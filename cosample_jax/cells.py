"""The fine-tuning grid: which model is trained on whose data at which budget, and what that data is. No JAX here."""

from typing import NamedTuple

from cosample_jax import budget as budget_lib
from cosample_jax import overlap
from cosample_jax.records import Problem


class Cell(NamedTuple):
    """One training run. `data` is a source model or 'gold' (the reference solutions)."""

    model: str
    data: str
    budget: str  # 'low' | 'high': how many samples a problem, and how many steps
    seed: int

    @property
    def name(self) -> str:
        return f'{self.model}-{self.data}-{self.budget}-s{self.seed}'


class Kept(NamedTuple):
    """A problem with a solution to learn from, which of its samples that is (0 for the reference), and whose."""

    problem: Problem
    solution: str
    sample_index: int = 0
    source: str = ''


class Training(NamedTuple):
    """What a cell learns from, and how many solutions were left out of it because they quote a test problem."""

    kept: list[Kept]
    contaminated: int


def grid(config) -> list[Cell]:
    """Every cell of a run, in the order they are trained."""
    return [
        Cell(model, data, level, seed)
        for model in config.roles.trained
        for level in config.budget.levels
        for data in (*config.roles.sources, 'gold')
        for seed in config.finetune.seeds
    ]


def sample_count(config, source: str, level: str, problem_id: str) -> int:
    """How many samples of `source` this problem has at a budget. Counts are nested: low is a prefix of high."""
    base = config.budget.strong[level]
    return base if source == 'strong' else budget_lib.samples(problem_id, config.budget.ratio, base)


def training_data(config, workdir, data: str, level: str) -> Training:
    """What a cell of this data and budget learns from: the gold solutions, or the samples with the right final answer.

    Samples come in the order of their keys; exact duplicates are kept, as in the paper. Those that quote a problem of
    `config.evaluate.splits` are not (:mod:`cosample_jax.overlap`).
    """
    problems = workdir.problems('train')
    if data == 'gold':
        return Training([Kept(p, p.solution, source='gold') for p in problems if p.solution], 0)
    correct = {key for key, right in _column(workdir.grades('train', data), 'correct') if right}
    texts = dict(_column(workdir.pool('train', data), 'text'))
    kept = [
        Kept(problem, texts[problem.id, index].strip(), index, data)
        for problem in problems
        for index in range(sample_count(config, data, level, problem.id))
        if (problem.id, index) in correct
    ]
    tests = overlap.Quotes(p.question for split in config.evaluate.splits for p in workdir.problems(split))
    clean = [each for each in kept if not tests.quotes(each.solution)]
    return Training(clean, len(kept) - len(clean))


def _column(store, name: str):
    """((problem id, sample index), value) of each record, without its token ids."""
    table = store.table((name,))
    columns = (table.column(c).to_pylist() for c in ('problem_id', 'sample_index', name))
    return (((problem_id, index), value) for problem_id, index, value in zip(*columns, strict=True))
