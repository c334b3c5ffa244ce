"""Reading an answer written in LaTeX, or in plain text, into a tree. Nothing is evaluated and nothing is executed.

A recursive-descent parser over a few dozen token kinds; what it does not know it refuses (:class:`Unreadable`), so that
a tree is never a guess. Length and depth are limited, and the parser never goes back.

Kinds of node, with what `value` and `parts` hold:

* scalars: ``number`` (Fraction), ``symbol`` (its name), ``infinity``, ``add``, ``mul``, ``div``, ``pow``, ``neg``,
  ``pm`` (a, b: a plus or minus b), ``degrees``, ``unit`` (its words; what it stands behind), ``call`` (a function's
  name; arguments), ``digits`` ((numeral, base));
* collections: ``list`` (bare, 1,2), ``set``, ``tuple`` (its brackets: '()', '[)', ..., or ':' of a ratio), ``matrix``
  (parts are ``row``), ``union``;
* ``relation`` (the signs between its parts) and ``text`` (words).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from cosample_jax.grading.latex_tokens import (
    FUNCTIONS,
    MAX_CHARS,
    NUMBERS,
    RELATIONS,
    Token,
    Unreadable,
    clean,
    plain,
    tokenize,
)

_MAX_DEPTH = 40
_MAX_POSTFIXES = 5
# The tokens of a fraction of two numbers: 1/3, \frac{1}{3}, \frac13, \frac1{30} and \frac{1}3.
_PROPER = re.compile(
    r'(\d+) / (\d+)(?!\S)'
    r'|\\frac (?:\{ (\d+) \} (?:\{ (\d+) \}|(\d)(?!\S))|(\d)(?: \{ (\d+) \}|(\d)(?!\S)| (\d)(?!\S)))'
)


@dataclass(frozen=True, slots=True)
class Node:
    kind: str
    value: object = None
    parts: tuple['Node', ...] = ()


ZERO = Node('number', Fraction(0))
_OPAQUE = frozenset('fghFGPQ')  # a letter that is a function where a bracket follows
_CLOSING = {'(': ')', '[': ']', '\\{': '\\}', '\\langle': '\\rangle', '\\lfloor': '\\rfloor', '\\lceil': '\\rceil'}
_SCALES = {'hundred': 100, 'thousand': 1_000, 'million': 10**6, 'billion': 10**9}
# Behind a number these words compute something, and are no unit.
_OPERATORS = frozenset((
    'plus', 'minus', 'times', 'over', 'squared', 'cubed', 'divided', 'by', 'multiplied', 'root', 'power', 'than', 'not',
))  # fmt: skip


def _chain(kind: str, parts: list[Node]) -> Node:
    return parts[0] if len(parts) == 1 else Node(kind, None, tuple(parts))


def parse(text: str) -> Node:
    """The tree of one answer.

    Raises:
        Unreadable: longer than `MAX_CHARS`, nested too deep, or not understood.
    """
    if len(text) > MAX_CHARS:
        raise Unreadable(f'{len(text)} characters, more than {MAX_CHARS}')
    if re.search(r'\.\.\.|…|\\[lc]?dots', text):
        raise Unreadable('it goes on unwritten (...)')
    parser = _Parser(tokenize(clean(text)))
    return parser.whole()


class _Parser:
    """One pass over the tokens; every method leaves `at` behind what it has read."""

    def __init__(self, tokens: list[Token]):
        self._tokens = tokens
        self._at = 0
        self._depth = 0
        self._bars = 0  # open absolute values

    # --- tokens

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _sees(self, *signs: str) -> bool:
        token = self._next
        return token.kind == 'sign' and token.value in signs

    def _take(self) -> Token:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _skip(self, sign: str) -> None:
        if not self._sees(sign):
            raise Unreadable(f'{sign!r} is missing before {self._next.value!r}')
        self._at += 1

    # --- from the whole answer down to a single thing

    def whole(self) -> Node:
        items = self._items(())
        if self._next.kind != 'eof':
            raise Unreadable(f'{self._next.value!r} is not expected')
        return items[0] if len(items) == 1 else Node('list', None, items)

    def _items(self, closing: tuple[str, ...]) -> tuple[Node, ...]:
        """Relations between commas, up to one of `closing`."""
        items = [self._relation()]
        while self._sees(',', ';'):
            while self._sees(',', ';'):  # 2, 3, and 4
                self._at += 1
            if self._sees(*closing) or self._next.kind == 'eof':
                break
            items.append(self._relation())
        return tuple(items)

    def _relation(self) -> Node:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise Unreadable(f'nested deeper than {_MAX_DEPTH}')
        sides, signs = [], []
        if self._sees('=', '≈', '\\approx'):  # 'approximately 8'
            self._at += 1
        sides.append(self._union())
        while self._next.kind == 'sign' and self._next.value in RELATIONS:
            signs.append(RELATIONS[self._take().value])
            sides.append(self._union())
        self._depth -= 1
        return Node('relation', tuple(signs), tuple(sides)) if signs else sides[0]

    def _union(self) -> Node:
        parts = [self._ratio()]
        while self._sees('\\cup'):
            self._at += 1
            parts.append(self._ratio())
        return Node('union', None, tuple(parts)) if len(parts) > 1 else parts[0]

    def _ratio(self) -> Node:
        parts = [self._sum()]
        while self._sees(':'):
            self._at += 1
            parts.append(self._sum())
        if len(parts) == 2:
            return Node('div', None, tuple(parts))
        return Node('tuple', ':', tuple(parts)) if len(parts) > 2 else parts[0]

    def _sum(self) -> Node:
        terms = [ZERO if self._sees('\\pm') else self._signed()]
        signs = 0
        while self._sees('+', '-', '\\pm'):
            sign = self._take().value
            term = self._signed()
            if sign == '\\pm':
                signs += 1
                terms = [Node('pm', None, (_chain('add', terms), term))]
            else:
                terms.append(Node('neg', None, (term,)) if sign == '-' else term)
        if signs > 1:
            raise Unreadable('more than one plus-minus in a sum')
        return _chain('add', terms)

    def _signed(self) -> Node:
        """A term with its signs: - - 3 is 3."""
        negative = False
        while self._sees('+', '-'):
            negative ^= self._take().value == '-'
        term = self._term()
        return Node('neg', None, (term,)) if negative else term

    def _term(self) -> Node:
        factors = [self._mixed() or self._factor()]
        nested = 0
        while nested < _MAX_DEPTH:
            if self._sees('*', '\\cdot', '\\times', '\\ast'):
                self._at += 1
                factors.append(self._signed_factor())
            elif self._sees('/'):
                self._at += 1
                factors = [Node('div', None, (_chain('mul', factors), self._signed_factor()))]
                nested += 1
            elif self._next.kind in ('text', 'word'):
                factors = [self._unit(_chain('mul', factors))]
                nested += 1
            elif self._starts_factor():
                if self._next.kind == 'number' and self._tokens[self._at - 1].kind in ('number', 'digits'):
                    raise Unreadable('two numbers side by side')
                factors.append(self._factor())
            else:
                return _chain('mul', factors)
        raise Unreadable(f'more than {_MAX_DEPTH} divisions')

    def _mixed(self) -> Node | None:
        """2\\frac{1}{3} and 2 1/3 are sums; read only where that is certain."""
        whole = self._next.value
        if self._next.kind != 'number' or not whole.isdigit():
            return None
        # By the tokens ahead: to read a fraction in order to see what it is would read nested ones over and over.
        ahead = ' '.join(token.value for token in self._tokens[self._at + 1 : self._at + 8])
        match = _PROPER.match(ahead)
        if not match:
            return None
        above, below = (int(digits) for digits in match.groups() if digits)
        if not 0 < above < below:
            return None
        self._at += 1 + len(match.group().split())
        return Node('number', int(whole) + Fraction(above, below))

    def _signed_factor(self) -> Node:
        negative = False
        while self._sees('+', '-'):
            negative ^= self._take().value == '-'
        factor = self._factor()
        return Node('neg', None, (factor,)) if negative else factor

    def _unit(self, value: Node) -> Node:
        """The words behind a value with their power: its unit, or its scale."""
        words = []
        while self._next.kind in ('text', 'word'):
            words.append(self._take().value.strip(' .').lower())
            if self._sees('^'):
                self._at += 1
                power = self._argument()
                words.append(f'^{power.value}')
        if any(word in _OPERATORS for word in ' '.join(words).split()):
            raise Unreadable(f'the words {" ".join(words)!r} compute something')
        if words[0] in _SCALES:
            value = Node('mul', None, (value, Node('number', Fraction(_SCALES[words.pop(0)]))))
        return Node('unit', ' '.join(words), (value,)) if words else value

    def _starts_factor(self) -> bool:
        token = self._next
        if token.kind in ('number', 'digits', 'symbol', 'begin'):
            return True
        if token.kind != 'sign' or token.value == '|':
            return token.value == '|' and not self._bars
        return token.value in _CLOSING or token.value in _PREFIXES or token.value in ('{', '\\|')

    def _factor(self) -> Node:
        """A primary with what stands behind it: powers, factorials, degrees, percent signs."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise Unreadable(f'nested deeper than {_MAX_DEPTH}')
        factor = self._primary()
        for _ in range(_MAX_POSTFIXES):
            if self._sees('^', '**'):
                self._at += 1
                if self._is_degree():
                    factor = Node('degrees', None, (factor,))
                else:
                    factor = Node('pow', None, (factor, self._exponent()))
            elif self._sees('!'):
                self._at += 1
                factor = Node('call', 'factorial', (factor,))
            elif self._sees('\\degree', '\\circ'):
                self._at += 1
                factor = Node('degrees', None, (factor,))
            elif self._sees('%'):  # 50% is 50: problems ask 'what percent'
                self._at += 1
            else:
                self._depth -= 1
                return factor
        raise Unreadable(f'more than {_MAX_POSTFIXES} powers and other signs behind one value')

    def _is_degree(self) -> bool:
        """Whether the exponent is a ring; skips it then."""
        tokens = [token.value for token in self._tokens[self._at : self._at + 3]]
        for ring in (['\\circ'], ['{', '\\circ', '}'], ['\\degree']):
            if tokens[: len(ring)] == ring:
                self._at += len(ring)
                return True
        return False

    def _exponent(self) -> Node:
        if self._sees('-', '+'):  # x^-2
            return self._signed_factor()
        # Plain text writes x^12 for what TeX writes x^{12}: a number is taken whole.
        return self._primary()

    def _primary(self) -> Node:
        token = self._take()
        if token.kind == 'number':
            return self._number(token.value)
        if token.kind == 'digits':
            numeral, _, base = token.value.partition('_')
            return Node('digits', (numeral, int(base.strip('{}'))))
        if token.kind == 'symbol':
            return self._symbol(token.value)
        if token.kind in ('text', 'word'):
            return self._text(token.value)
        if token.kind == 'begin':
            return self._matrix(token.value)
        if token.kind == 'sign':
            if token.value in _PREFIXES:
                return _PREFIXES[token.value](self)
            if token.value in _CLOSING:
                return self._brackets(token.value)
            if token.value == '{':
                self._at -= 1
                return self._group()
            if token.value == '|':
                return self._absolute()
        raise Unreadable(f'{token.value or "the end"!r} is not expected')

    def _number(self, digits: str) -> Node:
        value = Fraction(digits.replace(',', ''))
        if self._sees('\\overline') and '.' in digits:  # 0.1\overline{6}
            self._at += 1
            self._skip('{')
            repeated = self._take()
            self._skip('}')
            if repeated.kind != 'number' or not repeated.value.isdigit():
                raise Unreadable('\\overline over something else than digits')
            places = len(digits.partition('.')[2])
            nines = 10 ** len(repeated.value) - 1
            value += Fraction(int(repeated.value), nines * 10**places)
        return Node('number', value)

    def _symbol(self, name: str) -> Node:
        while self._sees('_', "'"):
            if self._take().value == "'":
                name += "'"
            else:
                name += f'_{self._subscript()}'
        if name in _OPAQUE and self._sees('('):
            self._at += 1
            arguments = self._items((')',))
            self._skip(')')
            return Node('call', name, arguments)
        return Node('symbol', name)

    def _subscript(self) -> str:
        if not self._sees('{'):
            return self._take().value
        self._at += 1
        inside = ''
        while not self._sees('}'):
            if self._next.kind == 'eof' or self._sees('{'):
                raise Unreadable('an open subscript')
            inside += self._take().value
        self._at += 1
        return inside

    def _text(self, words: str) -> Node:
        """Words where a value is expected: a number's name, letters of choices, or text."""
        if words.lower() in NUMBERS:
            return Node('number', Fraction(NUMBERS[words.lower()]))
        if self._sees('_') and re.fullmatch(r'[0-9A-Z]*[0-9][0-9A-Z]*', words):  # \text{A5}_{11}
            self._at += 1
            base = self._subscript()
            if base.isdigit():
                return Node('digits', (words, int(base)))
        more = []
        while self._next.kind in ('text', 'word', 'number', 'symbol'):  # 'October 30'
            more.append(self._take().value)
        text = plain(' '.join([words, *more]))
        names = [name for name in (part.strip(' ()') for part in text.split(',')) if name]
        if len(names) > 1:
            return Node('list', None, tuple(Node('text', name) for name in names))
        return Node('text', names[0] if names else text)

    def _matrix(self, name: str) -> Node:
        if name not in ('pmatrix', 'bmatrix', 'matrix', 'smallmatrix', 'array', 'Bmatrix'):
            raise Unreadable(f'a {name} is not understood')
        rows, row = [], []
        while True:
            row.append(self._relation())
            if self._sees('&'):
                self._at += 1
                continue
            rows.append(Node('row', None, tuple(row)))
            row = []
            if self._next.kind == 'newline':
                self._at += 1
                if self._next.kind != 'end':
                    continue
            if self._next.kind != 'end':
                raise Unreadable('an open matrix')
            self._at += 1
            return Node('matrix', None, tuple(rows))

    def _group(self) -> Node:
        """{...}: what it holds. {1, 2} is shown as 1, 2."""
        self._skip('{')
        inside = self._items(('}',))
        self._skip('}')
        return _chain('list', list(inside))

    def _brackets(self, opening: str) -> Node:
        bars, self._bars = self._bars, 0
        closing = (_CLOSING[opening],) if opening not in ('(', '[') else (')', ']')
        if opening == '\\{' and self._sees('\\}'):
            self._at += 1
            self._bars = bars
            return Node('set')
        items = self._items(closing)
        if not self._sees(*closing):
            raise Unreadable(f'{opening!r} is not closed')
        end = self._take().value
        self._bars = bars
        if opening in ('\\lfloor', '\\lceil'):
            return Node('call', 'floor' if opening == '\\lfloor' else 'ceil', self._one(items))
        if opening == '\\{':
            return Node('set', None, items)
        if opening == '\\langle':
            return Node('tuple', '()', items)
        if len(items) == 1 and (opening, end) in (('(', ')'), ('[', ']')):
            return items[0]
        return Node('tuple', opening + end, items)

    @staticmethod
    def _one(items: tuple[Node, ...]) -> tuple[Node]:
        if len(items) != 1:
            raise Unreadable('a list where one value is expected')
        return items

    def _absolute(self) -> Node:
        self._bars += 1
        inside = self._sum()
        self._skip('|')
        self._bars -= 1
        return Node('call', 'abs', (inside,))

    # --- commands

    def _argument(self) -> Node:
        """What a command like \\frac takes: a group, or one token, of a number its first digit (\\frac12)."""
        if self._sees('{'):
            return self._group()
        token = self._next
        if token.kind == 'number' and len(token.value) > 1 and token.value.isdigit():
            self._tokens[self._at] = Token('number', token.value[1:])
            return Node('number', Fraction(int(token.value[0])))
        return self._primary()

    def _fraction(self) -> Node:
        if self._sees('('):  # frac(1, 2) is no LaTeX
            raise Unreadable('\\frac before a bracket')
        return Node('div', None, (self._argument(), self._argument()))

    def _root(self) -> Node:
        if self._sees('['):
            self._at += 1
            degree = self._sum()
            self._skip(']')
            return Node('call', 'root', (self._radicand(), degree))
        return Node('call', 'sqrt', (self._radicand(),))

    def _radicand(self) -> Node:
        # Plain text: √12 is the root of 12, while TeX's \sqrt12 is that of 1; who means that writes a brace.
        return self._group() if self._sees('{') else self._primary()

    def _binomial(self) -> Node:
        return Node('call', 'binom', (self._argument(), self._argument()))

    def _overline(self) -> Node:
        """\\overline{CD}: a name."""
        start = self._at
        self._group()
        return Node('text', ''.join(token.value for token in self._tokens[start : self._at]))

    def _numbers_set(self) -> Node:
        self._skip('{')
        name = self._take().value
        self._skip('}')
        return Node('symbol', f'set {name}')

    def _function(self, name: str) -> Node:
        """\\sin^2 x, \\log_2 8, \\sin 2\\theta: without a bracket it takes the factors up to the next function."""
        power = base = None
        while self._sees('^', '_'):
            if self._take().value == '^':
                power = self._exponent()
            else:
                base = self._argument()
        if self._sees(*_CLOSING):
            argument = self._primary()
        else:
            factors = [self._factor()]
            while self._starts_factor() and self._next.value not in _FUNCTION_SIGNS and not self._sees(*_CLOSING):
                factors.append(self._factor())
            argument = _chain('mul', factors)
        inverse = power is not None and power.kind == 'neg' and power.parts[0] == Node('number', Fraction(1))
        if inverse and f'arc{name}' in FUNCTIONS:
            return Node('call', f'arc{name}', (argument,))
        call = Node('call', name, (argument,) if base is None else (argument, base))
        return call if power is None else Node('pow', None, (call, power))


_FUNCTION_SIGNS = frozenset(
    f'\\{name}' for name in FUNCTIONS - {'sqrt', 'root', 'binom', 'factorial', 'floor', 'ceil', 'abs'}
)
_PREFIXES: dict[str, Callable[[_Parser], Node]] = {
    '\\frac': _Parser._fraction,
    '\\sqrt': _Parser._root,
    '\\binom': _Parser._binomial,
    '\\overline': _Parser._overline,
    '\\mathbb': _Parser._numbers_set,
    '\\pi': lambda parser: Node('symbol', 'pi'),
    '\\infty': lambda parser: Node('infinity'),
    '\\emptyset': lambda parser: Node('set'),
    '\\varnothing': lambda parser: Node('set'),
    **{sign: (lambda parser, name=sign[1:]: parser._function(name)) for sign in _FUNCTION_SIGNS},
}
