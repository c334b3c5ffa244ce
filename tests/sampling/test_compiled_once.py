"""Each shape is compiled once: in a process, and with the cache on disk, on a machine."""

import os
import subprocess
import sys
import textwrap

import pytest

SCRIPT = textwrap.dedent("""
    import collections
    import jax
    from cosample_jax.gemma import model
    from cosample_jax.gemma.config import variant
    from cosample_jax.sampling.engine import Engine
    from cosample_jax.sampling.policy import SamplingSettings
    from cosample_jax.sampling.schedule import Request

    events = collections.Counter()
    jax.monitoring.register_event_listener(lambda name, **_: events.update([name.rsplit('/', 1)[-1]]))
    config = variant('tiny_weak')
    params = jax.jit(model.init, static_argnums=0)(config, jax.random.key(0))
    settings = SamplingSettings(
        seed=0, purpose='train', temperature=0.7, top_k=3, max_new_tokens=70, slots=8, stop_ids=(1,)
    )
    # Questions of one and of three pages, samples of one and of two, rows that are given several.
    requests = [
        Request(f'p{i}', k, [2, 10, 11, 20 + i, *[30] * (i % 5 * 35)], 5 + 9 * k) for i in range(20) for k in range(3)
    ]
    engine = Engine(params, config, settings, requests)
    print(len(list(engine.sample(requests))), end=' ')
    again = events['cache_misses'] + events['cache_hits']
    list(engine.sample(requests[7:]))
    print(events['cache_misses'], events['cache_hits'], events['cache_misses'] + events['cache_hits'] - again)
""")


def run(cache):
    environment = dict(
        os.environ,
        JAX_COMPILATION_CACHE_DIR=str(cache),
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS='0',
        JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES='-1',
        XLA_FLAGS='',
    )
    done = subprocess.run([sys.executable, '-c', SCRIPT], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return [int(number) for number in done.stdout.split()]


@pytest.mark.slow
def test_a_second_process_compiles_nothing(tmp_path):
    samples, compiled, found, _ = run(tmp_path)
    assert samples == 60 and compiled > 5
    assert run(tmp_path)[:3] == [60, 0, compiled + found]


@pytest.mark.slow
def test_a_second_call_compiles_nothing(tmp_path):
    assert run(tmp_path)[3] == 0
