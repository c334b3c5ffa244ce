"""1, 3, 9 strong samples against 3, 9, 27 weak ones: equal numbers and equal cost in one grid.

    cosample run --config=configs/count_grid.py:pools=runs/arithmetic --workdir=runs/count_grid
    cosample run --config=configs/count_grid.py:on=math,manual_dir=DIR,weights=weights,fsdp=8

strong_1, strong_3, strong_9, and weak_3, weak_9, weak_27, each compared with what costs as much: 3 with 1, 9 with 3, 27
with 9. Equal numbers are weak_3 beside strong_3, and weak_9 beside strong_9. (Of other pairs the weak counts are those
of equal cost, 3 for 9B : 27B.)

Cost: no sampling with the pools of the base configuration. The paper does not have it: its readers asked for it.

Result of on=arithmetic (student, three seeds, pass@1 on 1,000 test problems in points, 95% interval of the difference):
strong_1, 3, 9: 38.4, 39.8, 38.6; weak_3, 9, 27: 32.3, 38.8, 37.0. At equal cost strong is better at the first (by
6.1, -8.9 to -3.3), then no difference is measurable (-1.0, -3.3 to +1.2; -1.6, -4.2 to +1.1). Nine samples are no
better than three for either: 400 steps are many passes over what 256 problems give.
"""

from cosample_jax import config as config_lib
from cosample_jax.config import recipe

COUNTS = (1, 3, 9)


def get_config(arg: str | None = None):
    """Six training sets at the steps of the high budget."""
    config, _ = config_lib.on(arg, __file__)
    config_lib.add_recipes(config, **recipes(config))
    return config


def recipes(config):
    level, high = config.budget.levels[-1], config.budget.strong.high
    made = {}
    for count in COUNTS:
        if count <= high:
            made[f'strong_{count}'] = recipe(strong=count, budget=level)
            made[f'weak_{3 * count}'] = recipe(weak=count, budget=level, against=f'strong_{count}')
    return made
