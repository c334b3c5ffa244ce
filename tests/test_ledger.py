"""The ledger: what it counts is never less than what was spent, whenever a process ends."""

import json
import threading

import pytest

from cosample_jax.errors import UserError
from cosample_jax.ledger import Account, Ledger


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'run' / 'ledger.jsonl'


def spend(ledger, each, most=1.0, usd=0.25, model='weak', **told):
    assert ledger.ask(each, model, most)
    ledger.answered(each, usd, read=10, cached=4, written=5, **told)


def test_answers_cost_what_they_cost_and_what_is_open_the_most_it_can(path):
    ledger = Ledger(path)
    spend(ledger, 'a')
    assert ledger.ask('b', 'strong', 1.0)
    assert ledger.spent == 1.25
    assert ledger.accounts() == {'weak': Account(requests=1, read=10, cached=4, written=5, usd=0.25)}


def test_the_limit_is_never_exceeded_and_nothing_is_noted_of_what_would(path):
    ledger = Ledger(path, limit=2.0)
    spend(ledger, 'a', usd=0.5)
    assert ledger.ask('b', 'weak', 1.5)
    before = path.read_bytes()
    assert not ledger.ask('c', 'weak', 0.01)
    assert path.read_bytes() == before
    ledger.answered('b', 0.5, 1, 0, 1)
    assert ledger.ask('c', 'weak', 1.0)


def test_a_refusal_costs_nothing_a_loss_the_most(path):
    ledger = Ledger(path)
    ledger.ask('a', 'weak', 1.0)
    ledger.refused('a', '429', again=True)
    assert ledger.spent == 0
    ledger.ask('a', 'weak', 1.0)
    ledger.lost('a', 'cut', again=True)
    spend(ledger, 'a')
    assert ledger.accounts()['weak'] == Account(1, 2, 1, 10, 4, 5, 0.25, 1.0)
    assert ledger.spent == 1.25


def test_another_attempt_counts_the_same(path):
    ledger = Ledger(path)
    spend(ledger, 'a', samples=[[0, 'text', 'stop', 5]])
    ledger.ask('b', 'weak', 1.0)
    ledger.lost('b', 'cut', again=True)
    ledger.ask('b', 'weak', 1.0)
    ledger.refused('b', '500', again=False)
    other = Ledger(path)
    assert other.accounts() == ledger.accounts() and other.spent == ledger.spent
    assert other.answers()['a']['samples'] == [[0, 'text', 'stop', 5]]


def test_what_a_kill_left_open_may_have_been_charged_for(path):
    ledger = Ledger(path)
    ledger.ask('a', 'weak', 1.0)
    again = Ledger(path, limit=1.5)
    assert again.spent == 1.0 and again.accounts()['weak'].lost == 1
    assert not again.ask('a', 'weak', 1.0)
    spend(Ledger(path), 'a')  # and it is still counted when the same request has been asked again
    assert Ledger(path).spent == 1.25 and Ledger(path).accounts()['weak'].lost == 1


def test_requests_of_a_job_are_open_until_it_is_collected(path):
    ledger = Ledger(path)
    for each in 'abc':
        ledger.ask(each, 'weak', 1.0)
    ledger.began('job-1', 'weak', {'a': ['p', [0]], 'b': ['p', [1]]}, purpose='train', at=0)
    again = Ledger(path)
    assert list(again.jobs()) == ['job-1'] and again.jobs()['job-1']['ids']['b'] == ['p', [1]]
    assert again.accounts()['weak'].lost == 1  # c alone
    again.answered('a', 0.25, 1, 0, 1)
    again.refused('b', 'expired', again=True)
    again.ended('job-1', 'collected')
    assert again.spent == 1.25 and not Ledger(path).jobs() and Ledger(path).jobs_ended == 1


@pytest.mark.parametrize('torn', [b'{"event": "answered", "id": "b", "us', b'{"event": "asked"', b'\xff\xfe'])
def test_half_a_line_is_nobody_s(path, torn):
    ledger = Ledger(path)
    spend(ledger, 'a')
    ledger.ask('b', 'weak', 1.0)
    path.write_bytes(path.read_bytes() + torn)
    again = Ledger(path)
    assert again.spent == 1.25
    spend(again, 'c')
    assert Ledger(path).spent == 1.5 and Ledger(path).accounts()['weak'].requests == 2


def test_threads_share_it_and_stay_below_the_limit(path):
    ledger = Ledger(path, limit=10.0)

    def work(name):
        for number in range(20):
            if ledger.ask(f'{name}-{number}', 'weak', 1.0):
                ledger.answered(f'{name}-{number}', 0.5, 1, 0, 1)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    answered = [line for line in lines if line['event'] == 'answered']
    # 19 half dollars leave room for one more request, 20 do not.
    assert ledger.spent == 0.5 * len(answered) and 9.5 <= ledger.spent <= 10.0
    assert len(answered) == len({line['id'] for line in answered}) == ledger.accounts()['weak'].requests


def test_an_object_store_is_refused():
    with pytest.raises(UserError, match='local --workdir'):
        Ledger('gs://bucket/run/ledger.jsonl')
