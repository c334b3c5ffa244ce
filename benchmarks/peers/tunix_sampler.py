"""Tunix: `tunix.generate.sampler.Sampler` with its Gemma 1 and 2 model, in one static batch.

Its best setting: `max_prompt_length` is the longest prompt (else it pads to a power of two) and the cache is exactly
prompt plus new tokens. The Sampler compiles prefill and decode loop once for a shape and a sampling setting;
the second call of a process compiles a comparison of two numbers besides, so warm up with two calls.

What it cannot do: query scales other than head_dim ** -0.5 (Gemma 2 27B) with this model class, and Gemma 3, which has
another. A local window is counted in slots of the left-padded cache, which is right only where the prompts are of one
length or no longer than the window. Top-k is there only together with top-p, which is 1 here and drops nothing. The
prefill computes the logits of every prompt token, and the loop runs one step more than it returns; both are timed.
"""

import functools

import numpy as np

from cosample_jax.gemma import orbax
from cosample_jax.gemma.config import GemmaConfig


class Ids:
    """A tokenizer whose texts are lists of ids, without BOS to add and with specials that no model can draw."""

    def encode(self, text, **kwargs):
        return list(text)

    def decode(self, ids, **kwargs):
        return ''

    def bos_id(self):
        return None

    def eos_id(self):
        return -2

    def pad_id(self):
        return -1


def tunix_model(config: GemmaConfig, params):
    """The same shape in its own words, and our weights put in by its own functions."""
    import jax
    import jax.numpy as jnp
    from flax import nnx
    from tunix.models.gemma import model as theirs

    if config.family not in ('gemma1', 'gemma2'):
        raise ValueError(f'the Gemma of Tunix that is used here has no {config.family}')
    if not np.isclose(config.query_scale, config.head_dim**-0.5) or set(config.rope_base) != {10_000.0}:
        raise ValueError(f'Tunix has no {config.name}: its query scale and RoPE are fixed')
    kinds = (theirs.AttentionType.GLOBAL, theirs.AttentionType.LOCAL_SLIDING)
    shape = theirs.ModelConfig(
        num_layers=config.num_layers,
        num_embed=config.vocab_size,
        embed_dim=config.embed_dim,
        hidden_dim=config.ffw_dim,
        num_heads=config.num_heads,
        head_dim=config.head_dim,
        num_kv_heads=config.num_kv_heads,
        final_logit_softcap=config.final_softcap,
        use_post_attn_norm=config.post_norms,
        use_post_ffw_norm=config.post_norms,
        attention_types=tuple(kinds[window > 0] for window in config.windows),
        attn_logits_soft_cap=config.attn_softcap,
        sliding_window_size=max(config.windows) or None,
    )
    nested = orbax.official_params(jax.device_get(params), config)
    nested['embedder']['input_embedding'] = nested['embedder']['input_embedding'][: config.vocab_size]
    for i in range(config.num_layers):
        gates = np.asarray(params['layers']['mlp']['gating_einsum']['w'][i])  # [2, F, D], and theirs are [2, D, F]
        nested[f'layer_{i}']['mlp']['gating_einsum'] = np.ascontiguousarray(gates.swapaxes(1, 2))
    return theirs.module_from_linen_variables(
        module_factory=lambda: theirs.Gemma(shape, rngs=nnx.Rngs(params=0)),
        variables=jax.tree.map(jnp.asarray, nested),
        map_key_fn=theirs._map_linen_var_names,
        assign_val_fn=theirs._assign_linen_params_to_nnx_state,
    )


def make(config: GemmaConfig, params):
    """`generate(prompts, steps, temperature, top_k, seed)` -> int32 [prompts, steps]; the dtype is that of `params`."""
    import jax
    from tunix.generate import sampler as theirs

    model = tunix_model(config, params)

    @functools.cache
    def sampler(length: int, steps: int):
        cache = theirs.CacheConfig(length + steps, config.num_layers, config.num_kv_heads, config.head_dim)
        return theirs.Sampler(model, Ids(), cache)

    def generate(prompts: list[list[int]], steps: int, temperature: float, top_k: int, seed: int) -> np.ndarray:
        length = max(map(len, prompts))
        drawing = {'temperature': temperature, 'top_p': 1.0, 'top_k': top_k or None} if temperature else {}
        with jax.numpy_rank_promotion('allow'):
            out = sampler(length, steps)(
                prompts, max_generation_steps=steps, max_prompt_length=length, seed=seed, **drawing
            )
        return np.stack(out.tokens).astype(np.int32)

    return generate
