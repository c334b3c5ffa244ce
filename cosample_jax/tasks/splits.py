"""What tasks make of problems that somebody else wrote: seeded splits, shots, few-shot documents. No JAX here."""

import random
from collections.abc import Iterator, Sequence

from cosample_jax import overlap
from cosample_jax.errors import UserError
from cosample_jax.records import Problem
from cosample_jax.tasks import prompts


class Splits(dict[str, list[Problem]]):
    """The splits of a task, and `notes`: a line for everything that was left out of them."""

    def __init__(self, splits: dict[str, list[Problem]], notes: Sequence[str] = ()):
        super().__init__(splits)
        self.notes = tuple(notes)


def shuffled(problems: Sequence[Problem], seed: str) -> list[Problem]:
    return random.Random(seed).sample(problems, len(problems))


def first(problems: list[Problem], size: int, split: str, title: str) -> list[Problem]:
    """The first `size`; UserError when there are fewer in `split` of the data called `title`."""
    if size > len(problems):
        raise UserError(f'config.task.num_{split} is {size}: {title} has {len(problems)} {split} problems here')
    return problems[:size]


def cut(task, title: str, **among: list[Problem]) -> dict[str, list[Problem]]:
    """The first `task.num_<split>` of each split; UserError when there are fewer in the data called `title`."""
    return {split: first(problems, task[f'num_{split}'], split, title) for split, problems in among.items()}


def shots(config, problems: Sequence[Problem]) -> list[Problem]:
    """The problems of the few-shot prompt; UserError for an id that is no training problem's, or has no solution."""
    by_id = {problem.id: problem for problem in problems}
    for shot in config.task.shots:
        if shot not in by_id:
            ends = f'{problems[0].id} to {problems[-1].id}'
            raise UserError(f'config.task.shots has {shot!r}: shots are training problems, {ends}')
        if not by_id[shot].solution:
            raise UserError(f'config.task.shots has {shot!r}, which has no solution to show')
    return [by_id[shot] for shot in config.task.shots]


def decontaminated(problems: list[Problem], tests: Sequence[Problem]) -> tuple[list[Problem], str]:
    """(`problems` without the copies of `tests`, the note that counts them).

    `tests` are all problems that results are measured on, used or not in this run, so that training data does not
    depend on how many are tested. Validation problems are none: they choose among checkpoints, of every cell alike,
    and no result is measured on them.
    """
    copies = overlap.Copies(tests)
    kept = [problem for problem in problems if copies.original(problem) is None]
    left_out = len(problems) - len(kept)
    told = f'contaminated: {left_out:,} of {len(problems):,} training problems left out'
    return kept, f'{told}, as copies of one of {len(tests):,} test problems'


def documents(
    problems: Sequence[Problem], num_shots: int, seed: str, stops: Sequence[str] = prompts.STOP_STRINGS
) -> Iterator[list[tuple[str, str]]]:
    """Endless text to train a tokenizer or a model on: lists of turns (prompt, what is written after it).

    The problems are reshuffled every epoch. Half of the documents are one problem, half are as many more as the
    prompt has shots, in the form of the few-shot prompt, so that its prefix is something the model knows.
    """
    rng = random.Random(seed)
    while True:
        rest = rng.sample(problems, len(problems))
        while rest:
            count = 1 + num_shots * (rng.random() < 0.5)
            *before, last = rest[:count]
            del rest[:count]
            turns = [(prompts.zero_shot(p.question), prompts.target(p.solution, stops) + prompts.STOP) for p in before]
            yield [*turns, (prompts.zero_shot(last.question), prompts.target(last.solution, stops))]
