"""Text as tokens of arithmetic: prose, Markdown and LaTeX spelled one way, numbers, operators, words. No JAX here."""

import re
from collections.abc import Sequence
from typing import NamedTuple

MAX_DIGITS = 30  # of a number
MAX_DEPTH = 12  # of parentheses

_SPELLINGS = tuple(
    (re.compile(pattern), spelling)
    for pattern, spelling in (
        (r'[^\S\n]+', ' '),  # so that no pattern below meets a long run of spaces
        (r'(?: ?\n)+ ?', '\n'),
        (r'<<[^<>]*>>', ''),  # GSM8K's calculator annotations
        (r'(?s)\[asy\].*?(?:\[/asy\]|\Z)', '\n'),  # MATH's drawings
        (r'\\\\\s*&?\s*(?:\\q?quad\s*)?(?=[-+*/=])', ' '),  # an aligned equation goes on
        (r'\\(?:begin|end)\{(?:[a-z]*matrix|array|cases)\}', r' \\matrix '),
        (r'\\[&#$](?=\s*\d)', ' # '),  # an operator that a problem defines
        (r'\\n(?![a-z])', '\n'),  # a line end inside JSON
        (r'(?m)^[ \t]*(?:[-*•][ \t]+)+', '\n'),  # bullets
        (r'\\(?:text|textbf|mbox|mathrm|mathbf|textit)\s*\{([^{}]*)\}', r' \1 '),
        (r',?\\!|\{,\}', ','),
        (r'\\(?:left|right|displaystyle|quad|qquad|big|Big|phantom\{[^{}]*\})(?![A-Za-z])|\\[,;: (){}]|[~&`]', ' '),
        (r'\\(?:times|cdot)(?![A-Za-z])|[×·∙⋅✕]', ' * '),
        (r'\\div(?![A-Za-z])|÷', ' / '),
        (r'\\approx(?![A-Za-z])|≈|≅|\\simeq(?![A-Za-z])', ' ≈ '),
        (r'[−–]', '-'),
        (r'\\[dtc]?frac\s*(\d)\s*(\d)', r'\\frac{\1}{\2}'),
        (r'\\[dtc]frac(?![A-Za-z])', r'\\frac'),
        (r'\^\s*(?:\{\s*\\circ\s*\}|\\circ)|°', ''),
        (r'\\%', '%'),
        (r'\\f?boxed(?![A-Za-z])', ''),
        (r'(?<!\d)\d*\.\d*\s*\\(?:overline|bar|dot)(?![A-Za-z])', r' \\overline '),
        (r'\\\[|\\\]|\$\$|\\\\(?:\[[^\]\n]{0,20}\])?|\\(?:begin|end)\{[^{}]*\}', '\n'),
        (r'\\?[$€£]', ' '),
        (r'²', '^2'),
        (r'³', '^3'),
        (r'½', ' 1/2'),
        (r'¼', ' 1/4'),
        (r'¾', ' 3/4'),
        (r'(?<=\d)\*\*(?=\d)', '^'),
        (r'\*\*|__', ' '),
        (r'(?: ?\n)+ ?', '\n'),
        (r'\n\s*(?=[=≈+*/])|(?<=[-=≈+*/])\s*\n', ' '),  # an equation goes on in the next line
        (r'!(?=\s*(?:[A-Z"]|$))', '.'),
    )
)

_TOKEN = re.compile(
    r'(?P<num>\d{1,3}(?:,\d{3}){1,9}(?:\.\d+)?(?!\d|,\d)|\d+(?:\.\d+)?|(?<![\d\w])\.\d+)'
    r'|(?P<word>[A-Za-z]{2,}(?:-[A-Za-z]{2,})+|[A-Za-z]+(?:[\'’][A-Za-z]+)*)'
    r'|(?P<frac>\\frac(?![A-Za-z]))'
    r'|(?P<var>\\[A-Za-z]+|\.{2,}|…|[_!|\[\]≡√∑π#@])'
    r'|(?P<rel>==?|≈)'
    r'|(?P<op>[-+*/^])'
    r'|(?P<open>[({])'
    r'|(?P<close>[)}])'
    r'|(?P<percent>%)'
    r'|(?P<comma>,)'
    r'|(?P<space>[ \t]+)'
    r'|(?P<stop>.|\n)',
    re.ASCII,
)


class Token(NamedTuple):
    """`kind` is the token's, or 'group', opened by `text`, with the tokens `inside`; places are in the text."""

    kind: str
    text: str
    start: int
    end: int
    inside: tuple = ()


Tokens = Sequence[Token]

_OPERATORS = {'times': '*', 'plus': '+', 'minus': '-'}


def plain(text: str) -> str:
    for pattern, spelling in _SPELLINGS:
        text = pattern.sub(spelling, text)
    return text


def segments(text: str) -> list[list[Token]]:
    """Stretches that an equation cannot leave, parentheses as groups; those inside parentheses come first."""
    found: list[list[Token]] = []
    stack: list[list[Token]] = [[]]
    opened: list[Token] = []

    def stop() -> None:  # an open parenthesis that no one closes is a stop as well
        found.extend(level for level in stack if level)
        stack[:] = [[]]
        opened.clear()

    for token in _tokens(text):
        if token.kind == 'stop' or (token.kind == 'comma' and not opened):
            stop()
        elif token.kind == 'open':
            if len(stack) > MAX_DEPTH:
                stop()
            else:
                stack.append([])
                opened.append(token)
        elif token.kind == 'close':
            if not opened:
                stop()
                if token.text == '}':  # what it closed was torn: so is what follows
                    stack[-1].append(token._replace(kind='var'))
                continue
            inside = tuple(stack.pop())
            if any(each.kind == 'rel' for each in inside):
                found.append(list(inside))
            opening = opened.pop()
            stack[-1].append(Token('group', opening.text, opening.start, token.end, inside))
        else:
            stack[-1].append(token)
    stop()
    return found


def _tokens(text: str) -> list[Token]:
    tokens: list[Token] = []
    for match in _TOKEN.finditer(text):
        kind, word = match.lastgroup, match.group()
        if kind == 'space':
            continue
        if kind == 'num' and (
            len(word) > MAX_DIGITS or _is_torn(text[max(0, match.start() - 8) : match.start()], word)
        ):
            kind = 'var'
        if (
            kind == 'stop'
            and word == ':'
            and tokens
            and tokens[-1].kind == 'num'
            and text[match.end() : match.end() + 1].isdigit()
        ):
            kind = 'var'  # a time, or a ratio
        tokens.append(Token(kind, word, *match.span()))
    return [_operator_word(tokens, i) for i in range(len(tokens))]


def _is_torn(before: str, number: str) -> bool:
    """Whether a number is the rest of another one: `,000`, `14, 400`, `2 500`."""
    if before.endswith(',') or re.match(r'0\d', number):
        return True
    return bool(re.match(r'\d{3}(?!\d)', number) and re.search(r'(?<![\d.])\d{1,3},?[ ]+$', before))


def _operator_word(tokens: Tokens, i: int) -> Token:
    """The token, or the operator that it is: `3 times 4`, `5 percent`, and an x between two numbers."""
    token = tokens[i]
    if token.text == 'percent' and i and tokens[i - 1].kind in ('num', 'close'):
        return token._replace(kind='percent')
    if not 0 < i < len(tokens) - 1:
        return token
    before, after = tokens[i - 1], tokens[i + 1]
    if token.text.lower() in _OPERATORS and after.kind in ('num', 'open', 'frac'):
        return token._replace(kind='op', text=_OPERATORS[token.text.lower()])
    if token.text in ('x', 'X'):
        attached = before.end == token.start
        if (
            after.kind in ('num', 'open', 'frac')
            and (before.kind in ('num', 'close', 'percent') or (before.kind == 'word' and not attached))
            and not (attached and after.start > token.end)  # 2x 3
        ):
            return token._replace(kind='op', text='*')
    return token
