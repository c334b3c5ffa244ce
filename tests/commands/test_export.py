import json
from types import SimpleNamespace

import pytest

from cosample_jax import config as config_lib
from cosample_jax import embedded, training_sets
from cosample_jax.commands import export
from cosample_jax.errors import UserError
from cosample_jax.records import Grade, Problem, Sample
from cosample_jax.sampling import asking
from cosample_jax.tasks import prompts
from cosample_jax.workdir import Workdir

QUOTED = 'A farmer has 3 hens, and every hen lays 4 eggs a week. How many eggs does the farmer collect in a week?'
PROBLEMS = [Problem(f'train/{n}', f' What is {n} + 1?', str(n + 1), f'It is {n + 1}.', n, 'sums') for n in range(3)]
PROBLEMS.append(Problem('train/3', 'What is 3 + 1?', '4', ''))


@pytest.fixture
def args(tmp_path):
    """A graded run: problem 0 was solved once of three times, 1 always, 2 never; 3 by quoting a test problem."""
    config = config_lib.base()
    config.name, config.budget.params = 'test', 'nominal'
    config.models.weak.params_nominal, config.models.strong.params_nominal = 1.0, 3.0
    config = config_lib.finalize(config)
    workdir = Workdir(tmp_path / 'run')
    workdir.write_problems('train', PROBLEMS)
    for split in config.evaluate.splits:
        workdir.write_problems(split, [Problem(f'{split}/0', QUOTED, '12', 'It is 12.')])
    texts = {
        'train/0': 'So:\n\nit is 1.',
        'train/1': ' It is 2.\n',
        'train/2': 'No.',
        'train/3': f'4\nQ {QUOTED}\nA: 12',
    }
    right = {('train/0', 1), *(('train/1', k) for k in range(3)), ('train/3', 0)}
    keys = [(problem.id, k) for problem in PROBLEMS for k in range(3)]
    samples = [Sample(name, 'weak', k, texts[name], [], 'stop', 0.0, 0.0, 1, 1) for name, k in keys]
    grades = [Grade(name, 'weak', k, (name, k) in right, '', '', True, '') for name, k in keys]
    workdir.pool('train', 'weak').append(samples)
    workdir.grades('train', 'weak').append(grades)
    workdir.mark_done('grade', {})
    output = tmp_path / 'out.jsonl'
    return SimpleNamespace(config=config, workdir=workdir, data='weak', budget='low', format='', output=str(output))


def exported(args):
    export.main(args)
    return [json.loads(line) for line in open(args.output, encoding='utf-8')]


def test_chat_rows_are_what_the_turns_of_a_model_say(args, capsys):
    asking.store_prompt(args.workdir.pool('train', 'weak').directory, prompts.template(embedded.tokenizer(), False), [])
    rows = exported(args)
    assert [(row['id'], row['sample_index']) for row in rows] == [
        ('train/0', 1), ('train/1', 0), ('train/1', 1), ('train/1', 2),
    ]  # fmt: skip
    assert rows[0]['messages'] == [
        {'role': 'user', 'content': 'What is 0 + 1?'},
        {'role': 'assistant', 'content': 'So:\n\nit is 1.'},
    ]
    stored = json.loads((args.workdir.pool('train', 'weak').directory / 'prompt.json').read_text())
    about = {'source': 'weak', 'model': 'tiny_weak', 'budget': 'low', 'task': 'arithmetic', 'run': 'test'}
    about |= {'prompt_sha256': stored['sha256'], 'answer': '1', 'level': 0, 'subject': 'sums'}
    assert rows[0].items() >= about.items()
    assert '4 solutions of 2 problems, 1 left out that quote a test problem' in capsys.readouterr().out


def test_completions_are_what_a_page_asks_and_teaches(args):
    args.format = 'completion'
    rows = exported(args)
    assert rows[0]['prompt'] == 'Q:  What is 0 + 1?\nA:' and rows[0]['completion'] == ' So:\nit is 1.'
    page = prompts.template(embedded.tokenizer(), False)
    for row, kept in zip(rows, training_sets.training_data(args.config, args.workdir, 'weak', 'low').kept, strict=True):
        asked = page.tokenizer.encode(row['prompt'], bos=True)
        assert asked == page.prompt(kept.problem.question)
        assert [*page.tokenizer.encode(row['completion']), page.tokenizer.eos] == page.answer(kept.solution)


def test_reference_solutions_are_those_there_are(args):
    args.data, args.format = 'gold', 'completion'
    rows = exported(args)
    assert [row['id'] for row in rows] == ['train/0', 'train/1', 'train/2'] and rows[0]['model'] == 'reference'


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'data': 'week'}, r"--data=week: not a choice of this run \(weak, strong, gold\) \(did you mean 'weak'\?\)"),
        ({'budget': 'middle'}, '--budget=middle: not a choice'),
        ({'format': 'alpaca'}, '--format=alpaca: not a choice'),
        ({'data': 'strong'}, 'sample 0 of strong for train/0 is needed and is not there'),
    ],
)
def test_what_cannot_be_exported(args, change, message):
    vars(args).update(change)
    with pytest.raises(UserError, match=message):
        export.main(args)
    args.workdir.clear_done('grade')
    args.data, args.budget, args.format = 'weak', 'low', 'chat'
    with pytest.raises(UserError, match='grade is not done'):
        export.main(args)
