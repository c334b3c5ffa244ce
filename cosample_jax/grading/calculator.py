"""A judge for any text that shows arithmetic: `3*4 = 13` is a wrong step whatever the task.

Equations between numbers are found in prose, Markdown and LaTeX and computed with exact fractions. Nothing is guessed:
a side with a variable, a function or a word for a number in it is left alone, and where a text can be read in several
ways (`5%` as 0.05 or as five, `2 1/2` as two and a half) an equation is wrong only when every reading of it is false.
So 'wrong' means wrong, and 'valid' means that nothing wrong was found in the arithmetic that could be read: a wrong
approach with right sums is valid here, and the false-positive rate of this judge is a lower bound.

Rounding is judged by the decimals shown: 10/3 = 3.33 is right, 3.34 is wrong; a rounded result may be used exactly
later on (10/3 = 3.33, 3.33 * 3 = 10). Nothing is ever evaluated but fractions of bounded size, in time linear in the
text. No JAX here.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

from cosample_jax.grading import calculator_tokens as tokens
from cosample_jax.grading.atoms import MEASURES, Atom, beginning, ending, read
from cosample_jax.grading.calculator_tokens import Tokens

MAX_CHARS = 20_000  # the rest of a longer text is not read
MAX_BITS = 1_000  # of a numerator or denominator
MAX_READINGS = 4  # of how much of what follows an equals sign is the result
SHOWN = 120  # characters of an equation in a reason


def check(text: str) -> tuple[str, str]:
    """('valid', ''), ('wrong', 'wrong: <equation>') or ('unchecked', ...) when no equation could be computed."""
    text = tokens.plain(text[:MAX_CHARS])
    checked = 0
    rounded: dict[Fraction, Fraction] = {}
    for segment in tokens.segments(text):
        for start, end, holds in _equations(segment, rounded):
            if not holds:
                return 'wrong', f'wrong: {" ".join(text[start:end].split())[:SHOWN]}'
            checked += 1
    return ('valid', '') if checked else ('unchecked', 'no arithmetic that can be computed')


def _equations(segment: Tokens, rounded: dict[Fraction, Fraction]) -> Iterator[tuple[int, int, bool]]:
    """(start, end, whether it holds) of every equation of a segment that can be computed."""
    places = [i for i, token in enumerate(segment) if token.kind == 'rel']
    sides = [read(segment[a + 1 : b]) for a, b in pairwise([-1, *places, len(segment)])]
    for place, (before, after) in zip(places, pairwise(sides), strict=True):
        left, right = ending(before), beginning(after)
        if not left or not right or not any(atom.op or atom.inside for atom in (*left, *right)):
            continue
        # `2 feet = 2 * 12 = 24 inches`, `week 2 = 3 + 4`, `48 = 100% + 20%`: converted or named, not computed.
        if left[-1].unit and (len(left) == 1 or (len(left) == 3 and left[1].op == '/' and not left[0].unit)):
            continue
        named = left[0] != before[0] or any(atom.percent for atom in right)
        if len(left) == 1 and not left[0].inside and named:
            continue
        if _adds_measures(left) or _adds_measures(right):
            continue
        try:
            holds = _holds(left, right, segment[place].text == '≈', rounded)
        except _NotComputable:
            continue
        yield left[0].start, right[-1].end, holds


def _adds_measures(side: Sequence[Atom]) -> bool:
    """Whether it is `1 hour + 30 minutes`."""
    kinds = {atom.unit.removesuffix('s') for atom in side} & MEASURES
    return len(kinds) > 1 and any(atom.op in ('+', '-') for atom in side)


class _NotComputable(Exception):
    """Too large, a division by zero, a root."""


def _holds(left: list[Atom], right: list[Atom], about: bool, rounded: dict[Fraction, Fraction]) -> bool:
    """Whether one reading of the two sides is true. Remembers what was rounded."""
    # People write on: in `5 + 3 = 8 - 2 = 6` the second 8 - 2 is a new thought.
    goals = [right, *(right[:i] for i in range(len(right) - 1, 0, -1) if right[i].op not in ('', 'sign'))][
        -MAX_READINGS:
    ]
    goals = goals if right in goals else [right, *goals]
    if len(right) == 1 and right[0].unit in ('cent', 'cents'):
        goals.append([right[0]._replace(percent=True)])  # $1 / 2 = 50 cents
    for known, tight, percent in itertools.product(({}, rounded), (False, True), (Fraction(1, 100), Fraction(1))):
        reading = _Reading(percent, known, tight)
        a = _value(left, reading)
        for goal in goals:
            b = _value(goal, reading)
            if _rounds_to(a, b, goal, left) or (about and abs(a - b) <= abs(b) / 100):
                if a != b and len(goal) == 1:
                    rounded[b] = a
                return True
    return False


class _Reading(NamedTuple):
    """How to read a side: what `%` is, exact values of rounded numbers, whether 3 / 1/4 divides by a quarter."""

    percent: Fraction
    known: Mapping[Fraction, Fraction]
    tight: bool


def _rounds_to(a: Fraction, b: Fraction, side: Sequence[Atom], computed: Sequence[Atom]) -> bool:
    """Whether a is b, or where b is one number, is rounded or cut to it at the decimals shown.

    To a whole number only what was divided: 7 / 2 = 3 is cut, 2.5 * 3 = 7 is wrong.
    """
    literal = side[-1]
    if a == b or literal.value is None or any(atom.op != 'sign' for atom in side[:-1]):
        return a == b
    if not literal.decimals and not any(atom.op in ('/', '^') or atom.inside for atom in computed):
        return False
    unit = Fraction(1, 10**literal.decimals) * (Fraction(1, 100) if literal.percent else 1)
    cut = abs(b) <= abs(a) and a * b >= 0
    return abs(a - b) < unit if cut else abs(a - b) <= unit / 2


def _value(atoms: Sequence[Atom], reading: _Reading) -> Fraction:
    """By the usual precedence: sums of products of signed powers."""
    if reading.tight:
        atoms = _joined(atoms)
    total, product, pending, sign = Fraction(0), Fraction(0), '+', 1
    i = 0
    while i < len(atoms):
        factor, i = _factor(atoms, i, reading)
        if pending == '*':
            product *= factor
        elif pending == '/':
            product = _divide(product, factor)
        else:
            total += sign * product
            product, sign = factor, -1 if pending == '-' else 1
        if max(map(_size, (product, total))) > MAX_BITS:
            raise _NotComputable
        if i < len(atoms):
            pending, i = atoms[i].op, i + 1
    return total + sign * product


def _factor(atoms: Sequence[Atom], i: int, reading: _Reading) -> tuple[Fraction, int]:
    """A signed number, group or power, and the place behind it. -2^2 is -4."""
    negative, i = _signs(atoms, i)
    factor, i = _operand_value(atoms[i], reading), i + 1
    if i < len(atoms) and atoms[i].op == '^':
        exponent_sign, i = _signs(atoms, i + 1)
        factor, i = _power(factor, exponent_sign * _operand_value(atoms[i], reading)), i + 1
        if i < len(atoms) and atoms[i].op == '^':  # 3^15^2 is 3^1 * 5^2 in LaTeX
            raise _NotComputable
    return negative * factor, i


def _signs(atoms: Sequence[Atom], i: int) -> tuple[int, int]:
    sign = 1
    while atoms[i].op == 'sign':
        sign, i = -sign, i + 1
    return sign, i


def _joined(atoms: Sequence[Atom]) -> list[Atom]:
    """The atoms with fractions that are written without spaces as one."""
    joined: list[Atom] = []
    for atom in atoms:
        if len(joined) > 1 and joined[-1].op == '/' and atom.value and joined[-2].value is not None:
            top, slash = joined[-2:]
            if top.end == slash.start and slash.end == atom.start and not top.percent:
                joined[-2:] = [atom._replace(start=top.start, value=top.value / atom.value, decimals=0)]
                continue
        joined.append(atom)
    return joined


def _operand_value(atom: Atom, reading: _Reading) -> Fraction:
    value = _value(atom.inside, reading) if atom.inside else reading.known.get(atom.value, atom.value)
    return value * reading.percent if atom.percent else value


def _divide(a: Fraction, b: Fraction) -> Fraction:
    if not b:
        raise _NotComputable
    return a / b


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1 or abs(exponent) * _size(base) > MAX_BITS or (not base and exponent < 0):
        raise _NotComputable
    return base ** int(exponent)


def _size(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())
