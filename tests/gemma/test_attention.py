import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cosample_jax.gemma import attention
from cosample_jax.gemma.attention import (
    UNREACHABLE,
    Part,
    attend_causal,
    attend_paged,
    distances,
    inverse_wavelengths,
    page_distances,
    rotate,
)
from cosample_jax.gemma.pages import PAGES_PER_BLOCK, Pages

attend = jax.jit(attention.attend, static_argnames=('softcap',))

B, T, N, K, H = 2, 3, 4, 2, 8


def random(*shape, seed=0, scale=1.0):
    return scale * np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def case(lengths=(5, 7), seed=0, scale=1.0):
    """A query block after a shared part and an own one, some keys of which are in the future."""
    q = random(B, T, N, H, seed=seed, scale=scale)
    positions = jnp.array([[9, 10, 11], [5, 6, 7]])
    parts, start = [], 0
    for index, length in enumerate(lengths):
        rows = () if index == 0 else (B,)
        k, v = (random(*rows, K, length, H, seed=10 * index + i + seed) for i in (1, 2))
        parts.append(Part(k, v, distances(positions, start + jnp.arange(length)[None])))
        start += length
    return q, parts


def reference(q, parts, window, softcap):
    """Softmax attention over the concatenated keys, one query at a time, in float64."""
    out = np.zeros(q.shape)
    for b in range(B):
        keys = np.concatenate([p.k if p.k.ndim == 3 else p.k[b] for p in parts], -2).astype(np.float64)
        values = np.concatenate([p.v if p.v.ndim == 3 else p.v[b] for p in parts], -2).astype(np.float64)
        distance = np.concatenate([np.broadcast_to(p.distance, (B, T, p.k.shape[-2]))[b] for p in parts], -1)
        for t in range(T):
            for n in range(N):
                scores = keys[n // (N // K)] @ q[b, t, n]
                if softcap:
                    scores = softcap * np.tanh(scores / softcap)
                seen = distance[t] < window
                if seen.any():
                    weights = np.exp(scores[seen] - scores[seen].max())
                    out[b, t, n] = weights @ values[n // (N // K)][seen] / weights.sum()
    return out


@pytest.mark.parametrize('softcap', [None, 50.0, 2.0, 100.0])
@pytest.mark.parametrize('window', [UNREACHABLE, 6, 1])
def test_parts_join_to_one_softmax(window, softcap):
    q, parts = case(scale=2.0)
    got = attend(q, parts, window, softcap)
    np.testing.assert_allclose(got, reference(q, parts, window, softcap), atol=2e-6)


def test_one_query_a_row_agrees():
    q, parts = case()
    last = [part._replace(distance=part.distance[:, -1:]) for part in parts]
    expected = attend(q, parts, 6, 50.0)[:, -1:]
    np.testing.assert_allclose(attend(q[:, -1:], last, 6, 50.0), expected, atol=1e-6)


@pytest.mark.parametrize('softcap', [None, 50.0])
def test_no_visible_key_gives_zeros_and_finite_gradients(softcap):
    q, parts = case()
    parts = [part._replace(distance=jnp.full_like(part.distance, UNREACHABLE)) for part in parts]
    np.testing.assert_array_equal(attend(q, parts, UNREACHABLE, softcap), 0.0)
    gradient = jax.grad(lambda q: attend(q, parts, UNREACHABLE, softcap).sum())(jnp.asarray(q))
    np.testing.assert_array_equal(gradient, 0.0)


def test_gradients_survive_scores_at_the_bottom_of_the_softcap():
    """Without a maximum subtracted, e**-50 squared in the gradient of the quotient was 0 and 0 / 0 a NaN."""
    q, parts = case()
    parts = [part._replace(k=-100.0 * jnp.ones_like(part.k)) for part in parts]
    value, gradients = jax.value_and_grad(
        lambda v: attend(jnp.abs(q) + 1.0, [p._replace(v=v) for p, v in zip(parts, v, strict=True)], 9, 50.0).sum()
    )([part.v for part in parts])
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in gradients)
    gradient = jax.grad(lambda q: attend(jnp.abs(q) + 1.0, parts, UNREACHABLE, 50.0).sum())(jnp.asarray(q))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize('softcap', [None, 64.0])
def test_extreme_scores_stay_finite(softcap):
    q, parts = case(scale=1e3)
    out = attend(q, parts, UNREACHABLE, softcap)
    np.testing.assert_allclose(out, reference(q, parts, UNREACHABLE, softcap), atol=1e-4)


def test_an_empty_part_changes_nothing():
    """One row sees nothing of the shared part: what a window that ends inside the own part does."""
    q, parts = case()
    hidden = parts[0]._replace(distance=jnp.full_like(parts[0].distance, UNREACHABLE))
    np.testing.assert_allclose(
        attend(q, [hidden, parts[1]], UNREACHABLE, None), attend(q, parts[1:], UNREACHABLE, None), atol=1e-6
    )


def test_distances_hide_the_future_and_the_invisible():
    visible = jnp.array([[[True, True, True], [False, True, True]]])
    got = distances(jnp.array([[2, 3]]), jnp.array([[0, 2, 3]]), visible)
    np.testing.assert_array_equal(got, [[[2, 0, UNREACHABLE], [UNREACHABLE, 1, 0]]])


def turned(x, positions, base=10_000.0, scale=1.0):
    angles = np.asarray(positions, np.float32)[..., None] * inverse_wavelengths(x.shape[-1], base, scale)
    return rotate(x, jnp.sin(angles), jnp.cos(angles))


def test_rotation_keeps_norms_and_leaves_position_zero_alone():
    x = random(1, 3, 2, H)
    out = turned(x, [[0, 5, 900]])
    np.testing.assert_allclose(np.linalg.norm(out, axis=-1), np.linalg.norm(x, axis=-1), rtol=1e-5)
    np.testing.assert_array_equal(out[:, 0], x[:, 0])


def test_rotated_products_depend_on_distance_only():
    q, k = random(1, 1, 1, H, seed=1), random(1, 1, 1, H, seed=2)
    products = [float(jnp.sum(turned(q, [[p + 7]], scale=8.0) * turned(k, [[p]], scale=8.0))) for p in (0, 3, 500)]
    np.testing.assert_allclose(products, products[0], atol=1e-4)
    assert abs(products[0] - float(jnp.sum(turned(q, [[9]]) * turned(k, [[0]])))) > 1e-3


def test_scaled_positions_are_interpolated():
    x = random(1, 1, 2, H)
    np.testing.assert_allclose(turned(x, [[80]], scale=8.0), turned(x, [[10]]), atol=1e-6)


def test_wavelengths_are_correctly_rounded():
    got = inverse_wavelengths(256, 1e6, 8.0)
    exact = 1e6 ** -(np.arange(128) / 128) / 8
    np.testing.assert_allclose(got, exact, rtol=6e-8)
    assert got.dtype == np.float32


@pytest.mark.parametrize('window', [UNREACHABLE, 20])
@pytest.mark.parametrize('length', [64, 128, 130])
def test_causal_blocks_change_nothing(length, window):
    """In one block, in several, and where the length does not divide; with a prefix and two segments a row."""
    rng = np.random.default_rng(0)
    batch, heads, kv_heads, dim, prefix = 2, 4, 2, 8, 5
    q = jnp.asarray(rng.normal(size=(batch, length, heads, dim)), jnp.float32)
    k, v = (jnp.asarray(rng.normal(size=(batch, kv_heads, length, dim)), jnp.float32) for _ in 'kv')
    shared = [jnp.asarray(rng.normal(size=(kv_heads, prefix, dim)), jnp.float32) for _ in 'kv']
    positions = jnp.concatenate([jnp.arange(length - 40), jnp.arange(40)])[None].repeat(batch, 0) + prefix
    segments = (jnp.arange(length) >= length - 40)[None].repeat(batch, 0)
    own = Part(k, v, distances(positions, positions, segments[:, :, None] == segments[:, None, :]))
    other = Part(*shared, distances(positions, jnp.arange(prefix)[None]))
    whole = attend(q, [other, own], window, 50.0)
    blocked = attend_causal(q, own, [other], window, 50.0)
    np.testing.assert_allclose(whole, blocked, atol=5e-6)  # two orders of summing float32 numbers of size 1


@pytest.mark.parametrize('small', [0, attention.SMALL], ids=['in blocks', 'at once'])
@pytest.mark.parametrize('window', [UNREACHABLE, 9])
def test_pages_are_read_wherever_they_lie(small, window, monkeypatch):
    """Rows of a question page each and, of three, one page of their own; two share their question's."""
    monkeypatch.setattr(attention, 'SMALL', small)
    rows, num_pages, size, prefix_length = 4, 3 * PAGES_PER_BLOCK, 8, 5
    k, v = (random(1, num_pages, K, size, H, seed=seed) for seed in (1, 2))
    q = random(rows, N, H, seed=3)
    prefix_k, prefix_v = (random(K, prefix_length, H, seed=seed) for seed in (4, 5))
    shared, own = {0: 30, 1: 30, 2: 2, 3: 17}, {0: 19, 1: 31, 2: 0}
    question = 6  # tokens, all that may be seen of a question's page
    readers = np.full((1, num_pages, 2), rows, np.int32)
    starts, counts = (np.zeros((1, num_pages), np.int32) for _ in range(2))
    table = np.full((1, rows, 2), num_pages * 2, np.int32)
    for row, page in shared.items():
        reader = 1 if row == 1 else 0
        readers[0, page, reader], table[0, row, 0] = row, 2 * page + reader
        starts[0, page], counts[0, page] = prefix_length, question
    for row, page in own.items():
        readers[0, page, 0], table[0, row, 1] = row, 2 * page
        starts[0, page], counts[0, page] = prefix_length + question, size
    positions = np.array([[13, 12, 11, 10]], np.int32)
    first_own = np.ones((1, rows), np.int32)
    pages = Pages(readers, starts, counts, table, first_own, first_own, used=np.int32(32))
    distance = page_distances(jax.tree.map(jnp.asarray, pages), jnp.asarray(positions), size)
    k_pos = np.arange(prefix_length)
    prefix = Part(prefix_k, prefix_v, distances(positions.reshape(-1, 1), k_pos[None]))
    out = jax.jit(attend_paged, static_argnums=(2, 7))(q, (k, v), None, pages, distance, prefix, window, 50.0)

    for row in range(rows):
        keys, values, at = [prefix_k], [prefix_v], [k_pos]
        for page, start, count in ((shared[row], prefix_length, question), (own.get(row), 11, size)):
            if page is not None:
                keys.append(k[0, page, :, :count])
                values.append(v[0, page, :, :count])
                at.append(start + np.arange(count))
        distance = positions[0, row] - np.concatenate(at)
        distance = np.where(distance >= 0, distance, UNREACHABLE)
        part = Part(np.concatenate(keys, 1), np.concatenate(values, 1), distance[None, None])
        expected = reference(np.broadcast_to(q[row], (B, T, N, H)), [part], window, 50.0)[0, 0]
        np.testing.assert_allclose(out[row], expected, atol=1e-5)
