"""convert: every direction, to the bit; what cannot be done is refused before anything is written."""

import itertools
import json

import jax
import numpy as np
import pytest

from cosample_jax import checkpoint, cli, embedded
from cosample_jax.commands import convert
from cosample_jax.gemma import weights
from cosample_jax.gemma.config import variant

NAMES = ('tiny_weak', 'tiny_student', 'tiny_gemma3')


@pytest.fixture(scope='module')
def originals(tmp_path_factory):
    """name -> (parameters in bfloat16, their checkpoint)."""
    found = {}
    for name in NAMES:
        rng = np.random.default_rng(1)
        shapes = weights.abstract_params(variant(name))
        params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype('bfloat16'), shapes)  # noqa: B023
        path = tmp_path_factory.mktemp('originals') / name
        checkpoint.save_weights(path, params, {})
        found[name] = (params, path)
    return found


def run(**flags):
    return cli.main(['convert', *(f'--{name.rstrip("_")}={value}' for name, value in flags.items())])


def same(path, name, params):
    loaded = weights.load(weights.open_checkpoint(path), variant(name))
    return jax.tree.all(
        jax.tree.map(lambda a, b: a.dtype == b.dtype and np.asarray(a).tobytes() == b.tobytes(), loaded, params)
    )


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize(('one', 'other'), list(itertools.permutations(convert.FORMATS, 2)))
def test_there_and_back_in_every_direction(tmp_path, originals, name, one, other):
    params, path = originals[name]
    assert run(variant=name, from_=path, to=tmp_path / 'one', format=one) == 0
    assert run(variant=name, from_=tmp_path / 'one', to=tmp_path / 'other', format=other) == 0
    assert run(variant=name, from_=tmp_path / 'other', to=tmp_path / 'again', format=one) == 0
    assert weights.open_checkpoint(tmp_path / 'other').format == other
    assert same(tmp_path / 'other', name, params) and same(tmp_path / 'again', name, params)
    if one == 'huggingface':
        files = [tmp_path / each / 'model.safetensors' for each in ('one', 'again')]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_ours_becomes_a_base_model_of_a_run(tmp_path, originals):
    _, path = originals['tiny_weak']
    assert run(variant='tiny_weak', from_=path, to=tmp_path / 'w', dtype='float32') == 0
    assert checkpoint.read_lineage(tmp_path / 'w') == {
        'source': str(path / 'weights'),
        'format': 'cosample',
        'variant': 'tiny_weak',
    }
    loaded = checkpoint.load_weights(tmp_path / 'w', variant('tiny_weak'))
    assert loaded['final_norm']['scale'].dtype == np.float32


def test_the_best_checkpoint_of_a_cell(tmp_path):
    config = variant('tiny_weak')
    params = embedded.load_weights('tiny_weak', config)
    cell = tmp_path / 'weak-strong-high-s0'
    checkpoints = checkpoint.RunCheckpoints(cell / 'lr-0.001')
    checkpoints.save_weights(40, params, 0.5)
    checkpoints.close()
    record = {'trained': True, 'reason': '', 'weights': 'lr-0.001', 'best_step': 40}
    (cell / 'cell.json').write_text(json.dumps(record))
    assert run(variant='tiny_weak', from_=cell, to=tmp_path / 'hf', format='huggingface') == 0
    loaded = weights.load(weights.open_checkpoint(tmp_path / 'hf'), config)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), loaded, params))
    (cell / 'cell.json').write_text(json.dumps(record | {'trained': False, 'reason': '0 survivors, not trained'}))
    assert run(variant='tiny_weak', from_=cell, to=tmp_path / 'none') == 2


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        ({'format': 'hugging'}, "--format=hugging is no choice (did you mean 'huggingface'?)"),
        ({'dtype': 'float16'}, '--dtype=float16 is no choice'),
        (
            {'variant': 'tiny_strong'},
            'not hold tiny_strong weights but those of tiny_weak: embedder/input_embedding is (256, 40), not (256, 64)',
        ),
        ({'variant': 'tiny_weka'}, "(did you mean 'tiny_weak'?)"),
        ({'from_': 'nowhere'}, 'nowhere is not there'),
        ({'to': 'gs://bucket/x', 'format': 'huggingface'}, 'are written to a local disk'),
    ],
)
def test_mistakes_are_one_line(tmp_path, originals, capsys, flags, message):
    _, path = originals['tiny_weak']
    assert run(**({'variant': 'tiny_weak', 'from_': path, 'to': tmp_path / 'w'} | flags)) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1
    assert not (tmp_path / 'w').exists()


def test_an_interrupted_conversion_leaves_no_target_and_the_same_command_works(tmp_path, originals, monkeypatch):
    params, path = originals['tiny_weak']
    write = convert._write

    def interrupted(target, *rest):
        write(target, *rest)
        raise KeyboardInterrupt

    monkeypatch.setattr(convert, '_write', interrupted)
    command = {'variant': 'tiny_weak', 'from_': path, 'to': tmp_path / 'w', 'format': 'huggingface'}
    assert run(**command) == 130 and not (tmp_path / 'w').exists()
    monkeypatch.setattr(convert, '_write', write)
    assert run(**command) == 0 and [child.name for child in tmp_path.iterdir()] == ['w']
    assert same(tmp_path / 'w', 'tiny_weak', params)


def test_a_file_in_the_way_is_one_line(tmp_path, originals, capsys):
    _, path = originals['tiny_weak']
    (tmp_path / 'file').write_text('')
    assert run(variant='tiny_weak', from_=path, to=tmp_path / 'file' / 'w') == 2
    assert f'{tmp_path}/file is a file: name another directory' in capsys.readouterr().err


def test_nothing_is_overwritten(tmp_path, originals, capsys):
    _, path = originals['tiny_weak']
    (tmp_path / 'w').mkdir()
    (tmp_path / 'w' / 'mine').write_text('')
    assert run(variant='tiny_weak', from_=path, to=tmp_path / 'w') == 2
    assert 'is there already' in capsys.readouterr().err


def test_a_full_disk_is_seen_before(tmp_path, originals, capsys, monkeypatch):
    _, path = originals['tiny_weak']
    monkeypatch.setattr(convert.shutil, 'disk_usage', lambda path: type('Usage', (), {'free': 1000}))
    assert run(variant='tiny_weak', from_=path, to=tmp_path / 'w') == 2
    assert 'make room first' in capsys.readouterr().err and not (tmp_path / 'w').exists()
