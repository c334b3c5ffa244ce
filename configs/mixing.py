"""A mix of both models' samples at equal cost: half and half, a quarter strong, or strong for hard problems only?

    cosample run --config=configs/mixing.py:pools=runs/arithmetic --workdir=runs/mixing
    cosample run --config=configs/mixing.py:on=math,manual_dir=DIR,weights=weights,fsdp=8

mix_half spends half of the high budget on each model (5 strong and 15 weak samples a problem), mix_quarter a quarter on
the strong one; mix_hard gives problems from level 4 on to the strong model and the others to the weak one.

Cost: no sampling with the pools of the base configuration. The paper mixes, too.

Result of on=arithmetic (student, three seeds, pass@1 on 1,000 test problems in points, 95% interval of the difference):
mix_half 39.7 (-0.8 to +2.4 against strong data), mix_quarter 38.1 (-3.0 to +1.4), mix_hard 38.4 (-2.7 to +1.8): no
difference is measurable.
"""

from cosample_jax import config as config_lib
from cosample_jax.config import recipe


def get_config(arg: str | None = None):
    """Three mixes, each of which costs what the high budget costs."""
    config, _ = config_lib.on(arg, __file__)
    config_lib.add_recipes(config, **recipes(config))
    return config


def recipes(config):
    level, high = config.budget.levels[-1], config.budget.strong.high
    made = {
        'mix_half': recipe(weak=high / 2, strong=high / 2, budget=level),
        'mix_quarter': recipe(weak=0.75 * high, strong=0.25 * high, budget=level),
    }
    if config.task.name in ('arithmetic', 'math'):  # the others have no levels
        made['mix_hard'] = recipe(weak=high, strong=high, strong_from_level=4, budget=level)
    return made
