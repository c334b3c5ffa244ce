import numpy as np
import pytest

from cosample_jax.analysis import across, intervals
from cosample_jax.analysis.across import Values


def values(ids, numbers, question='{}?'):
    return Values(ids, {i: question.format(i) for i in ids}, np.atleast_2d(np.asarray(numbers, float)))


def coins(problems, share, seed):
    return (np.random.default_rng(seed).random((1, problems)) < share).astype(float)


IDS = [f'test/{i}' for i in range(200)]


def test_the_same_problems_are_paired_whatever_their_order():
    a, b = coins(200, 0.5, 0), coins(200, 0.4, 1)
    found = across.difference(values(IDS, a), values(IDS[::-1], b[:, ::-1]))
    wanted = intervals.paired_difference(a[0], b[0])
    assert found['paired'] and found['problems'] == 200
    assert (found['difference'], found['difference_low']) == pytest.approx((wanted.value, wanted.low))


def test_a_part_of_the_problems_is_paired_with_its_own():
    a, b = coins(200, 0.5, 0), coins(200, 0.4, 1)
    found = across.difference(values(IDS[:80], a[:, :80]), values(IDS, b))
    assert found['paired'] and found['problems'] == 80
    assert found['difference'] == pytest.approx(a[0, :80].mean() - b[0, :80].mean())


@pytest.mark.parametrize(
    'theirs', [values(IDS, coins(200, 0.4, 1), 'another {}?'), values(['x'] + IDS[1:], coins(200, 0.4, 1))]
)
def test_other_problems_are_not_paired(theirs):
    ours = values(IDS, coins(200, 0.5, 0))
    found = across.difference(ours, theirs)
    assert not found['paired']
    error = np.sqrt(sum(x.values.var(ddof=1) / 200 for x in (ours, theirs)))
    half = (found['difference_high'] - found['difference_low']) / 2
    assert half == pytest.approx(1.96 * error, rel=0.05)


def test_unpaired_sides_of_the_same_numbers_still_differ_by_chance():
    found = intervals.unpaired_difference(coins(200, 0.5, 0), coins(200, 0.5, 0))
    assert found.value == 0 and found.low < -0.05 and found.high > 0.05


def run(name, trained, **config):
    return across.Run(name, {'name': name} | config, {}, {}, [], trained)


def test_a_source_is_compared_with_its_namesake_or_with_every_one():
    def cells(*data):
        return {('test', 'student', 'low', each): values(IDS, coins(200, 0.5, 0)) for each in data}

    first, other = run('a', cells('base', 'gold', 'weak', 'strong')), run('b', cells('base', 'gold', 'weak', 'second'))
    rows = across.score_differences([first, other])
    assert [(r['data'], r['first_data']) for r in rows] == [
        ('gold', 'gold'),
        ('weak', 'weak'),
        ('second', 'weak'),
        ('second', 'strong'),
    ]


def test_only_what_differs_is_a_setting():
    runs = [run('a', {}, seed=0, x=(1, 2)), run('b', {}, seed=1, x=(1, 2), new=3)]
    assert across.settings(runs) == [{'field': 'new', 'a': '', 'b': 3}, {'field': 'seed', 'a': 0, 'b': 1}]


def test_scores_have_wilsons_interval_with_one_seed():
    (row,) = across.scores([run('a', {('test', 'student', 'low', 'weak'): values(IDS, coins(200, 0.5, 0))})])
    low, high = intervals.wilson(int(row['score'] * 200), 200)
    assert (row['score_low'], row['score_high']) == pytest.approx((low, high)) and row['seeds'] == 1
