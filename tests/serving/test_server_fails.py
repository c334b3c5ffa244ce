"""Keys, a server that is being stopped, an engine that fails: nobody waits for ever, and nobody is told too much."""

import concurrent.futures
import json
import queue
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import openai
import pytest
from serving_run import MODEL, PROMPT_TOKENS, http, running

from cosample_jax.errors import UserError
from cosample_jax.serving import app as app_lib
from cosample_jax.serving.app import Server
from cosample_jax.serving.live import Live
from cosample_jax.serving.protocol import CompletionAsk
from cosample_jax.serving.served import Served

ASKED = json.dumps({'model': MODEL, 'prompt': 'Q: 1+1?\nA:', 'max_tokens': 4}).encode()


@pytest.fixture
def live(served):
    """Another thread with engines for the same weights, to be broken or stopped."""
    engine, layout = served.live._engines[0], served.live._engines[0].layout
    question = layout.question_pages * layout.page_size
    live = Live(engine.beside(prefix=engine.prefix, question=question), PROMPT_TOKENS, 100)
    live.start()
    yield live
    live.close(0)
    live.join(30)


@pytest.fixture
def other(served, live):
    """A server of its own for it: (url, server)."""
    model = Served(served.name, served._template, served.settings, live, served.fingerprint)
    server = Server([model], created=1)
    with running(server) as url:
        yield url, server


def test_a_key_is_asked_for_and_never_told(served, capfd):
    key = 'a-long-key'
    with running(Server([served], created=1, key=key)) as url:
        for given in ({}, {'Authorization': 'Bearer a-long-ke'}, {'Authorization': key}, {'Authorization': 'Bearer '}):
            for path, body in (('/v1/models', None), ('/v1/completions', ASKED), ('/v1/chat/completions', ASKED)):
                status, headers, told = http(url + path, body, **given)
                assert status == 401 and headers['www-authenticate'] == 'Bearer'
                assert json.loads(told)['error']['code'] == 'invalid_api_key' and key.encode() not in told
        assert http(f'{url}/health')[0] == 200
        client = openai.OpenAI(base_url=f'{url}/v1', api_key=key, max_retries=0)
        assert len(client.completions.create(model=MODEL, prompt='Q: 1+1?\nA:', max_tokens=4).choices) == 1
        with pytest.raises(openai.AuthenticationError, match='COSAMPLE_SERVE_KEY'):
            openai.OpenAI(base_url=f'{url}/v1', api_key='other', max_retries=0).models.list()
    printed = ''.join(capfd.readouterr())
    assert key not in printed


def test_an_engine_that_fails_answers_500_and_goes_on(other, live, monkeypatch, capfd):
    url, _ = other
    for error, message in (
        (ValueError('a secret'), 'failed on this request (ValueError)'),
        (UserError('the model returns no numbers'), 'the model returns no numbers'),
    ):
        which = 1  # of the engine without a prefix

        def fail(error=error):
            raise error

        monkeypatch.setattr(live._loop(which), 'step', fail)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            told = list(pool.map(lambda _: http(f'{url}/v1/completions', ASKED), range(8)))
        assert 500 in [status for status, *_ in told]
        for status, _, body in told:
            assert status in (200, 500)  # those that came when it had a new cache are served
            assert status == 200 or (message in body.decode() and b'secret' not in body)
        assert live._samples_open == 0
        assert http(f'{url}/v1/completions', ASKED)[0] == 200
    assert 'a secret' in capfd.readouterr().err  # but the log tells


def test_a_stream_that_fails_says_so(other, live, monkeypatch):
    url, _ = other

    def fail():
        raise ValueError

    monkeypatch.setattr(live._loop(1), 'step', fail)
    asked = json.dumps(json.loads(ASKED) | {'stream': True}).encode()
    status, _, body = http(f'{url}/v1/completions', asked)
    assert status == 200 and json.loads(body.decode().removeprefix('data: '))['error']['type'] == 'server_error'


def test_a_mistake_of_the_server_itself_is_a_500(other, monkeypatch, capfd):
    url, _ = other
    monkeypatch.setattr(app_lib, 'usage', lambda *_: 1 / 0)
    status, _, told = http(f'{url}/v1/completions', ASKED)
    assert status == 500 and b'ZeroDivision' not in told
    assert 'ZeroDivisionError' in capfd.readouterr().err


@pytest.mark.parametrize(('seconds', 'statuses'), [(60, {200}), (0, {503})], ids=['finished', 'given_up'])
def test_a_server_that_is_stopped_takes_no_more(other, live, seconds, statuses):
    url, server = other
    asked = json.dumps(json.loads(ASKED) | {'n': 128, 'max_tokens': 48}).encode()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(http, f'{url}/v1/completions', asked)
        while not live.samples:
            pass
        server.close(seconds)
        status, headers, told = http(f'{url}/v1/completions', ASKED)
        assert status == 503 and 'being stopped' in json.loads(told)['error']['message'] and headers['retry-after']
        assert http(f'{url}/health')[0] == 503
        assert {running.result()[0]} == statuses
    server.join(30)
    assert not live.is_alive


def test_a_thread_that_dies_leaves_nobody_waiting(other, live, monkeypatch):
    url, _ = other
    monkeypatch.setattr(threading, 'excepthook', lambda _: None)

    def die():
        raise SystemExit

    monkeypatch.setattr(live._loop(1), 'step', die)
    assert http(f'{url}/v1/completions', ASKED)[0] == 500
    live.join(30)
    assert http(f'{url}/v1/completions', ASKED)[0] == 500
    assert http(f'{url}/health')[0] == 503


def test_what_is_cancelled_before_it_is_taken_is_not_begun(served, monkeypatch):
    engine, told = served.live._engines[0], {'kept': [], 'gone': []}
    live = Live(engine.beside(prefix=(), question=PROMPT_TOKENS - 1), PROMPT_TOKENS, 100)
    monkeypatch.setattr(live, '_thread', SimpleNamespace(is_alive=lambda: True))  # nobody takes but this test
    asked = CompletionAsk(model=MODEL, prompt='Q: 1+1?\nA:', n=2, max_tokens=3)
    for name, deliver in told.items():
        (requests,) = served.requests(asked, served.prompts(asked))
        live.submit(requests, deliver.append)
        if name == 'gone':
            live.cancel(requests[0].problem_id)
    live._take()
    while live._loops[1].is_busy:
        live._deliver(live._loops[1].step())
    assert len(told['kept']) == 2 and not told['gone'] and live._samples_open == 0


@pytest.mark.slow
def test_a_model_whose_prompts_have_nothing_in_common(served):
    engine, told = served.live._engines[0], queue.SimpleQueue()
    live = Live(engine.beside(prefix=(), question=PROMPT_TOKENS - 1), PROMPT_TOKENS, 100)
    live.start()
    try:
        asked = CompletionAsk(model=MODEL, prompt='Q: 1+1?\nA:', max_tokens=3)
        (requests,) = served.requests(asked, served.prompts(asked))
        live.submit(requests, told.put)
        assert told.get(timeout=60).num_tokens <= 3
    finally:
        live.close(0)
        live.join(30)


@pytest.mark.slow
@pytest.mark.parametrize(('number', 'code'), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_verb_prepares_serves_and_ends_as_the_others_do(run, tmp_path, repository, number, code):
    """On a workdir of its own, which it does not hold while it serves."""
    command = [sys.executable, '-m', 'cosample_jax.cli']
    config = f'--config={repository}/configs/arithmetic.py:size=smoke'
    asked = ['serve', config, f'--workdir={tmp_path}', '--model', MODEL, '--prompt-tokens=200']
    with subprocess.Popen([*command, *asked], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            lines = iter(process.stdout.readline, '')
            ready = next(line for line in lines if line.startswith('serving'))
            assert ready.startswith(f'serving {MODEL} at http://127.0.0.1:') and ready.endswith('(Ctrl-C stops it)\n')
            url = ready.split()[3]
            assert http(f'{url}/completions', ASKED)[0] == 200
            other = [*command, 'grade', f'--workdir={tmp_path}']
            done = subprocess.run(other, capture_output=True, text=True)
            assert 'grade needs sample' in done.stderr  # not: another process is writing
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == code and 'Traceback' not in err
