"""The strict engine for mathematical answers: two answers are read into trees and compared as what they are.

Numbers and formulas by value (:mod:`cosample_jax.grading.exact`), sets and bare lists in any order, tuples, intervals
and matrices part by part, equations and inequalities by what they say. What cannot be read, or not be decided, is None:
neither right nor wrong, and another engine's matter.
"""

import functools
import itertools
import re
from collections.abc import Iterator, Sequence

from cosample_jax.grading import answers, exact, latex
from cosample_jax.grading import latex_tokens as tokens
from cosample_jax.grading.latex import Node

_FLIPPED = {'<': '>', '≤': '≥', '>': '<', '≥': '≤'}
_MOST_DIGITS = 100  # of a number that is spelled out
_MOST_ITEMS = 64  # of a list that is compared in any order
# Units that are told apart; any other words behind a number are taken for a description of what is counted.
_SAME_UNIT = {
    'inch': 'in', 'inche': 'in', 'foot': 'ft', 'feet': 'ft', 'yard': 'yd', 'mile': 'mi', 'meter': 'm', 'metre': 'm',
    'centimeter': 'cm', 'millimeter': 'mm', 'kilometer': 'km', 'second': 's', 'sec': 's', 'minute': 'min', 'hour': 'h',
    'hr': 'h', 'usd': 'dollar', 'gram': 'g', 'gm': 'g', 'kilogram': 'kg', 'ounce': 'oz', 'pound': 'lb',
}  # fmt: skip
_UNITS = {*_SAME_UNIT, *_SAME_UNIT.values(), 'mg', 'ton', 'day', 'week', 'month', 'year', 'cent', 'euro'}


def compare(gold: str, answer: str) -> bool | None:
    """Whether `answer` says what `gold` says; None when this engine cannot tell.

    An empty gold answer equals nothing.
    """
    if not gold.strip() or not answer.strip():
        return False
    if _spelling(gold) == _spelling(answer):
        return True  # needs no grammar
    wanted, given = read(gold), read(answer)
    return None if wanted is None or given is None else _same(wanted, given)


def _spelling(text: str) -> str:
    """Without case and spaces, but for those between digits: 1 1/2 is not 11/2."""
    if len(text) > tokens.MAX_CHARS:
        return text
    return re.sub(r'(?<!\d) | (?!\d)', '', tokens.plain(tokens.clean(text)))


@functools.lru_cache(maxsize=4096)
def read(text: str) -> Node | None:
    """The tree of an answer, None when it cannot be read. Kept: a problem's gold answer meets all of its samples."""
    try:
        return latex.parse(text)
    except latex.Unreadable:
        return None


def has_value(text: str) -> bool:
    """Whether an answer can be read, and is a collection of things or one whose value can be computed."""
    node = read(text)
    return node is not None and (node.kind in (*_UNORDERED, 'tuple', 'matrix', 'relation') or exact.exists(node))


def normal_form(text: str) -> str:
    """One spelling of an answer for votes: exact fractions, 12 digits of irrational numbers, sorted sets, cleaned text.

    Two answers of one form are equal; equal formulas with variables may have several forms.
    """
    node = read(text)
    return (None if node is None else _form(_value_of(node))) or _spelling(text)[:200]


def _form(node: Node) -> str | None:
    """None for a formula with variables, and for numbers that are too long."""
    if node.kind in (*_UNORDERED, 'tuple', 'row', 'matrix'):
        inside = [_form(_value_of(item)) for item in (_items(node) if node.kind in _UNORDERED else node.parts)]
        if None in inside:
            return None
        if node.kind in _UNORDERED:
            return ' U '.join(sorted(inside)) if node.kind == 'union' else f'{{{",".join(sorted(inside))}}}'
        opening, closing = node.value if node.kind == 'tuple' and len(node.value) == 2 else '()'
        return opening + ','.join(inside) + closing
    if node.kind == 'infinity' or _is_minus_infinity(node):
        return 'inf' if node.kind == 'infinity' else '-inf'
    if node.kind == 'text':
        return node.value
    value = exact.rational(node)
    if value is not None:
        return answers.spelled(value) if max(map(abs, value.as_integer_ratio())) < 10**_MOST_DIGITS else None
    digits = exact.approximate(node)
    return f'≈{digits}' if digits else None


# --- comparing


def _same(gold: Node, answer: Node) -> bool | None:
    """The first of the rules that fits the kinds of both."""
    gold, answer = _simple(gold), _simple(answer)
    if 'relation' in (gold.kind, answer.kind):
        return _same_relation(gold, answer)
    if gold.kind == 'matrix' and answer.kind == 'matrix':
        return _in_order(gold.parts, answer.parts)
    if gold.kind == 'row' and answer.kind == 'row':
        return _in_order(gold.parts, answer.parts)
    if _is_vector(gold) and _is_vector(answer) and 'matrix' in (gold.kind, answer.kind):
        return _in_order(_entries(gold), _entries(answer))
    if gold.kind == 'tuple':
        return _same_tuple(gold, answer)
    if gold.kind in _UNORDERED or answer.kind in _UNORDERED:
        if answer.kind in ('tuple', 'matrix'):
            return False
        return _in_any_order(_items(gold), _items(answer))
    if answer.kind in ('tuple', 'matrix', 'row') or gold.kind in ('matrix', 'row'):
        return False
    if 'text' in (gold.kind, answer.kind):
        names = _name(gold), _name(answer)
        return names[0] == names[1] if None not in names else False
    if 'infinity' in (gold.kind, answer.kind) or _is_minus_infinity(gold) or _is_minus_infinity(answer):
        return gold == answer
    return _same_value(gold, answer)


_UNORDERED = ('list', 'set', 'pm', 'union')


def _same_value(gold: Node, answer: Node) -> bool | None:
    while gold.kind == answer.kind == 'neg':
        (gold,), (answer,) = gold.parts, answer.parts
    if gold.kind == 'digits' and answer.kind == 'digits':
        (numeral, base), (other, other_base) = gold.value, answer.value
        return base == other_base and numeral.lstrip('0') == other.lstrip('0')
    if 'digits' in (gold.kind, answer.kind):
        # 12_5 is asked for in base 5: 12 alone is that numeral with its base left out, and 7 is not the answer.
        numeral, other = (gold, answer) if gold.kind == 'digits' else (answer, gold)
        return other.kind == 'number' and str(other.value) == numeral.value[0].lstrip('0')
    if _units_differ(gold, answer):
        return False
    names = _letters(gold), _letters(answer)
    if None not in names and len(names[0]) > 1:
        # ACF and CAF are names of points or choices as often as products.
        return True if names[0] == names[1] else None if sorted(names[0]) == sorted(names[1]) else False
    return exact.same(gold, answer)


def _same_tuple(gold: Node, answer: Node) -> bool | None:
    if answer.kind == 'list':  # 1, 2 for (1, 2): the brackets left out
        return _in_order(gold.parts, answer.parts)
    if answer.kind != 'tuple' or len(gold.parts) != len(answer.parts):
        return False
    if gold.value == answer.value == ':':  # 1:2:3 = 2:4:6
        (a, *_), (b, *_) = gold.parts, answer.parts
        shares = [[Node('div', None, (part, first)) for part in n.parts] for n, first in ((gold, a), (answer, b))]
        return _in_order(*shares)
    # [1, 2] and (1, 2) are different intervals; three and more are a tuple, or a list, in either brackets.
    either = len(gold.parts) > 2 and {gold.value, answer.value} <= {'()', '[]'}
    if gold.value != answer.value and not either:
        return False
    return _in_order(gold.parts, answer.parts)


def _in_order(gold: Sequence[Node], answer: Sequence[Node]) -> bool | None:
    if len(gold) != len(answer):
        return False
    return _all(_same(_value_of(a), _value_of(b)) for a, b in zip(gold, answer, strict=True))


def _in_any_order(gold: Sequence[Node], answer: Sequence[Node]) -> bool | None:
    """Each of one side is one of the other. Equality is transitive, so the first that fits is as good as any."""
    if len(gold) != len(answer):
        return False
    if len(gold) > _MOST_ITEMS:
        return None
    left = list(answer)
    unsure = False
    for item in gold:
        verdicts = [_same(item, other) for other in left]
        if True in verdicts:
            del left[verdicts.index(True)]
        elif None in verdicts:
            unsure = True
        else:
            return False
    return None if unsure else True


def _all(verdicts: Iterator[bool | None]) -> bool | None:
    """False as soon as one is; None when one cannot be told."""
    unsure = False
    for verdict in verdicts:
        if verdict is False:
            return False
        unsure |= verdict is None
    return None if unsure else True


# --- relations


def _same_relation(gold: Node, answer: Node) -> bool | None:
    if gold.kind == answer.kind == 'relation':
        return _same_statement(gold, answer)
    relation, other = (gold, answer) if gold.kind == 'relation' else (answer, gold)
    interval = _interval(relation)
    if interval is not None:
        return _same(interval, other)
    if '≈' in relation.value or (relation is gold and not any(map(exact.symbols, gold.parts))):
        return _any(_same(side, other) for side in relation.parts)  # 2/3 ≈ 0.67, 0.56 = 56%
    value = _value_of(relation)
    if value is not relation:
        return _same(value, other) if gold.kind == 'relation' else _same(other, value)
    return False


def _any(verdicts: Iterator[bool | None]) -> bool | None:
    told = list(verdicts)
    return True if True in told else None if None in told else False


def _same_statement(gold: Node, answer: Node) -> bool | None:
    intervals = _interval(gold), _interval(answer)
    if None not in intervals and _subject(gold) == _subject(answer):
        return _same(*intervals)
    if set(gold.value) == set(answer.value) == {'='}:
        return _same_equation(gold, answer)
    turned = _turned(gold), _turned(answer)
    if turned[0].value != turned[1].value:
        return False
    if _in_order(turned[0].parts, turned[1].parts):
        return True
    return _all(_same_inequality(a, b) for a, b in zip(_differences(turned[0]), _differences(turned[1]), strict=True))


def _same_equation(gold: Node, answer: Node) -> bool | None:
    if len(gold.parts) != 2 or len(answer.parts) != 2:
        return _in_order(gold.parts, answer.parts)
    names = _name(gold.parts[0]), _name(answer.parts[0])
    function = any(name and re.fullmatch(r'\w\(\w+\)', name) for name in names)  # y = 2x, f(x) = 2x
    if None not in names and (names[0] == names[1] or function) and _same(gold.parts[1], answer.parts[1]):
        return True
    if any(part.kind in (*_UNORDERED, 'tuple', 'matrix') for part in (*gold.parts, *answer.parts)):
        return False if None not in names and names[0] != names[1] else _in_order(gold.parts, answer.parts)
    (a,), (b,) = _differences(gold), _differences(answer)
    return exact.ratio(a, b) is not None


def _same_inequality(a: Node, b: Node) -> bool | None:
    constant = exact.ratio(a, b)
    return constant is not None and exact.is_positive(constant)


def _differences(relation: Node) -> list[Node]:
    return [Node('add', None, (a, Node('neg', None, (b,)))) for a, b in itertools.pairwise(relation.parts)]


def _turned(relation: Node) -> Node:
    """With every sign pointing left: 3 > x is x < 3."""
    if set(relation.value) <= {'>', '≥'}:
        return Node('relation', tuple(_FLIPPED[sign] for sign in reversed(relation.value)), relation.parts[::-1])
    return relation


def _interval(relation: Node) -> Node | None:
    """-1 ≤ x < 2 as [-1, 2), x > 3 as (3, ∞), x ∈ [1, 2] as what it is in; None for anything else."""
    relation = _turned(relation)
    signs, parts = relation.value, relation.parts
    if signs == ('∈',) and _name(parts[0]) is not None:
        return parts[1]
    if not set(signs) <= {'<', '≤'}:
        return None
    infinite = Node('infinity'), Node('neg', None, (Node('infinity'),))
    if len(signs) == 1 and parts[0].kind == 'symbol' and not exact.symbols(parts[1]):
        signs, parts = ('<', *signs), (infinite[1], *parts)
    elif len(signs) == 1 and parts[1].kind == 'symbol' and not exact.symbols(parts[0]):
        signs, parts = (*signs, '<'), (*parts, infinite[0])
    if len(signs) != 2 or parts[1].kind != 'symbol' or exact.symbols(parts[0]) or exact.symbols(parts[2]):
        return None
    return Node('tuple', ('[' if signs[0] == '≤' else '(') + (']' if signs[1] == '≤' else ')'), (parts[0], parts[2]))


def _subject(relation: Node) -> str | None:
    return next((part.value for part in relation.parts if part.kind == 'symbol'), None)


# --- what a node is


def _simple(node: Node) -> Node:
    """A multiple of a matrix as that matrix; a set or list of one thing as that thing, where there is no doubt."""
    if node.kind in ('mul', 'neg', 'div') and any(part.kind == 'matrix' for part in node.parts):
        scaled = _scaled(node)
        return node if scaled is None else scaled
    if node.kind == 'tuple' and len(node.parts) == 1:
        return node.parts[0]
    return node


def _scaled(node: Node) -> Node | None:
    if node.kind == 'neg':
        return _each(node.parts[0], lambda entry: Node('neg', None, (entry,)))
    matrices = [part for part in node.parts if part.kind == 'matrix']
    if len(matrices) > 1 or (node.kind == 'div' and node.parts[1] is matrices[0]):
        return None
    factors = [part for part in node.parts if part is not matrices[0]]
    return _each(matrices[0], lambda entry: Node(node.kind, None, (entry, *factors)))


def _each(matrix: Node, change) -> Node:
    return Node('matrix', None, tuple(Node('row', None, tuple(map(change, row.parts))) for row in matrix.parts))


def _items(node: Node) -> list[Node]:
    """What a set, a list or a plus-minus stands for, one by one; anything else is one thing."""
    if node.kind in ('list', 'set'):
        return [item for part in node.parts for item in _items(_value_of(part))]
    if node.kind == 'union':
        return list(node.parts)
    if node.kind == 'pm':
        return [Node(sign, None, node.parts) if sign == 'add' else _minus(*node.parts) for sign in ('add', 'neg')]
    spread = _spread(node)
    return [node] if spread is None else spread


def _minus(a: Node, b: Node) -> Node:
    return Node('add', None, (a, Node('neg', None, (b,))))


def _spread(node: Node) -> list[Node] | None:
    """(1 ± √5)/2 as both values; None where no ± is in it."""
    for index, part in enumerate(node.parts):
        both = _items(part) if part.kind == 'pm' else _spread(part)
        if both:
            return [Node(node.kind, node.value, (*node.parts[:index], one, *node.parts[index + 1 :])) for one in both]
    return None


def _value_of(node: Node) -> Node:
    """The 5 of x = 5, or of 2 + 3 = 5; anything else as it is."""
    if node.kind != 'relation' or not set(node.value) <= {'=', '≈'}:
        return node
    return node.parts[-1] if _name(node.parts[0]) is not None or not any(map(exact.symbols, node.parts)) else node


def _name(node: Node) -> str | None:
    """What a symbol, a text or letters side by side (AB, f(x)) are called; None for anything else."""
    if node.kind == 'text':
        return node.value
    if node.kind == 'call' and len(node.value) == 1 and all(part.kind == 'symbol' for part in node.parts):
        return f'{node.value}({",".join(part.value for part in node.parts)})'
    if node.kind == 'tuple':
        names = [_name(part) for part in node.parts]
        return None if None in names else f'({",".join(names)})'
    letters = _letters(node)
    return None if letters is None else letters.lower()


def _letters(node: Node) -> str | None:
    """The letters of a product that is nothing else."""
    if node.kind == 'symbol':
        return node.value
    if node.kind == 'mul':
        parts = [_letters(part) for part in node.parts]
        return None if None in parts else ''.join(parts)
    return None


def _is_minus_infinity(node: Node) -> bool:
    return node.kind == 'neg' and node.parts[0].kind == 'infinity'


def _is_vector(node: Node) -> bool:
    if node.kind == 'matrix':
        return len(node.parts) == 1 or all(len(row.parts) == 1 for row in node.parts)
    return node.kind == 'tuple' and node.value == '()'


def _entries(node: Node) -> list[Node]:
    return [entry for row in node.parts for entry in row.parts] if node.kind == 'matrix' else list(node.parts)


def _units_differ(gold: Node, answer: Node) -> bool:
    """Whether both name a unit of one kind, and another one: 2 feet and 2 inches."""
    if gold.kind != 'unit' or answer.kind != 'unit':
        return False
    (unit, power), (other, other_power) = (_unit(node.value) for node in (gold, answer))
    return bool(unit and other and unit != other) or bool(power and other_power and power != other_power)


@functools.lru_cache(maxsize=1024)
def _unit(words: str) -> tuple[str, int]:
    """(its one spelling, its power): ('cm', 2) of square centimeters; '' and 0 for what is not known."""
    singular = (word if word in _UNITS else word.removesuffix('s') for word in re.findall(r'[a-z]+', words))
    found = [word for word in singular if word in _UNITS]
    power = re.search(r'\^(\d)', words)
    squared = 2 * ('sq' in words) or 3 * bool(re.search(r'\bcu', words))
    unit = found[0] if len(found) == 1 else ''
    return _SAME_UNIT.get(unit, unit), int(power[1]) if power else squared or bool(found)
