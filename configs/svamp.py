"""SVAMP, a challenge set of 1,000 word problems, for generations from elsewhere: these are graded and compared.

    cosample import --config=configs/svamp.py:manual_dir=DIR --workdir=runs/svamp \\
        --purpose=test --input=generations.jsonl
    cosample grade  --workdir=runs/svamp      (and judge, analyze, report)

  manual_dir  directory with SVAMP.json and GSM8K's train.jsonl and test.jsonl; without it they are downloaded

Rows of the input: {"problem_id": "test/chal-1", "model": "mine", "sample_index": 0, "text": "..."}. To train on GSM8K
and test on SVAMP, take configs/gsm8k.py with --config.task.name=svamp --config.task.num_test=1000
--config.evaluate.maj_problems=1000: SVAMP has no training problems, the others are GSM8K's.
Cost: seconds. Result: nothing was imported yet; with the reference solutions as generations all 1,000 are right.
"""

from cosample_jax import config as config_lib


def get_config(arg: str | None = None):
    """All 1,000 problems."""
    args = config_lib.parse_args(arg, manual_dir='')
    config = config_lib.base()
    config.name = 'svamp'
    config.task.name = 'svamp'
    config.task.manual_dir = args.manual_dir
    config.task.num_train = 6_973
    config.task.num_validation = 500
    config.task.num_test = 1_000
    config.task.num_functional = 0
    config.evaluate.splits = ('test',)
    return config
