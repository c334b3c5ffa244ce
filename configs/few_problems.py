"""Fewer training problems: does the choice of source hold with 500 MATH problems instead of 7,500?

    cosample run --config=configs/few_problems.py:pools=runs/arithmetic --workdir=runs/few_problems
    cosample run --config=configs/few_problems.py:on=math,manual_dir=DIR,weights=weights,fsdp=8

Recipes few_weak and few_strong have the high budget's samples of 500 problems (on=arithmetic: 64 of 256), the same ones
for both, drawn by a hash of their ids.

Cost: no sampling with the pools of the base configuration.
The paper, relative gains of weak data with 500 MATH problems: student 12.9%, weak model 11.4%, strong model 5.1%.

Result of on=arithmetic (student, three seeds, pass@1 on 1,000 test problems in points, 95% interval of the difference):
few_strong 37.0 (42 problems solved) against 38.9 with all problems (-4.8 to +0.9); few_weak 36.0 (30 problems) against
few_strong (-4.0 to +2.0). No difference is measurable, with few problems as with all.
"""

from cosample_jax import config as config_lib
from cosample_jax.config import recipe


def get_config(arg: str | None = None):
    """All problems, and a few of them."""
    config, _ = config_lib.on(arg, __file__)
    config_lib.add_recipes(config, **recipes(config))
    return config


def recipes(config):
    count = 500 if config.task.num_train > 1000 else max(2, config.task.num_train // 4)
    high = config.budget.strong.high
    few = {
        source: recipe(problems=count, budget=config.budget.levels[-1], **{source: high})
        for source in ('weak', 'strong')
    }
    few['weak'].against = 'few_strong'
    few['strong'].against = 'strong'
    return {f'few_{source}': entry for source, entry in few.items()}
