"""The very same pipeline on the real GSM8K, small enough for a laptop: does real text pass through every stage?

    cosample run --config=configs/gsm8k_tiny.py:manual_dir=DIR --workdir=runs/gsm8k_tiny

DIR holds train.jsonl and test.jsonl as published; without manual_dir they are downloaded. A 4k SentencePiece and three
tiny Gemmas are trained from scratch on GSM8K's own training text (test and validation problems left out), 200 problems
are sampled with 2 shots, and the student is fine-tuned at the low budget.

Cost on 2 busy CPU cores: 10 min 38 s, 1.4 GiB (pretraining 528 s, fine-tuning 59 s, sampling 27 s).
Result: 10 of the strong model's 800 and 29 of the weak one's 2,400 samples are right; the student's low-budget cells
keep 5 and 6 solutions and reach 1 and 2 of 100 test problems, gold data 0. Scores are near the floor, as they must be
at this size. A source that solves nothing is a result too ("0 survivors, not trained").
"""

from cosample_jax import config as config_lib
from cosample_jax import config_schema


def get_config(arg: str | None = None):
    """200 training problems, 50 for validation, 100 test problems; the student's low-budget cells."""
    args = config_lib.parse_args(arg, manual_dir='')
    config = config_lib.base()
    config.name = 'gsm8k-tiny'

    config.task.name = 'gsm8k'
    config.task.manual_dir = args.manual_dir
    config.task.num_train = 200
    config.task.num_validation = 50
    config.task.num_test = 100
    config.task.num_functional = 0
    config.task.shots = ('train/5955', 'train/5492')  # short ones, two steps each

    config_schema.pretrain_minis(config)
    config.roles.trained = ('student',)
    config.budget.levels = ('low',)
    config.budget.strong.high = 4
    config.evaluate.splits = ('test',)
    config.evaluate.maj_problems = 50
    config.evaluate.maj_samples = 4
    return config
