"""Counts of equal cost before there is a configuration: sizes or prices and lengths are enough. No JAX here."""

from collections.abc import Mapping

from cosample_jax import budget
from cosample_jax.errors import UserError, did_you_mean
from cosample_jax.gemma.config import variant
from cosample_jax.notebook.rows import Rows

_FIELDS = ('variant', 'params', 'input', 'output', 'batch_discount', 'seconds_per_token', 'solution')
_LENSES = {'2P FLOPs': 'FLOPs', 'all FLOPs': 'FLOPs', 'price': 'US$', 'chip-seconds': 'chip-s'}


def matched_counts(
    models: Mapping[str, Mapping],
    samples: float = 10,
    reference: str = 'strong',
    problems: int = 1000,
    prefix: float = 0,
    question: float = 100,
    solution: float = 150,
) -> Rows:
    """How many samples of each model cost as much as `samples` of the `reference`, by every lens known for all models.

    Args:
        models: Of each model what is known, any of
            ``variant`` (a Gemma, such as 'gemma2_9b': gives its parameters, and what all of its FLOPs are),
            ``params`` (the P of 2P; the variant's own unless given, 9e9 for "9B"),
            ``input``, ``output`` (US$ for a million tokens) and ``batch_discount`` (the share taken off),
            ``seconds_per_token`` (chip-seconds for a generated token, measured),
            ``solution`` (mean tokens of its solutions, where they are not `solution`).
        samples: Of the reference, a problem.
        reference: The model that the others are matched to.
        problems: How many.
        prefix: Tokens that all prompts share (instructions, examples).
        question: Mean tokens of a question.
        solution: Mean tokens of a solution.

    Returns:
        A row a lens and model: ``samples`` a problem before rounding, ``drawn`` of all problems after it, their
        ``cost`` in the lens's ``unit``, and the ``mismatch`` that rounding leaves, as a share.

    Raises:
        UserError: a name, a length or a price that cannot be.

    >>> import cosample_jax as cs
    >>> gemmas = {'weak': {'variant': 'gemma2_9b', 'params': 9e9}, 'strong': {'variant': 'gemma2_27b', 'params': 27e9}}
    >>> for row in cs.matched_counts(gemmas, samples=1, prefix=900, question=60, solution=110).where(model='weak'):
    ...     print(row['lens'], round(row['samples'], 2))
    2P FLOPs 3.0
    all FLOPs 3.89
    """
    if reference not in models:
        raise UserError(f'reference={reference!r} is none of the models{did_you_mean(reference, models)}')
    for name, known in models.items():
        for field in known:
            if field not in _FIELDS:
                raise UserError(f'{name} has {field!r}, which is no field{did_you_mean(field, _FIELDS)}')
    if problems < 1 or samples <= 0:
        raise UserError(f'problems={problems}, samples={samples}: both must be above 0')
    lengths = {
        name: _lengths(name, prefix, question, known.get('solution', solution)) for name, known in models.items()
    }
    ids = [f'problem/{number}' for number in range(problems)]
    rows = []
    for lens, costs in _costs(models, lengths).items():
        for name, found in budget.matched(costs, reference, samples, ids).items():
            row = {'lens': lens, 'model': name, 'samples': found.mean, 'drawn': found.samples}
            cost = costs[name].total(problems, found.samples)
            rows.append(row | {'cost': cost, 'unit': _LENSES[lens], 'mismatch': round(found.mismatch, 4)})
    if not rows:
        raise UserError(
            'nothing is known of all models by one lens: give each its variant or params, or input and output prices'
        )
    note = (
        f'Each matched to {samples:g} samples of {reference} a problem, {problems:,} problems. 2P: generated tokens '
        'alone. All FLOPs: the shared prefix once, a question once a problem. Price: each sample pays for its prompt.'
    )
    return Rows(rows, 'Samples of equal cost', note)


def _lengths(name: str, prefix: float, question: float, solution: float) -> budget.Lengths:
    try:
        return budget.Lengths(prefix, question, solution)
    except ValueError:
        raise UserError(
            f'{name}: prefix={prefix}, question={question}, solution={solution}: a question and a solution have a '
            'token at least, and a prefix no fewer than none'
        ) from None


def _costs(models: Mapping[str, Mapping], lengths: Mapping[str, budget.Lengths]) -> dict[str, dict[str, budget.Cost]]:
    """lens -> model -> cost, of the lenses that something is known for of every model."""
    costs = {}
    params = {name: _params(known) for name, known in models.items()}
    if all(params.values()):
        costs['2P FLOPs'] = {name: budget.params_cost(params[name], lengths[name]) for name in models}
    if all(known.get('variant') for known in models.values()):
        costs['all FLOPs'] = {
            m: budget.flops_cost(variant(known['variant']), lengths[m]) for m, known in models.items()
        }
    if all(known.get('output') for known in models.values()):
        costs['price'] = {name: budget.price_cost(_price(name, known), lengths[name]) for name, known in models.items()}
    if all(known.get('seconds_per_token') for known in models.values()):
        costs['chip-seconds'] = {m: budget.chip_cost(k['seconds_per_token'], lengths[m]) for m, k in models.items()}
    return costs


def _params(known: Mapping) -> float:
    if known.get('params'):
        return float(known['params'])
    return float(variant(known['variant']).num_params()) if known.get('variant') else 0.0


def _price(name: str, known: Mapping) -> budget.Price:
    price = budget.Price(known.get('input', 0.0), known['output'], known.get('batch_discount', 0.0))
    if price.input < 0 or price.output < 0 or not 0 <= price.batch_discount < 1:
        raise UserError(f'{name}: prices are at least 0, and batch_discount is at least 0 and below 1')
    return price
