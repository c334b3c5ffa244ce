"""The small models and the tokenizer that ship in the package: real abilities for demos and tests, no download.

One safetensors file a model, leaf names joined by '/'. They are made again by

    cosample prepare --config=configs/arithmetic.py:init=pretrain --workdir=runs/pretrain
    cosample pretrain --workdir=runs/pretrain
    python -m cosample_jax.embedded runs/pretrain
"""

import sys
from importlib import resources

import jax
import numpy as np
from jax.sharding import Mesh

from cosample_jax import checkpoint
from cosample_jax.errors import UserError
from cosample_jax.gemma import model, weights
from cosample_jax.gemma.config import GemmaConfig, variant
from cosample_jax.gemma.tokenizer import Tokenizer
from cosample_jax.records import commit
from cosample_jax.workdir import Workdir

FILES = resources.files('cosample_jax') / 'data'


def tokenizer_bytes() -> bytes:
    return (FILES / 'tokenizer.model').read_bytes()


def tokenizer() -> Tokenizer:
    return Tokenizer(str(FILES / 'tokenizer.model'))


def load_weights(name: str, config: GemmaConfig, mesh: Mesh | None = None):
    """The float32 parameters shipped under `name`, split over `mesh`.

    Raises UserError when there are none or they do not fit.
    """
    file = FILES / f'{name}.safetensors'
    if not file.is_file():
        raise UserError(f"no weights of {name} ship with the package: set init='pretrain' or give a checkpoint")
    return weights.load(weights.open_checkpoint(str(file)), config, mesh=mesh)


def write_weights(path, params) -> None:
    """Writes one safetensors file that :func:`load_weights` reads."""
    import safetensors.numpy

    flat = {
        model.leaf_name(keys): np.ascontiguousarray(leaf)
        for keys, leaf in jax.tree.leaves_with_path(jax.device_get(params))
    }
    commit(path, safetensors.numpy.save(flat))


def main(workdir: Workdir) -> None:
    """Writes the tokenizer and the pretrained models of a workdir into the package."""
    commit(str(FILES / 'tokenizer.model'), workdir.tokenizer_path.read_bytes())
    for name in ('tiny_weak', 'tiny_strong', 'tiny_student'):
        params = checkpoint.load_weights(workdir.model_dir(name.removeprefix('tiny_')), variant(name))
        write_weights(str(FILES / f'{name}.safetensors'), params)


if __name__ == '__main__':
    main(Workdir(sys.argv[1]))
