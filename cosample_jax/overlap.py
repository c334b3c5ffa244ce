"""Test problems inside training data: found by normalised n-grams, so that they can be left out. A leaf, no JAX.

Text becomes tokens: words, LaTeX commands, numbers and signs, without case, punctuation, `$`, braces and LaTeX spacing.
A training problem is a copy of a test problem (:class:`Copies`) in either of two cases:

* its words are those of the test problem, in the same order, whatever the numbers: a renumbered copy. Figures
  (`[asy]`) are not compared, and at least SKELETON tokens are asked for: "Compute $\\sqrt{50}$." is an exercise of its
  own beside "Compute $\\sqrt{72}$.";
* it shares SAME of its 5-grams with the test problem (Dice), has the same numbers and the same final answer: a
  duplicate in other words. Numbers and answer tell it from a problem that shares a stem and asks something else.

A generated solution quotes a test problem (:class:`Quotes`) when it contains QUOTED of a test question's 5-grams.

Measured on the real problems, in a second, the flagged pairs and the near misses read. Of MATH's 7,498 usable training
problems 83 are copies of one of 3,809 tests (MATH500, the 1,745 static twins, their variants of December 2023; 85 with
all three snapshots): 77 renumbered or the same, and six more by the second rule. Two of the six are duplicates; four
are neighbours without numbers that happen to share an answer (the letters of PROOF and of CEASE, 60 ways each). Without
numbers and answer SAME would take 110 more, most of them distinct. Near misses that stay: another question about the
same story or figure ("6 boys and 8 girls": without restrictions; more girls than boys), a renumbered problem with other
names or a word more. GSM8K's 7,473 against its 1,319 tests, or against SVAMP's 1,000: none; the nearest are three that
were renumbered and renamed. Of MATH's reference solutions none quotes a test problem, nor do 2,040 solutions of
Gemma 2 27B.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence

from cosample_jax.records import Problem

N = 5
SKELETON = 15
SAME = 0.6
QUOTED = 0.8

_THOUSANDS = re.compile(r'(?<=\d)(?:\\!)?(?:,|\{,\})(?:\\!)?(?=\d{3})')
_SPACING = re.compile(
    r'\\[,;:!> \[\]()]|\\q?quad|~|\\(?:left|right|displaystyle|text|mbox|mathrm|overline)(?![a-z])|[{}$]|\\\\'
)
_FRACTION = re.compile(r'\\[dt]frac')
_TOKEN = re.compile(r'\\?[a-z]+|\d+(?:\.\d+)?|[^\s\w.,;:?!"\'`]')
_FIGURE = re.compile(r'\[asy\].*?\[/asy\]', re.DOTALL)
_NUMBERS = {'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten', 'eleven', 'twelve'}


def tokens(text: str) -> list[str]:
    """`text` in normal form."""
    text = _SPACING.sub(' ', _THOUSANDS.sub('', text.lower()))
    return _TOKEN.findall(_FRACTION.sub(r'\\frac', text))


def _grams(told: Sequence[str]) -> set[tuple[str, ...]]:
    """The n-grams, or the whole where it is shorter than one."""
    return set(zip(*(told[i:] for i in range(N)), strict=False)) or {tuple(told)}


def _skeleton(question: str) -> tuple[str, ...]:
    told = tokens(_FIGURE.sub(' ', question))
    return tuple('#' if token[0].isdigit() or token in _NUMBERS else token for token in told)


def _facts(problem: Problem) -> tuple[list[str], list[str]]:
    """The numbers of a question, sorted, and the answer."""
    told = tokens(_FIGURE.sub(' ', problem.question))
    return sorted(token for token in told if token[0].isdigit()), tokens(problem.answer)


class _Index:
    """Which questions have which n-grams."""

    def __init__(self, questions: Iterable[str]):
        self.sizes: list[int] = []
        self._having: dict[Hashable, list[int]] = defaultdict(list)
        for number, question in enumerate(questions):
            grams = _grams(tokens(question))
            self.sizes.append(len(grams))
            for gram in grams:
                self._having[gram].append(number)

    def shared(self, grams: set) -> Counter[int]:
        """How many of `grams` each question has."""
        counts: Counter[int] = Counter()
        for gram in grams:
            if gram in self._having:
                counts.update(self._having[gram])
        return counts


class Copies:
    """Finds the problems that are copies of one of `tests`."""

    def __init__(self, tests: Sequence[Problem]):
        self._tests = tests
        self._skeletons: dict[tuple, Problem] = {}
        for problem in tests:
            self._skeletons.setdefault(_skeleton(problem.question), problem)
        self._index = _Index(problem.question for problem in tests)

    def original(self, problem: Problem) -> Problem | None:
        """The test problem that `problem` is a copy of, if any."""
        skeleton = _skeleton(problem.question)
        if len(skeleton) >= SKELETON and skeleton in self._skeletons:
            return self._skeletons[skeleton]
        grams, wanted = _grams(tokens(problem.question)), _facts(problem)
        for number, shared in self._index.shared(grams).items():
            alike = 2 * shared >= SAME * (len(grams) + self._index.sizes[number])
            if alike and _facts(self._tests[number]) == wanted:
                return self._tests[number]
        return None


class Quotes:
    """Finds texts that contain one of `questions`; shorter ones than SKELETON tokens are nobody's in particular.

    Figures count on neither side: their code is much alike.
    """

    def __init__(self, questions: Iterable[str]):
        told = (_FIGURE.sub(' ', question) for question in questions)
        self._index = _Index(question for question in told if len(tokens(question)) >= SKELETON)

    def quotes(self, text: str) -> bool:
        """Whether `text` contains a question."""
        shared = self._index.shared(_grams(tokens(_FIGURE.sub(' ', text))))
        return any(count >= QUOTED * self._index.sizes[number] for number, count in shared.items())
