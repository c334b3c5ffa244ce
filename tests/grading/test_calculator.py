import json
import random
import re
import time

import pytest

from cosample_jax.grading import calculator

RIGHT = """
3*4 = 12
She has 16 - 3 - 4 = 9 eggs.
10/3 = 3.33
10/3 = 3.33, so 3.33 * 3 = 10 dollars
2/3 = 0.66 and 2/3 = 0.67
17 / 3 = 5 full boxes
20% of 50 = 10
20% of the 50 marbles = 10
50 * 20% = 10
20 percent of 50 = 10
100% - 40% = 60%
10/50 * 100 = 20%
1/2 of 50 = 25
3 apples * 4 = 12 apples
7 days/week * 3 weeks = 21 days
5 dollars per hour x 8 hours = 40 dollars
$1,200 + $300 = $1,500.
5 + 3 = 8 - 2 = 6
2 * (3 + 4) = 14
2(3 + 4) = 14
2 1/2 * 4 = 10
4 / 1/2 = 8
2^3 = 8, 2**3 = 8, 5² = 25
-3 + 5 = 2
- 3 * 4 = 12
1) 3 + 4 = 7
$1 / 2 = 50 cents
3 times 4 = 12
3 times * 4 per time = 12
**Total:** 3 + 4 = **7**
The answer (3 + 4 = 7) is 7.
16 - 3 - 4 (eaten and baked) = 9
3 cm * 4 cm = 12 cm^2
1,000 * 1.05^2 = 1102.5 dollars
\\frac{1}{2} \\times 6 = 3
\\[3 \\cdot 4 = \\boxed{12}\\]
2\\frac{1}{2} \\cdot 4 = 10
\\begin{align*} 3 \\cdot 4 &= 12 \\\\ &= 10 + 2 \\end{align*}
90^\\circ - 30^\\circ = 60^\\circ
\\frac{360^\\circ}{6} = 60^\\circ
\\frac{15}{25}=\\boxed{60} percent
48 / 2 = <<48/2=24>>24 clips
22 / 7 ≈ 3.14
""".strip().split('\n')

WRONG = """
3*4 = 13
She has 16 - 3 - 4 = 8 eggs.
10/3 = 3.34
2/3 = 0.65
3 + 4 = 7 so -2 + 9 = 8
2.5 * 3 = 7
20% of 50 = 11
1/2 of 50 = 26
3 apples * 4 = 13 apples
7 days/week * 3 weeks = 22 days
a total of 5 + 4 = 8 boys
$1,200 + $300 = $1,600.
2(3 + 4) = 15
2 1/2 * 4 = 11
2^3 = 9
-3 + 5 = 3
**Total:** 3 + 4 = **8**
The answer (3 + 4 = 8) is 8.
3 + 4 = 7 = 2 * 4
x = 3 * 4 = 13
\\frac{1}{2} \\times 6 = 4
\\[3 \\cdot 4 = \\boxed{13}\\]
\\begin{align*} 3 \\cdot 4 &= 12 \\\\ &= 10 + 3 \\end{align*}
12 = 3 * 5
22 / 7 ≈ 3.9
""".strip().split('\n')

LEFT_ALONE = """
There is nothing to compute.
x + 3 = 5
2x = 6
3x + 4 = 10
f(3) = 3 - 1
half of 50 = 25
twice 5 + 3 = 13
5 = 5
60 minutes = 1 hour
2 feet = 24 inches
Total - 3 * 4 = 12
1 hour + 30 minutes = 1.5
4 dozen * 2 = 96
\\sqrt{16} + 1 = 5
\\binom{4}{2} 10 - 1 = 59
gcd(12, 18) = 6 * 2
3 \\# 4 = 3 * 4 + 1
1 + 2 + ... + 10 = 55
5! = 120
6 / 2(3) = 1
1 / 0 = 3 * 4
9^9^9 = 2 * 1
2^99999 = 2 + 2
Week 2 = 3 + 4
11:00 - 8:00 = 3
000 * 3 = 5 * 1
""".strip().split('\n')


@pytest.mark.parametrize('text', RIGHT)
def test_right_arithmetic_is_valid(text):
    assert calculator.check(text) == ('valid', '')


@pytest.mark.parametrize('text', WRONG)
def test_wrong_arithmetic_is_found(text):
    verdict, reason = calculator.check(text)
    assert verdict == 'wrong' and reason.startswith('wrong: ')


@pytest.mark.parametrize('text', LEFT_ALONE)
def test_what_cannot_be_computed_is_left_alone(text):
    assert calculator.check(text)[0] == 'unchecked'


def test_the_reason_shows_the_equation():
    assert calculator.check('So 2 + 2 = 4. Then 3 * 4 = 13 apples.') == ('wrong', 'wrong: 3 * 4 = 13')


HOSTILE = {
    'open': '(' * 30_000 + '1' + ')' * 30_000 + ' = 1 + 0',
    'digits': '9' * 30_000 + ' * 2 = 3',
    'powers': '9^63 * ' * 4_000 + '1 = 2',
    'thirds': ' + '.join(f'1/{n}' for n in range(1_000, 6_000)) + ' = 2',
    'commas': ',111' * 8_000 + ' = 1 + 1',
    'signs': '1 ' + '- ' * 15_000 + '1 = 3',
    'chain': '1 + 1 = ' * 4_000 + '2',
    'drawings': '[asy]' * 5_000,
    'commands': '\\text{' * 5_000 + '\\frac' * 3_000,
    'words': 'a ' * 15_000 + '= 1 + 1',
    'quotes': '1+1=' + '\x00\ufffd\u202e' * 5_000,
    'marks': '<<' * 10_000 + '1+1=3',
    'lines': '\n' * 20_000,
    'spaces': ' ' * 19_000 + '1 + 1 = 3',
    'rows': '\\\\[' * 6_000,
    'line ends': '\\\\' * 9_000,
    'decimals': '1.' * 10_000,
    'bullets': '- ' * 10_000,
    'letters': 'a' * 20_000,
}


@pytest.mark.parametrize('name', HOSTILE)
def test_hostile_text_takes_no_time(name):
    start = time.monotonic()
    calculator.check(HOSTILE[name])
    assert time.monotonic() - start < 2


PIECES = (
    '0 1 12 3.5 .5 1,000 % ( ) { } + - * / ^ = ≈ x a of and half apples percent $ & ! , . : ٣ ² '
    '\\frac \\cdot \\boxed \\n \n'
)


def test_any_text_gets_a_verdict():
    rng = random.Random(0)
    pieces = [*PIECES.split(' '), ' ']
    for _ in range(4_000):
        text = ''.join(rng.choice(pieces) + rng.choice(('', ' ')) for _ in range(rng.randint(1, 14)))
        assert calculator.check(text)[0] in ('valid', 'wrong', 'unchecked')


def rows(shared_data, name):
    return [json.loads(line) for line in (shared_data / name).read_text().splitlines()]


def solutions(shared_data):
    for split in ('train', 'test'):
        for row in rows(shared_data, f'gsm8k_{split}.jsonl'):
            yield re.sub(r'<<[^<>]*>>', '', row['answer'])


def test_gold_solutions_of_gsm8k_are_not_flagged_and_planted_errors_are(shared_data):
    """A fifth of them. The flagged ones have errors of their own but for about six in 8,792 (docs/grading.md)."""
    texts = list(solutions(shared_data))[::5]
    verdicts = [calculator.check(text)[0] for text in texts]
    assert verdicts.count('wrong') <= 0.005 * len(texts)
    assert verdicts.count('valid') >= 0.96 * len(texts)
    rng = random.Random(0)
    planted = found = 0
    for text, verdict in zip(texts, verdicts, strict=True):
        results = list(re.finditer(r'= ?\$?(\d+)(?![\d.,%])', text))
        if verdict == 'valid' and results:
            result = rng.choice(results)
            wrong = int(result[1]) + rng.choice((1, 2, 10))
            found += calculator.check(f'{text[: result.start(1)]}{wrong}{text[result.end(1) :]}')[0] == 'wrong'
            planted += 1
    assert found >= 0.94 * planted > 1_000


def test_gold_solutions_of_math_are_not_flagged(shared_data):
    texts = [row['solution'] for row in rows(shared_data, 'math_test.jsonl')[::2]]
    assert sum(calculator.check(text)[0] == 'wrong' for text in texts) <= 0.005 * len(texts)


def test_lines_that_go_on():
    assert calculator.check('$\\frac{1}{2}\n\\cdot 3 \\cdot 4 = 6$')[0] == 'valid'
    assert calculator.check('3 * 4\n= 12\n* 12 - 2 = 10')[0] == 'valid'  # the second star is a bullet
