import json

import pytest

from cosample_jax import cli
from cosample_jax import config as config_lib
from cosample_jax.records import Grade, Sample, read_json
from cosample_jax.workdir import Workdir


@pytest.fixture
def counts(tmp_path):
    path = tmp_path / 'counts.jsonl'
    rows = [(f'p{i}', m, 4, (i + j) % 5) for i in range(20) for j, m in enumerate(('small', 'large'))]
    names = ('problem_id', 'model', 'samples', 'correct')
    path.write_text(''.join(json.dumps(dict(zip(names, row, strict=True))) + '\n' for row in rows))
    return path


@pytest.fixture
def run(tmp_path):
    """A run whose sources have four samples of each of ten problems; the last are not graded."""
    config = config_lib.base()
    config.name = 'test'
    workdir = Workdir(tmp_path / 'run')
    workdir.open(config_lib.finalize(config))
    for model in ('weak', 'strong'):
        keys = [(f'train/{i}', k) for i in range(10) for k in range(4)]
        samples = [Sample(i, model, k, f'text {k % 2}', [], 'stop', 0.0, 0.0, 1, 1) for i, k in keys]
        workdir.pool('train', model).append(samples)
        workdir.grades('train', model).append([Grade(i, model, k, k < 2, '', '', True, '') for i, k in keys[:-1]])
    return workdir


def test_a_file_of_counts(tmp_path, counts, capsys):
    flags = ['forecast', f'--input={counts}', '--k=8,100', '--costs=small:1,large:3', f'--output={tmp_path / "out"}']
    assert cli.main(flags) == 0
    document = read_json(tmp_path / 'out' / 'forecast.json')
    assert [(row['model'], row['k']) for row in document['coverage']] == [
        ('small', 24), ('small', 300), ('large', 8), ('large', 100),
    ]  # fmt: skip
    assert document['problems'] == 20 and (tmp_path / 'out' / 'decisions.csv').read_text().startswith('cheaper,')
    assert document['diversity'] == [] and (tmp_path / 'out' / 'forecast.png').read_bytes().startswith(b'\x89PNG')
    printed = capsys.readouterr().out
    assert 'small - large' in printed and 'diversity is not forecast where `unique` is missing' in printed


def test_a_file_with_solutions(tmp_path, counts, capsys):
    rows = [json.loads(line) for line in counts.read_text().splitlines()]
    counts.write_text(''.join(json.dumps(row | {'unique': [1] * row['correct']}) + '\n' for row in rows))
    assert cli.main(['forecast', f'--input={counts}', '--k=8,100', f'--output={tmp_path / "out"}']) == 0
    (small, *_), printed = read_json(tmp_path / 'out' / 'forecast.json')['diversity'], capsys.readouterr().out
    assert 2 < small['diversity_low'] < 4.2 and 'is missing' not in printed
    counts.write_text(json.dumps(rows[1] | {'unique': [2]}))
    assert cli.main(['forecast', f'--input={counts}', '--k=8', f'--output={tmp_path / "out"}']) == 2
    assert 'whole numbers that add up to 1' in capsys.readouterr().err


def test_tables_of_four_models_fit_a_hundred_columns(tmp_path, monkeypatch, capsys):
    path, names = tmp_path / 'counts.jsonl', ('gemma2_2b', 'gemma2_9b', 'gemma2_27b', 'gemma3_27b')
    rows = [
        {'problem_id': str(i), 'model': m, 'samples': 4, 'correct': (i + j) % 5, 'unique': [1] * ((i + j) % 5)}
        for i in range(20)
        for j, m in enumerate(names)
    ]
    path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    monkeypatch.setenv('COLUMNS', '100')
    assert cli.main(['forecast', f'--input={path}', '--k=10,10000', f'--output={tmp_path / "out"}']) == 0
    printed = capsys.readouterr().out
    # Each row is one line: two budgets of four models and of six pairs, under two headings.
    assert sum(line.startswith('│') for line in printed.splitlines()) == 8 + 12


def test_a_run_with_its_own_budgets(run, capsys):
    flags = ['forecast', f'--workdir={run.root}']
    assert cli.main(flags) == 2
    assert 'samples without a grade (train/9, sample 3)' in capsys.readouterr().err
    for model in ('weak', 'strong'):
        run.grades('train', model).append([Grade('train/9', model, 3, False, '', '', True, '')])
    assert cli.main(flags) == 0
    document = read_json(run.path('forecast', 'forecast.json'))
    row = document['coverage'][1]
    assert (row['model'], row['k'], row['pilot']) == ('strong', 10, 4)
    # Two of four samples are correct, and they differ.
    assert 2 < document['diversity'][1]['diversity'] < 5
    assert cli.main([*flags, '--pilot=2', '--k=3']) == 0
    assert read_json(run.path('forecast', 'forecast.json'))['coverage'][1]['pilot'] == 2


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        ([], 'give --workdir (a run with graded samples) or --input'),
        (['--input=COUNTS'], '--k is needed'),
        (['--input=COUNTS', '--k=9'], '--output is needed'),
        (['--input=COUNTS', '--k=x', '--output=out'], '--k=x: write whole numbers above 0'),
        (['--input=COUNTS', '--k=9', '--output=out', '--costs=big:3'], "'big:3' is not MODEL:COST"),
        (['--input=COUNTS', '--k=3', '--output=out'], 'k = 3 is no forecast'),
    ],
)
def test_mistakes(tmp_path, monkeypatch, counts, capsys, flags, message):
    monkeypatch.chdir(tmp_path)
    assert cli.main(['forecast', *(flag.replace('COUNTS', str(counts)) for flag in flags)]) == 2
    assert message in capsys.readouterr().err
