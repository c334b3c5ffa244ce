"""The server that stands in for OpenAI and Gemini, as their own libraries see it."""

import concurrent.futures
import email.utils
import io
import json
import socket
import threading
import time
from collections import Counter

import openai
import pytest
from api_parts import FAULTS, Plan, answer, prompt_of, random_faults, tokens
from api_server import ApiServer
from google import genai
from google.genai import errors, types

PROMPT = 'Ann has 3 apples and eats one. How many are left?'
SEED = 7
TEXTS = [answer(PROMPT, SEED, index) for index in range(2)]


def openai_client(server, key='secret', **options):
    return openai.OpenAI(base_url=server.openai_url, api_key=key, max_retries=0, **options)


def gemini_client(server, key='secret', **options):
    return genai.Client(api_key=key, http_options={'base_url': server.gemini_url, **options})


class Both:
    """One server for many tests, whose fault is set by each, and a client of each kind."""

    def __init__(self, server):
        self.server = server
        self.openai, self.gemini = openai_client(server), gemini_client(server, api_version='v1beta')

    def __call__(self, form, fault=None, prompt=PROMPT, timeout=5.0, **asked):
        """The texts and why they ended, tokens in and out, or the error; then what was noted and billed for it."""
        requests, billed = len(self.server.requests), len(self.server.billed)
        self.server.fault = lambda number, request: fault
        try:
            result = {'openai': self._ask_openai, 'gemini': self._ask_gemini}[form](prompt, timeout, **asked)
        except Exception as error:
            result = error
        (request,) = self.server.requests[requests:]
        assert request.fault == fault
        return result, self.server.billed[billed:]

    def _ask_openai(self, prompt, timeout, n=2, seed=SEED, **more):
        messages = [{'role': 'user', 'content': prompt}]
        reply = self.openai.with_options(timeout=timeout).chat.completions.create(
            model='m', messages=messages, n=n, seed=seed, **more
        )
        if isinstance(reply, str):
            return reply
        usage = reply.usage and (reply.usage.prompt_tokens, reply.usage.completion_tokens)
        return [(each.message.content, each.finish_reason) for each in reply.choices], usage

    def _ask_gemini(self, prompt, timeout, n=2, seed=SEED, **more):
        options = types.HttpOptions(timeout=int(timeout * 1000))
        config = types.GenerateContentConfig(candidate_count=n, seed=seed, http_options=options, **more)
        reply = self.gemini.models.generate_content(model='m', contents=prompt, config=config)
        usage = reply.usage_metadata and (
            reply.usage_metadata.prompt_token_count,
            (reply.usage_metadata.candidates_token_count or 0) + (reply.usage_metadata.thoughts_token_count or 0),
        )
        if reply.prompt_feedback:
            return reply.prompt_feedback.block_reason.name, usage
        said = []
        for each in reply.candidates:
            parts = each.content and each.content.parts
            said.append((parts[0].text if parts else None, each.finish_reason.name))
        return said, usage


@pytest.fixture(scope='module')
def ask():
    with ApiServer(key='secret', hang_seconds=30) as server:
        yield Both(server)


def delays(error):
    """What an error says of how long to wait: by its headers, by its body."""
    details = error.details['error'].get('details', []) if isinstance(error, errors.APIError) else []
    infos = [each['retryDelay'] for each in details if each['@type'].endswith('RetryInfo')]
    return error.response.headers.get('retry-after'), *infos


each_form = pytest.mark.parametrize('form', ['openai', 'gemini'])


@each_form
def test_an_answer_is_known_beforehand(ask, form):
    (said, usage), (billed,) = ask(form)
    words = sum(map(tokens, TEXTS))
    assert said == [(text, 'stop' if form == 'openai' else 'STOP') for text in TEXTS]
    assert usage == (tokens(PROMPT), words) == (billed.input, billed.output)
    assert (billed.key, billed.choices, billed.batch, billed.delivered) == ((PROMPT, SEED), 2, False, True)
    request = ask.server.requests[-1]
    assert prompt_of(request.body) == PROMPT
    assert (request.dialect, request.route) == (form, 'generate')
    assert len(set(TEXTS)) == 2 and answer(PROMPT, None, 0) not in TEXTS


@each_form
def test_texts_end_at_stops_and_limits(ask, form):
    text = TEXTS[0]
    word = text.split()[2]
    stops, limit = ('stop', 'max_tokens') if form == 'openai' else ('stop_sequences', 'max_output_tokens')
    ends = ('stop', 'length') if form == 'openai' else ('STOP', 'MAX_TOKENS')
    (said, _), _ = ask(form, n=1, **{stops: ['!', f' {word}'], limit: 2})
    assert said == [(' '.join(text.split()[:2]), ends[0])]
    (said, usage), (billed,) = ask(form, n=1, **{limit: 2})
    assert said == [(' '.join(text.split()[:2]), ends[1])]
    assert usage[1] == billed.output == 2


def test_openai_reads_completions(ask):
    ask.server.fault = None
    reply = ask.openai.completions.create(model='m', prompt=['one', 'two'], n=2, seed=3)
    wanted = [answer(prompt, 3, index) for prompt in ('one', 'two') for index in range(2)]
    assert [choice.text for choice in reply.choices] == wanted
    assert [choice.index for choice in reply.choices] == [0, 1, 2, 3]
    assert [each.key for each in ask.server.billed[-2:]] == [('one', 3), ('two', 3)]


def test_thoughts_and_what_was_cached_are_counted():
    with ApiServer(thoughts=5, cached=4) as server:
        client = openai_client(server)
        messages = [{'role': 'system', 'content': 'Be brief.'}, {'role': 'user', 'content': PROMPT}]
        usage = client.chat.completions.create(model='m', messages=messages).usage
        assert usage.prompt_tokens_details.cached_tokens == 4
        assert usage.completion_tokens_details.reasoning_tokens == 5
        assert server.billed[0].prompt == f'Be brief.\n{PROMPT}'
        both = Both(server)
        for config, thoughts in (({}, 5), ({'thinking_budget': 0}, 0), ({'thinking_budget': 3}, 3)):
            thinking = {'thinking_config': config, 'system_instruction': 'Be brief.'}
            (said, _), (billed,) = both('gemini', n=1, **thinking)
            assert said[0][1] == 'STOP'
            assert (billed.thoughts, billed.cached, billed.prompt) == (thoughts, 4, f'Be brief.\n{PROMPT}')
        # All of the limit went into thinking: no text at all.
        (said, usage), _ = both('gemini', n=1, max_output_tokens=5)
        assert said == [(None, 'MAX_TOKENS')]
        assert usage[1] == 5


def test_models_are_known_or_not():
    with ApiServer(key='secret', models=['m']) as server:
        client, other = openai_client(server), gemini_client(server)
        assert client.models.retrieve('m').id == 'm'
        assert [model.id for model in client.models.list()] == ['m']
        assert other.models.get(model='m').name == 'models/m'
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve('n')
        with pytest.raises(errors.ClientError, match='404 NOT_FOUND'):
            other.models.generate_content(model='n', contents='hi')


def test_only_the_key_gets_in(ask):
    with pytest.raises(openai.AuthenticationError, match='401') as refused:
        openai_client(ask.server, 'wrong').models.list()
    assert refused.value.code == 'invalid_api_key'
    client = gemini_client(ask.server, 'wrong')  # without a name it would be closed before it asks
    with pytest.raises(errors.ClientError, match='400 INVALID_ARGUMENT') as refused:
        client.models.get(model='m')
    assert refused.value.details['error']['details'][0]['reason'] == 'API_KEY_INVALID'


STATUSES = {
    'rate_limit': (openai.RateLimitError, errors.ClientError, 429, 'RESOURCE_EXHAUSTED'),
    'rate_limit_date': (openai.RateLimitError, errors.ClientError, 429, 'RESOURCE_EXHAUSTED'),
    'rate_limit_plain': (openai.RateLimitError, errors.ClientError, 429, 'RESOURCE_EXHAUSTED'),
    'quota': (openai.RateLimitError, errors.ClientError, 429, 'RESOURCE_EXHAUSTED'),
    'unauthorized': (openai.AuthenticationError, errors.ClientError, 401, 'UNAUTHENTICATED'),
    'forbidden': (openai.PermissionDeniedError, errors.ClientError, 403, 'PERMISSION_DENIED'),
    'missing': (openai.NotFoundError, errors.ClientError, 404, 'NOT_FOUND'),
    'bad_request': (openai.BadRequestError, errors.ClientError, 400, 'INVALID_ARGUMENT'),
    'server_error': (openai.InternalServerError, errors.ServerError, 500, 'INTERNAL'),
    'bad_gateway': (openai.InternalServerError, errors.ServerError, 502, 'Bad Gateway'),  # the phrase: no JSON came
    'unavailable': (openai.InternalServerError, errors.ServerError, 503, 'UNAVAILABLE'),
    'gateway_timeout': (openai.InternalServerError, errors.ServerError, 504, 'DEADLINE_EXCEEDED'),
    'overloaded': (openai.InternalServerError, errors.ServerError, 529, 'UNAVAILABLE'),
}


@pytest.mark.parametrize('fault', STATUSES)
def test_an_error_has_its_class_and_status(ask, fault):
    of_openai, of_gemini, status, name = STATUSES[fault]
    error, billed = ask('openai', fault)
    assert (type(error), error.status_code, billed) == (of_openai, status, [])
    error, billed = ask('gemini', fault)
    assert (type(error), error.code, error.status, billed) == (of_gemini, status, name, [])


@each_form
def test_rate_limits_say_how_long_to_wait(ask, form):
    info = ['0.02s'] if form == 'gemini' else []
    error, _ = ask(form, 'rate_limit')
    assert delays(error) == ('0.02', *info)
    error, _ = ask(form, 'rate_limit_plain')
    assert delays(error) == (None, *info)
    error, _ = ask(form, 'rate_limit_date')
    when, *rest = delays(error)
    assert abs(email.utils.parsedate_to_datetime(when).timestamp() - time.time()) < 5
    assert rest == info


def test_a_quota_is_told_from_a_rate_limit(ask):
    assert ask('openai', 'quota')[0].code == 'insufficient_quota'
    assert ask('openai', 'rate_limit')[0].code == 'rate_limit_exceeded'
    for fault, period in (('quota', 'PerDay'), ('rate_limit', 'PerMinute')):
        details = ask('gemini', fault)[0].details['error']['details']
        assert period in details[0]['violations'][0]['quotaId']


CONTENTS = {
    'no_choices': ([], []),
    'blocked': ([(None, 'content_filter')] * 2, [(None, 'SAFETY')] * 2),
    'part_blocked': (
        [(None, 'content_filter'), (TEXTS[1], 'stop')],
        [(None, 'SAFETY'), (TEXTS[1], 'STOP')],
    ),
    'refusal': ([(None, 'stop')] * 2, [(None, 'RECITATION')] * 2),
    'empty': ([('', 'stop')] * 2, [('', 'STOP')] * 2),
    'fewer': ([(TEXTS[0], 'stop')], [(TEXTS[0], 'STOP')]),
    'reversed': ([(text, 'stop') for text in TEXTS[::-1]], [(text, 'STOP') for text in TEXTS[::-1]]),
}


@pytest.mark.parametrize('fault', CONTENTS)
def test_an_answer_lacks_what_it_should_have(ask, fault):
    for form, wanted in zip(('openai', 'gemini'), CONTENTS[fault], strict=True):
        (said, usage), (billed,) = ask(form, fault)
        assert said == wanted
        assert usage == (billed.input, billed.output) == (tokens(PROMPT), sum(tokens(text or '') for text, _ in said))


@each_form
def test_an_answer_is_cut_short_or_has_no_usage(ask, form):
    (said, _), _ = ask(form, 'truncated')
    for (text, end), whole in zip(said, TEXTS, strict=True):
        assert whole.startswith(text) and tokens(text) == tokens(whole) // 2
        assert end == ('length' if form == 'openai' else 'MAX_TOKENS')
    (said, usage), (billed,) = ask(form, 'no_usage')
    assert usage is None and billed.output == sum(tokens(text) for text, _ in said)


def test_a_prompt_is_blocked(ask):
    error, billed = ask('openai', 'blocked_prompt')
    assert (type(error), error.code, billed) == (openai.BadRequestError, 'content_filter', [])
    (reason, usage), (billed,) = ask('gemini', 'blocked_prompt')
    assert (reason, usage) == ('PROHIBITED_CONTENT', (tokens(PROMPT), 0))


# The class of the error, and the name of what caused it for OpenAI: it is a class of httpx, or of its successor.
CONNECTIONS = {
    'cut': (openai.APIConnectionError, 'RemoteProtocolError', True),
    'refuse': (openai.APIConnectionError, 'RemoteProtocolError', False),
    'reset': (openai.APIConnectionError, 'ReadError', False),
    'hang': (openai.APITimeoutError, 'ReadTimeout', True),
}


@pytest.mark.parametrize('fault', CONNECTIONS)
def test_a_connection_breaks(ask, fault):
    of_openai, cause, paid = CONNECTIONS[fault]
    timeout = 0.1 if fault == 'hang' else 5.0
    error, billed = ask('openai', fault, timeout=timeout)
    assert type(error) is of_openai and type(error.__cause__).__name__ == cause
    assert [each.delivered for each in billed] == [False] * paid
    error, billed = ask('gemini', fault, timeout=timeout)
    assert type(error).__name__ == cause  # nothing wraps it
    assert [each.delivered for each in billed] == [False] * paid


def test_a_body_is_no_json(ask):
    for fault in ('malformed', 'half_json', 'not_utf8', 'html'):
        for form in ('openai', 'gemini'):
            result, (billed,) = ask(form, fault)
            assert not billed.delivered
            if (form, fault) == ('openai', 'html'):
                assert result.startswith('<html>')  # the page itself, where a completion should be
            elif (form, fault) == ('gemini', 'not_utf8'):
                assert result[0][0][0] == '\N{REPLACEMENT CHARACTER}' + TEXTS[0]
            else:
                wanted = UnicodeDecodeError if fault == 'not_utf8' else json.JSONDecodeError
                assert type(result) is wanted


def test_a_slow_answer_is_overtaken():
    def fault(number, request):
        return 'slow' if request.body['seed'] == 0 else None

    with ApiServer(fault=fault, slow_seconds=0.3) as server:
        client, order = openai_client(server), []

        def ask(seed):
            client.chat.completions.create(model='m', messages=[{'role': 'user', 'content': PROMPT}], seed=seed)
            order.append(seed)

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(ask, range(4)))
        assert order[-1] == 0
        assert 2 <= server.in_flight_max <= 4


@each_form
def test_many_threads_share_a_client(form):
    with ApiServer(latency=0.02) as server:
        both = Both(server)
        ask = both._ask_openai if form == 'openai' else both._ask_gemini
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(lambda seed: ask(PROMPT, 5.0, 1, seed), range(40)))
        assert [said[0][0] for said, _ in replies] == [answer(PROMPT, seed, 0) for seed in range(40)]
        assert 2 <= server.in_flight_max <= 8
        assert Counter(each.key for each in server.billed) == Counter((PROMPT, seed) for seed in range(40))


def test_who_gave_up_is_in_flight_no_more():
    with ApiServer(fault=lambda number, request: 'hang') as server:
        client = openai_client(server, timeout=0.05)
        for _ in range(3):
            with pytest.raises(openai.APITimeoutError):
                client.models.list()
        assert server.in_flight_max == 1


def test_random_faults_are_the_same_each_time():
    def run(workers):
        with ApiServer(fault=random_faults(0.4, 1, ['rate_limit', 'cut', 'blocked'])) as server:
            both = Both(server)

            def ask(seed):
                while True:
                    try:
                        return both._ask_openai(PROMPT, 5.0, 1, seed)
                    except openai.APIError:
                        pass

            with concurrent.futures.ThreadPoolExecutor(workers) as pool:
                replies = list(pool.map(ask, range(30)))
            return replies, sorted((each.body['seed'], each.attempt, each.fault or '') for each in server.requests)

    replies, requests = run(1)
    assert run(4) == (replies, requests)
    faults = Counter(fault for *_, fault in requests)
    assert set(faults) == {'', 'rate_limit', 'cut', 'blocked'}
    assert 0.2 < 1 - faults[''] / len(requests) < 0.6


def test_the_libraries_try_again_as_they_are_told():
    with ApiServer(fault=lambda number, request: 'rate_limit' if request.attempt < 2 else None) as server:
        client = openai_client(server).with_options(max_retries=2)
        client.chat.completions.create(model='m', messages=[{'role': 'user', 'content': PROMPT}])
        assert len(server.requests) == 3
        hasty = gemini_client(server)
        with pytest.raises(errors.ClientError):  # once, unless there are retry_options
            hasty.models.generate_content(model='m', contents='hi')
        retry = {'attempts': 3, 'initial_delay': 0.01, 'max_delay': 0.01, 'jitter': 0}
        patient = gemini_client(server, retry_options=retry)
        patient.models.generate_content(model='m', contents='ho')
        assert len(server.requests) == 3 + 1 + 3


# Batch jobs.


def openai_lines(count, **more):
    for index in range(count):
        body = {'model': 'm', 'messages': [{'role': 'user', 'content': f'{PROMPT} {index}'}], 'seed': index, **more}
        yield {'custom_id': f'key-{index}', 'method': 'POST', 'url': '/v1/chat/completions', 'body': body}


def gemini_lines(count, **more):
    for index in range(count):
        contents = [{'role': 'user', 'parts': [{'text': f'{PROMPT} {index}'}]}]
        # The API reads either spelling.
        name = 'generationConfig' if index % 2 else 'generation_config'
        yield {'key': f'key-{index}', 'request': {'contents': contents, name: {'seed': index, **more}}}


def jsonl(rows):
    return ''.join(json.dumps(row) + '\n' for row in rows).encode()


def start_openai(client, rows):
    file = client.files.create(file=('in.jsonl', jsonl(rows)), purpose='batch')
    return client.batches.create(
        input_file_id=file.id, endpoint='/v1/chat/completions', completion_window='24h', metadata={'run': 'a'}
    )


def start_gemini(client, rows):
    file = client.files.upload(file=io.BytesIO(jsonl(rows)), config={'mime_type': 'application/jsonl'})
    return client.batches.create(model='m', src=file.name, config={'display_name': 'a'})


def rows_of(content):
    """The lines that are JSON, and how many are not."""
    rows, broken = [], 0
    for line in content.splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            broken += 1
    return rows, broken


STRANGE = {0: 'stranger'}.get
LINES = {0: 'malformed', 1: 'rate_limit', 2: 'blocked', 3: 'missing_line', 4: 'half_json', 5: 'duplicate'}


def test_a_job_of_openai_is_polled_and_read():
    with ApiServer(key='secret', job=lambda number: Plan(polls=3, line=LINES.get)) as server:
        client = openai_client(server)
        job = start_openai(client, openai_lines(10))
        states = [job.status, *(client.batches.retrieve(job.id).status for _ in range(3))]
        assert states == ['validating', 'in_progress', 'finalizing', 'completed']
        job = client.batches.retrieve(job.id)
        assert job.metadata == {'run': 'a'} and (job.request_counts.total, job.request_counts.failed) == (10, 1)
        rows, broken = rows_of(client.files.content(job.output_file_id).content)
        assert broken == 2
        keys = [row['custom_id'] for row in rows]
        assert Counter(keys) == Counter([f'key-{index}' for index in (2, 5, 5, 6, 7, 8, 9)])
        assert keys != sorted(keys)
        for row in rows:
            index = int(row['custom_id'][4:])
            choice = row['response']['body']['choices'][0]
            wanted = None if index == 2 else answer(f'{PROMPT} {index}', index, 0)
            assert (row['response']['status_code'], row['error'], choice['message']['content']) == (200, None, wanted)
        (row,), _ = rows_of(client.files.content(job.error_file_id).content)
        assert (row['custom_id'], row['response']['status_code']) == ('key-1', 429)
        assert row['response']['body']['error']['code'] == 'rate_limit_exceeded'
        billed = {each.seed: each.delivered for each in server.billed if each.batch}
        assert billed == {0: False, 2: True, 3: False, 4: False, **dict.fromkeys(range(5, 10), True)}
        assert [each.state for each in server.jobs] == ['completed']


def test_jobs_of_openai_end_otherwise():
    plans = [
        Plan(end='expired', done=0.5),
        Plan(end='failed'),
        Plan(end='in_progress'),
        Plan(end='cancelled', done=0.25),
        Plan(polls=4),
    ]
    with ApiServer(job=plans.__getitem__) as server:
        client = openai_client(server)
        jobs = [start_openai(client, openai_lines(4)) for _ in plans]
        for _ in range(2):
            polled = [client.batches.retrieve(job.id) for job in jobs]
        states = ['expired', 'failed', 'in_progress', 'cancelled', 'in_progress']
        assert [job.status for job in polled] == states
        expired, failed, _, cancelled, going = polled
        rows, _ = rows_of(client.files.content(expired.output_file_id).content)
        assert {row['custom_id'] for row in rows} == {'key-0', 'key-1'}
        rows, _ = rows_of(client.files.content(expired.error_file_id).content)
        found = {(row['custom_id'], row['response'], row['error']['code']) for row in rows}
        assert found == {('key-2', None, 'batch_expired'), ('key-3', None, 'batch_expired')}
        assert failed.errors.data[0].code == 'token_limit_exceeded' and failed.output_file_id is None
        assert client.files.content(cancelled.output_file_id).content.count(b'\n') == 1
        # Half of the polls have passed, so half of the requests were answered.
        assert client.batches.cancel(going.id).status == 'cancelling'
        going = client.batches.retrieve(going.id)
        assert (going.status, going.request_counts.completed) == ('cancelled', 2)
        with pytest.raises(openai.BadRequestError):
            client.batches.cancel(going.id)
        assert [job.id for job in client.batches.list(limit=2)] == [job.id for job in jobs[::-1]]


@pytest.mark.parametrize(
    ('change', 'code'),
    [
        ({'custom_id': 'key-0'}, 'duplicate_custom_id'),
        ({'url': '/v1/completions'}, 'invalid_request'),
        ({'method': 'GET'}, 'invalid_request'),
        ({'custom_id': 3}, 'invalid_request'),
    ],
)
def test_a_job_of_openai_with_a_wrong_line_fails(ask, change, code):
    ask.server.fault = None
    first, second = openai_lines(2)
    job = ask.openai.batches.retrieve(start_openai(ask.openai, [first, {**second, **change}]).id)
    (error,) = job.errors.data
    assert (job.status, error.code, error.line) == ('failed', code, 2)


def test_files_and_jobs_fail_as_answers_do():
    faults = iter([])
    with ApiServer(fault=lambda number, request: next(faults, None), job=lambda number: Plan(line=STRANGE)) as server:
        client, other = openai_client(server), gemini_client(server)
        job = client.batches.retrieve(start_openai(client, openai_lines(2)).id)
        twin = other.batches.get(name=start_gemini(other, gemini_lines(2)).name)
        whole = client.files.content(job.output_file_id).content
        assert {row['custom_id'] for row in rows_of(whole)[0]} == {'a stranger', 'key-1'}
        assert {row['key'] for row in rows_of(other.files.download(file=twin.dest.file_name))[0]} == {
            'a stranger',
            'key-1',
        }
        faults = iter(['cut', 'half_json', 'unavailable', 'no_choices'])
        with pytest.raises(openai.APIConnectionError):
            client.files.content(job.output_file_id)
        assert client.files.content(job.output_file_id).content == whole[: len(whole) // 2]  # nobody notices
        with pytest.raises(openai.InternalServerError):
            client.batches.retrieve(job.id)
        assert client.batches.retrieve(job.id).status == 'completed'  # this fault is one of answers only
        assert server.requests[-1].fault is None
        faults = iter(['cut', 'refuse', 'unavailable'])
        with pytest.raises(Exception, match='without sending'):
            other.files.download(file=twin.dest.file_name)
        with pytest.raises(Exception, match='without sending'):
            other.batches.get(name=twin.name)
        with pytest.raises(errors.ServerError):
            start_gemini(other, gemini_lines(2))
        assert len(server.jobs) == 2


@pytest.mark.parametrize('version', ['v1', 'v1beta'])
def test_a_job_of_gemini_is_polled_and_read(version):
    with ApiServer(key='secret', job=lambda number: Plan(polls=2, line=LINES.get)) as server:
        client = gemini_client(server, api_version=version)
        job = start_gemini(client, gemini_lines(10))
        assert (job.state.name, job.display_name, job.dest) == ('JOB_STATE_PENDING', 'a', None)
        states = [client.batches.get(name=job.name).state.name for _ in range(2)]
        assert states == ['JOB_STATE_RUNNING', 'JOB_STATE_SUCCEEDED']
        job = client.batches.get(name=job.name)
        rows, broken = rows_of(client.files.download(file=job.dest.file_name))
        assert (job.done, broken) == (True, 2)
        assert Counter(row['key'] for row in rows) == Counter([f'key-{index}' for index in (1, 2, 5, 5, 6, 7, 8, 9)])
        for row in rows:
            index = int(row['key'][4:])
            if index == 1:
                assert row['error']['code'] == 8  # as gRPC counts
                continue
            reply = types.GenerateContentResponse.model_validate(row['response'])
            wanted = None if index == 2 else answer(f'{PROMPT} {index}', index, 0)
            assert reply.text == wanted and reply.usage_metadata.prompt_token_count == tokens(PROMPT) + 1
        assert server.requests[0].path == f'/upload/{version}/files'


def test_inlined_requests_of_gemini_are_answered():
    with ApiServer(job=lambda number: Plan(line=LINES.get)) as server:
        client = gemini_client(server)
        requests = [
            types.InlinedRequest(
                contents=f'{PROMPT} {index}',
                metadata={'key': f'key-{index}'},
                config={'seed': index, 'candidate_count': 2, 'system_instruction': 'Be brief.'},
            )
            for index in range(10)
        ]
        job = client.batches.create(model='m', src=requests)
        job = client.batches.get(name=job.name)
        assert job.state is types.JobState.JOB_STATE_SUCCEEDED and job.dest.file_name is None
        found = Counter()
        for each in job.dest.inlined_responses:
            index = int(each.metadata['key'][4:])
            found[index] += 1
            if index in (0, 4):
                assert (each.response, each.error) == (None, None)
            elif index == 1:
                assert each.error.code == 8
            else:
                texts = [one.content and one.content.parts[0].text for one in each.response.candidates]
                prompt = f'Be brief.\n{PROMPT} {index}'
                assert texts == [None if index == 2 else answer(prompt, index, i) for i in range(2)]
        assert found == Counter([0, 1, 2, 4, 5, 5, 6, 7, 8, 9])


def test_jobs_of_gemini_end_otherwise():
    plans = [Plan(end='expired', done=0.5), Plan(end='failed'), Plan(end='in_progress'), Plan(polls=4)]
    with ApiServer(job=[*plans, Plan()].__getitem__) as server:
        client = gemini_client(server)
        jobs = [start_gemini(client, gemini_lines(4)) for _ in plans]
        client.batches.cancel(name=jobs[-1].name)
        jobs = [client.batches.get(name=job.name) for job in jobs]
        names = ['EXPIRED', 'FAILED', 'RUNNING', 'CANCELLED']
        assert [job.state.name for job in jobs] == [f'JOB_STATE_{name}' for name in names]
        # No results; the library leaves out the error of a job.
        assert [(job.dest, job.error) for job in jobs] == [(None, None)] * 4
        assert [job.done for job in jobs] == [True, True, False, True]
        listed = client.batches.list(config={'page_size': 3})
        assert [job.name for job in listed] == [job.name for job in jobs[::-1]]
        assert not server.billed
        wrong = start_gemini(client, [{'no key': 0}])
        assert client.batches.get(name=wrong.name).state is types.JobState.JOB_STATE_FAILED


@pytest.mark.parametrize('form', ['openai', 'gemini'])
def test_unknown_arguments_are_refused(form):
    with ApiServer(strict=True) as server:
        both = Both(server)
        if form == 'openai':
            error, _ = both(form, extra_body={'top_k': 3})
            assert type(error) is openai.BadRequestError
            error, _ = both(form, stop=list('abcde'))
            assert type(error) is openai.BadRequestError
        else:
            result, _ = both(form, top_k=3)
            assert not isinstance(result, Exception)
            extra = types.HttpOptions(extra_body={'generationConfig': {'top': 3}})
            with pytest.raises(errors.ClientError, match='Unknown name "top"'):
                both.gemini.models.generate_content(model='m', contents='hi', config={'http_options': extra})


def test_the_server_stops_at_once():
    before = threading.active_count()
    with ApiServer(fault=lambda number, request: 'hang') as server:
        clients = [openai_client(server, timeout=30) for _ in range(4)]
        pool = concurrent.futures.ThreadPoolExecutor(4)
        asked = [pool.submit(client.models.list) for client in clients]
        idle = socket.create_connection(server.url.removeprefix('http://').split(':'))  # says nothing
        while server.in_flight_max < 4:
            time.sleep(0.005)
        start = time.monotonic()
    assert time.monotonic() - start < 5  # it is a fraction of a second where nothing else runs; a hang takes 60
    for future in asked:
        assert isinstance(future.exception(5), openai.APIConnectionError)
    pool.shutdown()
    idle.close()
    while threading.active_count() > before and time.monotonic() - start < 5:
        time.sleep(0.005)
    assert threading.active_count() <= before


def test_a_mistake_of_a_test_is_no_fault():
    server = ApiServer(fault=lambda *_: 'nonsense')
    with pytest.raises(ValueError, match='no fault nonsense'), server, pytest.raises(openai.InternalServerError):
        openai_client(server).models.list()


def test_every_fault_is_tried_here():
    tried = {*STATUSES, *CONTENTS, *CONNECTIONS, 'malformed', 'half_json', 'not_utf8', 'html', 'slow'}
    assert set(FAULTS) - tried == {'truncated', 'no_usage', 'blocked_prompt'}
