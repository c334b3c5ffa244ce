"""What tests share: eight fake CPU devices, a compilation cache that outlives them, strict broadcasting."""

import os
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parent.parent

# All of this must be set before anything imports jax; as environment variables they reach the commands
# that tests start as well, and cost nothing in tests without JAX.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} --xla_force_host_platform_device_count=8'.strip()
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(_ROOT / '.cache' / 'jax'))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.5')
os.environ.setdefault('JAX_NUMPY_RANK_PROMOTION', 'raise')


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
