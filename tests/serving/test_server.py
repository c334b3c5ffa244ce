"""The server as OpenAI's own client sees it, and its samples beside those that the run draws itself."""

import concurrent.futures
import dataclasses
import json
import socket
import time

import numpy as np
import openai
import pytest
from serving_run import MODEL, http

from cosample_jax import models, tasks
from cosample_jax.gemma.tokenizer import Tokenizer
from cosample_jax.sampling import asking
from cosample_jax.sampling.engine import Engine
from cosample_jax.sampling.policy import problem_hash

SAMPLES = 3


@pytest.fixture(scope='module')
def local(run):
    """What the run draws itself of its training problems: (problems, prompts as text, draw(**settings))."""
    config, workdir = run
    variant, chat, params, shots = models.load(MODEL, config, workdir)
    template = tasks.template(config, Tokenizer(workdir.tokenizer_path), chat)
    problems = workdir.problems('train')
    requests = asking.requests(template, problems, shots, lambda _: SAMPLES)
    texts = {p.id: template.spelled(p.question, shots).removeprefix('<bos>') for p in problems}

    def draw(**changes):
        settings = dataclasses.replace(asking.settings(config, template, 'train'), **changes)
        done = Engine(params, variant, settings, requests).sample(requests)
        return {(d.problem_id, d.sample_index): (template.text(d.tokens), d) for d in done}

    return problems, texts, draw, template, shots


def seed_of(problem_id, first=0):
    return (first << 32) | int(problem_hash('train', problem_id))


def test_samples_are_those_that_the_run_draws(client, local):
    """Text, finish, number of tokens and their probability, of every sample, with nothing said but the seed."""
    problems, texts, draw, *_ = local
    drawn = draw()
    finishes = set()
    for problem in problems:
        told = client.completions.create(
            model=MODEL, prompt=texts[problem.id], n=SAMPLES, seed=seed_of(problem.id), logprobs=0
        )
        total = 0
        for index, choice in enumerate(told.choices):
            text, done = drawn[problem.id, index]
            assert (choice.index, choice.text, choice.finish_reason) == (index, text, done.finish)
            assert len(choice.logprobs.token_logprobs) == done.num_tokens
            assert sum(choice.logprobs.token_logprobs) == pytest.approx(done.logprob, abs=1e-4)
            total += done.num_tokens
            finishes.add(done.finish)
        assert (told.usage.prompt_tokens, told.usage.completion_tokens) == (done.prompt_tokens, total)
    assert finishes == {'stop', 'length'}
    assert len({text for text, _ in drawn.values()}) > len(problems)


def test_the_prefix_of_the_run_is_read_by_those_that_begin_with_it(client, local, server):
    problems, texts, *_ = local
    prefixed = server.live._engines[0]
    client.completions.create(model=MODEL, prompt='Q: 1+1?\nA:', max_tokens=3)
    for engine, prompt in ((prefixed, texts[problems[0].id]), (server.live._engines[1], 'Q: 1+1?\nA:')):
        before = [each.usage.drawn for each in server.live._engines]
        client.completions.create(model=MODEL, prompt=prompt, max_tokens=3)
        grew = [each.usage.drawn > drawn for each, drawn in zip(server.live._engines, before, strict=True)]
        assert grew == [each is engine for each in server.live._engines]
    assert len(prefixed.prefix) > 90 and not server.live._engines[1].prefix
    assert server.live._engines[1].params is prefixed.params


def test_a_seed_names_the_first_sample(client, local):
    problems, texts, draw, *_ = local
    drawn = draw()
    told = client.completions.create(
        model=MODEL, prompt=texts[problems[0].id], n=2, seed=seed_of(problems[0].id, first=1)
    )
    assert [choice.text for choice in told.choices] == [drawn[problems[0].id, index][0] for index in (1, 2)]


@pytest.mark.parametrize(
    'settings', [{'temperature': 0.0}, {'top_k': 0, 'temperature': 1.0}, {'top_k': 0, 'top_p': 0.6}], ids=str
)
def test_other_settings_are_those_of_a_run_that_has_them(client, local, settings):
    problems, texts, draw, *_ = local
    drawn = draw(**settings)
    extra = {'top_k': settings['top_k']} if 'top_k' in settings else {}
    plain = {name: value for name, value in settings.items() if name != 'top_k'}
    for problem in problems[:4]:
        told = client.completions.create(
            model=MODEL, prompt=texts[problem.id], n=SAMPLES, seed=seed_of(problem.id), extra_body=extra, **plain
        )
        assert [c.text for c in told.choices] == [drawn[problem.id, index][0] for index in range(SAMPLES)]


def test_the_stops_of_the_run_may_be_said(client, local):
    problems, texts, draw, template, _ = local
    drawn = draw()
    for problem in problems:
        asked = {'model': MODEL, 'prompt': texts[problem.id], 'seed': seed_of(problem.id), 'logprobs': 0}
        (choice,) = client.completions.create(stop=list(template.stop_strings), **asked).choices
        text, done = drawn[problem.id, 0]
        assert (choice.text, choice.finish_reason) == (text, done.finish)
        assert len(choice.logprobs.tokens) == done.num_tokens


def test_a_stop_of_ones_own(client, local):
    problems, texts, draw, *_ = local
    drawn = draw()
    found = 0
    for problem in problems:
        text, done = drawn[problem.id, 0]
        told = client.completions.create(
            model=MODEL, prompt=texts[problem.id], seed=seed_of(problem.id), stop=['=', 'swer']
        )
        (choice,) = told.choices
        ends = [at for stop in ('=', 'swer') if (at := text.find(stop)) >= 0]
        if ends:
            found += 1
            assert (choice.text, choice.finish_reason) == (text[: min(ends)], 'stop')
            assert told.usage.completion_tokens < done.num_tokens
    assert found > 3


def test_max_tokens_cut(client, local):
    problems, texts, *_ = local
    whole, cut = (
        client.completions.create(model=MODEL, prompt=texts[problems[0].id], temperature=0, max_tokens=most)
        for most in (48, 5)
    )
    assert cut.choices[0].finish_reason == 'length' and cut.usage.completion_tokens == 5
    assert whole.choices[0].text.startswith(cut.choices[0].text) and len(whole.choices[0].text) > 5


def test_prompts_of_every_kind(client, local):
    """One text, several, token ids, several of them; with the run's prefix and without."""
    problems, texts, _, template, shots = local
    mine = [texts[problems[0].id], f'Q: {problems[1].question}\nA:', texts[problems[2].id]]
    ids = [template.tokenizer.encode(text, bos=True) for text in mine]

    def ask(prompt, n=1):
        return client.completions.create(model=MODEL, prompt=prompt, seed=5, n=n, temperature=0.9)

    alone = [ask(text, n=2) for text in mine]
    together = [choice.text for one in alone for choice in one.choices]
    assert len(set(together)) > 3
    for prompts in (mine, ids):
        told = ask(prompts, n=2)
        assert [c.text for c in told.choices] == together and [c.index for c in told.choices] == list(range(6))
        assert told.usage.prompt_tokens == sum(map(len, ids))
    assert [c.text for c in ask(ids[1], n=2).choices] == together[2:4]


def test_a_conversation_is_the_page_of_the_run(client, local):
    problems, texts, draw, template, shots = local
    drawn = draw()
    messages = [
        {'role': role, 'content': text}
        for shot in shots
        for role, text in (('user', shot.question), ('assistant', shot.solution))
    ]
    for problem in problems[:4]:
        asked = [*messages, {'role': 'user', 'content': problem.question}]
        told = client.chat.completions.create(model=MODEL, messages=asked, seed=seed_of(problem.id), n=2, logprobs=True)
        for index, choice in enumerate(told.choices):
            text, done = drawn[problem.id, index]
            assert choice.message.role == 'assistant' and choice.message.content == text.removeprefix(' ')
            assert choice.finish_reason == done.finish and len(choice.logprobs.content) == done.num_tokens
        assert told.usage.prompt_tokens == done.prompt_tokens


def test_a_system_message_is_the_first_paragraph(client, local):
    problems, _, _, template, _ = local
    system, question = 'Sums for children.', problems[0].question
    messages = [
        {'role': 'system', 'content': system},
        {'role': 'user', 'content': [{'type': 'text', 'text': question}]},
    ]
    chat = client.chat.completions.create(model=MODEL, messages=messages, temperature=0)
    page = client.completions.create(model=MODEL, prompt=f'{system}\n\nQ: {question}\nA:', temperature=0)
    assert chat.choices[0].message.content == page.choices[0].text.removeprefix(' ')
    assert chat.usage == page.usage


def test_without_a_seed_samples_differ_and_with_one_they_do_not(client, local):
    problems, texts, *_ = local

    def texts_of(**seed):
        told = client.completions.create(model=MODEL, prompt=texts[problems[0].id], n=8, temperature=1.5, **seed)
        return [choice.text for choice in told.choices]

    assert texts_of() != texts_of()
    assert texts_of(seed=2**63 - 2**40) == texts_of(seed=2**63 - 2**40) != texts_of(seed=1)


@pytest.mark.parametrize('chat', [True, False], ids=['chat', 'completions'])
def test_streams_say_what_whole_answers_say(client, local, chat):
    problems, texts, *_ = local
    asked = {'model': MODEL, 'seed': 3, 'n': 3, 'temperature': 1.0}
    if chat:
        create = client.chat.completions.create
        asked['messages'] = [{'role': 'user', 'content': problems[0].question}]
    else:
        create, asked['prompt'] = client.completions.create, texts[problems[0].id]
    whole = create(**asked)
    expected = {c.index: (c.message.content if chat else c.text, c.finish_reason) for c in whole.choices}
    events = list(create(stream=True, stream_options={'include_usage': True}, **asked))
    said, finishes = dict.fromkeys(expected, ''), {}
    for event in events[:-1]:
        assert event.usage is None and event.id == events[0].id
        (choice,) = event.choices
        said[choice.index] += (choice.delta.content or '') if chat else choice.text
        if choice.finish_reason:
            finishes[choice.index] = choice.finish_reason
    assert {index: (said[index], finishes[index]) for index in said} == expected
    assert events[-1].choices == [] and events[-1].usage == whole.usage
    assert all(event.usage is None for event in create(stream=True, **asked))


def test_a_stream_ends_with_done(server):
    asked = json.dumps({'model': MODEL, 'prompt': 'Q: 1+1?\nA:', 'stream': True})
    _, headers, body = http(f'{server.url}/v1/completions', asked.encode())
    assert headers['content-type'].startswith('text/event-stream')
    lines = [line for line in body.decode().split('\n') if line]
    assert all(line.startswith('data: ') for line in lines) and lines[-1] == 'data: [DONE]'
    assert json.loads(lines[0][6:])['object'] == 'text_completion'


def test_many_at_once_are_each_answered_as_if_alone(client, local, server):
    problems, texts, *_ = local
    rng = np.random.default_rng(0)

    def ask(number):
        problem = problems[number % len(problems)]
        prompt = texts[problem.id] if number % 3 else f'Q: {problem.question}\nA:'
        kind = [{'temperature': 0}, {'temperature': 0.8}, {'temperature': 1, 'top_p': 0.7}][number % 4 % 3]
        told = client.completions.create(
            model=MODEL, prompt=prompt, seed=number, n=1 + number % 2, max_tokens=int(8 + number % 5 * 10), **kind
        )
        return [(choice.text, choice.finish_reason) for choice in told.choices], told.usage

    before = server.live.samples
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        together = list(pool.map(ask, range(64)))
    assert server.live.samples - before == 96 and server.live._samples_open == 0
    for number in rng.choice(64, 24, replace=False).tolist():
        assert ask(number) == together[number]


def test_models_and_health(client, server):
    (told,) = client.models.list().data
    assert told.id == MODEL and client.models.retrieve(MODEL).id == MODEL
    assert json.loads(http(f'{server.url}/health')[2]) == {'status': 'ok'}


def test_what_asks_for_nothing_is_taken(client, local):
    problems, texts, *_ = local
    neutral = {'logit_bias': {}, 'presence_penalty': 0, 'frequency_penalty': 0.0, 'best_of': 1, 'echo': False}
    extra = {'min_p': 0, 'repetition_penalty': 1.0, 'metadata': {'a': 'b'}, 'suffix': None, 'top_k': -1}
    told = client.completions.create(model=MODEL, prompt='Q: 1+1?\nA:', user='me', extra_body=extra, **neutral)
    assert len(told.choices) == 1


BAD = {
    'echo': ({'echo': True}, 'echo is not supported'),
    'logit_bias': ({'logit_bias': {'5': 1}}, 'logit_bias is not supported'),
    'presence_penalty': ({'presence_penalty': 0.1}, 'presence_penalty is not supported'),
    'suffix': ({'suffix': 'x'}, 'suffix is not supported'),
    'best_of': ({'best_of': 2}, 'best_of is 2 and n is 1'),
    'n': ({'n': 129}, 'n: .* 128'),
    'temperature': ({'temperature': 2.5}, 'temperature: .* 2'),
    'top_p': ({'top_p': 0}, 'top_p: .* 0'),
    'logprobs': ({'logprobs': 2}, 'logprobs: .* 1'),
    'seed': ({'seed': -1}, 'seed: .* 0'),
    'seed_and_n': ({'seed': 2**63 - 1, 'n': 2}, 'seed: its sample index 2147483647'),
    'stop': ({'stop': ['']}, 'stop.0: .* 1 character'),
    'stops': ({'stop': list('abcdefghijklmnopq')}, 'stop: .* at most 16'),
    'max_tokens': ({'max_tokens': 49}, 'max_tokens is 49 and may be 48: .* --config.sampling.max_new_tokens=49'),
    'prompt': ({'prompt': 'x ' * 600}, r'prompt has 1201 tokens and may have 200: .* --prompt-tokens'),
    'prompts': ({'prompt': ['x'] * 9, 'n': 128}, r'9 prompts x n=128: .* 1024'),
    'prompt_kind': ({'prompt': 5}, 'prompt is of another kind'),
    'no_prompt': ({'prompt': []}, 'prompt is empty'),
    'no_bos': ({'prompt': [7, 8]}, 'prompt: token ids must begin with <bos>'),
    'token': ({'prompt': [2, 256]}, 'prompt has token 256, and there are 256'),
    'unknown': ({'extra_body': {'temprature': 1}}, 'temprature is not a field'),
    'text_for_number': ({'extra_body': {'n': '2'}}, 'n: .* integer'),
}


@pytest.mark.parametrize(('asked', 'message'), BAD.values(), ids=BAD)
def test_what_is_refused_is_named(client, server, asked, message):
    before = server.live.samples
    with pytest.raises(openai.BadRequestError, match=message) as refused:
        client.completions.create(**({'model': MODEL, 'prompt': 'Q: 1+1?\nA:'} | asked))
    assert set(refused.value.body) == {'message', 'type', 'param', 'code'}
    assert refused.value.param == message.split()[0].strip(':.0') or refused.value.param in asked
    assert server.live.samples == before


BAD_CHATS = {
    'turns': ({'messages': [{'role': 'user', 'content': 'a'}, {'role': 'user', 'content': 'b'}]}, 'take turns'),
    'no_turn': ({'messages': [{'role': 'system', 'content': 'a'}]}, 'take turns'),
    'role': ({'messages': [{'role': 'tool', 'content': 'a'}]}, 'messages.0.role'),
    'image': ({'messages': [{'role': 'user', 'content': [{'type': 'image_url', 'image_url': {}}]}]}, 'messages.0'),
    'tools': ({'tools': [{'type': 'function', 'function': {'name': 'f'}}]}, 'tools is not supported'),
    'response_format': ({'response_format': {'type': 'json_object'}}, 'response_format is not supported'),
    'top_logprobs': ({'logprobs': True, 'top_logprobs': 2}, 'top_logprobs: .* 0'),
}


@pytest.mark.parametrize(('asked', 'message'), BAD_CHATS.values(), ids=BAD_CHATS)
def test_what_is_refused_of_a_conversation_is_named(client, asked, message):
    with pytest.raises(openai.BadRequestError, match=message):
        client.chat.completions.create(**({'model': MODEL, 'messages': [{'role': 'user', 'content': 'x'}]} | asked))


def test_a_model_that_is_not_served(client):
    for ask in (
        lambda: client.completions.create(model='weka', prompt='x'),
        lambda: client.models.retrieve('weka'),
    ):
        with pytest.raises(openai.NotFoundError, match="'weka' is not served here .*'weak'") as refused:
            ask()
        assert refused.value.code == 'model_not_found'


def test_bodies_that_are_none(server):
    url = f'{server.url}/v1/completions'
    for body, status, message in (
        (b'{"model": ', 400, 'the body is not JSON'),
        (b'[1]', 400, 'must be a JSON object, not list'),
        (b'{"model": "weak", "prompt": "x", "temperature": NaN}', 400, 'NaN is no JSON'),
        (b'\xff', 400, 'not JSON'),
        (b'{"model": "weak", "prompt": "\\ud800"}', 400, 'not JSON'),
        (b'{"model": "\\udc00", "prompt": "x"}', 400, 'not JSON'),
        (b'[' * 100_000, 400, 'not JSON'),
        (b' ' * (2**20 + 1), 413, 'more than 1048576 bytes'),
    ):
        found, _, told = http(url, body)
        assert found == status and message in json.loads(told)['error']['message']
    status, _, told = http(url)
    assert status == 405 and 'GET /v1/completions' in json.loads(told)['error']['message']
    assert http(f'{server.url}/v2')[0] == 404


def test_too_many_wait(client, server, monkeypatch):
    monkeypatch.setattr(server.live, 'most_waiting', 100)
    statuses = []

    def ask(_):
        try:
            client.completions.create(model=MODEL, prompt='Q: Ann has 5 pens.\nA:', n=100)
            statuses.append(200)
        except openai.RateLimitError as refused:
            assert refused.response.headers['retry-after'] == '1'
            assert 'samples wait already, and 100 may' in str(refused)
            statuses.append(429)

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        list(pool.map(ask, range(6)))
    assert set(statuses) == {200, 429}
    statuses.clear()
    ask(0)
    assert statuses == [200]


@pytest.mark.parametrize('stream', [False, True])
def test_rows_of_a_client_that_left_are_for_others(server, stream):
    body = json.dumps({'model': MODEL, 'prompt': ['Q: Ann has 5 pens.\nA:'] * 8, 'n': 128, 'stream': stream}).encode()
    host, port = server.url.removeprefix('http://').split(':')
    before = server.live.samples
    with socket.create_connection((host, int(port))) as connection:
        head = f'POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n'
        connection.sendall(head.encode() + body)
        while server.live._samples_open < 900:
            time.sleep(0.01)
    end = time.monotonic() + 60
    while server.live._samples_open and time.monotonic() < end:
        time.sleep(0.01)
    assert server.live._samples_open == 0
    assert server.live.samples - before < 700
