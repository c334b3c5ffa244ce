"""judge: the reasoning of every correct sample, by the task's own step checker where it has one."""

from collections import Counter

from cosample_jax import tasks
from cosample_jax.grading import pool as pool_lib

# The name stored with the judgments of a task's `check_steps`.
STEPS = 'steps'


def run(config, workdir) -> dict:
    """Judges what has no judgment yet; returns the counts over all pools, all 0 for a task without a
    checker.
    """
    task = tasks.get(config.task.name)
    total: Counter = Counter(judged=0, wrong=0)
    if not hasattr(task, 'check_steps'):
        print(f'judge: {config.task.name} has no step checker; no false-positive rate is reported')
        return dict(total)
    problems = pool_lib.all_problems(workdir)
    for purpose, model in pool_lib.pools(workdir):
        counts = pool_lib.judge_pool(workdir, purpose, model, problems, task.check_steps, STEPS)
        print(
            f'{purpose}/{model}: {counts["judged"]:,} correct samples judged, {counts["wrong"]:,} with wrong reasoning'
        )
        total.update(counts)
    return dict(total)
