"""`cosample report --compare` on made-up runs."""

import csv
import re

import fake_run
import pytest

from cosample_jax import cli, records
from cosample_jax.stages import analyze


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """Two runs on the same problems that differ in the seeds of training, and one that only sampled other problems."""
    root = tmp_path_factory.mktemp('runs')
    for name, options in (
        ('one', {'config': fake_run.make_config(30)}),
        ('three', {'config': fake_run.make_config(30, seeds=(0, 1, 2), sampling__temperature=1.0)}),
    ):
        analyze.run(*fake_run.make_run(root / name, **options))
    analyze.run(*fake_run.make_import(root / 'imported'))
    return root


def compare(runs, output, *names):
    argv = ['report', '--compare', *(str(runs / name) for name in names), f'--output={output}']
    assert cli.main(argv) == 0
    rows = {}
    for path in (output / 'tables').glob('*.csv'):
        with path.open() as file:
            rows[path.stem] = list(csv.DictReader(file))
    return (output / 'index.html').read_text(), rows


@pytest.fixture(scope='module')
def compared(runs, tmp_path_factory):
    """(directory, page, tables) of the two runs on the same problems."""
    output = tmp_path_factory.mktemp('out')
    before = {path: path.stat().st_mtime_ns for path in runs.rglob('*')}
    page, rows = compare(runs, output, 'one', 'three')
    assert {path: path.stat().st_mtime_ns for path in runs.rglob('*')} == before, 'runs are read only'
    return output, page, rows


def test_one_page_on_runs_of_the_same_problems(compared):
    output, html, rows = compared
    assert re.findall(r'<section id="([a-z]+)"', html) == ['summary', 'settings', 'quality', 'training']
    assert [(r['field'], r['one'], r['three']) for r in rows['settings']] == [
        ('finetune.seeds', '[0]', '[0, 1, 2]'),
        ('sampling.temperature', '0.7', '1.0'),
    ]
    pools = {(r['run'], r['source'], r['budget']): r for r in rows['qualities']}
    assert len(pools) == 8 and pools['one', 'weak', 'high']['k'] == '30.0'
    # The made-up pools of both runs are the same: paired, every difference is zero, and so is its interval.
    assert {(r['paired'], r['difference'], r['difference_high']) for r in rows['quality_differences']} == {
        ('True', '0.0', '0.0')
    }
    assert {r['paired'] for r in rows['score_differences']} == {'True'}
    assert {r['data'] for r in rows['score_differences']} == {'weak', 'strong', 'gold'}
    assert 'Training seeds: one 1, three 3.' in html
    images = re.findall(r'role="img" aria-label="([^"]*)"', html)
    assert len(images) == html.count('<svg') == 5
    files = set(re.findall(r'href="([^"#]+)"', html))
    assert len(files) == 15 and all((output / link).exists() for link in files)


def test_the_data_table_says_what_the_run_itself_says(runs, compared):
    _, _, rows = compared
    matched = records.read_json(runs / 'one' / 'analysis' / 'train.json')['matched']
    for metric in ('coverage', 'diversity'):
        wanted = next(r for r in matched if (r['budget'], r['matching'], r['metric']) == ('low', 'compute', metric))
        (row,) = (r for r in rows['qualities'] if (r['run'], r['source'], r['budget']) == ('one', 'weak', 'low'))
        assert [float(row[f'{metric}{end}']) for end in ('', '_low', '_high')] == pytest.approx(
            [wanted[f'a{end}'] for end in ('', '_low', '_high')]
        )


def test_runs_with_nothing_in_common_are_only_shown(runs, tmp_path):
    html, rows = compare(runs, tmp_path / 'out', 'one', 'imported')
    assert 'no pool and no trained model in common' in html
    assert {r['source'] for r in rows['qualities']} == {'weak', 'strong', '6B', '175B'}
    assert 'quality_differences' not in rows and 'score_differences' not in rows


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--compare', 'RUNS/one'], '--compare needs two different runs at least'),
        (['--compare', 'RUNS/one', 'RUNS/one/'], '--compare needs two different runs at least'),
        (['--compare', 'RUNS/one', 'RUNS/none'], 'none is not the workdir of a run'),
        (['--compare', 'RUNS/one', 'EMPTY'], 'nothing to compare in'),
        (['--compare'], 'Missing value'),
        (['--compare', 'RUNS/one', 'RUNS/three', '--workdir=RUNS/one'], 'it takes no --config and no --workdir'),
        (['--output=x', '--workdir=RUNS/one'], '--output goes with --compare'),
        ([], '--config is needed'),
        (['RUNS/one'], 'unexpected argument'),
    ],
)
def test_a_mistake_is_one_line(runs, tmp_path, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(tmp_path)
    empty = tmp_path / 'empty'
    empty.mkdir()
    (empty / 'config.json').write_bytes((runs / 'one' / 'config.json').read_bytes())
    flags = [flag.replace('RUNS', str(runs)).replace('EMPTY', str(empty)) for flag in flags]
    assert cli.main(['report', *flags]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ['empty']


def test_the_stage_is_still_there(runs, tmp_path, monkeypatch):
    from cosample_jax import stages

    done = []
    monkeypatch.setattr(stages, 'execute', lambda stage, config, workdir: done.append((stage, str(workdir.root))))
    assert cli.main(['report', f'--workdir={runs / "one"}']) == 0
    assert done == [('report', str(runs / 'one'))]


def test_names_are_as_short_as_tells_them_apart():
    from cosample_jax.commands.report import names

    assert names(['runs/a', 'runs/b']) == ['a', 'b']
    assert names(['x/a', 'y/a', 'runs/b']) == ['x/a', 'y/a', 'runs/b']
