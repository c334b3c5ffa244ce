"""Weights in every format: read to the bit, wherever they go; what does not fit is named, weight by weight."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.sharding import SingleDeviceSharding

from cosample_jax import checkpoint, sharding
from cosample_jax.errors import UserError
from cosample_jax.gemma import huggingface, orbax, weights
from cosample_jax.gemma.config import VARIANTS, gemma1, gemma2, gemma3, variant

SHAPE = {'embed': 48, 'ffw': 80, 'heads': 4, 'head_dim': 16, 'vocab': 96}
CONFIGS = {
    'gemma1-mha': gemma1('mha', layers=2, kv_heads=4, **SHAPE),
    'gemma1-mqa': gemma1('mqa', layers=2, kv_heads=1, **SHAPE),
    'gemma2': gemma2('gqa', layers=4, kv_heads=2, **SHAPE),
    'gemma3': gemma3('gemma3', layers=7, kv_heads=2, window=16, scale=8.0, **SHAPE),
}
configs = pytest.mark.parametrize('config', CONFIGS.values(), ids=CONFIGS)


def random_params(config, dtype=ml_dtypes.bfloat16, seed=0):
    """Numpy, every number another one: a transposition that is left out must show."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(dtype), weights.abstract_params(config))


def same(one, other):
    def bits(x):
        return x.dtype, x.shape, np.asarray(x).tobytes()

    return jax.tree.structure(one) == jax.tree.structure(other) and jax.tree.all(
        jax.tree.map(lambda a, b: bits(a) == bits(b), one, other)
    )


def save_orbax(path, tree, **options):
    ocp.Checkpointer(ocp.PyTreeCheckpointHandler(**options)).save(path.absolute(), tree)


def flat(nested):
    """The layout in which the first checkpoints were published."""
    tree = {}
    for path, leaf in jax.tree.leaves_with_path(nested):
        names = [entry.key for entry in path]
        names += ['w'] if names[-1] in ('gating_einsum', 'linear') else []
        tree.setdefault('/'.join(['transformer', *names[:-1]]), {})[names[-1]] = leaf
    return tree


def stacked(nested, types):
    """Layers i, i + types, ... of one attention type together."""
    tree, layers = {}, {}
    for name, leaves in flat(nested).items():
        head, _, rest = name.partition('/layer_')
        if not rest:
            tree[name] = leaves
            continue
        number, _, rest = rest.partition('/')
        for leaf, array in leaves.items():
            key = (f'{head}/stacked_layers/attention_type_{int(number) % types}/{rest}', leaf)
            layers.setdefault(key, []).append((int(number), array))
    for (name, leaf), arrays in layers.items():
        tree.setdefault(name, {})[leaf] = np.stack([a for _, a in sorted(arrays, key=lambda pair: pair[0])])
    return tree


WRITERS = {
    'huggingface': lambda path, params, config: huggingface.write(path, params, config),
    'cosample': lambda path, params, config: checkpoint.save_weights(path, params, {}),
    'official': lambda path, params, config: checkpoint.save_tree(path, orbax.official_params(params, config)),
    'official-flat': lambda path, params, config: save_orbax(path, flat(orbax.official_params(params, config))),
    'official-stacked': lambda path, params, config: save_orbax(
        path, stacked(orbax.official_params(params, config), 6 if config.family == 'gemma3' else 2)
    ),
    'official-kauldron': lambda path, params, config: save_orbax(
        path / 'default',
        {
            'params': orbax.official_params(params, config),
            'step': np.int32(3),
            'opt_state': {'mu': np.ones(3, np.float32)},
            'collections': {},
        },
    ),
    'official-plain_zarr': lambda path, params, config: save_orbax(
        path, flat(orbax.official_params(params, config)), use_ocdbt=False
    ),
    'official-zarr3': lambda path, params, config: save_orbax(
        path, orbax.official_params(params, config), use_zarr3=True
    ),
}
writers = pytest.mark.parametrize('writer', WRITERS)


@writers
@configs
def test_every_format_is_read_to_the_bit(tmp_path, config, writer):
    params = random_params(config)
    WRITERS[writer](tmp_path / 'there', params, config)
    found = weights.open_checkpoint(tmp_path / 'there')
    assert found.format == writer.partition('-')[0]
    assert same(weights.load(found, config), params)


@pytest.mark.parametrize('dtype', [np.float32, np.float16])
def test_other_dtypes_are_kept_or_cast(tmp_path, dtype):
    config = CONFIGS['gemma2']
    params = random_params(config, dtype)
    huggingface.write(tmp_path, params, config)
    found = weights.open_checkpoint(tmp_path)
    assert same(weights.load(found, config), params)
    cast = weights.load(found, config, jnp.bfloat16)
    assert same(cast, jax.tree.map(lambda x: x.astype(ml_dtypes.bfloat16), params))


@writers
def test_small_pieces_change_nothing(tmp_path, monkeypatch, writer):
    config = CONFIGS['gemma3']
    monkeypatch.setattr(weights, 'PIECE_BYTES', 1000)  # a gating matrix is 7,680 bytes; also the size of our chunks
    params = random_params(config)
    WRITERS[writer](tmp_path / 'there', params, config)
    assert same(weights.load(weights.open_checkpoint(tmp_path / 'there'), config), params)


@pytest.mark.parametrize('shape', [(48,), (7, 5), (3, 2, 80, 48), (1, 1)])
@pytest.mark.parametrize('chunk', [1, 3])
def test_pieces_cover_an_array_once(monkeypatch, shape, chunk):
    monkeypatch.setattr(weights, 'PIECE_BYTES', 400)
    count = np.zeros(shape, int)
    for piece in weights._pieces(shape, 4, tuple(min(chunk, n) for n in shape)):
        assert count[piece].size * 4 <= 400
        count[piece] += 1
    assert (count == 1).all()


@pytest.mark.parametrize('writer', ['huggingface', 'official', 'cosample'])
@pytest.mark.parametrize('sizes', [{'fsdp': 8}, {'tensor': 2, 'fsdp': 2, 'data': 2}])
def test_shards_go_where_they_belong(tmp_path, monkeypatch, writer, sizes):
    config = CONFIGS['gemma2']
    monkeypatch.setattr(weights, 'PIECE_BYTES', 1000)
    params = random_params(config)
    WRITERS[writer](tmp_path / 'there', params, config)
    mesh = sharding.make_mesh(SimpleNamespace(**({'data': 1, 'fsdp': 1, 'tensor': 1} | sizes)))
    loaded = weights.load(weights.open_checkpoint(tmp_path / 'there'), config, mesh=mesh)
    assert same(loaded, params)
    assert jax.tree.map(lambda x: x.sharding, loaded) == sharding.param_shardings(params, mesh)
    gating = loaded['layers']['mlp']['gating_einsum']['w']
    assert gating.addressable_shards[0].data.size == gating.size // (sizes['fsdp'] * sizes.get('tensor', 1))


def test_an_accelerator_is_written_piece_by_piece(monkeypatch):
    """The path that a CPU does not take."""
    monkeypatch.setattr(weights, 'PIECE_BYTES', 64)
    source = np.random.default_rng(0).normal(size=(5, 4, 6)).astype(np.float32)
    device = jax.devices()[1]
    pieces = ((piece, source[piece]) for piece in weights._pieces((5, 4, 6), 4, (1, 1, 1)))
    array = weights._fill_device(pieces, (5, 4, 6), np.dtype(ml_dtypes.bfloat16), device)
    assert array.sharding == SingleDeviceSharding(device)
    np.testing.assert_array_equal(array, source.astype(ml_dtypes.bfloat16))


def test_files_of_bounded_size(tmp_path, monkeypatch):
    config = CONFIGS['gemma2']
    monkeypatch.setattr(huggingface, 'SHARD_BYTES', 20_000)
    params = random_params(config)
    huggingface.write(tmp_path, params, config)
    files = sorted(tmp_path.glob('*.safetensors'))
    assert len(files) > 3 and all(file.stat().st_size < 22_000 for file in files)
    index = json.loads((tmp_path / 'model.safetensors.index.json').read_text())
    assert set(index['weight_map'].values()) == {file.name for file in files}
    assert index['metadata']['total_size'] == 2 * config.num_params()
    assert same(weights.load(weights.open_checkpoint(tmp_path), config), params)
    files[1].unlink()
    with pytest.raises(UserError, match=f'names files that are not there: {files[1].name}'):
        weights.open_checkpoint(tmp_path)


def test_the_safetensors_library_reads_what_is_written(tmp_path):
    import safetensors.numpy

    params = random_params(CONFIGS['gemma2'])
    huggingface.write(tmp_path, params, CONFIGS['gemma2'])
    found = safetensors.numpy.load_file(tmp_path / 'model.safetensors')
    np.testing.assert_array_equal(found['model.embed_tokens.weight'], params['embedder']['input_embedding'])
    assert {name: array.shape for name, array in found.items()} == {
        f'model.{name}': shape for name, shape in huggingface.wanted(CONFIGS['gemma2']).items()
    }


@pytest.mark.parametrize('prefix', ['language_model.model.', 'model.language_model.'])
def test_the_text_model_of_a_multimodal_checkpoint(tmp_path, monkeypatch, prefix):
    """The vision tower is left out, and so are the rows of the image tokens."""
    import safetensors.numpy

    config = CONFIGS['gemma3']
    params = random_params(config)
    huggingface.write(tmp_path, params, config)
    monkeypatch.setattr(huggingface, 'PADDED_ROWS', {96: 100})
    file = tmp_path / 'model.safetensors'
    tensors = {name.replace('model.', prefix): array for name, array in safetensors.numpy.load_file(file).items()}
    name = f'{prefix}embed_tokens.weight'
    tensors[name] = np.concatenate([tensors[name], tensors[name][:4]])
    tensors['vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight'] = np.ones((3, 3), np.float32)
    tensors['multi_modal_projector.mm_input_projection_weight'] = np.ones((3, 3), np.float32)
    tensors['lm_head.weight'] = tensors[name]
    safetensors.numpy.save_file(tensors, file)
    assert same(weights.load(weights.open_checkpoint(tmp_path), config), params)


def test_the_padded_vocabulary_of_the_official_checkpoints(tmp_path, monkeypatch):
    config = CONFIGS['gemma2']
    monkeypatch.setattr(orbax, 'PADDED_ROWS', {96: 128})
    params = random_params(config)
    nested = orbax.official_params(params, config)
    assert nested['embedder']['input_embedding'].shape == (128, 48)
    assert not nested['embedder']['input_embedding'][96:].any()
    nested['vision_encoder'] = {'siglip': {'w': np.ones(3, np.float32)}}
    nested['embedder']['mm_input_projection'] = {'w': np.ones(3, np.float32)}
    checkpoint.save_tree(tmp_path / 'there', nested)
    assert same(weights.load(weights.open_checkpoint(tmp_path / 'there'), config), params)


def test_the_gates_of_the_older_official_checkpoints_are_turned():
    """[2, D, F] in Gemma 1 and in Gemma 2 2B, [2, F, D] in all others."""
    for name, last in {'gemma_2b': True, 'gemma_7b': True, 'gemma2_2b': True, 'gemma2_9b': False}.items():
        config = variant(name)
        shape = orbax.OFFICIAL.wanted({}, config)['layer_0/mlp/gating_einsum/w']
        assert shape == ((2, config.embed_dim, config.ffw_dim) if last else (2, config.ffw_dim, config.embed_dim))
    config = CONFIGS['gemma1-mqa']
    params = random_params(config)
    gating = orbax.official_params(params, config)['layer_1']['mlp']['gating_einsum']
    np.testing.assert_array_equal(gating, params['layers']['mlp']['gating_einsum']['w'][1].swapaxes(1, 2))


# What is wrong.


def hollow(config, kind):
    """A checkpoint of the right names and shapes that takes no memory."""
    if kind == 'huggingface':
        shapes, wanted = huggingface.wanted(config), huggingface.wanted
    else:
        layout = {'cosample': orbax.OURS, 'official': orbax.OFFICIAL}[kind]
        shapes = layout.wanted({}, config)
    tensors = {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}
    if kind != 'huggingface':
        wanted = lambda config: layout.wanted(tensors, config)  # noqa: E731
    return weights.Checkpoint('there', kind, tensors, wanted, views=None)


REAL = [name for name, config in VARIANTS.items() if config.nominal_params]


@pytest.mark.parametrize('kind', ['huggingface', 'official', 'cosample'])
@pytest.mark.parametrize('name', REAL)
def test_every_real_variant_is_told_from_every_other(name, kind):
    found = hollow(variant(name), kind)
    weights.check(found, variant(name))
    assert weights.fitting_variant(found) == name
    for other in set(REAL) - {name}:
        with pytest.raises(UserError, match=f'does not hold {other} weights but those of {name}: '):
            weights.check(found, variant(other))


def test_each_culprit_is_named():
    config = variant('gemma2_9b')
    found = hollow(config, 'huggingface')
    tensors = found.tensors
    del tensors['layers.3.mlp.up_proj.weight'], tensors['layers.4.mlp.up_proj.weight'], tensors['norm.weight']
    tensors['layers.7.mlp.up_proj.lora'] = np.zeros(3, np.float32)
    tensors['layers.0.self_attn.q_proj.weight'] = np.broadcast_to(np.float32(0), (4096, 2304))
    tensors['layers.1.input_layernorm.weight'] = np.zeros(3584, np.int8)
    with pytest.raises(UserError) as refused:
        weights.check(found, config)
    assert str(refused.value).endswith(
        'layers.{3-4}.mlp.up_proj.weight is missing; norm.weight is missing; '
        'layers.7.mlp.up_proj.lora is not part of the model; '
        'layers.0.self_attn.q_proj.weight is (4096, 2304), not (4096, 3584); '
        'layers.1.input_layernorm.weight is int8, not one of bfloat16, float16, float32'
    )


def test_a_truncated_file_names_what_is_cut(tmp_path):
    config = CONFIGS['gemma2']
    huggingface.write(tmp_path, random_params(config), config)
    file = tmp_path / 'model.safetensors'
    whole = file.read_bytes()
    file.write_bytes(whole[:-10])
    with pytest.raises(UserError, match=r'model.safetensors has .* which cuts model.norm.weight: download it again'):
        weights.open_checkpoint(tmp_path)
    for content in (whole[:30], b'', b'not a safetensors file'):
        file.write_bytes(content)
        with pytest.raises(UserError, match='is not a safetensors file, or its header is cut short'):
            weights.open_checkpoint(file)


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (lambda entry: entry.pop('dtype'), 'is of type None'),
        (lambda entry: entry.update(dtype='F4'), 'is of type F4'),
        (lambda entry: entry.update(shape=[3, 3]), r'model.norm.weight has 96 bytes for a shape of \[3, 3\]'),
    ],
)
def test_a_damaged_header_names_the_weight(tmp_path, damage, message):
    huggingface.write(tmp_path, random_params(CONFIGS['gemma2']), CONFIGS['gemma2'])
    file = tmp_path / 'model.safetensors'
    content = file.read_bytes()
    length = int.from_bytes(content[:8], 'little')
    header = json.loads(content[8 : 8 + length])
    damage(header['model.norm.weight'])
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, 'little') + text + content[8 + length :])
    with pytest.raises(UserError, match=message):
        weights.open_checkpoint(tmp_path)


@pytest.mark.parametrize('content', ['{"weight', '{}', '[]'])
def test_a_damaged_index_is_one_line(tmp_path, content):
    (tmp_path / 'model.safetensors.index.json').write_text(content)
    with pytest.raises(UserError, match='index.json is damaged: download it again'):
        weights.open_checkpoint(tmp_path)


def test_an_output_layer_of_its_own_is_refused(tmp_path):
    import safetensors.numpy

    huggingface.write(tmp_path, random_params(CONFIGS['gemma2']), CONFIGS['gemma2'])
    file = tmp_path / 'model.safetensors'
    tensors = safetensors.numpy.load_file(file)
    tensors['lm_head.weight'] = tensors['model.embed_tokens.weight'] + 1
    safetensors.numpy.save_file(tensors, file)
    with pytest.raises(UserError, match='lm_head.weight is not the embedding'):
        weights.open_checkpoint(tmp_path)


@pytest.mark.parametrize('writer', ['cosample', 'official-plain_zarr'])
def test_a_damaged_orbax_checkpoint_names_the_weight(tmp_path, writer):
    config = CONFIGS['gemma2']
    WRITERS[writer](tmp_path / 'there', random_params(config), config)
    parts = [p for p in (tmp_path / 'there').rglob('*') if p.is_file() and p.stat().st_size > 1500]
    assert parts
    for part in parts:
        part.write_bytes(part.read_bytes()[:-700])
    with pytest.raises(UserError, match=r'fetch it again|download the checkpoint again'):
        weights.load(weights.open_checkpoint(tmp_path / 'there'), config)


def test_a_chunk_that_is_gone_is_not_zeros(tmp_path):
    config = CONFIGS['gemma2']
    WRITERS['official-plain_zarr'](tmp_path / 'there', random_params(config), config)
    next((tmp_path / 'there').rglob('layer_0/mlp/linear.w/0.0')).unlink()
    with pytest.raises(UserError, match='layers/mlp/linear/w cannot be read .* fetch it again'):
        weights.load(weights.open_checkpoint(tmp_path / 'there'), config)


def test_a_weight_that_the_metadata_lists_and_is_not_there(tmp_path):
    import shutil

    config = CONFIGS['gemma2']
    WRITERS['official-plain_zarr'](tmp_path / 'there', random_params(config), config)
    shutil.rmtree(next((tmp_path / 'there').rglob('layer_1')) / 'mlp')
    with pytest.raises(UserError, match='lists weights that are not there: layer_1/mlp/gating_einsum/w, layer_1/mlp'):
        weights.open_checkpoint(tmp_path / 'there')
    (tmp_path / 'there' / '_METADATA').write_text('{"tree')
    with pytest.raises(UserError, match='_METADATA is damaged'):
        weights.open_checkpoint(tmp_path / 'there')


def test_where_there_is_nothing(tmp_path):
    with pytest.raises(UserError, match='nowhere is not there'):
        weights.open_checkpoint(tmp_path / 'nowhere')
    with pytest.raises(UserError, match='holds no weights, neither'):
        weights.open_checkpoint(tmp_path)
    config = CONFIGS['gemma1-mqa']
    WRITERS['official'](tmp_path / 'flax' / '2b', random_params(config), config)
    assert weights.open_checkpoint(tmp_path / 'flax').path.name == '2b'  # as an archive is unpacked
    WRITERS['official'](tmp_path / 'flax' / '7b', random_params(config), config)
    with pytest.raises(UserError, match=f'but these do: {tmp_path}/flax/2b, {tmp_path}/flax/7b'):
        weights.open_checkpoint(tmp_path / 'flax')
    with pytest.raises(UserError, match='gs://bucket/x.safetensors: safetensors are memory-mapped'):
        weights.open_checkpoint('gs://bucket/x.safetensors')
