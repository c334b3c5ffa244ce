"""Hugging Face transformers on torch: the model's own loss over labels, and torch's AdamW.

Its best setting: all cores, the fused AdamW, gradients set to None, no cache. Attention is what `hf` says: eager for
Gemma 2, whose softcap the fused attention has not.

What it cannot do: a loss without the logits of every position, where labels are given. Nothing is compiled.
"""

import numpy as np

from benchmarks.peers import hf, padded
from cosample_jax.gemma.config import GemmaConfig


def make(config: GemmaConfig, params, learning_rate: float):
    """`train(batches)`; the dtype is that of `params`."""
    import torch

    model = hf.load(config, params).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, fused=True
    )

    def step(examples) -> float:
        ids, learned = padded(examples)
        tokens, labels, there = (
            torch.from_numpy(each).to(model.device) for each in (ids, np.where(learned, ids, -100), ids != 0)
        )
        loss = model(tokens.long(), attention_mask=there.long(), labels=labels.long(), use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return lambda batches: [step(examples) for examples in batches]
