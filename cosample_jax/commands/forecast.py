"""`cosample forecast`: from a few samples a problem to the source to take at the full budget.

    cosample forecast --workdir=runs/pilot --k=10,100
    cosample forecast --input=counts.jsonl --k=1000 --costs=gemma2_9b:9,gemma2_27b:27

Reads the graded training pools of a run's sources, or JSON lines of {problem_id, model, samples, correct} and, for a
forecast of diversity, `unique`: how often each distinct correct solution was sampled, e.g. [3, 1, 1]. Writes
forecast.json, a figure and a CSV a table into forecast/ of the workdir, or into --output.
"""

import collections
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cosample_jax import jsonl, records
from cosample_jax.analysis import diversity, forecast, tables
from cosample_jax.errors import UserError
from cosample_jax.report import drawing, forecast_figure

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
    dearest = max(costs, key=costs.get) if len(set(costs.values())) > 1 else ''
    for kind, content in zip(('svg', 'png'), drawing.encode(forecast_figure.forecast(document, dearest)), strict=True):
        records.commit(root / f'forecast.{kind}', content)
    records.write_json(root / 'forecast.json', document | {'level': forecast.LEVEL, 'problems': len(pilots[0].total)})
    _print(document)
    print(f'forecast: {root / "forecast.json"}')


def pool(workdir, model: str, first: int = 0) -> forecast.Pilot:
    """The graded samples of a run's training pool, or only the `first` ones of each problem.

    Raises:
        UserError: no samples, or one without a grade.
    """
    drawn = workdir.pool('train', model).table()
    if not drawn.num_rows:
        raise UserError(f'no samples of {model} in {workdir.root}: run `cosample sample` or `cosample import` first')
    grades = workdir.grades('train', model).table()
    graded = zip(*(grades.column(c).to_pylist() for c in ('problem_id', 'sample_index', 'correct')), strict=True)
    graded = {(problem_id, index): correct for problem_id, index, correct in graded}
    drawn = sorted(zip(*(drawn.column(c).to_pylist() for c in ('problem_id', 'sample_index', 'text')), strict=True))
    totals: dict[str, int] = collections.Counter()
    texts: dict[str, list[str]] = collections.defaultdict(list)
    for problem_id, index, text in drawn:
        if (problem_id, index) not in graded:
            raise UserError(f'{model} has samples without a grade ({problem_id}, sample {index}): run `cosample grade`')
        if not first or totals[problem_id] < first:
            totals[problem_id] += 1
            texts[problem_id] += [text] if graded[problem_id, index] else []
    solutions = diversity.multiplicities([texts[problem_id] for problem_id in totals])
    return _pilot(model, {i: (n, sum(s), s) for (i, n), s in zip(totals.items(), solutions, strict=True)})


def read_counts(path: str) -> list[forecast.Pilot]:
    """The pilots of a file of counts, in the order in which its models first come.

    Raises:
        UserError: a row that is wrong, or a problem twice.
    """
    models: dict[str, dict[str, tuple]] = {}
    for line, row in jsonl.read(path, _FIELDS):
        here, name = models.setdefault(row['model'], {}), row['problem_id']
        if name in here:
            raise UserError(f'{path} line {line}: {row["model"]} has {name!r} already: add up its counts')
        if not 0 <= row['correct'] <= row['samples']:
            raise UserError(f'{path} line {line}: {row["correct"]} correct of {row["samples"]} samples')
        solutions = row.get('unique')
        if solutions is not None and not _are_counts(solutions, row['correct']):
            raise UserError(
                f'{path} line {line}: `unique` must be how often each distinct correct solution was sampled, whole '
                f'numbers that add up to {row["correct"]}'
            )
        here[name] = row['samples'], row['correct'], solutions
    return [_pilot(model, counts) for model, counts in models.items()]


def _are_counts(values, total: int) -> bool:
    whole = isinstance(values, list) and all(type(v) is int and v > 0 for v in values)
    return whole and sum(values) == total


def _pilot(model, counts: dict[str, tuple]) -> forecast.Pilot:
    """Of samples, correct samples and solutions of each problem; without solutions where one problem has none."""
    total, correct, solutions = zip(*counts.values(), strict=True)
    known = None not in solutions
    return forecast.Pilot(model, list(counts), np.array(total), np.array(correct), list(solutions) if known else None)


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
        solutions = pilot.solutions and [pilot.solutions[i] for i in picked]
        shared.append(forecast.Pilot(pilot.model, ids, pilot.total[picked], pilot.correct[picked], solutions))
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
    table = Table('model', 'k', 'coverage, 90% interval', 'of problems like these')
    unique = {(row['model'], row['k']): row for row in document['diversity']}
    if unique:
        table.add_column('unique correct solutions')
    for row in document['coverage']:
        known = unique.get((row['model'], row['k']))
        cells = [_cell(row, 'coverage'), _cell(row, 'elsewhere')] + ([_cell(known, 'diversity', 1)] if known else [])
        table.add_row(row['model'], _count(row['k']), *cells)
    console.print(table)
    if {model for model, _ in unique} != {row['model'] for row in document['coverage']}:
        print(
            'diversity is not forecast where `unique` is missing: how often each distinct correct solution was sampled'
        )
    if not document['decisions']:
        return
    table = Table('cheaper - dearer', 'k', 'difference, points', 'take (pilot needed)')
    names = None
    for row in document['decisions']:
        # The names once, for all of their budgets.
        before, names = names, f'{row["cheaper"]} - {row["dearer"]}'
        table.add_row('' if names == before else names, f'{row["k"]:,}', _cell(row, 'difference'), _take(row))
    console.print(table)
    for row in document['flips']:
        pair, chance = f'{row["cheaper"]}, {row["dearer"]}', f'{100 * row["probability"]:.0f}%'
        if row['flip']:
            ends = ' to '.join(_count(row[end]) if row[end] else 'beyond' for end in ('flip_low', 'flip_high'))
            print(f'{row["below"]} is better below k = {_count(row["flip"])}, {row["above"]} above (90%: {ends})')
        elif row['probability'] < 1 - forecast.LEVEL:
            print(f'{pair}: no flip up to k = {row["up_to"]:,} (chance of one: {chance})')
        else:
            print(f'{pair}: too small to tell whether they flip up to k = {row["up_to"]:,} (chance of it: {chance})')


def _take(row) -> str:
    if row['take'] == 'mix':
        return f'mix, {100 * row["mix_share"]:.0f}% {row["cheaper"]}: +{100 * row["mix_gain"]:.1f}'
    if row['take'] == forecast.UNDECIDED:
        return f'{row["take"]} ({row["pilot_needed"] or "the budget"})'
    return row['take']


def _count(k) -> str:
    return f'{k:,.4g}' if k < 1000 else f'{k:,.0f}'


def _cell(row, name, unit=100) -> str:
    return f'{unit * row[name]:.1f} ({unit * row[f"{name}_low"]:.1f} to {unit * row[f"{name}_high"]:.1f})'
