"""The public API: its examples run, on a run that it made itself, and its mistakes are told in one line."""

import doctest
import importlib
import os

import pyarrow as pa
import pytest

import cosample_jax as cs

MODULES = ('budgets', 'prediction', 'rows', 'running', 'runs')
SMALLER = {
    'roles.trained': ('student',),
    'budget.levels': ('low',),
    'evaluate.splits': ('test',),
    'judge.by': ('steps', 'calculator'),
}


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A finished run in runs/smoke of the directory that the tests of this file work in."""
    home = os.getcwd()
    os.chdir(tmp_path_factory.mktemp('notebook'))
    yield cs.execute('run', cs.load_config('configs/arithmetic.py:size=smoke', **SMALLER), 'runs/smoke')
    os.chdir(home)


@pytest.mark.parametrize('name', MODULES)
def test_the_examples_do_what_they_say(run, name):
    found = doctest.testmod(importlib.import_module(f'cosample_jax.notebook.{name}'))
    assert found.attempted and not found.failed


def test_everything_public_has_an_example(run):
    for name in ('matched_counts', 'load_config', 'predict', 'execute', 'open_run'):
        assert '>>> ' in getattr(cs, name).__doc__, name
    public = [name for name in dir(run) if not name.startswith('_') and name != 'config']
    assert public and all('>>> ' in getattr(type(run), name).__doc__ for name in public)


def test_samples_have_all_that_is_known(run):
    pools = {row['model']: row['samples'] for row in run.pools.where(purpose='train')}
    rows = run.samples('train')
    assert len(rows) == sum(pools.values()) and {row['model'] for row in rows} == set(pools)
    right = rows.where(correct=True)
    assert right and all(row['steps'] and row['calculator'] for row in right)
    assert all(row['steps'] == '' for row in rows.where(correct=False))
    assert {row['gold'] for row in rows} == {problem['answer'] for problem in run.problems('train')}


def test_tables_become_arrow(run):
    table = run.scores().to_arrow()
    assert pa.types.is_floating(table.schema.field('test').type) and table.num_rows == len(run.scores())
    assert '<table' in run.samples()[:3]._repr_html_()


def test_coverage_is_that_of_the_analysis(run):
    rows = run.coverage(2)
    assert [(row['model'], row['k']) for row in rows] == [('weak', 2), ('strong', 2)]
    correct = [
        sum(r['correct'] for r in run.samples('train', 'strong').where(problem_id=p['id'])) for p in run.problems()
    ]
    assert rows[1]['coverage'] == pytest.approx(sum(c > 0 for c in correct) / len(correct))  # all there are: 2


def test_figures_are_those_of_the_page(run):
    figures = run.figures()
    files = {path.stem for path in run._workdir.path('report', 'figures').glob('*.png')}
    assert set(figures) == files and all(figures.captions[name] and figures.rows[name] for name in figures)
    png, size = figures['train_coverage']._repr_png_()
    assert png.startswith(b'\x89PNG') and size['width'] > 300


def test_figures_leave_pyplot_alone(run):
    import matplotlib

    before = matplotlib.rcParams['backend'], matplotlib.rcParams['font.size']
    run.figures()
    assert (matplotlib.rcParams['backend'], matplotlib.rcParams['font.size']) == before


def test_other_budgets_compare_other_counts(run):
    rows = run.figures(budgets={'one': 1, 'two': 2}, k=4).rows
    assert [row['budget'] for row in rows['train_overlap'] if row['matching'] == 'compute'] == ['one', 'two']
    assert max(row['k'] for row in rows['train_coverage']) == 4


def test_a_problem_is_shown_with_its_solutions(run):
    text, page = str(run.show('train/0')), run.show('train/0')._repr_html_()
    assert 'weak, sample 0' in text and 'strong' in text
    assert 'strong' in page and page.count('<div') == page.count('</div>')
    assert 'student-base' in str(run.show('test/0'))


def test_generated_solutions_of_a_known_problem_are_graded(run):
    rows = run.generate('student-gold-low-s0', 'test/0', n=2)
    assert len(rows) == 2 and {row['correct'] for row in rows} <= {True, False}


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda run: cs.open_run('runs/nowhere'), 'runs/nowhere'),
        (lambda run: cs.load_config('configs/arithmetic.py', **{'budget.strong.hihg': 2}), 'budget.strong.high'),
        (lambda run: cs.load_config('configs/arithmetic.py', **{'budget.strong.high': 'x'}), 'another type'),
        (lambda run: cs.load_config('configs/arithmetik.py'), 'arithmetik'),
        (lambda run: cs.execute('sampel', run.config, 'runs/smoke'), "'sample'"),
        (lambda run: cs.matched_counts({'weak': {}, 'strong': {}}), 'variant or params'),
        (lambda run: cs.matched_counts({'weak': {'parms': 1}, 'strong': {}}), "'params'"),
        (lambda run: cs.matched_counts({'weak': {'params': 1}}), 'reference'),
        (lambda run: cs.matched_counts({'strong': {'params': 1}}, solution=0), 'solution=0'),
        (lambda run: run.samples('train', 'weka'), "'weak'"),
        (lambda run: run.samples('trian'), "'train'"),
        (lambda run: run.samples().where(modle='weak'), "'model'"),
        (lambda run: run.coverage(7), 'strong has 2'),
        (lambda run: run.coverage({'weka': 1}), "'weak'"),
        (lambda run: run.show('train/99'), 'train/99'),
        (lambda run: run.figures()['verdikt'], "'verdict'"),
        (lambda run: run.generate('strnog', 'Why?'), "'strong'"),
    ],
)
def test_mistakes_are_one_line_with_a_cure(run, call, message):
    with pytest.raises(cs.UserError, match='^[^\n]*$') as error:
        call(run)
    assert message in str(error.value)
    assert error.value._render_traceback_() == [f'cosample: error: {error.value}']
