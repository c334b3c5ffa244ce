"""How to be surer of a verdict, and what that would cost: one plain sentence each."""

from collections.abc import Sequence

from cosample_jax.report import verdict


def sentence(row: dict) -> str:
    """A row of `analysis.precision` in words: more test problems, or more training seeds, and for what."""
    now = f'{row["problems"]:,} now' + (f', {row["seeds"]} seeds' if row['seeds'] > 1 else '')
    aim = 'halve' if row['found'] or not row['difference'] else 'find'
    what = 'halve the interval'
    if aim == 'find':
        what = f'find as small a difference as {_points(row)} points in four of five runs'
    return f'To {what}: {_more(row, aim)} ({now}).'


def _points(row):
    return verdict.points(abs(row['difference']), False)


def _more(row, aim):
    ways = [
        f'about {float(format(row[f"{aim}_{what}"], ".2g")):,.0f} {name}'
        for what, name in (('problems', 'test problems'), ('seeds', 'training seeds'))
        if row[f'{aim}_{what}']
    ]
    return ' or '.join(ways) or 'more test problems and more training seeds; neither is enough alone'


SEEDS = 3  # a claim about the method needs


def seeds(timings: Sequence[dict], trained: int, now: int) -> str:
    """What SEEDS training seeds instead of `now` would cost, by what `trained` models took; '' if that is unknown.

    A stage that was interrupted has timed a part of its work only.
    """
    took = {row['stage']: row for row in timings if row['stage'] in ('finetune', 'evaluate')}
    if now >= SEEDS or not trained or len(took) < 2 or any(row['attempts'] > 1 for row in took.values()):
        return ''
    more = SEEDS / now - 1
    tuning, testing = (_duration(more * took[stage]['seconds']) for stage in ('finetune', 'evaluate'))
    return (
        f'Three seeds would be {round(more * trained):,} more trained models: about {tuning} of fine-tuning and '
        f'{testing} of evaluation, going by this run.'
    )


def _duration(seconds):
    for unit, size in (('day', 86400), ('hour', 3600), ('minute', 60)):
        if seconds >= 1.5 * size:
            return f'{seconds / size:.2g} {unit}s'
    return f'{seconds:.0f} seconds'
