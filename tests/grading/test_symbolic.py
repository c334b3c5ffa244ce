import os
import signal
import sys
import time

import pytest

from cosample_jax.grading import symbolic


@pytest.fixture(scope='module')
def pool():
    pool = symbolic.Pool(workers=1, seconds=2.0)
    yield pool
    pool.close()


def test_verdicts_for_every_pair(pool):
    before = set(sys.modules)  # torch, when other tests brought it, has sympy too
    pairs = [('8', '2^3'), ('4', '\\sqrt{16}'), ('1/2', '\\frac{2}{4}'), ('8', '2^4'), ('8', '2^4')]
    assert pool.verdicts(pairs) == {pairs[0]: 'yes', pairs[1]: 'yes', pairs[2]: 'yes', pairs[3]: 'no'}
    assert not {'math_verify', 'sympy'} & (set(sys.modules) - before)


def test_oversized_input_is_not_even_sent(pool):
    pair = ('8', '(' * 20_000)
    assert pool.verdicts([pair]) == {pair: 'ungraded: 20000 characters, more than 1000'}


def test_a_hang_ends_at_the_limit_and_the_others_are_graded():
    pool = symbolic.Pool(workers=1, seconds=2.0)
    hang, fine = ('5', '9^{9^{9^{9}}}'), ('8', '2^3')
    start = time.monotonic()
    results = pool.verdicts([fine, hang, ('9', '3^2')])
    assert results[fine] == results['9', '3^2'] == 'yes'
    assert results[hang].startswith('ungraded') or results[hang] == 'no'
    assert time.monotonic() - start < 60
    pool.close()


def test_a_stuck_worker_is_killed_at_its_deadline(pool):
    assert pool.verdicts([('8', '2^3')])
    (worker,) = pool._idle
    os.kill(worker._process.pid, signal.SIGSTOP)  # the surest hang there is
    start = time.monotonic()
    results = pool.verdicts([('8', '2^3')])
    assert results == {('8', '2^3'): 'ungraded: stopped after 2 s'}
    assert 1.9 < time.monotonic() - start < 30
    assert worker._process.poll() is not None
    assert pool.verdicts([('8', '2^3')]) == {('8', '2^3'): 'yes'}  # a new one took its place


def test_a_crash_is_a_recorded_reason(pool):
    assert pool.verdicts([('8', '2^3')])
    (worker,) = pool._idle
    os.kill(worker._process.pid, signal.SIGKILL)
    worker._process.wait()
    assert pool.verdicts([('9', '3^2')]) == {('9', '3^2'): 'ungraded: the symbolic engine crashed'}
    assert pool.verdicts([('9', '3^2')]) == {('9', '3^2'): 'yes'}


@pytest.mark.parametrize(
    'answer',
    [
        '(' * 900,
        '\\frac{' * 150,
        '\\sqrt{' * 140,
        '1<<9999999999',
        "\\text{__import__('os').system('touch hacked')}",
        '{}^' * 300,
        '\x00',
        '\ud800',
        '\n\n{"gold"',
    ],
    ids=range(9),
)
def test_hostile_answers_are_never_right(pool, answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert pool.verdicts([('5', answer)])['5', answer] != 'yes'
    assert not os.listdir(tmp_path)


def test_an_unreadable_gold_is_not_a_wrong_answer(pool):
    assert pool.verdicts([('\\frac{', '5')])['\\frac{', '5'].startswith('ungraded')
