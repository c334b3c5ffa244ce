"""The paper's third part: Gemini Pro (strong) against Gemini Flash (weak) on MATH, matched by price, and Flash at less.

    export GEMINI_API_KEY=...
    cosample doctor --config=configs/math_gemini.py:manual_dir=DIR --workdir=runs/math_gemini
    cosample plan   --config=configs/math_gemini.py:manual_dir=DIR
    cosample run    --config=configs/math_gemini.py:manual_dir=DIR --workdir=runs/math_gemini --max-spend=500

  pair        paper: Gemini 1.5 Pro and Flash, 35 : 1 by price, which nobody serves any more: to plan with;
              flash, flash_lite: Gemini 2.5 Pro against one of its small siblings
  student     which Gemma is trained on the samples: gemma_7b, gemma2_9b or gemma2_27b, as in the paper, one run each
  pools       the workdir of such a run: its samples are taken over, so they are paid for once
  batch       True: asked in jobs, which take up to a day and cost half
  manual_dir, weights, fsdp, tensor   as in configs/math.py

One sample a problem from the strong model; the weak one has as many as cost the same (`matched`: the low budget) and,
as the recipe fifteen_percent, as many as cost 0.15 of that: 35 and 5 in the paper. Samples are graded and judged as
all are; add ``--config.judge.by="('judge',)" --config.judge.model.init=gemini:gemini-2.5-pro`` to have 500 solutions
of each model judged by a model, which `plan` counts.

Prices are those of the day in config.models.<name>.price, looked up by hand: look again before you spend.

Paper: coverage 81% (Flash, 35 samples) against 61.1% (Pro, 1); relative gains of Flash over Pro data 31.6%, 14.4%,
10.9% (Gemma 7B, Gemma 2 9B and 27B), at 0.15 of the price 19.1%, 9.8%, 5.7%.
Cost: `cosample plan` prints it. Result: not run, it needs a key and an accelerator.
"""

from pathlib import Path

from cosample_jax import config as config_lib
from cosample_jax import config_schema
from cosample_jax.config import recipe

_PAPER = {'as_of': '2024-08-29', 'source': "output prices in the paper's ratio of 35 : 1, arXiv 2408.16737"}
_LISTED = {'as_of': '2026-03-01', 'source': "Google's price list as articles of that month quote it, up to 200k tokens"}
_LISTED |= {'batch_discount': 0.5}
PRICES = {
    'gemini-1.5-pro': {'input': 3.5, 'output': 10.5} | _PAPER,
    'gemini-1.5-flash': {'input': 0.075, 'output': 0.3} | _PAPER,
    'gemini-2.5-pro': {'input': 1.25, 'cached': 0.125, 'output': 10.0} | _LISTED,
    'gemini-2.5-flash': {'input': 0.3, 'cached': 0.03, 'output': 2.5} | _LISTED,
    'gemini-2.5-flash-lite': {'input': 0.1, 'cached': 0.01, 'output': 0.4} | _LISTED,
}
PAIRS = {
    'flash': ('gemini-2.5-flash', 'gemini-2.5-pro'),
    'flash_lite': ('gemini-2.5-flash-lite', 'gemini-2.5-pro'),
    'paper': ('gemini-1.5-flash', 'gemini-1.5-pro'),
}
# The least that each may think: thoughts are paid for as what is written.
THINKING = {'gemini-2.5-pro': '128', 'gemini-2.5-flash': '0', 'gemini-2.5-flash-lite': '0'}


def get_config(arg: str | None = None):
    """configs/math.py with sources behind an API, one sample of the strong one, and a single student."""
    args = config_lib.parse_args(
        arg,
        pair=tuple(PAIRS),
        student=('gemma_7b', 'gemma2_9b', 'gemma2_27b'),
        batch=False,
        pools='',
        manual_dir='',
        weights='weights',
        fsdp=1,
        tensor=1,
    )
    passed = f'manual_dir={args.manual_dir},weights={args.weights},fsdp={args.fsdp},tensor={args.tensor}'
    config = config_lib.load(f'{Path(__file__).with_name("math.py")}:{passed}')
    config.name = f'math-gemini-{args.pair}'
    config.models.student.variant = args.student
    config.models.student.init = f'{args.weights}/{args.student}'
    config.roles.trained = ('student',)
    for source, name in zip(('weak', 'strong'), PAIRS[args.pair], strict=True):
        thinking = THINKING.get(name, '')
        config_schema.use_api(config, source, f'gemini:{name}', batch=args.batch, samples=5, thinking=thinking)
        config.models[source].price.update(PRICES[name])
    config.sampling.max_new_tokens = 1024
    config.sampling.pools = args.pools
    config.budget.lens = 'price'
    config.budget.levels = ('low',)
    config.budget.strong.high = 1
    config_lib.add_recipes(config, fifteen_percent=recipe(lens='price', weak=0.15, budget='low'))
    return config
