"""The official `gemma` package, live: its logits, its greedy tokens, its checkpoints in each layout, its real models.

It needs Python 3.12 and gigabytes, so it has an environment of its own: `make check-gemma`.
"""

import dataclasses
import enum
import functools

import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest

gm = pytest.importorskip('gemma.gm', reason='compares with the official gemma package: make check-gemma')
import orbax.checkpoint as ocp  # noqa: E402
from gemma.gm.ckpts import _checkpoint  # noqa: E402
from gemma.gm.nn import _config, _gemma, _modules, _transformer  # noqa: E402

from cosample_jax import checkpoint, embedded  # noqa: E402
from cosample_jax.gemma import model, orbax, weights  # noqa: E402
from cosample_jax.gemma.config import gemma2, gemma3, variant  # noqa: E402
from cosample_jax.sampling.engine import Engine  # noqa: E402
from cosample_jax.sampling.policy import SamplingSettings  # noqa: E402
from cosample_jax.sampling.schedule import Request  # noqa: E402

pytestmark = pytest.mark.slow

CASES = [case for case, config in parity.CASES.items() if config.family != 'gemma1']  # which it no longer has
LARGE = _config.QueryPreAttentionNormalisation.BY_ONE_OVER_SQRT_EMBED_DIM_DIV_NUM_HEADS


def official_model(config):
    """The same shape in its own words; what a family always does is taken from its real models."""
    real = {'gemma2': _gemma.Gemma2_9B, 'gemma3': _gemma.Gemma3_4B}[config.family]
    pattern = _gemma.GEMMA3_ATTENTION_PATTERN
    if config.family == 'gemma2':
        pattern = (_modules.AttentionType.LOCAL_SLIDING, _modules.AttentionType.GLOBAL)
    changes = {
        'num_embed': config.vocab_size,
        'embed_dim': config.embed_dim,
        'hidden_dim': config.ffw_dim,
        'num_heads': config.num_heads,
        'num_kv_heads': config.num_kv_heads,
        'head_dim': config.head_dim,
        'sliding_window_size': max(config.windows),
        'global_scale_factor': max(config.rope_scale),
        'attention_types': _config.make_attention_layers_types(pattern, num_layers=config.num_layers),
        'vision_encoder': None,
    }
    if 'large' in config.name:
        changes['query_pre_attn_norm'] = LARGE
    if 'caps' in config.name:
        changes |= {'attn_logits_soft_cap': 3.0, 'final_logit_softcap': 5.0}

    class Model(_transformer.Transformer):
        pass

    field = next(f for f in dataclasses.fields(real) if f.name == 'config')
    return Model(config=dataclasses.replace(field.default, **changes), dtype=jnp.float32, tokens='tokens')


def official_logits(config, params) -> np.ndarray:
    """[2, T, V] of `parity.tokens()`; with a mask of our own, since token 0 would be taken for padding."""
    inputs = {
        'positions': jnp.array(parity.positions_from(0)),
        'attention_mask': jnp.tril(jnp.ones((2, parity.T, parity.T), bool)),
    }
    return np.asarray(official_model(config).apply({'params': params}, jnp.array(parity.tokens()), **inputs).logits)


@functools.cache
def exported(case, tmp_root):
    path = tmp_root / case
    checkpoint.save_tree(path, orbax.official_params(parity.parameters(case), parity.CASES[case]))
    return path


@pytest.fixture(scope='module')
def tmp_root(tmp_path_factory):
    return tmp_path_factory.mktemp('official')


@pytest.mark.parametrize('case', CASES)
def test_its_logits_on_what_it_loads_of_our_export(case, tmp_root):
    params = gm.ckpts.load_params(exported(case, tmp_root))
    got = parity.forward(parity.CASES[case], parity.parameters(case))
    difference = parity.difference(got, official_logits(parity.CASES[case], params))
    print(f'{case}: {difference:.1e} of the range')
    assert difference <= parity.TOLERANCE


@pytest.mark.parametrize('case', ['gemma2-mha', 'gemma2-gqa', 'gemma3-linear'])
@pytest.mark.parametrize('layout', ['nested', 'flat', 'stacked', 'kauldron'])
def test_we_read_every_layout_it_writes(case, layout, tmp_path):
    config = parity.CASES[case]
    nested = jax.tree.map(jnp.asarray, orbax.official_params(parity.parameters(case), config))
    path = tmp_path / 'there'
    if layout == 'kauldron':  # what its trainer's checkpoints hold
        tree = {'params': nested, 'step': np.int32(1), 'opt_state': {'mu': jnp.ones(3)}, 'collections': {}}
        handler = ocp.CompositeCheckpointHandler()
        with ocp.Checkpointer(handler) as checkpointer:
            checkpointer.save(path, args=ocp.args.Composite(default=ocp.args.StandardSave(tree)))
    else:
        pattern = 6 if config.family == 'gemma3' else 2
        tree = {
            'nested': lambda: nested,
            'flat': lambda: _checkpoint._nested_to_flat(nested),
            'stacked': lambda: _checkpoint._nested_to_stacked(nested, pattern),
        }[layout]()
        gm.ckpts.save_params(tree, path, wait_until_finished=True)
    # It takes the layout for what is meant here.
    metadata, _ = _checkpoint._get_metadata_and_path(ocp.StandardCheckpointer(), path)
    assert _checkpoint._CheckpointTree.shape_dtype_struct_like(tree=metadata).type == layout
    found = weights.open_checkpoint(path)
    assert found.format == 'official'
    loaded = weights.load(found, config)
    assert jax.tree.all(jax.tree.map(np.array_equal, loaded, parity.parameters(case)))


REAL = {
    'gemma2_2b': _gemma.Gemma2_2B,
    'gemma2_9b': _gemma.Gemma2_9B,
    'gemma2_27b': _gemma.Gemma2_27B,
    'gemma3_270m': _gemma.Gemma3_270M,
    'gemma3_1b': _gemma.Gemma3_1B,
    'gemma3_4b': _gemma.Gemma3_4B,
    'gemma3_12b': _gemma.Gemma3_12B,
    'gemma3_27b': _gemma.Gemma3_27B,
}


@pytest.mark.parametrize('name', REAL)
def test_its_real_models_are_ours(name):
    """Every tensor's name and shape, and what has no shape: windows, rotations, scales, softcaps."""
    ours = variant(name)
    options = {} if 'gemma2' in name or name in ('gemma3_270m', 'gemma3_1b') else {'text_only': True}
    built = REAL[name](tokens='tokens', **options)
    shapes = jax.eval_shape(built.init, jax.random.key(0), jnp.zeros((1, 4), jnp.int32))['params']
    tensors = {orbax._one_name(model.leaf_name(path)): leaf for path, leaf in jax.tree.leaves_with_path(shapes)}
    found = weights.Checkpoint(
        name, 'official', tensors, functools.partial(orbax.OFFICIAL.wanted, tensors), views=lambda config: {}
    )
    weights.check(found, ours)
    gating = tensors['layer_0/mlp/gating_einsum/w'].shape
    assert gating == orbax.OFFICIAL.wanted({}, ours)['layer_0/mlp/gating_einsum/w'], 'the order we export'
    rows = tensors['embedder/input_embedding'].shape[0]
    assert rows == orbax.PADDED_ROWS.get(ours.vocab_size, ours.vocab_size), 'the rows we export'
    theirs = built.config
    local = [kind == _modules.AttentionType.LOCAL_SLIDING for kind in theirs.attention_types]
    assert ours.windows == tuple(theirs.sliding_window_size if each else 0 for each in local)
    assert ours.rope_base == tuple(
        theirs.local_base_frequency if each else theirs.global_base_frequency for each in local
    )
    assert ours.rope_scale == tuple(theirs.local_scale_factor if each else theirs.global_scale_factor for each in local)
    assert ours.query_scale == pytest.approx(theirs.query_pre_attn_scalar())
    assert ours.attn_softcap == theirs.attn_logits_soft_cap and ours.final_softcap == theirs.final_logit_softcap


class Special(enum.IntEnum):
    """The special pieces of the embedded tokenizer, as its Sampler asks for them."""

    PAD = 0
    EOS = 1
    BOS = 2
    UNK = 3
    START_OF_TURN = 4
    END_OF_TURN = 5
    BEGIN_OF_TOOL_RESPONSE = 10_000  # none
    START_OF_IMAGE = 10_001
    END_OF_IMAGE = 10_002
    IMAGE_PLACEHOLDER = 10_003


class OwnTokenizer(gm.text.Tokenizer):
    """The embedded tokenizer behind its interface."""

    FORMAT_TO_CONVERT = None

    @functools.cached_property
    def special_tokens(self):
        return Special


PROMPTS = ['Q: Ann has 12 pens and buys 5 more. How many pens does Ann have?\nA:', 'Q: Tom has', 'A: 3+4=']


def trained_gemma2():
    config = variant('tiny_strong')
    return config, embedded.load_weights('tiny_strong', config)


def random_gemma3():
    config = gemma3('official', layers=7, embed=48, ffw=80, heads=4, kv_heads=2, head_dim=16, window=7, scale=8.0, vocab=256)  # fmt: skip  # noqa: E501
    leaves, tree = jax.tree.flatten(weights.abstract_params(config))
    return config, tree.unflatten([jnp.asarray(parity.uniform(i, leaf.shape)) for i, leaf in enumerate(leaves)])


@pytest.mark.parametrize('make', [trained_gemma2, random_gemma3])
def test_its_sampler_draws_the_same_greedy_tokens(make):
    config, params = make()
    nested = orbax.official_params(jax.device_get(params), config)
    count = 40
    sampler = gm.text.Sampler(
        model=official_model(config),
        params=jax.tree.map(jnp.asarray, nested),
        tokenizer=OwnTokenizer(path=str(embedded.FILES / 'tokenizer.model')),
        cache_length=256,
        max_out_length=count,
        pad_length=64,
    )
    tokenizer = embedded.tokenizer()
    settings = SamplingSettings(
        seed=0, purpose='test', temperature=0.0, top_k=0, max_new_tokens=count, slots=4, stop_ids=(1, 5)
    )
    requests = [Request(str(i), 0, tokenizer.encode(text, bos=True)) for i, text in enumerate(PROMPTS)]
    ours = {done.problem_id: done for done in Engine(params, config, settings, requests).sample(requests)}
    drawn = 0
    for i, text in enumerate(PROMPTS):
        with jax.numpy_rank_promotion('allow'):  # which our tests forbid, and their code needs
            theirs = sampler.sample(text, max_new_tokens=count, return_state=True).tokens.tolist()
        done = ours[str(i)]
        assert theirs[: len(done.tokens)] == done.tokens, text
        assert done.finish == 'length' or theirs[len(done.tokens)] in settings.stop_ids
        drawn += done.num_tokens
    assert drawn > 60


def test_the_comparison_can_fail():
    config = gemma2('wrong', layers=4, kv_heads=2, **(parity.LOCAL | {'window': parity.WINDOW + 1}))
    params = parity.parameters('gemma2-gqa')
    nested = orbax.official_params(params, parity.CASES['gemma2-gqa'])
    theirs = official_logits(parity.CASES['gemma2-gqa'], nested)
    assert parity.difference(parity.forward(config, params), theirs) > 100 * parity.TOLERANCE
