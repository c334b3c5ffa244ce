"""Rows with policies of their own draw what each would draw if all had its policy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawing import EOS, GEMMA2, SAMPLED, V, compiled, draw, parameters, wanted

from cosample_jax import memory, sharding
from cosample_jax.sampling import each, policy
from cosample_jax.sampling import engine as engine_lib
from cosample_jax.sampling.engine import Engine
from cosample_jax.sampling.schedule import Own
from cosample_jax.sampling.stops import StopStrings

VOCAB, ROWS = 600, 240
KINDS = {  # temperature, top_k, top_p: the way that it needs
    (0.0, 0, 1.0): each.GREEDY,
    (0.0, 3, 0.5): each.GREEDY,
    (0.7, 3, 1.0): 1,
    (1.3, 4, 0.8): 1,
    (0.7, 5, 1.0): 2,
    (1.0, 64, 0.9): 2,
    (0.9, 0, 1.0): each.ALL,
    (0.9, VOCAB, 1.0): each.ALL,
    (1.1, 65, 1.0): each.ORDER,
    (1.1, 0, 0.6): each.ORDER,
    (0.8, VOCAB, 0.9): each.ORDER,
}


def logits():
    """Peaked enough for every rule to matter, with many ties."""
    rng = np.random.default_rng(0)
    return np.round(rng.normal(size=(ROWS, VOCAB)) * 3, 1).astype(np.float32)


def keys():
    hashes = np.arange(ROWS, dtype=np.uint32)
    return policy.token_keys(policy.sample_keys(7, hashes, np.zeros(ROWS, np.int32)), np.zeros((1, ROWS), np.int32))[0]


def choose_each(kinds, most=None):
    """What rows with these settings draw; `most` is what their neediest neighbour needs."""
    temperatures, top_ks, top_ps = (np.array(column) for column in zip(*kinds, strict=True))
    needs = np.array([each.need(*kind, VOCAB) for kind in kinds], np.int32)
    most = needs.max() if most is None else most
    rows = each.RowPolicies(
        temperatures.astype(np.float32), top_ks.astype(np.int32), top_ps.astype(np.float32), needs, np.int32(most)
    )
    return [np.asarray(x) for x in jax.jit(each.choose_each)(logits(), keys(), rows)]


@pytest.mark.parametrize('kind', KINDS)
def test_a_row_draws_what_the_policy_draws_whatever_its_neighbours_need(kind):
    assert each.need(*kind, VOCAB) == KINDS[kind]
    temperature, top_k, top_p = kind
    rule = policy.Policy(temperature, top_k, (), top_p)
    expected = [np.asarray(x) for x in jax.jit(policy.choose, static_argnums=2)(logits(), keys(), rule)]
    for most in range(KINDS[kind], each.ORDER + 1):
        tokens, logprobs, sampling_logprobs = choose_each([kind] * ROWS, most)
        np.testing.assert_array_equal(tokens, expected[0])
        np.testing.assert_array_equal(logprobs, expected[1])
        np.testing.assert_allclose(sampling_logprobs, expected[2], atol=2e-6)


def test_rows_of_all_kinds_side_by_side():
    kinds = [list(KINDS)[row % len(KINDS)] for row in range(ROWS)]
    mixed = choose_each(kinds)
    for kind in KINDS:
        mine = [row for row in range(ROWS) if kinds[row] == kind]
        for got, alone in zip(mixed, choose_each([kind] * ROWS), strict=True):
            np.testing.assert_array_equal(got[mine], alone[mine])


def test_only_the_way_that_is_needed_is_gone(monkeypatch):
    """The costly ones are branches of a switch, and the noise for all tokens and the whole order are in the last."""
    rows = each.RowPolicies(np.ones(2, np.float32), *(np.ones(2, np.int32),), np.ones(2, np.float32), np.ones(2), 1)
    jaxpr = jax.make_jaxpr(each.choose_each)(jnp.zeros((2, VOCAB)), keys()[:2], rows)
    (switch,) = [e for e in jaxpr.eqns if e.primitive.name == 'cond']
    searched = [str(branch).count(f'k={VOCAB}') for branch in switch.params['branches']]
    drawn = [str(branch).count(f'shape=({VOCAB},)') for branch in switch.params['branches']]
    assert searched == [0, 0, 0, 0, 1] and drawn[:3] == [0, 0, 0] and drawn[3] > 0
    assert not [e for e in jaxpr.eqns if e.primitive.name in ('top_k', 'sort')]


def own(request, **changes):
    """The settings of its own with which a request gets what SAMPLED gives it."""
    settings = {
        'problem_hash': policy.problem_hash(SAMPLED.purpose, request.problem_id),
        'temperature': SAMPLED.temperature,
        'top_k': SAMPLED.top_k,
        'top_p': 1.0,
        'stop_ids': frozenset(SAMPLED.stop_ids),
        'stop_strings': None,
    }
    return dataclasses.replace(request, own=Own(**settings | changes))


def live(slots=8, **kwargs):
    settings = dataclasses.replace(SAMPLED, slots=slots, stop_ids=(EOS,))
    prompts = [request.prompt for request in wanted()]
    prefix = list(prompts[0][:11])
    question = max(map(len, prompts)) - len(prefix) - 1
    return Engine.live(parameters(), GEMMA2, settings, prefix=prefix, question=question, **kwargs)


def finish(loop):
    done = []
    for _ in range(1000):
        done += loop.step() if loop.is_busy else []
    assert not loop.is_busy  # no row, and no sample, is forgotten
    return {(d.problem_id, d.sample_index): d for d in done}


def plain(done):
    return {key: dataclasses.replace(d, token_logprobs=None, sampling_logprob=0.0) for key, d in done.items()}


def test_what_is_fed_while_it_runs_is_what_the_run_draws():
    requests = wanted(samples=4)
    loop, done = live().loop(), []
    for start in range(0, len(requests), 5):
        loop.add(own(request, logprobs=True) for request in requests[start : start + 5])
        done += loop.step()
    done = {(d.problem_id, d.sample_index): d for d in done} | finish(loop)
    expected = draw(requests=requests)
    assert plain(done) == plain(expected)
    for key, sample in done.items():
        assert len(sample.token_logprobs) == sample.num_tokens
        assert [token for token, _ in sample.token_logprobs][: len(sample.tokens)] == sample.tokens
        assert sum(nats for _, nats in sample.token_logprobs) == sample.logprob
        assert sample.sampling_logprob == pytest.approx(expected[key].sampling_logprob, abs=1e-5)


def test_each_request_has_its_own_settings():
    requests = wanted(samples=1)
    kinds = [{'temperature': 0.0}, {'top_k': 0}, {'top_p': 0.5, 'top_k': 0}, {'temperature': 1.5, 'top_k': 2}]
    mixed = [own(request, **kinds[i % 4]) for i, request in enumerate(requests)]
    loop = live().loop()
    loop.add(mixed)
    done = finish(loop)
    for i, kind in enumerate(kinds):
        alone = draw(dataclasses.replace(SAMPLED, **kind), requests)
        for request in requests[i::4]:
            key = (request.problem_id, 0)
            assert (done[key].tokens, done[key].finish) == (alone[key].tokens, alone[key].finish)


def test_stops_of_its_own_end_a_sample_as_the_runs_do():
    """A stop that only this request has, as a token and as text, though the device goes on behind it."""
    pieces = [bytes([97 + i % 26]) for i in range(V)]
    requests = wanted(samples=10)
    stops = ('ab', 'x', 'qu', 'k')
    settings = dataclasses.replace(SAMPLED, stop_strings=StopStrings(stops, pieces))
    expected = draw(settings, requests)
    loop = live().loop()
    loop.add(own(request, stop_strings=StopStrings(stops, pieces)) for request in requests)
    assert plain(finish(loop)) == plain(expected)
    whole = draw(requests=requests)
    cut = [key for key in whole if whole[key].num_tokens != expected[key].num_tokens]
    ended = [key for key in whole if whole[key].finish == 'stop']
    assert len(cut) > 3 and len(ended) > 3  # both kinds of stops were met


def test_what_is_cancelled_frees_its_rows_and_never_comes(monkeypatch):
    monkeypatch.setattr(engine_lib, 'LOOP', 1)  # so that nothing is finished so soon
    requests = wanted(samples=8)
    loop = live(slots=4).loop()
    loop.add(map(own, requests))
    early = loop.step()
    loop.cancel('p0')  # being drawn
    loop.cancel('p5')  # waiting
    done = finish(loop)
    assert not early
    kept = [r for r in requests if r.problem_id not in ('p0', 'p5')]
    assert set(done) == {(r.problem_id, r.sample_index) for r in kept}
    expected = draw(dataclasses.replace(SAMPLED, slots=4), requests)
    assert all(done[key].tokens == expected[key].tokens for key in done)
    loop.add(map(own, requests[:8]))  # the rows are there again
    assert len(finish(loop)) == 8


def test_engines_beside_one_another_share_their_parameters():
    first = live()
    second = first.beside(prefix=(), question=18)
    assert second.params is first.params and second.decode_params is first.decode_params
    loop = second.loop()
    loop.add(map(own, wanted()))
    assert {k: d.tokens for k, d in finish(loop).items()} == {k: d.tokens for k, d in draw().items()}


def test_a_live_loop_is_compiled_once():
    loop = live().loop()
    loop.add(map(own, wanted(count=2)))
    finish(loop)
    before = compiled()
    loop.add(own(r, temperature=0.3, top_k=0, top_p=0.5) for r in wanted(count=7))
    finish(loop)
    assert compiled() == before


@pytest.mark.slow
def test_rows_with_policies_of_their_own_on_a_mesh():
    """The vocabulary and the rows are split: every way to choose, the whole order included."""
    mesh = sharding.make_mesh(memory.Sizes(data=2, fsdp=2, tensor=2))
    kinds = [{}, {'temperature': 0.0}, {'top_k': 0}, {'top_p': 0.5, 'top_k': 0}]
    requests = [own(request, **kinds[i % 4]) for i, request in enumerate(wanted())]
    drawn = []
    for where in (None, mesh):
        loop = live(mesh=where).loop()
        loop.add(requests)
        drawn.append({key: (d.tokens, d.finish) for key, d in finish(loop).items()})
    assert drawn[0] == drawn[1]
