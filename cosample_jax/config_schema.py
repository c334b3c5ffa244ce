"""Every field of a configuration with its default, and the entries that a file may add: models, recipes. A leaf."""

from typing import Any

from ml_collections import ConfigDict, config_dict

from cosample_jax import endpoints

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
    config.models = ConfigDict({name: model(f'tiny_{name}') for name in MODELS})

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


def model(variant: str) -> ConfigDict:
    """An entry of `config.models`."""
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


def pretrain_minis(config: ConfigDict) -> None:
    """Makes the three models tiny ones that are trained from scratch on the task's own training text, tokenizer
    included (ten minutes on two CPU cores): real text through every stage, scores near the floor. Sizes count 1 : 3.
    """
    for name in MODELS:
        config.models[name].variant = f'mini_{name}'
        config.models[name].init = 'pretrain'
        config.pretrain.steps[name] = 250
        config.pretrain.learning_rate[name] = 2e-2
    config.pretrain.batch_tokens = 4096
    config.pretrain.row_length = 512
    config.pretrain.warmup_steps = 50
    config.budget.params = 'nominal'
    config.models.weak.params_nominal = 271e3
    config.models.strong.params_nominal = 813e3
    config.sampling.max_new_tokens = 160
    config.finetune.row_length = 512
    config.finetune.row_multiple = 8


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
