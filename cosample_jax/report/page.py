"""The page's parts as HTML: every text is escaped here, every table scrolls in its own box, every figure has
an alt text.
"""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cosample_jax.report import drawing
from cosample_jax.report.style import CSS


@dataclass(frozen=True)
class Column:
    """A column of a table: its header, and the cell of a row, as text or as `Markup`."""

    header: str
    cell: Callable[[dict], str]
    text: bool = False  # set left instead of right


class Markup(str):
    """HTML that is not to be escaped again."""


def escape(text) -> Markup:
    return text if isinstance(text, Markup) else Markup(html.escape(str(text)))


def tag(name: str, *children, **attributes) -> Markup:
    """An element; `class_` is its class. Children that are not Markup are escaped."""
    attrs = ''.join(f' {k.rstrip("_")}="{html.escape(str(v))}"' for k, v in attributes.items() if v != '')
    return Markup(f'<{name}{attrs}>{"".join(map(escape, children))}</{name}>')


def paragraph(text, class_='') -> Markup:
    return tag('p', text, class_=class_)


def percent(value, digits=1) -> str:
    return '–' if value == '' else f'{100 * value:.{digits}f}%'


def with_interval(value: str, low: str, high: str) -> Markup:
    """A number with its interval in small print below."""
    if value == '–':
        return escape(value)
    return Markup(f'{escape(value)}{tag("small", f"{low} to {high}")}')


def share(row: dict, name: str) -> Markup:
    """A share and its interval from the columns `name`, `name`_low and `name`_high, in percent."""
    if row[name] == '':
        return escape('–')
    low, high = (f'{100 * row[f"{name}_{end}"]:.1f}' for end in ('low', 'high'))
    return with_interval(percent(row[name]), low, high)


def table(title: str, note: str, columns: Sequence[Column], rows: Sequence[dict], starts: Sequence[int] = ()) -> Markup:
    """A table with its title and a note; a line is drawn above each row in `starts`."""
    head = tag('tr', *(tag('th', c.header, class_='text' if c.text else '', scope='col') for c in columns))
    body = []
    for i, row in enumerate(rows):
        first, *rest = columns
        cells = [tag('th', first.cell(row), scope='row')]
        cells += [tag('td', c.cell(row), class_='text' if c.text else '') for c in rest]
        body.append(tag('tr', *cells, class_='start' if i in starts else ''))
    caption = tag('div', tag('b', title), tag('span', note) if note else '', class_='title')
    inner = tag('table', tag('thead', head), tag('tbody', *body))
    return tag(
        'div',
        caption,
        tag('div', inner, class_='scroll', tabindex='0', role='region', **{'aria-label': title}),
        class_='table',
    )


def figure(name: str, svg: bytes, alt: str, caption, single: bool = False) -> Markup:
    """A figure inline as SVG, in the colours of the page, with links to the files beside the page."""
    kinds = ('svg', 'png', 'csv')
    files = Markup(' '.join(f'<a href="figures/{name}.{kind}">{kind.upper()}</a>' for kind in kinds))
    image = tag('div', Markup(drawing.inline(name, svg)), class_='image', role='img', **{'aria-label': alt})
    caption = tag('figcaption', caption, tag('span', files, class_='files'))
    return tag('figure', image, caption, class_='single' if single else '')


def section(anchor: str, title: str, *children) -> Markup:
    return tag('section', tag('h2', title), *children, id=anchor)


def document(title: str, links: Sequence[tuple[str, str]], *children) -> str:
    """The whole page: `links` are (anchor, text) of its sections."""
    navigation = tag('nav', tag('div', tag('strong', title), *(tag('a', text, href=f'#{to}') for to, text in links)))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}: which model should write the training data?</title>\n'
        f'<style>\n{CSS}</style>\n</head>\n'
        f'<body>\n{navigation}\n{tag("main", *children)}\n</body>\n</html>\n'
    )
