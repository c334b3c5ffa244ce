"""Your own problems: which of two Gemmas should write the training data for them?

    cosample run    --config=configs/own_data.py:data=DIR,models=mini --workdir=runs/own_mini

    cosample doctor --config=configs/own_data.py:data=DIR,weights=weights --workdir=runs/own
    cosample plan   --config=configs/own_data.py:data=DIR,weights=weights --show-prompt
    cosample run    --config=configs/own_data.py:data=DIR,weights=weights --workdir=runs/own

  data     directory with train.jsonl and test.jsonl, and validation.jsonl if you have one: rows of question and answer,
           with id, solution, level and subject if there are any (cosample_jax/tasks/own.py)
  train, validation, test   how many of them are used at most
  shots    numbers of training rows for the few-shot prompt, such as 0+7+12; they need a solution
  models   gemma: weak Gemma 2 2B, strong Gemma 2 9B, each trained on the data of both;
           mini: three tiny ones, trained from scratch on the solutions in train.jsonl, to see your files through every
           stage on a CPU before anything is downloaded; the scores mean nothing
  weights  directory that holds gemma2_2b and gemma2_9b as downloaded (docs/weights.md)
  fsdp     devices the weights are split over;  tensor  devices the heads are split over

Cost: `cosample plan` prints it for the devices at hand; mini with 200 problems takes ten minutes on two CPU cores.
Result with Gemmas: yours; not run yet, it needs accelerators.
"""

from cosample_jax import config as config_lib
from cosample_jax import config_schema


def get_config(arg: str | None = None):
    """1,000 problems to sample, 100 for validation, 500 to test, unless others are asked for."""
    args = config_lib.parse_args(
        arg,
        data='',
        train=1_000,
        validation=100,
        test=500,
        shots='',
        models=('gemma', 'mini'),
        weights='weights',
        fsdp=1,
        tensor=1,
    )
    config = config_lib.base()
    config.name = 'own'

    config.task.name = 'own'
    config.task.manual_dir = args.data
    config.task.num_train, config.task.num_validation, config.task.num_test = args.train, args.validation, args.test
    config.task.num_functional = 0
    config.task.shots = tuple(f'train/{row}' for row in args.shots.split('+') if row)

    if args.models == 'mini':
        config_schema.pretrain_minis(config)
        config.roles.trained = ('student',)
    else:
        _gemmas(config, args.weights)
    config.finetune.too_long = 'drop'
    config.evaluate.splits = ('test',)
    config.evaluate.maj_problems = min(100, args.test)
    config.mesh.fsdp, config.mesh.tensor = args.fsdp, args.tensor
    return config


def _gemmas(config, weights: str) -> None:
    config.tokenizer = f'{weights}/gemma2_2b/tokenizer.model'
    for name, variant in {'weak': 'gemma2_2b', 'strong': 'gemma2_9b', 'student': 'gemma2_2b'}.items():
        config.models[name].variant = variant
        config.models[name].init = f'{weights}/{variant}'
        config.finetune.learning_rate[name] = (1e-6,)
        config.finetune.batch_size[name] = 32
        config.finetune.steps[name] = {'low': 200, 'high': 2000}
    config.roles.trained = ('weak', 'strong')
    config.sampling.max_new_tokens = 512
    config.sampling.slots = 64
    config.finetune.row_length = 1024
    config.finetune.row_multiple = 8
