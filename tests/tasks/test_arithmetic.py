"""The embedded task: sound problems, disjoint splits, and a step checker that can be trusted."""

import itertools
import random
from types import SimpleNamespace

import pytest

from cosample_jax.tasks import arithmetic, prompts, stories
from cosample_jax.tasks.stories import Step, Story, Style


def make_config(seed=0, **sizes):
    task = {'num_train': 60, 'num_validation': 20, 'num_test': 50, 'num_functional': 50} | sizes
    return SimpleNamespace(seed=seed, task=SimpleNamespace(**task))


@pytest.fixture(scope='module')
def splits():
    return arithmetic.build(make_config(num_test=400, num_functional=400))


def test_every_gold_solution_is_right_and_its_answer_is_the_programs(splits):
    for problem in itertools.chain(*splits.values()):
        assert arithmetic.check_steps(problem, problem.solution) == (True, ''), problem
        assert problem.solution.endswith(f'The answer is {problem.answer}.')
        assert problem.solution.count('=') == problem.level


def test_levels_take_turns(splits):
    assert [p.level for p in splits['train'][:7]] == [1, 2, 3, 4, 5, 1, 2]


def test_splits_share_no_content_and_pretraining_meets_none_of_it(splits):
    contents = {split: {p.meta for p in problems} for split, problems in splits.items()}
    contents['test'] |= contents.pop('functional')
    for one, other in itertools.combinations(contents.values(), 2):
        assert not one & other
    questions = {p.question for problems in splits.values() for p in problems}
    for turns in itertools.islice(arithmetic.documents(make_config()), 3000):
        for prompt, _ in turns:
            assert prompt.removeprefix('Q: ').removesuffix('\nA:') not in questions


def test_renaming_a_story_does_not_change_its_bucket():
    story = stories.draw(random.Random(0), 4, range(stories.NUM_BUCKETS))
    renamed = Story(tuple(s.replace('a', 'o') for s in story.sentences), story.givens, story.steps)
    assert renamed.bucket() == story.bucket()


def test_problems_depend_on_the_seed_and_more_extend_fewer():
    few, many, other = (arithmetic.build(make_config(s, num_train=n))['train'] for s, n in ((0, 10), (0, 60), (1, 60)))
    assert many[:10] == few
    assert {p.question for p in many}.isdisjoint({p.question for p in other})


def test_functional_problems_tell_the_same_story_with_other_numbers(splits):
    for problem, twin in zip(splits['test'], splits['functional'], strict=True):
        strip = str.maketrans('', '', '0123456789')
        assert problem.question.translate(strip) == twin.question.translate(strip)
        assert problem.question != twin.question and problem.answer != twin.answer
        assert problem.level == twin.level


def test_guessing_does_not_pay(splits):
    answers = [p.answer for p in splits['test']]
    shares = [answers.count(a) / len(answers) for a in set(answers)]
    assert len(shares) >= 200
    assert sum(share * (1 - (1 - share) ** 30) for share in shares) < 0.15


MIA = Story(
    ('Mia has {0} pens.', 'Tom has {1} more than Mia.', 'How many do they have?'),
    (14, 9),
    (Step('+', 0, 1, 'Tom has'), Step('+', 0, 2, 'Together')),
)


@pytest.fixture
def mia():
    return arithmetic._problem('test/0', MIA)  # 14 + 9 = 23; 14 + 23 = 37


@pytest.mark.parametrize(
    'text',
    [
        '14+9=23. 14+23=37.',
        '9+14=23. So 23+14=37.',
        'Now (14+9)+14=37.',
        '14+14+9=37.',
        '14+14=28. 28+9=37. The answer is 37.',
    ],
)
def test_any_order_and_form_of_right_steps_is_accepted(mia, text):
    assert arithmetic.check_steps(mia, text) == (True, '')


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        ('14+9=24. 14+23=37. The answer is 37.', 'wrong: 14+9=24'),
        ('14+23=37. The answer is 37.', 'from nowhere: 23 in 14+23=37'),
        ('28+9=37. The answer is 37.', 'from nowhere: 28 in 28+9=37'),
        ('The answer is 37.', 'no step shown'),
        ('14+9=23. The answer is 37.', 'another derivation'),
        ('14+9=23. 23-14=9. The answer is 37.', 'another derivation'),
        ('14+9**9**9=23.', 'cannot be read'),
        ('14//9=1.', 'cannot be read'),
        ('14/(9-9)=1. 14+9=23.', 'cannot be read'),
        ('(' * 5000 + '14' + ')' * 5000 + '=14.', 'cannot be read'),
    ],
)
def test_wrong_reasoning_is_found_and_named(mia, text, reason):
    valid, found = arithmetic.check_steps(mia, text)
    assert not valid
    assert found == reason if ':' in reason else found.startswith(reason)


def test_a_right_number_by_a_wrong_way_is_not_right():
    # 6 + 3 = 9 and 3 * 3 = 9: with other numbers the second way would not give the answer.
    story = Story(('Ann has {0} cups.', 'Ann finds {1} more.'), (6, 3), (Step('+', 0, 1, 'Ann has'),))
    problem = arithmetic._problem('test/1', story)
    assert arithmetic.check_steps(problem, '6+3=9. The answer is 9.') == (True, '')
    assert arithmetic.check_steps(problem, '3*3=9. The answer is 9.') == (False, 'another derivation')


def test_a_number_with_two_meanings_is_read_either_way():
    # 10 - 4 = 6 and the given 6: the sum uses both, in either reading.
    story = Story(('',), (10, 4, 6), (Step('-', 0, 1, ''), Step('+', 3, 2, '')))
    problem = arithmetic._problem('test/2', story)
    assert arithmetic.check_steps(problem, '10-4=6. 6+6=12.') == (True, '')


def test_many_different_solutions_of_a_problem_are_right():
    story = stories.draw(random.Random(3), 4, range(stories.NUM_BUCKETS))
    problem = arithmetic._problem('train/0', story)
    rng, style = random.Random(0), Style(reorder=0.5, swap=0.5, merge=0.3, talk=0.3)
    texts = {stories.solve(story, style, rng)[0] for _ in range(100)}
    assert len(texts) >= 20
    assert all(arithmetic.check_steps(problem, text) == (True, '') for text in texts)


@pytest.mark.parametrize('habit', ['jump', 'recover'])
def test_sloppy_but_lucky_authors_write_false_positives(habit):
    rng, found = random.Random(0), 0
    for _ in range(50):
        story = stories.draw(rng, 3, range(stories.NUM_BUCKETS))
        text, answer = stories.solve(story, Style(**{habit: 0.7}), rng)
        assert answer == story.answer()
        found += not arithmetic.check_steps(arithmetic._problem('x', story), text)[0]
    assert found > 25


def test_careless_authors_also_arrive_at_wrong_answers():
    rng = random.Random(0)
    drawn = [stories.draw(rng, 3, range(stories.NUM_BUCKETS)) for _ in range(100)]
    wrong = sum(stories.solve(s, Style(slip=0.3, misread=0.2), rng)[1] != s.answer() for s in drawn)
    assert 40 < wrong < 95


def test_the_few_shot_prompt_ends_with_the_zero_shot_prompt(splits):
    question = splits['test'][0].question
    prompt = prompts.few_shot(splits['shots'], question)
    assert prompt.endswith(prompts.zero_shot(question))
    assert prompt.count(prompts.STOP) == len(splits['shots']) == 2
