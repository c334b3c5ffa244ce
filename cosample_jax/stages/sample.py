"""sample: one nested pool per source model, few-shot, on the training problems: as many samples as any cell needs.

The low budget is a prefix of the high one, and so is what a recipe draws: each costs nothing more. Samples that another
run has are not drawn again (config.sampling.pools). Recipes that spread their samples by what is solved are drawn last.
"""

import time

import jax

from cosample_jax import cells, checkpoint, memory, progress, reuse, sharding, tasks
from cosample_jax import config as config_lib
from cosample_jax.gemma import config as gemma_config
from cosample_jax.gemma import model
from cosample_jax.gemma.tokenizer import Tokenizer
from cosample_jax.sampling import asking
from cosample_jax.sampling.engine import Engine
from cosample_jax.sampling.pool import fill_pool


def run(config, workdir) -> dict:
    tokenizer = Tokenizer(workdir.tokenizer_path)
    problems = workdir.problems('train')
    counters = {}
    mesh = sharding.run_mesh(config)
    for source in cells.sources(config):
        entry = config.models[source]
        shots = asking.shots(workdir) if entry.shots else []
        template = tasks.template(config, tokenizer, entry.chat)
        variant = gemma_config.variant(entry.variant)
        requests = asking.requests(template, problems, shots, cells.pool_counts(config, source, problems).__getitem__)
        settings = asking.settings(config, template, 'train', source=source)
        settings = memory.with_slots(settings, variant, config.mesh, requests)
        engine = Engine(
            checkpoint.load_weights(
                workdir.model_dir(config_lib.weights_of(config, source)), variant, model.compute_dtype(), mesh
            ),
            variant,
            settings,
            requests,
            mesh,
        )
        store = workdir.pool('train', source)
        asking.store_prompt(store.directory, template, shots)
        reused = reuse.take(config, workdir, source, requests) if config.sampling.pools else 0
        start = time.monotonic()
        with progress.bar(f'sample {source}', total=len(requests), unit='samples', initial=len(store)) as bar:
            fill_pool(store, engine, requests, text=template.text, model=source, bar=bar)
        seconds = time.monotonic() - start
        table = store.table()
        counters[source] = {
            'samples': len(requests),
            'reused': reused,
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
