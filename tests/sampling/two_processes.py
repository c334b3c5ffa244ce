"""Fills a pool: `python two_processes.py DIRECTORY COUNT INDEX PORT SIGTERM`, as process INDEX of COUNT.

There are four devices in all. SIGTERM comes to the last process when it has seen so many samples; 0 is never.
Run by test_two_processes.py, as the processes of a slice of TPU hosts would run.
"""

import os
import signal
import sys

directory, count, index, port, sigterm = sys.argv[1], *map(int, sys.argv[2:])
os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = f'--xla_force_host_platform_device_count={4 // count}'

from cosample_jax import hosts  # noqa: E402

hosts.join(f'localhost:{port}', count, index)

import dataclasses  # noqa: E402

import jax  # noqa: E402

from cosample_jax import embedded, memory, preemption, sharding  # noqa: E402
from cosample_jax.gemma import model  # noqa: E402
from cosample_jax.gemma.config import variant  # noqa: E402
from cosample_jax.records import Sample, Store  # noqa: E402
from cosample_jax.sampling.engine import Engine  # noqa: E402
from cosample_jax.sampling.policy import SamplingSettings  # noqa: E402
from cosample_jax.sampling.pool import fill_pool  # noqa: E402
from cosample_jax.sampling.schedule import Request  # noqa: E402

config = dataclasses.replace(variant('tiny_weak'), scan_unroll=1)
params = jax.jit(model.init, static_argnums=0)(config, jax.random.key(0))
tokenizer = embedded.tokenizer()
requests = [
    Request(f'p{i}', k, tokenizer.encode(f'Q: {i} pens and {i * i} more\nA:', bos=True))
    for i in range(9)
    for k in range(3)
]
settings = SamplingSettings(
    seed=0, purpose='train', temperature=1.0, top_k=20, max_new_tokens=20, slots=8, stop_ids=(1, 7)
)
mesh = sharding.make_mesh(memory.Sizes(data=2, tensor=2))
engine = Engine(jax.device_get(params), config, settings, requests, mesh)
store = Store(directory, Sample, process=jax.process_index())


class Bar:
    """What counts the samples, and ends the life of a spot machine."""

    seen = 0

    def advance(self, count, tokens):
        self.seen += count
        if self.seen == sigterm and index == jax.process_count() - 1:
            os.kill(os.getpid(), signal.SIGTERM)


try:
    for part in (requests[:11], requests):  # as if it had been interrupted in between
        fill_pool(store, engine, part, text=tokenizer.decode, model='weak', bar=Bar(), commit_every=4)
except preemption.Preempted:
    print('preempted')
print(f'process {jax.process_index()} of {jax.process_count()}, {jax.device_count()} devices: {len(store)} samples')
