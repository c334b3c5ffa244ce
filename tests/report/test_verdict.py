from cosample_jax.report import verdict


def difference(value, half=0.02, model='student', budget='low'):
    return {
        'model': model,
        'budget': budget,
        'split': 'test',
        'metric': 'pass@1',
        'difference': value,
        'difference_low': value - half,
        'difference_high': value + half,
        'detectable': 1.4 * half,
        'problems': 400,
    }


def choices(*rows, reason='', gain=0.1):
    scores, gains = [], []
    for row in rows:
        for data in ('weak', 'strong'):
            why = reason if data == 'strong' else ''
            key = {'model': row['model'], 'budget': row['budget'], 'data': data}
            scores.append(key | {'test': '' if why else 0.4, 'reason': why})
            over = {'difference': gain, 'difference_low': gain - 0.03, 'difference_high': gain + 0.03}
            gains.append(key | {'split': 'test'} | over)
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


def test_an_interval_that_ends_at_zero_is_no_difference():
    assert choices(difference(0.02, 0.02))[0].use == 'either'


def test_mixed_results_are_told_as_mixed():
    text = verdict.headline(choices(difference(0.06), difference(-0.06, budget='high'), difference(0, model='weak')))
    assert text.startswith('It depends') and 'won 1 and strong-model data 1, no difference is measurable in 1' in text


def test_some_won_and_the_rest_unclear():
    text = verdict.headline(choices(difference(0.06), difference(0, model='weak'), difference(0, model='strong')))
    assert text.endswith('in 1 of 3 comparisons, and in the other 2 no difference is measurable.')


def test_one_side_without_survivors():
    row = difference(0) | {'difference': '', 'difference_low': '', 'difference_high': '', 'detectable': ''}
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
    row |= {'a': 0.6, 'b': 0.6 - value, 'difference': value}
    row |= {'difference_low': value - 0.02, 'difference_high': value + 0.02}
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
