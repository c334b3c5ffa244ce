"""Real answers of data sets: each is extracted and accepted, however it is written; near and wrong ones are not."""

from collections import Counter

import pytest

from benchmarks import answers as measured
from cosample_jax.grading import answers, equivalence, expressions
from cosample_jax.tasks import gsm8k

MATH_MARKERS = ('\\boxed',)


@pytest.fixture(scope='module')
def golds(shared_data):
    """name of the data set -> the final answer of each of its solutions."""
    return {
        name: [answers.extract(row['solution'], MATH_MARKERS)[0] for row in measured.rows(name)]
        for name in measured.MATH_SOURCES
    }


def test_every_math_solution_is_extracted_and_accepted(shared_data, golds):
    """All 12,500 and 3 x 1,745, but the two with an empty box."""
    for name in measured.MATH_SOURCES:
        empty = [row['id'] for row, gold in zip(measured.rows(name), golds[name], strict=True) if not gold]
        assert len(empty) == (2 if name == 'math_train' else 0)
        pairs = {row['id']: (gold, row['solution']) for row, gold in zip(measured.rows(name), golds[name], strict=True)}
        verdicts = expressions_only(pairs)
        assert [key for key, verdict in verdicts.items() if not verdict] == empty
        assert all(len(expressions.normal_form(gold)) <= 250 for gold in golds[name])


def expressions_only(pairs):
    """The strict engine's verdicts alone: reference solutions must not need another one."""
    return {
        key: expressions.compare(gold, answers.extract(text, MATH_MARKERS)[0]) for key, (gold, text) in pairs.items()
    }


@pytest.mark.parametrize('name', measured.REWRITES)
def test_another_way_to_write_it_is_accepted(golds, name):
    rewritten = {(gold, measured.REWRITES[name](gold)) for gold in set().union(*golds.values()) if gold}
    rewritten = {(gold, text) for gold, text in rewritten if text != gold}
    assert len(rewritten) > 15
    refused = [(gold, text) for gold, text in rewritten if expressions.compare(gold, text) is not True]
    assert not refused


def test_near_and_wrong_is_refused(golds):
    """Not one of some 40,000 is accepted, by either engine."""
    wrong = {(gold, text) for gold in set().union(*golds.values()) for _, text in measured.changes(gold)}
    wrong |= set(measured.other_answers([gold for split in golds.values() for gold in split]))
    assert len(wrong) > 30_000
    verdicts = Counter()
    for gold, text in sorted(wrong):
        verdict = expressions.compare(gold, text)
        verdicts[verdict] += 1
        assert verdict is not True, (gold, text)
    assert verdicts[None] < 0.02 * len(wrong)


@pytest.mark.parametrize('name', measured.GSM8K_SOURCES)
def test_gsm8k_answers_however_written(shared_data, name):
    """Their numbers, with the rewrites for integers; off by one and of the other sign are refused."""
    for row in measured.rows(name):
        gold = row['answer'].rpartition('####')[2].strip()
        plain = gold.replace(',', '')
        texts = [gold, f'{plain}.0', f'${plain}', f'{int(plain):,}', f'{plain} apples', f'{plain}%', f'x = {plain}']
        for text in texts:
            assert equivalence.grade(gsm8k, gold, f'So it is.\n#### {text}').correct, (gold, text)
        for text in (str(int(plain) + 1), str(int(plain) - 1), f'{plain}0', *((f'-{plain}',) if int(plain) else ())):
            wrong = int(plain) == 0 and text == '00'
            assert equivalence.grade(gsm8k, gold, f'#### {text}').correct is wrong, (gold, text)
