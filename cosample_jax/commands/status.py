"""`cosample status`: what is done in a workdir, how large its pools are, what APIs cost. Reads only: works in a run."""

from cosample_jax import ledger
from cosample_jax.records import read_json
from cosample_jax.stages import STAGES

_NOT_COUNTERS = ('seconds', 'attempts', 'after')


def main(args) -> None:
    """Prints the tables of `args.workdir`."""
    print_table(args.workdir)


def print_table(workdir) -> None:
    """A table of the stages with seconds and counters, and one of the pools with their sizes."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table('stage', 'state', 'seconds', 'counters', title=str(workdir.root), title_justify='left')
    for stage in STAGES:
        if workdir.is_done(stage):
            info = workdir.done_info(stage)
            counters = ', '.join(f'{name} {_show(v)}' for name, v in info.items() if name not in _NOT_COUNTERS)
            again = f' (attempt {info["attempts"]})' if info.get('attempts', 1) > 1 else ''
            table.add_row(stage, 'done', f'{info["seconds"]:.1f}{again}' if 'seconds' in info else '', counters)
        else:
            table.add_row(stage, 'started' if workdir.path('started', f'{stage}.json').exists() else '-', '', '')
    console.print(table)
    sizes = list(pool_sizes(workdir))
    if sizes:
        pools = Table('purpose', 'model', 'samples', 'grades', title_justify='left')
        for purpose, model, samples, grades in sizes:
            pools.add_row(purpose, model, f'{samples:,}', f'{grades:,}')
        console.print(pools)
    plan = workdir.path('plan.json')
    paid = ledger.paid(workdir.path('ledger.jsonl'), read_json(plan).get('apis', ()) if plan.exists() else ())
    if paid:
        console.print(_apis_table(paid))
    scores = workdir.path('report', 'tables', 'scores.csv')
    if scores.exists():
        console.print(_scores_table(scores.read_text()))


def pool_sizes(workdir):
    """(purpose, model, samples, grades) of every source pool; evaluation pools are one row a purpose."""
    root = workdir.path('pools')
    if not root.exists():
        return
    for purpose in sorted(root.iterdir(), key=str):
        models = sorted(model.name for model in purpose.iterdir())
        sizes = [(len(workdir.pool(purpose.name, m)), len(workdir.grades(purpose.name, m))) for m in models]
        if '-' in purpose.name:  # drawn to evaluate: one small pool for each trained model
            yield purpose.name, f'{len(models)} models', sum(s for s, _ in sizes), sum(g for _, g in sizes)
        else:
            yield from ((purpose.name, model, *size) for model, size in zip(models, sizes, strict=True))


def _apis_table(rows: list[dict]):
    from rich.table import Table

    columns = ('asked', 'again', 'lost', 'in', 'cached', 'out', 'US$', 'risk', 'plan')
    table = Table('API', *columns, title_justify='left')
    for column in table.columns:
        column.no_wrap = True
    for column in table.columns[1:]:
        column.justify = 'right'
    for row in rows:
        counts = (f'{row[name]:,}' for name in ('requests', 'retries', 'lost', 'read', 'cached', 'written'))
        costs = (f'{row[name]:,.2f}' if row[name] != '' else '' for name in ('usd', 'at_risk', 'planned'))
        table.add_row(row['model'], *counts, *costs)
    return table


def _scores_table(text: str):
    """What training on each source gave, from the report's table."""
    import csv

    from rich.table import Table

    rows = list(csv.DictReader(text.splitlines()))
    splits = [name for name in ('test', 'functional') if f'{name}_problems' in rows[0]]
    table = Table(
        'trained',
        'budget',
        'on',
        'kept',
        *(f'{split} pass@1 %, low, high' for split in splits),
        title_justify='left',
    )
    for row in rows:
        cells = [row['reason']]  # why it was not trained
        if not row['reason']:
            cells = [' '.join(_percent(row[s + end]) for end in ('', '_low', '_high')) for s in splits]
        on = 'base (few-shot)' if row['data'] == 'base' else row['data']
        table.add_row(row['model'], row['budget'], on, row['kept'], *cells)
    return table


def _percent(value: str) -> str:
    return f'{100 * float(value):.1f}'


def _show(value) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f'{value:,}' if isinstance(value, int) else f'{value:,.4g}'
