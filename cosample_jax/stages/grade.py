"""grade: the final answers of every pool in the workdir, sampled or imported."""

from collections import Counter

from cosample_jax import tasks
from cosample_jax.errors import UserError
from cosample_jax.grading import pool as pool_lib


def run(config, workdir) -> dict:
    """Grades what has no grade yet; returns the counts over all pools and prints each pool's markers.

    Raises:
        UserError: there is no pool.
    """
    task = tasks.get(config.task.name)
    problems = pool_lib.all_problems(workdir)
    total: Counter = Counter(graded=0, correct=0, no_marker=0, ungraded=0)
    pools = pool_lib.pools(workdir)
    if not pools:
        raise UserError(f'no samples to grade in {workdir.root}: run `cosample sample` or `cosample import` first')
    for purpose, model in pools:
        counts = pool_lib.grade_pool(workdir, purpose, model, problems, task)
        used = ', '.join(f'{marker} {count:,}' for marker, count in counts.pop('markers').items())
        print(
            f'{purpose}/{model}: {counts["graded"]:,} graded, {counts["correct"]:,} correct, '
            f'{counts["no_marker"]:,} without an answer, {counts["ungraded"]:,} ungraded; '
            f'markers: {used or "none"}'
        )
        total.update(counts)
    return dict(total)
