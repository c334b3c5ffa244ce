"""The arithmetic experiment with both sources behind an API: `cosample serve`, another server, or anybody's.

    cosample serve --config=configs/arithmetic.py:size=demo --workdir=runs/served --port=8000    (another terminal)
    cosample plan  --config=configs/arithmetic_remote.py
    cosample run   --config=configs/arithmetic_remote.py --workdir=runs/arithmetic_remote

  url      where the server answers; it serves models called weak and strong
  size     of configs/arithmetic.py; its smallest, smoke, is what the tests run
  samples  of a problem in one request

Everything is asked for as text (completions), few-shot, with a seed for each sample: the pools are those of
configs/arithmetic.py with the same size, text for text, as `cosample serve` draws from the same keys. Nothing is paid:
the prices are 0, and counts are matched by the sizes of the models, which are known here.

Result of demo: all 10,240 texts are those of the local run, and so is the sum of their tokens. Cost: 1,536 requests; on
2 CPU cores with the server and other work on them sampling took 118 s.
"""

from pathlib import Path

from cosample_jax import config as config_lib
from cosample_jax import config_schema


def get_config(arg: str | None = None):
    """configs/arithmetic.py, but for who samples."""
    args = config_lib.parse_args(
        arg, url='http://127.0.0.1:8000/v1', size=('demo', 'full', 'experiment', 'smoke'), samples=8
    )
    config = config_lib.load(f'{Path(__file__).with_name("arithmetic.py")}:size={args.size}')
    config.name = f'arithmetic-remote-{args.size}'
    for source in config.roles.sources:
        config_schema.use_api(config, source, f'openai:{source}@{args.url}', chat=False, samples=args.samples)
    config.roles.trained = ('student',)
    return config
