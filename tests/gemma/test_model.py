import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from paged import one_page_a_row

from cosample_jax.gemma import model
from cosample_jax.gemma.config import gemma1, gemma2, gemma3

V, T, WINDOW = 50, 24, 6
SHAPE = {'embed': 16, 'ffw': 24, 'heads': 4, 'head_dim': 8, 'vocab': V}
CONFIGS = {
    'multi_query': gemma1('mqa', layers=2, kv_heads=1, **SHAPE),
    'multi_head': gemma1('mha', layers=2, kv_heads=4, **SHAPE),
    'gemma2': gemma2('g2', layers=3, kv_heads=2, window=WINDOW, query_scale=0.3, **SHAPE),
    'gemma3': gemma3('g3', layers=4, kv_heads=2, window=WINDOW, scale=8.0, pattern=3, scan_unroll=2, **SHAPE),
}
families = pytest.mark.parametrize('family', CONFIGS)


@functools.cache
def parameters(family):
    """Random parameters with norm scales away from 0, where a forgotten norm would not show."""
    params = jax.jit(model.init, static_argnums=0)(CONFIGS[family], jax.random.key(1))
    rng = np.random.default_rng(2)
    return jax.tree.map(lambda x: np.float32(x + 0.3 * rng.standard_normal(x.shape)), params)


def tokens(rows=2, length=T, seed=0):
    return np.random.default_rng(seed).integers(0, V, (rows, length)).astype(np.int32)


def with_shared(ids, prefix):
    """`ids` with the first row's first tokens in every row."""
    return np.concatenate([np.broadcast_to(ids[:1, :prefix], (len(ids), prefix)), ids[:, prefix:]], axis=1)


@functools.partial(jax.jit, static_argnums=0)
def run(config, params, ids, positions, segments, prefix_kv=None):
    hidden, kv = model.forward(params, config, ids, positions, segments, prefix_kv)
    return model.logits(params, config, hidden), kv


step = jax.jit(model.decode_step, static_argnums=1)
logits_of = jax.jit(model.logits, static_argnums=1)


def forward(family, ids, start=0, prefix_kv=None, segments=None, positions=None, params=None):
    if positions is None:
        positions = np.broadcast_to(start + np.arange(ids.shape[1]), ids.shape)
    segments = np.ones_like(ids) if segments is None else segments
    params = parameters(family) if params is None else params
    return run(CONFIGS[family], params, ids, positions, segments, prefix_kv)


def naive(family, ids):
    """Logits [T, V] of one sequence: plain float64 numpy, one layer and one head at a time."""
    c, p = CONFIGS[family], jax.tree.map(lambda x: np.asarray(x, np.float64), parameters(family))
    length = len(ids)

    def norm(x, scale):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * (1 + scale)

    def rope(x, base, scale):
        angles = np.arange(length)[:, None] / scale * base ** (-2 * np.arange(c.head_dim // 2) / c.head_dim)
        a, b = np.split(x, 2, axis=-1)
        return np.concatenate([a * np.cos(angles) - b * np.sin(angles), b * np.cos(angles) + a * np.sin(angles)], -1)

    table = p['embedder']['input_embedding']
    x = table[ids] * np.sqrt(c.embed_dim)
    for index in range(c.num_layers):
        layer = jax.tree.map(lambda leaf, i=index: leaf[i], p['layers'])
        y, out = norm(x, layer['pre_attention_norm']['scale']), np.zeros_like(x)
        for head in range(c.num_heads):
            group = head // (c.num_heads // c.num_kv_heads)
            q = y @ layer['attn']['q_einsum']['w'][head]
            k, v = (y @ layer['attn']['kv_einsum']['w'][i, group] for i in (0, 1))
            if c.qk_norm:
                q = norm(q, layer['attn']['_query_norm']['scale'])
                k = norm(k, layer['attn']['_key_norm']['scale'])
            q, k = (rope(z, c.rope_base[index], c.rope_scale[index]) for z in (q, k))
            scores = q @ k.T * c.query_scale
            if c.attn_softcap:
                scores = c.attn_softcap * np.tanh(scores / c.attn_softcap)
            distance = np.arange(length)[:, None] - np.arange(length)
            hidden = (distance < 0) | (distance >= (c.windows[index] or length))
            weights = np.exp(np.where(hidden, -np.inf, scores))
            out += weights / weights.sum(-1, keepdims=True) @ v @ layer['attn']['attn_vec_einsum']['w'][head]
        x = x + (norm(out, layer['post_attention_norm']['scale']) if c.post_norms else out)
        y = norm(x, layer['pre_ffw_norm']['scale'])
        gate, up = (y @ w.T for w in layer['mlp']['gating_einsum']['w'])
        gelu = 0.5 * gate * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)))
        out = gelu * up @ layer['mlp']['linear']['w']
        x = x + (norm(out, layer['post_ffw_norm']['scale']) if c.post_norms else out)
    logits = norm(x, p['final_norm']['scale']) @ table.T
    return c.final_softcap * np.tanh(logits / c.final_softcap) if c.final_softcap else logits


def assert_close(got, expected, tolerance=2e-6):
    """Within `tolerance` of the range of the logits, in every element."""
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * float(np.ptp(expected)))


@families
def test_forward_is_the_published_architecture(family):
    ids = tokens()
    logits, _ = forward(family, ids)
    for row in range(len(ids)):
        assert_close(logits[row], naive(family, np.asarray(ids[row])))


@families
@pytest.mark.parametrize('prefix', [1, 5, 13])
def test_a_shared_prefix_changes_no_logit(family, prefix):
    ids = with_shared(tokens(), prefix)
    expected, _ = forward(family, ids)
    _, (k, v) = forward(family, ids[:1, :prefix])
    got, _ = forward(family, ids[:, prefix:], start=prefix, prefix_kv=(k[:, 0], v[:, 0]))
    assert_close(got, expected[:, prefix:])


@families
@pytest.mark.parametrize('unrolled', [False, True])
def test_cached_decode_is_forward(family, unrolled):
    """Rows at different positions, in a cache that is full of another sample's leftovers."""
    config, prefix, slots, ids = CONFIGS[family], 8, T - 8, with_shared(tokens(), 8)
    expected, _ = forward(family, ids)
    _, (k, v) = forward(family, ids[:1, :prefix])
    prefix_kv = (k[:, 0], v[:, 0])
    _, question = forward(family, ids[:, prefix : prefix + 5], start=prefix, prefix_kv=prefix_kv)
    cache, pages = one_page_a_row(question, slots, prefix, fill=7.0)
    params = parameters(family)
    if unrolled:
        params = model.unstack(params, config)
        cache = [tuple(each[layer] for each in cache) for layer in range(config.num_layers)]
    positions = np.array([prefix + 3, prefix + 5], np.int32)
    while positions.max() < T:
        fed = ids[np.arange(2), positions]
        hidden, cache = step(params, config, fed, positions, cache, pages, prefix_kv)
        assert_close(logits_of(params, config, hidden), expected[np.arange(2), positions])
        positions += 1


@families
def test_packed_segments_do_not_see_one_another(family):
    ids = tokens(1)
    segments = np.array([[1] * 9 + [2] * 11 + [0] * 4])
    positions = np.array([[*range(9), *range(11), *range(4)]])
    packed, _ = forward(family, ids, segments=segments, positions=positions)
    assert_close(packed[:, :9], forward(family, ids[:, :9])[0])
    assert_close(packed[:, 9:20], forward(family, ids[:, 9:20])[0])
    assert np.isfinite(packed).all()


def test_padding_gives_finite_gradients():
    def loss(params):
        segments = np.array([[1] * 4 + [0] * (T - 4)] * 2)
        logits, _ = forward('gemma2', tokens(), segments=segments, params=params)
        return jnp.sum(logits[:, :4] ** 2)

    gradients = jax.jit(jax.grad(loss))(parameters('gemma2'))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


LOCAL = gemma2('local', layers=1, kv_heads=2, window=WINDOW, **SHAPE)


@pytest.mark.parametrize('where', ['prefix', 'question', 'row'])
def test_a_window_ends_where_it_should(where):
    """One local layer: the key at distance WINDOW - 1 matters, the one at WINDOW does not, in every part."""
    params = jax.jit(model.init, static_argnums=0)(LOCAL, jax.random.key(0))
    prefix, question = {'prefix': (10, 4), 'question': (2, 12), 'row': (2, 2)}[where]
    query = 14  # decoded at this position, so the window's last key is at 9

    def logits(changed):
        ids = tokens(1, query + 1)
        ids[0, changed] = (ids[0, changed] + 1) % V
        ones, at = np.ones_like(ids), np.arange(query + 1, dtype=np.int32)[None]
        _, (k, v) = run(LOCAL, params, ids[:, :prefix], at[:, :prefix], ones[:, :prefix])
        kv = (k[:, 0], v[:, 0])
        own = slice(prefix, prefix + question)
        _, filled = run(LOCAL, params, ids[:, own], at[:, own], ones[:, own], kv)
        cache, pages = one_page_a_row(filled, 20, prefix)
        for position in range(prefix + question, query + 1):
            hidden, cache = step(params, LOCAL, ids[:, position], at[0, position, None], cache, pages, kv)
        return np.asarray(logits_of(params, LOCAL, hidden))

    base = logits(changed=0)  # out of the window anyway
    assert np.abs(logits(changed=query - WINDOW + 1) - base).max() > 1e-4
    np.testing.assert_array_equal(logits(changed=query - WINDOW), base)


def test_softcap_bounds_and_orders_logits():
    params = jax.tree.map(lambda x: 20 * x, parameters('gemma2'))
    capped, _ = forward('gemma2', tokens(), params=params)
    assert 29 < np.abs(capped).max() <= 30.0


def test_initial_loss_is_that_of_guessing():
    config = gemma2('init', layers=3, kv_heads=2, **SHAPE | {'embed': 64, 'vocab': 200})
    params = jax.jit(model.init, static_argnums=0)(config, jax.random.key(0))
    ids = np.random.default_rng(0).integers(0, 200, (4, 64)).astype(np.int32)
    positions = np.broadcast_to(np.arange(64), ids.shape)
    logprobs = jax.nn.log_softmax(run(config, params, ids, positions, np.ones_like(ids))[0])
    loss = -jnp.take_along_axis(logprobs[:, :-1], ids[:, 1:, None], axis=-1).mean()
    assert np.log(200) < loss < np.log(200) + 1.0


def test_parameters_have_the_official_names():
    leaves = jax.tree.leaves_with_path(parameters('gemma3'))
    assert {jax.tree_util.keystr(path, simple=True, separator='/') for path, _ in leaves} == {
        'embedder/input_embedding',
        'final_norm/scale',
        *(
            f'layers/{name}'
            for name in (
                'attn/q_einsum/w',
                'attn/kv_einsum/w',
                'attn/attn_vec_einsum/w',
                'attn/_query_norm/scale',
                'attn/_key_norm/scale',
                'mlp/gating_einsum/w',
                'mlp/linear/w',
                'pre_attention_norm/scale',
                'post_attention_norm/scale',
                'pre_ffw_norm/scale',
                'post_ffw_norm/scale',
            )
        ),
    }  # fmt: skip


def test_bfloat16_parameters_give_bfloat16_caches_and_float32_logits():
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), parameters('gemma2'))
    logits, (k, v) = forward('gemma2', tokens(), params=params)
    assert (logits.dtype, k.dtype, v.dtype) == (jnp.float32, jnp.bfloat16, jnp.bfloat16)
    assert_close(logits, forward('gemma2', tokens())[0], tolerance=0.1)
