"""`cosample convert`: weights from one checkpoint format into another, bit for bit.

    cosample convert --variant=gemma2_9b --from=downloads/gemma2_9b --to=weights/gemma2_9b
    cosample convert --variant=gemma2_9b --from=weights/gemma2_9b --to=export/hf --format=huggingface
    cosample convert --variant=gemma2_9b --from=runs/math/finetune/weak-strong-high-s0 --to=export --format=huggingface

`--from` is a Hugging Face directory (or one safetensors file), an official Orbax checkpoint in any of its layouts, one
of ours, or a fine-tuned cell of a run, of which the best checkpoint is taken; what it is, is found out. `--to` becomes
one of ours (`cosample`), what `transformers` opens (`huggingface`) or what `gm.ckpts.load_params` opens (`official`).
Tokenizers are not touched. It runs in host memory, of which it takes the model's size once (`huggingface`), twice
(`cosample`) or three times (`official`). `--to` appears when it is complete, not before.
"""

import os
import shutil
import time
from pathlib import Path

from cosample_jax.errors import UserError, did_you_mean
from cosample_jax.gemma import config as gemma_config
from cosample_jax.records import is_remote

FORMATS = ('cosample', 'huggingface', 'official')
DTYPES = ('bfloat16', 'float32')


def main(args) -> None:
    """Raises UserError for a wrong flag, weights that are not the variant's, a target that is there, a full disk."""
    variant = gemma_config.variant(args.variant)
    kind = args.format or 'cosample'
    for flag, value, choices in (('format', kind, FORMATS), ('dtype', args.dtype or DTYPES[0], DTYPES)):
        if value not in choices:
            raise UserError(f'--{flag}={value} is no choice{did_you_mean(value, choices)}')
    if kind == 'huggingface' and is_remote(args.to):
        raise UserError(f'--to={args.to}: Hugging Face files are written to a local disk: name a directory there')
    os.environ['JAX_PLATFORMS'] = 'cpu'  # a conversion has no use for an accelerator, whose memory may be smaller
    import jax
    from etils import epath

    from cosample_jax.gemma import weights

    target = epath.Path(args.to)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f'--to={args.to} is there already: remove it, or name another directory')
    source = weights.open_checkpoint(getattr(args, 'from'))
    weights.check(source, variant)
    dtype = jax.numpy.dtype(args.dtype) if args.dtype else weights.stored_dtype(source)
    _check_disk(args.to, variant.num_params() * dtype.itemsize)
    start = time.monotonic()
    params = weights.load(source, variant, dtype, description=f'read {variant.name}')
    lineage = {'source': str(source.path), 'format': source.format}
    if is_remote(args.to):
        _write(target, kind, params, variant, lineage)
    else:
        unfinished = target.with_name(f'{target.name}.unfinished')
        shutil.rmtree(unfinished, ignore_errors=True)  # of an attempt that was interrupted
        _write(unfinished, kind, params, variant, lineage)
        if target.exists():
            target.rmdir()  # empty, as was checked
        unfinished.rename(target)
    size = variant.num_params() * dtype.itemsize / 1e9
    print(
        f'{args.to}: {variant.name}, {variant.num_params():,} weights in {dtype.name} ({size:,.2f} GB), '
        f'from {source.format} to {kind} in {time.monotonic() - start:,.1f} s'
    )


def _check_disk(target: str, size: int) -> None:
    if is_remote(target):
        return
    parent = next(parent for parent in Path(target).absolute().parents if parent.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        what = 'is not writable' if parent.is_dir() else 'is a file'
        raise UserError(f'--to={target}: {parent} {what}: name another directory')
    free = shutil.disk_usage(parent).free
    if free < size:
        raise UserError(f'--to={target} needs {size / 1e9:,.1f} GB and {free / 1e9:,.1f} GB are free: make room first')


def _write(target, kind: str, params, variant, lineage: dict) -> None:
    from cosample_jax import checkpoint
    from cosample_jax.gemma import huggingface, orbax

    if kind == 'huggingface':
        huggingface.write(target, params, variant)
    elif kind == 'official':
        checkpoint.save_tree(target, orbax.official_params(params, variant))
    else:
        checkpoint.save_weights(target, params, lineage | {'variant': variant.name})
