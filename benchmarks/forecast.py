"""How often forecasts hold the truth, beside baselines, and whether a wrong sign is called too small to tell.

    OMP_NUM_THREADS=1 python -m benchmarks.forecast [PILOTS [PROCESSES]]

Truth: the counts of benchmarks/forecast_counts.jsonl (made by `benchmarks.forecast_pools`), of which a pilot is a draw
without replacement, and synthetic pools with known success probabilities. Each pilot is forecast by ours, by a power
law through the mean (log(-log coverage) is linear in log k, arXiv 2407.21787; log diversity for diversity) and by a
beta-binomial fitted to mean and variance, both with a bootstrap over problems. Markdown tables go to the screen.
"""

import functools
import itertools
import multiprocessing
import sys
from typing import NamedTuple

import numpy as np
from scipy import special

from benchmarks.forecast_pools import COUNTS
from cosample_jax.analysis import coverage, diversity, forecast, success, unseen
from cosample_jax.commands.forecast import read_counts

PROBLEMS = 128
BOOTSTRAP = 200
SIZES = (4, 10)
TIMES = (3, 10, 50, 100, 1000)  # budgets, in pilots
ADVICE = 10  # pilots of which the advice is followed
_EDGES = [0.05, 0.95]


class Pool(NamedTuple):
    """Problems with a truth: success probabilities, or how often each distinct correct solution of `total` was seen."""

    name: str
    p: np.ndarray | None = None
    total: np.ndarray | None = None
    solutions: list[list[int]] | None = None

    def draw(self, n: int, rng) -> tuple[np.ndarray, list[list[int]] | None]:
        """Correct samples of each problem among n, and how often each solution is among these."""
        if self.p is not None:
            return rng.binomial(n, self.p), None
        pairs = zip(self.total, self.solutions, strict=True)
        drawn = [rng.multivariate_hypergeometric([total - sum(s), *s], n)[1:] for total, s in pairs]
        return np.array([d.sum() for d in drawn]), [d[d > 0].tolist() for d in drawn]

    def coverage(self, ks) -> np.ndarray:
        if self.p is not None:
            return -np.expm1(np.outer(ks, np.log1p(-self.p))).mean(1)
        return coverage.coverage_curve(self.total, [sum(s) for s in self.solutions], ks).mean(0)

    def diversity(self, ks) -> np.ndarray:
        return diversity.diversity(self.total, self.solutions, ks).mean(0)

    def budgets(self, n: int) -> list[int]:
        """Half of a pool at most: a share of it is no success probability for more."""
        most = 10_000 if self.p is not None else self.total.min() // 2
        return [t * n for t in TIMES if t * n <= most]


def synthetic() -> list[Pool]:
    """Families with humps, power laws and problems that are never solved; the last five like language models' pools."""
    rng = np.random.default_rng(42)
    n = PROBLEMS

    def normal(mean, deviation, never=0.0):
        return np.where(rng.random(n) < never, 0, special.expit(rng.normal(mean, deviation, n)))

    families = {
        'Beta(0.3, 0.7)': rng.beta(0.3, 0.7, n),
        'Beta(0.15, 3), hard': rng.beta(0.15, 3, n),
        'Beta(3, 1), easy': rng.beta(3, 1, n),
        '30% never, else Beta(0.5, 1)': np.where(rng.random(n) < 0.3, 0, rng.beta(0.5, 1, n)),
        'bimodal, 90% and 1%': np.where(rng.random(n) < 0.5, rng.beta(18, 2, n), rng.beta(2, 198, n)),
        'log-uniform from 1e-5': np.exp(rng.uniform(np.log(1e-5), 0, n)),
        'all hard, 0.3%': rng.beta(3, 997, n),
        'Beta(0.6, 0.4)': rng.beta(0.6, 0.4, n),
        'Beta(0.1, 0.3), long tail': rng.beta(0.1, 0.3, n),
        '20% never, else Beta(0.3, 2)': np.where(rng.random(n) < 0.2, 0, rng.beta(0.3, 2, n)),
        'logit-normal(-2.5, 2)': normal(-2.5, 2),
        'logit-normal(-0.5, 2.8), 3% never': normal(-0.5, 2.8, 0.03),
        'logit-normal(1, 2.5), 1% never': normal(1, 2.5, 0.01),
        'logit-normal(-6, 2)': normal(-6, 2),
        'logit-normal(-5, 2.2), 40% never': normal(-5, 2.2, 0.4),
        'logit-normal(-3, 3), 30% never': normal(-3, 3, 0.3),
    }
    return [Pool(name, p=p) for name, p in families.items()]


def power_law(total, correct, ks, seed):
    """Draws of coverage = exp(-exp(a + b log k)) at `ks`, a and b by least squares on the pilot's own curve."""
    near = np.arange(1, total.min() + 1)
    means = _bootstrapped(coverage.coverage_curve(total, correct, near), seed)
    y = np.log(-np.log(np.clip(means, 1e-4, 1 - 1e-4)))
    b, a = np.polyfit(np.log(near), y.T, 1)
    return np.exp(-np.exp(a + b * np.log(np.asarray(ks))[:, None]))


def power_law_of_diversity(total, solutions, ks, seed):
    """Draws of diversity = exp(a + b log k) at `ks`, likewise."""
    near = np.arange(1, total.min() + 1)
    means = _bootstrapped(diversity.diversity(total, solutions, near), seed)
    b, a = np.polyfit(np.log(near), np.log(np.maximum(means, 1e-4)).T, 1)
    return np.exp(a + b * np.log(np.asarray(ks))[:, None])


def beta_binomial(total, correct, ks, seed):
    """Draws of the coverage of a beta-binomial with the mean and variance of bootstrapped problems."""
    n = total[0]
    shares = np.stack([correct / n, (correct / n) ** 2], 1)
    mean, square = _bootstrapped(shares, seed).T
    mean = np.clip(mean, 1e-4, 1 - 1e-4)
    # Var(c / n) = mean (1 - mean) (1 + (n - 1) rho) / n, with rho = 1 / (a + b + 1).
    rho = np.clip((n * (square - mean**2) / (mean * (1 - mean)) - 1) / (n - 1), 1e-3, 0.99)
    a, b = mean * (1 / rho - 1), (1 - mean) * (1 / rho - 1)
    return np.array([-np.expm1(special.betaln(a, b + k) - special.betaln(a, b)) for k in ks])


def _bootstrapped(values, seed):
    """Means over problems drawn with replacement: [problems, columns] -> [draws, columns]."""
    picks = np.random.default_rng(seed).integers(len(values), size=(BOOTSTRAP, len(values)))
    return values[picks].mean(1)


def one(pool: Pool, n: int, seed: int) -> dict[str, np.ndarray]:
    """Draws of each method at the pool's budgets, [budgets, draws], of one pilot."""
    correct, solutions = pool.draw(n, np.random.default_rng([seed, n]))
    total, ks = np.full(len(correct), n), pool.budgets(n)
    found = success.posterior(total, correct, seed=seed)
    drawn = {
        'ours': np.array([found.coverage(k) for k in ks], np.float32),
        'power law': power_law(total, correct, ks, seed),
        'beta-binomial': beta_binomial(total, correct, ks, seed),
    }
    if solutions is not None:
        drawn['diversity'] = unseen.posterior(solutions, found.log_miss, seed).diversity(ks)
        drawn['diversity, power law'] = power_law_of_diversity(total, solutions, ks, seed)
    return drawn


def calibration(pools: list[Pool], n: int, drawn: list[list[dict]]) -> None:
    """How often the interval holds the truth / its mean width / bias, at each budget; of diversity relative to it."""
    times = [k // n for k in pools[0].budgets(n)]
    print(f'\nn = {n}, {len(drawn[0])} pilots: holds the truth / mean width / bias, %\n')
    print('| |', ' | '.join(f'{t}n' for t in times), '|\n|---|' + '---|' * len(times))
    for method in drawn[0][0]:
        of_diversity = method.startswith('diversity')
        rows = []
        for pool, pilots in zip(pools, drawn, strict=True):
            truth = (pool.diversity if of_diversity else pool.coverage)(pool.budgets(n))
            scale = truth if of_diversity else 1.0
            values = np.array([pilot[method] for pilot in pilots])
            low, high = np.quantile(values, _EDGES, axis=2)
            holds = (low <= truth) & (truth <= high)
            rows.append([holds.mean(0), ((high - low) / scale).mean(0), ((values.mean(2) - truth) / scale).mean(0)])
            if method in ('ours', 'diversity'):
                print(f'| {method}: {pool.name} |', _cells(rows[-1]))
        hits = np.array([row[0] for row in rows])
        print(f'| **{method}, mean** |', _cells(np.mean(rows, axis=0)))
        shares = zip(((hits >= 0.85) & (hits <= 0.95)).mean(0), hits.min(0), hits.max(0), strict=True)
        print(
            f'| {method}: pools in 85-95 (least, most) |',
            *(f'{100 * w:.0f} ({100 * a:.0f}, {100 * b:.0f}) |' for w, a, b in shares),
        )


def _cells(row) -> str:
    return ' | '.join(f'{100 * a:.0f} / {100 * b:.0f} / {100 * c:+.0f}' for a, b, c in np.transpose(row)) + ' |'


def signs(pools, n, drawn) -> None:
    """Of the cases where the predicted sign of a difference is wrong, how many are called too small to tell."""
    cases = wrong = small = decided = 0
    for a, b in itertools.combinations(range(len(pools)), 2):
        ks = pools[a].budgets(n)
        truth = pools[a].coverage(ks) - pools[b].coverage(ks)
        for one, two in zip(drawn[a], drawn[b], strict=True):
            difference = one['ours'] - two['ours'][:, ::-1]  # two models of one seed: their draws must not go together
            low, high = np.quantile(difference, _EDGES, axis=1)
            undecided = (low <= 0) & (high >= 0)
            differs = np.sign(difference.mean(1)) != np.sign(truth)
            cases, decided = cases + len(ks), decided + (~undecided).sum()
            wrong, small = wrong + differs.sum(), small + (differs & undecided).sum()
    print(
        f'\nn = {n}: {decided:,} of {cases:,} differences decided; {wrong:,} of wrong sign, {small:,} of them too small'
    )


def advice(pools, n, pilots) -> str:
    """What follows from the advice at 10 pilots' budget: larger pilots decide as promised, and mixes gain."""
    k = 10 * n
    promised = kept = mixes = gained = 0
    for (i, a), (j, b) in itertools.combinations(enumerate(pools), 2):
        for seed in range(pilots):
            row = _decide(a, b, n, k, [seed, n, i, j])
            if row['take'] == 'mix':
                mixes += 1
                gained += _mix_gain(a, b, k, row['mix_share']) > 0
            elif row['take'] == forecast.UNDECIDED and row['pilot_needed']:
                promised += 1
                kept += _decide(a, b, row['pilot_needed'], k, [seed, n, i, j, 1])['take'] != forecast.UNDECIDED
    return f'n = {n}: {kept} of {promised} pilots as large as needed decide; {gained} of {mixes} mixes gain'


def _decide(a, b, n, k, seed) -> dict:
    rng = np.random.default_rng(seed)
    pilots = []
    for name, pool in (('a', a), ('b', b)):
        correct, _ = pool.draw(n, rng)
        pilots.append(forecast.Pilot(name, range(len(correct)), np.full(len(correct), n), correct))
    return forecast.forecast(pilots, [k], {'a': 1.0, 'b': 1.0})['decisions'][0]


def _mix_gain(a, b, k, share) -> float:
    """What the mix gains over the better single source, in truth."""
    parts = [(a, round(k * share)), (b, k - round(k * share))]
    misses = [1 - coverage.hit_probability(p.total, [sum(s) for s in p.solutions], m) for p, m in parts]
    return 1 - np.mean(misses[0] * misses[1]) - max(p.coverage([k])[0] for p in (a, b))


def main(pilots: str = '200', processes: str = '2') -> None:
    real = [Pool(p.model, total=p.total, solutions=p.solutions) for p in read_counts(str(COUNTS))]
    with multiprocessing.Pool(int(processes)) as workers:
        for pools, sizes in ((real, SIZES), (synthetic(), (*SIZES, 100))):
            for n in sizes:
                drawn = [workers.map(functools.partial(one, pool, n), range(int(pilots)), 5) for pool in pools]
                calibration(pools, n, drawn)
                signs(pools, n, drawn)
        for line in workers.starmap(advice, [(real, n, min(ADVICE, int(pilots))) for n in SIZES]):
            print(line)


if __name__ == '__main__':
    main(*sys.argv[1:])
