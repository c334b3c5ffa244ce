"""What the engine draws is what a naive loop draws, in whatever order, rows and pages."""

import dataclasses
import functools
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawing import BOS, EOS, FAMILIES, GEMMA2, GREEDY, SAMPLED, V, compiled, draw, parameters, prompts, wanted

from cosample_jax.gemma import model
from cosample_jax.sampling import decode, policy, schedule
from cosample_jax.sampling import engine as engine_lib
from cosample_jax.sampling.engine import Engine, common_prefix
from cosample_jax.sampling.schedule import Request
from cosample_jax.sampling.stops import StopStrings


@functools.partial(jax.jit, static_argnums=0)
def full_logits(config, params, ids):
    ids = ids[None]
    hidden, _ = model.forward(params, config, ids, jnp.arange(ids.shape[1])[None], jnp.ones_like(ids))
    return model.logits(params, config, hidden)[0]


def naive(config, params, settings, request):
    """The same sample, token by token, each from a full forward pass without cache, prefix or batch."""
    ids, logprob, sampling_logprob = list(request.prompt), 0.0, 0.0
    hashed = policy.problem_hash(settings.purpose, request.problem_id)
    keys = policy.sample_keys(settings.seed, hashed[None], np.array([request.sample_index], np.int32))
    rule = policy.Policy(settings.temperature, settings.top_k, settings.stop_ids)
    while True:
        padded = np.array(ids + [0] * (40 - len(ids)), np.int32)
        logits = full_logits(config, params, padded)[len(ids) - 1]
        key = policy.token_keys(keys, np.array([[len(ids)]], np.int32))[0]
        token, lp, slp = policy.choose(logits[None], key, rule)
        ids.append(int(token[0]))
        logprob, sampling_logprob = logprob + float(lp[0]), sampling_logprob + float(slp[0])
        drawn = ids[len(request.prompt) :]
        if drawn[-1] in settings.stop_ids:
            return drawn[:-1], 'stop', len(drawn), logprob, sampling_logprob
        if len(drawn) == settings.max_new_tokens:
            return drawn, 'length', len(drawn), logprob, sampling_logprob


@pytest.fixture
def small_pages(monkeypatch):
    """Of 4 tokens: questions and samples take several, and windows (6) end within one and between two."""
    monkeypatch.setattr(schedule, 'PAGE', 4)


@pytest.mark.parametrize(
    ('settings', 'family'),
    [
        # Ten seconds each: sampled ones have all that greedy ones have.
        pytest.param(settings, family, id=f'{name}-{family}', marks=pytest.mark.slow if family in slow else ())
        for name, settings, slow in (
            ('greedy', GREEDY, set(FAMILIES)),
            ('sampled', SAMPLED, {'multi_query'}),
        )
        for family in FAMILIES
    ],
)
def test_tokens_are_those_of_a_naive_loop(family, settings, small_pages):
    config = FAMILIES[family]
    settings = dataclasses.replace(settings, slots=3)  # so that rows are used again
    requests = wanted(samples=2, count=4)
    done = draw(settings, requests, config=config)
    for request in requests:
        got = done[request.problem_id, request.sample_index]
        tokens, finish, num_tokens, logprob, sampling_logprob = naive(config, parameters(config), settings, request)
        assert (got.tokens, got.finish, got.num_tokens) == (tokens, finish, num_tokens)
        assert got.prompt_tokens == len(request.prompt)
        assert got.logprob == pytest.approx(logprob, abs=1e-4)
        assert got.sampling_logprob == pytest.approx(sampling_logprob, abs=1e-4)
    assert len({tuple(d.tokens) for d in done.values()}) > 2  # the test would pass on a constant model
    assert {d.finish for d in done.values()} == {'stop', 'length'} or settings.temperature == 0


@pytest.mark.parametrize(
    'prefix',
    [
        pytest.param(3, id='the_window_ends_in_the_question'),
        pytest.param(10, id='at_the_border'),
        pytest.param(13, id='in_the_prefix'),
    ],
)
def test_windows_end_where_they_should(prefix, small_pages):
    """Samples begin at positions 16 to 18, and 6 tokens before is another part in each case; later, the row itself."""
    rng = np.random.default_rng(0)
    shared = [BOS, *rng.integers(6, V, prefix - 1).tolist()]
    own = {f'p{i}': [*shared, 6 + i, *rng.integers(6, V, 15 + i % 3 - prefix).tolist()] for i in range(4)}
    asked = [Request(id, k, prompt) for id, prompt in own.items() for k in range(2)]
    done = draw(SAMPLED, asked)
    for request in asked:
        got = done[request.problem_id, request.sample_index]
        tokens, *_, logprob, _ = naive(GEMMA2, parameters(), SAMPLED, request)
        assert got.tokens == tokens
        assert got.logprob == pytest.approx(logprob, abs=1e-4)


def test_the_samples_of_a_problem_are_independent():
    """First tokens of pairs of samples: a chi-square test of their table against the product of its margins."""
    count = 4000
    request = [Request('p0', k, prompts()['p0']) for k in range(count)]
    settings = dataclasses.replace(SAMPLED, top_k=3, max_new_tokens=1, slots=500, stop_ids=(EOS,))
    done = draw(settings, request)
    first = np.array([(done['p0', k].tokens or [EOS])[0] for k in range(count)])
    values = np.unique(first)
    assert len(values) == 3
    table = np.array([[((first[:-1] == a) & (first[1:] == b)).sum() for b in values] for a in values])
    expected = np.outer(table.sum(1), table.sum(0)) / table.sum()
    assert expected.min() > 5
    assert ((table - expected) ** 2 / expected).sum() < 18.5  # 99.9th percentile, 4 degrees of freedom


def test_with_other_slots_a_sample_differs_at_a_near_tie_only():
    """Products of other shapes round otherwise; tokens may part where two perturbed scores are within 1e-3."""
    requests = wanted(samples=8, count=7)
    few, many = (draw(dataclasses.replace(SAMPLED, slots=slots), requests) for slots in (3, 64))
    parted = 0
    for request in requests:
        key = (request.problem_id, request.sample_index)
        if few[key].tokens == many[key].tokens:
            continue
        parted += 1
        same = next(i for i, (a, b) in enumerate(zip(few[key].tokens, many[key].tokens, strict=False)) if a != b)
        ids = [*request.prompt, *few[key].tokens[:same]]
        logits = full_logits(GEMMA2, parameters(), np.array(ids + [0] * (40 - len(ids)), np.int32))[len(ids) - 1]
        hashed = policy.problem_hash(SAMPLED.purpose, request.problem_id)
        keys = policy.sample_keys(SAMPLED.seed, hashed[None], np.array([request.sample_index], np.int32))
        noise = policy.gumbel(jax.random.bits(policy.token_keys(keys, np.array([[len(ids)]]))[0, 0], (V,), jnp.uint32))
        scores = logits / SAMPLED.temperature + noise
        assert abs(scores[few[key].tokens[same]] - scores[many[key].tokens[same]]) < 1e-3
    print(f'{parted} of {len(requests)} samples parted')


def test_a_stop_string_ends_a_sample_where_it_is_complete():
    """Tokens are letters; the stop is two of them, and what the device drew behind it is not of the sample."""
    pieces = [bytes([97 + i % 26]) for i in range(V)]
    free = dataclasses.replace(SAMPLED, stop_ids=(EOS,))
    without = draw(free, wanted(samples=20))
    texts = {key: b''.join(pieces[t] for t in whole.tokens).decode() for key, whole in without.items()}
    long = [text for text in texts.values() if len(text) > 9]
    stops = [long[0][4:6], long[1][2:4], long[2][7:9]]
    settings = dataclasses.replace(free, stop_strings=StopStrings(stops, pieces))
    engine = Engine(parameters(), GEMMA2, settings, wanted(samples=20))
    found, counted = 0, sum(whole.num_tokens for whole in without.values())
    for d in engine.sample(wanted(samples=20)):
        whole = without[d.problem_id, d.sample_index]
        text = texts[d.problem_id, d.sample_index]
        ends = [at + 2 for stop in stops if (at := text.find(stop)) >= 0]
        if not ends:
            assert d == whole
            continue
        found += 1
        counted += min(ends) - whole.num_tokens
        assert (d.tokens, d.finish, d.num_tokens) == (whole.tokens[: min(ends)], 'stop', min(ends))
        ids = [*prompts()[d.problem_id], *d.tokens]
        logprobs = jax.nn.log_softmax(
            full_logits(GEMMA2, parameters(), np.array(ids + [0] * (40 - len(ids)), np.int32))
        )
        at = np.arange(len(ids) - len(d.tokens), len(ids))
        assert d.logprob == pytest.approx(float(logprobs[at - 1, np.array(ids)[at]].sum()), abs=1e-4)
    assert found > 5 and engine.usage.wasted > 0
    assert engine.usage.drawn == counted


def test_a_request_may_have_a_limit_of_its_own():
    requests = [dataclasses.replace(r, max_new_tokens=1 + i % 12) for i, r in enumerate(wanted())]
    whole = draw(requests=wanted())
    for request, (key, d) in zip(requests, sorted(draw(requests=requests).items()), strict=True):
        assert key == (request.problem_id, request.sample_index)
        assert d.num_tokens == min(request.max_new_tokens, whole[key].num_tokens)
        assert d.tokens == whole[key].tokens[: d.num_tokens] or d.finish == 'stop'


def test_rows_are_busy_while_samples_wait():
    engine = Engine(parameters(), GEMMA2, SAMPLED, wanted(samples=30))
    done = list(engine.sample(wanted(samples=30)))
    usage = engine.usage
    assert usage.drawn == sum(d.num_tokens for d in done)
    assert 0.5 < usage.full_drawn / usage.full_capacity <= 1 and usage.full_drawn < usage.drawn < usage.capacity


def test_told_to_stop_it_yields_what_is_complete_and_no_more():
    visits = []

    def should_stop():
        visits.append(None)
        return len(visits) == 3

    requests = wanted(samples=10)
    done = list(Engine(parameters(), GEMMA2, SAMPLED, requests).sample(requests, should_stop))
    whole = draw(requests=requests)
    assert 0 < len(done) < len(requests) and len(visits) == 3
    assert all(whole[d.problem_id, d.sample_index] == d for d in done)


def test_logprobs_are_those_of_a_rescore():
    done = draw()
    for (problem_id, _), d in done.items():
        assert d.finish == 'length' or d.num_tokens == len(d.tokens) + 1
        if d.finish == 'length':
            prompt = prompts()[problem_id]
            ids = np.array([*prompt, *d.tokens], np.int32)
            logprobs = jax.nn.log_softmax(full_logits(GEMMA2, parameters(), np.pad(ids, (0, 40 - len(ids)))))
            at = np.arange(len(prompt), len(ids))
            assert d.logprob == pytest.approx(float(logprobs[at - 1, ids[at]].sum()), abs=1e-4)


def test_order_of_requests_changes_nothing():
    requests = wanted()
    shuffled = random.Random(0).sample(requests, len(requests))
    assert draw(requests=shuffled) == draw(requests=requests)


def test_splitting_a_run_changes_nothing():
    requests = wanted()
    whole = draw(requests=requests)
    for cut in (1, 10):
        parts = [draw(requests=part, every=requests) for part in (requests[:cut], requests[cut:])]
        assert parts[0] | parts[1] == whole


def test_what_the_host_loop_length_is_changes_nothing(monkeypatch):
    whole = draw()
    monkeypatch.setattr(engine_lib, 'LOOP', 5)
    assert draw() == whole


def test_more_samples_extend_a_pool():
    many = draw(requests=wanted(samples=4))
    for every in (wanted(samples=4), wanted(samples=2)):  # of the same run, and of one that never asks for more
        few = draw(requests=wanted(samples=2), every=every)
        assert all(many[key] == sample for key, sample in few.items())
    assert len({tuple(many['p0', k].tokens) for k in range(4)}) > 1


@pytest.mark.parametrize(('slots', 'count', 'samples'), [(3, 5, 2), (8, 1, 1), (64, 3, 1), (1, 2, 2)])
def test_any_number_of_rows_and_requests(slots, count, samples):
    requests = wanted(count=count, samples=samples)
    done = draw(dataclasses.replace(SAMPLED, slots=slots), requests)
    assert set(done) == {(r.problem_id, r.sample_index) for r in requests}


def test_more_questions_than_one_prefill_holds():
    requests = wanted(count=37, samples=1)
    done = draw(requests=requests)
    for request in (requests[0], requests[15], requests[16], requests[36]):
        tokens, *_ = naive(GEMMA2, parameters(), SAMPLED, request)
        assert done[request.problem_id, 0].tokens == tokens


def test_a_question_is_prefilled_once(monkeypatch):
    calls = []
    prefill = decode.prefill_questions

    def counted(params, tokens, *args, **kwargs):
        calls.append(int(tokens.any(axis=1).sum()))
        return prefill(params, tokens, *args, **kwargs)

    monkeypatch.setattr(decode, 'prefill_questions', counted)
    draw(requests=wanted(count=20, samples=5))
    assert calls == [16, 4]


def test_everything_is_compiled_once_whatever_the_parameters():
    requests = wanted(count=20, samples=2)
    settings = dataclasses.replace(SAMPLED, slots=6)
    before = compiled()
    draw(settings, requests)
    once = compiled()
    assert all(after - b <= 1 for after, b in zip(once, before, strict=True))
    assert once[-1] == before[-1] + 1
    draw(dataclasses.replace(settings, seed=9, purpose='test'), requests, params=parameters(seed=2))
    draw(settings, requests[7:], every=requests)
    draw(settings, requests[-1:], every=requests)
    assert compiled() == once


def test_parameters_purpose_and_seed_matter():
    base = {key: d.tokens for key, d in draw().items()}
    for changed in (
        draw(params=parameters(seed=2)),
        draw(dataclasses.replace(SAMPLED, purpose='test')),
        draw(dataclasses.replace(SAMPLED, seed=1)),
    ):
        assert {key: d.tokens for key, d in changed.items()} != base


def constant_model(favourite):
    """Parameters of a model that draws the token `favourite` whatever the context."""
    params = jax.tree.map(jnp.zeros_like, parameters())
    table = np.zeros((V, 16), np.float32)
    table[:, 0] = 1.0  # what every hidden state is
    table[favourite, 0] = 4.0
    return params | {'embedder': {'input_embedding': jnp.asarray(table)}}


def test_a_stop_is_counted_and_not_kept():
    for d in draw(params=constant_model(favourite=5), settings=GREEDY).values():
        assert (d.tokens, d.finish, d.num_tokens) == ([], 'stop', 1)


def test_without_a_stop_the_length_ends_a_sample():
    for d in draw(params=constant_model(favourite=9), settings=GREEDY).values():
        assert (d.tokens, d.finish, d.num_tokens) == ([9] * 12, 'length', 12)


def test_a_stop_as_last_token_is_a_stop():
    settings = dataclasses.replace(GREEDY, max_new_tokens=1)
    for d in draw(params=constant_model(favourite=2), settings=settings).values():
        assert (d.tokens, d.finish, d.num_tokens) == ([], 'stop', 1)


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        ([[1, 2, 3], [1, 2, 4]], [1, 2]),
        ([[1, 2, 3], [1, 2]], [1]),  # every prompt keeps a token of its own
        ([[1, 2, 3]], [1, 2]),
        ([[1], [1]], []),
        ([[1, 2], [3, 4]], []),
        ([[1, 5, 9], [1, 5, 2, 2], [1, 5, 9, 9]], [1, 5]),
        ([], []),
    ],
)
def test_common_prefix(given, expected):
    assert common_prefix(given) == expected
