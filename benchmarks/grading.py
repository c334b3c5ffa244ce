"""The grader on real answers: agreement with labels, rewrites, near and wrong answers, hostile text, gradings a second.

    python -m benchmarks.grading                 # a minute on two cores; needs the data sets beside the checkout

Beside each of our verdicts stands math-verify's own, from the process pool that we run it in, on samples of the pairs.
"""

import argparse
import random
import statistics
import time
from collections import Counter
from collections.abc import Iterable
from types import SimpleNamespace

from rich.console import Console
from rich.table import Table

from benchmarks import answers as measured
from cosample_jax.grading import answers, equivalence, expressions, symbolic

MATH = SimpleNamespace(MARKERS=('\\boxed', 'The answer is', 'A:', '"answer":', '####'), ANSWERS='math')
NUMBERS = SimpleNamespace(MARKERS=answers.MARKERS, ANSWERS='number')
_TURNS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--sample', type=int, default=60, help='pairs of each kind that math-verify is asked about')
    sample = parser.parse_args().sample
    symbolic.shared_pool().verdicts([('1', '2'), ('3', '4')])  # its processes take seconds to start
    console = Console(width=120)
    golds = {
        name: {row['id']: answers.extract(row['solution'], ('\\boxed',))[0] for row in measured.rows(name)}
        for name in measured.MATH_SOURCES
    }
    unique = sorted({gold for source in golds.values() for gold in source.values() if gold})
    console.print(_sources(golds))
    console.print(_pairs('Other ways to write an answer', _rewrites(unique), sample))
    console.print(_pairs('Near and wrong answers', _changes(unique), sample))
    console.print(_hostile())
    console.print(_speed(golds))


def _sources(golds: dict[str, dict[str, str]]) -> Table:
    """What is extracted from each data set, by which marker, and how verdicts agree with labels."""
    table = Table('solutions', 'rows', 'extracted', 'graded correct', 'agree with labels', 'markers', title='Real data')
    for name in measured.GSM8K_SOURCES:
        pairs = {
            i: (row['answer'].rpartition('####')[2].strip(), row['answer']) for i, row in enumerate(measured.rows(name))
        }
        table.add_row(*_source(f'{name}, reference', NUMBERS, pairs, dict.fromkeys(pairs, True)))
    labelled = measured.openai_labels()
    pairs = {key: (gold, text) for key, (gold, text, _) in labelled.items()}
    table.add_row(
        *_source('GSM8K, four models of OpenAI', NUMBERS, pairs, {k: label for k, (*_, label) in labelled.items()})
    )
    for name in measured.MATH_SOURCES:
        pairs = {row['id']: (golds[name][row['id']], row['solution']) for row in measured.rows(name)}
        table.add_row(
            *_source(f'{name}, reference', MATH, pairs, {key: bool(gold) for key, (gold, _) in pairs.items()})
        )
    for task, name in ((NUMBERS, 'gsm'), (MATH, 'math-l5')):
        for size in measured.GENERATIONS:
            rows = measured.rows(f'zeroeval_{name}_gemma-2-{size}-it')
            pairs = {row['id']: (row['gold'], row['output']) for row in rows}
            table.add_row(*_source(f'{name}, Gemma 2 {size}', task, pairs, None))
    return table


def _source(name: str, task, pairs: dict, labels: dict | None) -> tuple[str, ...]:
    verdicts = equivalence.grade_many(task, pairs)
    markers = Counter(verdict.marker for verdict in verdicts.values() if verdict.marker)
    agree = sum(verdicts[key].correct is label for key, label in labels.items()) if labels else 0
    return (
        name,
        f'{len(pairs):,}',
        f'{markers.total():,}',
        f'{sum(verdict.correct for verdict in verdicts.values()):,}',
        f'{agree:,} ({agree / len(labels):.2%})' if labels else '',
        ', '.join(f'{marker} {count:,}' for marker, count in markers.most_common()),
    )


def _rewrites(golds: list[str]) -> dict[str, list[tuple[str, str]]]:
    made = {name: [(gold, rewrite(gold)) for gold in golds] for name, rewrite in measured.REWRITES.items()}
    return {name: [(gold, text) for gold, text in pairs if text != gold] for name, pairs in made.items()}


def _changes(golds: list[str]) -> dict[str, list[tuple[str, str]]]:
    kinds: dict[str, list[tuple[str, str]]] = {}
    for gold in golds:
        for kind, text in measured.changes(gold):
            kinds.setdefault(kind, []).append((gold, text))
    kinds['of another problem'] = measured.other_answers(golds)
    return kinds


def _pairs(title: str, kinds: dict[str, list[tuple[str, str]]], sample: int) -> Table:
    """How many of each kind both of ours together accept, and math-verify alone."""
    table = Table(
        'kind', 'pairs', 'accepted', 'put to math-verify', f'math-verify alone accepts (of {sample})', title=title
    )
    total = Counter()
    for kind, pairs in kinds.items():
        strict = {pair: expressions.compare(*pair) for pair in pairs}
        unsure = [pair for pair, verdict in strict.items() if verdict is None]
        second = symbolic.shared_pool().verdicts(unsure)
        accepted = sum(verdict is True or second.get(pair) == 'yes' for pair, verdict in strict.items())
        asked = random.Random(kind).sample(pairs, min(sample, len(pairs)))
        alone = symbolic.shared_pool().verdicts(asked)
        theirs = sum(alone[pair] == 'yes' for pair in asked)
        total.update(pairs=len(strict), accepted=accepted, unsure=len(unsure), theirs=theirs, asked=len(asked))
        table.add_row(
            kind, f'{len(strict):,}', f'{accepted / len(strict):.2%}', f'{len(unsure):,}', f'{theirs / len(asked):.0%}'
        )
    table.add_section()
    shares = (
        f'{total["accepted"] / total["pairs"]:.3%}',
        f'{total["unsure"]:,}',
        f'{total["theirs"] / total["asked"]:.0%}',
    )
    table.add_row('all', f'{total["pairs"]:,}', *shares)
    return table


def _hostile() -> Table:
    table = Table('hostile text', 'characters', 'against gold 5', 'milliseconds', title='Hostile text')
    for name, text in measured.HOSTILE.items():
        start = time.perf_counter()
        verdict = equivalence.grade(MATH, '5', f'The answer is {text}')
        took = time.perf_counter() - start
        said = 'no answer in it' if not verdict.marker else 'refused' if not verdict.symbolic else verdict.symbolic
        assert not verdict.correct, name
        table.add_row(name, f'{len(text):,}', said, f'{1000 * took:,.1f}')
    return table


def _speed(golds: dict[str, dict[str, str]]) -> Table:
    """Gradings a second of whole solutions, extraction included: medians over turns."""
    table = Table('what is graded', 'pairs', 'gradings/s', title=f'Speed (medians of {_TURNS})')
    labelled = measured.openai_labels()
    openai = {key: (gold, text) for key, (gold, text, _) in labelled.items()}
    table.add_row('GSM8K: solutions of four models of OpenAI', *_rate(NUMBERS, openai))
    table.add_row('MATH: answers of Gemma 2 2B, 9B and 27B', *_rate(MATH, _gemmas()))
    mixed = list(_mixed(golds['math_test'].values()))
    table.add_row('MATH: references, a rewrite and a wrong answer of each', *_rate(MATH, dict(enumerate(mixed))))
    alone = random.Random(0).sample(mixed, 600)
    start = time.perf_counter()
    symbolic.shared_pool().verdicts((gold, answers.extract(text, MATH.MARKERS)[0]) for gold, text in alone)
    table.add_row(
        'the same by math-verify alone, in two processes', '600', f'{600 / (time.perf_counter() - start):,.0f}'
    )
    return table


def _gemmas() -> dict:
    names = [(size, f'zeroeval_math-l5_gemma-2-{size}-it') for size in measured.GENERATIONS]
    return {(size, row['id']): (row['gold'], row['output']) for size, name in names for row in measured.rows(name)}


def _mixed(golds: Iterable[str]):
    rng = random.Random(0)
    for gold in golds:
        rewrites = [text for rewrite in measured.REWRITES.values() if (text := rewrite(gold)) != gold]
        wrong = [text for _, text in measured.changes(gold)]
        for text in (gold, rng.choice(rewrites), *([rng.choice(wrong)] if wrong else [])):
            yield gold, f'So the answer must be $\\boxed{{{text}}}$.'


def _rate(task, pairs: dict) -> tuple[str, str]:
    seconds = []
    for _ in range(_TURNS):
        expressions.read.cache_clear()
        start = time.perf_counter()
        equivalence.grade_many(task, pairs)
        seconds.append(time.perf_counter() - start)
    return f'{len(pairs):,}', f'{len(pairs) / statistics.median(seconds):,.0f}'


if __name__ == '__main__':
    main()
