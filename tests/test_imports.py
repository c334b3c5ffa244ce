"""Who may import whom: downwards only, and rooms that promise to do without JAX keep the promise."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / 'cosample_jax'

LEAVES = {
    '',
    'errors',
    'records',
    'workdir',
    'config',
    'config_checks',
    'config_schema',
    'verbs',
    'budget',
    'progress',
    'preemption',
    'hosts',
    'links',
    'gemma.config',
    'jsonl',
    'cells',
    'boxes',
    'overlap',
    'endpoints',
    'ledger',
    'compiled',
}
# A room may import the rooms named here, its own modules and the leaves.
MIDDLE = {'tasks', 'embedded', 'checkpoint', 'gemma', 'sharding'}
ROOMS = {'sampling', 'training', 'grading', 'analysis', 'report', 'plan'}
MAY_IMPORT = {
    # The two doors: what is typed on a command line, and in a notebook. Nobody imports them.
    'notebook': {'stages', 'commands', 'devices', 'spending'} | ROOMS,
    'cli': {'stages', 'commands', 'plan_tables'} | ROOMS,
    'stages': ROOMS
    | MIDDLE
    | {
        'validation',
        'judges',
        'writers',
        'allocating',
        'reuse',
        'training_sets',
        'memory',
        'devices',
        'spending',
        'remotes',
    },
    'commands': ROOMS
    | MIDDLE
    | {'stages', 'training_sets', 'memory', 'devices', 'aot', 'remotes', 'models', 'serving', 'machine', 'plan_tables'},
    'judges': {'sampling', 'grading', 'memory', 'remotes'} | MIDDLE,
    'writers': {'sampling', 'memory', 'remotes'} | MIDDLE,
    'remotes': {'sampling', 'apis'} | MIDDLE,
    'apis': {'tasks'},
    'models': {'sampling'} | MIDDLE,
    'serving': {'sampling'} | MIDDLE,  # loads nothing: it is handed what it serves
    'allocating': {'writers', 'grading', 'analysis'} | MIDDLE,
    'validation': {'sampling', 'grading', 'memory'} | MIDDLE,  # it and `judges`: where the two meet outside a stage
    **dict.fromkeys(ROOMS, MIDDLE),
    'sampling': MIDDLE | {'apis'},
    'report': MIDDLE | {'analysis'},
    'training_sets': {'analysis'},
    'reuse': {'sampling'} | MIDDLE,
    'plan': MIDDLE | {'memory', 'roofline', 'devices', 'spending'},
    'plan_tables': {'memory', 'devices', 'spending'},
    'machine': {'gemma'},
    'spending': {'memory', 'roofline', 'devices'} | MIDDLE,
    'devices': {'sharding'},
    'memory': {'sampling', 'training', 'devices'} | MIDDLE,
    'roofline': {'memory', 'devices'} | MIDDLE,
    'aot': {'sampling', 'training', 'memory', 'roofline', 'devices'} | MIDDLE,
    'tasks': {'gemma'},
    'embedded': {'checkpoint', 'gemma'},
    'checkpoint': {'gemma', 'sharding'},
    'gemma': {'sharding'},
    'sharding': set(),
}
# These leaves may not import upwards either; what each may know of the others.
LEAF_IMPORTS = {
    '': set(),
    'errors': set(),
    'budget': {'gemma.config'},
    'progress': set(),
    'preemption': set(),
    'links': {'errors'},
    'hosts': {'errors', 'links', 'preemption'},
    'records': {'errors'},
    'jsonl': {'errors'},
    'boxes': set(),
    'overlap': {'records'},
    'cells': {'budget', 'config', 'records'},
    'endpoints': {'errors'},
    'ledger': {'errors', 'records'},
    'compiled': set(),
    'config': {'errors', 'budget', 'records', 'endpoints', 'gemma.config', 'config_checks', 'config_schema'},
    'config_schema': {'endpoints'},
    'config_checks': {'errors', 'config', 'config_schema', 'endpoints', 'gemma.config'},
    'verbs': set(),
    'workdir': {'', 'errors', 'records', 'config', 'ledger'},
    'gemma.config': {'errors'},
}
# In milliseconds and anywhere: no accelerator stack behind these.
NO_JAX = (
    'errors',
    'records',
    'workdir',
    'config',
    'config_checks',
    'config_schema',
    'verbs',
    'budget',
    'progress',
    'preemption',
    'hosts',
    'links',
    'jsonl',
    'cells',
    'training_sets',
    'boxes',
    'overlap',
    'endpoints',
    'ledger',
    'apis',
    'compiled',
    'notebook',
    'gemma.config',
    'gemma.pages',
    'gemma.tokenizer',
    'gemma.sources',
    'tasks',
    'grading',
    'analysis',
    'report',
    'sampling.schedule',
    'sampling.stops',
    'serving.protocol',
)


def modules():
    for path in sorted(PACKAGE.rglob('*.py')):
        name = '.'.join(path.relative_to(PACKAGE).with_suffix('').parts).removesuffix('__init__').removesuffix('.')
        yield name, path


def imported(path):
    """The modules of this package that a file imports, at any depth of nesting, relative to the package. What only type
    checkers see is not imported.
    """
    known = {name for name, _ in modules()}
    tree = ast.parse(path.read_text())
    tree.body = [
        node for node in tree.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == 'TYPE_CHECKING')
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}: imports are absolute here'
            base = node.module.removeprefix('cosample_jax').removeprefix('.')
            submodules = [f'{base}.{alias.name}'.removeprefix('.') for alias in node.names]
            inside = [name if name in known else base for name in submodules]
            names = [f'cosample_jax.{name}' for name in inside] if node.module.startswith('cosample_jax') else []
        else:
            continue
        for name in names:
            if name.partition('.')[0] == 'cosample_jax':
                yield name.removeprefix('cosample_jax').removeprefix('.')


@pytest.mark.parametrize(('name', 'path'), [pytest.param(*item, id=item[0] or 'package') for item in modules()])
def test_imports_go_downwards(name, path):
    room = name.partition('.')[0]
    for target in imported(path):
        if name in LEAF_IMPORTS:
            assert target in LEAF_IMPORTS[name], f'{name} is a leaf and imports {target}'
        elif target not in LEAVES:
            other = target.partition('.')[0]
            same = other == room and not (room == 'stages' and '.' in name and '.' in target)
            assert same or other in MAY_IMPORT[room], f'{name} imports {target}'


@pytest.mark.parametrize('room', NO_JAX)
def test_rooms_without_jax(room):
    names = [name for name, _ in modules() if name == room or name.startswith(f'{room}.')]
    assert names, f'there is no room {room}'
    script = ''.join(f'import cosample_jax.{name}\n' for name in names)
    script += 'import sys\nassert "jax" not in sys.modules, "jax was imported"'
    assert subprocess.run([sys.executable, '-c', script]).returncode == 0


def test_importing_the_package_loads_nothing():
    heavy = ('jax', 'numpy', 'pyarrow', 'matplotlib', 'ml_collections')
    script = f'import sys, cosample_jax\nassert not set({heavy}) & set(sys.modules), "something heavy was imported"'
    assert subprocess.run([sys.executable, '-c', script]).returncode == 0


def test_public_names_are_no_modules():
    import cosample_jax

    # Importing a submodule would put it in the place of the name.
    assert not set(cosample_jax.__all__) & {name.partition('.')[0] for name, _ in modules()}


def test_depth_never_exceeds_two():
    assert all(name.count('.') <= 1 for name, _ in modules())
