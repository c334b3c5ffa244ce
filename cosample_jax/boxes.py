"""The boxed answer of a solution, for who reads data sets and for who grades. A leaf, no JAX."""

import re

# Without braces TeX boxes one token, \\boxed 2; whatever stands at the end of the text may have been cut.
_TOKEN = re.compile(r'\\(?:boxed|fbox)(?:\s*\{|\s+(?P<bare>-?[\d.,/]*\d|[A-Za-z](?![A-Za-z]))(?=[^\w]))|\\[\\{}]|[{}]')


def last_box(text: str) -> tuple[int, str] | None:
    """(where it starts, what it holds) of the last `\\boxed{...}`, braces balanced.

    In one pass: hostile text opens thousands.
    """
    last = None
    open_braces: list[tuple[int, int] | None] = []  # (start of the command, start of the content) where it is a box
    for token in _TOKEN.finditer(text):
        if token['bare']:
            last = token.start(), token['bare']
        elif token.group().startswith(('\\boxed', '\\fbox')):
            open_braces.append(token.span())
        elif token.group() == '{':
            open_braces.append(None)
        elif token.group() == '}' and open_braces:
            box = open_braces.pop()
            if box and (last is None or box[0] > last[0]):
                last = box[0], text[box[1] : token.start()].strip()
    return last
