"""The sampler alone: what each part is worth, what a sample costs, where a step's time goes; see `sampler`."""

import contextlib
import dataclasses
import functools
import statistics
import time
from pathlib import Path

import numpy as np

from benchmarks.forward import matrix_peak
from benchmarks.workload import FIXED, VARIED, Work, engine, line, model_and_params, rate, run_ours, write


@contextlib.contextmanager
def without(part: str):
    """Ours with one part taken out."""
    from unittest import mock

    from cosample_jax.sampling import engine as loop
    from cosample_jax.sampling import schedule

    fill, pages = schedule.Schedule.fill, schedule.Schedule.pages

    def fill_when_all_are_idle(self):
        return fill(self) if not any(self.requests) else ([], [])

    def whole_pool(self, written, loop):
        return pages(self, written, loop)._replace(used=np.int32(self._layout.pages))

    patches = {
        '': [],
        'prefix sharing': [mock.patch.object(loop, 'common_prefix', lambda prompts: [])],
        'question sharing': [mock.patch.object(schedule, 'READERS', 1)],
        'pages (the whole cache is read)': [mock.patch.object(schedule.Schedule, 'pages', whole_pool)],
        'refill (static batches)': [mock.patch.object(schedule.Schedule, 'fill', fill_when_all_are_idle)],
    }
    patches['prefix and question sharing'] = patches['prefix sharing'] + patches['question sharing']
    with contextlib.ExitStack() as stack:
        for patch in patches[part]:
            stack.enter_context(patch)
        engine.cache_clear()
        yield
    engine.cache_clear()


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
            print(line(rows[-1]), flush=True)
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
            print(line(rows[-1]), flush=True)
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


def profile(out: Path, runs: int) -> None:
    """The share of the matrix peak, what the visits of the host cost, and the parts of a decode step measured alone."""
    from unittest import mock

    from cosample_jax.sampling import engine as loop

    rows = []
    for problems, slots in ((8, 64), (8, 128), (32, 256)):
        work = dataclasses.replace(FIXED, problems=problems)
        run_ours(work, slots)
        rates, peaks = [], []
        for _ in range(runs):
            rates.append(rate(run_ours(work, slots)))
            peaks.append(matrix_peak(np.float32, 2048))
        tokens = work.problems * work.samples * work.high
        achieved = useful_flops(work) / tokens * statistics.median(rates)
        row = {'what': f'{problems} problems, {slots} rows', 'tokens/s': statistics.median(rates)}
        rows.append(row | {'useful GFLOP/s': achieved / 1e9, 'of peak': achieved / statistics.median(peaks)})
        print(line(rows[-1]), flush=True)
    both = {'host visits every 8 tokens': loop.LOOP, 'one device loop': FIXED.high}
    work, rates = dataclasses.replace(FIXED, problems=8), {name: [] for name in both}
    for run in range(runs + 1):
        for name, tokens in both.items():
            with mock.patch.object(loop, 'LOOP', tokens):
                found = rate(run_ours(work, 128))
            if run:
                rates[name].append(found)
    for name, each in rates.items():
        rows.append({'what': name, 'tokens/s': statistics.median(each)})
        print(line(rows[-1]), flush=True)
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
        print(line(found[-1]), flush=True)
    return found
