from cosample_jax.report import surer


def row(**fields):
    return {
        'difference': -0.142,
        'problems': 400,
        'seeds': 1,
        'found': True,
        'halve_problems': 1600,
        'halve_seeds': '',
        'find_problems': '',
        'find_seeds': '',
    } | fields


def test_a_difference_that_is_found_has_its_interval_to_halve():
    assert surer.sentence(row()) == 'To halve the interval: about 1,600 test problems (400 now).'
    text = surer.sentence(row(seeds=3, halve_seeds=14))
    assert text.endswith('about 1,600 test problems or about 14 training seeds (400 now, 3 seeds).')


def test_a_difference_that_is_not_found_says_what_would_find_it():
    text = surer.sentence(row(difference=-0.01, found=False, find_problems=10816))
    assert text == (
        'To find as small a difference as 1.0 points in four of five runs: about 11,000 test problems (400 now).'
    )
    assert surer.sentence(row(difference=0.01, found=False, seeds=2)).count('neither is enough alone') == 1


def test_nothing_finds_a_difference_of_nothing():
    assert surer.sentence(row(difference=0.0, found=False)).startswith('To halve the interval')


def timings(attempts=1):
    return [
        {'stage': 'finetune', 'seconds': 250.0, 'attempts': attempts},
        {'stage': 'evaluate', 'seconds': 40.0, 'attempts': 1},
    ]


def test_more_seeds_cost_what_this_one_took():
    assert surer.seeds(timings(), 18, 1) == (
        'Three seeds would be 36 more trained models: about 8.3 minutes of fine-tuning and 80 seconds of evaluation, '
        'going by this run.'
    )


def test_no_cost_is_told_where_none_is_known_or_needed():
    assert surer.seeds(timings(attempts=2), 18, 1) == surer.seeds([], 18, 1) == surer.seeds(timings(), 18, 3) == ''
