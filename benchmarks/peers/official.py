"""The official `gemma` package: `gm.text.Sampler`, in one static batch.

Its best setting: the cache has the one slot more than prompt and new tokens that its loop needs in order not to stop
early, the output buffer has `steps` entries, and prompts are padded to the longest and not to its buckets. So both its
compiled parts, prefill and the decode loop, are compiled once for a shape and used again.

What it cannot do: Gemma 1 (its models are gone from the package); top-k by itself is there, but not together with
top-p. Token 0 is padding to it, so no prompt may contain it. It draws the last prompt token's logits twice, in the
prefill and again in the first step of the loop, and each call makes and decodes Python objects besides; all of this is
what its users have, and it is timed.
"""

import enum
import functools

import numpy as np

from cosample_jax.gemma import orbax
from cosample_jax.gemma.config import GemmaConfig


class Special(enum.IntEnum):
    """The special pieces its Sampler asks a tokenizer for. All but these two are ids that no model can draw."""

    PAD = 0
    BOS = 2
    EOS = -1
    END_OF_TURN = -2
    BEGIN_OF_TOOL_RESPONSE = -3


class Ids:
    """A tokenizer whose texts are lists of ids; the Sampler would add BOS, but the prompts have theirs."""

    VERSION = 0
    FORMAT = None
    FORBIDDEN_TOKENS = ()
    special_tokens = Special

    def encode(self, text, *, add_bos=False):
        return list(text)

    def decode(self, ids):
        return ''


def official_model(config: GemmaConfig, dtype):
    """The same shape in its own words."""
    from gemma.gm.nn import _config, _gemma, _modules, _transformer

    real = {'gemma2': _gemma.Gemma2_9B, 'gemma3': _gemma.Gemma3_1B}.get(config.family)
    if real is None:
        raise ValueError(f'the gemma package has no {config.family}')
    kinds = (_modules.AttentionType.GLOBAL, _modules.AttentionType.LOCAL_SLIDING)
    scaling = _config.QueryPreAttentionNormalisation
    by_head = np.isclose(config.query_scale, config.head_dim**-0.5)
    if not by_head and not np.isclose(config.query_scale, (config.embed_dim / config.num_heads) ** -0.5):
        raise ValueError(f'the gemma package cannot scale queries by {config.query_scale}')
    shape = _config.TransformerConfig(
        num_embed=config.vocab_size,
        embed_dim=config.embed_dim,
        hidden_dim=config.ffw_dim,
        num_heads=config.num_heads,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        final_logit_softcap=config.final_softcap,
        attn_logits_soft_cap=config.attn_softcap,
        use_post_attn_norm=config.post_norms,
        use_post_ffw_norm=config.post_norms,
        use_qk_norm=config.qk_norm,
        attention_types=tuple(kinds[window > 0] for window in config.windows),
        sliding_window_size=max(config.windows),
        query_pre_attn_norm=(
            scaling.BY_ONE_OVER_SQRT_HEAD_DIM if by_head else scaling.BY_ONE_OVER_SQRT_EMBED_DIM_DIV_NUM_HEADS
        ),
        transpose_gating_einsum=real.__dataclass_fields__['config'].default.transpose_gating_einsum,
        local_base_frequency=int(min(config.rope_base)),
        global_base_frequency=int(max(config.rope_base)),
        global_scale_factor=max(config.rope_scale),
    )

    class Model(_transformer.Transformer):
        pass

    return Model(config=shape, dtype=dtype, tokens='tokens')


def official_params(config: GemmaConfig, params):
    """Its tree, with as many rows of vocabulary and with the gates in the order of the model above."""
    import jax
    import jax.numpy as jnp

    nested = orbax.official_params(jax.device_get(params), config)
    nested['embedder']['input_embedding'] = nested['embedder']['input_embedding'][: config.vocab_size]
    for i in range(config.num_layers):
        gates = np.asarray(params['layers']['mlp']['gating_einsum']['w'][i])
        nested[f'layer_{i}']['mlp']['gating_einsum'] = gates
    return jax.tree.map(jnp.asarray, nested)


def make(config: GemmaConfig, params):
    """`generate(prompts, steps, temperature, top_k, seed)` -> int32 [prompts, steps]; the dtype is that of `params`."""
    import jax
    from gemma import gm

    model = official_model(config, jax.tree.leaves(params)[0].dtype)
    weights = official_params(config, params)
    tokenizer = Ids()

    @functools.cache
    def sampler(length: int, steps: int):
        return gm.text.Sampler(
            model=model,
            params=weights,
            tokenizer=tokenizer,
            cache_length=length + steps,
            max_out_length=steps,
            pad_length=None,
        )

    def generate(prompts: list[list[int]], steps: int, temperature: float, top_k: int, seed: int) -> np.ndarray:
        if temperature == 0:
            sampling = gm.text.Greedy()
        elif top_k:
            sampling = gm.text.TopkSampling(temperature=temperature, k=top_k)
        else:
            sampling = gm.text.RandomSampling(temperature=temperature)
        made = sampler(max(map(len, prompts)), steps)
        with jax.numpy_rank_promotion('allow'):  # which its code needs
            state = made.sample(prompts, sampling=sampling, rng=seed, return_state=True).state
        if int(state.step) != steps:
            raise RuntimeError(f'the gemma package stopped after {int(state.step)} of {steps} tokens')
        return np.asarray(state.predicted_tokens, np.int32)

    return generate
