import jax
import pytest

from cosample_jax.errors import UserError
from cosample_jax.gemma import model
from cosample_jax.gemma.config import VARIANTS, gemma2, variant

# (non-embedding parameters, as the Gemma 1, 2 and 3 reports list them; all parameters, as the Hugging Face
# checkpoints of the text models count them). The Gemma 3 report rounds to millions.
PUBLISHED = {
    'gemma_2b': (1_981_884_416, 2_506_172_416),
    'gemma_7b': (7_751_248_896, 8_537_680_896),
    'gemma2_2b': (2_024_517_888, 2_614_341_888),
    'gemma2_9b': (8_324_201_984, 9_241_705_984),
    'gemma2_27b': (26_047_480_320, 27_227_128_320),
    'gemma3_270m': (100_000_000, 268_098_176),
    'gemma3_1b': (698_000_000, 999_885_952),
    'gemma3_4b': (3_209_000_000, 3_880_099_328),
    'gemma3_12b': (10_759_000_000, None),
    'gemma3_27b': (25_600_000_000, None),
}
# All parameters of the multimodal checkpoints on Hugging Face ("safetensors: total"), which also hold a vision tower
# (SigLIP: 27 layers of width 1,152, 4,304 wide inside, 4,096 patches of 14 x 14), a projector with its norm, and rows
# for 64 image tokens.
PUBLISHED_WITH_VISION = {'gemma3_4b': 4_300_079_472, 'gemma3_12b': 12_187_325_040, 'gemma3_27b': 27_432_406_640}


@pytest.mark.parametrize('name', VARIANTS)
def test_num_params_is_what_init_makes(name):
    config = variant(name)
    shapes = jax.eval_shape(lambda key: model.init(config, key), jax.random.key(0))
    assert config.num_params() == sum(leaf.size for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize('name', PUBLISHED)
def test_num_params_is_what_was_published(name):
    config = variant(name)
    blocks, everything = PUBLISHED[name]
    exact = config.family != 'gemma3'
    assert config.num_non_embedding_params() == pytest.approx(blocks, rel=0 if exact else 4e-3)
    assert everything in (None, config.num_params())


@pytest.mark.parametrize('name', PUBLISHED_WITH_VISION)
def test_num_params_is_the_text_part_of_what_was_published(name):
    width, inside, patch = 1152, 4304, 14 * 14 * 3
    layer = 4 * (width * width + width) + 2 * width * inside + inside + width + 4 * width
    vision = patch * width + width + 4096 * width + 27 * layer + 2 * width
    config = variant(name)
    projector, image_rows = width * config.embed_dim + width, 64 * config.embed_dim
    assert config.num_params() == PUBLISHED_WITH_VISION[name] - vision - projector - image_rows


def test_layer_patterns():
    nine = variant('gemma2_9b')
    assert nine.windows[:4] == (4096, 0, 4096, 0)
    assert set(nine.rope_base) == {10_000.0}
    four = variant('gemma3_4b')
    assert four.windows[:7] == (1024, 1024, 1024, 1024, 1024, 0, 1024)
    assert four.rope_base[4:6] == (10_000.0, 1_000_000.0)
    assert four.rope_scale[4:6] == (1.0, 8.0)
    assert four.windows.count(0) == 5  # 34 layers: the last, incomplete, group has no global one
    assert variant('gemma3_1b').rope_scale[5] == 1.0


def test_query_scales_of_the_two_27b_models():
    assert variant('gemma2_27b').query_scale == pytest.approx(144**-0.5)
    assert variant('gemma3_27b').query_scale == pytest.approx(168**-0.5)
    assert variant('gemma2_9b').query_scale == pytest.approx(256**-0.5)


def test_one_tiny_strong_sample_costs_three_weak_ones():
    ratio = variant('tiny_strong').num_params() / variant('tiny_weak').num_params()
    assert ratio == pytest.approx(3.0, abs=0.02)


def test_unknown_variant_names_the_nearest():
    with pytest.raises(UserError, match="unknown model variant 'gemma2_9B' .*gemma2_9b"):
        variant('gemma2_9B')


def test_impossible_shapes_are_refused():
    with pytest.raises(ValueError, match='4 heads do not split over 3'):
        gemma2('odd', layers=2, embed=8, ffw=8, heads=4, kv_heads=3, head_dim=4)
    with pytest.raises(ValueError, match='windows needs one entry'):
        gemma2('short', layers=2, embed=8, ffw=8, heads=4, kv_heads=2, head_dim=4, windows=(0,))
