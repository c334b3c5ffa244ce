"""`cosample doctor`: is this machine ready, and with --config this run, before anything is spent.

    cosample doctor
    cosample doctor --config=configs/math.py:pair=gemma2 --workdir=runs/math

Reads files and asks JAX for its devices, nothing else: no download, no weights in memory. JAX is asked in a process of
its own, so that an accelerator that hangs or takes the process down is a line here too.
"""

import glob
import importlib.metadata
import json
import math
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import uuid
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from cosample_jax import cells, tasks
from cosample_jax import config as config_lib
from cosample_jax.errors import UserError
from cosample_jax.gemma import config as gemma_config
from cosample_jax.gemma import sources
from cosample_jax.gemma import tokenizer as tokenizer_lib
from cosample_jax.grading import equivalence
from cosample_jax.records import is_remote
from cosample_jax.workdir import Workdir

OK, WARN, FAIL = 'ok', 'warn', 'FAIL'
PYTHON = (3, 11)
JAX = ((0, 10), (0, 13))  # tried from the first up to, not including, the second
EXTRAS = {
    'tpu': (('libtpu', 'gcsfs'), 'TPUs'),
    'gpu': (('jax-cuda12-plugin',), 'NVIDIA GPUs'),
    'gcs': (('gcsfs',), 'gs:// paths'),
    'api': (('google-genai', 'openai'), 'models behind an API'),
    'serve': (('starlette', 'uvicorn', 'pydantic'), '`cosample serve`'),
    'gemma': (('gemma',), 'comparing with the official package, Python 3.12 or later'),
    'parity': (('torch', 'transformers'), 'comparing with transformers'),
    'notebooks': (('ipykernel', 'nbmake'), 'running the notebooks of colabs as a check'),
}
SPARE_BYTES = 10e9  # free disk space below which even a small run may end early
DEVICES_SECONDS = 180

_PROBE = """
import json, jax
found = [(d.platform, d.device_kind, (d.memory_stats() or {}).get('bytes_limit', 0)) for d in jax.local_devices()]
print(json.dumps(found))
"""


class Check(NamedTuple):
    """One line of the table; `todo` is what to do about a FAIL, line by line."""

    name: str
    state: str
    detail: str
    todo: tuple[str, ...] = ()


def main(args) -> None:
    """Prints a table of checks and what to do about each that fails.

    Raises:
        UserError: something FAILs.
    """
    checks = [*_software(), _extras(), *_devices(args.config), _disk(args.config, args.workdir), _compile_cache()]
    checks.append(_credentials())
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


def _software() -> list[Check]:
    """Python, JAX and the packages that this one asks for, against the versions it was tried with."""
    found = f'{platform.python_version()}, {sys.executable}'
    checks = [Check('Python', OK, found)]
    if sys.version_info[:2] < PYTHON:
        wanted = '.'.join(map(str, PYTHON))
        checks = [Check('Python', FAIL, found, (f'make install PYTHON=python{wanted}  (or a later one)',))]
    jax = _version('jax')
    lowest, limit = ('.'.join(map(str, version)) for version in JAX)
    if not jax or _numbers(jax) < JAX[0]:
        todo = (f"pip install --upgrade 'jax>={lowest},<{limit}'",)
        checks.append(Check('JAX', FAIL, f'{jax or "not installed"}; {lowest} or later is needed', todo))
    elif _numbers(jax) >= JAX[1]:
        checks.append(Check('JAX', WARN, f'{jax}; tried with versions below {limit} only'))
    else:
        checks.append(Check('JAX', OK, jax))
    wrong = {}
    needed = _requirements()
    for name, version in needed.items():
        have = _version(name)
        if not have or _numbers(have) < _numbers(version):
            wrong[f'{name}>={version}'] = f'{name} {have or "is missing"}'
    if wrong:
        todo = ' '.join(shlex.quote(requirement) for requirement in wrong)
        checks.append(Check('packages', FAIL, '; '.join(wrong.values()), (f'pip install --upgrade {todo}',)))
    elif needed:
        checks.append(Check('packages', OK, f'all {len(needed)} are there and new enough'))
    else:
        checks.append(Check('packages', WARN, 'cosample_jax is not installed, so their versions are not known here'))
    return checks


def _requirements() -> dict[str, str]:
    """package -> lowest version, of what is no extra; {} when this package is used without being installed."""
    try:
        lines = importlib.metadata.requires('cosample_jax') or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    parsed = (re.match(r'([\w.-]+)(?:\[[^]]*\])?>=([\d.]+)', line) for line in lines if 'extra ==' not in line)
    return {match[1]: match[2] for match in parsed if match}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ''


def _numbers(version: str) -> tuple[int, ...]:
    """(0, 11, 2) of '0.11.2.dev3+cpu'."""
    return tuple(int(part) for part in re.match(r'[\d.]*', version)[0].split('.')[:3] if part)


def _extras() -> Check:
    """Which are installed, with their versions, and what those that are not would be for."""
    there, missing = [], []
    for extra, (packages, purpose) in EXTRAS.items():
        versions = [f'{package} {_version(package)}' for package in packages if _version(package)]
        if len(versions) == len(packages):
            there.append(f'{extra} ({", ".join(versions)})')
        else:
            missing.append(f'{extra} ({purpose})')
    told = [', '.join(there), f'not installed: {", ".join(missing)}' if missing else '']
    return Check('extras', OK, '; '.join(filter(None, told)))


def _credentials() -> Check:
    """Where keys and logins are set up; nothing is told of them, and nobody is asked whether they are good."""
    places = {
        'Hugging Face': sources.huggingface_token(),
        'Kaggle': sources.kaggle_token(),
        'Google Cloud': _google_login(),
        'Gemini': '$GEMINI_API_KEY' if os.environ.get('GEMINI_API_KEY') else '',
        'OpenAI': '$OPENAI_API_KEY' if os.environ.get('OPENAI_API_KEY') else '',
    }
    none = [name for name, place in places.items() if not place]
    told = [*(f'{name} ({place})' for name, place in places.items() if place)]
    return Check('credentials', OK, '; '.join([*told, *([f'none for {", ".join(none)}'] if none else [])]))


def _google_login() -> str:
    """Of applications, which gs:// paths take; on a TPU VM it is the machine's own."""
    if path := os.environ.get('GOOGLE_APPLICATION_CREDENTIALS'):
        return path
    folder = Path(os.environ.get('CLOUDSDK_CONFIG') or Path.home() / '.config' / 'gcloud')
    path = folder / 'application_default_credentials.json'
    if path.is_file():
        return str(path)
    return "this TPU VM's" if glob.glob('/dev/accel[0-9]*') else ''


def _devices(config) -> list[Check]:
    """The devices JAX finds, whether an accelerator of this machine is left out, and whether the mesh fits."""
    try:
        probe = subprocess.run([sys.executable, '-c', _PROBE], capture_output=True, text=True, timeout=DEVICES_SECONDS)
        devices = json.loads(probe.stdout.splitlines()[-1]) if probe.returncode == 0 else []
        lines = [line.strip() for line in probe.stderr.splitlines() if line.strip()]
        trouble = lines[-1] if lines else f'JAX ended with status {probe.returncode}'
    except subprocess.TimeoutExpired:
        devices, trouble = [], f'JAX found no devices in {DEVICES_SECONDS} s'
    if not devices:
        todo = (
            'an accelerator that another process holds: end that process, or wait for it',
            "a driver or library that does not fit: pip install --upgrade -e '.[gpu]'  (or '.[tpu]')",
            'to go on without: JAX_PLATFORMS=cpu cosample ...',
        )
        return [Check('devices', FAIL, f'the accelerator cannot be initialised: {trouble}', todo)]
    kind, description, memory = devices[0]
    each = f', {memory / 2**30:.0f} GiB each' if memory else ''
    host = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    detail = f'{len(devices)} x {kind} ({description}{each}), {host / 2**30:.0f} GiB of host memory'
    checks = [Check('devices', OK, detail)]
    present = _accelerator()
    if kind == 'cpu' and present:
        extra, name = present
        if 'cpu' in os.environ.get('JAX_PLATFORMS', ''):
            checks = [Check('devices', WARN, f'{detail}; JAX_PLATFORMS leaves out the {name} of this machine')]
        else:
            todo = (f"pip install --upgrade -e '.[{extra}]'", 'or, to run on the CPU: JAX_PLATFORMS=cpu cosample ...')
            checks = [Check('devices', FAIL, f'{detail}; this machine has a {name}, and JAX does not use it', todo)]
    if config is not None and math.prod(config.mesh.values()) > len(devices):
        shape = ' x '.join(f'{axis}={size}' for axis, size in config.mesh.items())
        todo = (f'lower config.mesh.{{{",".join(config.mesh)}}} until their product is {len(devices)} or less',)
        wanted = math.prod(config.mesh.values())
        checks.append(Check('mesh', FAIL, f'{shape} is {wanted} devices, and there are {len(devices)}', todo))
    if config is not None:
        checks.append(_memory(config, memory or host / len(devices)))
    return checks


def _memory(config, there: float) -> Check:
    """What weights and optimizers take of a device, without reading anything; the plan counts the rest."""
    shards = config.mesh.fsdp * config.mesh.tensor
    needs = {}
    for name, entry in config_lib.local_models(config).items():
        # bfloat16 weights; where all are trained float32 ones, two moments and gradients.
        trained = name in config.roles.trained and not config.finetune.lora_rank
        needs[name] = gemma_config.variant(entry.variant).num_params() * (16 if trained else 2) / shards
    if not needs:
        return Check('memory', OK, 'no model runs here')
    name = max(needs, key=needs.__getitem__)
    detail = f'{name} takes at least {needs[name] / 2**30:.2f} of {there / 2**30:.0f} GiB a device; `plan` counts all'
    todo = (
        'cosample plan with this configuration names the smallest change that would make it fit; with a slice of TPUs '
        'for --topology, such as v5e:4x8, and config.mesh to match, whether it fits there',
    )
    return Check('memory', OK, detail) if needs[name] <= there else Check('memory', FAIL, detail, todo)


def _accelerator() -> tuple[str, str] | None:
    """(extra, name) of an accelerator whose device files are there, whether JAX can use it or not."""
    if glob.glob('/dev/nvidia[0-9]*'):
        return 'gpu', 'NVIDIA GPU'
    if glob.glob('/dev/accel[0-9]*'):
        return 'tpu', 'TPU'
    return None


def _disk(config, workdir) -> Check:
    """Free space where the workdir is or will be, against what the checkpoints of the run can come to."""
    if is_remote(workdir.root):
        return Check('disk', OK, f'{workdir.root} is an object store: its quota is not looked at')
    path = Path(os.fspath(workdir.root)).absolute()
    path = next(parent for parent in (path, *path.parents) if parent.exists())
    if not os.access(path, os.W_OK):
        return Check('disk', FAIL, f'{path} is not writable', ('give another --workdir, or the right to write there',))
    free = shutil.disk_usage(path).free
    detail = f'{free / 1e9:,.0f} GB free at {path}'
    todo = ('free some space, or give a --workdir on a larger disk (gs:// too)',)
    if config is None or workdir.is_done('finetune'):
        return Check('disk', OK if free > SPARE_BYTES else WARN, detail)
    local = config_lib.local_models(config)
    params = {name: gemma_config.variant(entry.variant).num_params() for name, entry in local.items()}
    # float32: base weights once; of each fine-tuning run the best weights and the last state (weights, two moments).
    own = [name for name in config_lib.own_weights(config) if name in params]
    base = sum(4 * params[name] for name in own if not workdir.model_dir(name).exists())
    runs = [16 * params[c.model] for c in cells.grid(config) for _ in config.finetune.learning_rate[c.model]]
    detail += f', up to {max(0.1, (base + sum(runs)) / 1e9):,.1f} GB of checkpoints'
    if free < base + max(runs):
        return Check('disk', FAIL, detail, todo)
    return Check('disk', OK if free > max(SPARE_BYTES, base + sum(runs)) else WARN, detail)


def _compile_cache() -> Check:
    directory = os.environ['JAX_COMPILATION_CACHE_DIR']  # set by the cli, also for the stages
    if is_remote(directory):
        return Check('compile cache', OK, f'{directory} is an object store: not looked at')
    try:
        Path(directory).mkdir(parents=True, exist_ok=True)
        file = Path(directory) / f'.doctor-{uuid.uuid4().hex}'
        file.touch()
        file.unlink()
    except OSError as error:
        todo = ('export JAX_COMPILATION_CACHE_DIR=<a directory you may write to>',)
        return Check('compile cache', FAIL, f'{directory} is not writable ({error.strerror})', todo)
    return Check('compile cache', OK, directory)


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
