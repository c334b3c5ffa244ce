"""How often forecasts hold the truth, beside two baselines, and whether a wrong sign is called too small to tell.

    python -m benchmarks.forecast [PILOTS]

Truth: the counts of benchmarks/forecast_counts.jsonl (made by `benchmarks.forecast_pools`), of which a pilot is a draw
without replacement, and nine synthetic pools with known success probabilities. Each pilot is forecast by ours, by a
power law through the mean (log(-log coverage) is linear in log k, arXiv 2407.21787) and by a beta-binomial fitted to
mean and variance, both with a bootstrap over problems. Markdown tables go to the screen.
"""

import functools
import itertools
import sys

import numpy as np
from scipy import special

from benchmarks.forecast_pools import COUNTS
from cosample_jax.analysis import coverage, success
from cosample_jax.commands.forecast import read_counts

PROBLEMS = 128
BOOTSTRAP = 200


def synthetic() -> dict[str, np.ndarray]:
    """name -> success probability of each problem."""
    rng = np.random.default_rng(42)
    n = PROBLEMS
    easy = rng.random(n) < 0.5
    return {
        'Beta(0.3, 0.7)': rng.beta(0.3, 0.7, n),
        'Beta(0.15, 3), hard': rng.beta(0.15, 3, n),
        'Beta(3, 1), easy': rng.beta(3, 1, n),
        '30% never, else Beta(0.5, 1)': np.where(rng.random(n) < 0.3, 0, rng.beta(0.5, 1, n)),
        'bimodal, 90% and 1%': np.where(easy, rng.beta(18, 2, n), rng.beta(2, 198, n)),
        'log-uniform from 1e-5': np.exp(rng.uniform(np.log(1e-5), 0, n)),
        'logit-normal, sd 2.5': special.expit(rng.normal(-1, 2.5, n)),
        'all hard, 0.3%': rng.beta(3, 997, n),
        'Beta(0.6, 0.4)': rng.beta(0.6, 0.4, n),
    }


def ours(total, correct, ks, seed):
    found = success.posterior(total, correct, seed=seed)
    return np.array([found.coverage(k) for k in ks])


def power_law(total, correct, ks, seed):
    """Draws of coverage = exp(-exp(a + b log k)) at `ks`, a and b by least squares on the pilot's own curve."""
    near = np.arange(1, total.min() + 1)
    values = coverage.coverage_curve(total, correct, near)
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(total), size=(BOOTSTRAP, len(total)))].mean(1)
    y = np.log(-np.log(np.clip(means, 1e-4, 1 - 1e-4)))
    b, a = np.polyfit(np.log(near), y.T, 1)
    return np.exp(-np.exp(a + b * np.log(np.asarray(ks))[:, None]))


def beta_binomial(total, correct, ks, seed):
    """Draws of the coverage of a beta-binomial with the mean and variance of bootstrapped problems."""
    rng = np.random.default_rng(seed)
    n = total[0]
    share = correct[rng.integers(len(total), size=(BOOTSTRAP, len(total)))] / n
    mean = np.clip(share.mean(1), 1e-4, 1 - 1e-4)
    # Var(c / n) = mean (1 - mean) (1 + (n - 1) rho) / n, with rho = 1 / (a + b + 1).
    rho = np.clip((n * share.var(1) / (mean * (1 - mean)) - 1) / (n - 1), 1e-3, 0.99)
    a, b = mean * (1 / rho - 1), (1 - mean) * (1 / rho - 1)
    return np.array([-np.expm1(special.betaln(a, b + k) - special.betaln(a, b)) for k in ks])


METHODS = {'ours': ours, 'power law': power_law, 'beta-binomial': beta_binomial}


def calibration(pools, ks, n, pilots) -> None:
    """One row a pool and k; `pools` are name -> (truth at ks, draw(rng, n) -> correct samples)."""
    print(f'\nn = {n} samples a problem, {pilots} pilots: holds the truth / mean width / bias, %\n')
    print('| pool | k | truth |', ' | '.join(METHODS), '|\n|---|---|---|' + '---|' * len(METHODS))
    everything = []
    for name, (truth, draw) in pools.items():
        sums = np.zeros((len(METHODS), 3, len(ks)))
        for seed in range(pilots):
            correct = draw(np.random.default_rng([seed, n]), n)
            for found, method in zip(sums, METHODS.values(), strict=True):
                drawn = method(np.full(len(correct), n), correct, ks, seed)
                low, high = np.quantile(drawn, [0.05, 0.95], axis=1)
                found += [(low <= truth) & (truth <= high), high - low, drawn.mean(1) - truth]
        everything.append(sums / pilots)
        for i, k in enumerate(ks):
            cells = (' / '.join(f'{100 * v:.0f}' for v in found[:, i] / pilots) for found in sums)
            print(f'| {name} | {k:,} | {100 * truth[i]:.0f} |', ' | '.join(cells), '|', flush=True)
    for i, k in enumerate(ks):
        cells = (f'{100 * m[0, i]:.0f} / {100 * m[1, i]:.0f} /' for m in np.mean(everything, axis=0))
        print(f'| all | {k:,} | |', ' | '.join(cells), '|', flush=True)


def signs(pools, ks, n, pilots) -> None:
    """Of the cases where the predicted sign of a difference is wrong, how many are called too small to tell."""
    wrong = small = cases = decided = 0
    for (truth_a, draw_a), (truth_b, draw_b) in itertools.combinations(pools.values(), 2):
        for seed in range(pilots):
            rng = np.random.default_rng([seed, n, 7])
            a, b = draw_a(rng, n), draw_b(rng, n)
            drawn = ours(np.full(len(a), n), a, ks, 0) - ours(np.full(len(b), n), b, ks, 1)
            low, high = np.quantile(drawn, [0.05, 0.95], axis=1)
            undecided = (low <= 0) & (high >= 0)
            differs = np.sign(drawn.mean(1)) != np.sign(truth_a - truth_b)
            cases, wrong = cases + len(ks), wrong + differs.sum()
            small, decided = small + (differs & undecided).sum(), decided + (~undecided).sum()
    print(f'\nn = {n}: {decided:,} of {cases:,} differences decided; {wrong} of wrong sign, {small} of them too small')


def main(pilots: str = '200') -> None:
    ks, real = (30, 100, 500), {}
    for pool in read_counts(str(COUNTS)):
        draw = functools.partial(_drawn, pool.total, pool.correct)
        real[pool.model] = np.array([coverage.coverage(pool.total, pool.correct, k) for k in ks]), draw
    far = (30, 100, 1000, 10000)
    known = {
        name: (np.array([np.mean(1 - (1 - p) ** k) for k in far]), lambda rng, n, p=p: rng.binomial(n, p))
        for name, p in synthetic().items()
    }
    for pools, at in ((real, ks), (known, far)):
        for n in (4, 10):
            calibration(pools, at, n, int(pilots))
            signs(pools, at, n, max(1, int(pilots) // 10))


def _drawn(total, correct, rng, n):
    return rng.hypergeometric(correct, total - correct, n)


if __name__ == '__main__':
    main(*sys.argv[1:])
