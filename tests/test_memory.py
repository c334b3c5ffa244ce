"""Memory per device: what is kept equals the programs' own arrays."""

import dataclasses

import jax.numpy as jnp
import pytest

from cosample_jax import aot, devices, memory
from cosample_jax.errors import UserError
from cosample_jax.gemma.config import variant
from cosample_jax.gemma.weights import abstract_params
from cosample_jax.sampling.policy import SamplingSettings
from cosample_jax.sampling.schedule import Request
from cosample_jax.sharding import make_mesh

SHAPE = memory.Sampling(slots=16, prefix=24, question=16, new_tokens=32)
REAL = memory.Sampling(slots=64, prefix=800, question=256, new_tokens=512)


@pytest.mark.parametrize('name', ['tiny_weak', 'gemma_2b', 'gemma2_27b', 'gemma3_270m'])
@pytest.mark.parametrize('sizes', [memory.Sizes(), memory.Sizes(2, 2, 2), memory.Sizes(1, 8, 1), memory.Sizes(1, 1, 8)])
def test_what_is_kept_is_what_the_programs_are_given(name, sizes):
    config, mesh = variant(name), make_mesh(sizes)
    cache = aot.abstract_cache(config, mesh, SHAPE)
    assert memory.cache_bytes(config, sizes, SHAPE, jnp.bfloat16) == aot.device_bytes(cache)
    train = aot.abstract_train_state(config, mesh)
    told = memory.fine_tuning(config, sizes, memory.Training(8, 64))
    assert told.weights == aot.device_bytes(train.params)
    moments = aot.device_bytes(train.opt_state)
    assert told.optimizer == pytest.approx(moments, abs=8)  # optax counts steps, too
    adapters = aot.abstract_train_state(config, mesh, lora_rank=16)
    told = memory.fine_tuning(config, sizes, memory.Training(8, 64), lora_rank=16)
    base = aot.device_bytes(abstract_params(config, jnp.bfloat16, mesh))
    assert told.weights == base + aot.device_bytes(adapters.params)
    assert told.optimizer == pytest.approx(aot.device_bytes(adapters.opt_state), abs=8)


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
    cached = [memory.cache_bytes(config, sizes, SHAPE._replace(slots=slots), jnp.bfloat16) for slots in (16, 32)]
    assert double.kv - base.kv == cached[1] - cached[0] > 0
    assert double.weights == base.weights and base.optimizer == 0
    longer = memory.sampling(config, sizes, SHAPE._replace(prefix=48))
    assert longer.kv - base.kv == memory.prefix_bytes(config, sizes, SHAPE, jnp.bfloat16)
    assert memory.sampling(config, sizes, SHAPE, jnp.float32).weights == 2 * base.weights
    shared, alone = (memory.sampling(config, sizes, REAL._replace(shared=each)) for each in (True, False))
    assert alone.kv > shared.kv and alone.weights == shared.weights  # a copy of its question for every row
    few, many = (memory.fine_tuning(config, sizes, memory.Training(rows, 512)) for rows in (8, 16))
    assert many.temporaries > few.temporaries and many[:3] == few[:3]


def test_what_is_cached_in_numbers():
    """Gemma 2 9B, four ways over heads: 42 layers, 2 of 8 heads here, 256 dimensions, bfloat16, keys and values."""
    config, sizes = variant('gemma2_9b'), memory.Sizes(tensor=4)
    token = 2 * 42 * 2 * 256 * 2
    pages = 64 * 8 + 32 * 4  # 8 of 64 tokens for every row, and 4 for every second row's question
    assert memory.cache_bytes(config, sizes, REAL, jnp.bfloat16) == pages * 64 * token
    assert memory.prefix_bytes(config, sizes, REAL, jnp.bfloat16) == 800 * token
    assert memory.question_bytes(config, sizes, REAL, jnp.bfloat16) == 16 * 256 * token
    padded = REAL._replace(question=257)  # five pages, prefilled as eight
    assert memory.question_bytes(config, sizes, padded, jnp.bfloat16) == 16 * 512 * token
    # Rows take their pages with them; the questions that no row has begun lie on every device.
    over_rows = memory.Sizes(fsdp=4)
    whole_token = 4 * token
    assert memory.cache_bytes(config, over_rows, REAL, jnp.bfloat16) == pages // 4 * 64 * whole_token
    assert memory.question_bytes(config, over_rows, REAL, jnp.bfloat16) == 16 * 256 * whole_token


@pytest.mark.parametrize('sizes', [memory.Sizes(tensor=4), memory.Sizes(data=2, tensor=2), memory.Sizes(fsdp=4)])
def test_as_many_rows_as_fit(sizes):
    config, ways = variant('gemma2_9b'), sizes.data * sizes.fsdp
    there = devices.parse_slice('v5p:2x2x1').usable // 3
    slots = memory.auto_slots(config, sizes, REAL, there, jnp.bfloat16, most=4096)

    def total(slots):
        return memory.sampling(config, sizes, REAL._replace(slots=slots)).total

    assert slots % ways == 0 and ways < slots < 4096
    assert total(slots) <= there < total(slots + ways)
    assert memory.auto_slots(config, sizes, REAL, there, jnp.bfloat16, most=31) == 31 // ways * ways


def test_where_no_row_fits_the_model_and_its_need_are_named():
    config, sizes = variant('gemma2_27b'), memory.Sizes(fsdp=2)
    needed = memory.sampling(config, sizes, REAL._replace(slots=2)).total
    with pytest.raises(UserError, match=rf'gemma2_27b needs {needed / devices.GIB:.1f} GiB a device for 2 rows'):
        memory.auto_slots(config, sizes, REAL, 16 * devices.GIB, jnp.bfloat16, most=64)
    assert memory.auto_slots(config, sizes, REAL, needed, jnp.bfloat16, most=64) == 2


@pytest.mark.parametrize(
    ('name', 'topology', 'fsdp', 'fits'),
    [
        ('gemma2_9b', 'v5e:2x4', 8, False),
        ('gemma2_9b', 'v5e:4x4', 16, True),
        ('gemma2_9b', 'v5p:2x2x1', 4, True),
        ('gemma2_27b', 'v5e:4x4', 16, False),
        ('gemma2_27b', 'v5e:4x8', 32, True),
        ('gemma2_27b', 'v5p:2x2x1', 4, False),
        ('gemma2_27b', 'v5p:2x2x2', 8, True),
    ],
)
def test_the_smallest_slices_that_train_the_papers_models(name, topology, fsdp, fits):
    needed = memory.fine_tuning(variant(name), memory.Sizes(fsdp=fsdp), memory.Training(32, 512)).total
    assert (needed <= devices.parse_slice(topology).usable) == fits


def test_left_open_the_rows_are_as_many_as_fit():
    requests = [Request(f'p{i}', k, [2, 5, 6, 10 + i]) for i in range(40) for k in range(5)]
    settings = SamplingSettings(
        seed=0, purpose='train', temperature=0.7, top_k=3, max_new_tokens=32, slots=0, stop_ids=()
    )
    config = variant('tiny_weak')
    assert memory.with_slots(settings, config, memory.Sizes(), requests).slots == 128  # what a CPU gains from
    assert memory.with_slots(settings, config, memory.Sizes(), requests[:30]).slots == 30
    assert memory.with_slots(settings, config, memory.Sizes(data=8), requests[:30]).slots == 24
    chosen = dataclasses.replace(settings, slots=7)
    assert memory.with_slots(chosen, config, memory.Sizes(), requests) is chosen
    with pytest.raises(UserError, match='sampling of gemma2_27b needs .* for 1 rows, the fewest'):
        memory.with_slots(settings, variant('gemma2_27b'), memory.Sizes(), requests)


def test_microbatches_take_less_for_activations_and_once_more_the_gradients():
    config, sizes = variant('gemma2_2b'), memory.Sizes(fsdp=4)
    whole = memory.training_temporaries(config, sizes, memory.Training(256, 512))
    fewer = memory.training_temporaries(config, sizes, memory.Training(256, 512, microbatch_rows=16))
    as_small = memory.training_temporaries(config, sizes, memory.Training(16, 512))
    assert fewer < whole
    assert fewer - as_small == memory.weight_bytes(config, sizes, jnp.float32)
