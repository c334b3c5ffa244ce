"""What each recipe keeps of two small pools whose every sample is written out."""

import pytest

from cosample_jax import cells, training_sets
from cosample_jax import config as config_lib
from cosample_jax.config import recipe
from cosample_jax.errors import UserError
from cosample_jax.records import VALID, WRONG, Grade, Judgment, Problem, Sample
from cosample_jax.workdir import Workdir

# problem -> level; model -> problem -> the answers of its samples, in order.
LEVELS = {'a': 1, 'b': 3, 'c': 5}
ANSWERS = {
    'weak': {'a': '7 1 7 1 1 1', 'b': '2 9 9 2 9 9', 'c': '8 8 8 8 4 4'},
    'strong': {'a': '1 1', 'b': '9 2', 'c': '3 3'},
}
GOLD = {'a': '1', 'b': '2', 'c': '3'}


@pytest.fixture
def workdir(tmp_path):
    workdir = Workdir(tmp_path / 'run')
    workdir.write_problems('train', [Problem(n, f'What is {n}?', GOLD[n], 'It is.', LEVELS[n]) for n in GOLD])
    for split in ('test', 'functional'):
        workdir.write_problems(split, [Problem(f'{split}/0', 'One two three four five six seven?', '1', 'It is.')])
    for model, answers in ANSWERS.items():
        keys = [(n, model, k, answer) for n, text in answers.items() for k, answer in enumerate(text.split())]
        workdir.pool('train', model).append(
            [Sample(n, m, k, f' {m} {n}{k} says {answer}', [], 'stop', 0.0, 0.0, 1, 1) for n, m, k, answer in keys]
        )
        workdir.grades('train', model).append(
            [Grade(n, m, k, answer == GOLD[n], answer, 'says', True, '') for n, m, k, answer in keys]
        )
    return workdir


def make(**recipes):
    config = config_lib.base()
    config.name, config.budget.params, config.budget.strong.high = 'recipes', 'nominal', 2
    config.models.weak.params_nominal, config.models.strong.params_nominal = 1.0, 3.0
    config.judge.by = ('calculator',)
    for name, price in {'weak': 1.0, 'strong': 5.0}.items():
        config.models[name].price.update({'output': price, 'as_of': '2024-08-29', 'source': 'made up'})
    config_lib.add_recipes(config, **recipes)
    return config_lib.finalize(config)


def kept(workdir, entry):
    config = make(it=entry)
    found = training_sets.training_data(config, workdir, 'it', entry.budget)
    return ' '.join(f'{each.source[0]}{each.problem.id}{each.sample_index}' for each in found.kept)


@pytest.mark.parametrize(
    ('entry', 'expected'),
    [
        (recipe(weak=2), 'wa1 wa3 wa4 wa5 wb0 wb3'),  # as the high budget: six
        (recipe(lens='number', weak=2), 'wa1 wb0'),
        (recipe(lens='price', weak=1), 'wa1 wa3 wa4 wb0 wb3'),  # five for one
        (recipe(weak=2, keep=1), 'wa1 wb0'),
        (recipe(weak=1, strong=1), 'sa0 wa1 wb0 sc0'),  # half of the budget each: three and one
        (recipe(weak=2, strong=2, strong_from_level=3), 'wa1 wa3 wa4 wa5 sb1 sc0 sc1'),
        (recipe(lens='number', weak=2, filter='none'), 'wa0 wa1 wb0 wb1 wc0 wc1'),
        (recipe(weak=2, filter='majority'), 'wa1 wa3 wa4 wa5 wb1 wb2 wb4 wb5 wc0 wc1 wc2 wc3'),
        # Models in the order of their names; a tie goes to the answer that came first.
        (recipe(lens='number', weak=2, filter='majority', strong=2), 'sa0 sa1 wa1 sb0 wb1 sc0 sc1'),
    ],
)
def test_what_a_recipe_keeps(workdir, entry, expected):
    assert kept(workdir, entry) == expected


def test_a_source_alone_is_as_the_recipe_that_names_it(workdir):
    config = make(it=recipe(weak=2))
    assert training_sets.training_data(config, workdir, 'weak', 'high') == training_sets.training_data(
        config, workdir, 'it', 'high'
    )
    gold = training_sets.training_data(config, workdir, 'gold', 'high').kept
    assert [(each.solution, each.source) for each in gold] == [('It is.', 'gold')] * 3


def test_fewer_problems_are_the_same_ones_for_every_recipe_and_part_of_more(workdir):
    chosen = [
        [p.id for p in cells.chosen(make(it=recipe(weak=1, problems=n)), 'it', workdir.problems('train'))]
        for n in (1, 2, 3)
    ]
    assert [len(ids) for ids in chosen] == [1, 2, 3] and set(chosen[0]) < set(chosen[1]) < set(chosen[2])
    one = training_sets.drawn_counts(
        make(it=recipe(strong=1, problems=1)), workdir, 'it', 'high', workdir.problems('train')
    )
    assert list(one['strong']) == chosen[0]


def test_a_judge_keeps_what_it_finds_valid_right_or_not(workdir):
    store = workdir.judgments(cells.FILTERING, 'weak', 'calculator')
    said = {('a', 0): VALID, ('a', 1): WRONG, ('b', 0): VALID}
    store.append([Judgment(n, 'weak', k, 'calculator', verdict, '') for (n, k), verdict in said.items()])
    assert kept(workdir, recipe(weak=2, filter='calculator')) == 'wa0 wb0'
    config = make(it=recipe(lens='number', weak=1, filter='calculator'), more=recipe(weak=1, filter='calculator'))
    assert training_sets.judged(config, workdir, 'calculator') == {'weak': dict.fromkeys('abc', 3)}
    assert training_sets.judged(config, workdir, 'strong') == {}


def test_a_pool_is_as_deep_as_the_deepest_recipe(workdir):
    problems = workdir.problems('train')
    config = make(it=recipe(weak=4, problems=1), hard=recipe(weak=1, strong=5, strong_from_level=5))
    (deep,) = (p.id for p in cells.chosen(config, 'it', problems))
    assert cells.pool_counts(config, 'weak', problems) == dict.fromkeys('abc', 6) | {deep: 12}
    assert cells.pool_counts(config, 'strong', problems) == {'a': 2, 'b': 2, 'c': 5}


def test_a_pool_that_is_too_small_is_named(workdir):
    with pytest.raises(UserError, match='sample 2 of strong for a is needed and is not there'):
        kept(workdir, recipe(strong=3))


@pytest.mark.parametrize(
    ('entry', 'message'),
    [
        (recipe(weak=1, filter='strong'), "config.recipes.it.filter is 'strong', which is no choice"),
        (recipe(week=1), "config.recipes.it.samples has 'week', which is no model"),
        (recipe(weak=0), 'config.recipes.it.samples.weak is 0.0: it must be above 0'),
        (recipe(), 'config.recipes.it.samples is'),
        (recipe(weak=1, against='it'), "config.recipes.it.against is 'it', which is no choice"),
        (recipe(weak=1, keep=-1), 'config.recipes.it.keep is -1: it must be at least 0'),
        (recipe(student=1, allocation='adaptive'), 'of config.roles.sources alone'),
    ],
)
def test_a_recipe_that_cannot_work_is_refused(entry, message):
    with pytest.raises(UserError, match=message):
        make(it=entry)


def test_a_name_that_something_else_has_is_refused():
    with pytest.raises(UserError, match=r'config.recipes.weak: use lower-case .* a name that nothing else has'):
        make(weak=recipe(weak=1))


def test_cells_of_recipes_stand_behind_those_of_sources():
    config = make(it=recipe(weak=1, budget='low'))
    names = [cell.name for cell in cells.grid(config) if cell.model == 'student']
    assert names == ['student-weak-low-s0', 'student-strong-low-s0', 'student-gold-low-s0', 'student-it-low-s0',
                     'student-weak-high-s0', 'student-strong-high-s0', 'student-gold-high-s0']  # fmt: skip


def test_recipes_and_models_come_back_from_a_workdir(tmp_path):
    config = config_lib.base()
    config.name = 'again'
    config_lib.add_model(config, 'hot', like='strong', temperature=1.5)
    config_lib.add_recipes(config, it=recipe(hot=2.5, weak=1, filter='majority', keep=3))
    frozen = config_lib.finalize(config)
    workdir = Workdir(tmp_path)
    workdir.open(frozen)
    again = config_lib.finalize(config_lib.load_resolved(workdir.path('config.json')))
    assert config_lib.to_json(again) == config_lib.to_json(frozen)
    assert again.models.hot.init == 'strong' and config_lib.weights_of(again, 'hot') == 'strong'
