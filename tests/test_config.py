import pytest
from ml_collections import ConfigDict

from cosample_jax import config as config_lib
from cosample_jax.errors import UserError
from cosample_jax.gemma.config import variant


def named(**fields):
    config = config_lib.base()
    config.name = 'test'
    for name, value in fields.items():
        group, _, leaf = name.replace('__', '.').rpartition('.')
        (config_lib.get(config, group) if group else config)[leaf] = value
    return config


def write(tmp_path, text):
    path = tmp_path / 'experiment.py'
    path.write_text(text)
    return str(path)


def test_the_derived_counts_are_those_of_equation_1():
    config = config_lib.finalize(named(budget__params='nominal', models__weak__variant='gemma2_9b',
                                       models__strong__variant='gemma2_27b'))  # fmt: skip
    assert config.budget.ratio == 3.0
    assert (config.budget.weak.low, config.budget.weak.high) == (3.0, 30.0)
    assert config.budget.flops_per_token.to_dict() == {'weak': 18e9, 'strong': 54e9}


def test_exact_counts_come_from_the_models_themselves():
    config = config_lib.finalize(named(budget__params='exact', models__weak__variant='gemma2_9b',
                                       models__strong__variant='gemma2_27b'))  # fmt: skip
    ratio = variant('gemma2_27b').num_params() / variant('gemma2_9b').num_params()
    assert config.budget.ratio == ratio and 2.9 < ratio < 2.97
    assert config.budget.weak.high == pytest.approx(29.4, abs=0.3)


def test_a_nominal_size_given_by_hand_wins_over_the_variants():
    config = named(budget__params='nominal', models__weak__params_nominal=1e6, models__strong__params_nominal=4e6)
    assert config_lib.finalize(config).budget.ratio == 4.0


FLASH = {'input': 0.075, 'output': 0.3, 'batch_discount': 0.0, 'as_of': '2024-08-12', 'source': 'a list of prices'}
PRO = FLASH | {'input': 3.5, 'output': 10.5}


def priced(weak=FLASH, strong=PRO, **fields):
    config = named(**fields)
    config.models.weak.price.update(weak)
    config.models.strong.price.update(strong)
    return config


def test_counts_can_be_matched_by_price():
    found = config_lib.finalize(priced(budget__lens='price', budget__params='nominal')).budget
    assert (found.ratio, found.weak.low, found.weak.high) == (35.0, 35.0, 350.0)
    assert found.flops_per_token == config_lib.finalize(priced(budget__params='nominal')).budget.flops_per_token
    waits = config_lib.finalize(priced(FLASH | {'batch_discount': 0.5}, budget__lens='price'))
    assert waits.budget.ratio == 70.0
    assert config_lib.finalize(priced()).budget.ratio == config_lib.finalize(named()).budget.ratio, (
        'sizes, unless asked'
    )


@pytest.mark.parametrize(
    ('weak', 'message'),
    [
        (
            {'output': 0.0},
            "config.models.weak.price.output is 0.0: it must be above 0, as config.budget.lens is 'price'",
        ),
        ({'input': -1.0}, 'config.models.weak.price.input is -1.0: it must be at least 0'),
        ({'batch_discount': 1.0}, 'config.models.weak.price.batch_discount is 1.0: it must be at least 0 and below 1'),
        ({'as_of': ''}, "config.models.weak.price.as_of is '': it must be the day of the price, like '2024-08-12'"),
        ({'as_of': 'August'}, "config.models.weak.price.as_of is 'August'"),
        ({'source': ''}, "config.models.weak.price.source is '': it must be where the price stood"),
    ],
)
def test_a_price_that_says_too_little_is_refused(weak, message):
    with pytest.raises(UserError) as error:
        config_lib.finalize(priced(FLASH | weak, budget__lens='price'))
    assert message in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize('name', config_lib.DERIVED)
def test_a_derived_field_set_by_hand_is_refused_with_the_reason(name):
    with pytest.raises(UserError, match=f'config.{name} is derived .* change config.budget.strong.low'):
        config_lib.finalize(named(**{name.replace('.', '__'): 3.0}))


def test_finalize_leaves_its_argument_alone_and_freezes_the_result():
    config = named()
    frozen = config_lib.finalize(config)
    assert config.budget.ratio is None
    with pytest.raises(AttributeError):
        frozen.seed = 3


# A group that is put in whole escapes the types of ConfigDict.
CHATTY = ConfigDict({'variant': 'tiny_weak', 'init': 'package', 'chat': 'yes', 'params_nominal': 0.0})


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'name': ''}, "config.name is ''"),
        ({'name': '../x'}, 'config.name'),
        ({'task__name': 'arithmetics'}, "did you mean 'arithmetic'"),
        ({'task__num_test': 0}, 'config.task.num_test is 0: it must be at least 1'),
        ({'budget__params': 'exakt'}, "did you mean 'exact'"),
        ({'budget__lens': 'prices'}, "config.budget.lens is 'prices', which is no choice (did you mean 'price'?)"),
        ({'models__weak__price__input': 0.1}, 'above 0, as config.models.weak.price.input is'),
        ({'budget__strong': ConfigDict({'low': 3, 'high': 2})}, 'config.budget.strong.high is 2'),
        ({'budget__levels': ()}, 'config.budget.levels'),
        ({'models__weak__variant': 'tiny_weka'}, 'tiny_weak'),
        ({'models__weak__init': ''}, 'config.models.weak.init'),
        ({'models__weak': CHATTY}, "config.models.weak.chat is 'yes': it must be True or False"),
        ({'roles__sources': ('weak', 'week')}, "config.roles.sources has 'week'"),
        ({'sampling__temperature': 0.0}, 'config.sampling.temperature is 0.0: it must be above 0'),
        ({'finetune__checkpoints': 41}, 'config.finetune.steps.weak.low is 40'),
        ({'finetune__lora_rank': -1}, 'config.finetune.lora_rank is -1: it must be at least 0'),
        ({'finetune__seeds': (0, 0)}, 'config.finetune.seeds is (0, 0): it must be a tuple of different'),
        ({'finetune__learning_rate__weak': ()}, 'config.finetune.learning_rate.weak'),
        ({'finetune__learning_rate__weak': (-1e-3,)}, 'config.finetune.learning_rate.weak'),
        ({'evaluate__maj_problems': 401}, 'config.evaluate.maj_problems is 401'),
        ({'judge__by': ('step',)}, "config.judge.by has 'step', which is no choice (did you mean 'steps'?)"),
        ({'judge__by': ('weak', 'weak')}, 'config.judge.by'),
        ({'judge__by': ('judge',), 'judge__model__variant': 'tiny_weka'}, 'tiny_weak'),
        ({'judge__by': ('judge',), 'judge__model__variant': 'tiny_weak'}, "config.judge.model.init is ''"),
        ({'judge__samples': -1}, 'config.judge.samples is -1: it must be at least 0'),
        ({'judge__max_new_tokens': 0}, 'config.judge.max_new_tokens is 0'),
        ({'task__num_functional': 0}, "above 0, or config.evaluate.splits without 'functional'"),
        ({'task__snapshots': ('dec2032',)}, "config.task.snapshots has 'dec2032', which is no choice (did you mean"),
    ],
)
def test_what_cannot_work_is_named(fields, message):
    with pytest.raises(UserError) as error:
        config_lib.finalize(named(**fields))
    assert message in str(error.value) and '\n' not in str(error.value)


def test_arguments_take_the_type_of_their_default():
    args = config_lib.parse_args('steps=3,rate=1,on=true,size=full', steps=1, rate=0.5, on=False, size=('demo', 'full'))
    assert vars(args) == {'steps': 3, 'rate': 1.0, 'on': True, 'size': 'full'}
    assert type(args.rate) is float
    assert config_lib.parse_args(None, size=('demo', 'full')).size == 'demo'


@pytest.mark.parametrize(
    ('arg', 'message'),
    [
        ('sise=demo', "unknown config argument 'sise' (did you mean 'size'?)"),
        ('size=ful', "size=ful: not a choice (did you mean 'full'?)"),
        ('demo', "unknown config argument 'demo'"),
        ('steps', "'steps' needs a value"),
        ('steps=x', 'steps=x: not of type int'),
        ('on=maybe', 'write true or false'),
        ('steps=1,steps=2', "'steps' is given twice"),
    ],
)
def test_wrong_arguments_are_named(arg, message):
    with pytest.raises(UserError) as error:
        config_lib.parse_args(arg, size=('demo', 'full'), steps=1, on=False)
    assert message in str(error.value)


START = 'from cosample_jax import config as config_lib\ndef get_config(arg):\n    c = config_lib.base()\n'


def test_a_file_gets_its_arguments(tmp_path):
    path = write(tmp_path, START + '    c.name = arg or "none"\n    return c\n')
    assert config_lib.load(f'{path}:a=1,b=2').name == 'a=1,b=2'
    assert config_lib.load(path).name == 'none'


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('x = 1\n\n1 / 0\n', 'experiment.py line 3: ZeroDivisionError: division by zero'),
        ('def get_config(arg)\n', 'experiment.py: SyntaxError'),
        ('x = 1\n', "has no attribute 'get_config'"),
        ('def get_config(arg):\n    return 3\n', 'must return the ConfigDict'),
        (START + '    c.sede = 1\n', 'line 4: AttributeError'),
        (START + '    c.seed = "x"\n', 'line 4: TypeError'),
        (START + '    {}["seed"]\n', 'line 4: KeyError: seed'),
        (START + '    with c.unlocked():\n        c.sede = 1\n    return c\n', 'the fields sede do not fit'),
    ],
)
def test_a_broken_file_is_one_line_with_its_place(tmp_path, text, message):
    with pytest.raises(UserError) as error:
        config_lib.load(write(tmp_path, text))
    assert message in str(error.value) and '\n' not in str(error.value)


def test_a_missing_file_names_its_neighbour(tmp_path):
    path = write(tmp_path, '')
    with pytest.raises(UserError, match=r'no file .*experimnt.py \(did you mean .*experiment.py'):
        config_lib.load(path.replace('experiment', 'experimnt'))
