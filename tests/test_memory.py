"""Memory per device: what is kept equals the programs' own arrays, and slices are what data sheets say."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from cosample_jax import aot, memory
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
    there = memory.parse_slice('v5p:2x2x1').usable // 3
    slots = memory.auto_slots(config, sizes, REAL, there, jnp.bfloat16, most=4096)

    def total(slots):
        return memory.sampling(config, sizes, REAL._replace(slots=slots)).total

    assert slots % ways == 0 and ways < slots < 4096
    assert total(slots) <= there < total(slots + ways)
    assert memory.auto_slots(config, sizes, REAL, there, jnp.bfloat16, most=31) == 31 // ways * ways


def test_where_no_row_fits_the_model_and_its_need_are_named():
    config, sizes = variant('gemma2_27b'), memory.Sizes(fsdp=2)
    needed = memory.sampling(config, sizes, REAL._replace(slots=2)).total
    with pytest.raises(UserError, match=rf'gemma2_27b needs {needed / memory.GIB:.1f} GiB a device for 2 rows'):
        memory.auto_slots(config, sizes, REAL, 16 * memory.GIB, jnp.bfloat16, most=64)
    assert memory.auto_slots(config, sizes, REAL, needed, jnp.bfloat16, most=64) == 2


def test_the_roofline_by_hand():
    """Gemma 1 2B on one chip: 18 layers of D 2048, F 16384, 8 query heads and one of keys, all of 256."""
    config = variant('gemma_2b')
    layer = 2 * 2048 * 8 * 256 + 2 * 2048 * 256 + 3 * 2048 * 16_384 + 2 * 2048
    weights = 18 * layer + 2048  # and 2048 of the last norm
    table = 256_000 * 2048
    # Read: weights, and 18 layers of 512 bytes of keys and of values for 800 tokens of prefix, 16 questions of 256 for
    # 64 rows, and 256 of 512 tokens of each row.
    read = 2 * (weights + table) + 18 * 2 * 512 * (800 + 16 * 256 + 64 * 256)
    assert read == 5_404_577_792
    found = memory.roofline(config, 'v5e', memory.Sizes(), REAL)
    assert found == pytest.approx(64 / (read / 819e9)) == pytest.approx(9698.4, abs=0.1)
    # Enough rows of few tokens, and multiplying is what takes long.
    many = memory.Sampling(8192, 0, 16, 16)
    flops = 8192 * (2 * (weights + table) + 4 * 18 * 8 * 256 * (16 + 16))
    found = memory.roofline(config, 'v5p', memory.Sizes(), many, filled=1)
    assert found == pytest.approx(8192 / (flops / 459e12))


def test_the_roofline_of_a_mesh_counts_a_chips_part():
    config = variant('gemma2_9b')
    one = memory.roofline(config, 'v5p', memory.Sizes(), REAL)
    four = memory.roofline(config, 'v5p', memory.Sizes(tensor=4), REAL)
    assert four == pytest.approx(4 * one, rel=1e-3)  # norms are whole on each
    # The layers of each are brought together on every chip: less is saved.
    assert one < memory.roofline(config, 'v5p', memory.Sizes(fsdp=4), REAL) < 2 * one


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
    assert (needed <= memory.parse_slice(topology).usable) == fits


def test_the_training_roofline_by_hand():
    """Gemma 1 2B on one chip: 18 layers of D 2048, F 16384, 8 query heads and one of keys, all of 256."""
    config, shape = variant('gemma_2b'), memory.Training(4, 512)
    weights = 18 * (2 * 2048 * 8 * 256 + 2 * 2048 * 256 + 3 * 2048 * 16_384 + 2 * 2048) + 2048
    table = 256_000 * 2048
    assert weights + table == config.num_params()
    # Queries go in four blocks, the last of which alone reads all keys: 128, 256, 384 and 512, 320 on average.
    pairs = 4 * 512 * 320 * 18 * 8 * 256
    flops = 8 * (weights + table) * 4 * 512 + 16 * pairs
    found = memory.training_roofline(config, memory.parse_slice('v5e:1x1'), memory.Sizes(), shape)
    assert found.arithmetic == pytest.approx(flops / 197e12) == pytest.approx(0.21039, rel=1e-4)
    assert found.bound == 'arithmetic' and found.seconds == found.arithmetic and found.links == 0
    useful = 6 * (weights + table) * 4 * 512 + 12 * pairs
    assert found.mfu == pytest.approx(useful / flops) == pytest.approx(0.75)
    # Of a layer: queries and heads' results, keys and values, gate, up and their product, and the stream twice.
    widths = 2 * 8 * 256 + 2 * 256 + 3 * 16_384 + 2 * 2048
    made = 4 * 512 * (18 * widths * 2 + 256_000 * 4)
    moved = 24 * (weights + table) + 4 * 2 * (weights + table) + 6 * made
    assert found.memory == pytest.approx(moved / 819e9)
    few = memory.Training(1, 64)  # tokens, and masters and moments are what takes long
    assert memory.training_roofline(config, memory.parse_slice('v5e:1x1'), memory.Sizes(), few).bound == 'memory'


def test_the_training_roofline_of_a_mesh_by_hand():
    config, slice_ = variant('gemma2_9b'), memory.parse_slice('v5e:4x4')
    shape = memory.Training(32, 512)
    layers = config.num_non_embedding_params()
    found = memory.training_roofline(config, slice_, memory.Sizes(fsdp=16), shape)
    # A corner chip has two links of 50 GB/s, and 15 of 16 parts of all layers come three times.
    assert found.links == pytest.approx(3 * 2 * layers * 15 / 16 / 100e9)
    tokens = 2 * 512
    flops = 8 * config.num_params() * tokens + 16 * 42 * 16 * 256 * tokens * 320
    assert found.arithmetic == pytest.approx(flops / 197e12, rel=1e-3)
    assert found.bound == 'links' and found.mfu < 0.75
    # On four larger chips each has more to multiply.
    v5p = memory.training_roofline(config, memory.parse_slice('v5p:2x2x1'), memory.Sizes(fsdp=4), shape)
    assert v5p.bound == 'arithmetic' and v5p.arithmetic == pytest.approx(4 * flops / 459e12, rel=1e-3)
    # Whole copies of everything send each other gradients alone, twice; parts of heads, the stream.
    data = memory.training_roofline(config, slice_, memory.Sizes(data=16), shape)
    assert data.links == pytest.approx(2 * 2 * config.num_params() * 15 / 16 / 100e9)
    tensor = memory.training_roofline(config, slice_, memory.Sizes(data=4, tensor=4), shape)
    stream = 2 * 42 * 3 * 2 * (8 * 512 * 3584 * 2) * 3 / 4
    gradients = 2 * 2 * memory.weight_bytes(config, memory.Sizes(tensor=4), jnp.bfloat16) / 2 * 3 / 4
    assert tensor.links == pytest.approx((stream + gradients) / 100e9)


def test_adapters_and_microbatches_in_the_training_roofline():
    config, slice_, sizes = variant('gemma2_9b'), memory.parse_slice('v5e:4x4'), memory.Sizes(fsdp=16)
    shape = memory.Training(64, 512)
    whole = memory.training_roofline(config, slice_, sizes, shape)
    adapted = memory.training_roofline(config, slice_, sizes, shape, lora_rank=16)
    # Frozen weights come to a chip twice and no gradient of them leaves it; a third of its useful work on them is gone.
    assert adapted.links == pytest.approx(whole.links * 2 / 3)
    assert whole.useful - adapted.useful == pytest.approx(2 * config.num_params() * 4 * 512 / 197e12, rel=1e-3)
    assert whole.memory - adapted.memory > 24 * config.num_params() / 16 / 819e9
    halves = memory.training_roofline(config, slice_, sizes, shape._replace(microbatch_rows=32))
    assert halves.links == pytest.approx(2 * whole.links) and halves.arithmetic == whole.arithmetic
    layers, table = config.num_non_embedding_params(), config.vocab_size * config.embed_dim // 16
    assert halves.memory - whole.memory == pytest.approx(4 * 2 * (layers + table) / 819e9, rel=1e-3)


@pytest.mark.parametrize(
    ('name', 'links'),
    [
        ('v5e:1x1', 0),
        ('v5e:2x2', 2),
        ('v5e:4x8', 2),
        ('v6e:8x16', 3),  # rings of 16
        ('v5e:16x16', 4),
        ('v5p:2x2x1', 2),
        ('v4:2x2x4', 3),
        ('v5p:4x4x8', 6),  # whole cubes
    ],
)
def test_links_of_a_corner_chip(name, links):
    assert memory.parse_slice(name).links == links


def test_this_machine_is_shared_by_the_devices_it_stands_for():
    name, whole = memory.this_device(memory.Sizes())
    assert name == 'this machine'
    assert memory.this_device(memory.Sizes(2, 2, 2)) == ('each of 8 devices of this machine', whole // 8)


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
    whole = memory.training_temporaries(config, sizes, memory.Training(64, 512))
    fewer = memory.training_temporaries(config, sizes, memory.Training(64, 512, microbatch_rows=16))
    as_small = memory.training_temporaries(config, sizes, memory.Training(16, 512))
    assert fewer < whole
    assert fewer - as_small == memory.weight_bytes(config, sizes, jnp.float32)


@pytest.mark.parametrize(
    ('kind', 'teraflops'),
    [('TPU v4', 275), ('TPU v5 lite', 197), ('TPU v5p', 459), ('TPU v6 lite', 918), ('NVIDIA H200', 989)],
)
def test_peak_of_known_devices(kind, teraflops):
    assert memory.peak_flops(memory.Sizes(data=2, tensor=4), kind) == 8e12 * teraflops


def test_peak_of_other_devices_is_not_guessed():
    assert memory.peak_flops(memory.Sizes(), 'cpu') is None
