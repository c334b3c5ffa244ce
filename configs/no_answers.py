"""Without gold answers: keep everything, what most samples of a problem agree on, or what a judge finds valid?

    cosample run --config=configs/no_answers.py:pools=runs/arithmetic --workdir=runs/no_answers
    cosample run --config=configs/no_answers.py:on=math,judge=strong,manual_dir=DIR,weights=weights,fsdp=8

  judge  'calculator' (every equation in a solution, exactly), or a model of the run, asked whether answer and reasoning
         are right: 'strong', 'weak', 'student'

weak_all, weak_majority and weak_judged, and the same of the strong model, are compared with the samples of right final
answers. None of the three looks at a gold answer.

Cost: no sampling with the pools of the base configuration; a model judge reads every sample of the high budget.
The paper does without a filter, and with a model's verdicts.

Result of on=arithmetic (student, three seeds, pass@1 on 1,000 test problems in points, 95% interval of the difference):
all 25.1 and 28.8 (weak, strong), majority 28.5 and 33.1, calculator 34.8 and 39.1, right answers 37.5 and 38.9.
Without a filter 12.5 and 10.1 points are lost, with votes 9.0 and 5.8; the calculator, which sees no answer, loses
none on the strong model's samples (-1.7 to +2.1) and 2.8 on the weak one's (-4.7 to -0.9, not measurable among all
comparisons). Tiny models write no verdicts: judge=strong keeps nothing (size=smoke).
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
