"""The fine-tuning grid: which model is trained on whose data at which budget, and what that draws. No JAX here."""

from collections.abc import Sequence
from typing import NamedTuple

from cosample_jax import budget as budget_lib
from cosample_jax import config as config_lib
from cosample_jax.records import Problem

FILTERING = 'filter'  # the purpose of judgments that decide what a recipe keeps


class Cell(NamedTuple):
    """One training run. `data` is a source model, 'gold' (the reference solutions) or a recipe."""

    model: str
    data: str
    budget: str  # 'low' | 'high': how many samples a problem, and how many steps
    seed: int

    @property
    def name(self) -> str:
        return f'{self.model}-{self.data}-{self.budget}-s{self.seed}'


def grid(config) -> list[Cell]:
    """Every cell of a run, in the order they are trained."""
    return [
        Cell(model, data, level, seed)
        for model in config.roles.trained
        for level in config.budget.levels
        for data in (*config.roles.sources, 'gold', *(r for r in config.recipes if config.recipes[r].budget == level))
        for seed in config.finetune.seeds
    ]


def sources(config) -> list[str]:
    """Every model that is sampled."""
    return list(dict.fromkeys([*config.roles.sources, *(m for r in config.recipes.values() for m in r.samples)]))


def ratio(config, source: str, lens: str) -> float:
    """Samples of `source` for one of the strong model: as many by 'number', or as cost as much by 'params' or 'price'.

    Solutions are assumed to be equally long (Eq. 1 of the paper).
    """
    if lens == 'number':
        return 1.0
    cost = {'params': config_lib.num_params, 'price': lambda *of: config_lib.price(*of).generated}[lens]
    return budget_lib.matched_ratio(cost(config, 'strong'), cost(config, source))


def sample_count(config, source: str, level: str, problem_id: str) -> int:
    """How many samples of `source` this problem has at a budget. Counts are nested: low is a prefix of high."""
    return budget_lib.samples(problem_id, ratio(config, source, config.budget.lens), config.budget.strong[level])


def recipe_count(config, recipe: str, source: str, problem: Problem) -> int:
    """How many samples of `source` a recipe asks for of a problem, before an allocation moves them."""
    entry = config.recipes[recipe]
    strong = source == 'strong'
    if source not in entry.samples or (
        entry.strong_from_level and strong != (problem.level >= entry.strong_from_level)
    ):
        return 0
    return budget_lib.samples(problem.id, ratio(config, source, entry.lens), entry.samples[source])


def pool_counts(config, source: str, problems: Sequence[Problem]) -> dict[str, int]:
    """How many samples of each problem the pool of `source` needs: what the largest budget takes, or a recipe."""
    counts = dict.fromkeys((problem.id for problem in problems), 0)
    if source in config.roles.sources:
        counts = {problem_id: sample_count(config, source, 'high', problem_id) for problem_id in counts}
    for recipe, entry in config.recipes.items():
        if entry.allocation == 'uniform':
            for problem in chosen(config, recipe, problems):
                counts[problem.id] = max(counts[problem.id], recipe_count(config, recipe, source, problem))
    return counts


def blind_counts(config, source: str, problems: Sequence[Problem]) -> dict[str, int] | None:
    """Of `pool_counts`, where an allocation has put more of them into the pool; None where it holds nothing else."""
    moved = any(r.allocation != 'uniform' and source in r.samples for r in config.recipes.values())
    return pool_counts(config, source, problems) if moved and problems else None


def chosen(config, recipe: str, problems: Sequence[Problem]) -> list[Problem]:
    """The problems of a recipe, in their order: fewer are a part of more."""
    count = config.recipes[recipe].problems or len(problems)
    kept = set(sorted((problem.id for problem in problems), key=budget_lib.unit)[:count])
    return [problem for problem in problems if problem.id in kept]
