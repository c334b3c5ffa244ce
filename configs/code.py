"""The paper's coding experiment with real Gemmas: data from Gemma 2 9B (weak) and 27B (strong), MBPP to HumanEval.

    cosample doctor --config=configs/code.py:weights=weights,fsdp=8 --workdir=runs/code
    cosample plan   --config=configs/code.py:weights=weights,fsdp=8
    cosample run    --config=configs/code.py:weights=weights,fsdp=8 --workdir=runs/code

  weights     directory that holds gemma2_9b, gemma2_27b and gemma_7b as downloaded (docs/weights.md)
  manual_dir  directory with mbpp.jsonl and HumanEval.jsonl.gz; without it they are downloaded
  fsdp        devices the weights are split over;  tensor  devices the heads are split over

Samples for MBPP's 374 training problems, with the three shots of the MBPP paper; validation on its own 90; tested on
HumanEval's 164. A sample is right when its tests pass, in a sandbox that needs Linux (docs/sandbox.md): doctor says
whether it works here. Budgets, temperature and fine-tuning are those of configs/gsm8k.py, ours where the paper is
silent. The high budget's 6,000 steps are many passes over what 374 problems give: the best of ten checkpoints is taken.

Cost: `cosample plan` prints it for the devices at hand. Result: not run, it needs accelerators. Expected: a mixed one;
the paper reports that weak data does not win throughout on code. With 164 test problems a difference below about ten
points in one cell is not measurable.
"""

from cosample_jax import config as config_lib

VARIANTS = {'weak': 'gemma2_9b', 'strong': 'gemma2_27b', 'student': 'gemma_7b'}


def get_config(arg: str | None = None):
    """All of it: 374 problems to sample, 90 for validation, 164 to test, 3 to show."""
    args = config_lib.parse_args(arg, weights='weights', manual_dir='', fsdp=1, tensor=1)
    config = config_lib.base()
    config.name = 'code'
    config.tokenizer = f'{args.weights}/gemma2_9b/tokenizer.model'  # Gemma 1 and 2 share it

    config.task.name = 'code'
    config.task.manual_dir = args.manual_dir
    config.task.num_train = 374
    config.task.num_validation = 90
    config.task.num_test = 164
    config.task.num_functional = 0
    config.task.shots = ('shots/2', 'shots/3', 'shots/4')

    for name, variant in VARIANTS.items():
        config.models[name].variant = variant
        config.models[name].init = f'{args.weights}/{variant}'
        config.finetune.learning_rate[name] = (1e-7, 5e-7, 1e-6)
    config.budget.params = 'nominal'  # 9 : 27, as the paper

    config.sampling.max_new_tokens = 512
    config.sampling.slots = 64
    config.finetune.batch_size = {'weak': 32, 'strong': 32, 'student': 8}
    for name, slower in {'weak': 1, 'strong': 1, 'student': 4}.items():
        config.finetune.steps[name] = {'low': 600 * slower, 'high': 6000 * slower}
    config.finetune.row_length = 1024
    config.finetune.too_long = 'drop'
    config.finetune.row_multiple = 8
    config.evaluate.splits = ('test',)
    config.evaluate.maj_problems = 164
    config.mesh.fsdp, config.mesh.tensor = args.fsdp, args.tensor
    return config
