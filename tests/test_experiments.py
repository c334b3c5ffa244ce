"""The experiments of configs/ at their smallest: every mechanism once, and, in the long checks, every file."""

import json
from pathlib import Path

import pytest

from cosample_jax import cli, stages
from cosample_jax import config as config_lib
from cosample_jax.workdir import Workdir

CONFIGS = Path(__file__).resolve().parent.parent / 'configs'
EXPERIMENTS = sorted(path.stem for path in CONFIGS.glob('*.py') if 'config_lib.on(' in path.read_text())
STUDENT = '--config.roles.trained=("student",)'
MIXING = 'mixing.py:size=smoke,pools={}'
# Functional variants would double what thirty models are asked, and recipes have no part in them.
TEST = '--config.evaluate.splits=("test",)'


@pytest.fixture(scope='module')
def runs(tmp_path_factory, repository):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(repository)
        yield tmp_path_factory.mktemp('runs')


def run(root, name, spec, *flags, last='report'):
    workdir = Workdir(root / name)
    for stage in stages.STAGES[: stages.STAGES.index(last) + 1]:
        if not workdir.is_done(stage):
            assert cli.main([stage, f'--config=configs/{spec}', f'--workdir={workdir.root}', *flags]) == 0
    return workdir


def first(runs, last='sample'):
    """What the experiments take pools from and, once it is fine-tuned, weights."""
    flags = ['--config.roles.trained=("weak","strong")', '--config.budget.levels=("high",)']
    return run(runs, 'first', 'arithmetic.py:size=smoke', *flags, last=last)


def every(runs):
    return run(runs, 'every', f'ablations.py:size=smoke,pools={first(runs).root}', STUDENT, TEST)


def results(workdir):
    return {cell['cell']: cell for cell in json.loads(workdir.path('evaluate', 'results.json').read_text())['cells']}


def test_there_are_experiments():
    assert {'keep_one', 'mixing', 'no_answers', 'second_round', 'allocation', 'ablations'} <= set(EXPERIMENTS)


@pytest.mark.parametrize('name', EXPERIMENTS)
@pytest.mark.parametrize('on', ['arithmetic:size=demo', 'math:manual_dir=DIR', 'gsm8k:manual_dir=DIR'])
def test_every_experiment_builds_on_every_task(name, on):
    base, _, rest = on.partition(':')
    pair = 'pair=gemma2_2b_9b,' if name == 'pairs' and base != 'arithmetic' else ''
    given = 'first=runs/math,' if name == 'second_round' else ''
    config = config_lib.finalize(config_lib.load(f'{CONFIGS}/{name}.py:{given}{pair}on={base},{rest}'))
    assert config.name.startswith(name) and config.task.name == base
    assert len(config.recipes) or name == 'pairs'


def test_an_experiment_takes_pools_over_and_compares_its_recipes(runs):
    workdir = run(runs, 'mine', MIXING.format(first(runs).root), STUDENT, TEST)
    told, cells = workdir.done_info('sample'), results(workdir)
    assert [told[source].get('drawn', 0) for source in ('weak', 'strong')] == [0, 0]
    assert told['weak']['reused'] == 8 * 6 and told['strong']['reused'] == 8 * 2
    for name in ('mix_half', 'mix_quarter', 'mix_hard'):
        assert cells[f'student-{name}-high-s0']['trained'] or cells[f'student-{name}-high-s0']['reason']
        assert name in workdir.path('report', 'tables', 'ablations.csv').read_text()


@pytest.mark.slow
def test_pools_are_taken_over_and_only_what_they_lack_is_drawn(runs):
    told = every(runs).done_info('sample')
    assert told['weak']['reused'] == 8 * 6 and told['strong']['reused'] == told['strong']['samples'] == 8 * 2
    assert told['weak']['drawn'] > 0 and 'drawn' not in told['strong']  # prices.py wants 35
    assert told['strong_hot']['reused'] == 0


@pytest.mark.slow
def test_every_recipe_was_trained_and_compared(runs):
    workdir = every(runs)
    cells = results(workdir)
    config = config_lib.load_resolved(workdir.path('config.json'))
    for name, recipe in config.recipes.items():
        cell = cells[f'student-{name}-{recipe.budget}-s0']
        assert cell['trained'] or cell['reason']
    assert cells['student-weak_all-high-s0']['kept'] == 8 * 6
    assert cells['student-weak_keep_one-high-s0']['kept'] == cells['student-weak_keep_one-high-s0']['problems'] > 0
    table = workdir.path('report', 'tables', 'ablations.csv').read_text()
    assert all(name in table for name in config.recipes)
    assert 'id="ablations"' in workdir.path('report', 'index.html').read_text()


@pytest.mark.slow
def test_a_cell_is_the_same_in_a_run_of_its_own(runs):
    mine = results(run(runs, 'mine', MIXING.format(first(runs).root), STUDENT, TEST))
    theirs = results(every(runs))
    for name in ('student-mix_half-high-s0', 'student-weak-high-s0'):
        assert mine[name]['history'] == theirs[name]['history'] and mine[name]['results'] == theirs[name]['results']


@pytest.mark.slow
def test_a_budget_is_spent_as_the_outcomes_say(runs):
    workdir = every(runs)
    for name in ('adaptive_weak', 'adaptive_both', 'cascade'):
        document = json.loads(workdir.allocation(name).read_text())
        assert document['budget'] - 1 / 3 < document['spent'] <= document['budget'] + 1e-6
        drawn = {source: sum(counts.values()) for source, counts in document['counts'].items()}
        assert drawn.get('weak', 0) / 3 + drawn.get('strong', 0) == pytest.approx(document['spent'])
    counts = json.loads(workdir.allocation('adaptive_weak').read_text())['counts']['weak']
    have = {(s.problem_id, s.sample_index) for s in workdir.pool('train', 'weak').read()}
    assert all((problem, index) in have for problem, n in counts.items() for index in range(n))
    # What was drawn because a problem was not solved is no part of the estimators.
    assert json.loads(workdir.path('analysis', 'train.json').read_text())['models'][0]['most_per_problem'] == 35


@pytest.mark.slow
def test_a_second_round_samples_the_fine_tuned_models(runs):
    workdir = run(
        runs, 'again', f'second_round.py:size=smoke,first={first(runs, last="finetune").root}', STUDENT, last='finetune'
    )
    prompts = {name: json.loads((workdir.pool('train', name).directory / 'prompt.json').read_text()) for name in
               ('weak', 'weak_2')}  # fmt: skip
    assert prompts['weak']['shots'] and not prompts['weak_2']['shots']
    lineage = json.loads((workdir.model_dir('weak_2') / 'lineage.json').read_text())
    assert 'weak-weak-high-s0' in lineage['source']
    assert len(workdir.pool('train', 'weak_2')) == 8 * 6
    assert json.loads((workdir.cell_dir('student-weak_again-high-s0') / 'cell.json').read_text())['steps'] == 2


@pytest.mark.slow
@pytest.mark.parametrize('name', sorted({*EXPERIMENTS} - {'ablations', 'mixing', 'second_round'}))
def test_every_experiment_runs(runs, name):
    workdir = run(runs, f'alone-{name}', f'{name}.py:size=smoke', STUDENT)
    assert workdir.path('report', 'index.html').exists()
