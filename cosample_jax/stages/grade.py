"""grade: the final answers of every pool in the workdir, sampled or imported."""

from collections import Counter

from cosample_jax import records, tasks
from cosample_jax.analysis import tables
from cosample_jax.errors import UserError
from cosample_jax.grading import pool as pool_lib

_SHOWN = 10  # disagreements on the screen


def run(config, workdir) -> dict:
    """Grades what has no grade yet; returns the counts over all pools and prints each pool's markers.

    Raises:
        UserError: there is no pool.
    """
    task = tasks.get(config.task.name)
    problems = pool_lib.all_problems(workdir)
    golds = {problem.id: problem.answer for problem in problems}
    rows: list[dict] = []
    total: Counter = Counter(graded=0, correct=0, no_marker=0, ungraded=0, disagreements=0)
    pools = pool_lib.pools(workdir)
    if not pools:
        raise UserError(f'no samples to grade in {workdir.root}: run `cosample sample` or `cosample import` first')
    for purpose, model in pools:
        counts = pool_lib.grade_pool(workdir, purpose, model, problems, task)
        found = pool_lib.disagreements(workdir.grades(purpose, model))
        rows += [
            {
                'purpose': purpose,
                'model': model,
                'problem_id': grade.problem_id,
                'sample_index': grade.sample_index,
                'gold': golds[grade.problem_id],
                'answer': grade.answer,
                'correct': grade.correct,
            }
            for grade in found
        ]
        used = ', '.join(f'{marker} {count:,}' for marker, count in counts.pop('markers').items())
        print(
            f'{purpose}/{model}: {counts["graded"]:,} graded, {counts["correct"]:,} correct, '
            f'{counts["no_marker"]:,} without an answer, {counts["ungraded"]:,} ungraded; '
            f'markers: {used or "none"}'
        )
        total.update(counts | {'disagreements': len(found)})
    _list(workdir, rows)
    return dict(total)


def _list(workdir, rows: list[dict]) -> None:
    """Where the two engines disagree, all of it in a file and the most frequent answers here."""
    if not rows:
        return
    path = workdir.path('grades', 'disagreements.csv')
    records.commit(path, tables.to_csv(rows))
    print(f'the two engines disagree on {len(rows):,} answers, all of them in {path}; most often:')
    often = Counter((row['gold'], row['answer'], row['correct']) for row in rows)
    for (gold, answer, correct), count in often.most_common(_SHOWN):
        verdict = 'accepted: only math-verify reads it' if correct else 'refused, though math-verify accepts it'
        print(f'  {count:>5,}  gold {gold!r}, answer {answer!r}: {verdict}')
