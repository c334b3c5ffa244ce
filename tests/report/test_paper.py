"""The paper's numbers stand beside a run of the paper's setting, and beside no other."""

import re

from cosample_jax.report import paper


def config(task='math', **variants):
    return {'task': {'name': task}, 'models': {k: {'variant': v} for k, v in (paper.MODELS | variants).items()}}


def matched(metric='coverage', budget='low', difference=0.06, counts=(3.0, 1.0)):
    row = {'metric': metric, 'budget': budget, 'matching': 'compute', 'k_a': counts[0], 'k_b': counts[1]}
    row |= {'a': 0.5 + difference, 'b': 0.5, 'difference': difference}
    clear = 0.001 if abs(difference) > 0.02 else 0.5
    return row | {'difference_low': difference - 0.02, 'difference_high': difference + 0.02, 'p_holm': clear}


def trained(model='student', budget='low', difference=0.05):
    row = matched(budget=budget, difference=difference) | {'model': model, 'split': 'test', 'metric': 'pass@1'}
    return row


def rows(html):
    """First header cell -> the paper's value and the reading of each row."""
    found = re.findall(r'<tr><th scope="row">(.*?)</th><td>(.*?)</td>.*?<td class="text">(.*?)</td></tr>', html)
    return {name: (value, reading) for name, value, reading in found}


def test_each_task_has_its_own_numbers():
    for task, gain, coverage in (('math', '+6.0', '+11%'), ('gsm8k', '+4.2', '+8%')):
        _, _, html = paper.section(config(task), [matched()], [trained()])
        assert rows(html)['pass@1, student trained, low'] == (gain, 'as in the paper')
        assert rows(html)['coverage, low budget'] == (coverage, 'as in the paper')


def test_another_setting_has_none():
    assert paper.section(config('arithmetic'), [matched()], [trained()]) is None
    assert paper.section(config(weak='gemma3_4b'), [matched()], [trained()]) is None
    assert paper.section(config(), [], []) is None


def test_a_budget_or_a_trained_model_that_is_another_is_left_out():
    found = [matched(), matched(budget='high', counts=(12.0, 4.0))]
    _, _, html = paper.section(config(student='gemma_2b'), found, [trained(), trained('weak'), trained('weak', 'high')])
    assert list(rows(html)) == ['pass@1, weak trained, low', 'coverage, low budget']


def test_the_direction_is_told_only_where_it_is_measured():
    def direction(task, model, budget, difference):
        counts = tuple(map(float, paper.BUDGETS[budget]))
        found = [matched(budget=budget, counts=counts)]
        _, _, html = paper.section(config(task), found, [trained(model, budget, difference)])
        return rows(html)[f'pass@1, {model} trained, {budget}'][1]

    assert direction('math', 'student', 'low', -0.05) == 'against the paper'
    assert direction('math', 'student', 'low', 0.01) == 'not measurable here'
    assert direction('gsm8k', 'weak', 'high', 0.05) == 'about even in the paper'
