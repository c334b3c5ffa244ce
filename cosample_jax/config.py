"""The configuration: the `file.py:name=value` arguments, files, the derived counts, and what it says of its models.

Its fields are in :mod:`cosample_jax.config_schema`, what they must be like in :mod:`cosample_jax.config_checks`.
"""

import importlib.util
import json
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ml_collections import ConfigDict, FrozenConfigDict

from cosample_jax import budget as budget_lib
from cosample_jax import config_schema, endpoints
from cosample_jax.config_schema import DERIVED, JUDGE, MODELS, add_model, add_recipes, base, recipe
from cosample_jax.errors import UserError, did_you_mean


def on(arg: str | None, file: str, **own: Any) -> tuple[ConfigDict, SimpleNamespace]:
    """The configuration that the experiment in `file` changes, and the experiment's own arguments.

    ``on=math`` takes that of the file math.py beside it, with the arguments that are not the experiment's; without it
    that is arithmetic.py, at its size for experiments. ``pools=DIR`` sets config.sampling.pools. `own` are further
    arguments, as for `parse_args`.
    """
    own = {'on': 'arithmetic', 'pools': ''} | own
    items = [item for item in (arg or '').split(',') if item]
    mine = [item for item in items if item.partition('=')[0] in own]
    theirs = [item for item in items if item not in mine]
    args = parse_args(','.join(mine), **own)
    if args.on == 'arithmetic' and not any(item.startswith('size=') for item in theirs):
        theirs.append('size=experiment')
    path = Path(file).with_name(f'{args.on}.py')
    config = load(f'{path}:{",".join(theirs)}')
    config.name = f'{Path(file).stem}-{config.name}'
    config.sampling.pools = args.pools
    return config, args


def parse_args(arg: str | None, **defaults: Any) -> SimpleNamespace:
    """Parses the part after the colon of `--config=file.py:name=value,name=value`.

    A default gives a name its type (bool, int, float, str); a tuple of strings lists the choices, the first
    is the default. UserError for a name that is not in `defaults`, a value of another type, a name given
    twice.
    """
    values = {name: default[0] if isinstance(default, tuple) else default for name, default in defaults.items()}
    given = set()
    for item in filter(None, (arg or '').split(',')):
        name, equals, text = item.partition('=')
        if name not in defaults:
            raise UserError(f'unknown config argument {name!r}{did_you_mean(name, defaults)}')
        if not equals:
            raise UserError(f'config argument {name!r} needs a value, e.g. :{name}={values[name]}')
        if name in given:
            raise UserError(f'config argument {name!r} is given twice')
        given.add(name)
        values[name] = _parse_value(name, text, defaults[name])
    return SimpleNamespace(**values)


def _parse_value(name: str, text: str, default):
    if isinstance(default, tuple):
        if text not in default:
            raise UserError(f'config argument {name}={text}: not a choice{did_you_mean(text, default)}')
        return text
    if isinstance(default, bool):
        if text.lower() not in ('true', 'false'):
            raise UserError(f'config argument {name}={text}: write true or false')
        return text.lower() == 'true'
    try:
        return type(default)(text)
    except ValueError:
        raise UserError(f'config argument {name}={text}: not of type {type(default).__name__}') from None


def load(spec: str) -> ConfigDict:
    """Calls `get_config` of a config file; `spec` is `path/file.py` or `path/file.py:arguments`.

    UserError when there is no such file, when it raises (names the line), or when it does not return a
    ConfigDict made from `base()`.
    """
    filename, _, arg = spec.partition(':')
    path = Path(filename)
    if not path.is_file():
        others = sorted(str(other) for other in path.parent.glob('*.py')) if path.parent.is_dir() else []
        raise UserError(f'--config: there is no file {filename}{did_you_mean(filename, others)}')
    try:
        module_spec = importlib.util.spec_from_file_location('cosample_config', path)
        module = importlib.util.module_from_spec(module_spec)
        module_spec.loader.exec_module(module)
        config = module.get_config(arg)
    except UserError as error:
        raise UserError(f'{filename}: {error}') from None
    except Exception as error:
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == path.absolute()]
        where = f' line {lines[-1]}' if lines else ''
        # str() of a KeyError is quoted.
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        reason = str(text).split('\n')[0]
        raise UserError(f'{filename}{where}: {type(error).__name__}: {reason}') from error
    if not isinstance(config, ConfigDict):
        raise UserError(f'{filename}: get_config must return the ConfigDict of cosample_jax.config.base()')
    unknown = _misfits(to_json(config))
    if unknown:
        raise UserError(
            f'{filename}: the fields {", ".join(unknown)} do not fit the schema of cosample_jax.config.base()'
        )
    return config


def load_resolved(path) -> ConfigDict:
    """The configuration of a workdir (its config.json) as it was before `finalize`; UserError when it does
    not fit.
    """
    from cosample_jax.records import read_json

    values = read_json(path)
    config = base()
    flat = flatten(values)
    unknown = _misfits(values)
    if unknown:
        raise UserError(
            f'{path} was written by another version (field {unknown[0]}): use that one, or another --workdir'
        )
    for name in set(values['models']) - set(MODELS):
        add_model(config, name, like='strong')
    add_recipes(config, **{name: recipe(**entry['samples']) for name, entry in values['recipes'].items()})
    for name, value in flat.items():
        if name not in DERIVED:
            _set(config, name, tuple(value) if isinstance(value, list) else value)
    return config


def _misfits(values: dict) -> list[str]:
    """The fields that the schema does not have, or that are missing. Models and recipes may be added, of their form."""
    expected = to_json(base())
    for name in values.get('models', {}):
        expected['models'].setdefault(name, config_schema.model('').to_dict())
    for name, entry in values.get('recipes', {}).items():
        expected['recipes'][name] = recipe(**entry.get('samples', {})).to_dict()
    return sorted(set(flatten(values)) ^ set(flatten(expected)))


def finalize(config: ConfigDict) -> FrozenConfigDict:
    """Checks every field, derives the weak model's counts (Eq. 1, of sizes or of prices) and freezes the result.
    Leaves `config` as it is.

    UserError names the field that is wrong, or the derived field that was set by hand.
    """
    config = (
        ConfigDict(config.to_dict()) if isinstance(config, FrozenConfigDict) else config.copy_and_resolve_references()
    )
    for name in DERIVED:
        if get(config, name) is not None:
            raise UserError(
                f"config.{name} is derived from the models' sizes or prices, so that the budgets stay matched: change "
                'config.budget.strong.low, config.budget.strong.high, config.budget.params, or config.budget.lens '
                'instead'
            )
    from cosample_jax import config_checks

    config_checks.validate(config)
    params = {name: num_params(config, name) for name in ('weak', 'strong')}
    with config.unlocked():
        budget = config.budget
        # 0 where a model's size is unknown.
        budget.flops_per_token.weak = budget_lib.sample_cost(params['weak'], tokens=1)
        budget.flops_per_token.strong = budget_lib.sample_cost(params['strong'], tokens=1)
        costs = {name: price(config, name).generated for name in params} if budget.lens == 'price' else params
        budget.ratio = budget_lib.matched_ratio(costs['strong'], costs['weak'])
        budget.weak.low = budget.ratio * budget.strong.low
        budget.weak.high = budget.ratio * budget.strong.high
    return FrozenConfigDict(config)


def all_models(config) -> dict[str, ConfigDict]:
    """The models of a run by name, with the one that only judges where it is asked."""
    return dict(config.models.items()) | ({JUDGE: config.judge.model} if JUDGE in config.judge.by else {})


def endpoint(config, model: str) -> endpoints.Endpoint | None:
    """Where a model of `all_models` answers, when it is one behind an API."""
    init = all_models(config)[model].init
    return endpoints.parse(init) if endpoints.is_api(init) else None


def api_models(config) -> list[str]:
    """The models of `all_models` that are behind an API."""
    return [name for name, entry in all_models(config).items() if endpoints.is_api(entry.init)]


def adaptive(config) -> dict[str, ConfigDict]:
    """The recipes that spread their samples by what is solved: they are drawn in rounds, after all others."""
    return {name: recipe for name, recipe in config.recipes.items() if recipe.allocation != 'uniform'}


def local_models(config) -> dict[str, ConfigDict]:
    """The models of `config.models` that have weights here."""
    return {name: entry for name, entry in config.models.items() if not endpoints.is_api(entry.init)}


def own_weights(config) -> dict[str, ConfigDict]:
    """The models of `all_models` that have weights here, and not another's."""
    apis = api_models(config)
    return {n: entry for n, entry in all_models(config).items() if n not in apis and weights_of(config, n) == n}


def weights_of(config, model: str) -> str:
    """The model whose weights this one has: itself, or the one that its `init` names."""
    init = all_models(config)[model].init
    return init if init in config.models else model


def field_of(model: str) -> str:
    """Where a model of `all_models` stands, as a message names it."""
    return 'config.judge.model' if model == JUDGE else f'config.models.{model}'


def num_params(config, model: str) -> float:
    """The P of 2P for a model: analytic, or as advertised when `config.budget.params` is 'nominal'. Of a model behind
    an API it is what the configuration says, 0 where that is unknown.
    """
    from cosample_jax.gemma import config as gemma_config

    entry = config.models[model]
    if not entry.variant:
        return float(entry.params_nominal)
    variant = gemma_config.variant(entry.variant)
    if config.budget.params == 'nominal':
        return float(entry.params_nominal or variant.nominal_params or variant.num_params())
    return float(variant.num_params())


def price(config, model: str) -> budget_lib.Price:
    """What a model's API asks for, as it is asked; of 0 where no price is known."""
    model = all_models(config)[model]
    entry, waits = model.price, model.api.batch or not endpoints.is_api(model.init)
    discount = entry.batch_discount if waits else 0.0
    return budget_lib.Price(entry.input, entry.output, discount, entry.cached or entry.input)


def get(config, name: str):
    """The value of a dotted field."""
    for part in name.split('.'):
        config = config[part]
    return config


def to_json(config) -> dict:
    """The configuration as plain JSON values (tuples become lists), for config.json and for comparing."""
    return json.loads(json.dumps(config.to_dict()))


def flatten(values: dict, prefix: str = '') -> dict[str, Any]:
    """{'task.name': 'arithmetic', ...} from nested dicts."""
    return dict(_leaves(values, prefix))


def _leaves(values: dict, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f'{prefix}{name}.')
        else:
            yield f'{prefix}{name}', value


def _set(config: ConfigDict, name: str, value) -> None:
    parent, _, leaf = name.rpartition('.')
    (get(config, parent) if parent else config)[leaf] = value
