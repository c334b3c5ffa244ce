"""judge: the reasoning of the kept solutions of every pool, by each judge of the configuration.

Pools that are drawn to evaluate trained models (their purposes have a dash) are judged there.
"""

from collections import Counter

from cosample_jax import cells, judges, training_sets
from cosample_jax.analysis import agreement
from cosample_jax.grading import judge as judge_lib
from cosample_jax.grading import pool as pool_lib


def run(config, workdir) -> dict:
    """Judges what has no judgment yet; returns judge -> the counts of its verdicts over all pools.

    What the numbers of solutions can tell is printed before anybody judges.
    """
    problems = {problem.id: problem for problem in pool_lib.all_problems(workdir)}
    pools = [pool for pool in pool_lib.pools(workdir) if '-' not in pool[0]]
    kept = {pool: judge_lib.kept(workdir, *pool) for pool in pools}
    total: dict[str, Counter] = {}
    for judge in judges.of(config, workdir):
        chosen = {
            pool: judge_lib.selected(samples, problems, judge.samples, config.seed) for pool, samples in kept.items()
        }
        for (purpose, model), samples in chosen.items():
            of = f'{len(samples):,} of {len(kept[purpose, model]):,} kept solutions'
            print(f'{judge.name} judges {purpose}/{model}: {of}; {agreement.sizes(len(samples))}')
        total[judge.name] = Counter()
        for (purpose, model), samples in chosen.items():
            counts = judge_lib.judge_pool(workdir, purpose, model, samples, problems, judge)
            print(
                f'{judge.name} on {purpose}/{model}: {", ".join(f"{n:,} {verdict}" for verdict, n in counts.items())}'
            )
            total[judge.name].update(counts)
        total[judge.name].update(_filter(config, workdir, judge, problems))
    return {name: dict(counts) for name, counts in total.items()}


def _filter(config, workdir, judge, problems) -> Counter:
    """Has `judge` judge every sample of the recipes that keep what it finds valid, right answer or not."""
    total = Counter()
    for source, needed in training_sets.judged(config, workdir, judge.name).items():
        drawn = workdir.pool('train', source).read()
        samples = [sample for sample in drawn if sample.sample_index < needed.get(sample.problem_id, 0)]
        counts = judge_lib.judge_pool(workdir, cells.FILTERING, source, samples, problems, judge)
        print(f'{judge.name} filters {source}: {", ".join(f"{n:,} {verdict}" for verdict, n in counts.items())}')
        total.update(counts)
    return total
