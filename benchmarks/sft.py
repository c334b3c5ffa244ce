"""A step of fine-tuning beside those of Tunix, the official `gemma` package and transformers, and its own parts alone.

    python -m benchmarks.sft peers       # useful tokens/s and peak memory of each on the same batches, interleaved
    python -m benchmarks.sft ablation    # what each part of ours is worth: the others stay
    ... --vocab=64000 --out=DIR          # for a smaller machine; where tables go, if not to benchmarks/results/sft

The model has the shape of a Gemma 2 of 2 layers x 512 with a real Gemma's vocabulary of 256,000 and random float32
weights, the same for all. A batch is 8 examples of 32 to 512 tokens; the loss falls on solution and <eos>, about three
quarters of them. AdamW, gradients clipped to a norm of 1. Only tokens that carry loss count: no prompt, no padding.

Ours packs a batch into rows of 512; the others pad it to its longest example, rounded up to 64. Each turn of each
trainer is a process of its own, and none runs beside it: logits of every position take most of the memory. It takes a
step of every shape, which compiles, then the steps that are timed, each on a fresh batch. The first loss is that of the
weights all share: where a peer's is not ours, the comparison is void and stops. Peak memory is the process's,
compilation included. `make bench-sft` installs the peers and does all of this.
"""

import argparse
import contextlib
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.workload import examples, line, model_config, random_params, rate, write

OURS = 'cosample_jax'
PEERS = ('tunix', 'gemma', 'transformers')
LEARNING_RATE = 1e-4
ROW_LENGTH = 512


def ours(config, params, learning_rate: float):
    """A trainer like those of `benchmarks.peers`."""
    from cosample_jax.training import packing, step

    recipe = step.Recipe()
    state = step.init_state(params, recipe)

    def train(batches) -> list[float]:
        nonlocal state
        losses = []
        for batch in batches:
            packed = packing.pack(batch, ROW_LENGTH, 1)
            state, metrics = step.train_step(state, packed, np.float32(learning_rate), config=config, recipe=recipe)
            losses.append(metrics['loss'])
        return np.asarray(losses).tolist()

    return train


@contextlib.contextmanager
def without(part: str):
    """Ours with one part taken out; gives the model's configuration to take instead, by what it changes."""
    from unittest import mock

    import jax
    import jax.numpy as jnp

    from cosample_jax.training import loss, packing

    pack = packing.pack

    def a_row_each(batch, *settings):
        rows = [pack([example], *settings) for example in batch]
        return packing.Batch(*map(np.concatenate, zip(*rows, strict=True)))

    def logits_made_twice(config, dtype, mesh, table, *chunks):
        def of_chunk(table, chunk):
            return loss._sums(table.astype(dtype), *chunk, config, mesh)[0]

        @jax.checkpoint
        def add(sums, chunk):
            nothing = jnp.float32(0), jnp.float32(0)
            learned = jnp.any(chunk[-1] != 0)
            return jax.tree.map(jnp.add, sums, jax.lax.cond(learned, of_chunk, lambda *_: nothing, table, chunk)), None

        return jax.lax.scan(add, (jnp.float32(0), jnp.float32(0)), chunks)[0]

    patches = {
        '': [],
        'packing': [mock.patch.object(packing, 'pack', a_row_each)],
        'chunks': [mock.patch.object(loss, 'CHUNK', 2**62)],
        'logits of learned tokens alone': [mock.patch.object(loss, '_used', lambda weights: len(weights))],
        'logits made once': [mock.patch.object(loss, '_over_chunks', logits_made_twice)],
        'layers kept, not computed again': [],
    }
    patches['packing and chunks'] = patches['packing'] + patches['chunks']
    with contextlib.ExitStack() as stack:
        for patch in patches[part]:
            stack.enter_context(patch)
        yield {'scan_unroll': 1} if part == 'layers kept, not computed again' else {}


# Without chunks, the logits of every token are there at once.
ABLATED = (
    '',
    'packing',
    'chunks',
    'packing and chunks',
    'logits of learned tokens alone',
    'logits made once',
    'layers kept, not computed again',
)


def work(name: str, vocab: int, steps: int, part: str) -> dict:
    """One turn, in this process."""
    batches = examples(vocab, steps)
    if name == OURS:
        make = ours
    else:
        from benchmarks.peers import TRAINERS

        make = TRAINERS[name]
    with without(part) if name == OURS else contextlib.nullcontext({}) as changed:
        config = model_config(vocab, **changed)
        train = make(config, random_params(config), LEARNING_RATE)
        if train is None:
            return {'skipped': True}
        shapes = {}
        for batch in batches:
            shapes.setdefault(shape(batch), batch)
        first, *_ = train(list(shapes.values()))
        start = time.perf_counter()
        train(batches)
        seconds = time.perf_counter() - start
    tokens = sum(sum(learn) for batch in batches for _, learn in batch)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # kilobytes, on Linux
    return {'tokens': tokens, 'seconds': seconds, 'peak_gib': peak, 'first_loss': first}


def shape(batch) -> tuple[int, int]:
    """What a trainer compiles anew for: rows of ours, length of the others'."""
    from benchmarks.peers import padded
    from cosample_jax.training import packing

    return len(packing.pack(batch, ROW_LENGTH, 1).tokens), padded(batch)[0].shape[1]


def turn(name: str, vocab: int, steps: int, part: str = '') -> dict | None:
    """`work` in a process of its own; None, with the reason printed, when there was no result."""
    arguments = [f'--name={name}', f'--vocab={vocab}', f'--steps={steps}', f'--without={part}']
    done = subprocess.run([sys.executable, '-m', 'benchmarks.sft', 'work', *arguments], capture_output=True, text=True)
    if done.returncode:
        reason = 'killed: not enough memory?' if done.returncode < 0 else done.stderr.strip().splitlines()[-1]
        print(f'FAILED {name} with a vocabulary of {vocab:,}: {reason}', flush=True)
        return None
    result = json.loads(done.stdout)
    if 'skipped' in result:
        print(f'SKIPPED {name}: it is not installed', flush=True)
        return None
    return result


def interleaved(names, take_turn, runs: int) -> dict[str, list[dict]]:
    """`runs` turns of each; one that gives no result is not asked again."""
    results = {name: [] for name in names}
    for _ in range(runs):
        for name in list(results):
            result = take_turn(name)
            if result is None:
                del results[name]
            else:
                results[name].append(result)
    return results


def compare_peers(out: Path, runs: int, vocab: int, steps: int) -> None:
    results = interleaved((OURS, *PEERS), lambda name: turn(name, vocab, steps), runs)
    rows = []
    for name, each in results.items():
        tokens, memory, first = medians(each)
        if name == OURS:
            best, least, right = tokens, memory, first
        if abs(first / right - 1) > 1e-4:
            raise SystemExit(f'VOID: the first loss of {name} is {first}, and ours is {right}')
        row = {'trainer': name, 'vocabulary': vocab, 'useful tokens/s': tokens, 'ours is faster by': best / tokens}
        rows.append(row | {'peak GiB': memory, 'ours, as a share of it': least / memory, 'first loss': first})
        print(line(rows[-1]), flush=True)
    write(out / 'peers.csv', rows)


def ablation(out: Path, runs: int, vocab: int, steps: int) -> None:
    results = interleaved(ABLATED, lambda part: turn(OURS, vocab, steps, part), runs)
    whole, *_ = medians(results[''])
    rows = []
    for part, each in results.items():
        tokens, memory, _ = medians(each)
        row = {'without': part or 'nothing', 'useful tokens/s': tokens, 'of whole': tokens / whole}
        rows.append(row | {'peak GiB': memory})
        print(line(rows[-1]), flush=True)
    write(out / 'ablation.csv', rows)


def medians(results: list[dict]) -> tuple[float, float, float]:
    """Useful tokens/s, peak GiB and first loss of a trainer's turns."""
    found = [(rate(result), result['peak_gib'], result['first_loss']) for result in results]
    return tuple(map(statistics.median, zip(*found, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('what', choices=('peers', 'ablation', 'work'))
    parser.add_argument('--out', type=Path, default=Path('benchmarks/results/sft'))
    parser.add_argument('--runs', type=int, default=3)
    parser.add_argument('--vocab', type=int, default=256_000)
    parser.add_argument('--steps', type=int, default=2, help='of a turn, timed')
    parser.add_argument('--name', help='of the trainer whose process this is (work)')
    parser.add_argument('--without', default='', help='which part of ours (work)')
    args = parser.parse_args()
    if args.what == 'work':
        answer, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
        print(json.dumps(work(args.name, args.vocab, args.steps, args.without)), file=answer)
    else:
        {'peers': compare_peers, 'ablation': ablation}[args.what](args.out, args.runs, args.vocab, args.steps)


if __name__ == '__main__':
    main()
