"""analyze: from graded pools to tables of data quality, for every pool of source models in the workdir.

Writes `analysis/<purpose>.json` (all tables of the pools sampled for that purpose) and each table as
`analysis/<purpose>_<table>.csv`. No seconds in them: the same pools give the same bytes.
"""

import itertools
import logging
from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from cosample_jax import budget, cells, overlap, records, tasks, training_sets
from cosample_jax import config as config_lib
from cosample_jax.analysis import agreement, audit, quality, tables
from cosample_jax.analysis.pools import Pool
from cosample_jax.errors import UserError
from cosample_jax.grading import judge as judge_lib

# Pools of these purposes belong to source models: sampled ones ('train') or imported ones. What is drawn to
# evaluate fine-tuned models has purposes of its own.
PURPOSES = ('train', 'validation', 'test', 'functional', 'static')
TABLES = ('curves', 'matched', 'by_level', 'overlap', 'kept', 'judges', 'agreement', 'models')
AUDIT = ('audit_drops', 'audit_problems', 'audit_survivors', 'audit_groups')


def run(config, workdir) -> dict:
    """Analyzes every source pool; returns the number of problems and samples of each purpose.

    Raises:
        UserError: no pool at all, samples without grades, no problem that every model of a purpose sampled,
        or a pool
            smaller than its budget.
    """
    counters = {}
    for purpose in PURPOSES:
        models = pool_models(workdir, purpose)
        if models:
            document = analyze(config, workdir, purpose, models)
            for name in (*TABLES, *AUDIT):
                path = workdir.path('analysis', f'{purpose}_{name}.csv')
                records.commit(path, tables.to_csv(document[name]))
            records.write_json(workdir.path('analysis', f'{purpose}.json'), document)
            samples = sum(row['samples'] for row in document['models'])
            counters[purpose] = {'problems': document['problems'], 'samples': samples}
    if not counters:
        raise UserError(f'no samples to analyze in {workdir.root}: run `cosample sample` or `cosample import` first')
    return counters


def analyze(config, workdir, purpose: str, models: list[str], strong: Mapping[str, float] | None = None) -> dict:
    """All tables of one purpose as a JSON document; compared are the problems that every model sampled.

    `strong` are the budgets that the training pools are compared at, in samples of the strong model a problem; those
    of the configuration unless given. The audit is of what the run's own budgets drew.
    """
    judged = agreement.verdicts(workdir, purpose, models)
    main = next(iter(judge_lib.names(config, tasks.get(config.task.name))), '')
    train = workdir.problems('train') if purpose == 'train' else []
    pools = {
        model: Pool(workdir, purpose, model, judged[model].get(main, {}), cells.blind_counts(config, model, train))
        for model in models
    }
    problems = [p for p in workdir.problems(purpose) if all(p.id in pool.samples for pool in pools.values())]
    if not problems:
        raise UserError(
            f'no {purpose} problem was sampled by all of {", ".join(models)}: import or sample the same ones'
        )
    left_out = len(set().union(*(pool.samples for pool in pools.values()))) - len(problems)
    if left_out:
        logging.warning('%s: %d problems were not sampled by every model and are left out', purpose, left_out)
    ids = [p.id for p in problems]
    sources = [pools[model].source(ids, _flops_per_token(config, model)) for model in models]
    strong = strong or {level: config.budget.strong[level] for level in config.budget.levels}
    budgets = _budgets(config, purpose, ids, sources, strong)
    matches = _matches(budgets, sources)
    levels = np.array([p.level for p in problems])
    matched_cost = [m for m in matches if m.matching == 'compute'] or matches
    document = {
        'curves': quality.curves(sources, config.seed),
        'matched': quality.matched(matches, config.seed),
        'by_level': quality.by_level(matched_cost, levels, config.seed) if len(set(levels)) > 1 else [],
        'overlap': quality.overlap(matches),
        'kept': quality.kept(sources, budgets),
        'judges': agreement.judges_table(judged),
        'agreement': agreement.agreement_table(judged),
        'models': [_model_row(source, pools[source.model]) for source in sources],
    }
    drawn = _drawn(config, workdir, problems, pools) if purpose == 'train' else []
    audits = (
        audit.drops(drawn),
        audit.evenness(drawn, len(problems)),
        audit.histogram(drawn, len(problems)),
        audit.groups(drawn, problems, config.seed),
    )
    document |= dict(zip(AUDIT, audits, strict=True))
    document = {name: tables.tidy(rows) for name, rows in document.items()}
    return document | {'purpose': purpose, 'judge': main, 'problems': len(problems), 'left_out': left_out}


def _drawn(config, workdir, problems, pools) -> list[audit.Drawn]:
    """What the run's training data was drawn from; nothing where pools or test problems are not the run's own."""
    if not (set(config.roles.sources) <= pools.keys() and set(config.evaluate.splits) <= set(workdir.splits())):
        return []
    tests = overlap.Quotes(p.question for split in config.evaluate.splits for p in workdir.problems(split))
    places = {problem.id: place for place, problem in enumerate(problems)}
    drawn = []
    for source, level in itertools.product(config.roles.sources, config.budget.levels):
        learned = training_sets.training_data(config, workdir, source, level).kept
        kept = {(each.problem.id, each.sample_index) for each in learned}
        counts = {i: cells.sample_count(config, source, level, i) for i in places}
        drawn.append(audit.Drawn(source, level, source, pools[source].audited(counts, places, kept, tests)))
    return drawn


def pool_models(workdir, purpose: str) -> list[str]:
    """Names of the models with a pool for this purpose: those of the config in its order, then the others by
    name.
    """
    folder = workdir.path('pools', purpose)
    found = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.exists() else []
    found = [model for model in found if len(workdir.pool(purpose, model))]
    known = config_lib.MODELS
    return sorted(found, key=lambda model: (known.index(model) if model in known else len(known), model))


def _flops_per_token(config, model):
    return budget.sample_cost(config_lib.num_params(config, model), 1) if model in config.models else 0.0


def _budgets(config, purpose, ids, sources, strong):
    """budget -> model -> samples of each problem: those of `strong` where the run's own sources were sampled, else the
    pool.
    """
    budgets = defaultdict(dict)
    for source in sources:
        if purpose != 'train' or source.model not in cells.sources(config):
            budgets['pool'][source.model] = source.total
            continue
        ratio = cells.ratio(config, source.model, config.budget.lens)
        for level, base in strong.items():
            counts = [budget.samples(problem_id, ratio, base) for problem_id in ids]
            short = next((j for j, count in enumerate(counts) if count > source.total[j]), None)
            if short is not None and source.model not in config.roles.sources:
                continue  # recipes alone draw from it, and want less
            if short is not None:
                raise UserError(
                    f'the {level} budget gives {source.model} {counts[short]} samples of {ids[short]}, '
                    f'its pool has {source.total[short]}: run `cosample sample` first, or import as many'
                )
            budgets[level][source.model] = np.array(counts, np.int64)
    return budgets


def _matches(budgets, sources):
    """What is compared: equal cost and equal number at each budget; pools without a budget by number, all
    pairs.
    """
    matches = []
    for name, counts in budgets.items():
        for a, b in itertools.combinations([s for s in sources if s.model in counts], 2):
            if name != 'pool':
                matches.append(quality.Match(name, 'compute', a, b, counts[a.model], counts[b.model]))
            fewest = np.minimum(counts[a.model], counts[b.model])
            matches.append(quality.Match(name, 'number', a, b, fewest, fewest))
    return matches


def _model_row(source, pool):
    samples = int(source.total.sum())
    return {
        'model': source.model,
        'problems': len(source.total),
        'samples': samples,
        'fewest_per_problem': int(source.total.min()),
        'most_per_problem': int(source.total.max()),
        'correct': int(source.correct.sum()),
        'without_answer': pool.without_answer,
        'truncated': pool.truncated,
        'mean_tokens': source.mean_tokens,
        'flops_per_token': source.flops_per_token or '',
    }
