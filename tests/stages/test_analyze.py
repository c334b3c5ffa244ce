import csv
import dataclasses
import itertools
import json

import fake_run
import pytest

from cosample_jax import cells, records
from cosample_jax.analysis import audit
from cosample_jax.errors import UserError
from cosample_jax.stages import analyze


def load(workdir, purpose='train'):
    return json.loads(workdir.path('analysis', f'{purpose}.json').read_text())


@pytest.fixture(scope='module')
def analyzed(tmp_path_factory):
    config, workdir = fake_run.make_run(tmp_path_factory.mktemp('run'), fake_run.make_config(30))
    counters = analyze.run(config, workdir)
    return config, workdir, counters


def test_counters_and_files(analyzed):
    config, workdir, counters = analyzed
    samples = len(workdir.pool('train', 'weak')) + len(workdir.pool('train', 'strong'))
    assert counters == {'train': {'problems': 30, 'samples': samples}}
    with workdir.path('analysis', 'train_curves.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(load(workdir)['curves'])
    assert float(rows[0]['coverage']) == load(workdir)['curves'][0]['coverage']


def test_coverage_at_one_is_the_share_of_correct_samples(analyzed):
    _, workdir, _ = analyzed
    for model in ('weak', 'strong'):
        grades = workdir.grades('train', model).read()
        at_one = next(r for r in load(workdir)['curves'] if (r['model'], r['k']) == (model, 1))
        assert at_one['coverage'] == pytest.approx(sum(g.correct for g in grades) / len(grades), rel=1e-5)
        assert at_one['diversity'] == pytest.approx(at_one['coverage'])
        assert at_one['coverage_low'] <= at_one['coverage'] <= at_one['coverage_high']


def test_at_the_whole_pool_the_estimators_are_plain_counts(analyzed):
    _, workdir, _ = analyzed
    document = load(workdir)
    high = next(r for r in document['kept'] if (r['budget'], r['model']) == ('high', 'strong'))
    last = [r for r in document['curves'] if r['model'] == 'strong'][-1]
    assert last['coverage'] == pytest.approx(high['problems_solved'] / 30, rel=1e-5)
    assert last['diversity'] == pytest.approx(high['unique'] / 30, rel=1e-5)
    assert last['diversity_skeleton'] == pytest.approx(high['unique_skeleton'] / 30, rel=1e-5)


def test_costs_are_2pw_measured_and_at_equal_length(analyzed):
    config, workdir, _ = analyzed
    document = load(workdir)
    tokens = {m: [s.num_tokens for s in workdir.pool('train', m).read()] for m in ('weak', 'strong')}
    means = {m: sum(t) / len(t) for m, t in tokens.items()}
    for row in document['curves']:
        per_token = config.budget.flops_per_token[row['model']]
        assert row['flops_measured'] == pytest.approx(row['k'] * per_token * means[row['model']], rel=1e-5)
        assert row['flops_equal_length'] == pytest.approx(row['k'] * per_token * sum(means.values()) / 2, rel=1e-5)


def test_compute_matched_and_number_matched_counts(analyzed):
    config, workdir, _ = analyzed
    matched = {(r['budget'], r['matching']): r for r in load(workdir)['matched'] if r['metric'] == 'coverage'}
    assert matched['low', 'compute']['k_b'] == 1 and matched['high', 'compute']['k_b'] == 10
    assert matched['high', 'compute']['k_a'] == pytest.approx(config.budget.weak.high, abs=0.5)
    assert matched['high', 'number']['k_a'] == matched['high', 'number']['k_b'] == 10
    for row in matched.values():
        assert row['difference'] == pytest.approx(row['a'] - row['b'], abs=1e-5)
        assert row['difference_low'] <= row['difference'] <= row['difference_high'] and row['detectable'] > 0


def test_overlap_kept_and_false_positives_count_the_first_samples(analyzed):
    _, workdir, _ = analyzed
    document = load(workdir)
    solved = {m: set() for m in ('weak', 'strong')}
    for model in solved:
        count = 10 if model == 'strong' else 30
        for grade in workdir.grades('train', model).read():
            if grade.correct and grade.sample_index < count:
                solved[model].add(grade.problem_id)
    row = next(r for r in document['overlap'] if (r['budget'], r['matching']) == ('high', 'compute'))
    assert row['both'] == len(solved['weak'] & solved['strong'])
    assert row['only_a'] == len(solved['weak'] - solved['strong'])
    assert row['both'] + row['only_a'] + row['only_b'] + row['neither'] == row['problems'] == 30
    judgments = workdir.judgments('train', 'strong', 'steps').read()
    kept = next(r for r in document['kept'] if (r['budget'], r['model']) == ('high', 'strong'))
    assert (kept['judged'], kept['false_positives']) == (len(judgments), sum(j.verdict == 'wrong' for j in judgments))
    assert kept['fpr_low'] < kept['fpr'] < kept['fpr_high']


def test_the_audit_accounts_for_every_sample_of_each_budget(analyzed):
    config, workdir, _ = analyzed
    document = load(workdir)
    for row in document['audit_drops']:
        problems = workdir.problems('train')
        counts = {p.id: cells.sample_count(config, row['source'], row['budget'], p.id) for p in problems}
        grades = [g for g in workdir.grades('train', row['source']).read() if g.sample_index < counts[g.problem_id]]
        assert (row['samples'], row['kept']) == (len(grades), sum(g.correct for g in grades))
        assert row['samples'] == row['kept'] + sum(row[reason] for reason in audit.REASONS)
        assert row['cut at the limit'] == sum(not g.answer for g in grades) and row['wrong answer'] > 0
        same = [r for r in document['audit_survivors'] if (r['source'], r['budget']) == (row['source'], row['budget'])]
        assert sum(r['problems'] for r in same) == len(problems)
        assert sum(r['survivors'] * r['problems'] for r in same) == row['kept']
    assert {(r['data'], r['budget']) for r in document['audit_drops']} == set(
        itertools.product(config.roles.sources, config.budget.levels)
    )
    assert {r['by'] for r in document['audit_groups']} == {'level', 'length'}


def test_a_right_solution_that_quotes_a_test_problem_is_dropped_for_that(tmp_path):
    config, workdir = fake_run.make_run(tmp_path, fake_run.make_config(5))
    store = workdir.pool('train', 'weak')
    samples = store.read()
    right = next(g for g in workdir.grades('train', 'weak').read() if g.correct)
    for path in store.directory.iterdir():
        path.unlink()
    quoted = workdir.problems('test')[0].question + ' ' + workdir.problems('test')[0].question
    key = right.problem_id, right.sample_index
    store.append([dataclasses.replace(s, text=quoted) if (s.problem_id, s.sample_index) == key else s for s in samples])
    analyze.run(config, workdir)
    rows = {(r['source'], r['budget']): r['quotes a test problem'] for r in load(workdir)['audit_drops']}
    assert rows['weak', 'high'] == 1 and rows['strong', 'high'] == 0


def test_the_same_pools_give_the_same_bytes(analyzed, tmp_path):
    _, workdir, _ = analyzed
    config, again = fake_run.make_run(tmp_path, fake_run.make_config(30))
    analyze.run(config, again)
    for path in workdir.path('analysis').iterdir():
        assert path.read_bytes() == again.path('analysis', path.name).read_bytes(), path.name


def test_imported_models_are_compared_by_number_on_their_common_problems(tmp_path):
    config, workdir = fake_run.make_import(tmp_path)
    assert analyze.run(config, workdir)['test']['problems'] == 37
    document = load(workdir, 'test')
    assert document['left_out'] == 3
    assert [r['model'] for r in document['models']] == ['175B', '6B']
    assert {r['matching'] for r in document['matched']} == {'number'}
    assert all(r['flops_measured'] == '' for r in document['curves'])
    assert all(r['fpr'] == '' and r['budget'] == 'pool' for r in document['kept'])


def test_a_sample_without_a_grade_is_a_user_error(tmp_path):
    config, workdir = fake_run.make_run(tmp_path, fake_run.make_config(5))
    workdir.pool('train', 'weak').append([records.Sample('train/0', 'weak', 999, 'x', [], 'stop', 0.0, 0.0, 1, 1)])
    with pytest.raises(UserError, match=r'without a grade \(train/0, sample 999\).*`cosample grade`'):
        analyze.run(config, workdir)


def test_a_pool_smaller_than_its_budget_is_a_user_error(tmp_path):
    _, workdir = fake_run.make_run(tmp_path, fake_run.make_config(5))
    with pytest.raises(UserError, match='high budget gives .*`cosample sample` first'):
        analyze.run(fake_run.make_config(5, budget__strong__high=11), workdir)


def test_no_pool_is_a_user_error(tmp_path):
    from cosample_jax.workdir import Workdir

    with pytest.raises(UserError, match='no samples to analyze'):
        analyze.run(fake_run.make_config(5), Workdir(tmp_path))


def test_models_without_a_common_problem_are_a_user_error(tmp_path):
    config, workdir = fake_run.make_import(tmp_path)
    problems = fake_run.make_problems('other', 2)
    fake_run.write_pool(workdir, 'test', '3B', problems, 4, 0.5, 0, 8)
    with pytest.raises(UserError, match='sampled by all of 175B, 3B, 6B'):
        analyze.run(config, workdir)
