"""The tasks. A task is a module with

* ``build(config) -> dict[str, list[Problem]]``: the splits (shots, train, validation, test, functional, static), with
  ``notes`` of what was left out where they are made of other people's problems (:mod:`cosample_jax.tasks.splits`); the
  ``meta`` of a functional problem names its twin, ``{"static": id}``;
* ``MARKERS``: what announces a final answer (names of :mod:`cosample_jax.grading.answers`);
* ``ANSWERS``: what kind of thing an answer is, 'number', 'math' or 'program', which says how it is compared with the
  gold one (a key of :data:`cosample_jax.grading.equivalence.ENGINES`);
* optionally ``STOPS``: the texts that end a solution on a page, when blank lines do not (:mod:`.prompts`);
* ``documents(config) -> Iterator[list[tuple[str, str]]]``: endless documents to train a tokenizer and a model from
  scratch on; a document is turns of (prompt, what is written after it);
* optionally ``find_files(manual_dir) -> dict[str, Path]``: its files there, checked, for a task that reads any;
* optionally ``check_steps(problem, text) -> (valid, reason)``: a program that judges the reasoning.
"""

import importlib
from collections.abc import Sequence
from types import ModuleType

from cosample_jax.config_schema import SPLITS, TASKS
from cosample_jax.errors import UserError
from cosample_jax.records import Problem
from cosample_jax.tasks import api_prompts, prompts


def get(name: str) -> ModuleType:
    """The task called `name`. Raises UserError when there is none."""
    if name not in TASKS:
        raise UserError(f'unknown task {name!r}: choose one of {", ".join(TASKS)}')
    return importlib.import_module(f'cosample_jax.tasks.{name}')


def template(config, tokenizer, chat: bool) -> prompts.Template:
    """How a model of this run is asked and taught; `chat` is its setting in `config.models`."""
    return prompts.template(tokenizer, chat, stops(config))


def api_template(config, chat: bool) -> api_prompts.ApiTemplate:
    """How a model behind an API is asked."""
    return api_prompts.template(chat, stops(config))


def stops(config) -> Sequence[str]:
    """The texts that end a solution on a page."""
    return getattr(get(config.task.name), 'STOPS', prompts.STOP_STRINGS)


def build(config) -> dict[str, list[Problem]]:
    """The splits of the task of `config`. UserError when one that is to be evaluated is not among them, too."""
    splits = get(config.task.name).build(config)
    missing = [split for split in config.evaluate.splits if split not in splits]
    if missing:
        raise UserError(
            f'config.evaluate.splits has {missing[0]!r}, and {config.task.name} has no such problems: it has '
            f'{", ".join(split for split in splits if split in SPLITS)}'
        )
    return splits
