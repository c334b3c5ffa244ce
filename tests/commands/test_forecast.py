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
        workdir.pool('train', model).append([Sample(i, model, k, '', [], 'stop', 0.0, 0.0, 1, 1) for i, k in keys])
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
    assert 'small - large' in capsys.readouterr().out


def test_a_run_with_its_own_budgets(run, capsys):
    flags = ['forecast', f'--workdir={run.root}']
    assert cli.main(flags) == 2
    assert 'samples without a grade (train/9, sample 3)' in capsys.readouterr().err
    for model in ('weak', 'strong'):
        run.grades('train', model).append([Grade('train/9', model, 3, False, '', '', True, '')])
    assert cli.main(flags) == 0
    row = read_json(run.path('forecast', 'forecast.json'))['coverage'][1]
    assert (row['model'], row['k'], row['pilot']) == ('strong', 10, 4)
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
