"""Seconds and memory of `analyze` at the paper's size: 7,500 problems, two models, 30 samples a problem, 10,000 draws.

    python -m benchmarks.statistics [PROBLEMS]    # with as many cores as it is given: `taskset -c 0,1` for two

The pools are made up (texts of 40 to 400 tokens with as many token ids, five levels, seven subjects, 500 judged
solutions a model) by a process of its own, so that the peak is that of the analysis: reading, curves, comparisons,
levels and the audit of what was kept, and writing the tables.
"""

import argparse
import logging
import multiprocessing
import os
import resource
import sys
import tempfile
import time

import numpy as np

from cosample_jax import config as config_lib
from cosample_jax import records
from cosample_jax.analysis import intervals
from cosample_jax.stages import analyze
from cosample_jax.workdir import Workdir

MODELS = {'weak': 0.35, 'strong': 0.5}  # mean share of correct samples
SAMPLES = 30
TESTS = 500
JUDGED = 500
_WORDS = np.array(
    ['so', 'then', 'we', 'add', 'pears', 'boxes', 'and', 'get', 'each', 'of', 'them', 'left', 'twice', 'half']
)


def configuration(problems: int):
    config = config_lib.base()
    config.name = 'statistics'
    config.task.num_train, config.task.num_test = problems, TESTS
    config.budget.params = 'nominal'
    config.models.weak.params_nominal, config.models.strong.params_nominal = 1e6, 3e6
    config.evaluate.splits = ('test',)
    return config_lib.finalize(config)


def fill(root: str, count: int) -> None:
    """Writes problems, pools, grades and judgments."""
    workdir = Workdir(root)
    rng = np.random.default_rng(0)
    for split, size in (('train', count), ('test', TESTS)):
        workdir.write_problems(split, [_problem(split, i, rng) for i in range(size)])
    problems = workdir.problems('train')
    for model, able in MODELS.items():
        chances = rng.beta(able, 1 - able, len(problems))
        judged = 0
        for start in range(0, len(problems), 500):
            part = slice(start, start + 500)
            samples, grades = zip(
                *(
                    _sample(problem, model, index, rng.random() < chance, rng)
                    for problem, chance in zip(problems[part], chances[part], strict=True)
                    for index in range(SAMPLES)
                ),
                strict=True,
            )
            workdir.pool('train', model).append(samples)
            workdir.grades('train', model).append(grades)
            said = [
                records.Judgment(g.problem_id, model, g.sample_index, 'steps', records.VERDICTS[rng.random() < 0.2], '')
                for g in grades
                if g.correct
            ][: JUDGED - judged]
            workdir.judgments('train', model, 'steps').append(said)
            judged += len(said)


def _problem(split, i, rng):
    question = ' '.join(rng.choice(_WORDS, 30)) + f' {rng.integers(10**6)}'
    return records.Problem(f'{split}/{i:05d}', question, '7', f'{question} is 7', 1 + i % 5, f'subject {i % 7}')


def _sample(problem, model, index, correct, rng):
    """A solution and its grade; a third of the correct ones are one of four texts, as many samples of a model are."""
    key = (problem.id, model, index)
    length = 40 if correct and rng.random() < 1 / 3 else int(rng.integers(40, 400))
    writer = np.random.default_rng(int(rng.integers(4))) if length == 40 else rng
    numbers = writer.integers(2, 90, 3)
    text = ' '.join(writer.choice(_WORDS, length)) + f' {numbers[0]} + {numbers[1]} = {numbers[2]}'
    finish = 'stop' if correct or rng.random() < 0.95 else 'length'
    tokens = rng.integers(3, 256_000, length).tolist()
    answer = '7' if correct else '' if finish == 'length' else '8'
    return (
        records.Sample(*key, text, tokens, finish, -9.0, -8.0, 80, length),
        records.Grade(*key, correct, answer, '', correct, ''),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('problems', nargs='?', type=int, default=7_500)
    parser.add_argument('--workdir', help='where the pools are, or are to be kept; else a temporary directory')
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as temporary:
        root = arguments.workdir or temporary
        config = configuration(arguments.problems)
        if not Workdir(root).path('pools').exists():
            filling = multiprocessing.get_context('spawn').Process(target=fill, args=(root, arguments.problems))
            filling.start()
            filling.join()
            if filling.exitcode:
                sys.exit('the pools could not be made')
        start, busy = time.perf_counter(), time.process_time()
        counters = analyze.run(config, Workdir(root))
        seconds, busy = time.perf_counter() - start, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts in KiB
    cores = len(os.sched_getaffinity(0))
    print(counters)
    print(f'{intervals.DRAWS:,} draws: {seconds:.1f} s ({busy:.1f} s of CPU), peak {peak:.2f} GiB, {cores} cores')


if __name__ == '__main__':
    main()
