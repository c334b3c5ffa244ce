"""A second round: are samples of the fine-tuned models better data than those of the base models?

    cosample run --config=configs/second_round.py:first=runs/arithmetic --workdir=runs/second_round
    cosample run --config=configs/second_round.py:first=runs/math,on=math,manual_dir=DIR,weights=weights,fsdp=8

  first  a finished run of the base configuration (unless given runs/arithmetic, runs/math ...); its cells of the high
         budget are sampled, zero-shot as they were taught, and its pools are taken over

weak_again is sampled from the weak model that was trained on its own data (self-improvement), strong_again from the
strong model that was trained on weak data (weak to strong); cost is matched as before, and every cell is trained from
its base model.

Cost: as much sampling again as the first round's high budget. The paper has one round.

Result of on=arithmetic (student, three seeds, pass@1 on 1,000 test problems in points, 95% interval of the difference):
weak_again 37.7 against 37.5 (-1.8 to +2.2), strong_again 41.0 against 38.9 (0.0 to +4.1, p 0.087 among both). The
strong model, trained on weak data, solves 80.5% of the problems where it solved 64.5%; the weak one 59.8%, before
52.0%.
"""

from cosample_jax import config as config_lib
from cosample_jax.config import recipe


def get_config(arg: str | None = None):
    """The first round's data beside the second's."""
    config, args = config_lib.on(arg, __file__, first='')
    first = args.first or f'runs/{args.on}'
    level, high = config.budget.levels[-1], config.budget.strong.high
    config.sampling.pools = first
    for name in ('weak', 'strong'):
        cell = f'{first}/finetune/{name}-weak-{level}-s0'
        config_lib.add_model(config, f'{name}_2', like=name, init=cell, shots=False)
    config_lib.add_recipes(
        config,
        weak_again=recipe(weak_2=high, budget=level, against='weak'),
        strong_again=recipe(strong_2=high, budget=level),
    )
    return config
