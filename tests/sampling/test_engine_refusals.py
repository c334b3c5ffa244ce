"""What the engine refuses, by name: prompts without room, requests it was not built for, logits that are no numbers."""

import jax.numpy as jnp
import numpy as np
import pytest
from drawing import BOS, GEMMA2, GREEDY, SAMPLED, V, compiled, draw, parameters, prompts, wanted

from cosample_jax.errors import UserError
from cosample_jax.sampling.engine import Engine
from cosample_jax.sampling.schedule import Request


def test_nan_logits_name_the_problem():
    """Only p3's own token has a NaN embedding, and only p3 is blamed."""
    params = parameters()
    table = np.array(params['embedder']['input_embedding'])
    ids = {'p1': [BOS, 6, 7, 8, 9], 'p3': [BOS, 6, 7, 8, 39, 10]}
    table[39] = np.nan
    params = params | {'embedder': {'input_embedding': jnp.asarray(table)}}
    requests = [Request(id, 0, prompt) for id, prompt in ids.items()]
    with pytest.raises(UserError, match='not numbers on problem p'):
        draw(GREEDY, requests, params=params)


@pytest.mark.parametrize(
    ('prompt', 'message'),
    [
        ([BOS] + [6] * 88, 'problem long has 89 tokens, .* 12 new ones .* 100 of g2'),
        ([], 'problem long is empty'),
        ([6, BOS, 7], r'problem long begins with token 6, not with <bos> \(2\)'),
        ([BOS, 6, V], 'problem long has token 40, and g2 knows 40: .* another model'),
    ],
)
def test_impossible_prompts_are_refused_before_anything_is_compiled(prompt, message):
    before = compiled()
    with pytest.raises(UserError, match=message):
        draw(requests=[*wanted(), Request('long', 0, prompt)])
    assert compiled() == before


def test_the_longest_possible_prompt_fits():
    done = draw(requests=[*wanted(), Request('long', 0, [BOS] + [6] * 87)])
    assert done['long', 0].num_tokens <= 12


def test_a_request_the_engine_was_not_built_for():
    engine = Engine(parameters(), GEMMA2, SAMPLED, wanted())
    for prompt in ([7] * 14, prompts()['p0'][:5], [*prompts()['p0'], *[8] * 20]):
        with pytest.raises(ValueError, match='stranger'):
            list(engine.sample([Request('stranger', 0, prompt)]))
    with pytest.raises(ValueError, match='p0'):
        list(engine.sample([Request('p0', 0, prompts()['p0'], max_new_tokens=13)]))


def test_no_requests():
    assert list(Engine(parameters(), GEMMA2, SAMPLED, []).sample([])) == []
    assert list(Engine(parameters(), GEMMA2, SAMPLED, wanted()).sample([])) == []
