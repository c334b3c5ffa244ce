import pytest

from cosample_jax.analysis import audit
from cosample_jax.analysis.audit import CUT, FILTER, KEPT, NO_ANSWER, QUOTES, UNGRADED, WRONG, Drawn, Sample
from cosample_jax.records import Problem

PROBLEMS = [Problem(f'p{i}', 'q', '1', 's', level=1 + i // 2, subject='algebra') for i in range(4)]


def drawn(*samples, source='weak'):
    return Drawn('weak', 'low', source, [Sample(*sample) for sample in samples])


EXAMPLE = drawn(
    (0, 10, False, KEPT),
    (0, 20, False, KEPT),
    (0, 30, False, KEPT),
    (1, 40, False, KEPT),
    (1, 50, False, WRONG),
    (2, 99, True, CUT),
    (3, 20, False, NO_ANSWER),
)


@pytest.mark.parametrize(
    ('expected', 'told'),
    [
        (KEPT, {'kept': True, 'correct': False, 'finish': 'length'}),  # without a filter everything is learned from
        (QUOTES, {'correct': True, 'quotes': lambda: True}),
        (FILTER, {'correct': True}),
        (CUT, {'finish': 'length', 'answer': ''}),
        (UNGRADED, {'symbolic': 'ungraded: timeout'}),
        (NO_ANSWER, {'answer': ''}),
        (WRONG, {'symbolic': 'no'}),
    ],
)
def test_the_first_reason_counts(expected, told):
    usual = {'kept': False, 'correct': False, 'answer': '7', 'finish': 'stop', 'symbolic': '', 'quotes': lambda: False}
    assert audit.fate(**(usual | told)) == expected


def test_drops_account_for_every_sample():
    (row,) = audit.drops([EXAMPLE])
    assert (row['samples'], row[KEPT], row[WRONG], row[CUT], row[NO_ANSWER]) == (7, 4, 1, 1, 1)
    assert row['samples'] == row[KEPT] + sum(row[reason] for reason in audit.REASONS)


def test_evenness_counts_problems_without_survivors():
    (row,) = audit.evenness([EXAMPLE], 4)
    assert (row['without'], row['mean'], row['most'], row['top']) == (2, 1.0, 3, 0.75)
    assert row['effective'] == pytest.approx(1 / (0.75**2 + 0.25**2))
    even = drawn(*[(i, 5, False, KEPT) for i in range(4)])
    (row,) = audit.evenness([even], 4)
    assert row['effective'] == 4 and row['top'] == 0.25
    (nothing,) = audit.evenness([drawn((0, 5, False, WRONG))], 4)
    assert (nothing['effective'], nothing['top'], nothing['without']) == ('', '', 4)


def test_histogram_has_every_count_up_to_the_most():
    rows = audit.histogram([EXAMPLE], 4)
    assert [(row['survivors'], row['problems']) for row in rows] == [(0, 2), (1, 1), (2, 0), (3, 1)]


def test_groups_are_shares_of_samples_by_level_and_length():
    rows = audit.groups([EXAMPLE], PROBLEMS)
    found = {(row['by'], row['group']): (row['samples'], row['kept']) for row in rows}
    assert found == {
        ('level', '1'): (5, 4),
        ('level', '2'): (2, 0),
        ('length', '1–20 tokens'): (3, 2),
        ('length', '21–30 tokens'): (1, 1),
        ('length', '31–40 tokens'): (1, 1),
        ('length', '41–50 tokens'): (1, 0),
        ('length', CUT): (1, 0),
    }  # one subject alone is no group
    for row in rows:
        assert row['rate_low'] <= row['rate'] <= row['rate_high'] and row['rate_low'] < row['rate_high'], row


def test_sources_share_the_edges_of_the_lengths():
    other = drawn((0, 25, False, KEPT), (1, 47, False, WRONG), source='strong')
    rows = [row for row in audit.groups([EXAMPLE, other], PROBLEMS) if row['by'] == 'length']
    found = {source: [row['group'] for row in rows if row['source'] == source] for source in ('weak', 'strong')}
    assert found == {
        'weak': ['1–20 tokens', '26–30 tokens', '31–47 tokens', '48–50 tokens', CUT],
        'strong': ['21–25 tokens', '31–47 tokens'],
    }


def test_lengths_that_were_not_recorded_are_no_groups():
    rows = audit.groups([drawn((0, 0, False, KEPT), (2, 0, False, WRONG))], PROBLEMS)
    assert {row['by'] for row in rows} == {'level'}


def test_cells_tell_what_they_saw_of_each_source():
    part = {'kept': 5, 'unique': 4, 'problems': 3, 'examples': 40, 'epochs': 8.0, 'tokens': 900, 'loss_tokens': 500}
    cell = {'model': 'student', 'data': 'mix', 'budget': 'low', 'seed': 0, 'too_long': 1, 'contaminated': 2}
    rows = audit.seen([cell | {'seen': [{'source': s} | part for s in ('weak', 'strong')]}, cell])
    assert [row['source'] for row in rows] == ['weak', 'strong']
    assert rows[0]['tokens'] == 900 and rows[0]['contaminated'] == 2
