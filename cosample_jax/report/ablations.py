"""The section on ablations: what each recipe gave, beside the data that it is compared with."""

from collections.abc import Sequence

from cosample_jax.report import cells, drawing, page, verdict
from cosample_jax.report.drawing import GRID, INK, MUTED, PAPER, STYLES, canvas
from cosample_jax.report.page import Column, Markup


def section(rows: Sequence[dict], draw) -> tuple[str, str, Markup]:
    """(anchor, title, HTML) from the rows of `analysis.ablations`; `draw` as in `sections`."""
    parts = [
        page.paragraph(
            'The same pools, other training sets: every cell starts from the same base model and takes the steps of '
            'its budget. Cost is in samples of the strong model a problem, by 2P, solutions taken to be equally long.'
        )
    ]
    keys = list(dict.fromkeys((row['model'], row['budget']) for row in rows if row['budget']))
    for model, budget in keys:
        here = [row for row in rows if (row['model'], row['budget']) == (model, budget)]
        compared = [row for row in here if row['difference'] != '']
        if compared:
            alt = f'Difference in test pass@1 of {model}, {budget} budget: ' + '; '.join(
                f'{row["data"]} against {row["against"]} {verdict.points(row["difference"])} points' for row in compared
            )
            caption = Markup(
                f'<b>{page.escape(model)} is trained, {page.escape(budget)} budget.</b> Each recipe minus the data it '
                'is compared with. Lines: 95% intervals; grey and hollow where they cross zero.'
            )
            parts.append(draw(f'ablations_{model}_{budget}', forest(compared), alt, caption, compared, single=True))
        parts.append(_table(model, budget, here))
    return 'ablations', 'Ablations', page.section('ablations', 'Ablations', *parts)


def forest(rows: Sequence[dict]):
    """Each recipe minus what it is compared with, pass@1 in points, with intervals."""
    with drawing.style():
        figure, axis = canvas(width=6.6, height=1.2 + 0.36 * len(rows))
        axis.axvline(0, color=INK, linewidth=1)
        for place, row in enumerate(rows):
            low, high = 100 * row['difference_low'], 100 * row['difference_high']
            clear = low > 0 or high < 0
            colour = STYLES['weak' if row['difference'] > 0 else 'strong'][0] if clear else MUTED
            axis.plot([low, high], [place, place], color=colour, linewidth=2.2, solid_capstyle='butt')
            marker = 'o' if row['difference'] > 0 else 's'
            look = {'markerfacecolor': colour if clear else PAPER, 'markeredgewidth': 1.6}
            axis.plot(100 * row['difference'], place, marker=marker, markersize=7.5, color=colour, **look)
        axis.set_yticks(range(len(rows)), [f'{row["data"]} − {row["against"]}' for row in rows])
        axis.set_ylim(len(rows) - 0.5, -0.5)
        axis.set_xlabel('pass@1, points')
        axis.grid(axis='x', color=GRID, linewidth=0.8)
    return figure


def _table(model: str, budget: str, rows: Sequence[dict]) -> Markup:
    columns = [
        Column('trained on', lambda r: r['data'], text=True),
        Column('cost', lambda r: f'{r["cost"]:.3g}' if r['cost'] != '' else '–'),
        Column('samples', lambda r: f'{r["samples"]:.3g}' if r['samples'] != '' else '–'),
        Column('kept', lambda r: f'{r["kept"]:,}' if r['kept'] != '' else '–'),
        Column('unique', lambda r: f'{r["unique"]:,}' if r['unique'] != '' else '–'),
        Column('problems', lambda r: f'{r["problems"]:,}' if r['problems'] != '' else '–'),
        Column('pass@1 test', lambda r: page.share(r, 'test') if r['test'] != '' else r['reason'] or '–'),
        Column('against', lambda r: r['against'] or '–', text=True),
        Column('difference', cells.difference),
        Column('detectable', cells.detectable),
    ]
    seeds = max(row['seeds'] for row in rows)
    note = f'Cost and samples: a problem. Counts of the first of {seeds} training seeds; differences in points, paired.'
    first = next((i for i, row in enumerate(rows) if row['against']), 0)
    return page.table(f'{model} is trained, {budget} budget', note, columns, rows, [first])
