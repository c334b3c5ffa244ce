"""Hugging Face transformers on torch: `AutoModelForCausalLM.generate` with its KV cache, in one static batch.

Its best setting: all cores, inference mode, and its default cache, which grows with the sequence and so is never longer
than it. Attention is 'sdpa' where the model has no attention softcap; Gemma 2 has one, which torch's fused attention
leaves out (the library refuses it), so there it is 'eager'.

What it cannot do: nothing that the others can. Nothing is compiled. Prompts of several lengths are padded on the left.
"""

import os
import tempfile

import numpy as np

from cosample_jax.gemma import huggingface
from cosample_jax.gemma.config import GemmaConfig


def load(config: GemmaConfig, params):
    """The model, with our weights in it, on all cores or on the GPU."""
    import jax
    import torch
    import transformers

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    with tempfile.TemporaryDirectory() as directory:
        huggingface.write(directory, jax.device_get(params), config)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            directory, attn_implementation='eager' if config.attn_softcap else 'sdpa', dtype='auto'
        )
    return model.to(device)


def make(config: GemmaConfig, params):
    """`generate(prompts, steps, temperature, top_k, seed)` -> int32 [prompts, steps]; the dtype is that of `params`."""
    import torch
    import transformers

    model = load(config, params).eval()
    model.generation_config = transformers.GenerationConfig(bos_token_id=2, pad_token_id=0, eos_token_id=None)

    def generate(prompts: list[list[int]], steps: int, temperature: float, top_k: int, seed: int) -> np.ndarray:
        length = max(map(len, prompts))
        ids = torch.tensor([[0] * (length - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (length - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        drawing = {'do_sample': False}
        if temperature:
            drawing = {'do_sample': True, 'temperature': temperature, 'top_k': top_k, 'top_p': 1.0}
        torch.manual_seed(seed)
        with torch.inference_mode():
            out = model.generate(
                ids.to(model.device), attention_mask=mask.to(model.device), max_new_tokens=steps, **drawing
            )
        return out[:, length:].cpu().numpy().astype(np.int32)

    return generate
