import pytest

from cosample_jax.analysis import votes


@pytest.mark.parametrize(
    'answers, expected',
    [
        (['1', '2', '2'], '2'),
        (['2', '1', '1', '2'], '2'),  # a tie goes to the answer sampled first
        (['', '3', '', ''], '3'),  # samples without an answer never vote
        (['', ''], ''),
        ([], ''),
    ],
)
def test_majority(answers, expected):
    assert votes.majority(answers) == expected


def test_majority_at_takes_the_first_samples():
    answers = ['7', '8', '8', '7', '7']
    assert [votes.majority_at(answers, k) for k in (1, 2, 3, 5)] == ['7', '7', '8', '7']


@pytest.mark.parametrize('k', [0, 3])
def test_more_votes_than_samples_is_an_error(k):
    with pytest.raises(ValueError, match='maj@'):
        votes.majority_at(['1', '2'], k)
