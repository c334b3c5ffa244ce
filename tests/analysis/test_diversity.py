import itertools

import numpy as np
import pytest

from cosample_jax.analysis import diversity


def test_equals_enumeration():
    samples = ['a', 'a', 'b', None, None, 'c', 'a']  # None: not correct
    counts = diversity.multiplicities([[s for s in samples if s]])
    for k in range(len(samples) + 1):
        draws = list(itertools.combinations(samples, k))
        expected = sum(len(set(draw) - {None}) for draw in draws) / len(draws)
        assert diversity.diversity(len(samples), counts, [k])[0, 0] == pytest.approx(expected)


def test_problems_do_not_mix_and_none_solved_gives_zero():
    values = diversity.diversity([4, 4, 2], [[2, 1], [], [2]], [1, 2])
    np.testing.assert_allclose(values, [[3 / 4, 1 - 1 / 6 + 1 / 2], [0, 0], [1, 1]])


def test_one_k_a_problem():
    values = diversity.diversity([3, 3], [[1], [1]], [[2], [3]])
    np.testing.assert_allclose(values[:, 0], [2 / 3, 1])


def test_more_draws_than_samples_is_an_error_even_where_nothing_was_solved():
    with pytest.raises(ValueError, match='k = 3 exceeds the 2 samples'):
        diversity.diversity([5, 2], [[1], []], [3])


def test_exact_text_ignores_surrounding_white_space_only():
    assert diversity.multiplicities([list(map(diversity.exact, ['x = 1 ', 'x = 1', 'x  = 1']))]) == [[2, 1]]


@pytest.mark.parametrize(
    'text, expected',
    [
        ('Then 3 x 1,200 = 3600 apples.', '3 * 1200 = 3600'),
        ('3 × 1200 = 3600', '3 * 1200 = 3600'),
        ('48/2 = <<48/2=24>>24 clips', '48 / 2 = 24'),
        ('A well-known 7 - 2 = 5', '7 - 2 = 5'),
        ('(1+2)*3', '( 1 + 2 ) * 3'),
        ('1.5 kg, 2 boxes', '1.5 2'),
        ('no numbers', ''),
    ],
)
def test_skeleton(text, expected):
    assert diversity.skeleton(text) == expected


def test_skeleton_joins_what_only_wording_parts():
    texts = ['Tom has 2 + 3 = 5 pens.', 'In all: 2 + 3 = 5.', '3 + 2 = 5']
    counts = {name: diversity.multiplicities([list(map(form, texts))]) for name, form in diversity.FORMS.items()}
    assert counts == {'exact': [[1, 1, 1]], 'skeleton': [[2, 1]]}
