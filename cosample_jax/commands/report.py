"""`cosample report`: the page on a run, or with --compare one on several.

    cosample report --workdir=runs/x                                the stage: report/index.html in the workdir
    cosample report --compare RUN RUN [RUN ...] [--output=DIR]      reads finished runs, writes to DIR only

The first RUN is what the others are compared with.
"""

from pathlib import Path

from cosample_jax import hosts, records, stages
from cosample_jax.analysis import across, tables
from cosample_jax.errors import UserError
from cosample_jax.report import compare, page
from cosample_jax.report.gallery import Gallery
from cosample_jax.workdir import Workdir

OUTPUT = 'runs/comparison'


def main(args) -> None:
    """The stage, or the comparison.

    Raises:
        UserError: flags that do not go together, or a run of which there is nothing to report.
    """
    if args.compare:
        if args.config is not None:
            raise UserError('--compare reads runs that are there: it takes no --config and no --workdir')
        hosts.alone(write_comparison, args.compare, Path(args.output or OUTPUT))
        return
    if args.output:
        raise UserError('--output goes with --compare: the page of one run is in its workdir')
    if args.config is None:
        raise UserError('--config is needed, or the --workdir of a run, or --compare and the workdirs of several')
    hosts.alone(_report, args)


def _report(args) -> None:
    with args.workdir.taken(args.config):
        stages.execute('report', args.config, args.workdir)


def write_comparison(paths: list[str], output: Path) -> None:
    """Writes output/index.html, its figures and its tables; UserError where there are not two runs to compare."""
    roots = [path.rstrip('/') for path in paths]
    if len(set(roots)) != len(roots) or len(roots) < 2:
        raise UserError(f'--compare needs two different runs at least, not {" ".join(paths)}')
    runs = [across.load(Workdir(root), name) for root, name in zip(roots, names(roots), strict=True)]
    made = {
        name: tables.tidy(table(runs))
        for name, table in (
            ('qualities', across.qualities),
            ('quality_differences', across.quality_differences),
            ('scores', across.scores),
            ('score_differences', across.score_differences),
        )
    }
    settings = across.settings(runs)
    told = compare.Tables([r.name for r in runs], settings, **made, curves={r.name: r.curves for r in runs})
    for name, rows in (made | {'settings': settings}).items():
        if rows:
            records.commit(output / 'tables' / f'{name}.csv', tables.to_csv(rows))
    parts = compare.sections(told, Gallery(output / 'figures'))
    html = page.document(' / '.join(told.runs), [part[:2] for part in parts], *(body for _, _, body in parts))
    records.commit(output / 'index.html', html.encode())
    print(f'comparison: {output / "index.html"}')


def names(roots: list[str]) -> list[str]:
    """The last parts of the paths, as many as tell them apart."""
    for parts in range(1, max(len(Path(root).parts) for root in roots) + 1):
        found = ['/'.join(Path(root).parts[-parts:]) for root in roots]
        if len(set(found)) == len(found):
            break
    return found
