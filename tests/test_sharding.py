import dataclasses
import functools

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from cosample_jax import sharding
from cosample_jax.errors import UserError
from cosample_jax.gemma import model, projection
from cosample_jax.gemma.config import gemma2, variant
from cosample_jax.training import lora


@dataclasses.dataclass
class Sizes:
    data: int = 1
    fsdp: int = 1
    tensor: int = 1


CONFIG = gemma2('g2', layers=2, embed=16, ffw=24, heads=4, kv_heads=2, head_dim=8, vocab=40)


def shapes(config):
    return jax.eval_shape(functools.partial(model.init, config), jax.random.key(0))


def test_every_weight_has_a_place():
    specs = jax.tree.map(lambda s: s.spec, sharding.param_shardings(shapes(CONFIG), sharding.make_mesh(Sizes(2, 2, 2))))
    layers = specs['layers']
    assert specs['embedder']['input_embedding'] == P(('tensor', 'fsdp'), None)
    assert layers['attn']['q_einsum']['w'] == P(None, ('tensor',), ('fsdp',), None)
    assert layers['attn']['kv_einsum']['w'] == P(None, None, ('tensor',), ('fsdp',), None)
    assert layers['attn']['attn_vec_einsum']['w'] == P(None, ('tensor',), None, ('fsdp',))
    assert layers['mlp']['gating_einsum']['w'] == P(None, None, ('tensor',), ('fsdp',))
    assert layers['mlp']['linear']['w'] == P(None, ('tensor',), ('fsdp',))
    assert layers['pre_attention_norm']['scale'] == P()


def test_an_adapter_is_split_as_its_matrix_and_its_rank_is_whole():
    mesh, rank = sharding.make_mesh(Sizes(2, 2, 2)), 6  # which would divide
    adapters = sharding.param_shardings(lora.shapes(CONFIG, rank), mesh)['layers']
    weights = sharding.param_shardings(shapes(CONFIG), mesh)['layers']
    for part in ('attn', 'mlp'):
        assert adapters[part].keys() == {name for name in weights[part] if name in projection.MATRICES}
        for name, pair in adapters[part].items():
            matrix = projection.MATRICES[name]
            spec = weights[part][name]['w'].spec
            stack, split = spec[: -len(matrix.w)], dict(zip(matrix.w, spec[-len(matrix.w) :], strict=True))
            assert pair['a'].spec == P(*stack, *(split[axis] for axis in matrix.inputs), None)
            assert pair['b'].spec == P(*stack, None, *(split[axis] for axis in matrix.outputs))


def test_what_does_not_divide_is_kept_whole():
    """Multi-query attention has one kv head."""
    specs = sharding.param_shardings(shapes(variant('gemma_2b')), sharding.make_mesh(Sizes(tensor=8)))
    assert specs['layers']['attn']['kv_einsum']['w'].spec == P(None, None, None, ('fsdp',), None)
    assert specs['layers']['attn']['q_einsum']['w'].spec == P(None, ('tensor',), ('fsdp',), None)


def test_a_sharded_27b_fits_where_a_whole_one_does_not():
    shardings = sharding.param_shardings(shapes(variant('gemma2_27b')), sharding.make_mesh(Sizes(fsdp=8)))
    per_device = sum(
        np.prod(s.shard_shape(leaf.shape))
        for s, leaf in zip(jax.tree.leaves(shardings), jax.tree.leaves(shapes(variant('gemma2_27b'))), strict=True)
    )
    assert per_device < variant('gemma2_27b').num_params() / 7.9


def test_rows_go_to_global_arrays():
    mesh = sharding.make_mesh(Sizes(data=4, fsdp=2))
    batch = {'tokens': np.arange(16 * 3).reshape(16, 3), 'lengths': np.arange(16)}
    placed = sharding.rows_to_global(batch, mesh)
    for name, array in placed.items():
        np.testing.assert_array_equal(array, batch[name])
        assert array.addressable_shards[0].data.shape[0] == 2


def test_too_large_a_mesh_names_the_sizes():
    with pytest.raises(UserError, match='data=4 x fsdp=3 x tensor=1 needs 12 devices and there are 8'):
        sharding.make_mesh(Sizes(4, 3, 1))


def test_rows_must_divide():
    mesh = sharding.make_mesh(Sizes(data=2, fsdp=2, tensor=2))
    sharding.check_rows(mesh, 12, 'sampling.slots')
    with pytest.raises(UserError, match=r'sampling\.slots=10 does not divide'):
        sharding.check_rows(mesh, 10, 'sampling.slots')


def test_of_several_processes_all_devices_take_part(monkeypatch):
    config = ConfigDict({'mesh': {'data': 2, 'fsdp': 1, 'tensor': 1}})
    assert sharding.run_mesh(config).size == 2
    monkeypatch.setattr(sharding.hosts, 'count', lambda: 2)
    with pytest.raises(UserError, match='config.mesh takes 2 of the 8 devices of 2 processes'):
        sharding.run_mesh(config)
