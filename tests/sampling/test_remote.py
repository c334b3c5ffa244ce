"""The door to models behind APIs, with the real client libraries against a server that fails as theirs do."""

import collections
import itertools
import json
import time

import pytest
from api_parts import Plan, answer, random_faults, tokens
from api_server import ApiServer

from cosample_jax import config as config_lib
from cosample_jax.apis.gemini_client import GeminiClient
from cosample_jax.apis.openai_client import OpenAIClient
from cosample_jax.apis.protocol import Settings
from cosample_jax.budget import Price
from cosample_jax.endpoints import Endpoint
from cosample_jax.errors import UserError
from cosample_jax.ledger import Ledger
from cosample_jax.records import Sample, Store
from cosample_jax.sampling import remote
from cosample_jax.sampling.policy import problem_hash
from cosample_jax.sampling.pool import fill_pool
from cosample_jax.sampling.remote import Patience, Remote
from cosample_jax.sampling.schedule import Request

PRICE = Price(input=1.0, output=10.0, batch_discount=0.5, cached=0.25)
KEY = 'sk-very-secret-0123456789'
PROVIDERS = ('openai', 'gemini', 'completions')


def settings(**changed):
    fixed = {'temperature': 0.7, 'top_k': 3, 'top_p': 0.9, 'max_new_tokens': 40, 'stop_strings': ('\n\n',)}
    return Settings(**(fixed | {'thinking': '', 'timeout': 0.4} | changed))


def door(server, path, provider='openai', limit=None, asked=None, price=PRICE, **api):
    asked = asked or settings()
    if provider == 'gemini':
        client = GeminiClient(Endpoint('gemini', 'a-model', server.gemini_url), KEY, asked)
    else:
        client = OpenAIClient(Endpoint('openai', 'a-model', server.openai_url), KEY, asked)
    fields = config_lib.base().models.weak.api
    fields.update({'at_once': 8, **api})
    return Remote(
        client,
        Ledger(path / 'ledger.jsonl', limit),
        model='weak',
        purpose='train',
        seed=0,
        settings=asked,
        price=price,
        api=fields,
        text=str,
        patience=Patience(first=0.002, longest=0.02, look=0.01),
    )


def requests(problems, samples=1, provider='openai'):
    def prompt(number):
        said = f'question {number} of many'
        return said if provider == 'completions' else (('user', said),)

    return [Request(f'p{i}', j, prompt(i)) for i in range(problems) for j in range(samples)]


def events(path):
    return [json.loads(line) for line in (path / 'ledger.jsonl').read_text().splitlines()]


def keys(finished):
    return [(each.problem_id, each.sample_index) for each in finished]


@pytest.mark.parametrize('provider', PROVIDERS)
@pytest.mark.parametrize('samples', [1, 3])
def test_each_sample_arrives_once_with_the_text_of_its_seed(tmp_path, provider, samples):
    with ApiServer(key=KEY) as server:
        wanted = requests(5, 7, provider)
        drawn = list(door(server, tmp_path, provider, samples=samples).sample(wanted))
    assert sorted(keys(drawn)) == sorted((r.problem_id, r.sample_index) for r in wanted)
    by_key = {(each.problem_id, each.sample_index): each for each in drawn}
    for billed in server.billed:
        for place in range(billed.choices):
            number = int(billed.prompt.split('question ')[1].split()[0])
            if provider == 'gemini':  # the seed has 31 bits: the problem's hash xor the index, as it is told
                first = next(
                    i for i in range(7) if (i ^ int(problem_hash('train', f'p{number}'))) & 0x7FFFFFFF == billed.seed
                )
            else:
                first, hashed = billed.seed >> 32, billed.seed & 0xFFFFFFFF
                assert hashed == problem_hash('train', f'p{number}')
            assert by_key[f'p{number}', first + place].text == answer(billed.prompt, billed.seed, place)
    assert len(server.billed) == 5 * -(-7 // samples)


def test_another_run_s_seed_gives_other_seeds(tmp_path):
    with ApiServer() as server:
        one = door(server, tmp_path / 'a')
        two = door(server, tmp_path / 'b')
        two._seed = 1
        list(one.sample(requests(3))), list(two.sample(requests(3)))
    assert len({billed.seed for billed in server.billed}) == 6


@pytest.mark.parametrize('provider', PROVIDERS)
def test_what_is_asked(tmp_path, provider):
    with ApiServer() as server:
        asked = settings(thinking='64' if provider == 'gemini' else '')
        list(door(server, tmp_path, provider, asked=asked, samples=2).sample(requests(1, 2, provider)))
    body = server.requests[0].body
    body = json.loads(body) if isinstance(body, (bytes, str)) else body
    if provider == 'gemini':
        told = body['generationConfig']
        assert told['candidateCount'] == 2 and told['temperature'] == 0.7 and told['topP'] == 0.9 and told['topK'] == 3
        assert told['maxOutputTokens'] == 104 and list(told['thinkingConfig'].values()) == [64]
        assert told['stopSequences'] == ['\n\n'] and 0 <= told['seed'] < 2**31
        assert body['contents'] == [{'role': 'user', 'parts': [{'text': 'question 0 of many'}]}]
        return
    assert body['n'] == 2 and body['temperature'] == 0.7 and body['top_p'] == 0.9 and body['top_k'] == 3
    assert body['max_tokens'] == 40 and body['stop'] == ['\n\n'] and body['seed'] == problem_hash('train', 'p0')
    said = {'prompt': 'question 0 of many'}
    assert (body['prompt'] == said['prompt']) if provider == 'completions' else body['messages'][0]['role'] == 'user'


AGAIN = ('rate_limit', 'rate_limit_date', 'rate_limit_plain', 'server_error', 'bad_gateway', 'unavailable')
AGAIN += ('gateway_timeout', 'overloaded', 'refuse', 'reset')
LOST = ('hang', 'cut', 'malformed', 'html', 'half_json', 'not_utf8', 'no_choices')
FATAL = {
    'quota': 'quota',
    'unauthorized': 'check the key',
    'forbidden': 'check the key',
    'missing': 'name of the model',
}
FATAL |= {'bad_request': 'not allowed here'}


# Google's library puts U+FFFD in place of what is no UTF-8: to us that is an answer.
@pytest.mark.parametrize(
    ('provider', 'fault'),
    [(p, f) for p in ('openai', 'gemini') for f in AGAIN + LOST if (p, f) != ('gemini', 'not_utf8')],
)
def test_what_may_pass_is_asked_again(tmp_path, provider, fault):
    with ApiServer(fault=lambda number, request: fault if number == 0 else None) as server:
        opened = door(server, tmp_path, provider)
        drawn = list(opened.sample(requests(3)))
    assert sorted(keys(drawn)) == [('p0', 0), ('p1', 0), ('p2', 0)]
    told = opened.counters
    assert told['requests'] == 3 and told['retries'] == 1
    # What may have been charged for is counted as if it were, and nothing else is.
    charged = sum(1 for billed in server.billed) - 3
    assert told['lost'] >= charged and (told['at_risk'] > 0) == (told['lost'] > 0)
    if fault in AGAIN[:8]:
        assert told['lost'] == 0


@pytest.mark.parametrize('provider', ['openai', 'gemini'])
@pytest.mark.parametrize('fault', FATAL)
def test_what_only_the_user_can_mend_stops_in_one_line(tmp_path, provider, fault):
    with ApiServer(fault=lambda number, request: fault if number >= 4 else None) as server:
        opened, drawn = door(server, tmp_path, provider, at_once=1), []
        with pytest.raises(UserError) as caught:
            drawn += opened.sample(requests(20))
        assert len(server.requests) == 5  # not asked again, and nobody after it
    message = str(caught.value)
    assert FATAL[fault] in message and '\n' not in message and KEY not in message
    drawn = list(door(ApiServerless(), tmp_path, provider).sample(requests(4)))  # what was answered is not lost
    assert sorted(keys(drawn)) == [(f'p{i}', 0) for i in range(4)]


class ApiServerless:
    """Addresses where nobody answers."""

    openai_url, gemini_url = 'http://127.0.0.1:9/v1', 'http://127.0.0.1:9'


@pytest.mark.parametrize('provider', ['openai', 'gemini'])
@pytest.mark.parametrize(
    ('fault', 'finish', 'counted'),
    [
        ('blocked', 'blocked', 'blocked'),
        ('blocked_prompt', 'blocked', 'blocked'),
        ('refusal', 'blocked', 'blocked'),
        ('empty', 'stop', 'empty'),
        ('truncated', 'length', ''),
        ('no_usage', 'stop', ''),
    ],
)
def test_what_a_filter_a_limit_or_nothing_ended_is_recorded(tmp_path, provider, fault, finish, counted):
    with ApiServer(fault=lambda number, request: fault) as server:
        opened = door(server, tmp_path, provider, samples=2)
        drawn = list(opened.sample(requests(2, 2)))
    assert sorted(keys(drawn)) == [('p0', 0), ('p0', 1), ('p1', 0), ('p1', 1)]
    assert {each.finish for each in drawn} == {finish}
    told = opened.counters
    assert {name: told[name] for name in ('blocked', 'empty')} == {'blocked': 0, 'empty': 0} | (
        {counted: 4} if counted else {}
    )
    if fault == 'no_usage':  # it must have cost something
        assert told['usd'] > 0


@pytest.mark.parametrize('provider', PROVIDERS)
@pytest.mark.parametrize('fault', ['fewer', 'reversed', 'part_blocked'])
def test_choices_are_who_they_say_and_missing_ones_are_asked_for(tmp_path, provider, fault):
    with ApiServer(fault=lambda number, request: fault if number == 0 else None) as server:
        drawn = list(door(server, tmp_path, provider, samples=4, at_once=1).sample(requests(1, 4, provider)))
    assert sorted(keys(drawn)) == [('p0', i) for i in range(4)]
    first = server.billed[0]
    for index, text in ((each.sample_index, each.text) for each in drawn if each.finish != 'blocked'):
        if fault != 'fewer' or index < 3:
            assert text == answer(first.prompt, first.seed, index)
    assert len(server.billed) == (2 if fault == 'fewer' else 1)


def test_a_request_is_given_up_and_the_others_go_on(tmp_path):
    def fault(number, request):
        return 'server_error' if 'question 2 ' in str(request.body) else None

    with ApiServer(fault=fault) as server:
        opened, drawn = door(server, tmp_path), []
        with pytest.raises(UserError, match=f'1 requests were given up after {remote.ATTEMPTS} attempts'):
            for each in opened.sample(requests(6)):
                drawn.append(each)
        assert len(drawn) == 5 and len(server.requests) == 5 + remote.ATTEMPTS
        assert opened.counters['usd'] > 0 and opened.counters['at_risk'] == 0


def test_a_server_that_is_not_there_is_given_up_soon(tmp_path):
    start = time.monotonic()
    with pytest.raises(UserError, match='the same command continues'):
        list(door(ApiServerless(), tmp_path).sample(requests(200)))
    assert sum(event['event'] == 'asked' for event in events(tmp_path)) < 100
    assert time.monotonic() - start < 60


@pytest.mark.parametrize('provider', ['openai', 'gemini'])
def test_no_more_than_so_many_at_once_and_a_minute(tmp_path, provider):
    with ApiServer(latency=0.05) as server:
        list(door(server, tmp_path, provider, at_once=3).sample(requests(12)))
        assert 2 <= server.in_flight_max <= 3
    with ApiServer() as server:
        start = time.monotonic()
        list(door(server, tmp_path / 'limited', provider, at_once=12, per_minute=600).sample(requests(60)))
        # 50 may go at once, the others at 10 a second.
        assert time.monotonic() - start > 0.9


def test_the_price_of_what_was_read_cached_and_written(tmp_path):
    with ApiServer(thoughts=7, cached=2) as server:
        opened = door(server, tmp_path)
        list(opened.sample(requests(20)))
    read = sum(b.input for b in server.billed)
    cached = sum(b.cached for b in server.billed)
    written = sum(b.output for b in server.billed)
    assert cached and written > 20 * 7
    told = opened.counters
    assert (told['read'], told['cached'], told['written']) == (read, cached, written)
    assert told['usd'] == pytest.approx((1.0 * (read - cached) + 0.25 * cached + 10.0 * written) / 1e6)


def test_a_sample_s_tokens_are_its_share_of_what_was_written(tmp_path):
    with ApiServer() as server:
        drawn = list(door(server, tmp_path, samples=5).sample(requests(3, 5)))
    for problem, group in itertools.groupby(sorted(drawn, key=lambda f: f.problem_id), key=lambda f: f.problem_id):
        billed = next(b for b in server.billed if f'question {problem[1:]} ' in b.prompt)
        group = list(group)
        assert sum(each.num_tokens for each in group) == billed.output
        assert all(abs(each.num_tokens - tokens(each.text)) <= 3 for each in group)


def test_the_limit_stops_before_it_is_exceeded_and_another_attempt_goes_on(tmp_path):
    with ApiServer(latency=0.01) as server:
        limit = 0.004
        drawn = collect(door(server, tmp_path, limit=limit), requests(100))
        spent = sum(1e-6 * b.input + 1e-5 * b.output for b in server.billed)
        most = 1e-5 * 40 + 1e-6 * 40
        assert 0 < len(drawn) < 100 and limit - most < spent <= limit
        again = collect(door(server, tmp_path, limit=2 * limit), requests(100))
        assert set(keys(drawn)) < set(keys(again)) and len(set(keys(again))) == len(again)
        rest = list(door(server, tmp_path).sample(requests(100)))
        assert len(rest) == 100 == len(server.billed)


def collect(opened, wanted):
    drawn = []
    with pytest.raises(UserError, match='--max-spend: .* raise it, and the same command continues'):
        for each in opened.sample(wanted):
            drawn.append(each)
    return drawn


def test_what_was_paid_for_is_not_paid_again_though_it_reached_no_pool(tmp_path):
    with ApiServer() as server:
        first = texts(door(server, tmp_path).sample(requests(10, 2)))
        count = len(server.billed)
        second = texts(door(server, tmp_path).sample(requests(12, 2)))
        assert len(server.billed) - count == 4 and first.items() <= second.items()


def texts(finished):
    return {(each.problem_id, each.sample_index): each.text for each in finished}


def test_a_pool_is_filled_once_whatever_happens(tmp_path):
    """1,000 requests through 20% faults, in attempts that are stopped: each sample once, and a ledger that adds up."""
    kinds = [*AGAIN, *LOST[1:], 'slow', 'blocked', 'empty', 'truncated', 'fewer', 'reversed', 'part_blocked']
    store = Store(tmp_path / 'pool', Sample)
    wanted = requests(250, 4)
    with ApiServer(fault=random_faults(0.2, 5, kinds), slow_seconds=0.02) as server:
        for attempt in itertools.count():
            opened = door(server, tmp_path, at_once=16)
            finished = (
                opened.sample(wanted) if attempt > 2 else itertools.islice(opened.sample(wanted), 200 * (attempt + 1))
            )
            fill_pool(store, Given(finished), wanted, text=str, model='weak')
            if len(store) == len(wanted):
                break
    samples = store.read()
    assert len({(s.problem_id, s.sample_index) for s in samples}) == len(samples) == 1000
    accounts = Ledger(tmp_path / 'ledger.jsonl').accounts()['weak']
    delivered = [b for b in server.billed if b.delivered]
    in_ledger = [e for e in events(tmp_path) if e['event'] == 'answered']
    told = sum(e['usd'] for e in in_ledger)
    assert accounts.usd == pytest.approx(told)
    # What the server charged for is in the ledger: as an answer, or among what may have been charged for.
    charged = sum(1e-6 * b.input + 1e-5 * b.output for b in server.billed)
    assert accounts.usd <= charged + 1e-9 <= accounts.usd + accounts.at_risk + 1e-9
    assert len(in_ledger) <= len(delivered)
    paid = collections.Counter((e['problem'], row[0]) for e in in_ledger for row in e['samples'])
    assert max(paid.values()) == 1 and len(paid) == 1000


class Given:
    """A door that was opened before."""

    def __init__(self, finished):
        self._finished = finished

    def sample(self, wanted, should_stop):
        missing = {(r.problem_id, r.sample_index) for r in wanted}
        return (each for each in self._finished if (each.problem_id, each.sample_index) in missing)


def test_the_key_is_in_no_file_and_in_no_message(tmp_path):
    kinds = ['unauthorized', 'server_error', 'bad_request']
    with ApiServer(
        key='another key', fault=lambda number, request: kinds[number % 3] if number < 9 else None
    ) as server:
        for provider in ('openai', 'gemini'):
            opened = door(server, tmp_path, provider)
            with pytest.raises(UserError) as caught:
                list(opened.sample(requests(5)))
            assert KEY not in str(caught.value)
    assert KEY not in (tmp_path / 'ledger.jsonl').read_text()
    assert any(KEY in str(request.headers) for request in server.requests)  # though it was sent


# ---------------------------------------------------------------------------------------------------------------------
# Jobs.


@pytest.mark.parametrize('provider', PROVIDERS)
def test_a_job_answers_in_any_order_at_half_the_price(tmp_path, provider):
    with ApiServer(job=lambda number: Plan(polls=3)) as server:
        opened = door(server, tmp_path, provider, batch=True, samples=2)
        drawn = list(opened.sample(requests(10, 4, provider)))
    assert len(set(keys(drawn))) == 40 and len(server.billed) == 20 and len(server.jobs) == 1
    told = opened.counters
    assert told['usd'] == pytest.approx(0.5 * sum(1e-6 * b.input + 1e-5 * b.output for b in server.billed))
    assert not opened._ledger.jobs()


@pytest.mark.parametrize('provider', ['openai', 'gemini'])
@pytest.mark.parametrize(
    'plan',
    [
        Plan(end='expired', done=0.5),
        Plan(end='cancelled', done=0.3),
        Plan(line={0: 'missing_line', 1: 'malformed', 2: 'half_json', 3: 'duplicate', 4: 'stranger'}.get),
        Plan(line={0: 'server_error', 1: 'rate_limit', 2: 'no_choices'}.get),
    ],
    ids=['expired', 'cancelled', 'damaged', 'errors'],
)
def test_what_a_job_leaves_is_asked_in_another_one(tmp_path, provider, plan):
    with ApiServer(job=lambda number: plan if number == 0 else Plan()) as server:
        opened = door(server, tmp_path, provider, batch=True)
        drawn = list(opened.sample(requests(20)))
    assert sorted(keys(drawn)) == sorted((f'p{i}', 0) for i in range(20))
    assert len(server.jobs) == 2
    charged = 0.5 * sum(1e-6 * b.input + 1e-5 * b.output for b in server.billed)
    told = opened.counters
    assert told['usd'] <= charged + 1e-12 <= told['usd'] + told['at_risk'] + 1e-12


@pytest.mark.parametrize('provider', ['openai', 'gemini'])
def test_a_job_that_fails_says_why(tmp_path, provider):
    with ApiServer(job=lambda number: Plan(end='failed')) as server:
        opened = door(server, tmp_path, provider, batch=True)
        with pytest.raises(UserError, match='job .* failed: '):
            list(opened.sample(requests(5)))
    assert opened.counters['usd'] == 0 and not opened._ledger.jobs() and opened._ledger.spent == 0


@pytest.mark.parametrize('provider', ['openai', 'gemini'])
def test_a_job_that_never_ends_is_cancelled_and_its_requests_asked_again(tmp_path, provider):
    plans = [Plan(polls=10**6, done=0.5), Plan()]
    with ApiServer(job=lambda number: plans[number]) as server:
        opened = door(server, tmp_path, provider, batch=True, job_hours=0.2 / 3600)
        drawn = list(opened.sample(requests(10)))
    assert len(set(keys(drawn))) == 10 and len(server.jobs) == 2


@pytest.mark.parametrize('provider', ['openai', 'gemini'])
def test_an_attempt_finds_the_job_of_the_one_before(tmp_path, provider):
    with ApiServer(job=lambda number: Plan(polls=8)) as server:
        killed = door(server, tmp_path, provider, batch=True)
        assert list(killed.sample(requests(10), lambda: bool(server.jobs))) == []
        drawn = list(door(server, tmp_path, provider, batch=True).sample(requests(12)))
        assert len(set(keys(drawn))) == 12
        assert len(server.jobs) == 2 and len(server.billed) == 12


@pytest.mark.parametrize('provider', ['openai', 'gemini'])
def test_a_job_that_was_collected_in_part_is_collected_once(tmp_path, provider):
    with ApiServer() as server:
        killed = door(server, tmp_path, provider, batch=True)
        first = list(itertools.islice(killed.sample(requests(10)), 4))
        again = door(server, tmp_path, provider, batch=True)
        drawn = list(again.sample(requests(10)))
    assert len(first) == 4 and sorted(keys(drawn)) == sorted((f'p{i}', 0) for i in range(10))
    assert len(server.jobs) == 1 and not again._ledger.jobs() and again.counters['requests'] == 10
    assert again._ledger.spent == pytest.approx(again.counters['usd'])


@pytest.mark.parametrize('provider', ['openai', 'gemini'])
def test_a_job_whose_name_got_lost_is_found_by_its_label(tmp_path, provider):
    with ApiServer(job=lambda number: Plan(polls=2)) as server:
        opened = door(server, tmp_path, provider, batch=True)
        asks = opened._asks(requests(6))
        first = opened._client.submit(asks, 'label')
        assert opened._client.submit(asks, 'label') == first and len(server.jobs) == 1
        assert opened._client.submit(asks, 'another') != first


def test_a_job_holds_no_more_than_may_be_spent(tmp_path):
    with ApiServer() as server:
        opened = door(server, tmp_path, batch=True, limit=0.002)
        drawn = collect(opened, requests(50))
        spent = 0.5 * sum(1e-6 * b.input + 1e-5 * b.output for b in server.billed)
        assert 0 < len(drawn) < 50 and 0 < spent <= 0.002
