"""What each recipe gave, beside the data that it is compared with: one table from the evaluated cells."""

from collections.abc import Mapping, Sequence

from cosample_jax.analysis import outcomes, significance


def ablations(
    cells: Sequence[Mapping], recipes: Mapping[str, Mapping], drawn: Mapping[str, Mapping[str, float]], seed: int = 0
) -> list[dict]:
    """One row for each trained model, budget and kind of data, sources and gold data first.

    The columns of :func:`outcomes.scores` without votes, ``samples`` and ``cost`` of `drawn`, and, for recipes,
    ``against`` with the difference on the test split (pass@1, paired over problems, seeds as a second level); `p_holm`
    is adjusted over all rows.

    Args:
        cells: evaluate/results.json.
        recipes: config.recipes.
        drawn: data -> {'samples', 'cost'} a problem, for each (data, budget) as 'data budget'; cost in samples of the
            strong model, by 2P.
        seed: of the bootstrap.
    """
    named = [cell for cell in cells if cell['data'] in recipes]
    keys = {(cell['model'], cell['budget']) for cell in named}
    cells = [cell for cell in cells if (cell['model'], cell['budget']) in keys]
    groups = outcomes.grouped(cells)
    rows: list[dict] = []
    for row in outcomes.scores(cells, seed):
        kept = {name: value for name, value in row.items() if not name.startswith(('test_maj', 'functional_maj'))}
        kept |= drawn.get(f'{row["data"]} {row["budget"]}', {'samples': '', 'cost': ''})
        entry = recipes.get(row['data'])
        against = (entry['against'] or 'strong') if entry else ''
        theirs = groups.get((row['model'], row['budget'], against), [])
        compared = outcomes.compare(groups[row['model'], row['budget'], row['data']], theirs, 'test', 'pass@1', seed)
        difference = {name: compared[name] for name in compared if name not in ('problems', 'seeds', 'reason')}
        rows.append(kept | {'against': against} | difference)
    return significance.with_holm(rows)
