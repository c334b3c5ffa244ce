import json

import pytest

from cosample_jax import config as config_lib
from cosample_jax import tasks
from cosample_jax.errors import UserError
from cosample_jax.tasks import own, prompts

LONG = 'A farmer has {} hens, and every hen lays {} eggs a week. How many eggs does the farmer collect in a week?'


def row(n, **more):
    return {'question': f'What is {n} plus one, when nothing else is added to it?', 'answer': n + 1} | more


def write(directory, **splits):
    for split, rows in splits.items():
        (directory / f'{split}.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))


@pytest.fixture
def config(tmp_path, repository):
    write(
        tmp_path,
        train=[row(n, solution=f'{n} + 1 = {n + 1}', level=1 + n % 3, subject='sums') for n in range(20)],
        test=[{'question': LONG.format(3, 4), 'answer': '12', 'id': 'hens'}, {'question': 'Who?', 'answer': r'\pi'}],
    )
    arguments = f'data={tmp_path},train=14,validation=5,test=2,shots=3'
    return config_lib.load(f'{repository}/configs/own_data.py:{arguments}')


def test_rows_become_problems(config):
    splits = tasks.build(config)
    assert {name: len(problems) for name, problems in splits.items()} == {
        'train': 14, 'validation': 5, 'test': 2, 'shots': 1,
    }  # fmt: skip
    ids = [problem.id for problems in splits.values() for problem in problems]
    assert len(set(ids)) == len(ids) and {'test/hens', 'test/1', 'train/3'} <= set(ids)
    (shot,) = splits['shots']
    assert (shot.id, shot.answer, shot.level, shot.subject) == ('train/3', '4', 1, 'sums')
    assert shot.solution == '3 + 1 = 4\nThe answer is 4.', 'a solution announces its answer'


def test_an_announced_answer_stays_as_it_is(config, tmp_path):
    solutions = [r'so $\boxed{1}$', 'The answer is 1.', 'Hm.\n#### 1', 'None of these.']
    write(tmp_path, train=[row(0, solution=solution, id=str(n)) for n, solution in enumerate(solutions)])
    found = [problem.solution for problem in own.load(str(tmp_path))['train']]
    assert found == [*solutions[:3], 'None of these.\nThe answer is 1.']


def test_validation_may_be_a_file_of_its_own(config, tmp_path):
    write(tmp_path, validation=[row(n) for n in range(100, 105)])
    config.task.num_train = 19
    splits = own.build(config)
    assert len(splits['train']) == 19 and {p.id for p in splits['validation']} == {f'validation/{n}' for n in range(5)}


def test_a_renumbered_test_problem_is_left_out_and_counted(config, tmp_path):
    with open(tmp_path / 'train.jsonl', 'a') as file:
        file.write(json.dumps({'question': LONG.format(5, 6), 'answer': 30}) + '\n')
    config.task.num_train = 14
    splits = own.build(config)
    kept = splits['train'] + splits['validation'] + splits['shots']
    assert not any('hens' in problem.question for problem in splits['train'])
    assert splits.notes[1].startswith('contaminated: ') and ' training problems left out' in splits.notes[1]
    assert len(kept) >= 20


def test_documents_are_made_of_solutions(config):
    turns = next(own.documents(config))
    assert all(prompt.startswith('Q: What is') and prompts.target('') in target for prompt, target in turns)


@pytest.mark.parametrize(
    ('splits', 'message'),
    [
        ({'train': [row(0, id='a'), row(1, id='a')]}, "train.jsonl line 2: the id 'a' was there already"),
        ({'train': [{'question': 'Q'}]}, "train.jsonl line 1 has no field 'answer'"),
        ({'train': [row(0) | {'answer': ' '}]}, 'train.jsonl line 1: the answer is empty'),
        ({'train': [row(0, level='hard')]}, "train.jsonl line 1: level is 'hard', it must be a whole number"),
        ({'train': [row(n) for n in range(9)]}, "config.task.shots has 'train/3', which has no solution to show"),
        ({'train': [row(n, solution='x') for n in range(3)]}, "has 'train/3': shots are training problems, train/0 to"),
        ({'train': []}, 'train.jsonl is empty'),
        (
            {'train': [row(n, solution='x') for n in range(4)], 'test': [row(n) for n in range(4)]},
            'no train problems are',
        ),
    ],
)
def test_what_cannot_be_used_is_one_line(config, tmp_path, splits, message):
    write(tmp_path, **splits)
    with pytest.raises(UserError, match=message) as error:
        own.build(config)
    assert '\n' not in str(error.value)


def test_sizes_are_the_most_that_is_taken(config):
    config.task.num_train = config.task.num_validation = config.task.num_test = 1_000
    splits = own.build(config)
    # 20 rows, one of them a shot, a third of the others for validation.
    assert {name: len(problems) for name, problems in splits.items()} == {
        'train': 13, 'validation': 6, 'test': 2, 'shots': 1,
    }  # fmt: skip
    assert splits.notes[0].endswith(': 13 train, 6 validation, 2 test')


def test_an_answer_as_gsm8k_has_it_is_a_solution_too(config, tmp_path):
    write(tmp_path, train=[{'question': 'Q', 'answer': '4 + 4 = 8\n#### 8'}, {'question': 'R', 'answer': 72.0}])
    first, second = own.load(str(tmp_path))['train']
    assert (first.solution, first.answer) == ('4 + 4 = 8\n#### 8', '8')
    assert (second.solution, second.answer) == ('', '72')


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r'train.jsonl is not there: write train.jsonl and test.jsonl'):
        own.find_files(str(tmp_path))
    with pytest.raises(UserError, match='config.task.manual_dir is not there: write'):
        own.find_files('')
