"""`cosample grade-file`: grades a JSONL file of completions against their gold answers, no workdir needed."""

import json

from cosample_jax import jsonl, progress, tasks
from cosample_jax.errors import UserError
from cosample_jax.grading import answers, equivalence
from cosample_jax.records import commit

_FIELDS = {'id': (str, int), 'completion': (str,), 'answer': (str, int, float)}
_CHUNK = 2_000


def main(args) -> None:
    """Writes the rows of `args.input`, in their order, with `correct` and `extracted` (in normal form) to
    `args.output`.

    A gold `answer` may be the answer alone or a whole solution with one of the task's markers. A row that
    could not be decided is not correct and says why in `ungraded`. The output appears whole or not at all.

    Raises:
        UserError: an unknown task, an unreadable file, or a bad line (names it).
    """
    task = tasks.get(args.task)
    rows = dict(jsonl.read(args.input, _FIELDS))
    if not rows:
        raise UserError(f'{args.input} has no rows: write {{id, completion, answer}}, one JSON object a line')
    lines = list(rows)
    graded = []
    with progress.bar('grade', total=len(rows), unit='rows') as bar:
        for start in range(0, len(lines), _CHUNK):
            chunk = lines[start : start + _CHUNK]
            verdicts = equivalence.grade_many(
                task, {line: (_gold(rows[line], task), rows[line]['completion']) for line in chunk}
            )
            graded += [_graded(rows[line], verdicts[line]) for line in chunk]
            bar.advance(len(chunk), correct=sum(verdict.correct for verdict in verdicts.values()))
    commit(args.output, ''.join(json.dumps(row) + '\n' for row in graded).encode())
    unmarked = sum(not row['extracted'] for row in graded)
    correct = sum(row['correct'] for row in graded)
    print(f'{args.output}: {len(graded):,} rows, {correct:,} correct, {unmarked:,} without an answer')


def _gold(row: dict, task: equivalence.Task) -> str:
    written = str(row['answer'])
    return answers.extract(written, task.MARKERS)[0] or written


def _graded(row: dict, verdict: equivalence.Verdict) -> dict:
    ungraded = {'ungraded': verdict.symbolic} if verdict.symbolic.startswith('ungraded') else {}
    return row | {'correct': verdict.correct, 'extracted': verdict.answer} | ungraded
