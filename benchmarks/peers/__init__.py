"""Other libraries' samplers and trainers, each kind behind one interface, for a benchmark.

A sampler is a `make(config, params) -> generate`; a trainer is a `make(config, params, learning_rate) -> train`, and
`train(batches)` takes a step on each batch of examples and returns the losses, in nats a learned token.
"""

import importlib
from collections.abc import Callable, Sequence

import numpy as np

from cosample_jax.training.packing import Example


def _lazy(module: str, *packages: str) -> Callable | None:
    """`module.make`, imported when called; None, with the reason printed, where a package is not installed."""

    def make(config, params, *settings):
        for package in packages:
            try:
                importlib.import_module(package)
            except ImportError as error:
                print(f'SKIPPED {module}: {error}')
                return None
        return importlib.import_module(f'{__name__}.{module}').make(config, params, *settings)

    return make


# What each gives is None where its package is missing. The file of the second has another name than the package.
PEERS: dict[str, Callable] = {
    'gemma': _lazy('official', 'gemma.gm'),
    'tunix': _lazy('tunix_sampler', 'tunix.generate.sampler', 'tunix.models.gemma.model'),
    'transformers': _lazy('hf', 'torch', 'transformers'),
}
TRAINERS: dict[str, Callable] = {
    'gemma': _lazy('official_trainer', 'gemma.gm', 'optax'),
    'tunix': _lazy('tunix_trainer', 'tunix.sft.peft_trainer', 'tunix.models.gemma.model'),
    'transformers': _lazy('hf_trainer', 'torch', 'transformers'),
}


def padded(examples: Sequence[Example]) -> tuple[np.ndarray, np.ndarray]:
    """An example a row: token ids, int32 [B, L] with 0 after the last, and what is learned, bool [B, L].

    L is the longest example's length, rounded up to a multiple of 64 so that few shapes are compiled.
    """
    length = -(-max(len(tokens) for tokens, _ in examples) // 64) * 64
    ids, learned = np.zeros((len(examples), length), np.int32), np.zeros((len(examples), length), bool)
    for row, (tokens, learn) in enumerate(examples):
        ids[row, : len(tokens)], learned[row, : len(tokens)] = tokens, learn
    return ids, learned
