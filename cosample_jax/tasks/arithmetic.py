"""The embedded task: multi-step arithmetic word problems, generated, with a checker for every step.

Everything that makes the experiment meaningful on a laptop follows from having the program behind each problem
(:mod:`cosample_jax.tasks.stories`):

* answers spread over several hundred values, so guessing does not pay;
* steps can be taken in another order, with operands swapped, two in one line: many distinct texts are right;
* :func:`check_steps` decides whether the REASONING of a solution is right, not only its final answer; that alone
  defines the false-positive rate;
* every test problem has a functional variant, the same story with new numbers (the idea of Functional MATH);
* the pretraining text is NOT the task: it has slips, skipped steps, other formats and few hard problems.

Splits are disjoint by CONTENT: the operations and numbers of a problem, without its names, hash to one of sixteen
buckets, and each split owns some. Nothing has to be remembered, and pretraining cannot meet a test problem under other
names. No JAX here.
"""

import ast
import itertools
import json
import random
import re
from collections.abc import Iterator
from fractions import Fraction

from cosample_jax.records import Problem
from cosample_jax.tasks import prompts, stories
from cosample_jax.tasks.stories import LEVELS, OPERATORS, Story, Style

MARKERS = ('The answer is',)
ANSWERS = 'number'

# Buckets of the content hash that each split owns; the functional variants share the test problems' buckets.
BUCKETS = {
    'shots': (0,),
    'train': (1, 2),
    'validation': (3,),
    'test': (4, 5),
    'pretrain': tuple(range(6, 16)),
}

SHOT_LEVELS = (1, 1)

# Pretraining: how often a problem has level 1, 2, ... 5, and the habits of those who wrote the text.
PRETRAIN_LEVELS = (34, 28, 19, 12, 7)
# Most authors are hasty: they do several operations in one line, which is right less often than one at a time. That is
# what a model pretrained on them does too, and what clean solutions can teach it out of.
CAREFUL = Style(reorder=0.3, swap=0.3, merge=0.05, talk=0.3, recover=0.02, slip=0.02, check=0.2, miscount=0.1)
HASTY = Style(
    reorder=0.3,
    swap=0.3,
    merge=0.85,
    talk=0.5,
    jump=0.1,
    recover=0.05,
    slip=0.05,
    misread=0.03,
    check=0.4,
    miscount=0.3,
)
CARELESS = Style(
    reorder=0.4,
    swap=0.4,
    merge=0.4,
    talk=0.4,
    jump=0.08,
    recover=0.2,
    slip=0.08,
    misread=0.08,
    check=0.7,
    miscount=0.7,
)
AUTHORS = ((CAREFUL, 20), (HASTY, 62), (CARELESS, 18))
ENDINGS = (('The answer is {}.', 80), ('So the answer: {}', 10), ('#### {}', 10))
DRILLS, DRILL_EQUATIONS = 0.35, 14
FORMATS = (('Q: {}\nA:', 80), ('Question: {}\nSolution:', 20))


def build(config) -> dict[str, list[Problem]]:
    """The splits of a run, by ``config.seed`` and the sizes in ``config.task``; levels take turns, 1 to 5.

    Problem ids are ``<split>/<number>``. ``functional/7`` is the variant of ``test/7``.
    """
    task = config.task
    sizes = {
        'shots': len(SHOT_LEVELS),
        'train': task.num_train,
        'validation': task.num_validation,
        'test': task.num_test,
    }
    splits: dict[str, list[Problem]] = {}
    for split, size in sizes.items():
        # A generator per split: the size of one never changes the problems of another, and more extend fewer.
        rng = random.Random(f'{config.seed} {split}')
        levels = SHOT_LEVELS if split == 'shots' else LEVELS
        seen: set[str] = set()
        told: list[Story] = []
        for number in range(size):
            story = stories.draw(rng, levels[number % len(levels)], BUCKETS[split])
            while story.question() in seen:
                story = stories.draw(rng, levels[number % len(levels)], BUCKETS[split])
            seen.add(story.question())
            told.append(story)
        splits[split] = [_problem(f'{split}/{n}', story) for n, story in enumerate(told)]
        if split == 'test':
            twins = [
                stories.renumber(s, random.Random(f'{config.seed} functional {n}'), BUCKETS['test'])
                for n, s in enumerate(told[: task.num_functional])
            ]
            splits['functional'] = [
                _problem(f'functional/{n}', twin, static=f'test/{n}') for n, twin in enumerate(twins)
            ]
    return splits


def _problem(problem_id: str, story: Story, **meta: str) -> Problem:
    derivation, answer = stories.solve(story)
    steps = [[s.op, s.left, s.right] for s in story.steps]
    told = json.dumps({'givens': story.givens, 'steps': steps, **meta})
    return Problem(
        problem_id,
        story.question(),
        str(answer),
        f'{derivation} The answer is {answer}.',
        level=len(story.steps),
        subject='arithmetic',
        meta=told,
    )


# ---------------------------------------------------------------------------------------------------------------------
# Pretraining text.


def documents(config) -> Iterator[list[tuple[str, str]]]:
    """An endless stream of pretraining documents, none of which shares a problem's content with any split.

    A document is a list of turns (prompt, what is written after it). Some are drills: equations without a story. Of the
    others half have one problem, half have three (two easy ones first), so that a few-shot prefix is something the
    models know. Every solution has an author of its own: style does not carry over from the shots.
    """
    rng = random.Random(f'{config.seed} pretrain')
    while True:
        if rng.random() < DRILLS:
            yield [_drill(rng) for _ in range(DRILL_EQUATIONS)]
            continue
        (form,) = rng.choices([f for f, _ in FORMATS], [w for _, w in FORMATS])
        drawn = rng.choices(LEVELS, PRETRAIN_LEVELS)
        if rng.random() < 0.5:
            drawn = [1, rng.choice((1, 2)), *drawn]
        turns = []
        for number, level in enumerate(drawn, 1):
            question, solution = _written(rng, level)
            turns.append((form.format(question), prompts.target(solution) + prompts.STOP * (number < len(drawn))))
        yield turns


def _drill(rng: random.Random) -> tuple[str, str]:
    """One equation of the kinds that solutions have: the expression is read, the result is learned."""
    while True:
        op = rng.choices('+-*', (45, 35, 20))[0]
        left = rng.randint(2, 5) if op == '*' else rng.choice((rng.randint(2, 99), rng.randint(10, 399)))
        right = (
            rng.randint(6, 199)
            if op == '*'
            else rng.choice((rng.randint(2, 9), rng.randint(10, 49), rng.randint(10, 299)))
        )
        if op != '-' and rng.random() < 0.5:
            left, right = right, left
        value = OPERATORS[op](left, right)
        if 1 <= value <= stories.MAX_VALUE:
            return f' {left}{op}{right}=', f'{value}.'


def _written(rng: random.Random, level: int) -> tuple[str, str]:
    story = stories.draw(rng, level, BUCKETS['pretrain'])
    (style,) = rng.choices([s for s, _ in AUTHORS], [w for _, w in AUTHORS])
    (ending,) = rng.choices([e for e, _ in ENDINGS], [w for _, w in ENDINGS])
    derivation, answer = stories.solve(story, style, rng)
    parts = (derivation, ending.format(answer), stories.check(story, style, rng, answer))
    return story.question(), ' '.join(part for part in parts if part)


# ---------------------------------------------------------------------------------------------------------------------
# The step checker.

EQUATION = re.compile(r'([0-9(][0-9+\-*/() ]*)=\s*(-?[0-9]+)')
MAX_EXPRESSION = 200
MAX_EQUATIONS = 24
MAX_READINGS = 64
# A solution is re-run on this many other sets of givens. Two different derivations agree on one such set with
# probability ~1/1000 at most (values are primes from a wide range), so on three of them practically never.
NUM_REPLAYS = 3
PRIMES = tuple(n for n in range(1009, 9973) if all(n % d for d in range(2, int(n**0.5) + 1)))


def check_steps(problem: Problem, text: str) -> tuple[bool, str]:
    """Whether the reasoning in `text` is right: ``(valid, reason)``; reason is '' when valid.

    Three things must hold. (1) Every equation is true. (2) Every number in it is a given of the problem or the result
    of an earlier line: a number from nowhere is a step that was not shown. (3) The derivation computes what was asked:
    it is replayed on other givens, number by number, and must arrive at the problem's answer there too (identity
    testing in the sense of Schwartz and Zippel). So any order and any form of the steps is accepted, and a right
    number reached by a wrong way is not.

    A number that could name several quantities is read in every way; one reading that arrives is enough.
    """
    meta = json.loads(problem.meta)
    givens, steps = meta['givens'], meta['steps']
    rng = random.Random(0)
    replays = [rng.sample(PRIMES, len(givens)) for _ in range(NUM_REPLAYS)]
    goal = tuple(_run(steps, replay) for replay in replays)
    # What a number may stand for: its value in each replay.
    readings: dict[int, set[tuple]] = {}
    for index, value in enumerate(givens):
        readings.setdefault(value, set()).add(tuple(replay[index] for replay in replays))
    equations = EQUATION.findall(text)
    if not equations:
        return False, 'no step shown'
    if len(equations) > MAX_EQUATIONS:
        return False, 'too many equations'
    for expression, stated in equations:
        equation = f'{expression.strip()}={stated}'
        try:
            tree = ast.parse(expression.strip()[:MAX_EXPRESSION], mode='eval').body
            if _value(tree) != int(stated):
                return False, f'wrong: {equation}'
            unknown = [n for n in _numbers(tree) if n not in readings]
            if unknown:
                return False, f'from nowhere: {unknown[0]} in {equation}'
            results = set(itertools.islice(_replayed(tree, readings), MAX_READINGS))
        except (SyntaxError, ValueError, ZeroDivisionError):
            return False, f'cannot be read: {equation[:MAX_EXPRESSION]}'
        readings.setdefault(int(stated), set()).update(results)
    if goal not in readings.get(int(problem.answer), ()):
        return False, 'another derivation'
    return True, ''


def _run(steps: list, givens: list[int]):
    quantities = list(givens)
    for op, left, right in steps:
        quantities.append(OPERATORS[op](quantities[left], quantities[right]))
    return quantities[-1]


BINARY = {ast.Add: '+', ast.Sub: '-', ast.Mult: '*', ast.Div: '/'}


def _apply(op: str, left, right):
    return Fraction(left) / Fraction(right) if op == '/' else OPERATORS[op](left, right)


def _value(tree: ast.expr):
    if isinstance(tree, ast.Constant) and isinstance(tree.value, int):
        return tree.value
    if isinstance(tree, ast.BinOp) and type(tree.op) in BINARY:
        return _apply(BINARY[type(tree.op)], _value(tree.left), _value(tree.right))
    raise ValueError('not arithmetic')


def _numbers(tree: ast.expr) -> list[int]:
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]


def _replayed(tree: ast.expr, readings: dict[int, set[tuple]]) -> Iterator[tuple]:
    """The values of an expression in the replays, for each way to read its numbers."""
    if isinstance(tree, ast.Constant):
        yield from readings[tree.value]
        return
    op = BINARY[type(tree.op)]
    for left, right in itertools.product(_replayed(tree.left, readings), _replayed(tree.right, readings)):
        yield tuple(_apply(op, a, b) for a, b in zip(left, right, strict=False))
