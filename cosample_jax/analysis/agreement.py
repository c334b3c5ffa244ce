"""Judges of reasoning side by side: their false-positive rates, how they agree with people, and what that corrects.

A false positive is a kept solution (right final answer) with wrong reasoning. A judge's own errors bias its rate: one
that misses half of the wrong solutions reports half of the rate. Where people judged some of the same solutions, the
judge's sensitivity (share of the wrong ones that it calls wrong) and specificity (share of the valid ones that it calls
valid) are known, and its rate is corrected for them. They are pooled over the models of a purpose: fifty labels of one
model hold too few wrong solutions to measure a judge on that model alone. So the correction assumes that the judge errs
alike on all of them; the table of agreement has each model's own counts beside the pooled ones.
"""

from collections import Counter
from collections.abc import Mapping
from math import sqrt
from statistics import NormalDist
from typing import NamedTuple

from cosample_jax.analysis import intervals
from cosample_jax.records import UNCHECKED, UNPARSABLE, VALID, WRONG

PEOPLE = 'people'
ALL_MODELS = 'all'
TYPICAL = 0.2  # a false-positive rate as the paper's (17% and 24% on MATH), for sizes told beforehand

Verdicts = Mapping[tuple, str]  # key of a sample -> verdict
Judged = Mapping[str, Mapping[str, Verdicts]]  # model -> judge -> verdicts


class Confusion(NamedTuple):
    """How often a judge and people say what, of the solutions that both decided; the judge's word first."""

    wrong_wrong: int
    wrong_valid: int
    valid_wrong: int
    valid_valid: int

    @property
    def total(self) -> int:
        return sum(self)


class Kappa(NamedTuple):
    """Agreement beyond chance with its interval; None where chance alone agrees always."""

    value: float | None
    low: float | None
    high: float | None


class Corrected(NamedTuple):
    """A corrected rate with its interval, or None and the reason."""

    value: float | None
    low: float | None
    high: float | None
    reason: str = ''


def verdicts(workdir, purpose: str, models: list[str]) -> Judged:
    """What every judge said of the pools of `purpose`."""
    return {
        model: {
            judge: {(j.problem_id, j.sample_index): j.verdict for j in workdir.judgments(purpose, model, judge).read()}
            for judge in workdir.judges(purpose, model)
        }
        for model in models
    }


def confusion(judge: Verdicts, people: Verdicts) -> Confusion:
    """Counted over the samples that both called valid or wrong."""
    counts = Counter((judge[key], people[key]) for key in judge.keys() & people.keys())
    return Confusion(*(counts[a, b] for a in (WRONG, VALID) for b in (WRONG, VALID)))


def kappa(counts: Confusion) -> Kappa:
    """Cohen's kappa, (p_o - p_e) / (1 - p_e) (Cohen 1960, Educational and Psychological Measurement 20, 37-46).

    The interval takes p_e as fixed, as Cohen's own standard error does, and Wilson's interval for p_o, so that perfect
    agreement on few samples does not pass for certainty.
    """
    n = counts.total
    if not n:
        return Kappa(None, None, None)
    agreed = counts.wrong_wrong + counts.valid_valid
    judge, people = (counts.wrong_wrong + counts.wrong_valid) / n, (counts.wrong_wrong + counts.valid_wrong) / n
    chance = judge * people + (1 - judge) * (1 - people)
    if chance == 1:
        return Kappa(None, None, None)
    low, high = intervals.wilson(agreed, n)
    return Kappa(*(max(-1.0, (share - chance) / (1 - chance)) for share in (agreed / n, low, high)))


def corrected(wrong: int, judged: int, counts: Confusion) -> Corrected:
    """The rate behind `wrong` of `judged`, given how the judge fared against people.

    (p + specificity - 1) / (sensitivity + specificity - 1) (Rogan and Gladen 1978, American Journal of Epidemiology
    107, 71-76), clipped to [0, 1]. Its interval is that of Lang and Reiczigel (2014, Preventive Veterinary Medicine
    113, 13-22): the delta method over all three shares after adding z^2 and 2 pseudo-observations, which keeps its
    coverage with few labels and with shares of 0 or 1. It takes the labelled solutions for others than the judged ones,
    whose part they are: so it covers more than it says (97 to 99% in simulations).
    """
    wrongs, valids = counts.wrong_wrong + counts.valid_wrong, counts.wrong_valid + counts.valid_valid
    if not judged or not wrongs or not valids:
        missing = 'wrong' if not wrongs else 'valid'
        return Corrected(None, None, None, 'nothing judged' if not judged else f'people found no {missing} solution')
    rate, sensitivity, specificity = wrong / judged, counts.wrong_wrong / wrongs, counts.valid_valid / valids
    z = NormalDist().inv_cdf(0.5 + intervals.LEVEL / 2)
    p = (wrong + z * z / 2) / (judged + z * z)
    se, sp = (counts.wrong_wrong + 1) / (wrongs + 2), (counts.valid_valid + 1) / (valids + 2)
    if sensitivity + specificity <= 1 or se + sp <= 1:
        return Corrected(None, None, None, 'the judge tells wrong from valid no better than chance')
    value = (rate + specificity - 1) / (sensitivity + specificity - 1)
    centre = (p + sp - 1) / (se + sp - 1)
    se_error, sp_error = se * (1 - se) / (wrongs + 2), sp * (1 - sp) / (valids + 2)
    shift = 2 * z * z * (centre * se_error - (1 - centre) * sp_error)
    spread = p * (1 - p) / (judged + z * z) + centre**2 * se_error + (1 - centre) ** 2 * sp_error
    half = z * sqrt(spread) / (se + sp - 1)
    value, low, high = (min(max(x, 0.0), 1.0) for x in (value, centre + shift - half, centre + shift + half))
    return Corrected(value, min(low, value), max(high, value))


def judges_table(judged: Judged) -> list[dict]:
    """One row for each model and judge: its rate, and what people's labels make of it."""
    pooled = _pooled(judged)
    rows = []
    for model, judges in judged.items():
        for judge, said in judges.items():
            counts = Counter(said.values())
            wrong, total = counts[WRONG], counts[WRONG] + counts[VALID]
            low, high = intervals.wilson(wrong, total) if total else ('', '')
            row = {'model': model, 'judge': judge, 'judged': total, 'false_positives': wrong}
            row |= {'unchecked': counts[UNCHECKED], 'unparsable': counts[UNPARSABLE]}
            row |= {'fpr': wrong / total if total else '', 'fpr_low': low, 'fpr_high': high}
            better = Corrected(None, None, None)
            if judge in pooled and total:
                better = corrected(wrong, total, pooled[judge])
            names = ('corrected', 'corrected_low', 'corrected_high')
            row |= {name: _or_blank(x) for name, x in zip(names, better[:3], strict=True)}
            rows.append(row | {'note': better.reason})
    return rows


def agreement_table(judged: Judged) -> list[dict]:
    """One row for each judge that people can be compared with, over all models and then for each."""
    rows = []
    for judge, everything in _pooled(judged).items():
        alone = {model: _against_people(judges, judge) for model, judges in judged.items()}
        for model, counts in {ALL_MODELS: everything, **(alone if len(alone) > 1 else {})}.items():
            if not counts.total:
                continue
            wrongs, valids = counts.wrong_wrong + counts.valid_wrong, counts.wrong_valid + counts.valid_valid
            value, low, high = kappa(counts)
            rows.append(
                {
                    'judge': judge,
                    'model': model,
                    'labelled': counts.total,
                    **counts._asdict(),
                    'sensitivity': counts.wrong_wrong / wrongs if wrongs else '',
                    'specificity': counts.valid_valid / valids if valids else '',
                    'kappa': _or_blank(value),
                    'kappa_low': _or_blank(low),
                    'kappa_high': _or_blank(high),
                }
            )
    return rows


def _pooled(judged: Judged) -> dict[str, Confusion]:
    """judge -> its confusion with people over all models, where there is one."""
    names = dict.fromkeys(judge for judges in judged.values() for judge in judges if judge != PEOPLE)
    pooled = {}
    for judge in names:
        parts = [_against_people(judges, judge) for judges in judged.values()]
        pooled[judge] = Confusion(*map(sum, zip(*parts, strict=True)))
    return {judge: counts for judge, counts in pooled.items() if counts.total}


def _against_people(judges: Mapping[str, Verdicts], judge: str) -> Confusion:
    return confusion(judges.get(judge, {}), judges.get(PEOPLE, {}))


def _or_blank(value: float | None) -> float | str:
    return '' if value is None else value


def precision(count: int, rate: float = TYPICAL) -> tuple[float, float]:
    """What `count` judged solutions can tell at `rate`: half of Wilson's interval, and the smallest difference between
    two models, each with so many, that is found with 80% power.

    Solutions count as independent: several of one problem tell less.
    """
    low, high = intervals.wilson(round(rate * count), count)
    return (high - low) / 2, intervals.DETECTABLE * sqrt(2 * rate * (1 - rate) / count)


def sizes(count: int) -> str:
    """The same as a phrase, in points."""
    if not count:
        return 'nothing to judge'
    half, detectable = (100 * x for x in precision(count))
    return (
        f'a rate of {TYPICAL:.0%} would be known to ±{half:.1f} points, and told from that of another model with as '
        f'many from {detectable:.1f} points on (80% power)'
    )
