"""What holds of every answer, on answers that hypothesis thinks of."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosample_jax.grading import answers, expressions

quick = settings(max_examples=300)
PIECES = (
    '\\frac', '\\sqrt', '\\sqrt[3]', '{', '}', '(', ')', '[', ']', '\\{', '\\}', '|', ',', ';', '+', '-', '*', '/',
    '^', '_', '=', '<', '\\le', '\\in', '\\cup', '\\pm', '\\infty', '\\pi', 'e', 'i', 'x', 'y', 'f', '1', '2', '10',
    '0', '0.5', '1,000', '\\sin', '\\log', '\\text{ cm}', '\\text{or}', '^\\circ', '%', '!', ' ', '\\left(',
    '\\right)', '\\binom', '\\overline{3}', '\\begin{pmatrix}', '\\end{pmatrix}', '&', '\\\\', 'sqrt', 'and',
    'apples', '\\boxed{', '$', '"', '٣', '½', '²', '\x00', ':',
)  # fmt: skip
soup = st.lists(st.sampled_from(PIECES), max_size=25).map(''.join)


@quick
@given(soup, soup)
def test_no_text_breaks_it(gold, answer):
    verdict = expressions.compare(gold, answer)
    assert verdict in (True, False, None)
    assert len(expressions.normal_form(answer)) < 5_000
    if gold.strip():
        assert expressions.compare(gold, gold) is True
    if verdict is True:
        assert expressions.compare(answer, gold) is not False or {'≈', ','} & set(gold + answer)


@quick
@given(st.text(max_size=200), st.text(max_size=200))
def test_nor_does_any_unicode(gold, answer):
    assert expressions.compare(gold, answer) in (True, False, None)
    assert len(expressions.normal_form(answer)) < 5_000
    found, marker = answers.extract(gold + answer, answers.MARKERS)
    assert found in gold + answer and (marker in answers.MARKERS if found else marker in ('', *answers.MARKERS))


def _binary(children):
    def shown(parts):
        (a, x), sign, (b, y) = parts
        if sign == '/':
            return (f'\\frac{{{a}}}{{{b}}}', x / y) if y else (a, x)
        text = f'({a}) {sign} ({b})' if sign != '\\cdot' else f'({a})({b})'
        return text, {'+': x + y, '-': x - y, '\\cdot': x * y}[sign]

    return st.tuples(children, st.sampled_from(('+', '-', '\\cdot', '/')), children).map(shown)


numbers = st.integers(-99, 99).map(lambda n: (str(n), Fraction(n)))
arithmetic = st.recursive(numbers, _binary, max_leaves=8)


@quick
@given(arithmetic, st.integers(1, 5))
def test_arithmetic_has_its_exact_value(expression, off):
    text, value = expression
    gold = f'{value.numerator}/{value.denominator}'
    assert expressions.compare(gold, text) is True
    assert expressions.compare(f'{gold} + {off}', text) is False
    assert expressions.compare(f'{gold} + 10^{{-30}}', text) is False
    assert expressions.normal_form(text) == answers.spelled(value)


@quick
@given(st.lists(st.integers(-9, 9), min_size=1, max_size=4), st.integers(0, 3), st.sampled_from((-1, 1)))
def test_a_product_is_its_polynomial_and_no_other(roots, place, by):
    coefficients = [1]
    for root in roots:  # times (x - root)
        shifted = [*coefficients, 0]
        for i, c in enumerate(coefficients):
            shifted[i + 1] -= root * c
        coefficients = shifted
    factored = ''.join(f'(x - {root})' if root >= 0 else f'(x + {-root})' for root in roots)
    assert expressions.compare(_polynomial(coefficients), factored) is True
    coefficients[place % len(coefficients)] += by
    assert expressions.compare(_polynomial(coefficients), factored) is False


def _polynomial(coefficients):
    degree = len(coefficients) - 1
    return ' + '.join(f'({c})x^{{{degree - i}}}' for i, c in enumerate(coefficients))


entries = st.sampled_from(('1', '-2', '\\frac{1}{3}', '\\sqrt{2}', '\\pi', 'x', '2i', '10', '0.75'))


@quick
@given(st.lists(entries, min_size=2, max_size=5), st.randoms(use_true_random=False))
def test_order_matters_in_tuples_and_not_in_sets(items, rng):
    mixed = rng.sample(items, len(items))
    assert expressions.compare(', '.join(items), ','.join(mixed)) is True
    assert expressions.compare(f'\\{{{",".join(items)}\\}}', f'\\{{{", ".join(mixed)}\\}}') is True
    assert expressions.compare(f'({",".join(items)})', f'\\left({", ".join(mixed)}\\right)') is (items == mixed)
    assert expressions.compare(', '.join(items), ', '.join([*items, '7'])) is False


@quick
@given(st.text('abc123 +-{}\\$.,\n', max_size=40), st.text('xyz12+-^ ', min_size=1, max_size=20))
def test_what_is_boxed_is_found(before, content):
    text = f'{before.replace("{", "").replace("}", "").rstrip(chr(92))} \\boxed{{{content}}} .'
    assert answers.extract(text, answers.MARKERS) == (content.strip(), '\\boxed')


@quick
@given(st.integers(-(10**12), 10**12), st.integers(0, 4))
def test_numbers_are_read_as_they_are_written(whole, places):
    value = Fraction(whole, 10**places)
    decimal = answers.spelled(value)
    assert answers.number(decimal) == value
    assert answers.number(f'{whole:,}') == whole
    assert answers.number(f'${decimal}.') == value if whole >= 0 else True
    assert answers.equal(decimal, f'{decimal}1') is (value == 0 and False)


@pytest.mark.parametrize('change', ['({})', '{} ', '${}$', '\\left({}\\right)', '{}.', '1\\cdot({})'])
@settings(max_examples=60)
@given(expression=arithmetic)
def test_dress_does_not_matter(change, expression):
    text, _ = expression
    assert expressions.compare(text, change.format(text)) is True
