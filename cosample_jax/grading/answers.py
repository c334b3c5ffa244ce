"""Finding a solution's final answer in text, and the strict normal form that answers are compared in.

Both halves are pure Python over untrusted text: nothing is evaluated, the regular expressions take linear
time, and numbers are exact fractions, so `0.1` and `1/10` are the same answer while `33.3` and `100/3` are
not.
"""

import re
from collections.abc import Sequence
from fractions import Fraction

from cosample_jax import boxes

# A line marker's answer ends with its sentence ('The answer is 12. So he ...') or its line, and is not empty.
_SENTENCE = re.compile(r'[ \t]*(?P<answer>\S(?:[^\n.?]|[.?](?=[^\s*_$\"]))*)')
# Not json.loads: models write literal newlines, bare LaTeX and text after the object. A string must be
# closed and a bare value must be followed by the rest of the object, or a truncated 42 would be read as 4.
_JSON_VALUE = re.compile(
    r'\s*(?:"(?P<string>[^"\\]*(?:\\.[^"\\]*)*)"|(?P<answer>[^\s"{}\[\],][^\n"{}\[\]]*)(?=[\n"}]))', re.DOTALL
)
# name -> (what announces the answer, what the answer looks like behind it)
_MARKERS = {
    '####': (re.compile(r'#{4,}'), _SENTENCE),
    'The answer is': (re.compile(r'\bthe (?:final )?answer is:?', re.IGNORECASE), _SENTENCE),
    'A:': (re.compile(r'^[ \t>*_]*(?:A|(?:Final )?Answer)[*_]*:[*_]*', re.MULTILINE), _SENTENCE),
    '"answer":': (re.compile(r'"answer"\s*:'), _JSON_VALUE),
}
MARKERS = (*_MARKERS, '\\boxed')
"""Every marker's name. A task's own `MARKERS` lists the ones its solutions may use."""


def extract(text: str, markers: Sequence[str]) -> tuple[str, str]:
    """The final answer in `text` and the name of the marker that announced it; `("", "")` without a marker.

    The marker that stands last in the text wins, whatever its kind: a model that corrects itself means its
    last word, and `The answer is \\boxed{5}` is read from the box. Only a task that names the box first wants a
    box, wherever it stands, and the others where there is none: solutions to MATH go on behind it ("The answer
    is in simplest form."). There is no fallback to "the last number", which would take an answer out of the
    middle of a truncated solution.

    Raises:
        KeyError: a name that is not in `MARKERS`.
    """
    position, answer, name = -1, '', ''
    for marker in markers:
        found = boxes.last_box(text) if marker == '\\boxed' else _last_marked(text, *_MARKERS[marker])
        if found and found[0] > position:
            (position, answer), name = found, marker
        if name == markers[0] == '\\boxed':
            break
    return answer, name


def _last_marked(text: str, head: re.Pattern, value: re.Pattern) -> tuple[int, str] | None:
    """The last head that has a value behind it. Heads are found alone: two may share one line."""
    for start, end in reversed([match.span() for match in head.finditer(text)]):
        match = value.match(text, end)
        if match:
            groups = match.groupdict()
            if groups.get('string') is not None:
                return start, re.sub(r'\\(["\\/])', r'\1', groups['string']).strip()
            return start, groups['answer'].rstrip(', \t\r')
    return None


_MAX_NUMBER_CHARS = 200
_MAX_PLACES = 30
_SCALES = {'hundred': 100, 'thousand': 1_000, 'million': 10**6, 'billion': 10**9}
_DIGITS = r'(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+)'
_NUMBER = re.compile(
    rf'(?P<sign>[-+]?) ?(?:(?P<whole>\d+) (?=\d+ ?/ ?\d))?(?P<value>{_DIGITS})(?: ?/ ?(?P<below>{_DIGITS}))?'
    r' ?(?:(?P<scale>hundred|thousand|million|billion)\b ?)?(?:%|°|¢)? ?'
    # Units: words that do not change the value. A single letter is more likely a variable.
    r"(?:(?<= )(?!(?:or|and|to|plus|minus|times|over|squared|cubed|pi|sqrt)\b)[a-z]{2}[a-z '/.-]*)?",
    re.ASCII | re.IGNORECASE,
)
_LATEX = (
    (re.compile(r'\\(?:text|mathrm|mathbf|textbf)\s*\{([^{}]*)\}'), r' \1 '),
    (re.compile(r'\\[dt]?frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}'), r'\1/\2'),
    (re.compile(r'\{,\}|\\[,!;]'), ''),
    (re.compile(r'\\%'), '%'),
    (re.compile(r'\\[()\[\]$]|[$€£]'), ' '),
    (re.compile('−'), '-'),
    (re.compile(r'\b(\d{1,2}):00\b'), r'\1'),  # two o'clock
)
_RELATION = re.compile(r'[<>≠≤≥≈~]|!=')
_EMPHASIS = ' *_`"\''


def number(answer: str) -> Fraction | None:
    """The exact value of a numeric answer, or None when it is anything else.

    Accepts thousands commas, currency, a percent sign (`50%` is 50: problems ask "what percent"), trailing
    zeros and period, fractions and mixed numbers, units, `1.8 billion`, and the right-hand side of `x = 5`
    or `2 + 3 = 5`.
    """
    if len(answer) > _MAX_NUMBER_CHARS or _RELATION.search(answer):
        return None
    text = answer.rpartition('=')[2]
    for pattern, replacement in _LATEX:
        text = pattern.sub(replacement, text)
    text = ' '.join(text.split()).strip(_EMPHASIS).rstrip('.').strip(_EMPHASIS)
    match = _NUMBER.fullmatch(text)
    if not match:
        return None
    value = Fraction(match['value'].replace(',', ''))
    if match['below']:
        below = Fraction(match['below'].replace(',', ''))
        if not below:
            return None
        value /= below
    value = (value + int(match['whole'] or 0)) * _SCALES.get((match['scale'] or '').lower(), 1)
    return -value if match['sign'] == '-' else value


def normal_form(answer: str) -> str:
    """One spelling for each answer: what is stored, what votes are counted over, what text is compared by.

    A number becomes an integer, a finite decimal or a reduced fraction. Other text loses case, spacing and
    the final period, and is cut at 200 characters.
    """
    value = number(answer)
    if value is None:
        return ' '.join(answer.lower().split()).rstrip('.')[:_MAX_NUMBER_CHARS]
    return spelled(value)


def spelled(value: Fraction) -> str:
    """An integer, a finite decimal of at most 30 places, or a reduced fraction."""
    places = _decimal_places(value.denominator)
    if not 0 < places <= _MAX_PLACES:
        return str(value)
    digits = f'{abs(value.numerator) * 10**places // value.denominator:0{places + 1}d}'
    return f'{"-" if value < 0 else ""}{digits[:-places]}.{digits[-places:]}'


def _decimal_places(denominator: int) -> int:
    """Decimals that 1/denominator needs; 0 when it needs none or has no finite decimal."""
    places = {2: 0, 5: 0}
    for prime in places:
        while denominator % prime == 0:
            denominator //= prime
            places[prime] += 1
    return max(places.values()) if denominator == 1 else 0


def equal(gold: str, answer: str) -> bool:
    """The strict engine: equal values where both are numbers, equal normal forms where neither is."""
    left, right = number(gold), number(answer)
    if left is None and right is None:
        # Beyond the cut two normal forms may agree where the answers do not.
        return len(answer) <= _MAX_NUMBER_CHARS and normal_form(gold) == normal_form(answer) != ''
    return left is not None and left == right
