import csv
import io
import json
import re
from types import SimpleNamespace

import pytest

from cosample_jax import stages
from cosample_jax.commands import judge
from cosample_jax.errors import UserError
from cosample_jax.grading import pool
from cosample_jax.records import Judgment, Problem, Sample
from cosample_jax.tasks import arithmetic
from cosample_jax.workdir import Workdir

PROBLEMS = [Problem(f'train/{i}', f'What is {i} + 1?', str(i + 1), '', level=1 + i % 2) for i in range(40)]
MODELS = ('gemma-weak', 'gemma-strong')


@pytest.fixture
def run(tmp_path):
    """(workdir, call): two graded pools; `call` is `cosample judge` with some flags."""
    workdir = Workdir(tmp_path / 'run')
    workdir.write_problems('train', PROBLEMS)
    for model in MODELS:
        workdir.pool('train', model).append([
            Sample(p.id, model, 0, f'={p.answer}, "yes" </script>\nThe answer is {p.answer}.', [], 'stop', 0., 0., 0, 0)
            for p in PROBLEMS
        ])  # fmt: skip
        pool.grade_pool(workdir, 'train', model, PROBLEMS, arithmetic)

    def call(**flags):
        flags = {'export': '', 'import': '', 'n': 0, 'purpose': ''} | flags
        judge.main(SimpleNamespace(config=SimpleNamespace(seed=0), workdir=workdir, **flags))

    return workdir, call


def exported(path):
    return list(csv.DictReader(io.StringIO((path / 'annotate.csv').read_text('utf-8-sig'))))


def fill_in(path, verdicts, name='filled.csv', **change):
    rows = exported(path)
    for row, verdict in zip(rows, verdicts, strict=False):
        row['verdict'] = verdict
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), **change)
    writer.writeheader()
    writer.writerows(rows)
    (path / name).write_text(buffer.getvalue())
    return str(path / name)


def test_what_is_exported_is_blind_and_spread(run, tmp_path, capsys):
    workdir, call = run
    call(export=str(tmp_path / 'a'), n=10)
    rows = exported(tmp_path / 'a')
    assert len(rows) == 20 and all(row['verdict'] == row['note'] == '' for row in rows)
    assert '±' in capsys.readouterr().out
    page = (tmp_path / 'a' / 'annotate.html').read_text()
    whole = page + (tmp_path / 'a' / 'annotate.csv').read_text()
    assert not re.search(r'gemma|weak|strong"|train/', whole)
    key = json.loads(workdir.path('people', 'train.json').read_text())
    assert set(key) == {row['id'] for row in rows}
    for model in MODELS:
        mine = [problem for who, problem, _ in key.values() if who == model]
        assert len(mine) == 10 and sum(int(p.split('/')[1]) % 2 for p in mine) == 5
    order = [key[row['id']][0] for row in rows]
    assert order != sorted(order) and order != sorted(order, reverse=True)
    # A formula for a spreadsheet, and the end of a script for a browser, are only text.
    assert all(row['solution'].startswith(' =') for row in rows)
    assert page.count('</script>') == 2
    assert 'http' not in page.replace('http-equiv', '')


def test_more_extend_fewer_and_the_same_is_the_same(run, tmp_path):
    workdir, call = run
    call(export=str(tmp_path / 'a'), n=5)
    call(export=str(tmp_path / 'b'), n=5)
    call(export=str(tmp_path / 'c'), n=15)
    a, b, c = ({row['id'] for row in exported(tmp_path / name)} for name in 'abc')
    assert a == b and a < c and len(c) == 30


def test_people_are_read_back_and_compared(run, tmp_path, capsys):
    workdir, call = run
    call(export=str(tmp_path), n=20)
    key = json.loads(workdir.path('people', 'train.json').read_text())
    names = [row['id'] for row in exported(tmp_path)]
    for model in MODELS:
        workdir.judgments('train', model, 'calculator').append([
            Judgment(p, m, k, 'calculator', 'wrong' if names.index(name) < 8 else 'valid', '')
            for name, (m, p, k) in key.items() if m == model
        ])  # fmt: skip
    for stage in ('analyze', 'report'):
        workdir.mark_done(stage, {})
    first = fill_in(tmp_path, ['wrong'] * 6 + [' Valid '] * 10 + ['unsure'] * 2, 'first.csv')
    call(**{'import': first})
    out = capsys.readouterr().out
    assert '18 of 40 solutions judged by people' in out and "Cohen's kappa" in out
    assert not workdir.is_done('analyze') and not workdir.is_done('report')
    people = [j for model in MODELS for j in workdir.judgments('train', model, 'people').read()]
    verdicts = [j.verdict for j in people]
    assert (verdicts.count('wrong'), verdicts.count('valid'), verdicts.count('unchecked')) == (6, 10, 2)
    # Again, filled in further, by another spreadsheet.
    second = fill_in(tmp_path, ['wrong'] * 6 + ['valid'] * 10 + ['unsure'] * 2 + ['valid'] * 22, delimiter=';')
    call(**{'import': second})
    call(**{'import': second})
    assert sum(len(workdir.judgments('train', model, 'people')) for model in MODELS) == 40
    with pytest.raises(UserError, match=r'line 2: s-\w+ is valid here and was wrong in an earlier import'):
        call(**{'import': fill_in(tmp_path, ['valid'])})


def test_one_verdict_only_has_no_kappa(run, tmp_path, capsys):
    workdir, call = run
    call(export=str(tmp_path), n=4)
    for model in MODELS:
        workdir.judgments('train', model, 'calculator').append(
            [Judgment(p.id, model, 0, 'calculator', 'valid', '') for p in PROBLEMS]
        )
    call(**{'import': fill_in(tmp_path, ['valid'] * 8)})
    out = ' '.join(capsys.readouterr().out.split())
    assert 'undefined' in out and 'calculator is not corrected: people found no wrong solution' in out


def damaged(text, what):
    if what == 'no verdict yet':
        return text
    lines = text.replace(',,\n', ',valid,\n')
    name = re.search(r's-\w+', text)[0]
    return {
        'no solution': lines.replace(name, 's-0000000000'),
        'stands in line 2 already': lines + f'{name},,,,wrong,\n',
        "verdict is 'right'": lines.replace(',valid,', ',right,', 1),
        "no column 'verdict'": lines.replace('verdict', 'said', 1),
        'no column': '',
    }[what]


@pytest.mark.parametrize(
    'message',
    [
        'no verdict yet',
        'no solution',
        'stands in line 2 already',
        "verdict is 'right'",
        "no column 'verdict'",
        'no column',
    ],
)
def test_what_cannot_be_read_is_named_and_nothing_is_stored(run, tmp_path, message):
    workdir, call = run
    call(export=str(tmp_path), n=3)
    path = tmp_path / 'bad.csv'
    path.write_text(damaged((tmp_path / 'annotate.csv').read_text('utf-8-sig'), message))
    with pytest.raises(UserError, match=message):
        call(**{'import': str(path)})
    assert all('people' not in workdir.judges('train', model) for model in MODELS)


def test_lines_are_counted_over_texts_of_several_lines(run, tmp_path):
    _, call = run
    call(export=str(tmp_path), n=3)
    with pytest.raises(UserError, match='line 6: verdict'):
        call(**{'import': fill_in(tmp_path, ['valid', 'valid', 'maybe'])})


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        ({'export': 'x', 'import': 'y'}, 'one of them'),
        ({'n': 3}, '--n is'),
        ({'export': 'x', 'n': -1}, '--n is'),
        ({'purpose': 'test'}, '--purpose goes with'),
        ({'export': 'x', 'purpose': 'test'}, r'no test samples .* \(it has train\)'),
        ({'import': 'x'}, 'nothing of train was exported'),
    ],
)
def test_flags_that_do_not_fit(run, flags, message):
    with pytest.raises(UserError, match=message):
        run[1](**flags)


def test_a_file_that_is_not_there(run, tmp_path):
    run[1](export=str(tmp_path))
    with pytest.raises(UserError, match='cannot be read'):
        run[1](**{'import': str(tmp_path / 'none.csv')})


def test_without_either_it_is_the_stage(run, monkeypatch):
    ran = []
    monkeypatch.setattr(stages, 'execute', lambda stage, config, workdir: ran.append(stage))
    run[1]()
    assert ran == ['judge']
