"""What a configuration must be like to work: the first field that cannot is named, with what would do."""

import re

from cosample_jax import endpoints
from cosample_jax.config import get
from cosample_jax.config_schema import (
    ALLOCATIONS,
    FILTERS,
    JUDGE,
    JUDGES,
    LENSES,
    LEVELS,
    MODELS,
    SNAPSHOTS,
    SPLITS,
    TASKS,
)
from cosample_jax.errors import UserError, did_you_mean

_AT_LEAST_ONE = (
    'task.num_train',
    'task.num_validation',
    'task.num_test',
    'pretrain.batch_tokens',
    'pretrain.row_length',
    'sampling.max_new_tokens',
    'budget.strong.low',
    'budget.strong.high',
    'finetune.checkpoints',
    'finetune.row_length',
    'finetune.row_multiple',
    'evaluate.maj_samples',
    'evaluate.maj_problems',
    'judge.max_new_tokens',
    'mesh.data',
    'mesh.fsdp',
    'mesh.tensor',
)


def validate(config) -> None:
    """UserError for the first field that cannot work."""

    if not re.fullmatch(r'[A-Za-z0-9][A-Za-z0-9._-]*', config.name):
        raise UserError(f'config.name is {config.name!r}: use letters, digits, dots, dashes (it names the workdir)')
    _choice(config, 'task.name', TASKS)
    _choice(config, 'budget.params', ('exact', 'nominal'))
    _choice(config, 'budget.lens', LENSES)
    for name in (*_AT_LEAST_ONE, *(f'pretrain.steps.{model}' for model in MODELS)):
        _require(get(config, name) >= 1, config, name, 'at least 1')
    _require(0 < config.sampling.top_p <= 1, config, 'sampling.top_p', 'above 0 and at most 1')
    for name in (
        'seed',
        'sampling.slots',
        'sampling.top_k',
        'task.num_functional',
        'pretrain.warmup_steps',
        'judge.samples',
    ):
        _require(get(config, name) >= 0, config, name, 'at least 0')
    for name in ('sampling.temperature', *(f'pretrain.learning_rate.{name}' for name in MODELS)):
        _require(get(config, name) > 0, config, name, 'above 0')
    budget, finetune = config.budget, config.finetune
    _require(budget.strong.high >= budget.strong.low, config, 'budget.strong.high', 'at least the low one')
    for name in MODELS:
        _require(finetune.batch_size[name] >= 1, config, f'finetune.batch_size.{name}', 'at least 1')
        for level in LEVELS:
            enough = finetune.steps[name][level] >= finetune.checkpoints
            _require(enough, config, f'finetune.steps.{name}.{level}', 'at least config.finetune.checkpoints')
    _choice(config, 'finetune.keep', ('best', 'all'))
    _choice(config, 'finetune.too_long', ('fail', 'drop'))
    for name in ('finetune.microbatch_rows', 'finetune.lora_rank'):
        _require(get(config, name) >= 0, config, name, 'at least 0')
    fits = config.evaluate.maj_problems <= config.task.num_test
    _require(fits, config, 'evaluate.maj_problems', 'at most config.task.num_test')

    _elements(config, 'judge.by', str, f'judges, of {", ".join(JUDGES)}')
    for value in config.judge.by:
        if value not in JUDGES:
            raise UserError(f'config.judge.by has {value!r}, which is no choice{did_you_mean(value, JUDGES)}')
    if JUDGE in config.judge.by:
        _model(config, 'judge.model')
        usable = config.judge.model.init not in ('', 'pretrain')
        _require(usable, config, 'judge.model.init', "'package', the path of a checkpoint, or a model of an API")
    _subset(config, 'roles.sources', ('weak', 'strong'))
    _subset(config, 'roles.trained', MODELS)
    _subset(config, 'budget.levels', LEVELS)
    _subset(config, 'task.snapshots', SNAPSHOTS)
    _subset(config, 'evaluate.splits', SPLITS)
    for split in ('functional', 'static'):
        if split in config.evaluate.splits:
            what = f'above 0, or config.evaluate.splits without {split!r}'
            _require(config.task.num_functional > 0, config, 'task.num_functional', what)
    _elements(config, 'task.shots', str, 'problem ids')
    _elements(config, 'finetune.seeds', int, 'whole numbers, at least one', nonempty=True)
    for name in MODELS:
        _elements(
            config,
            f'finetune.learning_rate.{name}',
            (int, float),
            'numbers above 0, at least one',
            nonempty=True,
        )
        rates = get(config, f'finetune.learning_rate.{name}')
        _require(min(rates) > 0, config, f'finetune.learning_rate.{name}', 'numbers above 0')
    for name in ('weak', 'strong'):
        if config.budget.lens == 'price':
            _require(
                config.models[name].price.output > 0,
                config,
                f'models.{name}.price.output',
                "above 0, as config.budget.lens is 'price'",
            )
        elif not config.models[name].variant:
            what = "above 0, as config.budget.lens is 'params' and the size is unknown (or budget.lens 'price')"
            _require(config.models[name].params_nominal > 0, config, f'models.{name}.params_nominal', what)
    for name in config.models:
        _name('models', name, ('gold', 'base', JUDGE))
        _require(isinstance(config.models[name].chat, bool), config, f'models.{name}.chat', 'True or False')
        _model(config, f'models.{name}')
        _require(config.models[name].init != '', config, f'models.{name}.init', "'package', 'pretrain' or a path")
        for field in ('params_nominal', 'temperature', 'top_k'):
            _require(config.models[name][field] >= 0, config, f'models.{name}.{field}', 'at least 0')
        here = name in MODELS or config.models[name].init != 'pretrain'
        _require(here, config, f'models.{name}.init', "'package', a path or another model: only three are pretrained")
        other = config.models.get(config.models[name].init)
        if other is not None:
            same = other.variant == config.models[name].variant and other.init not in config.models
            own = same and not endpoints.is_api(other.init)
            _require(own, config, f'models.{name}.init', 'a model of the same variant with weights of its own')
    for name in config.roles.trained:
        what = 'of weights that are here, or config.roles.trained without this model'
        _require(not endpoints.is_api(config.models[name].init), config, f'models.{name}.init', what)
    for name in config.recipes:
        _recipe(config, name)


def _name(group: str, name: str, taken) -> None:
    if not re.fullmatch(r'[a-z][a-z0-9_]*', name) or name in taken:
        raise UserError(
            f'config.{group}.{name}: use lower-case letters, digits and underscores, and a name that nothing else has'
        )


def _recipe(config, name: str) -> None:
    field, entry = f'recipes.{name}', config.recipes[name]
    _name('recipes', name, ('gold', 'base', JUDGE, *config.models))
    _choice(config, f'{field}.lens', ('number', *LENSES))
    _choice(config, f'{field}.budget', config.budget.levels)
    _choice(config, f'{field}.filter', (*FILTERS, *config.judge.by))
    _choice(config, f'{field}.allocation', ALLOCATIONS)
    for part in ('keep', 'problems', 'strong_from_level'):
        _require(entry[part] >= 0, config, f'{field}.{part}', 'at least 0')
    _require(len(entry.samples) > 0, config, f'{field}.samples', 'of one model at least, e.g. recipe(weak=10)')
    for model, count in entry.samples.items():
        if model not in config.models:
            raise UserError(
                f'config.{field}.samples has {model!r}, which is no model{did_you_mean(model, config.models)}'
            )
        _require(count > 0, config, f'{field}.samples.{model}', 'above 0')
        known = {'price': 'price.output', 'params': 'params_nominal'}.get(entry.lens)
        for side in ('strong', model):
            if known and (entry.lens == 'price' or not config.models[side].variant):
                what = f'above 0, as config.{field}.lens is {entry.lens!r}'
                _require(get(config.models[side], known) > 0, config, f'models.{side}.{known}', what)
        referred = entry.allocation == 'uniform' or model in config.roles.sources
        _require(
            referred, config, f'{field}.samples', 'of config.roles.sources alone, where an allocation spreads them'
        )
    if entry.allocation != 'uniform':
        for part, value in {'lens': config.budget.lens, 'problems': 0, 'strong_from_level': 0}.items():
            _require(entry[part] == value, config, f'{field}.{part}', f'{value!r} where an allocation decides')
        two = entry.allocation != 'cascade' or len(entry.samples) == 2
        _require(two and len(entry.samples) <= 2, config, f'{field}.samples', 'of two models, for a cascade')
    others = [other for other in config.recipes if other != name and config.recipes[other].budget == entry.budget]
    if entry.against:
        _choice(config, f'{field}.against', (*config.roles.sources, 'gold', *others))
    else:
        listed = 'strong' in config.roles.sources
        _require(listed, config, f'{field}.against', 'named, as config.roles.sources has no strong model')


def _model(config, field: str) -> None:
    from cosample_jax.gemma import config as gemma_config

    entry = get(config, field)
    _price(config, f'{field}.price')
    for part in ('at_once', 'samples', 'timeout', 'job_hours'):
        _require(entry.api[part] > 0, config, f'{field}.api.{part}', 'above 0')
    for part in ('per_minute', 'tokens_per_minute'):
        _require(entry.api[part] >= 0, config, f'{field}.api.{part}', 'at least 0')
    if not endpoints.is_api(entry.init):
        gemma_config.variant(entry.variant)  # UserError with the nearest name
        return
    try:
        endpoint = endpoints.parse(entry.init)
    except UserError as error:
        raise UserError(f'config.{field}.init: {error}') from None
    _require(entry.variant == '', config, f'{field}.variant', "'', as the model is behind an API")
    if endpoint.provider == 'gemini':
        number = entry.api.thinking == '' or entry.api.thinking.isdigit()
        _require(number, config, f'{field}.api.thinking', "a number of tokens, such as '0', or ''")
    elif not endpoint.base_url and field != 'judge.model':  # a judge is asked greedily
        owner = config.sampling if not entry.temperature else entry
        name = 'sampling.top_k' if not entry.temperature else f'{field}.top_k'
        what = f'0 for {endpoint}, which has no top-k (or config.{field}.temperature above 0 with a top_k of its own)'
        _require(owner.top_k == 0, config, name, what)
    in_turns = endpoint.provider == 'gemini' or not endpoint.base_url
    _require(entry.chat or not in_turns, config, f'{field}.chat', f'True: {endpoint} is asked in turns')


def _price(config, field: str) -> None:
    entry = get(config, field)
    for part in ('input', 'output', 'cached'):
        _require(entry[part] >= 0, config, f'{field}.{part}', 'at least 0')
    _require(0 <= entry.batch_discount < 1, config, f'{field}.batch_discount', 'at least 0 and below 1')
    if entry.input or entry.output:
        _require(entry.output > 0, config, f'{field}.output', f'above 0, as config.{field}.input is')
        dated = re.fullmatch(r'\d{4}-\d{2}-\d{2}', entry.as_of)
        _require(bool(dated), config, f'{field}.as_of', "the day of the price, like '2024-08-12'")
        _require(entry.source != '', config, f'{field}.source', 'where the price stood')


def _require(holds: bool, config, name: str, what: str) -> None:
    if not holds:
        raise UserError(f'config.{name} is {get(config, name)!r}: it must be {what}')


def _choice(config, name: str, choices: tuple[str, ...]) -> None:
    value = get(config, name)
    if value not in choices:
        raise UserError(f'config.{name} is {value!r}, which is no choice{did_you_mean(value, choices)}')


def _subset(config, name: str, choices: tuple[str, ...]) -> None:
    _elements(config, name, str, f'some of {", ".join(choices)}', nonempty=True)
    for value in get(config, name):
        if value not in choices:
            raise UserError(f'config.{name} has {value!r}, which is no choice{did_you_mean(value, choices)}')


def _elements(config, name: str, kind, what: str, nonempty: bool = False) -> None:
    values = get(config, name)
    right = all(isinstance(value, kind) and not isinstance(value, bool) for value in values)
    unique = len(set(values)) == len(values) if right else False
    _require(right and unique and not (nonempty and not values), config, name, f'a tuple of different {what}')
