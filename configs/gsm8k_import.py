"""GSM8K with generations from elsewhere: what is imported is graded and compared; nothing is trained.

    cosample import --config=configs/gsm8k_import.py:manual_dir=DIR --workdir=runs/gsm8k_import \\
        --purpose=test --input=generations.jsonl
    cosample grade --workdir=runs/gsm8k_import      (and judge, analyze, report)

Rows of the input: {"problem_id": "test/0", "model": "6b", "sample_index": 0, "text": "..."}; test/0 is the
first row of the official test file. Without manual_dir the official files are downloaded.
Cost: seconds. Result: OpenAI's four published sets of 1,319 solutions (example_model_solutions.jsonl) give
5,276 grades, all equal to their labels.
"""

from cosample_jax import config as config_lib


def get_config(arg: str | None = None):
    """All 1,319 test problems and the training problems outside validation, for pools of any model."""
    args = config_lib.parse_args(arg, manual_dir='')
    config = config_lib.base()
    config.name = 'gsm8k-import'
    config.task.name = 'gsm8k'
    config.task.manual_dir = args.manual_dir
    config.task.num_train = 6_973
    config.task.num_validation = 500
    config.task.num_test = 1_319
    config.task.num_functional = 0
    config.evaluate.splits = ('test',)
    return config
