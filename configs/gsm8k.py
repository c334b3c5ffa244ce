"""The paper's GSM8K experiment with real Gemmas: weak Gemma 2 9B, strong Gemma 2 27B, student Gemma 7B.

    cosample doctor --config=configs/gsm8k.py:weights=weights,fsdp=8 --workdir=runs/gsm8k
    cosample plan   --config=configs/gsm8k.py:weights=weights,fsdp=8
    cosample run    --config=configs/gsm8k.py:weights=weights,fsdp=8 --workdir=runs/gsm8k

  weights     directory that holds gemma2_9b, gemma2_27b and gemma_7b as downloaded (docs/weights.md)
  manual_dir  directory with GSM8K's train.jsonl and test.jsonl; without it they are downloaded
  fsdp        devices the weights are split over;  tensor  devices the heads are split over

Sampling as in the paper: 8 shots, temperature 0.7, top-k 3, 1 or 10 samples a problem from the strong model and, by
nominal sizes, 3 or 30 from the weak one. Fine-tuning: 600 or 6,000 steps of 32 examples, for the student 2,400 or
24,000 of 8; ten checkpoints, learning rate from {1e-7, 5e-7, 1e-6} by validation accuracy.

TPU slices, as the TPU compiler has them: the 27B samples on v5e:2x4 with tensor=8; it is fine-tuned on v5e:4x8 with
fsdp=32 and --config.finetune.row_multiple=32, or on v5p:2x2x2 with fsdp=8, which take the whole run. Hours and dollars,
at least, are in tpu_scripts/README.md.

Cost: `cosample plan` prints it for the devices at hand. Result: not run yet, it needs accelerators.
"""

from cosample_jax import config as config_lib

VARIANTS = {'weak': 'gemma2_9b', 'strong': 'gemma2_27b', 'student': 'gemma_7b'}


def get_config(arg: str | None = None):
    """All of GSM8K: 6,965 problems to sample, 500 for validation, 1,319 to test, 8 to show."""
    args = config_lib.parse_args(arg, weights='weights', manual_dir='', fsdp=1, tensor=1)
    config = config_lib.base()
    config.name = 'gsm8k'
    config.tokenizer = f'{args.weights}/gemma2_9b/tokenizer.model'  # Gemma 1 and 2 share it

    config.task.name = 'gsm8k'
    config.task.manual_dir = args.manual_dir
    config.task.num_train = 6_965
    config.task.num_validation = 500
    config.task.num_test = 1_319
    config.task.num_functional = 0
    # Three or four short steps each, of different kinds.
    config.task.shots = tuple(f'train/{row}' for row in (147, 683, 2268, 2425, 3312, 4333, 5242, 5501))

    for name, variant in VARIANTS.items():
        config.models[name].variant = variant
        config.models[name].init = f'{args.weights}/{variant}'
        config.finetune.learning_rate[name] = (1e-7, 5e-7, 1e-6)
    config.budget.params = 'nominal'  # 9 : 27, as the paper

    config.sampling.max_new_tokens = 320
    config.sampling.slots = 64
    # As many examples for all three: the student takes four times as many steps of a quarter of the size.
    config.finetune.batch_size = {'weak': 32, 'strong': 32, 'student': 8}
    for name, slower in {'weak': 1, 'strong': 1, 'student': 4}.items():
        config.finetune.steps[name] = {'low': 600 * slower, 'high': 6000 * slower}
    config.finetune.row_length = 512
    config.finetune.row_multiple = 8
    config.evaluate.splits = ('test',)
    config.evaluate.maj_problems = 1_319
    config.mesh.fsdp, config.mesh.tensor = args.fsdp, args.tensor
    return config
