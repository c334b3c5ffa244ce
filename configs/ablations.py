"""All experiments of one round in one run: their cells share pools, base models and references.

    cosample run --config=configs/ablations.py:pools=runs/arithmetic --workdir=runs/ablations
    cosample run --config=configs/ablations.py:on=math,manual_dir=DIR,weights=weights,fsdp=8

number_matched, few_problems, count_grid, keep_one, no_answers, mixing, temperature, prices and allocation, each told in
the file of its name; a cell is the same there and here.

Cost of on=arithmetic on two CPU cores shared with other work: fine-tuning of 96 cells 28 min, evaluation 7 min,
sampling 20 s (the pools were taken over). Measured without the recipes of allocation, which had a run of their own.
"""

import importlib.util
from pathlib import Path

from cosample_jax import config as config_lib

PARTS = (
    'number_matched',
    'few_problems',
    'count_grid',
    'keep_one',
    'no_answers',
    'mixing',
    'temperature',
    'prices',
    'allocation',
)


def get_config(arg: str | None = None):
    """The recipes of all parts."""
    config, _ = config_lib.on(arg, __file__)
    parts = {name: _module(name) for name in PARTS}
    parts['temperature'].add_source(config)
    parts['prices'].set_prices(config)
    parts['no_answers'].set_judge(config)
    for part in parts.values():
        config_lib.add_recipes(config, **part.recipes(config))
    return config


def _module(name: str):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f'{name}.py'))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
