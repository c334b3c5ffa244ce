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
import contextlib
import csv
import dataclasses
import functools
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

OURS = 'cosample_jax'
PEERS = ('gemma', 'tunix', 'transformers')


@dataclasses.dataclass(frozen=True)
class Work:
    """`problems` problems of `prefix` shared and `question` own tokens, `samples` samples each, of `low` to `high`."""

    problems: int = 8
    samples: int = 16
    prefix: int = 768
    question: int = 64
    low: int = 128
    high: int = 128

    def prompts(self) -> list[list[int]]:
        rng = np.random.default_rng(0)
        prefix = [2, *rng.integers(6, 8192, max(self.prefix - 1, 0)).tolist()]
        return [prefix + rng.integers(6, 8192, self.question).tolist() for _ in range(self.problems)]

    def lengths(self) -> np.ndarray:
        """Of each sample, [problems, samples]."""
        return np.random.default_rng(1).integers(self.low, self.high + 1, (self.problems, self.samples))


FIXED, VARIED = Work(), Work(low=16, high=256)


@functools.cache
def model_and_params():
    import jax

    from cosample_jax.gemma import model
    from cosample_jax.gemma.config import gemma2

    shape = {'embed': 512, 'ffw': 2048, 'heads': 8, 'kv_heads': 4, 'head_dim': 64, 'vocab': 8192}
    config = gemma2('bench', layers=2, scan_unroll=2, **shape)
    return config, jax.jit(model.init, static_argnums=0)(config, jax.random.key(0))


def engine(work: Work, slots: int):
    from cosample_jax.sampling.engine import Engine
    from cosample_jax.sampling.policy import SamplingSettings
    from cosample_jax.sampling.schedule import Request

    lengths = work.lengths()
    requests = [
        Request(f'p{p}', k, prompt, int(lengths[p, k]))
        for p, prompt in enumerate(work.prompts())
        for k in range(work.samples)
    ]
    settings = SamplingSettings(
        seed=0, purpose='bench', temperature=0.7, top_k=3, max_new_tokens=work.high, slots=slots, stop_ids=()
    )
    return Engine(model_and_params()[1], model_and_params()[0], settings, requests), requests


def run_ours(work: Work, slots: int) -> dict:
    """Draws the whole queue; seconds, tokens that were asked for, and how busy the rows were."""
    from cosample_jax.sampling.rows import Usage

    made, requests = _engine(work, slots)
    made.usage = Usage()
    start = time.perf_counter()
    tokens = sum(done.num_tokens for done in made.sample(requests))
    seconds = time.perf_counter() - start
    usage = made.usage
    busy = usage.full_drawn / usage.full_capacity if usage.full_capacity else usage.drawn / usage.capacity
    return {'seconds': seconds, 'tokens': tokens, 'busy': busy}


_engine = functools.lru_cache(maxsize=2)(engine)


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
    for line in sys.stdin:
        job = json.loads(line)
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


def rate(result: dict) -> float:
    return result['tokens'] / result['seconds']


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
            print(_line(sweep[-1]), flush=True)
    write(out / 'batches.csv', sweep)
    varied = dataclasses.replace(VARIED, problems=16)
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
            print(_line(rows[-1]), flush=True)
    write(out / 'peers.csv', rows)
    for sampler in samplers.values():
        sampler.close()


@contextlib.contextmanager
def without(part: str):
    """Ours with one part taken out."""
    from unittest import mock

    from cosample_jax.sampling import engine, schedule

    fill, pages = schedule.Schedule.fill, schedule.Schedule.pages

    def fill_when_all_are_idle(self):
        return fill(self) if not any(self.requests) else ([], [])

    def whole_pool(self, written, loop):
        return pages(self, written, loop)._replace(used=np.int32(self._layout.pages))

    patches = {
        '': [],
        'prefix sharing': [mock.patch.object(engine, 'common_prefix', lambda prompts: [])],
        'question sharing': [mock.patch.object(schedule, 'READERS', 1)],
        'pages (the whole cache is read)': [mock.patch.object(schedule.Schedule, 'pages', whole_pool)],
        'refill (static batches)': [mock.patch.object(schedule.Schedule, 'fill', fill_when_all_are_idle)],
    }
    patches['prefix and question sharing'] = patches['prefix sharing'] + patches['question sharing']
    with contextlib.ExitStack() as stack:
        for patch in patches[part]:
            stack.enter_context(patch)
        _engine.cache_clear()
        yield
    _engine.cache_clear()


ABLATED = (
    '',
    'prefix sharing',
    'question sharing',
    'prefix and question sharing',
    'pages (the whole cache is read)',
    'refill (static batches)',
)


def ablation(out: Path, runs: int) -> None:
    """Interleaved: every part in turn, `runs` times over."""
    rows = []
    for title, work in {'fixed 128': FIXED, '16 to 256': VARIED}.items():
        rates = {part: [] for part in ABLATED}
        for run in range(runs + 1):
            for part in ABLATED:
                with without(part):
                    found = rate(run_ours(work, 64))
                if run:  # the first compiles
                    rates[part].append(found)
        whole = statistics.median(rates[''])
        for part, each in rates.items():
            median = statistics.median(each)
            rows.append({'work': title, 'without': part or 'nothing', 'tokens/s': median, 'of whole': median / whole})
            print(_line(rows[-1]), flush=True)
    write(out / 'ablation.csv', rows)


def sweeps(out: Path, runs: int) -> None:
    """Seconds a sample, of samples of 128 tokens on average."""
    axes = {
        'samples a problem, k': ((k, Work(problems=max(4, 128 // k), samples=k), 64) for k in (1, 2, 4, 8, 16, 32, 64)),
        'shared prefix, tokens': ((p, Work(prefix=p), 64) for p in (1, 256, 512, 1024, 2048)),
        'rows side by side': ((r, Work(problems=16), r) for r in (8, 16, 32, 64, 128, 256)),
        'lengths 128 ± …, tokens': ((s, Work(problems=24, low=128 - s, high=128 + s), 64) for s in (0, 40, 80, 120)),
    }
    rows = []
    for axis, points in axes.items():
        for value, work, slots in points:
            run_ours(work, slots)
            results = [run_ours(work, slots) for _ in range(runs)]
            cost = statistics.median(each['seconds'] for each in results) / (work.problems * work.samples)
            row = {'axis': axis, 'value': value, 'ms a sample': 1e3 * cost, 'rows busy': results[-1]['busy']}
            rows.append(row | {'tokens/s': statistics.median(map(rate, results))})
            print(_line(rows[-1]), flush=True)
    write(out / 'sweeps.csv', rows)
    draw(out, rows)


def draw(out: Path, rows: list[dict]) -> None:
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    axes = list(dict.fromkeys(row['axis'] for row in rows))
    figure, panels = plt.subplots(1, len(axes), figsize=(3.3 * len(axes), 3), sharey=True, layout='constrained')
    for axis, panel in zip(axes, panels, strict=True):
        points = [(row['value'], row['ms a sample']) for row in rows if row['axis'] == axis]
        panel.plot(*zip(*points, strict=True), 'o-', color='#1f6fb2')
        if axis.startswith(('samples', 'rows')):
            panel.set_xscale('log', base=2)
            panel.set_xticks([x for x, _ in points], [str(x) for x, _ in points])
        panel.set_xlabel(axis)
        panel.grid(alpha=0.3)
        panel.spines[['top', 'right']].set_visible(False)
    panels[0].set_ylabel('ms a sample of 128 tokens')
    panels[0].set_ylim(0, 1.05 * max(row['ms a sample'] for row in rows))  # of all: they share it
    for ending in ('svg', 'png'):
        figure.savefig(out / f'sweeps.{ending}', dpi=130)


def useful_flops(work: Work) -> float:
    """Of the matrix products that the work cannot do without: 2 a weight and token, and 4·N·H a visible key.

    The prefix and each question are read once; only their last position needs logits, and it is fed by decode.
    """
    config, _ = model_and_params()
    matrices = config.num_non_embedding_params() - config.embed_dim * (4 * config.num_layers + 1)
    head = config.vocab_size * config.embed_dim
    per_key = 4 * config.num_heads * config.head_dim * config.num_layers
    prefilled = work.prefix + work.problems * (work.question - 1)
    keys = work.prefix**2 / 2 + work.problems * (work.question - 1) * (work.prefix + work.question / 2)
    lengths = work.lengths().astype(float)
    drawn = lengths.sum()
    keys += (lengths * (work.prefix + work.question) + lengths**2 / 2).sum()
    return 2 * matrices * (prefilled + drawn) + 2 * head * drawn + per_key * keys


def matrix_peak(size: int = 2048) -> float:
    """FLOP/s of the best of a few float32 products."""
    import jax
    import jax.numpy as jnp

    a = jnp.ones((size, size))
    product = jax.jit(lambda a: a @ a)
    product(a).block_until_ready()
    times = []
    for _ in range(8):
        start = time.perf_counter()
        product(a).block_until_ready()
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times)


def profile(out: Path, runs: int) -> None:
    """The share of the matrix peak, what the visits of the host cost, and the parts of a decode step measured alone."""
    from unittest import mock

    from cosample_jax.sampling import engine

    rows = []
    for problems, slots in ((8, 64), (8, 128), (32, 256)):
        work = dataclasses.replace(FIXED, problems=problems)
        run_ours(work, slots)
        rates, peaks = [], []
        for _ in range(runs):
            rates.append(rate(run_ours(work, slots)))
            peaks.append(matrix_peak())
        tokens = work.problems * work.samples * work.high
        achieved = useful_flops(work) / tokens * statistics.median(rates)
        row = {'what': f'{problems} problems, {slots} rows', 'tokens/s': statistics.median(rates)}
        rows.append(row | {'useful GFLOP/s': achieved / 1e9, 'of peak': achieved / statistics.median(peaks)})
        print(_line(rows[-1]), flush=True)
    both = {'host visits every 8 tokens': engine.LOOP, 'one device loop': FIXED.high}
    work, rates = dataclasses.replace(FIXED, problems=8), {name: [] for name in both}
    for run in range(runs + 1):
        for name, loop in both.items():
            with mock.patch.object(engine, 'LOOP', loop):
                found = rate(run_ours(work, 128))
            if run:
                rates[name].append(found)
    for name, each in rates.items():
        rows.append({'what': name, 'tokens/s': statistics.median(each)})
        print(_line(rows[-1]), flush=True)
    write(out / 'profile.csv', rows)
    write(out / 'step.csv', step_parts(128))


def step_parts(rows: int) -> list[dict]:
    """Milliseconds of the products and passes that a step of `rows` rows is made of, each compiled alone.

    For the fixed work, half way through: 64 own tokens a row. What the step takes beyond their sum is moving between.
    """
    import jax
    import jax.numpy as jnp

    config, _ = model_and_params()
    d, f, v, layers = config.embed_dim, config.ffw_dim, config.vocab_size, config.num_layers
    heads, kv, h = config.num_heads, config.num_kv_heads, config.head_dim

    def array(*shape):
        return jax.random.normal(jax.random.key(len(shape)), shape)

    def product(spec):
        return functools.partial(jnp.einsum, spec)

    x, scores = array(rows, d), array(kv, rows * heads // kv, 768)
    parts = {
        'gate, up and down': (3 * layers, product('td,fd->tf'), (x, array(f, d)), 2 * rows * d * f),
        'queries, keys, values, output': (
            3 * layers,
            product('td,ndh->tnh'),
            (x, array(heads, d, h)),
            2 * rows * d * heads * h,
        ),
        'prefix scores and values': (
            2 * layers,
            product('kmh,ksh->kms'),
            (array(kv, rows * heads // kv, h), array(kv, 768, h)),
            2 * rows * heads * h * 768,
        ),
        'prefix softmax': (layers, lambda s: jnp.exp(50 * jnp.tanh(s / 50) - s.max(-1, keepdims=True)), (scores,), 0),
        'own pages': (
            2 * layers,
            product('pkmh,pksh->pkms'),
            (array(rows, kv, heads // kv, h), array(rows, kv, 64, h)),
            2 * rows * heads * h * 64,
        ),
        'logits': (1, product('td,vd->tv'), (x, array(v, d)), 2 * rows * d * v),
        'softcap and log-sum-exp': (1, lambda x: jax.nn.logsumexp(30 * jnp.tanh(x / 30), -1), (array(rows, v),), 0),
    }
    found = []
    for name, (times, call, arguments, flops) in parts.items():
        call = jax.jit(call)
        jax.block_until_ready(call(*arguments))
        taken = []
        for _ in range(20):
            start = time.perf_counter()
            jax.block_until_ready(call(*arguments))
            taken.append(time.perf_counter() - start)
        median = statistics.median(taken)
        found.append({'part': name, 'ms': 1e3 * times * median, 'GFLOP/s': flops / median / 1e9})
        print(_line(found[-1]), flush=True)
    return found


def write(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'w', newline='') as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f'{v:.4g}' if isinstance(v, float) else v for k, v in row.items()})


def _line(row: dict) -> str:
    return '  '.join(f'{k} {v:,.4g}' if isinstance(v, float) else f'{k} {v}' for k, v in row.items())


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
        {'peers': compare_peers, 'ablation': ablation, 'sweeps': sweeps, 'profile': profile}[args.what](
            args.out, args.runs
        )


if __name__ == '__main__':
    main()
