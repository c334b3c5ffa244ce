import numpy as np
import pytest

from cosample_jax.analysis import agreement
from cosample_jax.analysis.agreement import Confusion
from cosample_jax.records import UNCHECKED, UNPARSABLE, VALID, WRONG


def test_confusion_counts_what_both_decided():
    judge = {1: WRONG, 2: WRONG, 3: VALID, 4: VALID, 5: UNPARSABLE, 6: WRONG}
    people = {1: WRONG, 2: VALID, 3: WRONG, 4: VALID, 5: WRONG, 7: WRONG, 6: UNCHECKED}
    assert agreement.confusion(judge, people) == Confusion(1, 1, 1, 1)


def test_kappa_of_a_textbook():
    value, low, high = agreement.kappa(Confusion(20, 5, 10, 15))  # p_o 0.7, p_e 0.5
    assert value == pytest.approx(0.4)
    assert low < 0.4 < high
    # Cohen's own standard error, sqrt(p_o (1 - p_o) / (n (1 - p_e)^2)), gives nearly the same width.
    assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(0.7 * 0.3 / (50 * 0.25)), rel=0.05)


@pytest.mark.parametrize('counts', [Confusion(0, 0, 0, 9), Confusion(9, 0, 0, 0), Confusion(0, 0, 0, 0)])
def test_kappa_of_one_class_is_undefined(counts):
    assert agreement.kappa(counts).value is None


def test_perfect_agreement_is_not_certainty():
    value, low, high = agreement.kappa(Confusion(5, 0, 0, 5))
    assert value == high == 1 and low < 0.7


def test_no_kappa_is_below_minus_one():
    assert agreement.kappa(Confusion(0, 1, 0, 3)).low == -1


def test_kappas_interval_covers():
    rng = np.random.default_rng(0)
    shares = np.array([0.15, 0.08, 0.05, 0.72])
    truth = agreement.kappa(Confusion(*(shares * 1e6).astype(int))).value
    found = [agreement.kappa(Confusion(*map(int, row))) for row in rng.multinomial(100, shares, size=1000)]
    assert 0.92 < np.mean([k.low <= truth <= k.high for k in found]) < 0.99


def test_the_correction_undoes_the_judges_errors():
    # True rate 0.3; the judge finds 80% of the wrong and calls 10% of the valid wrong: it reports 0.31.
    value, low, high, reason = agreement.corrected(310, 1000, Confusion(80, 10, 20, 90))
    assert value == pytest.approx(0.3) and low < 0.3 < high and not reason
    exact = agreement.corrected(310, 1000, Confusion(10_000, 0, 0, 10_000))
    assert exact.value == pytest.approx(0.31) and exact.high - exact.low == pytest.approx(0.057, abs=0.002)


@pytest.mark.parametrize(
    ('wrong', 'judged', 'counts', 'reason'),
    [
        (5, 50, Confusion(0, 5, 0, 45), 'no wrong'),
        (5, 50, Confusion(5, 0, 45, 0), 'no valid'),
        (5, 50, Confusion(5, 20, 5, 20), 'no better than chance'),
        (0, 0, Confusion(5, 1, 1, 5), 'nothing judged'),
    ],
)
def test_what_cannot_be_corrected_says_why(wrong, judged, counts, reason):
    result = agreement.corrected(wrong, judged, counts)
    assert result.value is None and reason in result.reason


def test_the_correction_stays_within_zero_and_one():
    result = agreement.corrected(10, 100, Confusion(8, 12, 2, 78))
    assert result.value == 0 and 0 == result.low < result.high < 0.2


@pytest.mark.parametrize('sensitivity,specificity', [(0.7, 0.95), (0.9, 0.85)])
def test_the_corrected_interval_covers_the_true_rate(sensitivity, specificity):
    """As people are asked here: 100 labels, a random part of the 500 that the judge judged; true rate 0.2."""
    rng = np.random.default_rng(1)
    runs = 1500
    wrong = rng.random((runs, 500)) < 0.2
    says = np.where(wrong, rng.random((runs, 500)) < sensitivity, rng.random((runs, 500)) > specificity)
    covered = raw = 0
    for truth, said in zip(wrong, says, strict=True):
        t, s = truth[:100], said[:100]
        counts = Confusion(*(int(x.sum()) for x in (s & t, s & ~t, ~s & t, ~s & ~t)))
        _, low, high, _ = agreement.corrected(int(said.sum()), 500, counts)
        covered += low <= 0.2 <= high
        low, high = agreement.intervals.wilson(int(said.sum()), 500)
        raw += low <= 0.2 <= high
    assert 0.94 < covered / runs < 0.995
    assert raw / runs < 0.85  # what it is for


def test_tables():
    keys = range(10)
    people = {k: WRONG if k < 4 else VALID for k in keys}
    judged = {
        'weak': {
            'strong': {k: WRONG if k in (0, 1, 2, 9) else VALID for k in keys} | {10: WRONG, 11: UNPARSABLE},
            'people': people,
        },
        'strong': {'strong': {0: VALID, 1: UNCHECKED}},
    }
    rows = agreement.judges_table(judged)
    assert [(r['model'], r['judge'], r['judged'], r['false_positives']) for r in rows] == [
        ('weak', 'strong', 11, 5),
        ('weak', 'people', 10, 4),
        ('strong', 'strong', 1, 0),
    ]
    first, second, third = rows
    assert first['unparsable'] == 1 and third['unchecked'] == 1
    assert first['corrected'] == pytest.approx((5 / 11 + 5 / 6 - 1) / (3 / 4 + 5 / 6 - 1))
    assert second['corrected'] == '' and third['corrected'] == 0  # the pooled errors hold for every model
    (row, alone) = agreement.agreement_table(judged)
    assert (row['model'], row['labelled'], row['wrong_wrong'], row['wrong_valid']) == ('all', 10, 3, 1)
    assert (
        alone['model'] == 'weak' and row['sensitivity'] == 0.75 and row['kappa_low'] < row['kappa'] < row['kappa_high']
    )
    del judged['weak']['people']
    assert agreement.agreement_table(judged) == [] and agreement.judges_table(judged)[0]['corrected'] == ''


def test_sizes_of_the_paper():
    half, detectable = agreement.precision(50)
    assert half == pytest.approx(0.109, abs=0.003) and detectable == pytest.approx(0.224, abs=0.001)
    assert agreement.precision(500)[1] == pytest.approx(0.0709, abs=0.001)
    assert '±10' in agreement.sizes(50) and agreement.sizes(0) == 'nothing to judge'
