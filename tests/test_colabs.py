"""The notebooks as files: what they may contain. `make check-notebooks` runs them."""

import ast
import json
from pathlib import Path

import pytest

import cosample_jax as cs

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / 'colabs').glob('*.ipynb'))


def code(path):
    """The source of each code cell."""
    return [''.join(cell['source']) for cell in json.loads(path.read_text())['cells'] if cell['cell_type'] == 'code']


def test_there_are_three():
    assert len(NOTEBOOKS) == 3


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
class TestNotebook:
    def test_it_is_a_notebook_without_outputs(self, path):
        book = json.loads(path.read_text())
        assert (book['nbformat'], book['metadata']['kernelspec']['name']) == (4, 'python3')
        ids = [cell['id'] for cell in book['cells']]
        assert len(set(ids)) == len(ids)
        for cell in book['cells']:
            assert cell['cell_type'] in ('markdown', 'code') and ''.join(cell['source']).strip()
            if cell['cell_type'] == 'code':
                assert cell['outputs'] == [] and cell['execution_count'] is None, 'clear all outputs before a commit'

    def test_its_cells_compile_and_are_explained(self, path):
        book = json.loads(path.read_text())
        assert book['cells'][0]['cell_type'] == 'markdown' and book['cells'][0]['source'][0].startswith('# ')
        for source in code(path):
            compile(source, str(path), 'exec')

    def test_it_uses_the_public_names_alone(self, path):
        for source in code(path):
            for node in ast.walk(ast.parse(source)):
                names = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                    assert all(alias.asname == 'cs' for alias in node.names if alias.name == 'cosample_jax')
                elif isinstance(node, ast.ImportFrom):
                    names = [node.module]
                    assert node.module != 'cosample_jax', 'write cs.<name>'
                elif isinstance(node, ast.Attribute):
                    assert not node.attr.startswith('_'), f'{node.attr} is private'
                    if isinstance(node.value, ast.Name) and node.value.id == 'cs':
                        assert node.attr in cs.__all__, f'cs.{node.attr} is not public'
                assert not any(name.startswith('cosample_jax.') for name in names), names

    def test_it_installs_the_package_where_there_is_none(self, path):
        first, second = code(path)[:2]
        assert "REPOSITORY = 'https://" in first and second == 'import cosample_jax as cs'
        assert first == code(NOTEBOOKS[0])[0], 'the first cell of all notebooks is the same'
