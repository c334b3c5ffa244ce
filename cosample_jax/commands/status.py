"""`cosample status`: what is done in a workdir and how large its pools are. Reads only: works in a run."""

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
            counters = ', '.join(
                f'{name} {_show(v)}' for name, v in info.items() if name not in _NOT_COUNTERS
            )
            again = f' (attempt {info["attempts"]})' if info.get('attempts', 1) > 1 else ''
            table.add_row(
                stage, 'done', f'{info["seconds"]:.1f}{again}' if 'seconds' in info else '', counters
            )
        else:
            table.add_row(
                stage, 'started' if workdir.path('started', f'{stage}.json').exists() else '-', '', ''
            )
    console.print(table)
    sizes = list(pool_sizes(workdir))
    if sizes:
        pools = Table('purpose', 'model', 'samples', 'grades', title_justify='left')
        for purpose, model, samples, grades in sizes:
            pools.add_row(purpose, model, f'{samples:,}', f'{grades:,}')
        console.print(pools)


def pool_sizes(workdir):
    """(purpose, model, samples, grades) of every pool."""
    root = workdir.path('pools')
    if not root.exists():
        return
    for purpose in sorted(root.iterdir(), key=str):
        for model in sorted(purpose.iterdir(), key=str):
            names = purpose.name, model.name
            yield *names, len(workdir.pool(*names)), len(workdir.grades(*names))


def _show(value) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f'{value:,}' if isinstance(value, int) else f'{value:,.4g}'
