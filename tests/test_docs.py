"""What README, docs/ and the docstrings of configs/ and commands/ tell people to type is typed here, as far as flags
and its configuration; what they link to is there.
"""

import ast
import re
import shlex
from pathlib import Path

import pytest

from cosample_jax import cli
from cosample_jax.verbs import VERBS

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob('*.md'), *ROOT.glob('docs/**/*.md'), ROOT / 'tpu_scripts' / 'README.md'])
SOURCES = [*PAGES, *sorted([*ROOT.glob('configs/*.py'), *ROOT.glob('cosample_jax/commands/*.py')])]
# A command with ... in it is none; what is in brackets may be left out, and a remark is three spaces or a # away.
COMMAND = re.compile(r'^\s*(?:\S+> )?(?:\S*/)?cosample +([a-z-]+) +(.*?)(?: +[#(].*| {3,}.*)?$', re.MULTILINE)


def _commands(path: Path) -> list[str]:
    text = path.read_text()
    if path.suffix == '.py':
        text = ast.get_docstring(ast.parse(text))
    else:
        text = '\n'.join(re.findall(r'^ *```\w*\n(.*?)^ *```$', text, re.MULTILINE | re.DOTALL))
    lines = COMMAND.findall(re.sub(r' *\\\n *', ' ', text))
    found = [command for line in lines for command in f'{line[0]} {line[1]}'.split(' && cosample ')]
    found = [re.sub(r'\[[^]]*\]', '', command) for command in found]
    return [command for command in found if '...' not in command and '$' not in command]


def test_commands_are_found():
    assert sum(len(_commands(path)) for path in PAGES) > 30
    assert all(_commands(path) for path in SOURCES if path.parent.name == 'configs')


@pytest.mark.parametrize('path', SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_to_be_typed_is_understood(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    for command in _commands(path):
        verb, *flags = shlex.split(command)
        if VERBS[verb].config and '--workdir=' in command and '--config=' not in command:
            flags.append('--config=configs/arithmetic.py:size=demo')  # in place of the one that its workdir remembers
        cli.parse_flags(verb, flags)


@pytest.mark.parametrize('path', PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    for target in re.findall(r'\]\(([^)\s]+)\)', path.read_text()):
        if re.match(r'[a-z]+:', target):
            continue
        file, _, heading = target.partition('#')
        assert not file or (path.parent / file).exists(), f'{path.name} links to {target}'
        if heading:
            page = (path.parent / file if file else path).read_text()
            headings = re.findall(r'^#+ (.*)$', page, re.MULTILINE)
            assert heading in [re.sub(r'[^\w -]', '', text.lower()).replace(' ', '-') for text in headings], target


def test_every_page_is_linked_from_the_readme():
    text = (ROOT / 'README.md').read_text()
    for path in PAGES:
        if path.name != 'README.md' or path.parent != ROOT:
            assert f'({path.relative_to(ROOT)})' in text, path
