"""The strong model at a raised temperature: can it be as diverse as the weak one at equal cost?

    cosample run --config=configs/temperature.py:pools=runs/arithmetic --workdir=runs/temperature
    cosample run --config=configs/temperature.py:on=math,manual_dir=DIR,weights=weights,fsdp=8

  heat  temperature of the models strong_hot; its samples come from all tokens, not from three

Recipe hot has strong_hot's samples at the high budget, hot_mixed half of them and half of the strong model's as usual.

Cost: the samples of strong_hot, as many as the strong model's. The paper does not have it: its readers asked for it.

Result of on=arithmetic (student, three seeds, pass@1 on 1,000 test problems in points, 95% interval of the difference):
hot 36.8 (-5.0 to +0.8 against strong data), hot_mixed 39.8 (-0.8 to +2.6). At 1.0 and from all tokens the strong model
solves 48.0% of the problems instead of 64.5% and is less diverse (1.46 unique correct solutions a problem, not 1.66).
"""

from cosample_jax import config as config_lib
from cosample_jax.config import recipe


def get_config(arg: str | None = None):
    """A third source."""
    config, args = config_lib.on(arg, __file__, heat=1.0)
    add_source(config, args.heat)
    config_lib.add_recipes(config, **recipes(config))
    return config


def add_source(config, heat=1.0):
    config_lib.add_model(config, 'strong_hot', like='strong', temperature=heat)
    config.finetune.too_long = 'drop'  # hot samples ramble


def recipes(config):
    level, high = config.budget.levels[-1], config.budget.strong.high
    return {
        'hot': recipe(strong_hot=high, budget=level),
        'hot_mixed': recipe(strong_hot=high / 2, strong=high / 2, budget=level),
    }
