"""One model's graded pool of a workdir, as the tables of data quality want it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from cosample_jax import records
from cosample_jax.analysis import audit, quality
from cosample_jax.errors import UserError

_VALID = {records.VALID: True, records.WRONG: False}


class Pool:
    """Samples and grades, and the verdicts of the judge that counts (key of a sample -> verdict), joined by problem.

    `counts` are the samples of each problem that were drawn whatever the others were like, the first ones: the others
    are left out, since the estimators do not hold for samples that were drawn because a problem was not solved yet.

    Attributes:
        samples: problem id -> its samples in their order: `quality.Kept`, or None for one that is not correct.
        without_answer, truncated: how many have no answer, and were cut at the limit of tokens.
        tokens: [samples] generated tokens; 0 where they were not recorded.

    Raises:
        UserError: a sample has no grade.
    """

    def __init__(
        self,
        workdir,
        purpose: str,
        model: str,
        verdicts: Mapping[tuple, str] = {},
        counts: Mapping[str, int] | None = None,
    ):
        wanted = 'correct', 'answer', 'symbolic'
        grades = _by_key(workdir.grades(purpose, model).table(wanted), wanted)
        table = workdir.pool(purpose, model).table(('text', 'finish', 'num_tokens'))
        self.model = model
        self.samples = defaultdict(list)
        self._rows = []  # (problem id, index), tokens, finish, (correct, answer, symbolic)
        self._texts = {}  # of the correct ones
        names = 'problem_id', 'sample_index', 'text', 'finish', 'num_tokens'
        columns = (table.column(name).to_pylist() for name in names)
        self.without_answer = 0
        for problem_id, index, text, finish, tokens in zip(*columns, strict=True):
            if counts and index >= counts[problem_id]:
                continue
            key = (problem_id, index)
            if key not in grades:
                raise UserError(
                    f'the {purpose} pool of {model} has samples without a grade ({problem_id}, sample '
                    f'{index}): run `cosample grade` first'
                )
            correct, answer, _ = grades[key]
            self._rows.append((key, tokens, finish, grades[key]))
            if correct:
                self._texts[key] = text
            here = self.samples[problem_id]
            here.append(quality.Kept(len(here), text, _VALID.get(verdicts.get(key))) if correct else None)
            self.without_answer += not answer
        self.truncated = table.column('finish').to_pylist().count('length')
        self.tokens = np.array(table.column('num_tokens').to_pylist(), np.int64)

    def source(self, ids: Sequence[str], flops_per_token: float = 0.0) -> quality.Source:
        """Of these problems, in this order."""
        return quality.Source(
            self.model,
            np.array([len(self.samples[i]) for i in ids], np.int64),
            [[s for s in self.samples[i] if s] for i in ids],
            mean_tokens=float(self.tokens.mean()),
            flops_per_token=flops_per_token,
        )

    def audited(self, counts: Mapping[str, int], places: Mapping[str, int], kept: set, tests) -> list[audit.Sample]:
        """The first `counts` samples of each problem of `places`; `kept` holds the keys of those learned from, `tests`
        knows who quotes a test problem (:class:`cosample_jax.overlap.Quotes`).
        """
        return [
            audit.Sample(
                places[key[0]],
                tokens,
                finish == 'length',
                audit.fate(
                    key in kept, correct, answer, finish, symbolic, lambda key=key: tests.quotes(self._texts[key])
                ),
            )
            for key, tokens, finish, (correct, answer, symbolic) in self._rows
            if key[0] in places and key[1] < counts[key[0]]
        ]


def _by_key(table, columns):
    names = ('problem_id', 'sample_index', *columns)
    rows = zip(*(table.column(name).to_pylist() for name in names), strict=True)
    return {row[:2]: row[2:] for row in rows}
