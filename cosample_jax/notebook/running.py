"""Configurations and stages, from a notebook."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

import cosample_jax
from cosample_jax import compiled
from cosample_jax import config as config_lib
from cosample_jax.errors import UserError, did_you_mean
from cosample_jax.notebook.runs import Run, open_run
from cosample_jax.workdir import Workdir


def load_config(spec: str, **overrides: Any) -> ConfigDict:
    """The finalized configuration of a file, with fields overridden by their dotted names.

    Args:
        spec: ``path/file.py`` or ``path/file.py:name=value,...``; a path that is not there is looked for in the
            checkout of this package, too.
        overrides: Values of fields, e.g. ``**{'budget.strong.high': 20}``.

    Raises:
        UserError: no such file or field, a value of another type, or a configuration that cannot work.

    >>> import cosample_jax as cs
    >>> config = cs.load_config('configs/arithmetic.py:size=smoke', **{'budget.strong.high': 4})
    >>> round(config.budget.weak.high)
    12
    """
    path, colon, arguments = spec.partition(':')
    beside = Path(cosample_jax.__file__).parent.parent / path
    if not Path(path).is_file() and beside.is_file():
        path = str(beside)
    config = config_lib.load(f'{path}{colon}{arguments}')
    fields = config_lib.flatten(config.to_dict())
    for name, value in overrides.items():
        if name not in fields:
            near = did_you_mean(name, fields) or did_you_mean(name.split('.')[-1], [n.split('.')[-1] for n in fields])
            raise UserError(f'there is no field {name}{near}')
        value = tuple(value) if isinstance(value, list) else value
        try:
            config.update_from_flattened_dict({name: value})
        except TypeError:
            raise UserError(f'{name} is {fields[name]!r}: {value!r} is of another type') from None
    return config_lib.finalize(config)


def execute(stage: str | Sequence[str], config: ConfigDict, workdir: str) -> Run:
    """Runs a stage in `workdir`, several in their order, or with 'run' all of them; what is done is not done again.

    Args:
        stage: 'prepare', 'pretrain', 'sample', 'grade', 'judge', 'analyze', 'finetune', 'evaluate', 'report'; or 'run'.
        config: Of `load_config`, or the `config` of a run.
        workdir: Local or gs://. An interrupted stage goes on from there.

    Returns:
        The run, as `open_run` does.

    Raises:
        UserError: no such stage, a stage it needs that is not done, or a workdir of another configuration.

    >>> import cosample_jax as cs
    >>> run = cs.execute('analyze', cs.open_run('runs/smoke').config, 'runs/smoke')
    analyze: already done
    """
    compiled.keep()
    from cosample_jax import stages

    names = [stage] if isinstance(stage, str) else list(stage)
    names = list(stages.STAGES) if names == ['run'] else names
    for name in names:
        if name not in stages.STAGES:
            raise UserError(f'there is no stage {name!r}{did_you_mean(name, ("run", *stages.STAGES))}')
    place = Workdir(workdir)
    with place.lock():
        place.open(config)
        for name in sorted(names, key=stages.STAGES.index):
            stages.execute(name, config, place)
    return open_run(workdir)
