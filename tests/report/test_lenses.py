import pytest

from cosample_jax.report import lenses


def row(**fields):
    return {
        'model_a': 'weak',
        'model_b': 'strong',
        'end': 9.0,
        'start_winner': 'weak',
        'end_winner': 'strong',
        'crossing': 48_515_900.0,
        'share': 0.99,
    } | fields


def test_a_flip_is_told_with_its_cost_and_doubt():
    assert lenses.reading(row()) == 'weak better up to 48.5M, strong beyond'
    assert lenses.reading(row(share=0.58)).endswith('(unsure: so in 58% of the draws)')
    assert lenses.reading(row(crossing='', end_winner='weak')) == 'weak better, no flip in the range sampled'
    assert lenses.reading(row(crossing='', start_winner='', end_winner='')) == 'equal in the range sampled'
    assert lenses.reading(row(end='', start_winner='')) == 'no cost at which both were sampled'
    assert lenses.reading(row(end='')) == 'weak better, all its samples costing no more than one of strong'


def test_quantities_stay_short():
    told = [lenses.quantity(x) for x in (0, 0.00496, 1, 999, 1000, 48.5e6, 1.23e16, 5e22)]
    assert told == ['0', '0.00496', '1', '999', '1k', '48.5M', '12.3P', '5e+04E']


def test_ticks_are_round_and_few():
    assert lenses._ticks(4.8e6, 1.6e8) == [5e6, 1e7, 2e7, 5e7, 1e8]
    assert lenses._ticks(3e-5, 5e-3) == pytest.approx([1e-4, 1e-3]), 'long labels, fewer of them'
    for low, high in ((1, 1e9), (3, 4e3), (0.0016, 0.057)):
        ticks = lenses._ticks(low, high)
        assert 2 <= len(ticks) <= 5 and low <= min(ticks) and max(ticks) <= high


def test_without_a_lens_the_reason_is_told():
    assert lenses.section(lenses.Equal(), None) is None
    _, _, html = lenses.section(lenses.Equal(note='runs/x has imported samples'), None)
    assert 'not known: runs/x has imported samples.' in html


def test_the_verdict_names_what_each_lens_says():
    def flip(lens, **fields):
        return row(lens=lens, metric='coverage', **fields)

    never = {'crossing': '', 'start_winner': 'strong'}
    text = lenses.sentence([flip('params', **never), flip('flops'), flip('chip_seconds', **never)])
    assert text == (
        'Problems solved at equal cost: by 2P FLOPs and chip-seconds, strong better, no flip in the range sampled; '
        'by all FLOPs, weak better up to 48.5M, strong beyond.'
    )
    assert lenses.sentence([]) == lenses.sentence([flip('flops', end='', start_winner='')]) == ''
