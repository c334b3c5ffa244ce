import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cosample_jax.sampling.policy import (
    Policy,
    choose,
    gumbel,
    hash32,
    problem_hash,
    sample_keys,
    token_bits,
    token_keys,
    top_k,
)

LOGITS = np.array([1.0, -0.5, 2.0, 0.3, -3.0, 1.4, 0.0, -8.0], np.float32)
DRAWS = 20_000


def policy(temperature=0.7, top_k=0, top_p=1.0):
    return Policy(temperature, top_k, (0,), top_p)


def draw(logits, keys, positions, policy):
    return jax.jit(choose, static_argnums=2)(logits, token_keys(keys, positions[None])[0], policy)


def many(policy, logits=LOGITS, seed=0):
    """One token for each of DRAWS samples of one problem."""
    hashes = np.full(DRAWS, problem_hash('train', 'p'), np.uint32)
    keys = jax.jit(sample_keys)(seed, hashes, np.arange(DRAWS, dtype=np.int32))
    return draw(np.tile(logits, (DRAWS, 1)), keys, np.zeros(DRAWS, np.int32), policy)


def probabilities(temperature, top_k, top_p=1.0):
    scaled = LOGITS.astype(np.float64) / temperature
    order = np.argsort(-scaled)
    if top_k:
        scaled[order[top_k:]] = -np.inf
    weights = np.exp(scaled - scaled.max())
    weights /= weights.sum()
    kept = np.cumsum(weights[order]) - weights[order] < top_p  # until together they have that much
    weights[order[~kept]] = 0
    return weights / weights.sum()


@pytest.mark.parametrize('temperature', [0.7, 1.0, 2.5])
@pytest.mark.parametrize(('top_k', 'top_p'), [(0, 1.0), (1, 1.0), (3, 1.0), (0, 0.8), (0, 0.3), (4, 0.9)])
def test_frequencies_are_the_softmax(temperature, top_k, top_p):
    tokens, logprobs, sampling_logprobs = many(policy(temperature, top_k, top_p))
    exact = probabilities(temperature, top_k, top_p)
    counts = np.bincount(tokens, minlength=len(LOGITS))
    assert counts[exact == 0].sum() == 0
    expected = exact[exact > 0] * DRAWS
    # 99.9th percentile of chi-square with 7 degrees of freedom; fewer when top_k leaves fewer tokens.
    assert ((counts[exact > 0] - expected) ** 2 / expected).sum() < 24.3
    raw = LOGITS - np.log(np.exp(LOGITS.astype(np.float64)).sum())
    np.testing.assert_allclose(logprobs, raw[tokens], atol=2e-6)
    np.testing.assert_allclose(sampling_logprobs, np.log(exact[tokens]), atol=2e-6)


def test_greedy_takes_the_best_and_the_lower_id_of_two():
    logits = np.array([[0.0, 3.0, 1.0], [2.0, -1.0, 2.0]], np.float32)
    keys = sample_keys(0, np.zeros(2, np.uint32), np.zeros(2, np.int32))
    tokens, logprobs, sampling_logprobs = draw(logits, keys, np.zeros(2, np.int32), policy(0, 3))
    np.testing.assert_array_equal(tokens, [1, 0])
    np.testing.assert_allclose(logprobs, jax.nn.log_softmax(logits)[np.arange(2), tokens], atol=1e-6)
    np.testing.assert_array_equal(sampling_logprobs, 0.0)


def test_top_p_1_is_no_top_p():
    """Nor does the order that top-p searches in change what a sample's noise picks."""
    np.testing.assert_array_equal(many(policy(1.0, 0, 0.9999999))[0], many(policy(1.0, 0))[0])


@pytest.mark.parametrize('vocab', [512, 2048, 5000])
@pytest.mark.parametrize('k', [1, 3, 40])
def test_groups_find_what_top_k_finds(vocab, k):
    """With many ties, which the lowest ids win, and -inf."""
    x = np.random.default_rng(k).integers(0, 30, (16, vocab)).astype(np.float32)
    x[3, 1:] = -np.inf
    values, ids = jax.jit(top_k, static_argnums=1)(x, k)
    expected, expected_ids = jax.lax.top_k(x, k)
    np.testing.assert_array_equal(values, expected)
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(np.asarray(ids)[finite], np.asarray(expected_ids)[finite])


def test_top_k_beyond_the_vocabulary_is_no_top_k():
    np.testing.assert_array_equal(many(policy(1.0, 100))[0], many(policy(1.0, 0))[0])


def test_noise_belongs_to_the_token_not_to_its_rank():
    """A swap of two nearly equal logits' ranks leaves every draw that does not hang on the swap itself."""
    swapped = LOGITS.copy()
    near = LOGITS.copy()
    near[5], swapped[5] = near[0] + 1e-6, near[0] - 1e-6
    for k in (0, 3):
        same = np.asarray(many(policy(1.0, k), near)[0]) == many(policy(1.0, k), swapped)[0]
        assert same.mean() > 0.999


def test_token_bits_are_those_of_the_whole_vocabulary():
    key = jax.random.key(3, impl='threefry2x32')
    ids = np.array([0, 7, 255_999, 31])
    np.testing.assert_array_equal(token_bits(key, ids), jax.random.bits(key, (256_000,), jnp.uint32)[ids])


def test_gumbel_is_finite_at_both_ends_and_reaches_far():
    ends = gumbel(jnp.array([0, 2**32 - 1], jnp.uint32))
    assert np.isfinite(ends).all()
    assert ends[0] > 22 and ends[1] < -2
    noise = np.asarray(gumbel(jax.random.bits(jax.random.key(0), (100_000,), jnp.uint32)))
    assert noise.mean() == pytest.approx(np.euler_gamma, abs=0.02)
    assert noise.var() == pytest.approx(np.pi**2 / 6, abs=0.05)


def test_hash32_is_the_same_in_every_process():
    assert hash32('') == 0x25CF7112
    assert problem_hash('train', 'p/1') == hash32('train/p/1') != problem_hash('test', 'p/1')


def test_keys_depend_on_everything_they_should():
    def key(seed=0, purpose='train', problem='p', index=0):
        return tuple(
            np.ravel(
                jax.random.key_data(
                    sample_keys(seed, problem_hash(purpose, problem)[None], np.array([index], np.int32))
                )
            ).tolist()
        )

    changed = [{}, {'seed': 1}, {'purpose': 'test'}, {'problem': 'q'}, {'index': 1}]
    assert len({key(**change) for change in changed}) == len(changed)
    expected = jax.random.fold_in(jax.random.fold_in(jax.random.key(5), problem_hash('train', 'p')), 2)
    assert key(seed=5, index=2) == tuple(np.asarray(jax.random.key_data(expected)).tolist())


def test_positions_are_independent():
    keys = sample_keys(0, np.zeros(1, np.uint32), np.zeros(1, np.int32))
    logits = np.zeros((DRAWS // 10, 8), np.float32)
    positions = np.arange(len(logits), dtype=np.int32)
    tokens, _, _ = draw(logits, keys[np.zeros(len(logits), int)], positions, policy(1.0))
    counts = np.bincount(tokens, minlength=8)
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 24.3


@pytest.mark.parametrize('temperature', [0.0, 0.7])
def test_a_nan_logit_makes_the_logprob_nan(temperature):
    logits = np.stack([LOGITS, np.where(np.arange(8) == 4, np.nan, LOGITS)])
    keys = sample_keys(0, np.zeros(2, np.uint32), np.zeros(2, np.int32))
    _, logprobs, _ = draw(logits, keys, np.zeros(2, np.int32), policy(temperature, 3))
    np.testing.assert_array_equal(np.isnan(logprobs), [False, True])
