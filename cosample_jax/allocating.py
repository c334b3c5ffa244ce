"""A budget spent in rounds on live models: drawn, graded, and what is drawn next decided by what was solved."""

from collections.abc import Mapping

import numpy as np

from cosample_jax import budget as budget_lib
from cosample_jax import cells, hosts, progress, tasks
from cosample_jax import config as config_lib
from cosample_jax.analysis import allocation
from cosample_jax.grading.pool import grade_pool
from cosample_jax.records import write_json
from cosample_jax.writers import Writer


def allocate(config, workdir, name: str, policy: str, amounts: Mapping[str, float]) -> dict:
    """Samples and grades what `policy` gives every training problem; writes ``allocations/<name>.json`` last.

    The samples lie in the pools of the sources with all others: those that are there already are not drawn again. What
    a round asks for follows from the outcomes of those before it, so an allocation that was interrupted comes to the
    same counts.

    Args:
        config, workdir: A run whose models are there.
        name: Of the allocation.
        policy: One of `allocation.POLICIES`.
        amounts: What may be spent on a problem on average, source by source, in samples of the strong model.

    Returns:
        What was written: ``policy``, ``amounts``, ``budget`` and ``spent`` (of all problems together, in samples of the
        strong model), ``flops`` (2P for every token that the samples really have), ``solved`` problems, ``rounds``
        (each with its ``samples`` by source, and ``spent`` and ``solved`` by its end) and ``counts``: for each source
        and problem, how many of its first samples the allocation has.
    """
    problems = workdir.problems('train')
    known = allocation.Problems([p.id for p in problems], [(p.level, p.subject) for p in problems])
    costs = {source: 1 / cells.ratio(config, source, config.budget.lens) for source in amounts}
    sources = [
        allocation.Source(source, costs[source], amounts[source] * len(problems))
        for source in sorted(amounts, key=costs.__getitem__)
    ]
    pools = [_Pool(config, workdir, source, problems) for source in sources]
    drawn = correct = np.zeros((len(problems), len(sources)), int)
    rounds: list[dict] = []
    budget = sum(source.budget for source in sources)
    with progress.bar(f'allocate {name}', total=round(budget), unit='strong samples') as bar:
        spending = _Spending(bar)
        while (more := allocation.next_round(policy, known, sources, drawn, correct)).any():
            drawn = drawn + more
            # Whose weights are loaded goes first: one model at a time is in memory, and few are loaded twice in a row.
            asked = [each for each in zip(pools, drawn.T, more.T, strict=True) if each[2].any()]
            for pool, counts, _ in sorted(asked, key=lambda each: not each[0].writer.is_loaded):
                pool.fill(counts, spending, [other.writer for other in pools if other is not pool])
            correct = np.column_stack([pool.correct(n) for pool, n in zip(pools, drawn.T, strict=True)])
            spent, solved = float((drawn * [source.cost for source in sources]).sum()), int(correct.any(1).sum())
            spending.reach(spent, rounds=1, solved=solved - (rounds[-1]['solved'] if rounds else 0))
            samples = {source.name: int(n) for source, n in zip(sources, more.sum(0), strict=True)}
            rounds.append({'samples': samples, 'spent': spent, 'solved': solved})
    counts = {s.name: dict(zip(known.ids, n.tolist(), strict=True)) for s, n in zip(sources, drawn.T, strict=True)}
    document = {
        'policy': policy,
        'amounts': dict(amounts),
        'budget': budget,
        'spent': rounds[-1]['spent'] if rounds else 0.0,
        'flops': sum(pool.flops(counts[pool.source.name]) for pool in pools),
        'solved': rounds[-1]['solved'] if rounds else 0,
        'rounds': rounds,
        'counts': counts,
    }
    hosts.alone(write_json, workdir.allocation(name), document)
    return document


class _Pool:
    """A source's samples and their grades."""

    def __init__(self, config, workdir, source: allocation.Source, problems):
        self.source, self._workdir, self._problems = source, workdir, problems
        self._task = tasks.get(config.task.name)
        self._flops = budget_lib.sample_cost(config_lib.num_params(config, source.name), tokens=1)
        self._at = {problem.id: place for place, problem in enumerate(problems)}
        # As the sample stage asks for it, so that a pool has the same samples whoever fills it.
        counts = cells.pool_counts(config, source.name, problems)
        self.writer = Writer(config, workdir, source.name, counts.__getitem__)

    def fill(self, counts: np.ndarray, spending: '_Spending', others: list[Writer]) -> None:
        """Draws the first `counts` samples, [problems], and grades them; the `others` make room for the model."""
        requests = self.writer.first(dict(zip(self._at, counts.tolist(), strict=True)))
        if self.writer.missing(requests):
            for other in others:
                other.release()
            spending.cost = self.source.cost
            self.writer.fill(requests, spending)
        grade_pool(self._workdir, 'train', self.source.name, self._problems, self._task)

    def correct(self, counts: np.ndarray) -> np.ndarray:
        """How many of the first `counts` samples are correct, [problems]."""
        found = np.zeros_like(counts)
        table = self._workdir.grades('train', self.source.name).table()
        columns = (table.column(name).to_pylist() for name in ('problem_id', 'sample_index', 'correct'))
        for problem, index, correct in zip(*columns, strict=True):
            place = self._at[problem]
            found[place] += correct and index < counts[place]
        return found

    def flops(self, counts: Mapping[str, int]) -> float:
        """2P for each token of the first `counts` samples."""
        table = self.writer.store.table()
        columns = (table.column(name).to_pylist() for name in ('problem_id', 'sample_index', 'num_tokens'))
        return self._flops * sum(n for problem, index, n in zip(*columns, strict=True) if index < counts[problem])


class _Spending:
    """A bar in strong samples, advanced by samples that cost `cost` of one."""

    def __init__(self, bar: progress.Bar):
        self._bar, self.cost, self._spent = bar, 1.0, 0.0

    def advance(self, samples: int, tokens: int) -> None:
        self.reach(self._spent + samples * self.cost, tokens=tokens)

    def reach(self, spent: float, **counters: int) -> None:
        """So much is spent: samples that were there already are told of at the end of their round."""
        self._bar.advance(round(spent) - round(self._spent), **counters)
        self._spent = spent
