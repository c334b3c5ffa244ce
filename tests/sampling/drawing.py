"""Small models, what is asked of them, and an engine that draws it: for the tests of the engine."""

import dataclasses
import functools

import jax
import numpy as np

from cosample_jax.gemma import model
from cosample_jax.gemma.config import gemma1, gemma2, gemma3
from cosample_jax.sampling import decode
from cosample_jax.sampling.engine import Engine
from cosample_jax.sampling.policy import SamplingSettings
from cosample_jax.sampling.schedule import Request

V, EOS, BOS = 40, 1, 2
SHAPE = {'embed': 16, 'ffw': 24, 'heads': 4, 'head_dim': 8, 'vocab': V, 'context': 100}
GEMMA2 = gemma2('g2', layers=2, kv_heads=2, window=6, scan_unroll=2, **SHAPE)
FAMILIES = {
    'multi_query': gemma1('mqa', layers=2, kv_heads=1, scan_unroll=2, **SHAPE),
    'gemma2': GEMMA2,
    'gemma2_scanned': dataclasses.replace(GEMMA2, scan_unroll=1),
    'gemma3': gemma3('g3', layers=3, kv_heads=2, window=6, scale=8.0, pattern=3, scan_unroll=3, **SHAPE),
}
GREEDY = SamplingSettings(
    seed=0, purpose='test', temperature=0.0, top_k=0, max_new_tokens=12, slots=8, stop_ids=(EOS, BOS, 5)
)
SAMPLED = dataclasses.replace(GREEDY, purpose='train', temperature=0.9, top_k=5)


@functools.cache
def parameters(config=GEMMA2, seed=1):
    """Weights large enough for the next token to depend on the whole context."""
    params = jax.jit(model.init, static_argnums=0)(config, jax.random.key(seed))
    return jax.tree.map(lambda x: 1.5 * x, params)


def prompts(count=7, prefix=11, seed=0):
    """Prompts of 14 to 19 tokens that share `prefix`, which begins with <bos>."""
    rng = np.random.default_rng(seed)
    shared = [BOS, *rng.integers(6, V, prefix).tolist()[1:]]
    return {f'p{i}': [*shared, 6 + i % 30, *rng.integers(6, V, 2 + i % 6).tolist()] for i in range(count)}


def wanted(samples=3, **kwargs):
    return [Request(id, k, prompt) for id, prompt in prompts(**kwargs).items() for k in range(samples)]


def draw(settings=SAMPLED, requests=None, every=None, config=GEMMA2, params=None, **kwargs):
    """Draws `requests` with an engine built for `every` (the same, if not given), as {key: Finished}."""
    requests = wanted() if requests is None else requests
    params = parameters(config) if params is None else params
    engine = Engine(params, config, settings, requests if every is None else every, **kwargs)
    done = list(engine.sample(requests))
    assert len(done) == len(requests)
    return {(d.problem_id, d.sample_index): d for d in done}


def compiled():
    """How many programs there are of each of the functions that the engine compiles."""
    functions = (
        decode.prefill_prefix,
        decode.prefill_questions,
        decode.empty_cache,
        decode.fill_pages,
        decode.decode,
    )
    return [function._cache_size() for function in functions]
