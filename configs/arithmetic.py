"""The whole experiment on the embedded arithmetic task with three tiny Gemmas.

    make demo
    cosample run --config=configs/arithmetic.py:size=demo --workdir=runs/arithmetic
    cosample run --config=configs/arithmetic.py:size=full --workdir=runs/arithmetic_full
    cosample run --config=configs/arithmetic.py:size=full,init=pretrain --workdir=runs/arithmetic_pretrain

Cost and result: see README.md; `cosample plan --config=...` predicts them for this machine.
  demo   256 training problems, 400 + 400 test problems, one training seed
  full   2,000 test problems, three training seeds, learning rates chosen by validation accuracy
  smoke  a few problems and steps: every stage runs, the scores mean nothing (for the tests)
With init=pretrain the three base models are trained from scratch; otherwise the shipped ones are taken.
"""

from cosample_jax import config as config_lib


def get_config(arg: str | None = None):
    """The configuration for `size` (demo, full, smoke) and `init` (package, pretrain)."""
    args = config_lib.parse_args(arg, size=('demo', 'full', 'smoke'), init=('package', 'pretrain'))
    config = config_lib.base()
    config.name = f'arithmetic-{args.size}'
    config.task.name = 'arithmetic'
    for name in config_lib.MODELS:
        config.models[name].variant = f'tiny_{name}'
        config.models[name].init = args.init
    if args.size == 'full':
        config.task.num_test = config.task.num_functional = 2000
        config.finetune.seeds = (0, 1, 2)
        for name in config_lib.MODELS:
            config.finetune.learning_rate[name] = (3e-4, 1e-3, 3e-3)
    if args.size == 'smoke':
        _shrink(config)
    return config


def _shrink(config) -> None:
    """Sizes at which every stage takes a second or so once compiled."""
    config.task.num_train = config.task.num_test = config.task.num_functional = 8
    config.task.num_validation = 4
    config.pretrain.steps = dict.fromkeys(config_lib.MODELS, 2)
    config.pretrain.batch_tokens = 512
    config.pretrain.warmup_steps = 1
    config.sampling.slots = 8
    config.sampling.max_new_tokens = 16
    config.budget.strong.high = 2
    config.finetune.batch_size = 4
    config.finetune.steps.low = config.finetune.steps.high = 2
    config.finetune.checkpoints = 1
    config.evaluate.maj_samples = 2
    config.evaluate.maj_problems = 4
