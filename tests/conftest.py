"""What tests share: eight fake CPU devices, a compilation cache that outlives them, strict broadcasting, and
SentencePiece files that look like Gemma's.
"""

import functools
import gc
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import hypothesis
import pytest

_ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 300  # with processes that may wait for one another for ever; a busy machine is slow

# All of this must be set before anything imports jax; as environment variables they reach the commands
# that tests start as well, and cost nothing in tests without JAX.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} --xla_force_host_platform_device_count=8'.strip()
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(_ROOT / '.cache' / 'jax'))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.5')
os.environ.setdefault('JAX_NUMPY_RANK_PROMOTION', 'raise')


def _share(name: str):
    """Lets every test import a module from beside this file. Not by sys.path: the folders here, gemma among them,
    would pass for packages.
    """
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f'{name}.py'))
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])


for _name in ('api_parts', 'api_openai', 'api_gemini', 'api_server'):
    _share(_name)
_share('hosts_run')

# A busy machine is no failure: what hypothesis tries has no time limit.
hypothesis.settings.register_profile('patient', deadline=None)
hypothesis.settings.load_profile('patient')


@pytest.fixture(scope='module', autouse=True)
def _few_programs():
    """Linux gives a process 65,530 pieces of memory, a compiled program takes a few, and JAX keeps them all: a process
    that runs most of the tests comes to its last one, and crashes while it compiles.
    """
    yield
    maps = Path('/proc/self/maps')
    if 'jax' in sys.modules and maps.exists() and maps.read_bytes().count(b'\n') > 35_000:
        sys.modules['jax'].clear_caches()
        gc.collect()


@pytest.fixture(scope='session')
def repository() -> Path:
    """The root of the checkout."""
    return _ROOT


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """The real data sets beside the checkout; tests that need them skip, visibly, where they are absent."""
    path = _ROOT.parent / 'shared' / 'data'
    if not path.is_dir():
        pytest.skip('no ../shared/data beside the checkout')
    return path


@pytest.fixture(scope='session')
def run_processes():
    """script, directory, count, *arguments -> what each of `count` processes printed, all of which must end well.

    A process is told DIRECTORY COUNT INDEX PORT *ARGUMENTS. Given `kill_when`, all are killed once it is true.
    """

    def run(script, directory, count, *arguments, kill_when=None):
        with socket.socket() as free:
            free.bind(('localhost', 0))
            port = free.getsockname()[1]
        environment = {name: value for name, value in os.environ.items() if name not in ('XLA_FLAGS', 'JAX_PLATFORMS')}
        processes = [
            subprocess.Popen(
                [sys.executable, script, directory, *map(str, (count, index, port, *arguments))],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for index in range(count)
        ]
        try:
            if kill_when is not None:
                end = time.monotonic() + PATIENCE_S
                while not kill_when() and time.monotonic() < end and all(each.poll() is None for each in processes):
                    time.sleep(0.05)
                for process in processes:
                    process.kill()
            printed = [process.communicate(timeout=PATIENCE_S)[0] for process in processes]
        finally:
            for process in processes:
                process.kill()  # one that waits for another for ever
        ended = 0 if kill_when is None else -signal.SIGKILL
        assert [process.returncode for process in processes] == [ended] * count, printed
        return printed

    return run


@pytest.fixture(scope='session')
def on_the_tpu_compiler():
    """Runs a script where JAX sees no fake devices, and libtpu is loaded by nobody else; returns what it prints."""
    if importlib.util.find_spec('libtpu') is None:
        pytest.skip('the TPU compiler: libtpu is not importable (make check-all)')
    environment = {name: value for name, value in os.environ.items() if name not in ('XLA_FLAGS', 'JAX_PLATFORMS')}
    imports = 'from cosample_jax import aot, devices, memory\nfrom cosample_jax.gemma.config import variant\n'

    def run(script: str) -> str:
        script = imports + textwrap.dedent(script)
        done = subprocess.run([sys.executable, '-c', script], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run


@pytest.fixture(scope='session')
def gemma_tokenizer(tmp_path_factory):
    """family, size -> the path of a SentencePiece model with the size and the special pieces of the official one.

    The official files cannot be shipped. Ids are theirs up to the runs of newlines; behind come the pieces of the
    embedded tokenizer, then unused ones.
    """
    directory = tmp_path_factory.mktemp('tokenizers')

    @functools.cache
    def make(family: str, size: int = 0) -> Path:
        from sentencepiece import sentencepiece_model_pb2

        from cosample_jax import embedded

        user_defined, unused = 4, 5
        start_of_turn = 105 if family == 'gemma3' else 106
        model = sentencepiece_model_pb2.ModelProto.FromString(embedded.tokenizer_bytes())
        small = list(model.pieces)
        del model.pieces[:]
        model.pieces.extend(small[:4])  # <pad>, <eos>, <bos>, <unk>

        def add(piece, kind):
            model.pieces.add(piece=piece, score=0.0, type=kind)

        for number in range(4, start_of_turn):
            add(f'<unused{number}>', user_defined)
        for piece in ('<start_of_turn>', '<end_of_turn>'):
            add(piece, user_defined)  # as official: SentencePiece makes them of any text that spells them
        for length in range(1, 32):
            add('\n' * length, user_defined)
        model.pieces.extend(small[8:])
        for number in range(len(model.pieces), size or (262_144 if family == 'gemma3' else 256_000)):
            add(f'<filler{number}>', unused)
        path = directory / f'{family}-{len(model.pieces)}.model'
        path.write_bytes(model.SerializeToString())
        return path

    return make
