"""Compute-optimal sampling of synthetic training data, in JAX.

In a notebook, ``import cosample_jax as cs``:

    cs.matched_counts   how many samples of each model cost the same, before there is a configuration
    cs.load_config      a configuration file, with its fields overridden
    cs.predict          what it would cost, and whether it fits a machine or a TPU slice
    cs.execute          runs stages of it
    cs.open_run         a run, finished or not: samples, grades, verdicts, tables, figures
    cs.UserError        what all of these raise for a mistake that you can fix

Each is loaded when it is first used, so importing the package costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what editors and type checkers see
    from cosample_jax.errors import UserError as UserError
    from cosample_jax.notebook.budgets import matched_counts as matched_counts
    from cosample_jax.notebook.prediction import predict as predict
    from cosample_jax.notebook.running import execute as execute
    from cosample_jax.notebook.running import load_config as load_config
    from cosample_jax.notebook.runs import open_run as open_run

__version__ = '0.1.0'

_HOMES = {
    'matched_counts': 'notebook.budgets',
    'load_config': 'notebook.running',
    'predict': 'notebook.prediction',
    'execute': 'notebook.running',
    'open_run': 'notebook.runs',
    'UserError': 'errors',
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}: it has {", ".join(__all__)}')
    return getattr(importlib.import_module(f'{__name__}.{_HOMES[name]}'), name)


def __dir__() -> list[str]:
    return [*__all__, '__version__']
