"""sample: one nested pool per source model, few-shot, on the training problems: as many samples as any cell needs.

The low budget is a prefix of the high one, and so is what a recipe draws: each costs nothing more. Samples that another
run has are not drawn again (config.sampling.pools). Recipes that spread their samples by what is solved are drawn last.
"""

import time
from collections.abc import Callable

import jax

from cosample_jax import allocating, cells, hosts, progress, reuse, sharding
from cosample_jax import config as config_lib
from cosample_jax.sampling.policy import hash32
from cosample_jax.writers import Writer

# Of the counters of an API; the ledger has all.
_OF_APIS = ('requests', 'retries', 'usd', 'blocked', 'empty')


def run(config, workdir) -> dict:
    counters = {}
    for source in cells.sources(config):
        if config_lib.endpoint(config, source) is not None:
            counters[source] = hosts.alone(_draw, config, workdir, source)  # an API is asked by one process
        else:
            counters[source] = _draw(config, workdir, source)
    for name, recipe in config_lib.adaptive(config).items():
        if not workdir.allocation(name).exists():
            allocating.allocate(config, workdir, name, recipe.allocation, recipe.samples)
    return counters


def run_shard(config, workdir, shard: int, shards: int) -> list[str]:
    """Draws the samples of every `shards`-th problem; returns the sources whose pools are not complete.

    Models behind an API are left to the stage: one process asks them. So are allocations, which look at all problems.
    """
    sources = cells.sources(config)
    for source in sources:
        if config_lib.endpoint(config, source) is None:
            _draw(config, workdir, source, lambda problem_id: hash32(problem_id) % shards == shard)
    return [source for source in sources if hosts.alone(_is_missing, config, workdir, source)]


def _is_missing(config, workdir, source: str) -> bool:
    writer = _writer(config, workdir, source)
    return writer.missing(writer.requests)


def _writer(config, workdir, source: str) -> Writer:
    counts = cells.pool_counts(config, source, workdir.problems('train'))
    return Writer(config, workdir, source, counts.__getitem__)


def _draw(config, workdir, source: str, is_wanted: Callable[[str], bool] = lambda _: True) -> dict:
    """Fills the pool of a source, of the problems that are wanted; returns its counters."""
    mesh = sharding.run_mesh(config)
    writer = _writer(config, workdir, source)
    store, requests = writer.store, [request for request in writer.requests if is_wanted(request.problem_id)]
    reused = reuse.take(config, workdir, source, requests) if config.sampling.pools else 0
    engine = writer.engine if writer.missing(requests) else None  # nothing is loaded, nobody is asked for nothing
    start = time.monotonic()
    wanted = {(request.problem_id, source, request.sample_index) for request in requests}
    present = len(wanted & store.keys())
    with progress.bar(f'sample {source}', total=len(requests), unit='samples', initial=present) as bar:
        if engine:
            writer.fill(requests, bar)
    seconds = time.monotonic() - start
    table = store.table()
    counters = {
        'samples': len(requests),
        'reused': reused,
        'tokens': sum(table.column('num_tokens').to_pylist()),
        'truncated': table.column('finish').to_pylist().count('length'),
    }
    if engine and writer.is_remote:
        counters |= {name: engine.counters.get(name, 0) for name in _OF_APIS}
    elif engine:
        counters |= engine.usage.shares() | _chip_time(seconds, engine.usage.drawn, mesh)
    return counters


def _chip_time(seconds: float, drawn: int, mesh) -> dict:
    """What the tokens that this attempt drew took of the devices, compilation and prompts included; `plan` reads it."""
    if not drawn:
        return {}
    chips = mesh.size if mesh else 1
    return {'chip_seconds': round(seconds * chips, 3), 'drawn': drawn, 'device': jax.devices()[0].device_kind}
