"""Whether two expressions have the same value: exact fractions where possible, 110 digits at chosen points elsewhere.

Identities are tested as Schwartz and Zippel test polynomials: both sides at the same points. The points are fixed, of
both signs and no simple numbers; two expressions that agree to 60 digits at all of them are the same one. Numbers whose
size or cost would be without bounds (9^9^9^9) are refused. Python integers and mpmath alone, on a parsed tree.
"""

import functools
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction

import mpmath

from cosample_jax.grading.latex import Node

_DIGITS = 110
_MAX_BITS = 100_000  # of an exact number: 2004! has 19,000
_MAX_LOG = 10**7  # of a power: e to this
_MAX_FACTORIAL = 100_000
_MAX_ANGLE = 10**30
_POINTS = 5
_CONSTANTS = frozenset(('pi', 'e', 'i'))

_mp = mpmath.MPContext()
_mp.dps = _DIGITS
_TOLERANCE = _mp.mpf(10) ** -60
_NOISE = _mp.mpf(10) ** -50  # smaller values may be a zero of which rounding has left something
_CANNOT = (ArithmeticError, ValueError, TypeError)  # what mpmath raises where there is no value


def symbols(node: Node) -> frozenset[str]:
    """The variables of an expression."""
    own = {node.value} if node.kind == 'symbol' and node.value not in _CONSTANTS else set()
    return frozenset(own.union(*(symbols(part) for part in node.parts)))


def has_unknown_function(node: Node) -> bool:
    """Whether it has a function that is only a letter, f(4 - x): nothing is known of its values."""
    return (node.kind == 'call' and len(node.value) == 1) or any(map(has_unknown_function, node.parts))


def rational(node: Node) -> Fraction | None:
    """The exact value, or None when it is irrational, has variables or is unbounded."""
    try:
        value = _value(node, {})
    except _CANNOT:
        return None
    return value if isinstance(value, Fraction) else None


def approximate(node: Node) -> str | None:
    """12 digits of a value without variables, None when there is none."""
    if symbols(node) or has_unknown_function(node):
        return None
    try:
        return _mp.nstr(_number(_value(node, {})), 12)
    except _CANNOT:
        return None


def same(a: Node, b: Node) -> bool | None:
    """Whether two expressions are equal; None where that cannot be told.

    A function that is only a letter has a value of its own for each argument: that f(x + 1) = f(1 + x) is found, that
    two expressions with one differ proves nothing.
    """
    values = list(_values(a, b))
    if not values:  # what is a number is not what has no value, or one without bounds
        return False if exists(a) != exists(b) else None
    if all(_equal(left, right) for left, right in values):
        return True if len(values) > 1 or not symbols(a) | symbols(b) else None
    return None if has_unknown_function(a) or has_unknown_function(b) else False


def ratio(a: Node, b: Node) -> Fraction | mpmath.mpc | None:
    """The constant c in a = c·b, as of the sides of two equations that say the same; None where there is none."""
    constant = None
    compared = 0
    for left, right in _values(a, b):
        if left == 0 or right == 0:
            return None
        quotient = _divide(left, right)
        if constant is not None and not _equal(quotient, constant):
            return None
        constant = quotient
        compared += 1
    return constant if compared > 1 else None


def is_positive(value) -> bool:
    return value.real > 0


def exists(node: Node) -> bool:
    """Whether it has a value, and one that is not too large to be computed."""
    return next(_values(node, node), None) is not None


def _values(a: Node, b: Node) -> Iterator[tuple]:
    """Both values wherever both exist."""
    for point in _points(sorted(symbols(a) | symbols(b))):
        try:
            yield _settled(a, point), _settled(b, point)
        except _CANNOT:
            continue


def _points(names: Sequence[str]) -> list[dict[str, mpmath.mpf]]:
    return [{name: _coordinate(name, index) for name in names} for index in range(_POINTS)] if names else [{}]


@functools.lru_cache(maxsize=1024)
def _coordinate(name: str, index: int) -> mpmath.mpf:
    """±3/4 to ±5/4, so that x^336 is no extreme number; the first point's are positive, where roots exist."""
    digest = int.from_bytes(hashlib.sha256(f'{index} {name}'.encode()).digest()[:8])
    size = (3 + _mp.mpf(digest >> 1) / 2**62) / 4
    return -size if index and digest & 1 else size


def _settled(node: Node, point: Mapping[str, mpmath.mpf]):
    """The value at a point; what shrinks when the digits are doubled is 0."""
    value = _value(node, point)
    if isinstance(value, Fraction) or abs(value) > _NOISE:
        return value
    _mp.dps *= 2
    try:
        finer = _number(_value(node, point))
    finally:
        _mp.dps = _DIGITS
    return Fraction(0) if abs(finer) <= abs(value) * _NOISE else value


def _equal(a, b) -> bool:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a == b
    a, b = _number(a), _number(b)
    return abs(a - b) <= _TOLERANCE * max(abs(a), abs(b))


def _divide(a, b):
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a / b
    return _number(a) / _number(b)


def _number(value):
    """As an mpmath number; ValueError for what is not finite."""
    if isinstance(value, Fraction):
        return _mp.mpf(value.numerator) / value.denominator
    if not _mp.isfinite(value):
        raise ValueError('not finite')
    return value


class Unbounded(ArithmeticError):
    """The value is too large to be computed."""


def _value(node: Node, point: Mapping[str, mpmath.mpf]):
    """A Fraction where it is rational and not too long, else an mpmath number.

    Raises:
        ArithmeticError: division by zero, or too large.
        TypeError, ValueError: it has no value (a list, infinity, a variable without a coordinate).
    """
    kind = node.kind
    if kind == 'number':
        return node.value
    if kind == 'symbol':
        return _symbol(node.value, point)
    if kind == 'digits':
        return _numeral(*node.value)
    if kind not in _OPERATIONS:
        raise TypeError(f'a {kind} has no value')
    if kind == 'call' and node.value in _TRIGONOMETRIC:
        # An angle in degrees is one only here; elsewhere 30° is as good an answer as 30.
        return _short(_TRIGONOMETRIC[node.value](_angle(node.parts[0], point)))
    values = [_value(part, point) for part in node.parts]
    return _short(_call(node.value, values) if kind == 'call' else _OPERATIONS[kind](*values))


def _short(value):
    """Exact as long as it is short."""
    if isinstance(value, Fraction):
        bits = max(value.numerator.bit_length(), value.denominator.bit_length())
        return value if bits <= _MAX_BITS else _number(value)
    return _number(value)


def _symbol(name: str, point: Mapping[str, mpmath.mpf]):
    if name in point:
        return point[name]
    if name not in _CONSTANTS:
        raise ValueError(f'{name} has no value')
    return {'pi': +_mp.pi, 'e': +_mp.e, 'i': _mp.mpc(0, 1)}[name]


def _numeral(digits: str, base: int):
    whole, _, fraction = digits.partition('.')
    value = 0
    for digit in whole + fraction:
        value = value * base + int(digit, 36)  # also of a digit that the base does not have, which is a wrong answer
    return Fraction(value, base ** len(fraction))


def _angle(node: Node, point: Mapping[str, mpmath.mpf]):
    angle = _number(_value(node, point))
    if _has_degrees(node):
        angle = angle * _mp.pi / 180
    if abs(angle) > _MAX_ANGLE:
        raise Unbounded('an angle')
    return angle


def _has_degrees(node: Node) -> bool:
    return node.kind == 'degrees' or any(map(_has_degrees, node.parts))


def _both_exact(a, b) -> bool:
    return isinstance(a, Fraction) and isinstance(b, Fraction)


def _arithmetic(operation: Callable) -> Callable:
    def compute(*values):
        if not all(isinstance(value, Fraction) for value in values):
            values = map(_number, values)
        return functools.reduce(operation, values)

    return compute


def _power(base, exponent):
    if _both_exact(base, exponent):
        if exponent.denominator == 1:
            bits = max(base.numerator.bit_length(), base.denominator.bit_length())
            if bits * abs(exponent.numerator) <= _MAX_BITS:
                return base**exponent.numerator
        elif base >= 0 and exponent.denominator <= 64 and (root := _exact_root(base, exponent.denominator)) is not None:
            return _power(root, Fraction(exponent.numerator))
    base, exponent = _number(base), _number(exponent)
    if base == 0:
        if exponent.real > 0:
            return Fraction(0)
        raise ZeroDivisionError
    if abs(exponent) * (abs(_mp.log(abs(base))) + 4) > _MAX_LOG:
        raise Unbounded('a power')
    return _mp.power(base, exponent)


def _exact_root(value: Fraction, degree: int) -> Fraction | None:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > 2_000:
        return None
    parts = [_integer_root(part, degree) for part in (value.numerator, value.denominator)]
    return None if None in parts else Fraction(*parts)


def _integer_root(value: int, degree: int) -> int | None:
    root = math.isqrt(value) if degree == 2 else int(_mp.nint(_mp.root(value, degree))) if value else 0
    return root if root**degree == value else None


def _sqrt(value):
    return _power(value, Fraction(1, 2))


def _nth_root(value, degree):
    """The real root where there is one: the cube root of -8 is -2."""
    if _both_exact(value, degree) and degree.denominator == 1 and degree.numerator % 2 and value < 0:
        return -_power(-value, 1 / degree)
    return _power(value, _arithmetic(lambda a, b: a / b)(Fraction(1), degree))


def _factorial(value):
    if isinstance(value, Fraction) and value.denominator == 1:
        if value < 0:
            raise ValueError('a factorial of a negative number')
        if value <= 3_000:
            return Fraction(math.factorial(value.numerator))
    if abs(_number(value)) > _MAX_FACTORIAL:
        raise Unbounded('a factorial')
    return _mp.gamma(_number(value) + 1)


def _binomial(n, k):
    if _both_exact(n, k) and n.denominator == k.denominator == 1 and 0 <= n <= 5_000 and k >= 0:
        return Fraction(math.comb(n.numerator, k.numerator))
    if max(abs(_number(n)), abs(_number(k))) > _MAX_FACTORIAL:
        raise Unbounded('a binomial coefficient')
    return _mp.binomial(_number(n), _number(k))


def _exponential(value):
    return _power(+_mp.e, value)


def _logarithm(value, base=Fraction(10)):
    """Of base 10 unless it says another: ln is written for the natural one."""
    return _mp.log(_number(value)) / _mp.log(_number(base))


def _whole(rounding: Callable) -> Callable:
    def compute(value):
        if isinstance(value, Fraction):
            return Fraction(rounding(value))
        if abs(value) > _MAX_ANGLE:
            raise Unbounded('a rounded number')
        return Fraction(int({math.floor: _mp.floor, math.ceil: _mp.ceil}[rounding](_number(value).real)))

    return compute


def _call(name: str, values: Sequence):
    if len(name) == 1:  # any function: a value of its own for each argument
        told = ' '.join(_mp.nstr(_number(value), 40) for value in values)
        return Fraction(int.from_bytes(hashlib.sha256(f'{name} {told}'.encode()).digest()[:8]), 2**62)
    return _CALLS[name](*values)


_OPERATIONS: dict[str, Callable] = {
    'add': _arithmetic(lambda a, b: a + b),
    'mul': _arithmetic(lambda a, b: a * b),
    'div': _arithmetic(lambda a, b: a / b),
    'pow': _power,
    'neg': lambda a: -a,
    'degrees': lambda a: a,
    'unit': lambda a: a,
    'call': _call,
}
_CALLS: dict[str, Callable] = {
    'sqrt': _sqrt,
    'root': _nth_root,
    'factorial': _factorial,
    'binom': _binomial,
    'abs': abs,
    'floor': _whole(math.floor),
    'ceil': _whole(math.ceil),
    'exp': _exponential,
    'log': _logarithm,
    'ln': lambda a: _mp.log(_number(a)),
    'arcsin': lambda a: _mp.asin(_number(a)),
    'arccos': lambda a: _mp.acos(_number(a)),
    'arctan': lambda a: _mp.atan(_number(a)),
}
_TRIGONOMETRIC: dict[str, Callable] = {
    name: getattr(_mp, name) for name in ('sin', 'cos', 'tan', 'cot', 'sec', 'csc', 'sinh', 'cosh', 'tanh')
}
