"""One weak sample for one strong one, beside the three that cost as much: does weak data win by the matching?

    cosample run --config=configs/number_matched.py:pools=runs/arithmetic --workdir=runs/number_matched
    cosample run --config=configs/number_matched.py:on=math,manual_dir=DIR,weights=weights,fsdp=8

Recipes weak_1 and weak_10 draw as many samples as the strong model does at the low and the high budget.

Cost: no sampling with the pools of configs/arithmetic.py (or any run of the same models and problems).
The paper: strong data wins at equal numbers, weak data at equal cost.

Result of on=arithmetic (student, three seeds, pass@1 on 1,000 test problems in points, 95% interval of the difference):
weak_1 26.3 against the strong model's 39.8 (-15.9 to -11.1) and the matched weak_3's 31.5; weak_10 38.7 against 38.9
(-2.3 to +1.9). Equal numbers cost the weak side 13.5 points at the low budget, equal cost 8.3; at the high one
nothing is measurable either way.
"""

from cosample_jax import config as config_lib
from cosample_jax.config import recipe


def get_config(arg: str | None = None):
    """The budgets of the base configuration, and equal numbers."""
    config, _ = config_lib.on(arg, __file__)
    config_lib.add_recipes(config, **recipes(config))
    return config


def recipes(config):
    strong = config.budget.strong
    return {
        f'weak_{strong[level]}': recipe(lens='number', weak=strong[level], budget=level)
        for level in config.budget.levels
    }
