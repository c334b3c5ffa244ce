"""What weights a directory holds: each format is told, and each way in which it can be the wrong one or half of one."""

import json
import struct

import pytest

from cosample_jax.errors import UserError
from cosample_jax.gemma import formats
from cosample_jax.gemma.config import VARIANTS, variant


def safetensors(path, shapes, cut=0):
    """A file that has its header only and, as a sparse tail, the room for its tensors, less `cut` bytes."""
    header, end = {'__metadata__': {'format': 'pt'}}, 0
    for name, shape in shapes.items():
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {'dtype': 'BF16', 'shape': shape, 'data_offsets': [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with open(path, 'wb') as file:
        file.write(struct.pack('<Q', len(text)) + text)
        file.truncate(8 + len(text) + end - cut)


def shapes(config, prefix='model', rows=None):
    layers = {f'{prefix}.layers.{i}.input_layernorm.weight': [config.embed_dim] for i in range(config.num_layers)}
    return {f'{prefix}.embed_tokens.weight': [rows or config.vocab_size, config.embed_dim]} | layers


def official(path, config, layers=None):
    names = [
        'norms',
        *(['query_norm'] if config.qk_norm else []),
        *(['post_attention_norm'] if config.post_norms else []),
    ]
    tree = {
        str(('transformer', f'layer_{i}', name)): {'value_metadata': {}}
        for i in range(layers or config.num_layers)
        for name in names
    }
    path.mkdir(parents=True, exist_ok=True)
    (path / '_METADATA').write_text(json.dumps({'tree_metadata': tree}))


def ours(path, name):
    (path / 'weights').mkdir(parents=True)
    (path / 'lineage.json').write_text(json.dumps({'variant': name}))


REAL = [name for name, config in VARIANTS.items() if config.nominal_params]


@pytest.mark.parametrize('name', REAL)
def test_every_variant_is_told_from_every_other(tmp_path, name):
    config = variant(name)
    for kind in (formats.OURS, formats.HUGGINGFACE, formats.OFFICIAL):
        (tmp_path / kind).mkdir()
    ours(tmp_path / 'ours', name)
    safetensors(tmp_path / 'hf' / 'model.safetensors', shapes(config))
    official(tmp_path / 'official', config)
    for path in sorted(tmp_path.iterdir()):
        assert formats.detect(path) == path.name
        assert str(path) in formats.describe(path, config)
        for other in set(REAL) - {name}:
            with pytest.raises(UserError, match=f'does not hold {other} weights'):
                formats.describe(path, variant(other))


def test_the_language_model_of_a_multimodal_checkpoint(tmp_path):
    """Its vision tower has layers and widths of its own, and its embedding padded rows."""
    config = variant('gemma3_4b')
    vision = {f'vision_tower.vision_model.encoder.layers.{i}.layer_norm1.weight': [1152] for i in range(60)}
    safetensors(tmp_path / 'model.safetensors', vision | shapes(config, 'language_model.model', rows=262_208))
    assert 'safetensors' in formats.describe(tmp_path, config)


def test_half_a_download_is_noticed(tmp_path):
    config = variant('tiny_weak')
    index = {'weight_map': {'a': 'model-1.safetensors', 'b': 'model-2.safetensors'}}
    (tmp_path / 'model.safetensors.index.json').write_text(json.dumps(index))
    safetensors(tmp_path / 'model-1.safetensors', shapes(config))
    with pytest.raises(UserError, match='model-2.safetensors is missing: the download is not complete'):
        formats.describe(tmp_path, config)
    safetensors(tmp_path / 'model-2.safetensors', {'model.norm.weight': [40]}, cut=1)
    with pytest.raises(UserError, match=r'model-2.safetensors has \d+ of its \d+ bytes'):
        formats.describe(tmp_path, config)
    safetensors(tmp_path / 'model-2.safetensors', {'model.norm.weight': [40]})
    formats.describe(tmp_path, config)
    (tmp_path / 'model-2.safetensors').write_bytes(b'half')
    with pytest.raises(UserError, match='cannot be read'):
        formats.describe(tmp_path, config)


def test_what_holds_no_weights_says_where_they_may_be(tmp_path):
    with pytest.raises(UserError, match='nowhere is not there'):
        formats.describe(tmp_path / 'nowhere', variant('gemma_2b'))
    with pytest.raises(UserError, match=r'holds no weights \(lineage.json'):
        formats.describe(tmp_path, variant('gemma_2b'))
    (tmp_path / 'tokenizer.model').write_text('')
    official(tmp_path / '2b', variant('gemma_2b'))
    with pytest.raises(UserError, match=f'but {tmp_path}/2b does: name that'):
        formats.describe(tmp_path, variant('gemma_2b'))
