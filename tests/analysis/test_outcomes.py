import pytest

from cosample_jax.analysis import outcomes


def cell(data, budget='low', seed=0, right=(1, 0, 1, 0), maj=None, **fields):
    results = {'test': {'pass@1': list(right), 'maj@k': {'4': list(maj or right)}, 'fpr': {'wrong': 1, 'kept': 4}}}
    defaults = {
        'trained': True,
        'reason': '',
        'kept': 7,
        'unique': 5,
        'problems': 3,
        'epochs': 2.0,
        'steps': 40,
    }
    defaults |= {'learning_rate': 1e-3, 'best_step': 20, 'validation_accuracy': 0.5, 'results': results}
    return {'model': 'student', 'data': data, 'budget': budget, 'seed': seed} | defaults | fields


def untrained(data):
    return cell(data, trained=False, reason='0 survivors, not trained', kept=0, results={})


def test_rows_stand_base_gold_weak_strong():
    cells = [
        cell('strong'),
        cell('weak', 'high'),
        cell('weak'),
        cell('gold', ''),
        cell('base', '', trained=False),
    ]
    assert [(r['data'], r['budget']) for r in outcomes.scores(cells)] == [
        ('base', ''),
        ('gold', ''),
        ('weak', 'low'),
        ('strong', 'low'),
        ('weak', 'high'),
    ]


def test_scores_have_intervals_and_survive_a_cell_without_kept_solutions():
    weak, strong = outcomes.scores([cell('weak', maj=(1, 1, 1, 0)), untrained('strong')])
    assert (weak['test'], weak['test_maj@4'], weak['test_fpr'], weak['seeds']) == (0.5, 0.75, 0.25, 1)
    assert weak['test_low'] < 0.5 < weak['test_high'] and weak['reason'] == ''
    assert strong['reason'] == '0 survivors, not trained' and strong['test'] == '' and strong['kept'] == 0
    assert list(weak) == list(strong)


def test_seeds_are_averaged():
    (row,) = outcomes.scores([cell('weak', right=(1, 1, 1, 1)), cell('weak', right=(0, 0, 1, 1), seed=1)])
    assert row['test'] == 0.75 and row['seeds'] == 2 and 0 <= row['test_low'] < 0.75 < row['test_high'] <= 1


def test_differences_are_weak_minus_strong_on_the_same_problems():
    cells = [cell('weak', right=(1, 1, 1, 0)), cell('strong', right=(1, 0, 0, 0), maj=(1, 1, 1, 1))]
    rows = {row['metric']: row for row in outcomes.differences(cells)}
    assert rows['pass@1']['difference'] == 0.5 and rows['pass@1']['problems'] == 4
    assert rows['maj@4']['difference'] == -0.25


def test_a_missing_side_is_a_row_with_its_reason():
    rows = outcomes.differences([cell('weak'), untrained('strong')])
    assert [(r['metric'], r['difference'], r['reason']) for r in rows] == [
        ('pass@1', '', '0 survivors, not trained'),
        ('maj@4', '', '0 survivors, not trained'),
    ]
    assert outcomes.differences([cell('weak')]) == []  # never planned


def test_gain_over_base():
    (row,) = outcomes.gain_over_base([cell('base', '', right=(0, 0, 1, 0), trained=False), cell('weak')])
    assert (row['data'], row['split'], row['difference']) == ('weak', 'test', pytest.approx(0.25))
