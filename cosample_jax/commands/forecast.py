"""`cosample forecast`: from a few samples a problem to the source to take at the full budget.

    cosample forecast --workdir=runs/pilot --k=10,100
    cosample forecast --input=counts.jsonl --k=1000 --costs=gemma2_9b:9,gemma2_27b:27

Reads the graded training pools of a run's sources, or JSON lines of {problem_id, model, samples, correct}. Writes
forecast.json and a CSV a table into forecast/ of the workdir, or into --output.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cosample_jax import jsonl, records
from cosample_jax.analysis import forecast, tables
from cosample_jax.errors import UserError

_FIELDS = {'problem_id': (str,), 'model': (str,), 'samples': (int,), 'correct': (int,)}


def main(args) -> None:
    """Prints the tables and writes them.

    Raises:
        UserError: nothing graded, nothing to forecast, or flags that do not fit.
    """
    if args.input:
        pilots, seed = read_counts(args.input), 0
        costs = _costs(args.costs, [p.model for p in pilots])
        wanted, output = args.k, args.output
        if not wanted:
            raise UserError('--k is needed with --input: the samples a problem of the full budget, e.g. --k=100,1000')
        if not output:
            raise UserError('--output is needed with --input: the directory for forecast.json and the tables')
    else:
        config, workdir = args.config, args.workdir
        if config is None:
            raise UserError('give --workdir (a run with graded samples) or --input (a file of counts)')
        if args.costs:
            raise UserError("--costs is for --input: a run knows its models' costs")
        pilots, seed = [pool(workdir, model, args.pilot) for model in config.roles.sources], config.seed
        costs = {model: float(config.budget.flops_per_token[model]) for model in config.roles.sources}
        wanted, output = args.k, args.output or workdir.path('forecast')
    pilots = _shared(pilots)
    ks = _ks(wanted) if wanted else _budgets(config, pilots)
    document = {name: tables.tidy(rows) for name, rows in forecast.forecast(pilots, ks, costs, seed).items()}
    root = Path(output) if args.input or args.output else output
    for name, rows in document.items():
        records.commit(root / f'{name}.csv', tables.to_csv(rows))
    records.write_json(root / 'forecast.json', document | {'level': forecast.LEVEL, 'problems': len(pilots[0].total)})
    _print(document)
    print(f'forecast: {root / "forecast.json"}')


def pool(workdir, model: str, first: int = 0) -> forecast.Pilot:
    """The graded samples of a run's training pool, or only the `first` ones of each problem.

    Raises:
        UserError: no samples, or one without a grade.
    """
    drawn = workdir.pool('train', model).keys()
    if not drawn:
        raise UserError(f'no samples of {model} in {workdir.root}: run `cosample sample` or `cosample import` first')
    grades = workdir.grades('train', model).table()
    graded = zip(*(grades.column(c).to_pylist() for c in ('problem_id', 'sample_index', 'correct')), strict=True)
    graded = {(problem_id, index): correct for problem_id, index, correct in graded}
    counts: dict[str, list[int]] = {}
    for problem_id, _, index in sorted(drawn):
        if (problem_id, index) not in graded:
            raise UserError(f'{model} has samples without a grade ({problem_id}, sample {index}): run `cosample grade`')
        here = counts.setdefault(problem_id, [0, 0])
        if not first or here[0] < first:
            here[0] += 1
            here[1] += graded[problem_id, index]
    return _pilot(model, counts)


def read_counts(path: str) -> list[forecast.Pilot]:
    """The pilots of a file of counts, in the order in which its models first come.

    Raises:
        UserError: a row that is wrong, or a problem twice.
    """
    models: dict[str, dict[str, list[int]]] = {}
    for line, row in jsonl.read(path, _FIELDS):
        here, name = models.setdefault(row['model'], {}), row['problem_id']
        if name in here:
            raise UserError(f'{path} line {line}: {row["model"]} has {name!r} already: add up its counts')
        if not 0 <= row['correct'] <= row['samples']:
            raise UserError(f'{path} line {line}: {row["correct"]} correct of {row["samples"]} samples')
        here[name] = [row['samples'], row['correct']]
    return [_pilot(model, counts) for model, counts in models.items()]


def _pilot(model, counts) -> forecast.Pilot:
    values = np.array(list(counts.values()), np.int64).reshape(-1, 2)
    return forecast.Pilot(model, list(counts), values[:, 0], values[:, 1])


def _shared(pilots: Sequence[forecast.Pilot]) -> list[forecast.Pilot]:
    """The pilots on the problems that every model has, in one order."""
    known = [set(p.problem_ids) for p in pilots]
    ids = [i for i in pilots[0].problem_ids if all(i in each for each in known)] if pilots else []
    if pilots and not ids:
        raise UserError(f'no problem was sampled by all of {", ".join(p.model for p in pilots)}')
    shared = []
    for pilot in pilots:
        place = {name: i for i, name in enumerate(pilot.problem_ids)}
        picked = [place[i] for i in ids]
        shared.append(forecast.Pilot(pilot.model, ids, pilot.total[picked], pilot.correct[picked]))
    return shared


def _ks(text: str) -> list[int]:
    try:
        ks = sorted({int(part) for part in text.split(',')})
    except ValueError:
        ks = [0]
    if ks[0] < 1:
        raise UserError(f'--k={text}: write whole numbers above 0, e.g. --k=10,100')
    return ks


def _budgets(config, pilots) -> list[int]:
    """The run's own budgets that its pilots do not reach yet."""
    ks = sorted({int(config.budget.strong[level]) for level in config.budget.levels})
    ahead = [k for k in ks if all(k * _ratio(config, p.model) > p.total.max() for p in pilots)]
    if not ahead:
        raise UserError(
            'the pools hold the whole budget of the run, there is nothing to forecast: give --k (samples of the strong '
            'model), or --pilot to take the first few of each problem'
        )
    return ahead


def _ratio(config, model) -> float:
    return config.budget.ratio if model == 'weak' else 1.0


def _costs(text: str, models: Sequence[str]) -> dict[str, float]:
    """Cost of a sample of each model; all the same unless given."""
    costs = dict.fromkeys(models, 1.0)
    for part in filter(None, text.split(',')):
        model, _, cost = part.rpartition(':')
        try:
            value = float(cost)
        except ValueError:
            value = 0.0
        if model not in costs or not 0 < value < float('inf'):
            raise UserError(f'--costs: {part!r} is not MODEL:COST with a model of the file ({", ".join(models)})')
        costs[model] = value
    return costs


def _print(document) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table('model', 'k', 'coverage, 90% interval', 'of problems like these', title_justify='left')
    for row in document['coverage']:
        table.add_row(row['model'], f'{row["k"]:,.4g}', _cell(row, 'coverage'), _cell(row, 'elsewhere'))
    console.print(table)
    if not document['decisions']:
        return
    table = Table('cheaper - dearer', 'k', 'difference, points', 'take', 'pilot needed', title_justify='left')
    for row in document['decisions']:
        needed = str(row['pilot_needed'] or 'the budget') if row['take'] == forecast.UNDECIDED else ''
        names = f'{row["cheaper"]} - {row["dearer"]}'
        table.add_row(names, f'{row["k"]:,}', _cell(row, 'difference'), _take(row), needed)
    console.print(table)
    for row in document['flips']:
        if row['flip']:
            ends = ' to '.join(f'{row[end]:,.4g}' if row[end] else 'beyond' for end in ('flip_low', 'flip_high'))
            print(f'{row["below"]} is better below k = {row["flip"]:,.4g}, {row["above"]} above (90%: {ends})')
        else:
            chance = 100 * row['probability']
            print(
                f'{row["cheaper"]}, {row["dearer"]}: no flip up to k = {row["up_to"]:,} (chance of one: {chance:.0f}%)'
            )


def _take(row) -> str:
    if row['take'] != 'mix':
        return row['take']
    return f'a mix, {100 * row["mix_share"]:.0f}% of the budget for {row["cheaper"]} ({_cell(row, "mix_gain")} points)'


def _cell(row, name) -> str:
    return f'{100 * row[name]:.1f} ({100 * row[f"{name}_low"]:.1f} to {100 * row[f"{name}_high"]:.1f})'
