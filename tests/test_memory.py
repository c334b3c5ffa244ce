"""Memory per device: what is kept equals the programs' own arrays, and slices are what data sheets say."""

import jax
import jax.numpy as jnp
import pytest

from cosample_jax import aot, memory
from cosample_jax.errors import UserError
from cosample_jax.gemma.config import variant
from cosample_jax.sharding import make_mesh

SHAPE = memory.Sampling(slots=16, prefix=24, question=16, new_tokens=32)


@pytest.mark.parametrize('name', ['tiny_weak', 'gemma_2b', 'gemma2_27b', 'gemma3_270m'])
@pytest.mark.parametrize('sizes', [memory.Sizes(), memory.Sizes(2, 2, 2), memory.Sizes(1, 8, 1), memory.Sizes(1, 1, 8)])
def test_what_is_kept_is_what_the_programs_are_given(name, sizes):
    config, mesh = variant(name), make_mesh(sizes)
    state = aot.abstract_state(config, mesh, SHAPE)
    assert memory.cache_bytes(config, sizes, SHAPE, jnp.bfloat16) == aot.device_bytes(state.cache)
    train = aot.abstract_train_state(config, mesh)
    told = memory.fine_tuning(config, sizes, memory.Training(8, 64))
    assert told.weights == aot.device_bytes(train.params)
    moments = aot.device_bytes(train.opt_state)
    assert told.optimizer == pytest.approx(moments, abs=8)  # optax counts steps, too


def test_weights_are_split_as_the_rules_say():
    config = variant('gemma2_27b')
    whole = memory.weight_bytes(config, memory.Sizes(), jnp.bfloat16)
    assert whole == 2 * config.num_params()
    assert memory.weight_bytes(config, memory.Sizes(fsdp=8), jnp.bfloat16) == pytest.approx(whole / 8, rel=1e-3)
    assert memory.weight_bytes(config, memory.Sizes(data=8), jnp.bfloat16) == whole


def test_each_setting_moves_its_own_part():
    config, sizes = variant('gemma2_9b'), memory.Sizes(tensor=4)
    base = memory.sampling(config, sizes, SHAPE)
    double = memory.sampling(config, sizes, SHAPE._replace(slots=32))
    assert double.kv - base.kv == memory.cache_bytes(config, sizes, SHAPE, jnp.bfloat16)
    assert double.weights == base.weights and base.optimizer == 0
    longer = memory.sampling(config, sizes, SHAPE._replace(prefix=48))
    assert longer.kv - base.kv == memory.prefix_bytes(config, sizes, SHAPE, jnp.bfloat16)
    assert memory.sampling(config, sizes, SHAPE, jnp.float32).weights == 2 * base.weights
    few, many = (memory.fine_tuning(config, sizes, memory.Training(rows, 512)) for rows in (8, 16))
    assert many.temporaries > few.temporaries and many[:3] == few[:3]


@pytest.mark.parametrize(
    ('name', 'chips', 'bounds'),
    [
        ('v5e:1x1', 1, (1, 1, 1)),
        ('v5e:2x4', 8, (2, 4, 1)),
        ('v6e:4x2', 8, (4, 2, 1)),
        ('v5e:4x8', 32, (2, 2, 1)),
        ('v4:2x2x4', 16, (2, 2, 1)),
        ('v5p:2x2x2', 8, (2, 2, 1)),
    ],
)
def test_slices(name, chips, bounds):
    found = memory.parse_slice(name)
    assert (found.chips, found.host_bounds) == (chips, bounds)
    hbm = {'v4': 32, 'v5e': 16, 'v5p': 95, 'v6e': 32}[found.kind] * memory.GIB  # of the data sheets
    assert 0.95 * hbm < found.usable <= hbm


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('v5:2x4', "unknown TPU 'v5'"),
        ('v5e:2x2x2', 'a v5e slice is written like v5e:2x4'),
        ('v5p:2x2', 'a v5p slice is written like v5p:2x2x4'),
        ('v5e', 'a v5e slice is written like'),
        ('v5e:0x4', 'a v5e slice is written like'),
        ('v5e:3x3', 'must be even'),
        ('v5e:32x32', 'the largest v5e slice has 256 chips'),
    ],
)
def test_slices_that_do_not_exist(name, message):
    with pytest.raises(UserError, match=message):
        memory.parse_slice(name)


def test_the_mesh_must_be_the_slice():
    with pytest.raises(UserError, match=r'mesh.data=1 x mesh.fsdp=4 x mesh.tensor=1 is 4 devices and v5e:2x4 has 8'):
        memory.check_mesh(memory.parse_slice('v5e:2x4'), memory.Sizes(fsdp=4))
    memory.check_mesh(memory.parse_slice('v5e:2x4'), memory.Sizes(2, 2, 2))
    assert len(jax.devices()) == 8  # the mesh of a slice is not limited by them
    memory.check_mesh(memory.parse_slice('v5e:4x4'), memory.Sizes(fsdp=16))
