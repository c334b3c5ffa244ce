import csv
import re
import xml.etree.ElementTree as ElementTree

import fake_run
import pytest

from cosample_jax import records
from cosample_jax.errors import UserError
from cosample_jax.stages import analyze, report
from cosample_jax.workdir import Workdir


def build(run):
    config, workdir = run
    analyze.run(config, workdir)
    counters = report.run(config, workdir)
    return workdir, counters, workdir.path('report', 'index.html').read_text()


def sections_of(html):
    return re.findall(r'<section id="([a-z-]+)"', html)


@pytest.fixture(scope='module')
def full(tmp_path_factory):
    return build(fake_run.make_run(tmp_path_factory.mktemp('run'), fake_run.make_config(40)))


def test_the_verdict_comes_first_and_every_section_is_there(full):
    _, _, html = full
    assert sections_of(html) == ['verdict', 'experiment', 'lenses', 'quality', 'kept', 'training', 'example', 'run']
    assert html.index('<h1>') < html.index('<table')


def test_one_file_that_loads_nothing(full):
    workdir, _, html = full
    linked = re.findall(r'(?:src|href)="([^"]+)"', html)
    files = {link for link in linked if not link.startswith(('#', 'data:'))}
    assert files and all(workdir.path('report', link).exists() for link in files)  # the figures' own files
    assert not re.search(r'src=|url\((?!#)|@import|<script', html)


def test_every_figure_has_alt_text_svg_and_png(full):
    workdir, counters, html = full
    images = re.findall(r'role="img" aria-label="([^"]*)"', html)
    assert len(images) == html.count('<svg') == counters['figures'] and all(len(alt) > 30 for alt in images)
    folder = workdir.path('report', 'figures')
    svgs = sorted(path.stem for path in folder.glob('*.svg'))
    assert svgs == sorted(path.stem for path in folder.glob('*.png')) and len(svgs) == counters['figures']
    for name in svgs:
        ElementTree.fromstring((folder / f'{name}.svg').read_bytes())
        with (folder / f'{name}.csv').open() as file:
            assert list(csv.DictReader(file)), f'the data of {name}'


def test_figures_have_no_colour_of_their_own_and_no_id_twice(full):
    drawings = re.findall(r'<svg.*?</svg>', full[2], re.DOTALL)
    assert drawings and not any(re.search(r'#[0-9a-f]{6}\b|: (?:white|black)\b', drawing) for drawing in drawings)
    used = {name for drawing in drawings for name in re.findall(r'var\(--(\w+)\)', drawing)}
    for scheme in re.findall(r':root \{ (--c.*?) \}', full[2]):
        assert used <= set(re.findall(r'--(\w+):', scheme))
    ids = [name for drawing in drawings for name in re.findall(r'\bid="([^"]+)"', drawing)]
    assert len(ids) == len(set(ids))
    referred = {name for drawing in drawings for name in re.findall(r'(?:url\(|href=")#([^")]+)', drawing)}
    assert referred <= set(ids)


def test_a_cell_without_survivors_is_shown_not_dropped(full):
    workdir, _, html = full
    assert html.count('0 survivors, not trained') >= 3
    with workdir.path('report', 'tables', 'scores.csv').open() as file:
        rows = list(csv.DictReader(file))
    (row,) = [r for r in rows if r['reason']]
    assert (row['model'], row['data'], row['budget'], row['test']) == ('strong', 'strong', 'low', '')
    assert {r['data'] for r in rows} == {'base', 'gold', 'weak', 'strong'}


def test_equal_cost_has_a_panel_a_lens_and_names_the_lens_that_is_missing(full):
    workdir, _, html = full
    with workdir.path('report', 'figures', 'lenses.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert [r['lens'] for r in rows] == ['params', 'params', 'flops', 'flops', 'chip_seconds', 'chip_seconds']
    assert float(rows[4]['ratio']) == pytest.approx(46 / 21, rel=0.1)  # as many tokens each, nearly
    assert workdir.path('report', 'figures', 'lenses_chip_seconds.png').exists()
    assert not workdir.path('report', 'figures', 'lenses_price.png').exists()
    assert 'Not known for this run: price (needs prices of both models' in html


def test_one_seed_is_called_this_run(full):
    assert 'This run, not this method.' in full[2]


def test_three_seeds_are_not(tmp_path):
    _, _, html = build(fake_run.make_run(tmp_path, fake_run.make_config(20, seeds=(0, 1, 2)), timed=False))
    assert 'This run, not this method.' not in html
    assert 'Mean of 3 training seeds' in html
    assert 'Predicted and real time' not in html


def test_texts_of_models_are_escaped(full):
    assert 'each &amp; gives' in full[2] and 'each & gives' not in full[2]


def test_seconds_are_on_the_page_and_in_no_table(full):
    workdir, _, html = full
    assert 'predicted, s' in html and '171.0' in html
    headers = {path.name: path.read_text().split('\n')[0] for path in workdir.path('report', 'tables').glob('*.csv')}
    assert headers and not any('second' in line for line in headers.values())


def test_tables_and_figures_are_the_same_again(full, tmp_path):
    workdir, _, _ = full
    again, _, _ = build(fake_run.make_run(tmp_path, fake_run.make_config(40)))
    for folder in ('tables', 'figures'):
        for path in workdir.path('report', folder).iterdir():
            assert path.read_bytes() == again.path('report', folder, path.name).read_bytes(), path.name


def test_imported_pools_alone_make_a_report(tmp_path):
    workdir, _, html = build(fake_run.make_import(tmp_path))
    assert sections_of(html) == ['verdict', 'experiment', 'quality-test', 'example', 'run']
    assert 'No model was trained in this run' in html and '175B' in html and 'At equal cost' not in html
    assert not workdir.path('report', 'tables', 'scores.csv').exists()


def test_before_fine_tuning_the_report_speaks_of_the_data(tmp_path):
    _, _, html = build(fake_run.make_run(tmp_path, fake_run.make_config(20), evaluated=False))
    assert 'training' not in sections_of(html)


def test_one_imported_model_with_one_sample_a_problem(tmp_path):
    config = fake_run.make_config(5)
    workdir = Workdir(tmp_path)
    problems = fake_run.make_problems('test', 6)
    workdir.write_problems('test', problems)
    fake_run.write_pool(workdir, 'test', '6B', problems, 1, 0.4, 0, 8, judge=False, tokens=False)
    _, _, html = build((config, workdir))
    assert 'One source only' in html


def test_a_source_that_solves_nothing(tmp_path):
    config = fake_run.make_config(6)
    workdir = Workdir(tmp_path)
    workdir.open(config)
    problems = fake_run.make_problems('train', 6)
    workdir.write_problems('train', problems)
    fake_run.write_pool(workdir, 'train', 'weak', problems, 30, 0.3, 0.2, 8)
    fake_run.write_pool(workdir, 'train', 'strong', problems, 10, 0.5, 0.2, 8)
    store = workdir.grades('train', 'strong')
    wrong = [records.Grade(g.problem_id, g.model, g.sample_index, False, '1', '', False, '') for g in store.read()]
    for path in store.directory.iterdir():
        path.unlink()
    store.append(wrong)
    _, _, html = build((config, workdir))
    assert 'quality' in sections_of(html)


def test_nothing_analyzed_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match='nothing to report.*`cosample analyze` first'):
        report.run(fake_run.make_config(5), Workdir(tmp_path))


def test_pools_of_other_models_among_the_training_problems_claim_no_budget(tmp_path):
    config = fake_run.make_config(6)
    workdir = Workdir(tmp_path)
    workdir.open(config)
    problems = fake_run.make_problems('train', 6)
    workdir.write_problems('train', problems)
    for model in ('6B', '175B'):
        fake_run.write_pool(workdir, 'train', model, problems, 1, 0.4, 0, 8, judge=False, tokens=False)
    _, _, html = build((config, workdir))
    assert 'not matched to one budget' in html
