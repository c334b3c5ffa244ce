"""Coverage or diversity: one sample, one right of 30, or all right ones of 30?

    cosample run --config=configs/keep_one.py:pools=runs/arithmetic --workdir=runs/keep_one
    cosample run --config=configs/keep_one.py:on=math,manual_dir=DIR,weights=weights,fsdp=8

weak_once has one sample a problem (low coverage, low diversity), weak_keep_one the first right one of the high budget's
30 (high, low); the base configuration's weak data has all of them (high, high). strong_keep_one is the same of the
strong model's 10. All are trained for the high budget's steps and compared with keeping all.

Cost: no sampling with the pools of the base configuration.
The paper: high coverage with high diversity is best.

Result of on=arithmetic (student, three seeds, pass@1 on 1,000 test problems in points, 95% interval of the difference):
weak_once 23.2 (43 solutions), weak_keep_one 33.1 (133), all 37.5 (1,395 of 133 problems): -16.5 to -12.2, and -8.4 to
-0.3 (not measurable among all comparisons), so the order is the paper's. strong_keep_one 41.6 against 38.9 for all
(+1.1 to +4.5, p 0.057 among all comparisons): repeats of easy problems do not help there.
"""

from cosample_jax import config as config_lib
from cosample_jax.config import recipe


def get_config(arg: str | None = None):
    """Three training sets that leave something out."""
    config, _ = config_lib.on(arg, __file__)
    config_lib.add_recipes(config, **recipes(config))
    return config


def recipes(config):
    level, high = config.budget.levels[-1], config.budget.strong.high
    return {
        'weak_once': recipe(lens='number', weak=1, budget=level, against='weak'),
        'weak_keep_one': recipe(weak=high, keep=1, budget=level, against='weak'),
        'strong_keep_one': recipe(strong=high, keep=1, budget=level),
    }
