from statistics import NormalDist

from cosample_jax.analysis import significance
from cosample_jax.report import cells, drawing, figures, verdict


def measured(value, half):
    """The columns of a difference whose 95% interval is so wide, p as of a normal one; Holm's over it alone."""
    p = 2 * NormalDist().cdf(-abs(value) / (half / 1.96))
    ends = {'difference': value, 'difference_low': value - half, 'difference_high': value + half}
    return ends | {'p': p, 'p_holm': p, 'detectable': 1.4 * half, 'problems': 400}


def difference(value, half=0.02, model='student', budget='low'):
    return {
        'model': model,
        'budget': budget,
        'split': 'test',
        'metric': 'pass@1',
    } | measured(value, half)


def choices(*rows, reason='', gain=0.1):
    scores, gains = [], []
    for row in rows:
        for data in ('weak', 'strong'):
            why = reason if data == 'strong' else ''
            key = {'model': row['model'], 'budget': row['budget'], 'data': data}
            scores.append(key | {'test': '' if why else 0.4, 'reason': why})
            gains.append(key | {'split': 'test'} | measured(gain, 0.03))
    return verdict.choices(rows, scores, gains)


def test_all_won():
    chosen = choices(difference(0.06), difference(0.05, budget='high'))
    assert [c.use for c in chosen] == ['weak', 'weak'] and chosen[0].figure == '+6.0 points'
    assert (
        verdict.headline(chosen) == 'Use the weak model’s data: it trained the better model in each of 2 comparisons.'
    )


def test_strong_can_win_too():
    chosen = choices(difference(-0.06))
    assert chosen[0].use == 'strong' and chosen[0].figure == '−6.0 points'
    assert verdict.headline(chosen).startswith('Use the strong model’s data')


def test_no_difference_measurable_names_what_would_go_unseen():
    chosen = choices(difference(0.01), difference(0.0, 0.04, budget='high'))
    assert {c.title for c in chosen} == {'No difference measurable'}
    assert 'No difference measurable' in verdict.headline(chosen)
    assert 'gaps under 2.8 to 5.6 points would go unseen' in verdict.headline(chosen)
    assert 'reliably find is 2.8 points' in chosen[0].detail


def test_significant_is_what_holm_leaves_at_five_percent():
    at, above = (difference(0.02) | {'p': p} for p in (0.05, 0.0501))
    assert [choices(row)[0].use for row in (at, above)] == ['weak', 'either']


def test_what_is_significant_alone_need_not_be_among_others():
    (alone,) = choices(difference(0.022))  # p 0.03
    assert alone.use == 'weak' and 'luck' not in alone.detail
    chosen = choices(difference(0.022), difference(0.0, budget='high'))
    assert [c.use for c in chosen] == ['either', 'either']
    assert 'interval of the difference +0.2 to +4.2, without zero but not beyond luck among 2' in chosen[0].detail
    assert 'luck' not in chosen[1].detail
    assert verdict.headline(chosen).startswith('No difference measurable')


def test_only_the_choices_are_weighed_among_one_another():
    other = difference(0.0) | {'metric': 'maj@4'}
    assert choices(difference(0.022), other)[0].use == 'weak'


def test_tables_star_what_survives_and_say_what_only_stands_alone():
    rows = significance.with_holm([difference(0.06), difference(0.022), difference(-0.05), difference(0.01)])
    assert [cells.reading(r, 'A', 'B') for r in rows] == [
        'A higher',
        'no measurable difference: only by itself, not among all',
        'B higher',
        'no measurable difference',
    ]
    assert ['*' in cells.difference(r) for r in rows] == [True, False, True, False]
    assert '4 comparisons' in cells.holm_note(rows)


def test_mixed_results_are_told_as_mixed():
    text = verdict.headline(choices(difference(0.06), difference(-0.06, budget='high'), difference(0, model='weak')))
    assert text.startswith('It depends') and 'won 1 and strong-model data 1, no difference is measurable in 1' in text


def test_some_won_and_the_rest_unclear():
    text = verdict.headline(choices(difference(0.06), difference(0, model='weak'), difference(0, model='strong')))
    assert text.endswith('in 1 of 3 comparisons, and in the other 2 no difference is measurable.')


def test_one_side_without_survivors():
    row = difference(0) | {'difference': '', 'difference_low': '', 'difference_high': '', 'p': '', 'detectable': ''}
    chosen = choices(row, reason='0 survivors, not trained')
    assert chosen[0].use == 'weak' and chosen[0].figure == ''
    assert chosen[0].detail == 'strong data: 0 survivors, not trained; the weak data reached 40.0%'
    assert verdict.headline(chosen) == 'Only weak-model data could be trained on; there is nothing to compare.'


def test_caution_where_training_does_not_help():
    assert choices(difference(0.06))[0].caution == ''
    assert 'No measurable gain' in choices(difference(0.06), gain=0.01)[0].caution
    assert 'worse than its few-shot base' in choices(difference(0.06), gain=-0.2)[0].caution


def test_points_use_a_true_minus_and_no_negative_zero():
    assert verdict.points(-0.0001) == '0.0' and verdict.points(-0.1) == '−10.0' and verdict.points(0.1, False) == '10.0'


def quality(value, budget='low', matching='compute'):
    row = {
        'budget': budget,
        'matching': matching,
        'model_a': 'weak',
        'model_b': 'strong',
        'k_a': 3.0,
        'k_b': 1.0,
    }
    row |= {'a': 0.6, 'b': 0.6 - value} | measured(value, 0.02)
    return [row | {'metric': 'coverage'}, row | {'metric': 'diversity'}]


def test_quality_headline_without_trained_models():
    assert verdict.quality_headline(quality(0.06)) == (
        'Weak solves more problems than strong at the low budget (+6.0 points).'
    )
    assert 'No difference measurable' in verdict.quality_headline(quality(0.01))
    assert 'nothing to compare' in verdict.quality_headline([])


def test_quality_sentence_says_when_nothing_is_measurable():
    (sentence,) = verdict.quality_sentences(quality(0.01))
    assert sentence.startswith('At the low budget, weak (3 samples a problem) solves 60.0% of the problems')
    assert 'no measurable difference (+1.0 points' in sentence
    assert verdict.quality_sentences(quality(0.1, matching='number')) == []


def test_the_figure_fills_what_the_verdict_names():
    rows = [
        {'model': model, 'budget': 'low', 'split': 'test', 'difference': difference}
        | {'difference_low': low, 'difference_high': high, 'p_holm': p}
        for model, difference, low, high, p in (
            ('beyond luck', -0.05, -0.07, -0.03, 0.01),
            ('by itself', -0.04, -0.07, -0.002, 0.15),
            ('not even that', -0.01, -0.03, 0.01, 0.5),
        )
    ]
    lines = figures.forest(rows).axes[0].lines
    orange = drawing.STYLES['strong'][0]
    marked = [(line.get_color(), line.get_markerfacecolor()) for line in lines if line.get_marker() == 'o']
    assert marked == [(orange, orange), (orange, drawing.PAPER), (drawing.MUTED, drawing.PAPER)]
