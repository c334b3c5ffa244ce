"""Programs as answers: which text is the program, what votes are counted over, and keyed verdicts from the tests."""

import json
import os
import signal
import sys
import time
from types import SimpleNamespace

import pytest

from cosample_jax.commands import grade_file
from cosample_jax.errors import UserError
from cosample_jax.grading import equivalence, programs

pytestmark = pytest.mark.skipif(sys.platform != 'linux', reason='programs are run on Linux alone')

TASK = SimpleNamespace(MARKERS=(), ANSWERS='program')
RIGHT, WRONG = 'def f(x):\n    return x + 1', 'def f(x):\n    return x'
TESTS = 'assert f(1) == 2\nassert f(2) == 3'


@pytest.mark.parametrize(
    ('text', 'program', 'marker'),
    [
        (f' {RIGHT}\n', RIGHT, 'def'),
        (f'Here it is:\n```python\n{RIGHT}\n```\nIt adds one.', RIGHT, '```'),
        (f'```\n{RIGHT}\n```', RIGHT, '```'),
        (f'```py\n{RIGHT}', RIGHT, '```'),  # stopped before it was closed
        (f'First:\n```python\n{WRONG}\n```\nNo:\n```python\n{RIGHT}\n```\nUse:\n```\n>>> f(1)\n2\n```', RIGHT, '```'),
        ('1. So:\n   ```python\n   def f(x):\n       return x + 1\n   ```', RIGHT, '```'),
        ('```python\nf = lambda x: x + 1\n```', 'f = lambda x: x + 1', '```'),
        (f'The function is below.\n\nimport math\n\n\n{RIGHT}', f'import math\n\n\n{RIGHT}', 'def'),
        (f'from os import path\n\n@cache\n{RIGHT}', f'from os import path\n\n@cache\n{RIGHT}', 'def'),
        ('class A:\n    pass', 'class A:\n    pass', 'def'),
        ('from the list we take\nthe first', '', ''),
        ('The answer is 5.', '', ''),
        ('I would define f(x) as x + 1.', '', ''),
        ('', '', ''),
    ],
)
def test_extract(text, program, marker):
    assert programs.extract(text) == (program, marker)


def test_a_normal_form_ignores_how_a_program_is_laid_out():
    loose = f'# adds one\n\n{RIGHT}   \n\n    # done\n'
    assert programs.normal_form(loose) == programs.normal_form(RIGHT) == RIGHT
    assert programs.normal_form(WRONG) != RIGHT
    assert programs.normal_form('') == ''
    first, second = (programs.normal_form(f'{RIGHT}\n' + 'y = 1\n' * 1_000 + end) for end in ('z = 1', 'z = 2'))
    assert first != second and max(map(len, (first, second))) < 1_100


@pytest.mark.parametrize(
    'text', ['`' * 10**6, '```\n' * 10**5, ' ' * 10**6, '\n ' * 10**5, 'def f' * 10**5, '@a\n' * 10**5]
)
def test_a_megabyte_of_hostile_text_takes_linear_time(text):  # fmt: skip
    start = time.process_time()
    programs.normal_form(programs.extract(text)[0])
    assert time.process_time() - start < 5


def test_verdicts_are_keyed_and_a_failure_is_not_ungraded():
    pairs = {
        ('a', 1): (TESTS, f'```python\n{RIGHT}\n```'),
        ('a', 0): (TESTS, WRONG),
        'none': (TESTS, 'I cannot.'),
        'syntax': (TESTS, 'def f(x) return x'),
        'stops': (TESTS, f'import os\nos._exit(0)\n{RIGHT}'),
        'same': (TESTS, RIGHT),
        'gold': ('assert f(1 ==', RIGHT),
        'surrogate': (TESTS, f'{RIGHT}\n# \ud800'),
    }
    verdicts = equivalence.grade_many(TASK, pairs)
    assert list(verdicts) == list(pairs)
    assert {key for key, verdict in verdicts.items() if verdict.correct} == {('a', 1), 'same'}
    assert verdicts['a', 1] == equivalence.Verdict(True, RIGHT, '```', True, '')
    assert verdicts['a', 0] == equivalence.Verdict(False, WRONG, 'def', False, '')
    assert verdicts['none'] == equivalence.Verdict(False, '', '', False, '')
    assert [key for key, verdict in verdicts.items() if verdict.symbolic] == ['gold']
    assert verdicts['gold'].symbolic.startswith('ungraded: the tests are not Python')
    assert equivalence.grade_many(TASK, {}) == {}


def test_tests_and_program_share_a_namespace_and_annotations_are_not_evaluated():
    program = (
        'class Pair:\n    def __init__(self, a): self.a = a\n'
        'def first(pairs: List[Pair]) -> Optional[int]:\n    return pairs[0].a'
    )
    assert equivalence.grade(TASK, 'pair = Pair(5)\nassert first([pair]) == 5', program).correct
    helped = 'def f(x):\n    return helper(x) + math.floor(1.5)'
    tests = 'import math\ndef helper(x):\n    return x\ndef check(candidate):\n    assert candidate(1) == 2\ncheck(f)'
    assert equivalence.grade(TASK, tests, helped).correct
    main = f'{RIGHT}\nif __name__ == "__main__":\n    f(input())'
    assert equivalence.grade(TASK, TESTS, main).correct
    data = 'from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass A:\n    x: int'
    assert equivalence.grade(TASK, 'assert A(1) == A(1)', data).correct


def test_verdicts_repeat():
    """What hashing and chance decide is decided the same way each time."""
    program = 'import random\ndef f():\n    return [list({"a", "b", "c", "d"}), random.random()]'
    shown = []
    for _ in range(2):
        pool = programs.Pool(workers=1)
        (outcome,) = pool.outcomes([(program, 'raise ValueError(f())')]).values()
        shown.append(outcome)
        pool.close()
    assert shown[0] == shown[1] and shown[0].startswith('failed: ValueError: [[')


def test_a_sandbox_that_dies_or_hangs_is_replaced(monkeypatch):
    monkeypatch.setattr(programs, '_PATIENCE', 1.0)
    pool = programs.Pool(workers=1, seconds=3.0)
    assert pool.outcomes([(RIGHT, TESTS)]) == {(RIGHT, TESTS): 'passed'}
    for number in (signal.SIGKILL, signal.SIGSTOP):
        (sandbox,) = pool._idle
        os.kill(sandbox._process.pid, number)
        assert pool.outcomes([(RIGHT, TESTS)]) == {(RIGHT, TESTS): 'ungraded: the sandbox died'}
        assert sandbox._process.poll() is not None
        assert pool.outcomes([(RIGHT, TESTS), (WRONG, TESTS)]) == {
            (RIGHT, TESTS): 'passed', (WRONG, TESTS): 'failed: AssertionError',
        }  # fmt: skip
    pool.close()


def test_an_interruption_leaves_no_process(monkeypatch):
    pool = programs.Pool(workers=2, cpu_seconds=30)
    pool.outcomes([(RIGHT, TESTS), (WRONG, TESTS)])
    sandboxes = [sandbox._process for sandbox in pool._idle]
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    with pytest.raises(KeyboardInterrupt):
        pool.outcomes([('while True: pass', '1'), ('while True: 1', '1')])
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    assert all(process.poll() is not None for process in sandboxes) and not pool._idle


def test_grade_file(tmp_path, capsys):
    rows = [
        {'id': 1, 'completion': f'```python\n{RIGHT}\n```', 'answer': TESTS},
        {'id': 2, 'completion': WRONG, 'answer': TESTS},
    ]
    (tmp_path / 'in').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    grade_file.main(SimpleNamespace(task='code', input=str(tmp_path / 'in'), output=str(tmp_path / 'out')))
    out = [json.loads(line) for line in (tmp_path / 'out').read_text().splitlines()]
    assert [row['correct'] for row in out] == [True, False] and [row['extracted'] for row in out] == [RIGHT, WRONG]
    assert '2 rows, 1 correct, 0 without an answer' in capsys.readouterr().out


def test_readiness_is_told_before_anything_is_sampled(monkeypatch):
    assert equivalence.readiness(TASK).startswith('programs run behind seccomp')
    assert equivalence.readiness(SimpleNamespace(MARKERS=(), ANSWERS='number')) == 'answers are compared'

    def refuse():
        raise UserError('programs cannot be run safely here')

    monkeypatch.setattr(programs, 'shared_pool', lambda: SimpleNamespace(walls=refuse))
    with pytest.raises(UserError, match='cannot be run safely'):
        equivalence.readiness(TASK)
