"""What this machine has against what is wanted of it: versions, devices, memory, disk, logins (`cosample doctor`).

JAX is asked for its devices in a process of its own, so that an accelerator that hangs or takes the process down is a
line here too.
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
from pathlib import Path
from typing import NamedTuple

from cosample_jax import cells
from cosample_jax import config as config_lib
from cosample_jax.gemma import config as gemma_config
from cosample_jax.gemma import sources
from cosample_jax.records import is_remote

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


def checks(config, workdir) -> list[Check]:
    """Of the machine alone, and with a `config` for its run in `workdir`."""
    return [*_software(), _extras(), *_devices(config), _disk(config, workdir), _compile_cache(), _credentials()]


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
