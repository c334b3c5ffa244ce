"""Without gold answers: keep everything, what most samples of a problem agree on, or what a judge finds valid?

    cosample run --config=configs/no_answers.py:pools=runs/arithmetic --workdir=runs/no_answers
    cosample run --config=configs/no_answers.py:on=math,judge=strong,manual_dir=DIR,weights=weights,fsdp=8

  judge  'calculator' (every equation in a solution, exactly), or a model of the run, asked whether answer and reasoning
         are right: 'strong', 'weak', 'student'

weak_all, weak_majority and weak_judged, and the same of the strong model, are compared with the samples of right final
answers. None of the three looks at a gold answer.

Cost: no sampling with the pools of the base configuration; a model judge reads every sample of the high budget.
The paper: weak data wins without a filter and with a model's verdicts too, where the models are good at the task.
"""

from cosample_jax import config as config_lib
from cosample_jax.config import recipe


def get_config(arg: str | None = None):
    """Three ways to do without, for each source."""
    config, args = config_lib.on(arg, __file__, judge=('calculator', 'strong', 'weak', 'student'))
    set_judge(config, args.judge)
    config_lib.add_recipes(config, **recipes(config, args.judge))
    return config


def set_judge(config, judge='calculator'):
    first = ('steps',) if config.task.name == 'arithmetic' else ()  # whose verdicts are the false-positive rate
    config.judge.by = (*first, judge)


def recipes(config, judge='calculator'):
    level, high = config.budget.levels[-1], config.budget.strong.high
    filters = {'all': 'none', 'majority': 'majority', 'judged': judge}
    return {
        f'{source}_{name}': recipe(filter=filter_, budget=level, against=source, **{source: high})
        for source in ('weak', 'strong')
        for name, filter_ in filters.items()
    }
