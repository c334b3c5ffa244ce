"""sample: one nested pool per source model, at its high budget, few-shot, on the training problems.

The low budget is a prefix of the same pool, so it costs nothing more.
"""

import functools
import time

import jax

from cosample_jax import cells, checkpoint, memory, progress, sharding, tasks
from cosample_jax.gemma import config as gemma_config
from cosample_jax.gemma import model
from cosample_jax.gemma.tokenizer import Tokenizer
from cosample_jax.sampling import asking
from cosample_jax.sampling.engine import Engine
from cosample_jax.sampling.pool import fill_pool


def run(config, workdir) -> dict:
    tokenizer = Tokenizer(workdir.tokenizer_path)
    shots = asking.shots(workdir)
    problems = workdir.problems('train')
    counters = {}
    mesh = sharding.run_mesh(config)
    for source in config.roles.sources:
        template = tasks.template(config, tokenizer, config.models[source].chat)
        variant = gemma_config.variant(config.models[source].variant)
        requests = asking.requests(
            template,
            problems,
            shots,
            count=functools.partial(cells.sample_count, config, source, 'high'),
        )
        settings = memory.with_slots(asking.settings(config, template, 'train'), variant, config.mesh, requests)
        engine = Engine(
            checkpoint.load_weights(workdir.model_dir(source), variant, model.compute_dtype(), mesh),
            variant,
            settings,
            requests,
            mesh,
        )
        store = workdir.pool('train', source)
        asking.store_prompt(store.directory, template, shots)
        start = time.monotonic()
        with progress.bar(f'sample {source}', total=len(requests), unit='samples', initial=len(store)) as bar:
            fill_pool(store, engine, requests, text=template.text, model=source, bar=bar)
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
