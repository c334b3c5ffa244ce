"""The tasks. A task is a module with

* ``build(config) -> dict[str, list[Problem]]``: the splits (shots, train, validation, test, functional);
* ``MARKERS``: what announces a final answer (names of :mod:`cosample_jax.grading.answers`);
* ``ANSWERS``: what kind of thing an answer is, which says how it is compared with the gold one: 'number' or 'program'
  (a key of :data:`cosample_jax.grading.equivalence.ENGINES`);
* optionally ``STOPS``: the texts that end a solution on a page, when blank lines do not (:mod:`.prompts`);
* ``documents(config) -> Iterator[list[tuple[str, str]]]``: endless documents to train a tokenizer and a model from
  scratch on; a document is turns of (prompt, what is written after it);
* optionally ``check_steps(problem, text) -> (valid, reason)``: a program that judges the reasoning.
"""

import importlib
from types import ModuleType

from cosample_jax.config import TASKS
from cosample_jax.errors import UserError
from cosample_jax.tasks import prompts


def get(name: str) -> ModuleType:
    """The task called `name`. Raises UserError when there is none."""
    if name not in TASKS:
        raise UserError(f'unknown task {name!r}: choose one of {", ".join(TASKS)}')
    return importlib.import_module(f'cosample_jax.tasks.{name}')


def template(config, tokenizer, chat: bool) -> prompts.Template:
    """How a model of this run is asked and taught; `chat` is its setting in `config.models`."""
    return prompts.template(tokenizer, chat, getattr(get(config.task.name), 'STOPS', prompts.STOP_STRINGS))
