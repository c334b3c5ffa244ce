"""What is taken for a copy of a test problem, and what is not."""

import json

import pytest

from cosample_jax import overlap
from cosample_jax.records import Problem

HANDSHAKES = '10 people attend a party. During the party everyone shakes hands with everyone else. How many handshakes?'
SQUARE = 'Find $x$. Every side of the small square in the figure is exactly a metre long.'
CLUB = "My school's math club has 6 boys and 8 girls. I need to select a team of 6. In how many ways can I select {}?"


def problem(question, answer='7', name='train/0'):
    return Problem(name, question, answer, '')


@pytest.fixture
def copies():
    tests = [
        problem(HANDSHAKES, '45', 'test/0'),
        problem(CLUB.format('the team to have more girls than boys'), '1414', 'test/1'),
        problem(
            'If $x$, $y$ and $z$ are positive with $xy = 24$, $xz=48$, $yz=72$, then find $x+y+z.$', '22', 'test/2'
        ),
        problem(r'Compute $\sqrt{72}$.', r'6\sqrt{2}', 'test/3'),
        problem(f'{SQUARE} [asy]draw((0,0)--(2,1));[/asy]', name='test/4'),
    ]
    return overlap.Copies(tests)


@pytest.mark.parametrize(
    ('question', 'answer', 'original'),
    [
        (HANDSHAKES, '45', 'test/0'),
        (HANDSHAKES.replace('10', 'Twelve').upper(), '66', 'test/0'),
        (HANDSHAKES.replace('10', '1,200'), '66', 'test/0'),
        (HANDSHAKES.replace('?', ' are made?'), '45', 'test/0'),
        (HANDSHAKES.replace('?', ' are made?').replace('10', '12'), '45', None),
        (CLUB.format('the team without restrictions'), '3003', None),
        (r'If $x$, $y$, and $z$ are positive with $xy=24$, \[xz = 48,\] $yz=72$, what is $x+y+z$?', '22', 'test/2'),
        (r'If $x$, $y$, and $z$ are positive with $xy=24$, \[xz = 48,\] $yz=72$, what is $xyz$?', '288', None),
        (r'Compute $\sqrt{50}$.', r'5\sqrt{2}', None),
        (r'Compute  $\sqrt {72}.$', r'6\sqrt2', 'test/3'),
        ('Compute $x$. Every side of the square in the figure is a metre long.', '7', None),
        (f'{SQUARE}[asy]draw((1,1)--(5,2));draw((3,1)--(5,2));[/asy]', '8', 'test/4'),
    ],
)
def test_copies(copies, question, answer, original):
    found = copies.original(problem(question, answer))
    assert (found and found.id) == original


def test_quotes():
    quotes = overlap.Quotes([HANDSHAKES, 'What is 5 + 6?'])
    assert quotes.quotes(f'The answer is 4.\n\nQ: {HANDSHAKES}\nA: 45')
    assert quotes.quotes(HANDSHAKES.lower().replace('How many', 'Tell'))
    assert not quotes.quotes('10 people attend a party, so there are 10 * 9 / 2 = 45 handshakes. What is 5 + 6?')


def test_no_reference_solution_of_math_quotes_a_test_problem(shared_data):
    def read(name):
        return [json.loads(line) for line in (shared_data / name).read_text(encoding='utf-8').splitlines()]

    quotes = overlap.Quotes(row['problem'] for row in read('math_test.jsonl'))
    assert not [row['id'] for row in read('math_train.jsonl') if quotes.quotes(row['solution'])]
