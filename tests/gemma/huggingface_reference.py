"""Logits and gradients of Hugging Face transformers on the weights of `parity`. Needs the extra `parity`."""

import functools
import tempfile

import numpy as np
import parity
import torch
import transformers
from safetensors.torch import load_file

from cosample_jax.gemma import huggingface, weights

# What a family always does (layer pattern, RoPE bases, softcaps of 50 and 30) is left to the defaults on both sides, so
# two descriptions of the architecture are compared, and not one with its own translation.
LINEAR = {'rope_scaling': {'rope_type': 'linear', 'factor': 8.0}}
LARGE = {'query_pre_attn_scalar': 12}
EXTRA = {
    'gemma2-large': LARGE,
    'gemma2-low_caps': {'attn_logit_softcapping': 3.0, 'final_logit_softcapping': 5.0},
    'gemma3-linear': LINEAR,
    'gemma3-large': LINEAR | LARGE,
}
CONFIGS = {
    'gemma1': transformers.GemmaConfig,
    'gemma2': transformers.Gemma2Config,
    'gemma3': transformers.Gemma3TextConfig,
}


@functools.cache
def exported(case: str) -> str:
    """A directory with the case's weights as we export them."""
    directory = tempfile.mkdtemp()
    huggingface.write(directory, parity.parameters(case), parity.CASES[case])
    return directory


@functools.cache
def reference(case: str):
    """The model as transformers' own defaults describe it, with the exported weights."""
    config = parity.CASES[case]
    settings = {
        'vocab_size': config.vocab_size,
        'hidden_size': config.embed_dim,
        'intermediate_size': config.ffw_dim,
        'num_hidden_layers': config.num_layers,
        'num_attention_heads': config.num_heads,
        'num_key_value_heads': config.num_kv_heads,
        'head_dim': config.head_dim,
    }
    if config.family != 'gemma1':
        settings |= {'query_pre_attn_scalar': config.head_dim, 'sliding_window': parity.WINDOW}
    # 'eager' because the fused attention of torch leaves the softcap out.
    hf_config = CONFIGS[config.family](**settings | EXTRA.get(case, {}))
    hf = transformers.AutoModelForCausalLM.from_config(hf_config, attn_implementation='eager').eval()
    tensors = load_file(f'{exported(case)}/model.safetensors')
    hf.load_state_dict(tensors | {'lm_head.weight': tensors['model.embed_tokens.weight']}, strict=True)
    return hf


def from_pretrained(case: str):
    """The model as transformers opens what we export."""
    return transformers.AutoModelForCausalLM.from_pretrained(
        exported(case), attn_implementation='eager', dtype=torch.float32
    ).eval()


def logits(hf, ids: np.ndarray, **inputs) -> np.ndarray:
    """float32 [B, T, V]."""
    with torch.no_grad():
        out = hf(torch.tensor(ids, dtype=torch.long), use_cache=False, **inputs).logits
    assert out.dtype == torch.float32
    return out.numpy()


@functools.cache
def expected(case: str, start: int = 0) -> np.ndarray:
    """[2, T, V] of `parity.tokens()`, at positions from `start` on."""
    positions = start + torch.arange(parity.T).expand(2, parity.T)
    return logits(reference(case), parity.tokens(), position_ids=positions)


def left_padded(case: str, lengths: tuple[int, int]) -> list[np.ndarray]:
    """Per row [length, V]: sequences cut to `lengths`, in one batch, padded on the left as transformers does."""
    ids = np.zeros_like(parity.tokens())
    mask = np.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, parity.T - length :] = parity.tokens()[row, :length]
        mask[row, parity.T - length :] = 1
    positions = torch.tensor(np.maximum(mask.cumsum(-1) - 1, 0))
    out = logits(reference(case), ids, attention_mask=torch.tensor(mask), position_ids=positions)
    return [out[row, parity.T - length :] for row, length in enumerate(lengths)]


def loss(hf, examples, divisor: int = 1) -> torch.Tensor:
    """Summed over what is to be learned: a row an example, padding behind it, as their collators make batches."""
    shape = (len(examples), max(len(example.tokens) for example in examples))
    ids, mask = torch.zeros((2, *shape), dtype=torch.long)
    labels = torch.full(shape, -100)
    for row, (tokens, learn) in enumerate(examples):
        here = (row, slice(len(tokens)))
        ids[here], mask[here] = torch.tensor(tokens), 1
        labels[here] = torch.where(torch.tensor(learn), ids[here], -100)
    inputs = {'input_ids': ids, 'attention_mask': mask, 'labels': labels}
    return hf(**inputs, num_items_in_batch=divisor, use_cache=False).loss


def as_ours(tensors: dict[str, torch.Tensor], case: str):
    """Their tensors as our parameters, by the code that reads checkpoints: a gradient lies as its weight does."""
    arrays = {name.removeprefix('model.'): tensor.numpy(force=True) for name, tensor in tensors.items()}
    views = functools.partial(huggingface.views, arrays)
    found = weights.Checkpoint('transformers', 'huggingface', arrays, huggingface.wanted, views)
    return weights.load(found, parity.CASES[case])


def loss_and_gradient(case: str) -> tuple[float, dict]:
    """Of `parity.examples()`, summed over tokens."""
    names, params = zip(*reference(case).named_parameters(), strict=True)
    total = loss(reference(case), parity.examples())
    gradients = torch.autograd.grad(total, params)
    return total.item(), as_ours(dict(zip(names, gradients, strict=True)), case)
