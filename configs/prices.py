"""Matched by price instead of parameters, 35 : 1 as Gemini Flash and Pro, and 5 : 1 at 0.15 of the price.

    cosample plan --config=configs/prices.py
    cosample run  --config=configs/prices.py:pools=runs/arithmetic --workdir=runs/prices
    cosample run  --config=configs/prices.py:on=math,manual_dir=DIR,weights=weights,fsdp=8

price_matched has as many weak samples as one strong one buys, price_fifth five; both are compared with the one strong
sample of the low budget. The prices are made up, in the ratio that the paper's were. Nothing is bought.

Cost: 35 weak samples a problem, five more than the base configuration's pools have.
The paper, relative gains of Flash over Pro data: 31.6%, 14.4%, 10.9% (Gemma 7B, Gemma 2 9B and 27B); at 0.15 of the
price 19.1%, 9.8%, 5.7%.

Result of on=arithmetic (student, three seeds, pass@1 on 1,000 test problems in points, 95% interval of the difference):
price_matched 36.1 against 39.8 of one strong sample (-13.5 to +4.5; the three seeds differ by much), price_fifth 32.3
(-11.1 to -4.1). By parameters the 35 samples cost 11.7 strong ones.
"""

from cosample_jax import config as config_lib
from cosample_jax.config import recipe

PRICES = {'weak': 0.3, 'strong': 10.5}  # US$ for a million generated tokens


def get_config(arg: str | None = None):
    """Two training sets at the steps of the low budget."""
    config, _ = config_lib.on(arg, __file__)
    set_prices(config)
    config_lib.add_recipes(config, **recipes(config))
    return config


def set_prices(config):
    for name, output in PRICES.items():
        made_up = {'output': output, 'as_of': '2024-08-29', 'source': "made up, in the ratio of the paper's"}
        config.models[name].price.update(made_up)


def recipes(config):
    return {
        'price_matched': recipe(lens='price', weak=1, budget='low'),
        'price_fifth': recipe(lens='number', weak=5, budget='low'),
    }
