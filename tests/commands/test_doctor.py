"""doctor: every check can pass and fail, a failure says the next step, and tokens are never shown."""

import importlib.metadata
import json
import os
import socket
import tomllib
from types import SimpleNamespace

import pytest

from cosample_jax import cli, machine
from cosample_jax.errors import UserError
from cosample_jax.gemma import sources
from cosample_jax.grading import programs

SECRET = 'not-to-be-shown'
TOKENS = (
    'GEMINI_API_KEY',
    'OPENAI_API_KEY',
    'GOOGLE_APPLICATION_CREDENTIALS',
    'CLOUDSDK_CONFIG',
    'HF_TOKEN',
    'HF_TOKEN_PATH',
    'HF_HOME',
    'KAGGLE_API_TOKEN',
    'KAGGLE_USERNAME',
    'KAGGLE_KEY',
)
TOKENS += ('KAGGLE_CONFIG_DIR', 'XDG_CACHE_HOME', 'XDG_CONFIG_HOME')


@pytest.fixture(autouse=True)
def probe(monkeypatch, tmp_path, repository):
    """A home of its own, a network that nobody may touch, a JAX that needs no second process, a wide terminal."""

    def refuse(*_):
        raise AssertionError('doctor touched the network')

    monkeypatch.setattr(socket.socket, 'connect', refuse)
    monkeypatch.setattr(socket, 'getaddrinfo', refuse)
    for name in TOKENS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'tfds'))
    monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', str(tmp_path / 'compiled'))
    monkeypatch.setenv('COLUMNS', '400')
    monkeypatch.chdir(repository)
    jax = SimpleNamespace(returncode=0, stdout='[["cpu", "cpu", 0]]\n', stderr='')
    monkeypatch.setattr(machine.subprocess, 'run', lambda *_, **__: jax)
    monkeypatch.setattr(machine.glob, 'glob', lambda pattern: [])
    return jax


@pytest.fixture
def examine(capsys, tmp_path):
    """Runs doctor; (exit status, {check: (state, detail)}, all that was printed)."""

    def run(*argv, config='configs/arithmetic.py:size=smoke'):
        argv = [f'--config={config}', f'--workdir={tmp_path / "run"}', *argv] if config else list(argv)
        status = cli.main(['doctor', *argv])
        printed = capsys.readouterr()
        rows = [[cell.strip() for cell in line.split('│')[1:4]] for line in printed.out.splitlines() if '│' in line]
        return status, {name: (state, detail) for name, state, detail in rows}, printed.out + printed.err

    return run


def test_a_machine_and_a_run_that_are_ready(examine, tmp_path):
    status, checks, _ = examine()
    assert status == 0 and {state for state, _ in checks.values()} == {'ok'}
    assert {f'config.models.{name}' for name in ('weak', 'strong', 'student')} < set(checks)
    assert checks['tokenizer'] == ('ok', 'the shipped one')
    assert checks['config.models.weak'] == ('ok', 'tiny_weak: shipped weights')
    assert list((tmp_path / 'compiled').iterdir()) == [] and not (tmp_path / 'run').exists()


def test_without_a_configuration_only_the_machine_is_examined(examine):
    status, checks, _ = examine(config=None)
    assert status == 0 and 'Python' in checks and 'tokenizer' not in checks


def test_overrides_need_a_configuration(examine):
    status, _, printed = examine('--config.seed=1', config=None)
    assert status == 2 and '--config is needed' in printed


def test_versions(examine, monkeypatch):
    real = importlib.metadata.version
    found = {'flax': '0.11.9', 'jax': '0.13.0', 'absl-py': '2.1'}
    monkeypatch.setattr(importlib.metadata, 'version', lambda name: found.get(name) or real(name))
    status, checks, printed = examine(config=None)
    assert status == 2 and checks['JAX'] == ('warn', '0.13.0; tried with versions below 0.13 only')
    assert checks['packages'] == ('FAIL', 'flax 0.11.9') and "pip install --upgrade 'flax>=0.12'" in printed
    found |= {'jax': '0.9.2', 'flax': '0.12'}
    _, checks, printed = examine(config=None)
    assert checks['JAX'][0] == 'FAIL' and "pip install --upgrade 'jax>=0.10,<0.13'" in printed
    for version in ('0.10.0', '0.11.2', '0.12.9.dev1+cpu'):
        found['jax'] = version
        assert examine(config=None)[1]['JAX'] == ('ok', version)


def test_the_extras_are_the_packages(repository):
    extras = tomllib.loads((repository / 'pyproject.toml').read_text())['project']['optional-dependencies']
    assert set(machine.EXTRAS) == set(extras) - {'dev', 'test'}


def test_an_accelerator_that_cannot_be_initialised_is_a_clear_line(examine, probe, monkeypatch):
    probe.returncode, probe.stdout = 1, ''
    probe.stderr = 'Traceback\n  File x\nRuntimeError: The TPU is already in use by process with pid 7.\n'
    status, checks, printed = examine()
    assert status == 2 and printed.strip().endswith('not ready: devices; what to do stands above')
    assert checks['devices'][1].endswith(
        'cannot be initialised: RuntimeError: The TPU is already in use by process with pid 7.'
    )

    def hang(*_, timeout, **__):
        raise machine.subprocess.TimeoutExpired('python', timeout)

    monkeypatch.setattr(machine.subprocess, 'run', hang)
    assert 'no devices in 180 s' in examine()[1]['devices'][1]


def test_jax_is_really_asked(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
    (check,) = machine._devices(None)
    assert check.state == 'ok' and ' x cpu' in check.detail
    monkeypatch.setenv('JAX_PLATFORMS', 'nonsense')
    (check,) = machine._devices(None)
    assert check.state == 'FAIL' and 'nonsense' in check.detail and check.todo


@pytest.mark.parametrize(('platforms', 'state'), [('', 'FAIL'), ('cpu', 'warn')])
def test_an_accelerator_that_jax_leaves_out(examine, monkeypatch, platforms, state):
    monkeypatch.setattr(machine.glob, 'glob', lambda pattern: ['/dev/nvidia0'] if 'nvidia' in pattern else [])
    monkeypatch.setenv('JAX_PLATFORMS', platforms)
    _, checks, printed = examine()
    assert checks['devices'][0] == state and 'NVIDIA GPU' in checks['devices'][1]
    assert ("pip install --upgrade -e '.[gpu]'" in printed) == (state == 'FAIL')


def test_a_mesh_larger_than_the_machine(examine, probe):
    status, checks, _ = examine('--config.mesh.data=2')
    assert status == 2 and checks['mesh'] == ('FAIL', 'data=2 x fsdp=1 x tensor=1 is 2 devices, and there are 1')
    probe.stdout = '[["tpu", "TPU v5 lite", 17179869184], ["tpu", "TPU v5 lite", 17179869184]]'
    status, checks, _ = examine('--config.mesh.data=2')
    assert status == 0 and checks['devices'][1].startswith('2 x tpu (TPU v5 lite, 16 GiB each)')


@pytest.mark.parametrize(('free', 'state'), [(1e6, 'FAIL'), (30e6, 'warn'), (1e12, 'ok')])
def test_disk_space(examine, monkeypatch, free, state):
    """The tiny models have 68 to 204 thousand parameters: a fine-tuning run takes a few MB, all of them tens."""
    monkeypatch.setattr(machine.shutil, 'disk_usage', lambda path: SimpleNamespace(free=free))
    status, checks, _ = examine()
    assert checks['disk'][0] == state and (status == 2) == (state == 'FAIL')


def test_a_compile_cache_that_cannot_be_written(examine, monkeypatch, tmp_path):
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', str(tmp_path / 'file' / 'cache'))
    status, checks, printed = examine()
    assert status == 2 and checks['compile cache'][0] == 'FAIL' and 'export JAX_COMPILATION_CACHE_DIR=' in printed


GEMMA2 = [f'--config.models.{name}.variant={v}' for name, v in (('weak', 'gemma2_9b'), ('strong', 'gemma2_27b'))]
GEMMA2 += ['--config.models.student.variant=gemma_7b']
GEMMA2 += [f'--config.models.{name}.init=weights/{name}' for name in ('weak', 'strong', 'student')]


def test_missing_weights_come_with_the_steps_to_get_them(examine):
    status, checks, printed = examine(*GEMMA2)
    assert status == 2 and checks['config.models.weak'] == ('FAIL', 'gemma2_9b: weights/weak is not there')
    for step in (
        'https://www.kaggle.com/models/google/gemma-2 ',
        'https://huggingface.co/google/gemma-2-9b\n',
        'kaggle models instances versions download google/gemma-2/flax/gemma2-9b/1 -p weights/weak --untar',
        'hf download google/gemma-2-9b --local-dir weights/weak',
        'hf download google/gemma-7b --local-dir weights/student',
        'export HF_TOKEN=...',
        'export KAGGLE_API_TOKEN=...',
    ):
        assert step in printed, step
    assert 'then:' not in printed  # the configuration says so already
    _, _, printed = examine(*GEMMA2, '--config.models.weak.init=package')
    assert 'then: --config.models.weak.init=weights/gemma2_9b; the tokenizer is weights/gemma2_9b/' in printed


@pytest.mark.parametrize('where', ['environment', 'files'])
def test_a_token_is_noticed_and_never_shown(examine, monkeypatch, tmp_path, where):
    if where == 'environment':
        for name in ('HF_TOKEN', 'KAGGLE_USERNAME', 'KAGGLE_KEY'):
            monkeypatch.setenv(name, SECRET)
    else:
        for file in ('.cache/huggingface/token', '.kaggle/kaggle.json'):
            path = tmp_path / 'home' / file
            path.parent.mkdir(parents=True)
            path.write_text(SECRET)
    _, _, printed = examine(*GEMMA2)
    assert printed.count('a token is set up (') == 2 and SECRET not in printed and 'export HF_TOKEN' not in printed


@pytest.mark.parametrize(
    ('family', 'state', 'message'),
    [
        ('gemma2', 'ok', 'the tokenizer of Gemma 1 and 2'),
        ('gemma3', 'FAIL', 'is the tokenizer of Gemma 3'),
        ('', 'FAIL', 'empty'),
    ],
)
def test_the_tokenizer(examine, gemma_tokenizer, family, state, message):
    path = gemma_tokenizer(family) if family else ''
    _, checks, printed = examine(*GEMMA2, f'--config.tokenizer={path}')
    assert checks['tokenizer'][0] == state and message in checks['tokenizer'][1]
    assert ('\ntokenizer:\n' in printed) == (state == 'FAIL')


def test_a_tokenizer_that_is_named_and_not_there_keeps_its_name(examine):
    _, checks, printed = examine(*GEMMA2, '--config.tokenizer=weights/weak/tokenizer.model')
    assert checks['tokenizer'][0] == 'FAIL'
    assert 'as tokenizer.model: put it at weights/weak/tokenizer.model' in printed


def test_models_of_two_families_are_refused(examine):
    _, checks, printed = examine(*GEMMA2, '--config.models.student.variant=gemma3_1b')
    assert checks['tokenizer'][0] == 'FAIL' and 'a run has one tokenizer' in checks['tokenizer'][1]
    assert 'so that all models share one' in printed


def test_the_memory_of_a_device(examine, probe):
    """Gemma 2 27B has 27.2 billion parameters: 51 GiB in bfloat16, 406 with what training keeps of each."""
    probe.stdout = json.dumps([['tpu', 'TPU v5p', 95 * 2**30]] * 8)
    _, checks, printed = examine(*GEMMA2)
    assert checks['memory'][0] == 'FAIL' and 'strong takes at least 405.72 of 95 GiB' in checks['memory'][1]
    assert '\nmemory:\n  cosample plan' in printed
    _, checks, _ = examine(*GEMMA2, '--config.mesh.fsdp=8')
    assert checks['memory'][0] == 'ok' and 'strong takes at least 50.71 of 95 GiB' in checks['memory'][1]
    _, checks, _ = examine(*GEMMA2, '--config.finetune.lora_rank=16')
    assert checks['memory'][0] == 'ok' and 'strong takes at least 50.71 of 95 GiB' in checks['memory'][1]


def test_weights_that_nobody_publishes(examine):
    _, checks, printed = examine('--config.models.weak.variant=mini_weak', '--config.models.weak.init=nowhere')
    assert checks['config.models.weak'][0] == 'FAIL' and 'weights' not in checks
    assert "\nconfig.models.weak:\n  --config.models.weak.init='pretrain'" in printed


def test_credentials(examine, monkeypatch, tmp_path):
    assert examine(config=None)[1]['credentials'][1] == 'none for Hugging Face, Kaggle, Google Cloud, Gemini, OpenAI'
    monkeypatch.setenv('GEMINI_API_KEY', SECRET)
    login = tmp_path / 'home' / '.config' / 'gcloud' / 'application_default_credentials.json'
    login.parent.mkdir(parents=True)
    login.write_text(SECRET)
    _, checks, printed = examine(config=None)
    assert checks['credentials'][1].startswith(f'Google Cloud ({login}); Gemini ($GEMINI_API_KEY); none for')
    assert SECRET not in printed


def test_what_lies_on_an_object_store_is_left_alone(examine, probe):
    probe.stdout = json.dumps([['tpu', 'TPU v5p', 500 * 2**30]])
    remote = [arg.replace('=weights/', '=gs://nobody/') for arg in GEMMA2]
    status, checks, _ = examine(*remote, '--config.tokenizer=gs://nobody/tokenizer.model', '--workdir=gs://nobody/run')
    assert status == 0
    assert [checks[name][0] for name in ('tokenizer', 'config.models.weak', 'disk')] == ['warn', 'warn', 'ok']


def test_the_files_of_the_task(examine, tmp_path):
    config = 'configs/gsm8k_tiny.py'
    status, checks, _ = examine(config=config)
    assert status == 0 and checks['task data'][0] == 'warn'
    status, checks, printed = examine(config=f'{config}:manual_dir={tmp_path}')
    assert status == 2 and checks['task data'] == ('FAIL', f'GSM8K: {tmp_path}/train.jsonl is not there')
    assert '\ntask data:\n  fetch https://' in printed
    os.makedirs(tmp_path / 'tfds' / 'gsm8k')
    assert examine(config=config)[1]['task data'][0] == 'ok'


def test_whether_programs_can_be_held(examine, monkeypatch):
    config = 'configs/code.py'
    assert examine()[1]['grading'] == ('ok', 'answers are compared')
    assert examine(config=config)[1]['grading'][1].startswith('programs run behind seccomp')

    def refuse(pool):
        raise UserError('programs cannot be run safely here (refused: it is a test): grade them on Linux')

    monkeypatch.setattr(programs.Pool, 'walls', refuse)
    _, checks, printed = examine(config=config)
    assert checks['grading'] == ('FAIL', 'programs cannot be run safely here (refused: it is a test)')
    assert '\ngrading:\n  grade them on Linux' in printed


def test_every_real_variant_has_a_source():
    from cosample_jax.gemma.config import VARIANTS

    assert set(sources.SOURCES) == {name for name, variant in VARIANTS.items() if variant.nominal_params}


def test_what_cannot_be_downloaded_must_be_there(examine, tmp_path, shared_data):
    status, checks, _ = examine(config='configs/math.py')
    assert status == 2 and checks['task data'][0] == 'FAIL'
    assert checks['task data'][1].startswith('config.task.manual_dir is empty: MATH')
    assert examine(config=f'configs/math.py:manual_dir={shared_data}')[1]['task data'][0] == 'ok'
    _, checks, printed = examine(config=f'configs/own_data.py:data={tmp_path}')
    assert checks['task data'][0] == 'FAIL' and 'train.jsonl is not there: write train.jsonl' in printed
