"""Generated word problems: a story and its program, drawn by seed, told in sentences, solved in steps.

A problem is a small program over its *givens* (the numbers that stand in the text). Its level (1-5) is the number of
operations. :mod:`cosample_jax.tasks.arithmetic` makes a task of these stories. No JAX here.
"""

import hashlib
import json
import operator
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

NAMES = (
    *('Ann', 'Ben', 'Cleo', 'Dan', 'Eva', 'Finn', 'Gus', 'Hal'),
    *('Ida', 'Joe', 'Kim', 'Leo', 'Mia', 'Ned', 'Ola', 'Tom'),
)
ITEMS = ('apples', 'beads', 'books', 'cards', 'coins', 'cups', 'eggs', 'keys', 'nuts', 'pens', 'pins', 'shells')
LEVELS = (1, 2, 3, 4, 5)
MAX_VALUE = 999
NUM_BUCKETS = 16

OPERATORS: dict[str, Callable[[int, int], int]] = {'+': operator.add, '-': operator.sub, '*': operator.mul}


@dataclass(frozen=True)
class Step:
    """One operation: ``left op right``. Operands index the quantities: the givens, then the results of earlier steps.

    `subject` is what the result belongs to ("Mia has"): a talkative solution says so.
    """

    op: str
    left: int
    right: int
    subject: str


@dataclass(frozen=True)
class Story:
    """Sentences with ``{0}``, ``{1}`` ... where the givens stand, and the program that answers the last one."""

    sentences: tuple[str, ...]
    givens: tuple[int, ...]
    steps: tuple[Step, ...]

    def question(self) -> str:
        return ' '.join(self.sentences).format(*self.givens)

    def values(self, givens: Sequence | None = None) -> list:
        """All quantities: the givens (the story's own unless others are handed in), then one result a step."""
        quantities = list(self.givens if givens is None else givens)
        for step in self.steps:
            quantities.append(OPERATORS[step.op](quantities[step.left], quantities[step.right]))
        return quantities

    def answer(self) -> int:
        return self.values()[-1]

    def is_sound(self) -> bool:
        """Every result lies in 1..MAX_VALUE and no given appears twice, so that a number names one quantity."""
        return all(1 <= v <= MAX_VALUE for v in self.values()) and len(set(self.givens)) == len(self.givens)

    def bucket(self) -> int:
        """The content hash, 0..NUM_BUCKETS-1: operations and numbers, no names, so that renaming changes nothing."""
        content = json.dumps([[[s.op, s.left, s.right] for s in self.steps], self.givens])
        return hashlib.sha256(content.encode()).digest()[0] % NUM_BUCKETS


class _Teller:
    """Collects the givens, sentences and steps of one story.

    A quantity is ('g', i) or ('s', i) while the story is told, because step results are numbered after ALL givens and
    how many givens there will be is not known yet.
    """

    def __init__(self, rng: random.Random):
        self.rng = rng
        self.sentences: list[str] = []
        self.givens: list[int] = []
        self.steps: list[tuple] = []

    def given(self, low: int, high: int) -> tuple[str, int]:
        self.givens.append(self.rng.randint(low, high))
        return ('g', len(self.givens) - 1)

    def tell(self, *templates: str, amount: tuple = (), **words: str) -> None:
        """Says one of the templates; ``#`` stands for an amount, in the order of `amount`."""
        sentence = self.rng.choice(templates).format(**words)
        for _, index in amount:
            sentence = sentence.replace('#', f'{{{index}}}', 1)
        self.sentences.append(sentence)

    def step(self, op: str, left: tuple, right: tuple, subject: str) -> tuple[str, int]:
        self.steps.append((op, left, right, subject))
        return ('s', len(self.steps) - 1)

    def operation(self, weights: tuple[int, int, int]) -> tuple[str, tuple]:
        """An operator and the given it takes: + and - by one or two digits, * by 2 or 3."""
        op = self.rng.choices('+-*', weights)[0]
        return op, self.given(2, 3) if op == '*' else self.given(*self.rng.choice(((2, 9), (10, 49))))

    def finish(self) -> Story:
        def index(quantity: tuple[str, int]) -> int:
            return quantity[1] + (len(self.givens) if quantity[0] == 's' else 0)

        steps = tuple(Step(op, index(left), index(right), subject) for op, left, right, subject in self.steps)
        return Story(tuple(self.sentences), tuple(self.givens), steps)


def _tell_change(teller: _Teller, level: int, current: tuple, name: str, other: str) -> None:
    """One person's number changes until the level is reached."""
    while len(teller.steps) < level:
        op, amount = teller.operation((45, 41, 14))
        templates = {
            '+': ('{name} buys # more.', '{name} finds # more.', '{other} gives {name} #.'),
            '-': ('{name} loses #.', '{name} sells #.', '{name} gives {other} #.'),
            '*': ('Then {name} has # times as many.',),
        }[op]
        teller.tell(*templates, amount=(amount,), name=name, other=other)
        current = teller.step(op, current, amount, f'{name} has')
    teller.tell('How many does {name} have?', name=name)


def _tell_compare(teller: _Teller, level: int, people: list[str], item: str) -> None:
    """Each person has more, fewer or times as many as the one before; one of them, or all together, are asked about."""
    owned = [teller.given(10, 199)]
    teller.tell('{name} has # {item}.', amount=(owned[0],), name=people[0], item=item)
    together = level >= 2 and teller.rng.random() < 0.7
    relations = (1 if level < 4 else 2) if together else min(level, 2)
    for before, who in zip(people, people[1 : relations + 1], strict=False):
        op, amount = teller.operation((42, 40, 18))
        relation = {'+': '# more than', '-': '# fewer than', '*': '# times as many as'}[op]
        teller.tell(f'{who} has {relation} {before}.', amount=(amount,))
        owned.append(teller.step(op, owned[-1], amount, f'{who} has'))
    current, subject = owned[-1], people[relations]
    if together:
        current, subject = owned[0], 'They'
        for quantity in owned[1:]:
            current = teller.step('+', current, quantity, 'Together')
    # What is left of the level is spent by losing and getting some.
    while len(teller.steps) < level:
        op, amount = teller.operation((50, 50, 0))
        verb = {'+': 'get', '-': 'lose'}[op] + ('' if together else 's')
        teller.tell(f'{subject} {verb} #{" more" if op == "+" else ""}.', amount=(amount,))
        current = teller.step(op, current, amount, 'Together' if together else f'{subject} has')
    teller.tell('How many do they have?' if together else f'How many does {subject} have?')


def _tell(rng: random.Random, level: int) -> Story:
    """One story of `level` steps; its values may be unsound."""
    teller, item, people = _Teller(rng), rng.choice(ITEMS), rng.sample(NAMES, 3)
    kind = rng.choices(('change', 'compare', 'bags'), weights=(45, 35, 20))[0]
    if kind == 'compare':
        _tell_compare(teller, level, people, item)
        return teller.finish()
    if kind == 'bags':
        bags, size = teller.given(2, 5), teller.given(6, 39)
        teller.tell('{name} has # bags of # {item}.', amount=(bags, size), name=people[0], item=item)
        current = teller.step('*', bags, size, f'{people[0]} has')
    else:
        current = teller.given(10, 299)
        teller.tell('{name} has # {item}.', amount=(current,), name=people[0], item=item)
    _tell_change(teller, level, current, people[0], people[1])
    return teller.finish()


def draw(rng: random.Random, level: int, buckets: Sequence[int]) -> Story:
    """The first sound story of `level` steps whose content falls into one of `buckets`."""
    while True:
        story = _tell(rng, level)
        if story.is_sound() and story.bucket() in buckets:
            return story


def renumber(story: Story, rng: random.Random, buckets: Sequence[int] | None = None) -> Story:
    """The same story with new numbers of the same sizes (digits; factors stay small), and another answer.

    `buckets`: where the content of the new story must fall (None: anywhere).
    """
    while True:
        givens = tuple(rng.choice((2, 3)) if g <= 3 else rng.randint(*_same_size(g)) for g in story.givens)
        twin = replace(story, givens=givens)
        if twin.is_sound() and twin.answer() != story.answer() and (buckets is None or twin.bucket() in buckets):
            return twin


def _same_size(value: int) -> tuple[int, int]:
    return (4, 9) if value < 10 else (10, 49) if value < 50 else (50, 299)


# ---------------------------------------------------------------------------------------------------------------------
# Solutions: sentences of one equation each.


@dataclass(frozen=True)
class Style:
    """Probabilities with which a solver departs from the gold solution; the gold solution is all zeros.

    Per step, the first four keep it right (`talk` puts a word before the equation); `jump` leaves a step unwritten;
    `recover` writes a wrong result but goes on with the right one; `slip` goes on with the wrong one; `misread` takes a
    wrong operator. Per solution, `check` undoes the last steps behind the answer and `miscount` gets that wrong. A
    jump, a recovered slip and a wrong check leave the answer right and the reasoning wrong: false positives to be.
    """

    reorder: float = 0.0
    swap: float = 0.0
    merge: float = 0.0
    talk: float = 0.0
    jump: float = 0.0
    recover: float = 0.0
    slip: float = 0.0
    misread: float = 0.0
    check: float = 0.0
    miscount: float = 0.0


GOLD = Style()


def solve(story: Story, style: Style = GOLD, rng: random.Random | None = None) -> tuple[str, int]:
    """A solution in `style`, and the final answer it arrives at (which the text does not name yet).

    Unless the style slips or misreads, the final answer is the story's.
    """
    rng = rng or random.Random(0)
    steps = _reordered(story, rng, style.reorder)
    values: list[int] = list(story.givens)
    sentences: list[str] = []
    pending = ''  # the expression of a step that is merged into the next line
    for number, step in enumerate(steps):
        last = number == len(steps) - 1
        op = step.op
        if op in '+-' and rng.random() < style.misread:
            op = {'+': '-', '-': '+'}[op]
        left, right = values[step.left], values[step.right]
        value = OPERATORS[op](left, right)
        if not 1 <= value <= MAX_VALUE:
            op, value = step.op, OPERATORS[step.op](left, right)
        chained = not last and steps[number + 1].left == len(values)
        if pending:
            expression = f'{pending}{op}{right}'
        elif op != '-' and rng.random() < style.swap:
            expression = f'{right}{op}{left}'
        else:
            expression = f'{left}{op}{right}'
        pending = ''
        written = value
        if chained and steps[number + 1].op in '+-' and rng.random() < style.merge:
            pending = expression
        elif not last and rng.random() < style.jump:
            pass
        else:
            if rng.random() < style.recover:
                written = _wrong(value, rng)
            elif rng.random() < style.slip:
                written = value = _wrong(value, rng)
            lead = rng.choice(('So ', 'Now ', 'Then ', f'{step.subject} ')) if rng.random() < style.talk else ''
            sentences.append(f'{lead}{expression}={written}.')
        values.append(value)
    return ' '.join(sentences), values[-1]


def check(story: Story, style: Style, rng: random.Random, answer: int) -> str:
    """What a solver in `style` writes behind the answer: its last additions and subtractions undone, or ''."""
    undone = []
    for step in reversed(story.steps):
        if step.op == '*' or len(undone) == 2 or step.right >= len(story.givens):
            break
        undone.append(({'+': '-', '-': '+'}[step.op], story.givens[step.right]))
    if not undone or rng.random() >= style.check:
        return ''
    value = answer
    for op, amount in undone:
        value = OPERATORS[op](value, amount)
    if rng.random() < style.miscount:
        value = _wrong(value, rng)
    return f'Check {answer}{"".join(f"{op}{amount}" for op, amount in undone)}={value}.'


def _reordered(story: Story, rng: random.Random, probability: float) -> list[Step]:
    """Swaps neighbouring additions and subtractions of one running quantity where the results stay sound."""
    steps = list(story.steps)
    for i in range(len(steps) - 1):
        first, second = steps[i], steps[i + 1]
        result = len(story.givens) + i
        independent = second.left == result and second.right < result and {first.op, second.op} <= {'+', '-'}
        used_elsewhere = any(result in (s.left, s.right) for s in steps[i + 2 :])
        if independent and not used_elsewhere and rng.random() < probability:
            swapped = steps.copy()
            swapped[i] = replace(second, left=first.left)
            swapped[i + 1] = replace(first, left=result)
            if replace(story, steps=tuple(swapped)).is_sound():
                steps = swapped
    return steps


def _wrong(value: int, rng: random.Random) -> int:
    """A near miss: off by 1, 2 or 10."""
    return max(1, value + rng.choice((-10, -2, -1, 1, 2, 10)))
