"""The table of ablations, from cells whose results are written out."""

from cosample_jax.analysis.ablations import ablations

RECIPES = {'half': {'against': '', 'filter': 'answer'}, 'one': {'against': 'half', 'filter': 'answer'}}
DRAWN = {'half high': {'samples': 20.0, 'cost': 10.0}, 'strong high': {'samples': 10.0, 'cost': 10.0}}


def cell(data, right, budget='high', trained=True, kept=5):
    results = {'test': {'problem_ids': list('abcd'), 'pass@1': right, 'tokens': 9}} if right else {}
    fields = {'cell': f'student-{data}', 'model': 'student', 'data': data, 'budget': budget, 'seed': 0}
    fields |= {'kept': kept, 'unique': 4, 'problems': 3, 'epochs': 1.0, 'steps': 2, 'learning_rate': 1e-3}
    return fields | {'trained': trained, 'reason': '' if trained else 'nothing to learn', 'results': results}


def test_each_recipe_is_compared_with_its_own_reference():
    cells = [
        cell('base', [0, 0, 0, 0], budget='', trained=False),
        cell('strong', [1, 0, 0, 0]),
        cell('weak', [1, 1, 1, 1], budget='low'),  # no recipe is trained at this budget
        cell('one', [0, 0, 1, 0]),
        cell('half', [1, 1, 1, 0], kept=7),
    ]
    rows = {row['data']: row for row in ablations(cells, RECIPES, DRAWN)}
    assert list(rows) == ['strong', 'half', 'one']
    assert (rows['half']['against'], rows['half']['difference']) == ('strong', 0.5)
    assert (rows['one']['against'], rows['one']['difference']) == ('half', -0.5)
    assert (rows['strong']['against'], rows['strong']['difference']) == ('', '')
    assert (rows['half']['cost'], rows['half']['samples'], rows['half']['kept']) == (10.0, 20.0, 7)
    assert rows['half']['problems'] == 3 and rows['one']['cost'] == ''


def test_a_recipe_that_kept_nothing_says_so():
    cells = [cell('strong', [1, 0, 0, 0]), cell('half', [], trained=False)]
    row = ablations(cells, RECIPES, DRAWN)[-1]
    assert (row['data'], row['difference'], row['test'], row['reason']) == ('half', '', '', 'nothing to learn')
