"""The figures, each a function from table rows to a matplotlib figure."""

from collections.abc import Sequence

from cosample_jax.report import drawing, verdict
from cosample_jax.report.drawing import (
    BLUE,
    EDGE,
    GREY,
    GRID,
    INK,
    LIGHT_ORANGE,
    METRIC_LABELS,
    MUTED,
    PALE,
    PAPER,
    STYLES,
    canvas,
    marks,
    styles_of,
)


def quality_curve(rows: Sequence[dict], metric: str, budgets: dict[str, dict[str, float]]):
    """`metric` of each model against k, with 95% bands; the budgets' points are marked.

    Args:
        rows: the `curves` table.
        metric: 'coverage', 'diversity' or 'diversity_skeleton'.
        budgets: budget -> model -> samples a problem; may be empty.
    """
    with drawing.style():
        figure, axis = canvas()
        drawing.curves(axis, rows, 'k', metric, budgets)
        axis.margins(y=0.14)
        top = max(row['k'] for row in rows)
        ticks = [k for k in (1, 2, 3, 5, 10, 20, 30, 50, 100, 300, 1000, 3000, 10000) if k <= top]
        ticks += [top] if top > 1.3 * ticks[-1] else []
        axis.set_xticks(ticks, [f'{k:,}' for k in ticks])
        axis.set_xticks([], minor=True)
        axis.set_xlabel('samples a problem (k)')
        axis.set_ylim(bottom=0)
        axis.set_ylabel(METRIC_LABELS[metric])
        figure.legend(*axis.get_legend_handles_labels(), loc='outside upper center', ncols=2)
    return figure


def levels(rows: Sequence[dict]):
    """Coverage by difficulty level of one comparison (rows of `by_level` of one budget)."""
    with drawing.style():
        figure, axis = canvas()
        pair = [('a', rows[0]['model_a']), ('b', rows[0]['model_b'])]
        for i, ((side, model), look) in enumerate(zip(pair, styles_of([m for _, m in pair]).values(), strict=True)):
            x = [row['level'] + (-0.1, 0.1)[i] for row in rows]
            y, low, high = ([100 * r[f'{side}{end}'] for r in rows] for end in ('', '_low', '_high'))
            errors = error_bars(y, low, high)
            axis.errorbar(x, y, errors, fmt='none', ecolor=look[0], elinewidth=1.6, capsize=3)
            k = rows[0][f'k_{side}']
            axis.plot(
                x,
                y,
                linestyle=look[2],
                linewidth=1.4,
                markersize=8,
                markeredgewidth=1.8,
                **marks(look),
                label=f'{model}, {k:g} sample{"s" if k != 1 else ""}',
            )
        axis.set_xticks([row['level'] for row in rows], [f'{row["level"]}\nn={row["problems"]}' for row in rows])
        axis.set_xlabel('difficulty level')
        axis.set_ylabel('problems solved, %')
        axis.set_ylim(-3, 104)
        axis.grid(axis='y', color=GRID, linewidth=0.8)
        figure.legend(loc='outside upper center', ncols=2)
    return figure


def error_bars(y, low, high):
    return [
        [max(0, v - b) for v, b in zip(y, low, strict=True)],
        [max(0, b - v) for v, b in zip(y, high, strict=True)],
    ]


def overlap(rows: Sequence[dict]):
    """Which problems each side solved, one stacked bar a comparison."""
    with drawing.style():
        figure, axis = canvas(height=1.3 + 0.62 * len(rows))
        for place, row in enumerate(rows):
            left = 0
            for part, colour, hatch, ink in (
                ('both', GREY, '', PAPER),
                ('only_a', BLUE, '\\\\\\', PAPER),
                ('only_b', LIGHT_ORANGE, '///', INK),
                ('neither', PALE, '', INK),
            ):
                share = 100 * row[part] / row['problems']
                axis.barh(place, share, left=left, color=colour, hatch=hatch, edgecolor=PAPER, height=0.62)
                if share >= 5:
                    axis.text(
                        left + share / 2,
                        place,
                        f'{share:.0f}',
                        ha='center',
                        va='center',
                        color=ink,
                        fontsize=10,
                        bbox={'facecolor': colour, 'edgecolor': 'none', 'pad': 1.2} if hatch else None,
                    )
                left += share
        axis.set_yticks(range(len(rows)), [overlap_label(row) for row in rows])
        axis.invert_yaxis()
        axis.set_xlim(0, 100)
        axis.set_xlabel('share of the problems, %')
        axis.spines['left'].set_visible(False)
        axis.tick_params(axis='y', length=0)
        import matplotlib.patches as patches

        a, b = rows[0]['model_a'], rows[0]['model_b']
        same = all((row['model_a'], row['model_b']) == (a, b) for row in rows)
        labels = (
            'both',
            f'only {a if same else "the first"}',
            f'only {b if same else "the second"}',
            'neither',
        )
        looks = ((GREY, ''), (BLUE, '\\\\\\'), (LIGHT_ORANGE, '///'), (PALE, ''))
        handles = [
            patches.Patch(facecolor=c, hatch=h, edgecolor=PAPER if h else EDGE, label=label)
            for (c, h), label in zip(looks, labels, strict=True)
        ]
        figure.legend(handles=handles, loc='outside upper center', ncols=4, handlelength=1.2, columnspacing=1.2)
    return figure


def overlap_label(row: dict) -> str:
    if row['budget'] == 'pool':
        return f'{row["model_a"]} / {row["model_b"]}'
    return f'{row["budget"]} budget,\nequal {"cost" if row["matching"] == "compute" else "number"}'


def false_positives(rows: Sequence[dict]):
    """False-positive rate of each source at each budget with Wilson intervals (rows of `kept` that were
    judged).
    """
    with drawing.style():
        figure, axis = canvas(height=1.2 + 0.5 * len(rows))
        looks = styles_of(list(dict.fromkeys(row['model'] for row in rows)))
        for place, row in enumerate(rows):
            look = looks[row['model']]
            value, low, high = (100 * row[name] for name in ('fpr', 'fpr_low', 'fpr_high'))
            axis.plot([low, high], [place, place], color=look[0], linewidth=2.2)
            axis.plot(value, place, markersize=9, markeredgewidth=1.8, **marks(look))
        axis.set_yticks(range(len(rows)), [f'{row["model"]}, {row["budget"]}' for row in rows])
        axis.invert_yaxis()
        axis.set_ylim(len(rows) - 0.4, -0.6)
        axis.set_xlim(left=0)
        axis.set_xlabel('kept solutions with wrong reasoning, %')
        axis.grid(axis='x', color=GRID, linewidth=0.8)
    return figure


def forest(rows: Sequence[dict]):
    """Weak data minus strong data, pass@1 in points, with intervals (rows of `differences`, pass@1, both trained, with
    `p_holm`). Filled marks are differences beyond luck among their family.
    """
    with drawing.style():
        # Rows of one model and budget stand together, test above functional.
        places = {key: i for i, key in enumerate(dict.fromkeys((r['model'], r['budget']) for r in rows))}
        splits = list(dict.fromkeys(row['split'] for row in rows))
        figure, axis = canvas(width=5.2, height=1.4 + 0.46 * len(places))
        axis.axvline(0, color=INK, linewidth=1)
        for row in rows:
            first = row['split'] == splits[0]
            y = places[row['model'], row['budget']] + (0 if len(splits) == 1 else -0.14 if first else 0.16)
            low, high = 100 * row['difference_low'], 100 * row['difference_high']
            clear = verdict.higher(row) or verdict.excludes_zero(row)
            colour = (STYLES['weak'] if row['difference'] > 0 else STYLES['strong'])[0] if clear else MUTED
            axis.plot([low, high], [y, y], color=colour, linewidth=2.4 if first else 1.5, solid_capstyle='butt')
            axis.plot(
                100 * row['difference'],
                y,
                marker='o' if first else 'd',
                markersize=8 if first else 6.5,
                color=colour,
                markerfacecolor=colour if verdict.higher(row) else PAPER,
                markeredgewidth=1.6,
            )
        names = [f'{model}, {budget}' for model, budget in places]
        axis.set_yticks(range(len(places)), names)
        axis.set_ylim(len(places) - 0.5, -0.5)
        reach = (
            max([abs(100 * row[end]) for row in rows for end in ('difference_low', 'difference_high')], default=5) or 5
        )
        axis.set_xlim(-1.12 * reach, 1.12 * reach)
        axis.set_xlabel('pass@1, points:  ← strong better  |  weak better →')
        axis.grid(axis='x', color=GRID, linewidth=0.8)
        if len(splits) > 1:
            for i, split in enumerate(splits):
                axis.plot(
                    [],
                    [],
                    marker='od'[i],
                    linestyle='none',
                    color=MUTED,
                    label=split,
                    markersize=(8, 6.5)[i],
                )
            figure.legend(loc='outside upper right', ncols=2, title=None)
    return figure


def scores(rows: Sequence[dict], split: str, top: float):
    """pass@1 on one split of every cell of one trained model, with intervals (rows of `scores`); `top` ends
    the axis.
    """
    with drawing.style():
        figure, axis = canvas(width=4.0, height=1.3 + 0.42 * len(rows))
        for place, row in enumerate(rows):
            look = STYLES[row['data']]
            if row[split] == '':
                axis.text(
                    0.03,
                    place,
                    'not trained',
                    va='center',
                    fontsize=10,
                    style='italic',
                    color=MUTED,
                    transform=axis.get_yaxis_transform(),
                )
                continue
            value, low, high = (100 * row[f'{split}{end}'] for end in ('', '_low', '_high'))
            axis.plot([low, high], [place, place], color=look[0], linewidth=2.2)
            axis.plot(value, place, markersize=8.5, markeredgewidth=1.8, **marks(look))
        axis.set_title(f'{rows[0]["model"]} is trained', fontsize=11, loc='left', fontweight='bold')
        axis.set_yticks(range(len(rows)), [cell_label(row) for row in rows])
        axis.set_ylim(len(rows) - 0.4, -0.6)
        axis.set_xlim(0, 100 * top)
        axis.grid(axis='x', color=GRID, linewidth=0.8)
        axis.set_xlabel(f'pass@1, {split}, %')
    return figure


def cell_label(row: dict) -> str:
    if row['data'] == 'base':
        return 'base'
    return ', '.join(filter(None, (row['data'], row['budget'])))


def votes(rows: Sequence[dict], split: str, top: float):
    """maj@k on one split against k for one trained model at one budget (rows of `scores`); `top` ends the
    axis.
    """
    with drawing.style():
        ks = vote_counts(rows[0], split)
        figure, axis = canvas(width=4.0, height=3.4)
        for row in rows:
            if row[f'{split}_maj@{ks[0]}'] != '':
                look = STYLES[row['data']]
                y = [100 * row[f'{split}_maj@{k}'] for k in ks]
                axis.plot(ks, y, linestyle=look[2], linewidth=1.8, markersize=7, label=row['data'], **marks(look))
        axis.set_xscale('log', base=2)
        axis.set_xticks(ks, [str(k) for k in ks])
        axis.set_title(f'{rows[0]["model"]} is trained', fontsize=11, loc='left', fontweight='bold')
        axis.set_xlabel('samples voting (k)')
        axis.set_ylabel(f'maj@k, {split}, %')
        axis.set_ylim(0, 100 * top)
        axis.grid(color=GRID, linewidth=0.8)
        axis.legend(loc='lower right', ncols=2)
    return figure


def vote_counts(row: dict, split: str) -> list[int]:
    """The k of the columns `<split>_maj@<k>`."""
    ends = (name.removeprefix(f'{split}_maj@') for name in row if name.startswith(f'{split}_maj@'))
    return [int(end) for end in ends if end.isdigit()]
