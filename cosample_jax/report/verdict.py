"""The verdict: sentences written from the numbers, and nothing the numbers do not carry."""

from collections.abc import Sequence
from dataclasses import dataclass

from cosample_jax.analysis import significance


@dataclass(frozen=True)
class Choice:
    """Which source to use for one trained model at one budget.

    `use` is 'weak', 'strong', 'either' (no difference measurable), or 'none' (neither could be trained). Measurable is
    what stays significant after Holm's adjustment over all choices.
    """

    model: str
    budget: str
    use: str
    title: str
    figure: str  # the number, e.g. '+6.2 points'
    detail: str
    caution: str  # '' or what speaks against training on either
    detectable: float | None = None  # minimum detectable difference, where there was a comparison


def points(value: float, sign: bool = True) -> str:
    """A share, or a difference of shares, in points."""
    text = f'{100 * value:{"+" if sign else ""}.1f}'
    return ('0.0' if float(text) == 0 else text).replace('-', '−')


def higher(row: dict) -> int:
    """1 where the first side is measurably higher, -1 where the second is, 0 where neither: by the row's `p_holm`."""
    if row['p_holm'] == '' or row['p_holm'] > significance.ALPHA:
        return 0
    return 1 if row['difference'] > 0 else -1


def excludes_zero(row: dict) -> bool:
    """Whether the interval does, which looks at this comparison alone."""
    return row['difference'] != '' and (row['difference_low'] > 0 or row['difference_high'] < 0)


def choices(differences: Sequence[dict], scores: Sequence[dict], gains: Sequence[dict]) -> list[Choice]:
    """One choice a trained model and budget, from pass@1 on the test split; Holm over these alone."""
    score = {(row['model'], row['budget'], row['data']): row for row in scores}
    gain = {(row['model'], row['budget'], row['data']): row for row in gains if row['split'] == 'test'}
    rows = significance.with_holm([row for row in differences if row['split'] == 'test' and row['metric'] == 'pass@1'])
    compared = sum(row['p'] != '' for row in rows)
    result = []
    for row in rows:
        model, budget = row['model'], row['budget']
        sides = {data: score[model, budget, data] for data in ('weak', 'strong')}
        trained = [data for data, cell in sides.items() if not cell['reason']]
        row = row | {'detectable': row['detectable'] or 1.0}  # '' where one problem was tested: nothing is detectable
        use = _preferred(row) if len(trained) == 2 else trained[0] if trained else 'none'
        result.append(
            Choice(
                model,
                budget,
                use,
                _title(use),
                f'{points(row["difference"])} points' if len(trained) == 2 else '',
                _detail(row, sides, trained, compared),
                _caution([gain.get((model, budget, data)) for data in trained if use in (data, 'either')]),
                row['detectable'] if len(trained) == 2 else None,
            )
        )
    return result


def _preferred(row):
    return {1: 'weak', -1: 'strong', 0: 'either'}[higher(row)]


def _title(use):
    if use == 'none':
        return 'Neither could be trained'
    if use == 'either':
        return 'No difference measurable'
    return f'Use {use}-model data'


def _detail(row, sides, trained, compared):
    if len(trained) < 2:
        missing = ' and '.join(data for data in sides if data not in trained)
        rest = f'; the {trained[0]} data reached {points(sides[trained[0]]["test"], False)}%' if trained else ''
        return f'{missing} data: 0 survivors, not trained{rest}'
    low, high = points(row['difference_low']), points(row['difference_high'])
    luck = ''
    if excludes_zero(row) and not higher(row):
        among = f' among {compared} comparisons' if compared > 1 else ''
        luck = f', without zero but not beyond luck{among} (p {row["p_holm"]:.2g})'
    return (
        f'weak {points(sides["weak"]["test"], False)}%, strong {points(sides["strong"]["test"], False)}%; '
        f'95% interval of the difference {low} to {high}{luck}; the smallest difference this test could '
        f'reliably find is {points(row["detectable"], False)} points'
    )


def _caution(rows):
    rows = [row for row in rows if row and row['difference'] != '']
    if rows and all(higher(row) < 0 for row in rows):
        return 'Training made this model worse than its few-shot base: better to leave it untrained.'
    if rows and all(higher(row) <= 0 for row in rows):
        return 'No measurable gain over the few-shot base model either.'
    return ''


def headline(chosen: Sequence[Choice]) -> str:
    """The one sentence to take away from the trained models."""
    compared = [c for c in chosen if c.detectable is not None]
    won = {use: [c for c in compared if c.use == use] for use in ('weak', 'strong', 'either')}
    total = len(compared)
    if not total:
        alone = sorted({c.use for c in chosen if c.use != 'none'})
        return (
            f'Only {" and ".join(alone)}-model data could be trained on; there is nothing to compare.'
            if alone
            else 'Neither source left a solution to train on.'
        )
    tests = f'{total} comparisons' if total > 1 else 'one comparison'
    if len(won['either']) == total:
        detectable = [c.detectable for c in compared]
        low, high = points(min(detectable), False), points(max(detectable), False)
        seen = f'{low} to {high}' if low != high else low
        return f'No difference measurable between the two sources in {tests}: gaps under {seen} points would go unseen.'
    best, other = ('weak', 'strong') if len(won['weak']) >= len(won['strong']) else ('strong', 'weak')
    if not won[other]:
        lead = f'Use the {best} model’s data'
        if len(won[best]) == total:
            return f'{lead}: it trained the better model in {"each of " if total > 1 else ""}{tests}.'
        rest = len(won['either'])
        return (
            f'{lead}: it trained the better model in {len(won[best])} of {tests}, and in the other '
            f'{rest if rest > 1 else "one"} no difference is measurable.'
        )
    rest = f', no difference is measurable in {len(won["either"])}' if won['either'] else ''
    return (
        f'It depends on the trained model and the budget: of {tests}, {best}-model data won '
        f'{len(won[best])} and {other}-model data {len(won[other])}{rest}.'
    )


def quality_sentences(matched: Sequence[dict]) -> list[str]:
    """What the pools themselves say, one sentence a comparison."""
    sentences = []
    for row in matched:
        if row['metric'] != 'coverage' or (row['budget'] != 'pool' and row['matching'] != 'compute'):
            continue
        diverse = next(r for r in matched if r['metric'] == 'diversity' and all(r[n] == row[n] for n in _IDENTITY))
        pooled = row['budget'] == 'pool'
        where = f'With {_samples(row["k_a"])} each' if pooled else f'At the {row["budget"]} budget'
        a, b = (row[f'model_{side}'] + ('' if pooled else f' ({_samples(row[f"k_{side}"])})') for side in 'ab')
        sentences.append(
            f'{where}, {a} solves {points(row["a"], False)}% of the problems and {b} '
            f'{points(row["b"], False)}%: {_clear(row)}. They leave {diverse["a"]:.2f} and '
            f'{diverse["b"]:.2f} unique correct solutions a problem.'
        )
    return sentences


_IDENTITY = ('budget', 'matching', 'model_a', 'model_b')


def _samples(k):
    return f'{k:.3g} sample{"s" if k != 1 else ""} a problem'


def _clear(row):
    value, low, high = (points(row[name]) for name in ('difference', 'difference_low', 'difference_high'))
    interval = f'{value} points, 95% interval {low} to {high}'
    if higher(row):
        return interval
    return f'no measurable difference ({interval})'


def quality_headline(matched: Sequence[dict]) -> str:
    """The sentence to take away where no model was trained."""
    rows = [r for r in matched if r['metric'] == 'coverage' and r['matching'] == 'compute']
    rows = rows or [r for r in matched if r['metric'] == 'coverage']
    if not rows:
        return 'One source only: its quality is below, there is nothing to compare it with.'
    clear = [r for r in rows if higher(r)]
    if not clear:
        return 'No difference measurable between the sources in the problems they solve.'
    parts = [
        f'{row["model_a" if row["difference"] > 0 else "model_b"]} solves more problems than '
        f'{row["model_b" if row["difference"] > 0 else "model_a"]}'
        + (f' at the {row["budget"]} budget' if row['budget'] != 'pool' else '')
        + f' ({points(abs(row["difference"]), True)} points)'
        for row in clear
    ]
    sentence = '; '.join(parts)
    return sentence[0].upper() + sentence[1:] + '.'
