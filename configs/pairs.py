"""Other pairs of models: when does the weaker one's data win, and how far apart must they be?

    cosample run --config=configs/pairs.py:pair=weak_student --workdir=runs/pair_weak_student
    cosample run --config=configs/pairs.py:pair=gemma2_2b_9b,on=math,manual_dir=DIR,weights=weights,fsdp=8
    cosample report --compare runs/arithmetic runs/pair_weak_student

  pair  on=arithmetic: weak_student (57k and 68k parameters, 1 : 1.2) or student_strong (57k and 205k, 1 : 3.6);
        else gemma2_2b_27b, gemma2_2b_9b (Gemma 2), gemma3_1b_4b, gemma3_1b_12b, gemma3_4b_27b (Gemma 3, with
        a student of 1B)

Counts are matched by exact sizes. Gemma 3 has a tokenizer of its own, which config.tokenizer then names.

Cost: both pools anew. The paper's other pair is Llama 3.2 3B and Llama 3.1 8B; Llama is no model here, its generations
can be imported.

Result of pair=weak_student (three seeds, pass@1 on 1,000 test problems): data of the smaller model is better by 5.0
points at the low budget (+2.5 to +7.5; it solves 22.7% of the problems at equal cost, the other 18.1%), and no
difference is measurable at the high one (-3.2 to +0.5). So weak data wins where the weak model is the better one for
its cost. Of pair=student_strong: the weak side solves more problems at the low budget (32.7% against 28.9%) and yet
trains the student worse (-5.3 to -1.7), with no measurable difference at the high one (-3.5 to +1.0): coverage alone
does not decide.
"""

from cosample_jax import config as config_lib

TINY = {'weak_student': ('tiny_student', 'tiny_weak'), 'student_strong': ('tiny_student', 'tiny_strong')}
REAL = {
    'gemma2_2b_9b': ('gemma2_2b', 'gemma2_9b', 'gemma_2b'),
    'gemma2_2b_27b': ('gemma2_2b', 'gemma2_27b', 'gemma_7b'),
    'gemma3_1b_4b': ('gemma3_1b', 'gemma3_4b', 'gemma3_1b'),
    'gemma3_1b_12b': ('gemma3_1b', 'gemma3_12b', 'gemma3_1b'),
    'gemma3_4b_27b': ('gemma3_4b', 'gemma3_27b', 'gemma3_1b'),
}


def get_config(arg: str | None = None):
    """The base configuration with another pair."""
    config, args = config_lib.on(arg, __file__, pair=(*TINY, *REAL))
    config.name = f'{config.name}-{args.pair}'
    config.budget.params = 'exact'
    config.finetune.too_long = 'drop'
    if args.pair in TINY:
        for name, variant in zip(('weak', 'strong'), TINY[args.pair], strict=True):
            config.models[name].variant = variant
        return config
    weights = config.models.weak.init.rpartition('/')[0]
    for name, variant in zip(('weak', 'strong', 'student'), REAL[args.pair], strict=True):
        config.models[name].variant = variant
        config.models[name].init = f'{weights}/{variant}'
    config.tokenizer = f'{config.models.weak.init}/tokenizer.model'
    return config
