import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from cosample_jax import stages
from cosample_jax.commands import import_
from cosample_jax.errors import UserError
from cosample_jax.records import Problem, Sample
from cosample_jax.workdir import Workdir

PROBLEMS = [Problem(f'test/{i}', f'What is {i} + 1?', str(i + 1), f'The answer is {i + 1}.') for i in range(20)]
ROWS = [
    {
        'problem_id': f'test/{i}',
        'model': model,
        'sample_index': k,
        'text': f'The answer is {i + k}.',
        'more': 1,
    }
    for i in (3, 1)
    for model in ('6b', '175b')
    for k in range(2)
]


@pytest.fixture
def args(tmp_path):
    workdir = Workdir(tmp_path / 'run')
    workdir.write_problems('test', PROBLEMS)
    config = SimpleNamespace(task=SimpleNamespace(name='arithmetic'))
    path = tmp_path / 'rows.jsonl'
    return SimpleNamespace(config=config, workdir=workdir, input=str(path), model='', purpose='test')


def write(args, rows, more=''):
    with open(args.input, 'w', encoding='utf-8') as file:
        file.write(''.join(json.dumps(row) + '\n' for row in rows) + more)


def files(workdir):
    return sorted(str(path) for path in Path(workdir.path('pools')).rglob('*'))


def test_rows_become_samples_of_their_model(args, capsys):
    write(args, ROWS)
    import_.main(args)
    for model in ('6b', '175b'):
        samples = args.workdir.pool('test', model).read()
        keys = [(s.problem_id, s.sample_index) for s in samples]
        assert keys == [('test/1', 0), ('test/1', 1), ('test/3', 0), ('test/3', 1)]
        assert {s.model for s in samples} == {model}
        assert samples[3].text == 'The answer is 4.' and samples[3].finish == 'stop'
        assert samples[3].tokens == [] and samples[3].num_tokens == 0
    assert 'test/6b: 4 samples imported' in capsys.readouterr().out


def test_importing_twice_changes_nothing(args, capsys):
    write(args, ROWS)
    import_.main(args)
    before = files(args.workdir)
    args.workdir.mark_done('grade', {})
    import_.main(args)
    assert files(args.workdir) == before
    assert args.workdir.is_done('grade')
    assert 'test/175b: 0 samples imported, 4 were there already' in capsys.readouterr().out


def test_new_rows_are_added_and_later_stages_look_again(args):
    write(args, ROWS[:4])
    import_.main(args)
    for stage in ('grade', 'judge', 'analyze', 'report'):
        args.workdir.mark_done(stage, {})
    write(args, ROWS)
    import_.main(args)
    assert len(args.workdir.pool('test', '6b')) == 4
    assert not any(args.workdir.is_done(stage) for stage in ('grade', 'judge', 'analyze', 'report'))


def test_the_flag_names_the_model(args):
    rows = [{**row, 'model': 'someone/else'} for row in ROWS[:2]]
    write(args, rows)
    with pytest.raises(UserError, match="line 1: model 'someone/else' cannot name a pool"):
        import_.main(args)
    args.model = 'else'
    import_.main(args)
    write(args, [{name: row[name] for name in row if name != 'model'} for row in rows])
    import_.main(args)
    assert len(args.workdir.pool('test', 'else')) == 2


GOOD = ROWS[0]


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('{"problem_id": ', 'line 9 is not JSON'),
        (
            json.dumps({n: GOOD[n] for n in GOOD if n != 'text'}),
            "line 9 has no field 'text': rows need problem_id",
        ),
        (json.dumps({n: GOOD[n] for n in GOOD if n != 'model'}), "line 9 has no field 'model'"),
        (
            json.dumps({**GOOD, 'problem_id': 'test/99'}),
            r"line 9: problem_id 'test/99' is none of the 20 test problems",
        ),
        (json.dumps({**GOOD, 'problem_id': 'gsm8k-1'}), "which are called like 'test/0'"),
        (json.dumps({**GOOD, 'sample_index': '0'}), 'line 9: sample_index is "0", it must be a whole number'),
        (json.dumps({**GOOD, 'sample_index': -1}), 'line 9: sample_index is -1'),
        (json.dumps({**GOOD, 'model': '../x'}), 'line 9: model'),
        (json.dumps(GOOD), 'line 9: sample 0 of test/3 by 6b was on line 1 already'),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_written(args, line, message):
    write(args, ROWS, line + '\n')
    with pytest.raises(UserError, match=message) as error:
        import_.main(args)
    assert '\n' not in str(error.value)
    assert files(args.workdir) == []


def test_another_text_for_a_sample_that_is_there(args):
    write(args, ROWS)
    import_.main(args)
    before = files(args.workdir)
    write(
        args,
        [*({**row, 'sample_index': 7 + i} for i, row in enumerate(ROWS[:3])), {**ROWS[3], 'text': 'other'}],
    )
    with pytest.raises(UserError, match='line 4: sample 1 of test/3 by 175b is in the pool with another text'):
        import_.main(args)
    assert files(args.workdir) == before


def test_files_and_purposes_that_are_not_there(args):
    with pytest.raises(UserError, match='rows.jsonl cannot be read'):
        import_.main(args)
    write(args, [])
    with pytest.raises(UserError, match='has no rows'):
        import_.main(args)
    args.workdir.mark_done('prepare', {})
    args.purpose = 'tset'
    with pytest.raises(UserError, match="no 'tset' problems"):
        import_.main(args)


@pytest.fixture
def gsm8k_workdir(tmp_path, shared_data, repository, monkeypatch):
    from cosample_jax import config as config_lib

    monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'tfds'))
    spec = f'{repository}/configs/gsm8k_import.py:manual_dir={shared_data}'
    config = config_lib.finalize(config_lib.load(spec))
    workdir = Workdir(tmp_path / 'run')
    workdir.open(config)
    return config, workdir


def test_openai_solutions_from_file_to_report(gsm8k_workdir, shared_data, tmp_path):
    """Import, grade, analyze and report in a workdir where nothing was sampled; every label is reproduced."""
    config, workdir = gsm8k_workdir
    labels, rows = {}, []
    with open(shared_data / 'gsm8k_example_model_solutions.jsonl', encoding='utf-8') as file:
        for index, line in enumerate(file):
            for model, value in json.loads(line).items():
                if isinstance(value, dict):
                    key = (f'test/{index}', model, 0)
                    labels[key] = value['is_correct']
                    rows.append(dict(zip(Sample.KEY, key, strict=True), text=value['solution']))
    args = SimpleNamespace(config=config, workdir=workdir, input=str(tmp_path / 'in.jsonl'), model='', purpose='test')
    write(args, rows)
    import_.main(args)
    counts = stages.execute('grade', config, workdir)
    assert (counts['graded'], counts['correct'], counts['no_marker'], counts['ungraded']) == (
        5_276,
        2_001,
        11,
        0,
    )
    grades = [
        grade
        for model in workdir.path('grades', 'test').iterdir()
        for grade in workdir.grades('test', model.name).read()
    ]
    assert {(g.problem_id, g.model, g.sample_index): g.correct for g in grades} == labels
    for stage in ('judge', 'analyze', 'report'):
        stages.execute(stage, config, workdir)
    assert '175b_verification' in workdir.path('report', 'index.html').read_text()
