"""The logits of Hugging Face transformers' Gemma, Gemma 2 and Gemma 3 (text), on the same random weights.

What a family always does (layer pattern, RoPE bases, softcaps of 50 and 30) is left to the defaults on both
sides, so the tests compare two descriptions of the architecture and not one with its own translation.
"""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from cosample_jax.gemma import model
from cosample_jax.gemma.config import gemma1, gemma2, gemma3

INSTALL = "compares with torch and transformers: pip install 'cosample_jax[parity]'"
torch = pytest.importorskip('torch', reason=INSTALL)
transformers = pytest.importorskip('transformers', reason=INSTALL)

pytestmark = pytest.mark.slow

# Of the range of the logits. Measured: 4e-6 at most; a GELU without the tanh approximation is 7e-5 away.
TOLERANCE = 1e-5
# Long enough for attention in blocks; the first decoded tokens still see some of the prefix.
V, T, PREFIX, QUESTION, WINDOW = 200, 160, 128, 4, 7
SHAPE = {'embed': 48, 'ffw': 80, 'heads': 4, 'head_dim': 16, 'vocab': V}
LOCAL = SHAPE | {'window': WINDOW}
GEMMA3 = LOCAL | {'layers': 7}  # five local, one global, one local
LINEAR = {'rope_scaling': {'rope_type': 'linear', 'factor': 8.0}}
LARGE = {'query_scale': (48 / 4) ** -0.5}  # as in the 27B models: by D / N, not by H
HF_LARGE = {'query_pre_attn_scalar': 12}

# Ours, and what the Hugging Face config needs beyond the shape.
CASES = {
    'gemma1-mha': (gemma1('mha', layers=2, kv_heads=4, **SHAPE), {}),
    'gemma1-gqa': (gemma1('gqa', layers=2, kv_heads=2, **SHAPE), {}),
    'gemma1-mqa': (gemma1('mqa', layers=2, kv_heads=1, **SHAPE), {}),
    'gemma1-faint': (gemma1('faint', layers=2, kv_heads=1, **SHAPE), {}),  # see `parameters`
    'gemma2-mha': (gemma2('mha', layers=3, kv_heads=4, **LOCAL), {}),
    'gemma2-gqa': (gemma2('gqa', layers=3, kv_heads=2, **LOCAL), {}),
    'gemma2-mqa': (gemma2('mqa', layers=3, kv_heads=1, **LOCAL), {}),
    'gemma2-large': (gemma2('large', layers=3, kv_heads=2, **LOCAL, **LARGE), HF_LARGE),
    'gemma2-low_caps': (
        gemma2('low_caps', layers=3, kv_heads=2, attn_softcap=3.0, final_softcap=5.0, **LOCAL),
        {'attn_logit_softcapping': 3.0, 'final_logit_softcapping': 5.0},
    ),
    'gemma3-mha': (gemma3('mha', kv_heads=4, scale=1.0, **GEMMA3), {}),
    'gemma3-gqa': (gemma3('gqa', kv_heads=2, scale=1.0, **GEMMA3), {}),
    'gemma3-mqa': (gemma3('mqa', kv_heads=1, scale=1.0, **GEMMA3), {}),
    'gemma3-linear': (gemma3('linear', kv_heads=2, scale=8.0, **GEMMA3), LINEAR),
    'gemma3-large': (gemma3('large', kv_heads=2, scale=8.0, **GEMMA3, **LARGE), LINEAR | HF_LARGE),
}
cases = pytest.mark.parametrize('case', CASES)

HF_CONFIGS = {
    'gemma1': transformers.GemmaConfig,
    'gemma2': transformers.Gemma2Config,
    'gemma3': transformers.Gemma3TextConfig,
}
# Ours to theirs. Gemma 1 calls the norm before the feed-forward layer by its place, after attention.
NORMS = {'pre_attention_norm': 'input_layernorm', 'pre_ffw_norm': 'post_attention_layernorm'}
POST_NORMS = {
    'pre_attention_norm': 'input_layernorm',
    'post_attention_norm': 'post_attention_layernorm',
    'pre_ffw_norm': 'pre_feedforward_layernorm',
    'post_ffw_norm': 'post_feedforward_layernorm',
}


@functools.cache
def parameters(case):
    """Random parameters, norm scales included: at 0 a wrong norm would not show."""
    params = jax.jit(model.init, static_argnums=0)(CASES[case][0], jax.random.key(1))
    rng = np.random.default_rng(2)
    params = jax.tree.map(lambda x: np.float32(x + 0.3 * rng.standard_normal(x.shape)), params)
    if case == 'gemma1-faint':  # an embedding so small that the epsilon of the first norm counts
        params['embedder']['input_embedding'] = params['embedder']['input_embedding'] * np.float32(1e-3)
    return params


def tokens():
    """[2, T], the prefix the same in both rows."""
    ids = np.random.default_rng(0).integers(0, V, (2, T)).astype(np.int32)
    ids[1, :PREFIX] = ids[0, :PREFIX]
    return ids


def state_dict(params, config):
    """Our parameters as Hugging Face names and shapes them: weights [outputs, inputs], heads flattened."""

    def flat(w):  # [N, D, H] to [N * H, D]
        return w.transpose(0, 2, 1).reshape(-1, config.embed_dim)

    table = params['embedder']['input_embedding']
    arrays = {
        'model.embed_tokens.weight': table,
        'lm_head.weight': table,
        'model.norm.weight': params['final_norm']['scale'],
    }
    for index in range(config.num_layers):
        layer = jax.tree.map(lambda x, i=index: x[i], params['layers'])
        attn, mlp = layer['attn'], layer['mlp']
        weights = {
            'self_attn.q_proj': flat(attn['q_einsum']['w']),
            'self_attn.k_proj': flat(attn['kv_einsum']['w'][0]),
            'self_attn.v_proj': flat(attn['kv_einsum']['w'][1]),
            'self_attn.o_proj': attn['attn_vec_einsum']['w'].reshape(-1, config.embed_dim).T,
            'mlp.gate_proj': mlp['gating_einsum']['w'][0],
            'mlp.up_proj': mlp['gating_einsum']['w'][1],
            'mlp.down_proj': mlp['linear']['w'].T,
        }
        for ours, theirs in (POST_NORMS if config.post_norms else NORMS).items():
            weights[theirs] = layer[ours]['scale']
        if config.qk_norm:
            weights['self_attn.q_norm'] = attn['_query_norm']['scale']
            weights['self_attn.k_norm'] = attn['_key_norm']['scale']
        arrays |= {f'model.layers.{index}.{name}.weight': w for name, w in weights.items()}
    return {name: torch.tensor(np.array(array)) for name, array in arrays.items()}


@functools.cache
def expected(case, start=0):
    """Hugging Face's float32 logits [2, T, V] of `tokens()`, at positions from `start` on."""
    config, extra = CASES[case]
    settings = {
        'vocab_size': V,
        'hidden_size': config.embed_dim,
        'intermediate_size': config.ffw_dim,
        'num_hidden_layers': config.num_layers,
        'num_attention_heads': config.num_heads,
        'num_key_value_heads': config.num_kv_heads,
        'head_dim': config.head_dim,
    }
    if config.family != 'gemma1':
        settings |= {'query_pre_attn_scalar': config.head_dim, 'sliding_window': WINDOW}
    hf_config = HF_CONFIGS[config.family](**settings | extra)
    # 'eager' because the fused attention of torch leaves the softcap out.
    hf = transformers.AutoModelForCausalLM.from_config(hf_config, attn_implementation='eager').eval()
    hf.load_state_dict(state_dict(parameters(case), config), strict=True)
    with torch.no_grad():
        positions = start + torch.arange(T).expand(2, T)
        out = hf(torch.tensor(tokens(), dtype=torch.long), position_ids=positions, use_cache=False).logits
    assert out.dtype == torch.float32
    return out.numpy()


@functools.partial(jax.jit, static_argnums=0)
def run(config, params, ids, positions, prefix_kv=None):
    hidden, kv = model.forward(params, config, ids, positions, jax.numpy.ones_like(ids), prefix_kv)
    return model.logits(params, config, hidden), kv


@functools.partial(jax.jit, static_argnums=0)
def step(config, params, ids, positions, cache, prefix_kv):
    hidden, cache = model.decode_step(params, config, ids, positions, cache, prefix_kv)
    return model.logits(params, config, hidden), cache


def forward(config, params, start=0):
    """Logits [2, T, V], every sequence run whole."""
    positions = np.broadcast_to(np.arange(start, start + T, dtype=np.int32), (2, T))
    return np.asarray(run(config, params, tokens(), positions)[0])


def decode(config, params):
    """The same logits the way the sampler gets them: shared prefix, question, then token by token."""
    ids, positions = tokens(), np.broadcast_to(np.arange(T, dtype=np.int32), (2, T))
    prefix, question = slice(0, PREFIX), slice(PREFIX, PREFIX + QUESTION)
    prefix_logits, kv = run(config, params, ids[:1, prefix], positions[:1, prefix])
    prefix_kv = tuple(each[:, 0] for each in kv)
    question_logits, kv = run(config, params, ids[:, question], positions[:, question], prefix_kv)
    cache = tuple(np.pad(each, [(0, 0)] * 3 + [(0, T - PREFIX - QUESTION), (0, 0)]) for each in kv)
    pieces = [np.repeat(prefix_logits, 2, axis=0), question_logits]
    for position in range(PREFIX + QUESTION, T):
        here = (ids[:, position], positions[:, position])
        logits, cache = step(config, params, *here, cache, prefix_kv)
        pieces.append(logits[:, None])
    return np.concatenate(pieces, axis=1)


def difference(got, case, start=0):
    """The largest deviation from Hugging Face, as a fraction of the range of its logits."""
    reference = expected(case, start)
    return float(np.abs(got - reference).max() / np.ptp(reference))


@cases
def test_forward_gives_the_logits_of_transformers(case):
    assert difference(forward(CASES[case][0], parameters(case)), case) <= TOLERANCE


@pytest.mark.parametrize('case', ['gemma1-mqa', 'gemma2-gqa', 'gemma3-linear'])
@pytest.mark.parametrize('start', [4000, 8000])
def test_far_positions_give_the_logits_of_transformers(case, start):
    """Both sides round angles of thousands of radians to float32, so less is asked for."""
    assert difference(forward(CASES[case][0], parameters(case), start), case, start) <= 10 * TOLERANCE


@cases
def test_cached_decode_gives_the_logits_of_transformers(case):
    assert difference(decode(CASES[case][0], parameters(case)), case) <= TOLERANCE


WRONG = {
    'gemma2-gqa': [
        {'windows': (WINDOW + 1, 0, WINDOW + 1)},
        {'windows': (WINDOW - 1, 0, WINDOW - 1)},
        {'windows': (0, WINDOW, 0)},
        {'query_scale': 12**-0.5},
        {'attn_softcap': None},
        {'final_softcap': None},
        {'post_norms': False},
        {'rope_base': (20_000.0,) * 3},
    ],
    'gemma2-large': [{'query_scale': 16**-0.5}],
    'gemma3-linear': [
        {'windows': (WINDOW + 1,) * 5 + (0, WINDOW + 1)},
        {'windows': (0,) + (WINDOW,) * 6},
        {'qk_norm': False},
        {'post_norms': False},
        {'final_softcap': 30.0},
        {'rope_scale': (1.0,) * 7},
        {'rope_scale': (8.0,) * 7},
        {'rope_base': (10_000.0,) * 7},
        {'rope_base': (1_000_000.0,) * 7},
    ],
}
WRONG = [(case, change) for case, changes in WRONG.items() for change in changes]


@pytest.mark.parametrize(('case', 'change'), WRONG, ids=[f'{c}-{w}' for c, w in WRONG])
def test_a_wrong_model_would_be_seen(case, change):
    wrong = dataclasses.replace(CASES[case][0], **change)
    assert difference(forward(wrong, parameters(case)), case) > 100 * TOLERANCE


@pytest.mark.parametrize('case', ['gemma1-mqa', 'gemma2-gqa', 'gemma3-linear'])
def test_every_parameter_is_compared(case):
    leaves, tree = jax.tree.flatten(parameters(case))
    for index in range(len(leaves)):
        changed = [0 * leaf if i == index else leaf for i, leaf in enumerate(leaves)]
        assert difference(forward(CASES[case][0], tree.unflatten(changed)), case) > 100 * TOLERANCE
