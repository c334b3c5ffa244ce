import time
from fractions import Fraction

import pytest

from cosample_jax.grading import answers

ALL = answers.MARKERS


@pytest.mark.parametrize(
    ('text', 'answer', 'marker'),
    [
        ('9 * 2 = 18\n#### 18', '18', '####'),
        ('So the answer is 1,450. It was long.', '1,450', 'The answer is'),
        ('The answer is: -3.5', '-3.5', 'The answer is'),
        ('6 * 7 = 42\nA: 42', '42', 'A:'),
        ('**Answer:** 42', '42', 'A:'),
        ('\\boxed{\\frac{1}{2}} and done', '\\frac{1}{2}', '\\boxed'),
        ('```json\n{"reasoning": "two\nlines",\n "answer": "1,000"\n}\n```', '1,000', '"answer":'),
        ('{"answer": 1,000}', '1,000', '"answer":'),
        ('{"answer": 12, "reasoning": "because"}', '12', '"answer":'),
        ('{"answer": "say \\"5\\""}', 'say "5"', '"answer":'),
        # The last marker wins, across kinds and on one line.
        ('#### 5\nNo: the answer is 6', '6', 'The answer is'),
        ('The answer is 5, no, the answer is 6.', '6', 'The answer is'),
        ('The answer is \\boxed{7}.', '7', '\\boxed'),
        ('\\boxed{1} then \\boxed{2}', '2', '\\boxed'),
        ('$\\boxed 2$.', '2', '\\boxed'),
        ('so \\boxed 1,024 it is', '1,024', '\\boxed'),
        ('\\fbox{(3,4)}', '(3,4)', '\\boxed'),
        ('A: 1\nA: 2', '2', 'A:'),
        # Nothing announced, or announced and not given: no answer, however many numbers there are.
        ('3 + 4 = 7, and 7', '', ''),
        ('Plan A: 5 apples', '', ''),
        ('The answer is', '', ''),
        ('#### \nA:  ', '', ''),
        ('"answer": "42', '', ''),
        ('"answer": 4', '', ''),
        ('\\boxed{42', '', ''),
        ('\\boxed 42', '', ''),
        ('\\boxed{1} or \\boxed', '1', '\\boxed'),
        ('', '', ''),
    ],
)
def test_extract(text, answer, marker):
    assert answers.extract(text, ALL) == (answer, marker)


def test_a_box_that_is_named_first_wins_wherever_it_stands():
    markers = ('\\boxed', 'The answer is', '####')
    text = 'It is \\boxed{5}. The answer is in simplest form.'
    assert answers.extract(text, markers) == ('5', '\\boxed')
    assert answers.extract(text, markers[::-1]) == ('in simplest form', 'The answer is')
    assert answers.extract('#### 5\nThe answer is 6.', markers) == ('6', 'The answer is')
    assert answers.extract('\\boxed{5', markers) == ('', '')


def test_only_the_tasks_markers_count():
    text = 'The answer is 5.\n#### 6'
    assert answers.extract(text, ('The answer is',)) == ('5', 'The answer is')
    with pytest.raises(KeyError):
        answers.extract(text, ('the answer',))


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('18', 18),
        ('3.0', 3),
        ('1,450,000', 1_450_000),
        ('$18.50', '37/2'),
        ('-$5', -5),
        ('$-5', -5),
        ('−5', -5),
        ('50%', 50),
        ('50\\%', 50),
        ('.5', '1/2'),
        ('18.', 18),
        ('**18**', 18),
        ('$18$', 18),
        ('18 dollars per day', 18),
        ('3,125', 3125),
        ('3{,}125', 3125),
        ('3/4 cup', '3/4'),
        ('1 1/2', '3/2'),
        ('\\frac{1}{2}', '1/2'),
        ('1.8 billion dollars', 1_800_000_000),
        ('x = 5', 5),
        ('80 * 0.25 = 20 Mb/s', 20),
        ('12\\text{ cm}', 12),
        ('2:00 pm', 2),
        ("10+John's age", None),
        ('6, 7', None),
        ('1,00', None),
        ('5 or 6', None),
        ('2x', None),
        ('5!', None),
        ('x > 5', None),
        ('3*4/2', None),
        ('1e999999999', None),
        ('9**9**9', None),
        ('1/0', None),
        ('5 and 6 = 6 and', None),
        ('forty', None),
        ('9' * 1_000_000, None),
        ('', None),
    ],
)
def test_number(text, value):
    assert answers.number(text) == (None if value is None else Fraction(value))


@pytest.mark.parametrize(
    ('text', 'normal'),
    [
        ('$1,000.00', '1000'),
        ('0.10', '0.1'),
        ('-1/8', '-0.125'),
        ('2/6', '1/3'),
        ('-0', '0'),
        ('  Not   Possible. ', 'not possible'),
        ('', ''),
    ],
)
def test_normal_form(text, normal):
    assert answers.normal_form(text) == normal
    assert answers.normal_form(normal) == normal


@pytest.mark.parametrize(
    ('gold', 'answer', 'equal'),
    [
        ('1,000', '$1000.00', True),
        ('-3', '3', False),
        ('3', '3.001', False),
        ('33.33', '100/3', False),
        ('yes', 'Yes.', True),
        ('5', 'five', False),
        ('', '', False),
        ('a' * 300 + 'b', 'a' * 300 + 'c', False),
    ],
)
def test_equal(gold, answer, equal):
    assert answers.equal(gold, answer) is equal


@pytest.mark.parametrize(
    'text',
    [
        '#' * 1_000_000,
        '####' + ' ' * 1_000_000,
        '"answer":' * 100_000,
        '"answer":x' + ' ' * 1_000_000,
        '"answer":"' + '\\"' * 500_000,
        'the answer is ' * 70_000,
        '\nA:' * 300_000,
        '\\boxed{' * 150_000,
        '{' * 500_000 + '\\boxed{}' * 60_000,
        '\\boxed{' + '(' * 20_000 + ')' * 20_000 + '}',
        '#### ' + '9' * 1_000_000,
        '#### ' + '1,' * 500_000,
        '#### ' + '\\text{' * 150_000,
        '* ' * 500_000 + 'A: 1',
    ],
    ids=range(14),
)
def test_a_megabyte_of_hostile_text_takes_linear_time(text):
    start = time.process_time()
    answer, _ = answers.extract(text, ALL)
    assert not answers.equal('5', answer)
    answers.normal_form(answer)
    # Linear is far below a second; quadratic would be hours.
    assert time.process_time() - start < 10
