from types import SimpleNamespace

import pytest

from cosample_jax.errors import UserError
from cosample_jax.grading import judge, pool
from cosample_jax.records import Problem, Sample, key
from cosample_jax.tasks import arithmetic, code, gsm8k
from cosample_jax.workdir import Workdir

PROBLEMS = {
    f'train/{i}': Problem(f'train/{i}', f'What is {i} + 1?', str(i + 1), '', level=1 + i % 3) for i in range(30)
}
TEXT = '{} + 1 = {}. The answer is {}.'


@pytest.fixture
def workdir(tmp_path):
    """One model's graded pool: three samples of each problem, the last of them not correct."""
    workdir = Workdir(tmp_path)
    workdir.pool('train', 'weak').append([
        Sample(p.id, 'weak', k, TEXT.format(i, i + 1, i + 1 + (k == 2)), [], 'stop', 0.0, 0.0, 0, 0)
        for i, p in enumerate(PROBLEMS.values()) for k in range(3)
    ])  # fmt: skip
    pool.grade_pool(workdir, 'train', 'weak', PROBLEMS.values(), arithmetic)
    return workdir


class Strict(judge.Program):
    """Refuses everything about one problem, and counts what it sees."""

    def __init__(self, name='strict'):
        self.seen = []
        super().__init__(name, self.check)

    def check(self, problem, text):
        self.seen.append((problem.id, text))
        return ('wrong', '1 = 2') if problem.id == 'train/1' else ('valid', '')


def test_only_kept_samples_are_judged_and_once(workdir):
    kept = judge.kept(workdir, 'train', 'weak')
    assert len(kept) == 60 and all(sample.sample_index < 2 for sample in kept)
    strict = Strict()
    counts = judge.judge_pool(workdir, 'train', 'weak', kept, PROBLEMS, strict)
    assert counts == {'valid': 58, 'wrong': 2, 'unchecked': 0, 'unparsable': 0}
    assert judge.rate(counts) == {'wrong': 2, 'kept': 60}
    assert judge.judge_pool(workdir, 'train', 'weak', kept, PROBLEMS, strict) == counts and len(strict.seen) == 60
    wrong = [j for j in workdir.judgments('train', 'weak', 'strict').read() if j.verdict == 'wrong']
    assert {(j.problem_id, j.sample_index, j.judge, j.reason) for j in wrong} == {
        ('train/1', 0, 'strict', '1 = 2'),
        ('train/1', 1, 'strict', '1 = 2'),
    }


def test_judges_do_not_meet(workdir):
    kept = judge.kept(workdir, 'train', 'weak')
    judge.judge_pool(workdir, 'train', 'weak', kept, PROBLEMS, Strict())
    counts = judge.judge_pool(workdir, 'train', 'weak', kept, PROBLEMS, judge.calculating())
    assert counts == {'valid': 60, 'wrong': 0, 'unchecked': 0, 'unparsable': 0}
    assert workdir.judges('train', 'weak') == ['calculator', 'strict'] and workdir.judges('train', 'x') == []


def test_an_interrupted_judge_goes_on(workdir, monkeypatch):
    monkeypatch.setattr(pool, '_PART', 25)
    kept = judge.kept(workdir, 'train', 'weak')
    strict, whole = Strict(), Strict.judge

    def dies(self, items):
        if len(strict.seen) == 25:
            raise KeyboardInterrupt
        return whole(self, items)

    monkeypatch.setattr(Strict, 'judge', dies)
    with pytest.raises(KeyboardInterrupt):
        judge.judge_pool(workdir, 'train', 'weak', kept, PROBLEMS, strict)
    monkeypatch.setattr(Strict, 'judge', whole)
    assert judge.judge_pool(workdir, 'train', 'weak', kept, PROBLEMS, strict)['valid'] == 58
    assert len(strict.seen) == 60


def test_a_sample_of_an_unknown_problem_is_named(workdir):
    kept = judge.kept(workdir, 'train', 'weak')
    chosen = judge.selected(kept, {}, 0, seed=0)
    with pytest.raises(UserError, match='is no problem of this run'):
        judge.judge_pool(workdir, 'train', 'weak', chosen, {}, Strict())


def test_fewer_are_a_prefix_of_more_and_every_level_has_its_share(workdir):
    kept = [s for s in judge.kept(workdir, 'train', 'weak') if PROBLEMS[s.problem_id].level < 3 or s.sample_index]
    everything = judge.selected(kept, PROBLEMS, 0, seed=0)
    assert sorted(map(key, everything)) == sorted(map(key, kept))
    total = [sum(PROBLEMS[s.problem_id].level == level for s in kept) for level in (1, 2, 3)]
    assert total == [20, 20, 10]
    for count in (5, 10, 17, 40, 99):
        fewer = judge.selected(kept, PROBLEMS, count, seed=0)
        assert fewer == everything[:count] and len(fewer) == min(count, 50)
        for level, size in zip((1, 2, 3), total, strict=True):
            here = sum(PROBLEMS[s.problem_id].level == level for s in fewer)
            assert abs(here - len(fewer) * size / 50) <= 1
    assert judge.selected(kept[::-1], PROBLEMS, 10, seed=0) == everything[:10]
    assert judge.selected(kept, PROBLEMS, 10, seed=1) != everything[:10]


def config(by=(), task='arithmetic'):
    return SimpleNamespace(judge=SimpleNamespace(by=by), task=SimpleNamespace(name=task))


def test_who_judges():
    assert judge.names(config(), arithmetic) == ('steps',)
    assert judge.names(config(task='gsm8k'), gsm8k) == ('calculator',)
    assert judge.names(config(task='code'), code) == ()
    assert judge.names(config(('weak', 'calculator')), arithmetic) == ('weak', 'calculator')
    with pytest.raises(UserError, match='gsm8k has no step checker'):
        judge.names(config(('steps',), 'gsm8k'), gsm8k)


@pytest.mark.parametrize(
    ('text', 'verdict'),
    [
        ('All is well.\nVerdict: correct', 'valid'),
        ('Verdict: correct', 'valid'),
        ('2 + 2 = 5 is false.\n\n**Verdict: wrong.**\n', 'wrong'),
        ('Step 1 fails.\nFinal verdict: INCORRECT', 'wrong'),
        ('"Verdict": "wrong"', 'wrong'),
        ('Verdict: correct\nNo, step 2 is false.\nVerdict: wrong', 'wrong'),
        ('', 'unparsable'),
        ('It is correct.', 'unparsable'),
        ('Verdict: not correct', 'unparsable'),
        ('Verdict: correct or Verdict: wrong', 'unparsable'),
        ('Verdict: correct\nBut step 3', 'unparsable'),
        ('Verdict:', 'unparsable'),
        ('Verdict: correctly', 'unparsable'),
        ('The verdict: correct', 'unparsable'),
    ],
)
def test_what_models_write_is_read_strictly(text, verdict):
    found, reason = judge.parse(text)
    assert found == verdict and bool(reason) == (verdict != 'valid' and bool('\n' in text or verdict == 'unparsable'))


def test_the_question_has_problem_and_solution_in_one_paragraph():
    problem = Problem('p', 'How many {eggs}?\n\nSay.', '3', '')
    asked = judge.question(problem, 'One.\n\n\nTwo {0}.\n')
    assert 'How many {eggs}?\nSay.' in asked and 'One.\nTwo {0}.' in asked and '\n\n' not in asked
    assert asked.endswith('"Verdict: correct" or "Verdict: wrong".')


def test_who_filters_without_gold_answers_is_not_told_that_the_answer_is_right():
    problem = PROBLEMS['train/3']
    known, unknown = judge.question(problem, '3 + 1 = 4.'), judge.question(problem, '3 + 1 = 4.', answer_is_right=False)
    assert 'final answer is known to be right' in known and 'known to be right' not in unknown
    assert 'whether the final answer is right' in unknown
    assert known.partition('The reasoning is wrong if')[2] == unknown.partition('The reasoning is wrong if')[2] != ''
    assert problem.answer not in unknown.replace('3 + 1 = 4.', '')
