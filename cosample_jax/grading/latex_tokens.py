"""The first half of reading LaTeX: an answer's text without its layout, and as tokens."""

import re
from dataclasses import dataclass

MAX_CHARS = 1_000


class Unreadable(ValueError):
    """The text is not an expression of the kinds that are known here."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FUNCTIONS = _words(
    'sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp sqrt root binom floor ceil abs factorial'
)
RELATIONS = {sign: sign for sign in '=<>≤≥≠≈∈'} | {
    '!=': '≠', '<=': '≤', '>=': '≥', '\\le': '≤', '\\leq': '≤', '\\leqslant': '≤', '\\lt': '<',
    '\\ge': '≥', '\\geq': '≥', '\\geqslant': '≥', '\\gt': '>', '\\ne': '≠', '\\neq': '≠',
    '\\approx': '≈', '\\in': '∈', '\\equiv': '≡', '\\to': '=', '\\rightarrow': '=',
}  # fmt: skip
NUMBERS = {
    'zero': 0, 'one': 1, 'two': 2, 'three': 3, 'four': 4, 'five': 5, 'six': 6, 'seven': 7, 'eight': 8, 'nine': 9,
    'ten': 10, 'eleven': 11, 'twelve': 12,
}  # fmt: skip
_SPELLED = {
    'infinity': '\\infty', 'infty': '\\infty', 'inf': '\\infty', 'pi': '\\pi',
    'theta': '\\theta', 'union': '\\cup',
}  # fmt: skip
# Plain letters that are a unit behind a number; in \text any words there are.
_UNITS = _words('mm cm km in ft yd mi mg kg lb lbs oz ml hr hrs min sec mph kph usd pct deg am pm sq cu rad')
_SYMBOLS = _words(
    'alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau '
    'upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell hbar triangle angle'
)
_UNICODE = {
    '−': '-', '–': '-', '·': '\\cdot ', '×': '\\cdot ', '⋅': '\\cdot ', '∗': '\\cdot ', '÷': '/', '∕': '/',
    '√': '\\sqrt ',
    'π': '\\pi ', 'θ': '\\theta ', '∞': '\\infty ', '°': '\\degree ', '±': '\\pm ', '∪': '\\cup ', '∩': '\\cap ',
    '⌊': '\\lfloor ', '⌋': '\\rfloor ', '⌈': '\\lceil ', '⌉': '\\rceil ', '⟨': '\\langle ', '⟩': '\\rangle ',
    '∅': '\\emptyset ', 'ℝ': '\\mathbb{R}', '½': '\\frac{1}{2}', '¼': '\\frac{1}{4}', '¾': '\\frac{3}{4}', '’': "'",
    '\u00a0': ' ', '\u2009': ' ', '\u202f': ' ', '，': ',',
}  # fmt: skip
_RAISED = str.maketrans('⁰¹²³⁴⁵⁶⁷⁸⁹⁻', '0123456789-')
_LOWERED = str.maketrans('₀₁₂₃₄₅₆₇₈₉', '0123456789')
_TYPEFACES = r'\\(?:mathbf|mathrm|mathit|boldsymbol|bm|bold|vec|hat)'
_LAYOUT = (
    (re.compile(r'\\(?:left|right|bigl|bigr|big|Bigl|Bigr|Big|biggl|biggr|bigg)(?![a-zA-Z])\.?'), ''),
    (re.compile(r'\\(?:displaystyle|textstyle|limits|nolimits|mathstrut)(?![a-zA-Z])'), ''),
    (re.compile(r'\\h?phantom\s*(?:\{[^{}]*\}|.)?'), ''),
    (re.compile(r',\s*\\!\s*(?=\d{3})|(?<=\d)\s*\{\s*,\s*\}\s*(?=\d{3})'), ''),  # 20,\!000
    (re.compile(r'^(-?\d{1,3}(?: \d{3})+)$'), lambda spaced: spaced[0].replace(' ', '')),  # 20 000
    (re.compile(r'(?<=\d)\\,(?=\d{3}(?!\d))'), ''),  # 20\,000
    (re.compile(r'\\!|\\allowbreak'), ''),
    (re.compile(r'(?<!\\)\\[,;:> ]|\\(?:quad|qquad|enspace|thinspace)(?![a-zA-Z])|~'), ' '),
    (re.compile(r'\\[$()]|\$|[€£]|\\(?:USD|euro|pounds)(?![a-zA-Z])'), ' '),
    (re.compile(r'\\%|\\percent'), '%'),
    (re.compile(r'\\[dtc]frac(?![a-zA-Z])'), r'\\frac'),
    (re.compile(r'\\[dt]binom(?![a-zA-Z])'), r'\\binom'),
    (re.compile(r'\\(?:operatorname|mathop)\*?\s*\{\s*([a-zA-Z]+)\s*\}'), r'\\\1 '),
    # Bold and upright type are layout, except around words.
    (re.compile(rf'{_TYPEFACES}(?![a-zA-Z])\s*(?=\{{[^{{}}a-zA-Z]*\}}|\{{.\}}|[^{{])'), ''),
    (re.compile(r'\\\$'), ''),
)
_TEXT = r'\\(?:text|mbox|textbf|textit|textrm|textnormal|mathrm|mathbf|mathit|mathsf|hbox)\s*\{(?P<text>[^{}]*)\}'
_TOKEN = re.compile(
    rf'{_TEXT}'
    r'|(?P<digits>[0-9A-Z]*[0-9][0-9A-Z.]*_(?:\{\d+\}|\d+))'
    r'|(?P<number>(?:\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+|\.(?=\s*\\overline))?|\.\d+)(?:[eE][+-]?\d{1,4}(?![\d.a-zA-Z]))?)'
    r'|\\begin\s*\{(?P<begin>[a-zA-Z]+\*?)\}(?:\s*\{[clr|\s]*\})?|\\end\s*\{(?P<end>[a-zA-Z]+\*?)\}'
    r'|(?P<newline>\\\\(?:\[[^\]]*\])?)'
    r'|(?P<command>\\[a-zA-Z]+|\\[{}|])'
    r'|(?P<letters>[a-zA-Z]+)'
    r'|(?P<sign><=|>=|!=|\*\*|[-+*/^_=<>≤≥≠≈∈(){}\[\]|,;:!%&\'])'
    r'|(?P<space>\s+)'
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Token:
    kind: str  # number digits symbol word text sign begin end newline eof
    value: str


def clean(text: str) -> str:
    """The text without what only concerns its layout: sizes of brackets, thin spaces, currency signs, final periods."""
    if not text.isascii():
        for char, spelled in _UNICODE.items():
            text = text.replace(char, spelled)
        text = re.sub('[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+', lambda raised: f'^{{{raised.group().translate(_RAISED)}}}', text)
        text = re.sub('[₀₁₂₃₄₅₆₇₈₉]+', lambda lowered: f'_{{{lowered.group().translate(_LOWERED)}}}', text)
    text = text.replace('...', '\\ldots ')
    for pattern, replacement in _LAYOUT:
        text = pattern.sub(replacement, text)
    return text.lstrip(' \t\r\n*_`"').rstrip(' \t\r\n.*_`"')


def tokenize(text: str) -> list[Token]:
    """Unreadable at a character that no token has; a comma before three digits is of thousands where no list can be."""
    if _has_separators(text):
        text = re.sub(r'(?<=\d),(?=\d)', ', ', text)
    found: list[Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if not match:
            raise Unreadable(f'{text[at]!r} is not understood')
        at = match.end()
        kind = match.lastgroup
        if kind != 'space':
            found += _token(kind, match[kind])
    return [*found, Token('eof', '')]


def _has_separators(text: str) -> bool:
    """Whether a comma between digits separates: in brackets, or where another comma cannot be one of thousands."""
    depth = 0
    for match in re.finditer(r'\\[{}]|[()\[\]]|,', text):
        if match.group() in ('(', '[', '\\{'):
            depth += 1
        elif match.group() in (')', ']', '\\}'):
            depth -= 1
        elif depth > 0 or not re.match(r',(?:\s|\d{3}(?!\d))', text[match.start() : match.start() + 5]):
            return True
    return False


def _token(kind: str, value: str) -> list[Token]:
    if kind == 'letters':
        return _letters(value)
    if kind == 'text':
        return _said(value)
    if kind == 'command':
        name = value[1:]
        if name in _SYMBOLS:
            return [Token('symbol', name)]
        if name in FUNCTIONS or value in RELATIONS:
            return [Token('sign', value)]
        if value in ('\\lbrace', '\\rbrace'):
            return [Token('sign', '\\{' if name == 'lbrace' else '\\}')]
        return [
            Token('sign', {'\\mid': '|', '\\lvert': '|', '\\rvert': '|', '\\vert': '|', '\\div': '/'}.get(value, value))
        ]
    return [Token(kind, value)]


def _letters(run: str) -> list[Token]:
    """Plain letters: a function, a spelled sign, words, or a product of one-letter variables."""
    lower = run.lower()
    if lower in _SPELLED:
        spelled = _SPELLED[lower]
        return [Token('symbol', spelled[1:]) if spelled[1:] in _SYMBOLS else Token('sign', spelled)]
    if run in FUNCTIONS:
        return [Token('sign', f'\\{run}')]
    if lower in ('and', 'or'):
        return [Token('sign', ',')]
    if len(run) > 3 or lower in _UNITS or lower in NUMBERS:
        return [Token('word', run)]
    return [Token('symbol', letter) for letter in run]


def _said(content: str) -> list[Token]:
    """What \\text{...} says: a separator, or words."""
    words = content.strip()
    if re.fullmatch(r'[,;]?\s*(?:and|or|,|;)?\s*', words, re.IGNORECASE):
        return [Token('sign', ',')] if words else []
    return [Token('text', words)]


def plain(text: str) -> str:
    """Text as it is compared: without LaTeX's words for it and its case; the B of (B)."""
    text = re.sub(_TEXT, r'\g<text>', text)
    text = ' '.join(text.replace('\\', ' ').replace('$', ' ').lower().split()).strip(' .,:;\'"*_')
    return text[1:-1].strip() if re.fullmatch(r'\(\w\)', text) else text
