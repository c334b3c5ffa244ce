"""What the grader is measured on: real answers, other ways to write them, and answers that are near and wrong.

The answers are those of the data sets beside the checkout; nothing of them is kept here. A rewrite keeps what an answer
says by construction, a change makes it say something else by construction, neither by asking a grader.
"""

import itertools
import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

DATA = Path(__file__).resolve().parent.parent.parent / 'shared' / 'data'
MATH_SOURCES = ('math_train', 'math_test', 'math_fn_oct2023', 'math_fn_nov2023', 'math_fn_dec2023')
GSM8K_SOURCES = ('gsm8k_train', 'gsm8k_test')
GENERATIONS = ('2b', '9b', '27b')


def rows(name: str) -> Iterator[dict]:
    with open(DATA / f'{name}.jsonl', encoding='utf-8', newline='\n') as lines:
        for line in lines:
            yield json.loads(line)


def openai_labels() -> dict[tuple, tuple[str, str, bool]]:
    """(problem, model) -> (gold, solution, label): 5,276 solutions to GSM8K test problems that OpenAI graded."""
    labelled = {}
    for index, row in enumerate(rows('gsm8k_example_model_solutions')):
        gold = row['ground_truth'].rpartition('A:')[2].strip()
        for model in row.keys() - {'ground_truth', 'question'}:
            labelled[index, model] = gold, row[model]['solution'], row[model]['is_correct']
    return labelled


# --- other ways to write an answer: text -> text, the same where it does not apply

_INTEGER = re.compile(r'-?\d+')
_SIMPLE_FRACTION = re.compile(r'-?\\[dt]?frac\{(\d+)\}\{(\d+)\}')
_BARE_ITEM = r'(?:[^(){}\[\]\\=,]|\\sqrt\{?\d+\}?|\\[dt]?frac\{-?\d+\}\{-?\d+\})+'
_BARE_LIST = re.compile(rf'{_BARE_ITEM}(?:,{_BARE_ITEM})+')


def _integers_only(change: Callable[[str], str]) -> Callable[[str], str]:
    return lambda text: change(text) if _INTEGER.fullmatch(text) else text


def _lists_only(change: Callable[[list[str]], str]) -> Callable[[str], str]:
    def changed(text: str) -> str:
        is_list = _BARE_LIST.fullmatch(text) and not re.search(r'\d,\s*\\?!?\d{3}', text)
        return change([item.strip() for item in text.split(',')]) if is_list else text

    return changed


def _value_only(change: Callable[[str], str]) -> Callable[[str], str]:
    """For answers that are one value or formula, and no list, relation, interval, matrix, unit or text."""
    other = re.compile(r'\\text|\\mbox|,|\\cup|[\[\]<>=:_]|\\[lg]eq?|\\begin|\\in |\\pm|\\approx|\\triangle|\\overline')
    return lambda text: text if other.search(text) or re.search(r'\.$|^[A-Z]{2,}$', text) else change(text)


REWRITES: dict[str, Callable[[str], str]] = {
    '\\dfrac': lambda text: text.replace('\\frac', '\\dfrac'),
    '\\tfrac': lambda text: text.replace('\\frac', '\\tfrac'),
    'a/b': lambda text: (
        re.sub(r'\{|\}', '', re.sub(r'\\[dt]?frac\{(\d+)\}', r'\1/', text))
        if _SIMPLE_FRACTION.fullmatch(text)
        else text
    ),
    '(a)/(b)': lambda text: (
        re.sub(r'\\[dt]?frac\{([^{}]+)\}\{([^{}]+)\}', r'((\1)/(\2))', text)
        if not re.search(r'\d ?\\[dt]?frac|\\(sec|sin|cos|tan)', text)
        else text
    ),
    '\\left( \\right)': lambda text: (
        text.replace('(', '\\left(').replace(')', '\\right)') if not re.search(r'\\left|\\text', text) else text
    ),
    'no \\left \\right': lambda text: text.replace('\\left', '').replace('\\right', ''),
    'spaces': lambda text: re.sub(r'([+\-=])', r' \1 ', text),
    '$ $': lambda text: f'${text}$',
    '\\( \\)': lambda text: f'\\({text}\\)',
    'final period': lambda text: f'{text}.',
    'braced exponents': lambda text: re.sub(r'\^(\d)(?!\d)', r'^{\1}', text),
    'product signs': lambda text: re.sub(r'(\d) ?(\\sqrt|\\pi)', r'\1 \\cdot \2', text),
    'unicode': lambda text: (
        text.replace('\\pi', 'π')
        .replace('\\infty', '∞')
        .replace('\\cup', '∪')
        .replace('-', '−')
        .replace('^\\circ', '°')
    ),
    'sqrt()': lambda text: (
        re.sub(r'(?<![a-z\\}])\\sqrt\{([^{}]*)\}', r'sqrt(\1)', text) if '\\pi\\sqrt' not in text else text
    ),
    'bmatrix': lambda text: text.replace('pmatrix', 'bmatrix'),
    'n.0': _integers_only(lambda text: f'{text}.0'),
    'thousands commas': _integers_only(lambda text: f'{int(text):,}'),
    '{,}': _integers_only(lambda text: f'{int(text):,}'.replace(',', '{,}')),
    '\\text{ units}': _integers_only(lambda text: f'{text}\\text{{ units}}'),
    'dollars': _integers_only(lambda text: f'\\${text}'),
    'percent': _integers_only(lambda text: f'{text}\\%'),
    'degrees': _integers_only(lambda text: f'{text}^\\circ'),
    'no degrees': lambda text: text if re.search(r'\\(tan|cos|sin)', text) else re.sub(r'\^\\circ$', '', text),
    'no percent': lambda text: re.sub(r'^([\d.]+) ?\\%$', r'\1', text),
    'no unit': lambda text: re.sub(r'^(\\?[$\d.,\\!]+) ?\\(?:text|mbox)\{ [a-z]+\.?\}(\^\d)?$', r'\1', text),
    'list reversed': _lists_only(lambda items: ', '.join(reversed(items))),
    'list in braces': _lists_only(lambda items: f'\\{{{", ".join(items)}\\}}'),
    'list with and': _lists_only(lambda items: ' and '.join(items)),
    'x =': _value_only(lambda text: f'x = {text}'),
    'factors of 2': _value_only(lambda text: f'\\frac{{2({text})}}{{2}}'),
    'plus 1 minus 1': _value_only(lambda text: f'{text} + 1 - 1'),
}


# --- near and wrong


def changes(gold: str) -> Iterator[tuple[str, str]]:
    """(kind, text) of answers that say something else than `gold`."""
    if re.search(r'(?<![\d.])0+(?![\d.])|frac ?0', gold) or not gold:
        return  # a sign or a factor before a zero changes nothing
    numbers = list(re.finditer(r'(?<![\d.,!}])\d+(?![\d.,}]*[.,]\d)(?!\\!|\{,\})', gold))
    alone = not re.search(r'[,=<>_:]|\\[lg]eq?\b|\\cup|\\in |\\pm|\\approx|\\text|\\mbox', gold)
    if alone:
        yield 'sign', f'-({gold})'
    if alone and not re.fullmatch(r'[A-Z]+', gold):
        yield 'plus one', f'{gold.rstrip(".")} + 1'
        yield 'ten times', f'10({gold.rstrip(".")})'
    for number in numbers[:3]:
        before, value, after = gold[: number.start()], int(number.group()), gold[number.end() :]
        # \\frac19 has two numbers in one run of digits; 1 of 1x may be left out and 1 as exponent is nothing.
        if not re.search(r'frac ?$', before) and not re.search(r'\\text\{[^{}]*$', before):
            yield 'a number + 1', f'{before}{value + 1}{after}'
            if value > 2:
                yield 'a number - 1', f'{before}{value - 1}{after}'
    for sign, other in (('+', '-'), ('-', '+')):
        if alone and sign in gold[1:]:
            yield 'inner sign', gold[0] + gold[1:].replace(sign, other, 1)
    if pair := re.fullmatch(r'([(\[])([^,()\[\]]+),([^,()\[\]]+)([)\]])', gold):
        opening, first, second, closing = (part.strip() for part in pair.groups())
        if re.sub(r'\s', '', first) != re.sub(r'\s', '', second):
            yield 'swapped', f'{opening}{second}, {first}{closing}'
        yield 'bracket', f'{"[" if opening == "(" else "("}{first}, {second}{closing}'
        yield 'bracket', f'{opening}{first}, {second}{"]" if closing == ")" else ")"}'
        yield 'one left out', f'({first})'
    if _BARE_LIST.fullmatch(gold) and not re.search(r'\d,\s*\\?!?\d{3}', gold):
        yield 'one left out', gold.rpartition(',')[0]
        yield 'one too many', f'{gold}, 987654'


def other_answers(golds: list[str], seed: int = 0) -> list[tuple[str, str]]:
    """(gold, another problem's answer): integers, which are different numbers when they are written differently."""
    integers = sorted({gold for gold in golds if re.fullmatch(r'-?[1-9]\d*', gold)})
    shuffled = random.Random(seed).sample(integers, len(integers))
    return list(itertools.pairwise(shuffled))


# --- hostile: text that hangs or exhausts graders, or is executed by them

HOSTILE = {
    'power tower': '9^9^9^9',
    'python power tower': '9**9**9**9',
    'braced tower': '9^{9^{9^{9^{9}}}}',
    'shift': '1<<9999999999',
    'factorials': '9!!!!!!',
    'large factorial': '99999999!',
    'negative power': '2^{-99999999999}',
    'e tower': 'e^{e^{e^{e^{e}}}}',
    'tangent of a tower': '\\tan(9^{9^9})',
    'binomial': '\\binom{999999999}{499999999}',
    'root': '\\sqrt[999999999]{2}',
    'huge degree': '(1+x)^{999999999}',
    'logarithm of nothing': '\\log 0',
    'division by zero': '\\frac{1}{0}',
    'zero to zero': '0^{-1}',
    'nines': '9' * 900,
    'many terms': '+'.join(['x^{999}'] * 120),
    'products of long numbers': '*'.join(['9' * 90] * 10),
    'brackets': '(' * 20_000 + '5' + ')' * 20_000,
    'few brackets': '(' * 400 + '5' + ')' * 400,
    'braces': '{' * 900,
    'minus signs': '-' * 901 + '5',
    'radicals': '\\sqrt{' * 140 + '5' + '}' * 140,
    'fractions': '\\frac{1}{' * 100 + '2' + '}' * 100,
    'exclamation marks': '5' + '!' * 900,
    'a megabyte': '5 + ' * 250_000,
    'list': ','.join(map(str, range(300))),
    'absolute values': '|' * 900,
    'code': '__import__("os").system("touch pwned")',
    'more code': "exec(\"open('pwned','w')\")",
    'null bytes': '5\x00',
    'lone surrogate': '5\ud800',
    'right to left': '\u202e5',
    'sum': '1+' * 499 + '1',
    'product': 'a' * 999,
    'quotients': '1/' * 499 + '1',
    'signs': '-+' * 450,
    'functions': '\\sin' * 240 + ' 1',
    'plus-minuses': '\\pm 1' * 100,
    'sums of plus-minuses': '1' + '\\pm 1' * 30,
    'sets of plus-minuses': '\\{' + ','.join(['1\\pm2\\pm3'] * 40) + '\\}',
    'mixed numbers in mixed numbers': '2\\frac{' * 30 + 'x' + '}{3}' * 30,
    'radicals of plus-minuses': '\\sqrt{' * 18 + '1\\pm2' + '}' * 18 + ', 1',
    'degrees': '6' + '^\\circ' * 150,
    'bases': '9' * 900 + '_{36}',
    'matrix': '\\begin{pmatrix}' + ' & '.join(['1'] * 200) + '\\end{pmatrix}',
}
