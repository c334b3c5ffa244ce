"""`cosample doctor`: is this machine ready, and with --config this run, before anything is spent.

    cosample doctor
    cosample doctor --config=configs/math.py:manual_dir=DIR,weights=weights --workdir=runs/math

Reads files and asks JAX for its devices, nothing else: no download, no weights in memory.
"""

import os
import sys
from importlib import resources
from pathlib import Path

from cosample_jax import config as config_lib
from cosample_jax import machine, tasks
from cosample_jax.errors import UserError
from cosample_jax.gemma import config as gemma_config
from cosample_jax.gemma import sources
from cosample_jax.gemma import tokenizer as tokenizer_lib
from cosample_jax.grading import equivalence
from cosample_jax.machine import FAIL, OK, WARN, Check
from cosample_jax.records import is_remote
from cosample_jax.workdir import Workdir


def main(args) -> None:
    """Prints a table of checks and what to do about each that fails.

    Raises:
        UserError: something FAILs.
    """
    checks = machine.checks(args.config, args.workdir)
    if args.config is not None:
        checks += [_tokenizer(args.config, args.workdir), *_models(args.config, args.workdir), _data(args.config)]
        checks.append(_grading(args.config))
    _print(checks)
    failed = [check.name for check in checks if check.state == FAIL]
    if failed:
        raise UserError(f'not ready: {", ".join(failed)}; what to do stands above')


def _print(checks: list[Check]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    styles = {OK: 'green', WARN: 'yellow', FAIL: 'bold red'}
    table = Table('check', 'state', 'what was found')
    for check in checks:
        table.add_row(check.name, Text(check.state, styles[check.state]), Text(check.detail))
    Console().print(table)
    for check in checks:
        if check.todo:
            print('\n'.join([f'\n{check.name}:', *(f'  {line}' for line in check.todo)]))  # not wrapped: to be copied
    sys.stdout.flush()  # before the error line, also where both go into one file


def _tokenizer(config, workdir: Workdir) -> Check:
    """The tokenizer that is in the workdir or will be, against every model."""
    local = config_lib.local_models(config)
    variants = [gemma_config.variant(entry.variant) for entry in local.values()]
    try:
        if not is_remote(workdir.root) and workdir.tokenizer_path.exists():
            tokenizer = tokenizer_lib.Tokenizer(workdir.tokenizer_path)
            for name, variant in zip(local, variants, strict=True):
                tokenizer.check(variant, f'config.models.{name}')
        elif is_remote(config.tokenizer):
            wanted = tokenizer_lib.needed(config)
            return Check('tokenizer', WARN, f'{config.tokenizer} is not looked at here; needed is {wanted}')
        else:
            tokenizer = tokenizer_lib.given(config)
    except UserError as error:
        official = next((v.name for v in variants if v.name in sources.SOURCES), '')
        if len({tokenizer_lib.vocabulary(variant) for variant in variants}) > 1:
            todo = '--config.models.<name>.variant=...  so that all models share one, or a run for each family'
        elif config.tokenizer and official and not Path(config.tokenizer).exists():
            todo = f'it comes with the weights (below), as tokenizer.model: put it at {config.tokenizer}'
        elif official:
            directory = next(entry.init for entry in local.values() if entry.variant == official)
            todo = f'--config.tokenizer={directory}/tokenizer.model  (it comes with the weights)'
        else:
            todo = "--config.tokenizer=''  (small models have the shipped one, or one trained on the task's text)"
        return Check('tokenizer', FAIL, str(error), (todo,))
    if tokenizer is not None:
        return Check('tokenizer', OK, f'{tokenizer.path}, {tokenizer.vocabulary.name}')
    shipped = any(entry.init == 'package' for entry in config.models.values())
    return Check('tokenizer', OK, 'the shipped one' if shipped else "will be trained on the task's text")


def _models(config, workdir: Workdir) -> list[Check]:
    """For each model, whether its base weights are there and its variant's, or whether its API answers."""
    checks = [
        _model(config_lib.field_of(name), name, entry, workdir)
        for name, entry in config_lib.own_weights(config).items()
    ]
    failed = {check.name for check in checks if check.state == FAIL}
    own = ((config_lib.field_of(name), entry) for name, entry in config_lib.own_weights(config).items())
    wanted = {who: entry for who, entry in own if who in failed and entry.variant in sources.SOURCES}
    if wanted:
        directories = {
            entry.variant: f'weights/{entry.variant}' if entry.init == 'package' else entry.init
            for entry in wanted.values()
        }
        todo = sources.steps(directories)
        for who, entry in wanted.items():
            if entry.init == 'package':
                where = directories[entry.variant]
                todo.append(f'then: --{who}.init={where}; the tokenizer is {where}/tokenizer.model')
        checks.append(Check('weights', FAIL, f'{", ".join(directories)} can be downloaded', tuple(todo)))
    return checks + [_api(config, name) for name in config_lib.api_models(config)]


def _api(config, name: str) -> Check:
    os.environ['JAX_PLATFORMS'] = 'cpu'  # for this process alone, after the devices were asked for in another
    from cosample_jax import remotes

    who = config_lib.field_of(name)
    try:
        return Check(who, OK, remotes.check(config, name))
    except UserError as error:
        return Check(who, FAIL, str(error))


def _model(who: str, name: str, entry, workdir: Workdir) -> Check:
    variant = gemma_config.variant(entry.variant)
    try:
        if not is_remote(workdir.root) and workdir.model_dir(name).exists():
            found = _weights(workdir.model_dir(name), variant)
        elif entry.init == 'pretrain':
            found = 'is trained from scratch in this run'
        elif entry.init == 'package':
            if not (resources.files('cosample_jax') / 'data' / f'{entry.variant}.safetensors').is_file():
                raise UserError(f'no weights of {entry.variant} ship with the package')
            found = 'shipped weights'
        elif is_remote(entry.init):
            return Check(who, WARN, f'{entry.variant}: {entry.init} is not looked at here')
        else:
            found = _weights(entry.init, variant)
    except UserError as error:
        todo = ''
        if entry.variant not in sources.SOURCES:
            todo = f"--{who}.init='pretrain', 'package' where the package ships it, or models/<name> of another workdir"
        return Check(who, FAIL, f'{entry.variant}: {error}', (todo,) if todo else ())
    return Check(who, OK, f'{entry.variant}: {found}')


def _weights(path, variant) -> str:
    """What lies there; UserError unless it is every weight of `variant`. Shapes are looked at, numbers are not read."""
    os.environ['JAX_PLATFORMS'] = 'cpu'  # for this process alone, after the devices were asked for in another
    from cosample_jax.gemma import weights

    found = weights.open_checkpoint(path)
    weights.check(found, variant)
    return f'{found.format} weights, {path}'


def _data(config) -> Check:
    """Whether the task's files are there and whole."""
    task, directory = tasks.get(config.task.name), config.task.manual_dir
    if not hasattr(task, 'find_files'):
        return Check('task data', OK, f'{config.task.name} makes its own')
    kept = Path(os.environ.get('TFDS_DATA_DIR') or Path.home() / 'tensorflow_datasets') / config.task.name
    if not directory and kept.is_dir():
        return Check('task data', OK, f'{kept}')
    if directory or config.task.name in ('math', 'own'):  # nowhere to download these from
        try:
            files = task.find_files(directory)
        except UserError as error:
            found, fetch, fix = str(error).partition(': fetch ')
            return Check('task data', FAIL, found, (f'fetch {fix}',) if fetch else ())
        return Check('task data', OK, ', '.join(str(path) for path in files.values()))
    return Check('task data', WARN, f'{config.task.name} will be downloaded; or set config.task.manual_dir')


def _grading(config) -> Check:
    """Whether answers can be graded here: programs are run, and only where they can be held."""
    try:
        return Check('grading', OK, equivalence.readiness(tasks.get(config.task.name)))
    except UserError as error:
        found, _, fix = str(error).rpartition(': ')
        return Check('grading', FAIL, found, (fix,))
