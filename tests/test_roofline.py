"""The rooflines, by hand."""

import jax.numpy as jnp
import pytest

from cosample_jax import devices, memory, roofline
from cosample_jax.gemma.config import variant

REAL = memory.Sampling(slots=64, prefix=800, question=256, new_tokens=512)


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
    found = roofline.sampling(config, 'v5e', memory.Sizes(), REAL)
    assert found == pytest.approx(64 / (read / 819e9)) == pytest.approx(9698.4, abs=0.1)
    # Enough rows of few tokens, and multiplying is what takes long.
    many = memory.Sampling(8192, 0, 16, 16)
    flops = 8192 * (2 * (weights + table) + 4 * 18 * 8 * 256 * (16 + 16))
    found = roofline.sampling(config, 'v5p', memory.Sizes(), many, filled=1)
    assert found == pytest.approx(8192 / (flops / 459e12))


def test_the_roofline_of_a_mesh_counts_a_chips_part():
    config = variant('gemma2_9b')
    one = roofline.sampling(config, 'v5p', memory.Sizes(), REAL)
    four = roofline.sampling(config, 'v5p', memory.Sizes(tensor=4), REAL)
    assert four == pytest.approx(4 * one, rel=1e-3)  # norms are whole on each
    # The layers of each are brought together on every chip: less is saved.
    assert one < roofline.sampling(config, 'v5p', memory.Sizes(fsdp=4), REAL) < 2 * one


def test_the_training_roofline_by_hand():
    """Gemma 1 2B on one chip: 18 layers of D 2048, F 16384, 8 query heads and one of keys, all of 256."""
    config, shape = variant('gemma_2b'), memory.Training(4, 512)
    weights = 18 * (2 * 2048 * 8 * 256 + 2 * 2048 * 256 + 3 * 2048 * 16_384 + 2 * 2048) + 2048
    table = 256_000 * 2048
    assert weights + table == config.num_params()
    # Queries go in four blocks, the last of which alone reads all keys: 128, 256, 384 and 512, 320 on average.
    pairs = 4 * 512 * 320 * 18 * 8 * 256
    flops = 8 * (weights + table) * 4 * 512 + 16 * pairs
    found = roofline.training(config, devices.parse_slice('v5e:1x1'), memory.Sizes(), shape)
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
    assert roofline.training(config, devices.parse_slice('v5e:1x1'), memory.Sizes(), few).bound == 'memory'


def test_the_training_roofline_of_a_mesh_by_hand():
    config, slice_ = variant('gemma2_9b'), devices.parse_slice('v5e:4x4')
    shape = memory.Training(32, 512)
    layers = config.num_non_embedding_params()
    found = roofline.training(config, slice_, memory.Sizes(fsdp=16), shape)
    # A corner chip has two links of 50 GB/s, and 15 of 16 parts of all layers come three times.
    assert found.links == pytest.approx(3 * 2 * layers * 15 / 16 / 100e9)
    tokens = 2 * 512
    flops = 8 * config.num_params() * tokens + 16 * 42 * 16 * 256 * tokens * 320
    assert found.arithmetic == pytest.approx(flops / 197e12, rel=1e-3)
    assert found.bound == 'links' and found.mfu < 0.75
    # On four larger chips each has more to multiply.
    v5p = roofline.training(config, devices.parse_slice('v5p:2x2x1'), memory.Sizes(fsdp=4), shape)
    assert v5p.bound == 'arithmetic' and v5p.arithmetic == pytest.approx(4 * flops / 459e12, rel=1e-3)
    # Whole copies of everything send each other gradients alone, twice; parts of heads, the stream.
    data = roofline.training(config, slice_, memory.Sizes(data=16), shape)
    assert data.links == pytest.approx(2 * 2 * config.num_params() * 15 / 16 / 100e9)
    tensor = roofline.training(config, slice_, memory.Sizes(data=4, tensor=4), shape)
    stream = 2 * 42 * 3 * 2 * (8 * 512 * 3584 * 2) * 3 / 4
    gradients = 2 * 2 * memory.weight_bytes(config, memory.Sizes(tensor=4), jnp.bfloat16) / 2 * 3 / 4
    assert tensor.links == pytest.approx((stream + gradients) / 100e9)


def test_adapters_and_microbatches_in_the_training_roofline():
    config, slice_, sizes = variant('gemma2_9b'), devices.parse_slice('v5e:4x4'), memory.Sizes(fsdp=16)
    shape = memory.Training(64, 512)
    whole = roofline.training(config, slice_, sizes, shape)
    adapted = roofline.training(config, slice_, sizes, shape, lora_rank=16)
    # Frozen weights come to a chip twice and no gradient of them leaves it; a third of its useful work on them is gone.
    assert adapted.links == pytest.approx(whole.links * 2 / 3)
    assert whole.useful - adapted.useful == pytest.approx(2 * config.num_params() * 4 * 512 / 197e12, rel=1e-3)
    assert whole.memory - adapted.memory > 24 * config.num_params() / 16 / 819e9
    halves = roofline.training(config, slice_, sizes, shape._replace(microbatch_rows=32))
    assert halves.links == pytest.approx(2 * whole.links) and halves.arithmetic == whole.arithmetic
    layers, table = config.num_non_embedding_params(), config.vocab_size * config.embed_dim // 16
    assert halves.memory - whole.memory == pytest.approx(4 * 2 * (layers + table) / 819e9, rel=1e-3)
