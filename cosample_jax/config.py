"""The configuration: its schema with defaults, the `file.py:name=value` arguments, validation, the derived
counts.
"""

import importlib.util
import json
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ml_collections import ConfigDict, FrozenConfigDict, config_dict

from cosample_jax import budget as budget_lib
from cosample_jax import endpoints
from cosample_jax.errors import UserError, did_you_mean

MODELS = ('weak', 'strong', 'student')
TASKS = ('arithmetic', 'gsm8k', 'svamp', 'math', 'code', 'own')
SNAPSHOTS = ('oct2023', 'nov2023', 'dec2023')
SPLITS = ('test', 'functional', 'static')
LEVELS = ('low', 'high')
LENSES = ('params', 'price')
JUDGE = 'judge'  # a model that only judges
JUDGES = ('steps', 'calculator', *MODELS, JUDGE)
# Which of the samples of a recipe are kept; or a judge's name: those that it finds valid.
FILTERS = ('answer', 'majority', 'none')
ALLOCATIONS = ('uniform', 'adaptive', 'cascade')

# Derived by `finalize` from the models' sizes or prices, budget.lens, .params and .strong; never set by hand.
DERIVED = (
    'budget.ratio',
    'budget.weak.low',
    'budget.weak.high',
    'budget.flops_per_token.weak',
    'budget.flops_per_token.strong',
)


def base() -> ConfigDict:
    """Every field with its default. A config file starts from this and sets what its experiment is about.

    Locked: a field that is not here is an error. Fields named in DERIVED are empty until `finalize`.
    """
    config = ConfigDict()
    config.name = ''  # of the experiment; part of the default --workdir
    config.seed = 0
    # Path of a SentencePiece model, as real Gemmas need; '' = the shipped one, or one trained on the task's text.
    config.tokenizer = ''

    task = config.task = ConfigDict()
    task.name = 'arithmetic'  # a module of cosample_jax.tasks
    task.manual_dir = ''  # where a real task's files lie; '' = download, if there is an address
    task.num_train = 256
    task.num_validation = 100
    task.num_test = 400
    task.num_functional = 400  # test problems whose functional variants are asked; 0 = the task has none
    task.snapshots = ('dec2023',)  # of Functional MATH; each has a variant of every problem
    task.shots = ()  # ids of the problems of the few-shot prompt

    # Further models that recipes draw from are entries of the same form: `add_model`.
    config.models = ConfigDict({name: _model(f'tiny_{name}') for name in MODELS})

    # Training sets besides the samples of one source, by name: entries of `recipe`.
    config.recipes = ConfigDict()

    config.roles = ConfigDict()
    config.roles.sources = ('weak', 'strong')  # who writes training data
    config.roles.trained = ('student', 'weak', 'strong')  # who is trained on it

    pretrain = config.pretrain = ConfigDict()
    pretrain.steps = ConfigDict(dict.fromkeys(MODELS, 1000))
    pretrain.batch_tokens = 2560  # tokens a step, padding included
    pretrain.row_length = 256
    pretrain.learning_rate = ConfigDict(dict.fromkeys(MODELS, 4e-3))
    pretrain.warmup_steps = 100

    sampling = config.sampling = ConfigDict()
    sampling.temperature = 0.7
    sampling.top_k = 3  # only from so many of the most likely tokens; 0 = from all
    sampling.top_p = 1.0  # and, of these, from the most likely that together have this probability
    sampling.max_new_tokens = 128
    # Rows of every decode call, part of what makes a run repeatable; 0 (on the command line: auto) = as many as fit.
    sampling.slots = 128
    # The workdir of a run whose samples are taken where they are what this one would draw; '' = all are drawn.
    sampling.pools = ''

    budget = config.budget = ConfigDict()
    budget.lens = 'params'  # what is matched: 'params' (2P, Eq. 1) or 'price' (of a generated token)
    budget.params = 'exact'  # what P in 2P counts: 'exact' (27.2/9.24) or 'nominal' (27/9, as the paper)
    budget.levels = LEVELS  # which budgets are fine-tuned on
    budget.strong = ConfigDict()
    budget.strong.low = 1  # samples per problem
    budget.strong.high = 10
    budget.weak = ConfigDict()
    budget.weak.low = config_dict.placeholder(float)  # samples per problem, mean over problems
    budget.weak.high = config_dict.placeholder(float)
    budget.ratio = config_dict.placeholder(float)  # weak samples for one strong sample
    budget.flops_per_token = ConfigDict()
    budget.flops_per_token.weak = config_dict.placeholder(float)  # 2·P
    budget.flops_per_token.strong = config_dict.placeholder(float)

    judge = config.judge = ConfigDict()
    # Who judges the reasoning of kept solutions: 'steps' (a task's own checker), 'calculator', or a model: 'weak',
    # 'strong', 'student' or 'judge'. The false-positive rate is the first one's; () = steps, or else calculator.
    judge.by = ()
    judge.samples = 500  # kept solutions of each pool that a model judges, spread over the levels; 0 = all
    judge.max_new_tokens = 512
    judge.model = ConfigDict()  # the model called 'judge', as in `models`
    judge.model.variant = ''
    judge.model.init = ''
    judge.model.chat = True
    judge.model.price, judge.model.api = _price(), _api()

    finetune = config.finetune = ConfigDict()
    finetune.batch_size = ConfigDict(dict.fromkeys(MODELS, 16))  # examples a step
    finetune.steps = ConfigDict({name: {'low': 40, 'high': 400} for name in MODELS})
    # Several learning rates: the best by validation accuracy is taken.
    finetune.learning_rate = ConfigDict(dict.fromkeys(MODELS, (1e-3,)))
    finetune.lora_rank = 0  # of adapters (LoRA), trained in place of the weights; 0 = the weights, all of them
    finetune.checkpoints = 10  # evenly spaced, each validated
    finetune.keep = 'best'  # by validation accuracy, or 'all': which of their weights stay
    finetune.seeds = (0,)
    finetune.row_length = 128  # tokens of a packed row
    finetune.too_long = 'fail'  # for a row: 'fail' before anything is trained, or 'drop' such examples and count them
    finetune.row_multiple = 4  # a batch takes a multiple of this many rows: each count of rows compiles once
    # Rows that go through the model at a time, their gradients summed; 0 = all. Batches take a multiple of it, too.
    finetune.microbatch_rows = 0

    evaluate = config.evaluate = ConfigDict()
    evaluate.splits = ('test', 'functional')
    evaluate.maj_samples = 16
    evaluate.maj_problems = 100  # maj@k is measured on the first of them

    config.mesh = ConfigDict({'data': 1, 'fsdp': 1, 'tensor': 1})
    return config.lock()


def _model(variant: str) -> ConfigDict:
    model = ConfigDict()
    model.variant = variant  # a name in cosample_jax.gemma.config.VARIANTS; '' = unknown, of a model behind an API
    # 'package' (shipped weights), 'pretrain' (from scratch), a checkpoint's path, another model, to have its weights,
    # or a model behind an API (`cosample_jax.endpoints`): `use_api`.
    model.init = 'package'
    model.chat = False  # the model is instruction-tuned: asked and taught in turns
    model.shots = True  # as a source it is asked few-shot; a fine-tuned one is not
    model.temperature = 0.0  # as a source; 0 = sampling.temperature, with its top_k
    model.top_k = 0
    model.params_nominal = 0.0  # parameters as advertised (9e9); 0 = the variant's own
    model.price, model.api = _price(), _api()
    return model


def _price() -> ConfigDict:
    price = ConfigDict()  # what an API asks for a model: `plan` shows it, budget.lens may match by it
    price.input = 0.0  # US$ for a million tokens of prompts
    price.cached = 0.0  # and of those that a cache of prompts had; 0 = as input
    price.output = 0.0  # and of generated ones; 0 = no price is known
    price.batch_discount = 0.0  # the share taken off all where requests may wait, 0.5 for half price
    price.as_of = ''  # the day these were the prices, '2024-08-12': they change
    price.source = ''  # where they stood
    return price


def _api() -> ConfigDict:
    api = ConfigDict()  # how a model behind an API is asked; nothing of it changes what is asked
    api.key = ''  # environment variable that has the key; '' = the provider's own, none for another server
    api.batch = False  # in jobs, which may take a day and cost less
    api.at_once = 16  # requests in flight
    api.per_minute = 0  # requests; 0 = no limit
    api.tokens_per_minute = 0  # read and written, as far as is known before; 0 = no limit
    api.samples = 1  # of a problem in one request, which pays for the prompt once
    api.timeout = 600.0  # seconds for an answer
    api.job_hours = 25.0  # for a job, before it is cancelled and what it did not answer is asked again
    # Tokens that Gemini may think beside sampling.max_new_tokens, an effort for OpenAI ('low'); '' = the model's own.
    api.thinking = ''
    return api


def use_api(config: ConfigDict, name: str, init: str, chat: bool = True, **api: Any) -> None:
    """Makes one of `config.models` a model behind an API, e.g. ``gemini:gemini-2.5-flash``.

    `chat` says whether it is asked in turns or continues a page; `api` are fields of its group of that name.
    """
    config.models[name].update({'variant': '', 'init': init, 'chat': chat})
    config.models[name].api.update(api)


def add_model(config: ConfigDict, name: str, like: str, **fields: Any) -> None:
    """A further model to draw from, which is as `like` but for its fields; by default it has the same weights."""
    entry = config.models[like].copy_and_resolve_references()
    entry.update({'init': entry.init if endpoints.is_api(entry.init) else like} | fields)
    with config.models.unlocked():
        config.models[name] = entry


def recipe(
    lens: str = 'params',
    budget: str = 'high',
    filter: str = 'answer',
    keep: int = 0,
    problems: int = 0,
    allocation: str = 'uniform',
    strong_from_level: int = 0,
    against: str = '',
    **samples: float,
) -> ConfigDict:
    """A training set that is made of the pools, an entry of `config.recipes`.

    Args:
        lens: What `samples` count: 'number', or for each model as many as cost so many of the strong one's, by 'params'
            (2P) or 'price'.
        budget: 'low' or 'high': whose steps it is trained for.
        filter: Which samples are kept: those with the right final 'answer', with the answer of the 'majority' of its
            problem's, all ('none'), or those that a judge of `config.judge.by` finds valid, by the judge's name.
        keep: At most so many of a problem, the first; 0 = all.
        problems: Of so many problems, drawn by a hash of their ids; 0 = of all.
        allocation: How the samples are spread over problems: 'uniform', 'adaptive' or 'cascade'
            (:mod:`cosample_jax.analysis.allocation`).
        strong_from_level: Problems from this level on have none but the strong model's samples, those below none of
            them; 0 = all have all.
        against: The data that the report compares it with, a source or a recipe; '' = the strong model's.
        samples: Of each model a problem, e.g. ``weak=5, strong=5``.
    """
    entry = ConfigDict({name: value for name, value in locals().items() if name != 'samples'})
    entry.samples = ConfigDict({name: float(count) for name, count in samples.items()})
    return entry


def add_recipes(config: ConfigDict, **recipes: ConfigDict) -> None:
    """Adds entries of `recipe` by name."""
    with config.recipes.unlocked():
        config.recipes.update(recipes)


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
        expected['models'].setdefault(name, _model('').to_dict())
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
