"""Tokens as atoms: what an equation is made of once units are gone, and where it begins and ends. No JAX here.

Nothing is guessed: what has a variable, a function or a word for a number in it is opaque.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from cosample_jax.grading.calculator_tokens import Token, Tokens

MAX_UNIT = 6  # words between a number and the next operator: `16 eggs per day - 3`


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Words between an equation and the next thought.
_THEN = _set('and or because so since then therefore thus hence but as if when where which means we gives')
# Words that make a number, before them or after them, another number: such a side is left alone.
_BEFORE = _set(
    'of twice double triple thrice half quarter third fourth fifth sqrt root log ln sin cos tan max min than '
    'day days week weeks month months step steps part case equation'
)
_AFTER = _set(
    'squared cubed mod modulo choose factorial dozen dozens hundred hundreds thousand thousands million millions '
    'billion half halves third thirds quarters tenths remainder triangle triangles'
)
# What may stand at a number without a space, or be so short, and be no variable.
_UNITS = _set('km kg cm mm ml ft in yd lb lbs oz mph hr hrs min am pm th st nd rd')
MEASURES = _set(
    'second minute hour day week month year inch inche feet foot yard mile pound ounce dollar cent cup quart gallon'
)
_SHORT = _set('of in is so we he at to by on it an as or if be do my up us no me a i')


class Atom(NamedTuple):
    """`kind`: 'operand', 'op', 'words' (prose, where arithmetic begins or ends) or 'opaque' (what cannot be computed).

    Of an operand: `value` of a literal, with the `decimals` it shows, or `inside` the atoms of a group; `percent` and
    its `unit`, if it has one.
    """

    kind: str
    start: int
    end: int
    op: str = ''
    value: Fraction | None = None
    decimals: int = 0
    inside: tuple = ()
    percent: bool = False
    unit: str = ''


def read(tokens: Tokens) -> list[Atom]:
    atoms: list[Atom] = []
    i = 0
    while i < len(tokens):
        token = tokens[i]
        if token.kind == 'op':
            i = _operator(tokens, i, atoms)
        elif token.kind in ('num', 'group', 'frac'):
            i = _operand(tokens, i, atoms)
        elif token.kind == 'word':
            i = _words(tokens, i, atoms)
        else:
            atoms.append(Atom('opaque', token.start, token.end))
            i += 1
    return atoms


def _operator(tokens: Tokens, i: int, atoms: list[Atom]) -> int:
    token, after = tokens[i], tokens[i + 1] if i + 1 < len(tokens) else None
    follows = atoms[-1].kind if atoms else ''
    if token.text in '-/' and follows == 'operand' and after is not None and after.kind == 'word':
        if not _is_variable(after.text):
            return _words(tokens, i + 1, atoms)  # `12 dollars/hour`, `12-inch`, or a dash before more prose
    elif token.text == '/' and i and tokens[i - 1].kind == 'word' and tokens[i - 1].end == token.start:
        atoms.append(Atom('opaque', token.start, token.end))  # 5 minutes/100 meters
        return i + 1
    signed = token.text == '-' and after is not None
    if (
        signed
        and follows == 'operand'
        and atoms[-1].unit
        and tokens[i - 1].end < token.start
        and after.start == token.end
    ):
        atoms.append(Atom('opaque', token.start, token.end))  # `2 is more than the other, -3`
        return i + 1
    if signed and (follows == 'op' or (follows in ('', 'words') and after.start == token.end)):
        atoms.append(Atom('op', token.start, token.end, op='sign'))
    elif follows == 'op':
        atoms.append(Atom('opaque', token.start, token.end))
    else:
        atoms.append(Atom('op', token.start, token.end, op=token.text))
    return i + 1


def _is_variable(word: str) -> bool:
    return len(word) == 1 or (len(word) <= 3 and word.isupper()) or (len(word) == 2 and word not in _SHORT | _UNITS)


def _operand(tokens: Tokens, i: int, atoms: list[Atom]) -> int:
    """A number or a group with what belongs to it: a fraction, a percent sign, factors without a sign between them."""
    token, j = tokens[i], i + 1
    attached = i > 0 and tokens[i - 1].end == token.start and tokens[i - 1].kind != 'op'
    if token.kind == 'group' and not _has_number(token.inside):
        if attached:
            atoms.append(Atom('opaque', token.start, token.end))  # 0.1(number of minutes)
        return j  # a remark: 16 (eggs)
    if attached and token.kind == 'group' and atoms and atoms[-1].kind == 'opaque':
        atoms.append(Atom('opaque', token.start, token.end))  # what a command is given: \binom{4}{2}
        return j
    if token.kind == 'num':
        decimals = len(token.text.partition('.')[2])
        atom = Atom('operand', token.start, token.end, value=Fraction(token.text.replace(',', '')), decimals=decimals)
        mixed = _mixed(tokens, i)
        if mixed is not None:
            atom, j = mixed
    elif token.kind == 'group':
        atom = _group(token)
    else:
        atom, j = _fraction(tokens, i)
    if j < len(tokens) and tokens[j].kind == 'percent':
        atom, j = atom._replace(percent=True, end=tokens[j].end), j + 1
    if atoms and atoms[-1].kind in ('operand', 'words'):
        atoms.extend(_between(atoms, atom, token, attached))
    atoms.append(atom)
    if j < len(tokens) and tokens[j].kind == 'word':
        j = _words(tokens, j, atoms)
    return j


def _between(atoms: list[Atom], atom: Atom, token: Token, attached: bool) -> list[Atom]:
    """What is between the last atom and the next one where no sign is."""
    before = atoms[-1]
    opaque = [Atom('opaque', atom.start, atom.start)]
    if before.kind == 'words' or before.unit:
        # f(3), x2; Shonda (1) + 2 kids
        return opaque if attached or (token.kind == 'group' and len(atom.inside) == 1) else []
    divided = len(atoms) > 1 and atoms[-2].op in ('/', '^')
    if token.kind == 'num':
        # 2^2 3^2, (3)4, (1/2) 278
        return opaque if attached or divided or len(before.inside) > 1 else []
    # 2(3 + 4) is a product; 10 (20 / 2) may be a remark, and 6/2(3) is read either way.
    product = attached and not divided and token.text != '{'
    return [Atom('op', atom.start, atom.start, op='*')] if product else opaque


def _has_number(tokens: Tokens) -> bool:
    if any(t.kind == 'rel' for t in tokens):
        return False
    return any(t.kind not in ('word', 'comma') for t in tokens) or (len(tokens) == 1 and _is_variable(tokens[0].text))


def _group(token: Token) -> Atom:
    inside = tuple(read(token.inside))
    if not inside or any(t.kind == 'comma' for t in token.inside) or beginning(inside) != list(inside):
        return Atom('opaque', token.start, token.end)
    if token.text == '{' and len(inside) == 1:
        return inside[0]._replace(start=token.start, end=token.end)
    return Atom('operand', token.start, token.end, inside=inside)


def _fraction(tokens: Tokens, i: int) -> tuple[Atom, int]:
    parts = [_group(t) for t in tokens[i + 1 : i + 3] if t.kind == 'group']
    units = [{atom.unit for atom in (part, *part.inside) if atom.unit} for part in parts]
    # 2.54 cm / 1 inch = 1 converts.
    if len(parts) < 2 or any(part.kind == 'opaque' for part in parts) or (all(units) and units[0] != units[1]):
        return Atom('opaque', tokens[i].start, tokens[i].end), i + 1 + len(parts)
    inside = (parts[0], Atom('op', parts[0].end, parts[0].end, op='/'), parts[1])
    return Atom('operand', tokens[i].start, parts[1].end, inside=inside), i + 3


def _mixed(tokens: Tokens, i: int) -> tuple[Atom, int] | None:
    """`2 1/2`, `2 and 1/2` or `2\\frac{1}{2}` as one number, and the place behind it."""
    whole, skipped = tokens[i], 1 + ([t.text for t in tokens[i + 1 : i + 2]] == ['and'])
    rest = tokens[i + skipped : i + skipped + 3]
    if not whole.text.isdigit() or not rest:
        return None
    if rest[0].kind == 'frac':
        fraction, j = _fraction(tokens, i + skipped)
        top, bottom = (part.value for part in fraction.inside[::2] or (Atom('opaque', 0, 0),) * 2)
        if top is None or bottom is None or top >= bottom:
            return None
    elif len(rest) == 3 and rest[1].text == '/' and rest[0].text.isdigit() and rest[2].text.isdigit():
        if rest[0].start == whole.end or int(rest[0].text) >= int(rest[2].text):
            return None
        value = Fraction(int(rest[0].text), int(rest[2].text))
        fraction, j = Atom('operand', rest[0].start, rest[2].end, value=value), i + skipped + 3
    else:
        return None
    plus = Atom('op', whole.end, whole.end, op='+')
    first = Atom('operand', whole.start, whole.end, value=Fraction(int(whole.text)))
    return Atom('operand', whole.start, fraction.end, inside=(first, plus, fraction)), j


def _words(tokens: Tokens, i: int, atoms: list[Atom]) -> int:
    """A run of words: a unit of the operand before it, the `of` of a share, or prose; the place behind it."""
    j = i
    while j < len(tokens) and tokens[j].kind == 'word':
        j += 1
    run = [token.text.lower() for token in tokens[i:j]]
    start, end = tokens[i].start, tokens[j - 1].end
    last = atoms[-1] if atoms else None
    after = tokens[j] if j < len(tokens) else None
    number_next = after is not None and after.kind in ('num', 'group', 'frac')
    if last is not None and last.kind == 'operand':
        if run[0] == 'of' and (last.percent or last.inside or (len(atoms) > 1 and atoms[-2].op == '/')):
            known = number_next and (len(run) == 1 or run[1:] == ['the'])
            atoms.append(Atom('op', start, end, op='*') if known else Atom('opaque', start, end))
            return j
        variable = (last.end == start and run[0] not in _UNITS) or (len(run) == 1 and _is_variable(tokens[i].text))
        then = next((n for n, word in enumerate(run) if word in _THEN), len(run))
        too_far = len(run) > MAX_UNIT and after is not None and after.kind == 'op'
        if variable or run[0] in _AFTER or (run[0] == 'to' and number_next) or too_far:
            atoms.append(Atom('opaque', start, end))
            return j
        atoms[-1] = last._replace(unit=run[0] if then else '')
        if after is not None and after.text == '^' and then == len(run) and not _is_variable(run[-1]):  # cm^2
            return min(j + 2, len(tokens))
        if then < len(run) or (len(run) > 1 and _ends_in_variable(tokens[i:j], after)):
            atoms.append(Atom('words', end, end))
    else:
        atoms.append(Atom('words', start, end))
    # `twice 3`, `x 3`, `+ his 3 pens`
    before_number = number_next and _changes_number(run)
    if before_number or _ends_in_variable(tokens[i:j], after) or (last is not None and last.kind == 'op'):
        atoms.append(Atom('opaque', end, end))
    return j


def _changes_number(run: Sequence[str]) -> bool:
    """Whether words make another number of the one behind them: `half of 50`, but not `a total of 50`."""
    if run[-1] == 'of' and len(run) > 1:
        return run[-2] in _BEFORE | _AFTER | {'percent', 'fraction'} or run[-2].endswith(('th', 'ths'))
    return run[-1] in _BEFORE


def _ends_in_variable(run: Tokens, after: Token | None) -> bool:
    """`5 from both sides gives x = 13`; not `sells a 3`."""
    word = run[-1]
    if not _is_variable(word.text):
        return False
    return word.text not in ('a', 'A', 'I') or after is None or after.kind in ('op', 'rel')


def beginning(atoms: Sequence[Atom]) -> list[Atom]:
    """The arithmetic that `atoms` begin with; nothing where it goes on with something that cannot be computed."""
    i = 0
    while True:
        while i < len(atoms) and atoms[i].op == 'sign':
            i += 1
        if i == len(atoms) or atoms[i].kind != 'operand':
            return []
        i += 1
        if i == len(atoms) or atoms[i].kind in ('operand', 'words'):
            return list(atoms[:i])
        if atoms[i].kind != 'op':
            return []
        i += 1


def ending(atoms: Sequence[Atom]) -> list[Atom]:
    """The arithmetic that `atoms` end with, likewise."""
    i = len(atoms)
    while True:
        if not i or atoms[i - 1].kind != 'operand':
            return []
        i -= 1
        while i and atoms[i - 1].op == 'sign':
            i -= 1
        if not i or atoms[i - 1].kind in ('operand', 'words'):
            return list(atoms[i:])
        if atoms[i - 1].kind != 'op':
            return []
        i -= 1
