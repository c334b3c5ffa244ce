from html.parser import HTMLParser

from cosample_jax.report import page
from cosample_jax.report.page import Column, Markup


def test_text_is_escaped_and_markup_is_not():
    assert (
        page.tag('p', '<script>', Markup('<b>x</b>'), class_='a"b') == '<p class="a&quot;b">&lt;script&gt;<b>x</b></p>'
    )


def test_table_escapes_cells_and_scrolls_in_its_box():
    html = page.table('T', '', [Column('a<b', lambda r: r['x'], text=True), Column('y', lambda r: '1')], [{'x': '<i>'}])
    assert '<i>' not in html and '&lt;i&gt;' in html and 'a&lt;b' in html and 'class="scroll"' in html


def test_figure_has_an_alt_text_and_its_data_inside():
    html = page.figure('f', b'<?xml?><svg/>', 'say "what"', 'caption')
    assert 'role="img" aria-label="say &quot;what&quot;"><svg/></div>' in html
    assert all(f'href="figures/f.{kind}"' in html for kind in ('svg', 'png', 'csv'))


def test_share_shows_its_interval_or_a_dash():
    assert page.share({'x': 0.5, 'x_low': 0.4, 'x_high': 0.61}, 'x') == '50.0%<small>40.0 to 61.0</small>'
    assert page.share({'x': ''}, 'x') == '–'


def test_document_is_well_formed_and_asks_for_nothing_from_outside():
    class Parser(HTMLParser):
        def __init__(self):
            super().__init__()
            self.open, self.loads = [], []

        def handle_starttag(self, tag, attrs):
            self.loads += [v for k, v in attrs if k in ('src', 'href') and not v.startswith(('#', 'data:'))]
            if tag not in ('meta', 'img', 'link'):
                self.open.append(tag)

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    parser = Parser()
    parser.feed(page.document('run', [('a', 'A')], page.section('a', 'A', page.paragraph('text'))))
    assert parser.open == [] and parser.loads == []
