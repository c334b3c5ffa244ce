r"""The paper's MATH experiment with real Gemmas: weak Gemma 2 9B, strong Gemma 2 27B, student Gemma 7B.

    cosample doctor --config=configs/math.py:manual_dir=DIR,weights=weights,fsdp=8 --workdir=runs/math
    cosample plan   --config=configs/math.py:manual_dir=DIR,weights=weights,fsdp=8 --show-prompt
    cosample run    --config=configs/math.py:manual_dir=DIR,weights=weights,fsdp=8 --workdir=runs/math

  manual_dir  directory with MATH, in any form (docs/data.md), and, unless they are to be downloaded, the
              snapshots of Functional MATH
  weights     directory that holds gemma2_9b, gemma2_27b and gemma_7b as downloaded (docs/weights.md)
  fsdp        devices the weights are split over;  tensor  devices the heads are split over
  size        'tiny': three small Gemmas from scratch on 200 problems, to see real MATH pass on a laptop

Sampling as in the paper: 4 shots, temperature 0.7, top-k 3, 1 or 10 samples a problem from the strong model and, by
nominal sizes, 3 or 30 from the weak one. Tested on MATH500, and on 1,745 test problems both as published and with the
numbers of December 2023. Fine-tuning as in configs/gsm8k.py; examples longer than 1,024 tokens are dropped and counted.

By `cosample plan` v5p:2x2x2 with fsdp=8 takes the whole run; v5e:4x8 with fsdp=8,tensor=4 all but the fine-tuning of
the 27B.

Cost: `cosample plan` prints it for the devices at hand. Result: not run yet, it needs accelerators. Of size=tiny, with
60 steps of pretraining instead of 250, on two CPU cores: sampling, fine-tuning, evaluation and report 4 min 28 s; 10 of
3,200 samples are right, no test problem is. What it shows is that real MATH passes.
"""

from cosample_jax import config as config_lib
from cosample_jax import config_schema

VARIANTS = {'weak': 'gemma2_9b', 'strong': 'gemma2_27b', 'student': 'gemma_7b'}
# Short solutions of four subjects, levels 2 to 4; the last has several answers. None is like a test problem.
SHOTS = ('algebra/2722', 'counting_and_probability/881', 'geometry/778', 'intermediate_algebra/1263')


def get_config(arg: str | None = None):
    """7,409 problems to sample, 500 for validation, 500 + 1,745 + 1,745 to test, 4 to show."""
    args = config_lib.parse_args(arg, manual_dir='', weights='weights', fsdp=1, tensor=1, size=('full', 'tiny'))
    config = config_lib.base()
    config.name = 'math'
    config.tokenizer = f'{args.weights}/gemma2_9b/tokenizer.model'  # Gemma 1 and 2 share it

    config.task.name = 'math'
    config.task.manual_dir = args.manual_dir
    config.task.num_train = 7_409  # what is no copy of a test problem, whichever the snapshots
    config.task.num_validation = 500
    config.task.num_test = 500
    config.task.num_functional = 1_745
    config.task.shots = tuple(f'train/{shot}' for shot in SHOTS)
    config.evaluate.splits = ('test', 'functional', 'static')
    config.evaluate.maj_problems = 500

    for name, variant in VARIANTS.items():
        config.models[name].variant = variant
        config.models[name].init = f'{args.weights}/{variant}'
        config.finetune.learning_rate[name] = (1e-7, 5e-7, 1e-6)
    config.budget.params = 'nominal'  # 9 : 27, as the paper

    config.sampling.max_new_tokens = 512
    config.sampling.slots = 64
    # As many examples for all three: the student takes four times as many steps of a quarter of the size.
    config.finetune.batch_size = {'weak': 32, 'strong': 32, 'student': 8}
    for name, slower in {'weak': 1, 'strong': 1, 'student': 4}.items():
        config.finetune.steps[name] = {'low': 600 * slower, 'high': 6000 * slower}
    config.finetune.row_length = 1024
    config.finetune.too_long = 'drop'
    config.finetune.row_multiple = 8
    config.mesh.fsdp, config.mesh.tensor = args.fsdp, args.tensor
    if args.size == 'tiny':
        _make_tiny(config)
    return config


def _make_tiny(config) -> None:
    """As configs/gsm8k_tiny.py: a tokenizer and the models are trained on MATH's own training text."""
    config.name, config.tokenizer = 'math-tiny', ''
    config.task.num_train, config.task.num_validation, config.task.num_test = 200, 50, 100
    config.task.num_functional = 50
    config.task.shots = config.task.shots[:2]
    config_schema.pretrain_minis(config)
    for name in config_lib.MODELS:
        config.finetune.steps[name] = {'low': 40, 'high': 400}
        config.finetune.learning_rate[name] = (1e-3,)
    config.finetune.row_length = 1024  # as long as real MATH's solutions are
    config.roles.trained = ('student',)
    config.budget.levels = ('low',)
    config.budget.strong.high = 4
    config.evaluate.maj_problems = 50
    config.evaluate.maj_samples = 4
