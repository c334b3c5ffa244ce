"""One problem to look at, with a few of its samples: right, right by wrong reasoning, wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cosample_jax.records import WRONG as WRONG_REASONING

RIGHT, FALSE, WRONG = 'right', 'false positive', 'wrong'


@dataclass(frozen=True)
class Example:
    """A sample as it is shown; `kind` is RIGHT, FALSE or WRONG, `reason` what was found wrong with its
    reasoning.
    """

    problem_id: str
    model: str
    sample_index: int
    text: str
    kind: str
    reason: str = ''


def examples(samples: Sequence, grades: Sequence, judgments: Sequence) -> list[Example]:
    """The samples of one pool with what is known about each; those without a grade are left out."""
    correct = {(g.problem_id, g.sample_index): g.correct for g in grades}
    verdicts = {(j.problem_id, j.sample_index): j for j in judgments}
    found = []
    for s in samples:
        key = (s.problem_id, s.sample_index)
        if key in correct:
            verdict = verdicts.get(key)
            false = verdict is not None and verdict.verdict == WRONG_REASONING
            kind = WRONG if not correct[key] else FALSE if false else RIGHT
            found.append(Example(s.problem_id, s.model, s.sample_index, s.text, kind, verdict.reason if false else ''))
    return found


def choose(problems: Sequence, pools: Mapping[str, Sequence[Example]]):
    """The first problem for which the pools show most, and of each model the first sample of each kind.

    Returns:
        (problem, [example]) or None where there is no problem. Prefers problems of middling difficulty: those
        with most kinds of sample over all models, earliest first.
    """
    firsts = {}
    for pool in pools.values():
        for example in pool:
            here = firsts.setdefault(example.problem_id, {})
            here.setdefault((example.model, example.kind), example)
    candidates = [p for p in problems if p.id in firsts]
    if not candidates:
        return None
    # max keeps the earliest of equals.
    best = max(candidates, key=lambda p: (len({kind for _, kind in firsts[p.id]}), len(firsts[p.id])))
    kinds = (RIGHT, FALSE, WRONG)
    chosen = [firsts[best.id][model, kind] for kind in kinds for model in pools if (model, kind) in firsts[best.id]]
    return best, chosen
