"""Where a budget is best spent: uniform, cascade and adaptive allocation at the same cost.

    python -m benchmarks.allocation replay DIRECTORY [ORDERS]
    python -m benchmarks.allocation live DIRECTORY [PROBLEMS]

`replay` plays the policies on the graded pools of the workdir DIRECTORY, weak and strong. It averages over luck: each
of ORDERS times the samples of every problem are put in another order. Where a policy asks a problem more often than its
pool is deep, the pool is begun again; that adds no solution, so it is to a policy's disadvantage, and its share is
shown ("again"). The budget counts samples, as the paper does; `tokens` is what a policy's cost more than uniform's by
2P for each token that they have: those of hard problems are longer. Intervals are 95%, over orders and problems
(two-level bootstrap); differences from uniform are paired.

`live` makes a workdir for each policy below DIRECTORY and draws everything by rounds with the embedded models;
its FLOPs are 2P for every token that was really drawn.
"""

import itertools
import sys
import time
from pathlib import Path

import numpy as np

from cosample_jax import allocating, cli
from cosample_jax.analysis import allocation, intervals
from cosample_jax.analysis.diversity import FORMS
from cosample_jax.records import read_json
from cosample_jax.workdir import Workdir

BUDGETS = (1, 2, 4, 10)  # strong samples a problem
MIXTURES = {'weak': {'weak': 1.0}, 'strong': {'strong': 1.0}, 'both': {'weak': 0.5, 'strong': 0.5}}
METRICS = ('coverage', 'unique', 'kept')
DRAWS = 2000  # of the bootstrap


class Pool:
    """A source's samples as numbers, [problems, samples].

    Attributes:
        solutions: Which correct solution each is; -1 for none.
        tokens: How long each is.
    """

    def __init__(self, workdir, source: str, at: dict[str, int]):
        table = workdir.pool('train', source).table()
        correct = workdir.grades('train', source).table().column('correct').to_pylist()
        columns = [table.column(name).to_pylist() for name in ('problem_id', 'sample_index', 'text', 'num_tokens')]
        self.solutions = np.full((len(at), max(columns[1]) + 1), -1)
        self.tokens = np.zeros_like(self.solutions)
        seen: dict[tuple, int] = {}
        for problem, index, text, tokens, right in zip(*columns, correct, strict=True):
            self.tokens[at[problem], index] = tokens
            if right:
                self.solutions[at[problem], index] = seen.setdefault((problem, FORMS['exact'](text)), len(seen))

    def shuffled(self, order: int) -> tuple[np.ndarray, np.ndarray]:
        """Solutions and tokens, the samples of each problem in another order."""
        places = np.random.default_rng(order).permuted(np.indices(self.solutions.shape)[1], axis=1)
        return tuple(np.take_along_axis(each, places, axis=1) for each in (self.solutions, self.tokens))


def play(policy, problems, sources, samples) -> tuple[np.ndarray, float, float]:
    """What a policy leaves of every problem, [METRICS, problems]; which share of its samples was used before; and the
    cost of all its tokens.

    `samples` are `Pool.shuffled` of each source, in the order in which they are drawn.
    """
    rows = np.arange(len(problems.ids))
    sums = [[np.pad(np.cumsum(of, 1), ((0, 0), (1, 0))) for of in (each >= 0, tokens)] for each, tokens in samples]

    def first(drawn, what):  # the sum over as many samples of each problem; a pool is begun again at its end
        deep = [(n, of[what]) for n, of in zip(drawn.T, sums, strict=True)]
        return np.column_stack([n // (s.shape[1] - 1) * s[:, -1] + s[rows, n % (s.shape[1] - 1)] for n, s in deep])

    drawn = correct = np.zeros((len(rows), len(sources)), int)
    while (more := allocation.next_round(policy, problems, sources, drawn, correct)).any():
        drawn = drawn + more
        correct = first(drawn, 0)
    found = [[each[i, : drawn[i, s]] for s, (each, _) in enumerate(samples)] for i in rows]
    unique = [len({x for each in of for x in each[each >= 0].tolist()}) for of in found]
    held = sum(len(each) for of in found for each in of)
    cost = float(first(drawn, 1).sum(0) @ [source.cost for source in sources])
    return np.array([correct.any(1), unique, correct.sum(1)], float), 1 - held / drawn.sum(), cost


def sources_of(mixture, ratio, budget, problems) -> list[allocation.Source]:
    cost = {'weak': 1 / ratio, 'strong': 1.0}
    return [allocation.Source(name, cost[name], share * budget * problems) for name, share in mixture.items()]


def replay(directory: str, orders: str = '20') -> None:
    workdir = Workdir(directory)
    ratio = read_json(workdir.path('config.json'))['budget']['ratio']
    told = workdir.problems('train')
    problems = allocation.Problems([p.id for p in told], [(p.level, p.subject) for p in told])
    at = {id: place for place, id in enumerate(problems.ids)}
    pools = {source: Pool(workdir, source, at) for source in ('weak', 'strong')}
    depths = ', '.join(f'{pool.solutions.shape[1]} {name}' for name, pool in pools.items())
    print(f'{len(told)} problems, samples of each: {depths}; {orders} orders\n')
    print(
        '| budget | sources | policy | coverage, % | over uniform | unique correct | kept | tokens, % | again, % | s |'
    )
    print('|---|---|---|---|---|---|---|---|---|---|')
    for budget, (name, mixture) in itertools.product(BUDGETS, MIXTURES.items()):
        sources = sources_of(mixture, ratio, budget, len(told))
        plain = cheap = None
        for policy in ('uniform', 'cascade', 'adaptive') if len(sources) == 2 else ('uniform', 'adaptive'):
            start = time.monotonic()
            played = [
                play(policy, problems, sources, [pools[s.name].shuffled(o) for s in sources])
                for o in range(int(orders))
            ]
            seconds = (time.monotonic() - start) / int(orders)
            values = np.array([each for each, *_ in played])  # [orders, METRICS, problems]
            shown = [_interval(values[:, m], 100 if not m else 1) for m in range(len(METRICS))]
            plain = values[:, 0] if plain is None else plain
            over = '' if policy == 'uniform' else _difference(values[:, 0], plain)
            again, cost = 100 * np.mean([share for _, share, _ in played]), np.mean([cost for *_, cost in played])
            cheap = cheap or cost
            costs = f'{100 * (cost / cheap - 1):+.0f}', f'{again:.0f}', f'{seconds:.1f}'
            cells = [budget, name, policy, shown[0], over, *shown[1:], *costs]
            print('|', ' | '.join(map(str, cells)), '|', flush=True)


def _interval(values, scale: float) -> str:
    found = intervals.seeded_difference(values, np.zeros_like(values), draws=DRAWS)
    digits = 1 if scale == 100 else 2
    return ' '.join([f'{scale * found.value:.{digits}f}', f'({scale * found.low:.{digits}f}']) + (
        f' to {scale * found.high:.{digits}f})'
    )


def _difference(values, plain) -> str:
    """Of two policies in the same orders: the mean over orders first, then over problems."""
    found = intervals.paired_difference(values.mean(0), plain.mean(0), draws=DRAWS)
    return f'{100 * found.value:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})'


def live(directory: str, problems: str = '64') -> None:
    print('| policy | budget | spent | FLOPs | rounds | samples weak / strong | solved | kept | unique | s |')
    print('|---|---|---|---|---|---|---|---|---|---|')
    for policy in allocation.POLICIES:
        root = Path(directory) / policy
        flags = ['--config=configs/arithmetic.py', f'--config.task.num_train={problems}', f'--workdir={root}']
        if cli.main(['prepare', *flags]) or cli.main(['pretrain', *flags]):
            sys.exit(2)
        config, workdir = cli.parse_flags('sample', flags).config, Workdir(root)
        start = time.monotonic()
        done = allocating.allocate(config, workdir, policy, policy, {'weak': 2.0, 'strong': 2.0})
        seconds = time.monotonic() - start
        at = {p.id: place for place, p in enumerate(workdir.problems('train'))}
        kept = unique = 0
        for source in done['counts']:
            solutions = Pool(workdir, source, at).solutions
            kept, unique = kept + (solutions >= 0).sum(), unique + len(np.unique(solutions[solutions >= 0]))
        drawn = ' / '.join(f'{sum(done["counts"][source].values()):,}' for source in ('weak', 'strong'))
        cells = (policy, f'{done["budget"]:g}', f'{done["spent"]:.2f}', f'{done["flops"]:.4g}', len(done['rounds']))
        print(
            '|', ' | '.join(map(str, (*cells, drawn, done['solved'], kept, unique, f'{seconds:.0f}'))), '|', flush=True
        )


if __name__ == '__main__':
    {'replay': replay, 'live': live}[sys.argv[1]](*sys.argv[2:])
