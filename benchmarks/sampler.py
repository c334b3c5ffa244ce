"""The sampler beside the samplers of the official `gemma` package, Tunix and transformers, and its own parts alone.

    python -m benchmarks.sampler peers       # tokens/s of each on the same work, interleaved; each at its best batch
    python -m benchmarks.sampler ablation    # what each part of ours is worth: the others stay
    python -m benchmarks.sampler sweeps      # seconds a sample against k, prefix length, rows, spread of lengths
    python -m benchmarks.sampler profile     # where a step's time goes; share of the matrix peak; what host visits cost
    ... --out=DIR                            # where tables and figures go, if not to benchmarks/results/sampler

The model has the shape of a Gemma 2 of 2 layers x 512 (vocabulary 8,192) with random float32 weights; problems have 64
tokens behind a shared prefix of 768. Compilation is excluded. No sample stops before its length, which is given (fixed,
or drawn evenly from 16 to 256).

Every sampler has a process of its own (their libraries do not stand one another) and they take turns, so that a slow
minute of the machine slows all. A peer draws one static batch, of the size that was best for it, until its longest
sample is complete; only the tokens asked for count. Ours draws the whole queue with continuous batching, tail included.
`make bench-sampler` installs the peers and does all of this; what is not installed is skipped, by name.
"""

import argparse
import dataclasses
import functools
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.workload import FIXED, VARIED, Work, line, model_and_params, rate, run_ours, write

OURS = 'cosample_jax'
PEERS = ('gemma', 'tunix', 'transformers')


def run_peer(name: str, work: Work, batch: int) -> dict:
    """One static batch, of prompts in their order, until its longest sample is complete."""
    lengths = work.lengths().reshape(-1)[:batch]
    prompts = [prompt for prompt in work.prompts() for _ in range(work.samples)][:batch]
    generate = _peer(name)
    start = time.perf_counter()
    generate(prompts, int(lengths.max()), 0.7, 3, 0)
    return {'seconds': time.perf_counter() - start, 'tokens': int(lengths.sum())}


@functools.cache
def _peer(name: str):
    from benchmarks.peers import PEERS

    return PEERS[name](*model_and_params())


def work_for(name: str) -> None:
    """The loop of a sampler's process: a line of JSON in, one out."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    if name != OURS and _peer(name) is None:
        print(json.dumps({'skipped': True}), file=answers, flush=True)
        return
    print(json.dumps({'skipped': False}), file=answers, flush=True)
    for request in sys.stdin:
        job = json.loads(request)
        work = Work(**job['work'])
        result = run_ours(work, job['batch']) if name == OURS else run_peer(name, work, job['batch'])
        # Kilobytes, on Linux.
        result['peak_gib'] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps(result), file=answers, flush=True)


class Sampler:
    """A sampler in a process of its own."""

    def __init__(self, name: str):
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, '-m', 'benchmarks.sampler', 'work', f'--name={name}'],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        first = self._process.stdout.readline()
        self.skipped = not first or json.loads(first)['skipped']

    def run(self, work: Work, batch: int) -> dict:
        self._process.stdin.write(json.dumps({'work': dataclasses.asdict(work), 'batch': batch}) + '\n')
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f'{self.name} died')
        return json.loads(answer)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def compare_peers(out: Path, runs: int) -> None:
    """Fixed and varied lengths. A static batch is the same work whatever k is: k = 30 is another run of ours alone."""
    samplers = {name: Sampler(name) for name in (OURS, *PEERS)}
    for name, sampler in list(samplers.items()):
        if sampler.skipped:
            print(f'SKIPPED {name}: it is not installed, or cannot run this model')
            del samplers[name]
    best, sweep = {}, []
    for name, sampler in samplers.items():
        for batch in (64, 128) if name == OURS else (8, 16, 32):
            results = [sampler.run(FIXED, batch) for _ in range(2)]  # the first compiles
            sweep.append({'sampler': name, 'batch': batch, 'tokens/s': rate(results[1])})
            if rate(results[1]) > best.get(name, (0, 0))[0]:
                best[name] = rate(results[1]), batch
            print(line(sweep[-1]), flush=True)
    write(out / 'batches.csv', sweep)
    varied = dataclasses.replace(VARIED, problems=32)  # a queue as deep as runs have: 4 and 7 times the rows
    rows = []
    for title, works in {
        'fixed 128': {'k = 16': FIXED},
        '16 to 256': {'k = 16': varied, 'k = 30': dataclasses.replace(varied, samples=30)},
    }.items():
        turns = [(name, k, work) for name in samplers for k, work in works.items() if name == OURS or k == 'k = 16']
        results = {(name, k): [] for name, k, _ in turns}
        for run in range(runs + 1):
            for name, k, work in turns:
                if run or work != FIXED:  # what was not compiled yet is in the first
                    result = samplers[name].run(work, best[name][1])
                    if run:
                        results[name, k].append(result)
        for (name, k), each in results.items():
            median = statistics.median(map(rate, each))
            row = {'work': title, 'sampler': f'{name}, {k}' if name == OURS else name, 'batch': best[name][1]}
            row['tokens/s'] = median
            for other in works:
                row[f'ours at {other} is faster by'] = statistics.median(map(rate, results[OURS, other])) / median
            row['peak GiB'] = each[-1]['peak_gib']
            rows.append(row | {'rows busy': each[-1].get('busy', '')})
            print(line(rows[-1]), flush=True)
    write(out / 'peers.csv', rows)
    for sampler in samplers.values():
        sampler.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('what', choices=('peers', 'ablation', 'sweeps', 'profile', 'work'))
    parser.add_argument('--out', type=Path, default=Path('benchmarks/results/sampler'))
    parser.add_argument('--runs', type=int, default=3)
    parser.add_argument('--name', help='of the sampler whose process this is (work)')
    args = parser.parse_args()
    if args.what == 'work':
        work_for(args.name)
    else:
        from benchmarks import sampler_parts

        parts = {'ablation': sampler_parts.ablation, 'sweeps': sampler_parts.sweeps, 'profile': sampler_parts.profile}
        ({'peers': compare_peers} | parts)[args.what](args.out, args.runs)


if __name__ == '__main__':
    main()
