"""sample: one nested pool per source model, few-shot, on the training problems: as many samples as any cell needs.

The low budget is a prefix of the high one, and so is what a recipe draws: each costs nothing more. Samples that another
run has are not drawn again (config.sampling.pools). Recipes that spread their samples by what is solved are drawn last.
"""

import time

import jax

from cosample_jax import allocating, cells, progress, reuse, sharding
from cosample_jax.writers import Writer

# Of the counters of an API; the ledger has all.
_OF_APIS = ('requests', 'retries', 'usd', 'blocked', 'empty')


def run(config, workdir) -> dict:
    counters = {}
    mesh = sharding.run_mesh(config)
    problems = workdir.problems('train')
    for source in cells.sources(config):
        writer = Writer(config, workdir, source, cells.pool_counts(config, source, problems).__getitem__)
        store, requests = writer.store, writer.requests
        reused = reuse.take(config, workdir, source, requests) if config.sampling.pools else 0
        engine = writer.engine if writer.missing(requests) else None  # nothing is loaded, nobody is asked for nothing
        start = time.monotonic()
        with progress.bar(f'sample {source}', total=len(requests), unit='samples', initial=len(store)) as bar:
            if engine:
                writer.fill(requests, bar)
        seconds = time.monotonic() - start
        table = store.table()
        counters[source] = {
            'samples': len(requests),
            'reused': reused,
            'tokens': sum(table.column('num_tokens').to_pylist()),
            'truncated': table.column('finish').to_pylist().count('length'),
        }
        if engine and writer.is_remote:
            counters[source] |= {name: engine.counters.get(name, 0) for name in _OF_APIS}
        elif engine:
            counters[source] |= engine.usage.shares() | _chip_time(seconds, engine.usage.drawn, mesh)
    for name, recipe in config.recipes.items():
        if recipe.allocation != 'uniform' and not workdir.allocation(name).exists():
            allocating.allocate(config, workdir, name, recipe.allocation, recipe.samples)
    return counters


def _chip_time(seconds: float, drawn: int, mesh) -> dict:
    """What the tokens that this attempt drew took of the devices, compilation and prompts included; `plan` reads it."""
    if not drawn:
        return {}
    chips = mesh.size if mesh else 1
    return {'chip_seconds': round(seconds * chips, 3), 'drawn': drawn, 'device': jax.devices()[0].device_kind}
