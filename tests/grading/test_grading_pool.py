import pytest

from cosample_jax.errors import UserError
from cosample_jax.grading import equivalence, pool
from cosample_jax.records import Problem, Sample
from cosample_jax.stages import grade as grade_stage
from cosample_jax.tasks import arithmetic
from cosample_jax.workdir import Workdir

PROBLEMS = [Problem(f'train/{i}', f'What is {i} + 1?', str(i + 1), f'The answer is {i + 1}.') for i in range(4)]
TEXTS = [
    'The answer is {}.',
    'It is {}',
    'The answer is \\gcd({0}, {0}).',
    'The answer is -{}.',
    'The answer is ' + '(' * 2_000,
]


def sample(problem, index, text):
    return Sample(problem.id, 'weak', index, text.format(problem.answer), [], 'stop', 0.0, 0.0, 0, 0)


def fill(workdir, texts=tuple(TEXTS)):
    workdir.pool('train', 'weak').append([sample(p, i, text) for p in PROBLEMS for i, text in enumerate(texts)])


@pytest.fixture
def workdir(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.write_problems('train', PROBLEMS)
    return workdir


def test_counts_of_a_pool(workdir):
    fill(workdir)
    counts = pool.grade_pool(workdir, 'train', 'weak', PROBLEMS, arithmetic)
    assert counts == {
        'graded': 20,
        'correct': 8,
        'no_marker': 4,
        'ungraded': 4,
        'markers': {'The answer is': 16},
    }
    grades = {(g.problem_id, g.sample_index): g for g in workdir.grades('train', 'weak').read()}
    assert len(grades) == 20
    assert grades['train/2', 0].correct and grades['train/2', 0].answer == '3' and grades['train/2', 0].strict
    assert grades['train/2', 2].correct and not grades['train/2', 2].strict and grades['train/2', 2].symbolic == 'yes'
    assert grades['train/2', 4].symbolic.startswith('ungraded: ')


def test_an_interrupted_grading_continues_and_repeats_nothing(workdir, monkeypatch):
    fill(workdir)
    monkeypatch.setattr(pool, '_PART', 6)
    graded = []
    whole = equivalence.grade_many

    def dies_in_the_third_part(task, pairs):
        if len(graded) == 2:
            raise KeyboardInterrupt
        graded.append(set(pairs))
        return whole(task, pairs)

    monkeypatch.setattr(equivalence, 'grade_many', dies_in_the_third_part)
    with pytest.raises(KeyboardInterrupt):
        pool.grade_pool(workdir, 'train', 'weak', PROBLEMS, arithmetic)
    assert len(workdir.grades('train', 'weak')) == 12

    later = []
    monkeypatch.setattr(equivalence, 'grade_many', lambda task, pairs: later.extend(pairs) or whole(task, pairs))
    counts = pool.grade_pool(workdir, 'train', 'weak', PROBLEMS, arithmetic)
    assert len(later) == 8 and not set(later) & set.union(*graded)
    assert counts['graded'] == 20
    assert pool.grade_pool(workdir, 'train', 'weak', PROBLEMS, arithmetic) == counts
    assert len(later) == 8


def test_new_samples_of_a_graded_pool_are_graded(workdir):
    fill(workdir)
    pool.grade_pool(workdir, 'train', 'weak', PROBLEMS, arithmetic)
    workdir.pool('train', 'weak').append([sample(PROBLEMS[0], 9, TEXTS[0])])
    assert pool.grade_pool(workdir, 'train', 'weak', PROBLEMS, arithmetic)['graded'] == 21


def test_a_sample_of_an_unknown_problem_is_named(workdir):
    fill(workdir)
    with pytest.raises(UserError, match="'train/1' is no problem of this run"):
        pool.grade_pool(workdir, 'train', 'weak', PROBLEMS[:1], arithmetic)
    assert len(workdir.grades('train', 'weak')) == 0


class _Config:
    class task:
        name = 'arithmetic'


def test_the_stage_takes_every_pool(workdir, capsys):
    fill(workdir)
    workdir.pool('test', 'other').append([
        Sample('train/3', 'other', 0, 'The answer is 4.', [], 'stop', 0.0, 0.0, 0, 0)
    ])  # fmt: skip
    assert grade_stage.run(_Config, workdir) == {
        'graded': 21,
        'correct': 9,
        'no_marker': 4,
        'ungraded': 4,
        'disagreements': 4,
    }
    printed = capsys.readouterr().out
    assert 'train/weak: 20 graded, 8 correct, 4 without an answer, 4 ungraded; markers: The answer is 16' in printed
    # \\gcd(n, n) is read by math-verify alone.
    assert 'disagree on 4 answers' in printed and "gold '3', answer '\\\\gcd(3, 3)': accepted" in printed
    listed = workdir.path('grades', 'disagreements.csv').read_text().splitlines()
    assert len(listed) == 5 and listed[1] == 'train,weak,train/0,2,1,"\\gcd(1, 1)",True'


def test_nothing_to_grade_is_an_error(workdir):
    with pytest.raises(UserError, match='no samples to grade'):
        grade_stage.run(_Config, workdir)
