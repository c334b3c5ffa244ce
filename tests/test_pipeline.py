"""The whole pipeline in one process at its smallest, on the shipped models: every door between the stages is used."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from cosample_jax import cli
from cosample_jax.records import Sample, Store
from cosample_jax.workdir import Workdir

CONFIG = '--config=configs/arithmetic.py:size=smoke'
SMALLER = ['--config.roles.trained=("student",)', '--config.budget.levels=("low",)']


@pytest.fixture(scope='module')
def finished(tmp_path_factory, repository):
    """A workdir in which `cosample run` has ended."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(repository)
        # Relative, as people type it: Orbax alone would refuse that.
        root = os.path.relpath(tmp_path_factory.mktemp('run') / 'wd')
        assert cli.main(['run', CONFIG, *SMALLER, f'--workdir={root}']) == 0
        yield Workdir(Path(root).absolute())


def tables(workdir):
    """Hashes of everything a reader would compare: CSV tables, analysis, results."""
    files = [
        *workdir.path('report', 'tables').iterdir(),
        *(path for path in workdir.path('analysis').iterdir() if path.suffix in ('.json', '.csv')),
        workdir.path('evaluate', 'results.json'),
    ]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_every_stage_left_its_product(finished):
    assert finished.path('report', 'index.html').stat().length > 10_000
    cells = json.loads(finished.path('evaluate', 'results.json').read_text())['cells']
    names = [cell['cell'] for cell in cells]
    assert names == ['student-base', 'student-weak-low-s0', 'student-strong-low-s0', 'student-gold-low-s0']
    for cell in cells:
        for split, result in cell['results'].items():
            assert result['problem_ids'] == [p.id for p in finished.problems(split)]
            assert set(result['pass@1']) <= {0, 1} and len(result['pass@1']) == len(result['problem_ids'])
            assert result['fpr']['wrong'] <= result['fpr']['kept'] == sum(result['pass@1'])


def test_the_strong_pool_is_smaller_by_the_ratio_and_the_prompt_is_shared(finished):
    weak, strong = (finished.pool('train', model).read() for model in ('weak', 'strong'))
    assert len(weak) == 3 * len(strong) == 3 * 2 * 8
    assert all(sample.num_tokens <= 48 for sample in weak)


def test_the_shipped_models_solve_some_of_it(finished):
    """Models that do not know the task would make every other test here pass with empty hands."""
    assert sum(grade.correct for grade in finished.grades('train', 'strong').read()) >= 2


def test_a_plan_of_what_was_sampled_has_its_lengths_and_seconds(finished, capsys, monkeypatch, repository):
    monkeypatch.chdir(repository)
    for source in ('weak', 'strong'):
        told = finished.done_info('sample')[source]
        assert told['drawn'] == told['tokens'] and told['chip_seconds'] > 0 and told['device'] == 'cpu'
    assert cli.main(['plan', f'--workdir={finished.root}']) == 0
    printed = capsys.readouterr().out
    drawn = [sample.num_tokens for sample in finished.pool('train', 'weak').read()]
    mean = sum(drawn) / len(drawn)
    assert f'weak {mean:,.0f} (prompt' in ' '.join(printed.split()).partition('measured tokens of a solution')[2]
    assert 'what the pilot took a token, on cpu' in ' '.join(printed.split())


def test_running_again_does_nothing(finished, capsys, monkeypatch, repository):
    monkeypatch.chdir(repository)
    pools = Path(finished.path('pools'))
    before = {path: path.stat().st_mtime_ns for path in pools.rglob('*.parquet')}
    assert cli.main(['run', CONFIG, *SMALLER, f'--workdir={finished.root}']) == 0
    assert capsys.readouterr().out.count('already done') == 9
    assert before and {path: path.stat().st_mtime_ns for path in pools.rglob('*.parquet')} == before


def test_an_interrupted_run_ends_with_the_same_tables(finished, tmp_path, monkeypatch, repository):
    """Interrupted inside sampling, fine-tuning and evaluation; the same command is typed again each time."""
    monkeypatch.chdir(repository)
    monkeypatch.setattr('cosample_jax.sampling.pool.fill_pool.__kwdefaults__', _small_parts())
    interruptions = iter((1, 3, 6))
    append, appended = Store.append, []

    def interrupting(store, records):
        append(store, records)
        if records and isinstance(records[0], Sample):
            appended.append(store.directory)
            if len(appended) in (1, 3, 6):
                next(interruptions)
                raise KeyboardInterrupt

    monkeypatch.setattr(Store, 'append', interrupting)
    command = ['run', CONFIG, *SMALLER, f'--workdir={tmp_path}']
    codes = [cli.main(command)]
    while codes[-1] == 130:
        codes.append(cli.main(command))
    assert codes == [130, 130, 130, 0]
    assert tables(Workdir(tmp_path)) == tables(finished)


def _small_parts():
    from cosample_jax.sampling.pool import fill_pool

    return fill_pool.__kwdefaults__ | {'commit_every': 10}


def test_generate_prints_solutions_of_base_and_trained_models(finished, capsys):
    for model in ('strong', 'student-gold-low-s0'):
        assert (
            cli.main(['generate', f'--workdir={finished.root}', f'--model={model}', '--problem=test/0', '--n=2']) == 0
        )
        printed = capsys.readouterr().out
        assert printed.startswith('Q: ') and printed.count('=') >= 2


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--model=stron', '--problem=test/0'], 'strong'),
        (['--model=strong', '--problem=test/99'], 'test/99'),
        (['--model=strong'], '--problem'),
        (['--model=student-weak-high-s0', '--problem=test/0'], 'student-weak-low-s0'),
    ],
)
def test_generate_refuses_what_is_not_there(finished, capsys, arguments, message):
    assert cli.main(['generate', f'--workdir={finished.root}', *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_missing_checkpoint_is_named(tmp_path, capsys, monkeypatch, repository):
    monkeypatch.chdir(repository)
    command = ['run', CONFIG, '--config.models.weak.init=/nowhere/weights', f'--workdir={tmp_path}']
    assert cli.main(command) == 2
    assert '/nowhere/weights' in capsys.readouterr().err


def test_a_model_for_another_tokenizer_is_refused(tmp_path, capsys, monkeypatch, repository):
    monkeypatch.chdir(repository)
    command = ['prepare', CONFIG, '--config.models.weak.variant=gemma2_2b', f'--workdir={tmp_path}']
    assert cli.main(command) == 2
    assert 'pieces' in capsys.readouterr().err
