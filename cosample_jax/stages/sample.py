"""sample: one nested pool per source model, at its high budget, few-shot, on the training problems.

The low budget is a prefix of the same pool, so it costs nothing more.
"""

import functools
import time

import jax

from cosample_jax import cells, progress, sharding
from cosample_jax.writers import Writer


def run(config, workdir) -> dict:
    counters = {}
    mesh = sharding.run_mesh(config)
    for source in config.roles.sources:
        writer = Writer(config, workdir, source, functools.partial(cells.sample_count, config, source, 'high'))
        store, engine, requests = writer.store, writer.engine, writer.requests
        start = time.monotonic()
        with progress.bar(f'sample {source}', total=len(requests), unit='samples', initial=len(store)) as bar:
            writer.fill(requests, bar)
        seconds = time.monotonic() - start
        table = store.table()
        counters[source] = {
            'samples': len(requests),
            'tokens': sum(table.column('num_tokens').to_pylist()),
            'truncated': table.column('finish').to_pylist().count('length'),
            **engine.usage.shares(),
            **_chip_time(seconds, engine.usage.drawn, mesh),
        }
    return counters


def _chip_time(seconds: float, drawn: int, mesh) -> dict:
    """What the tokens that this attempt drew took of the devices, compilation and prompts included; `plan` reads it."""
    if not drawn:
        return {}
    chips = mesh.size if mesh else 1
    return {'chip_seconds': round(seconds * chips, 3), 'drawn': drawn, 'device': jax.devices()[0].device_kind}
