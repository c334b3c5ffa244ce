"""The figures of the audit, drawn as those of :mod:`figures` are."""

from collections.abc import Sequence

from cosample_jax.analysis.audit import CUT
from cosample_jax.report import drawing, figures
from cosample_jax.report.drawing import GRID, canvas, marks, styles_of


def survivors(rows: Sequence[dict]):
    """Share of the problems that keep at least n solutions against n (rows of `audit.histogram`), as steps."""
    with drawing.style():
        figure, axis = canvas(width=4.3, height=3.5)
        styles = styles_of(_sources(rows))
        budgets = list(dict.fromkeys(row['budget'] for row in rows))
        for source, style in styles.items():
            for budget in budgets:
                here = [row for row in rows if (_source(row), row['budget']) == (source, budget)]
                if not here:
                    continue
                left = total = sum(row['problems'] for row in here)
                shares = []
                for row in here:
                    shares.append(100 * left / total)
                    left -= row['problems']
                last = budget == budgets[-1]
                x = [row['survivors'] for row in here] + [here[-1]['survivors'] + 1]
                look = {'color': style[0], 'linestyle': style[2], 'alpha': 1 if last else 0.6}
                width = 2.2 if last else 1.2
                axis.step(x[1:], shares[1:] + [0], where='mid', linewidth=width, label=f'{source}, {budget}', **look)
        axis.set_xlim(left=0.5)
        axis.set_ylim(0, 100)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set_xlabel('kept solutions of a problem, at least')
        axis.set_ylabel('problems, %')
        axis.grid(color=GRID, linewidth=0.8)
        axis.legend(loc='upper right')
    return figure


def keep_rates(rows: Sequence[dict], label: str):
    """Share of the samples kept in each group, one line a source (rows of `audit.groups` of one kind and budget)."""
    with drawing.style():
        figure, axis = canvas(width=4.3, height=3.5)
        names = list(dict.fromkeys(row['group'] for row in rows))
        names.sort(key=lambda name: name == CUT)
        styles = styles_of(_sources(rows))
        for i, (source, style) in enumerate(styles.items()):
            here = [row for row in rows if _source(row) == source]
            x = [names.index(row['group']) + 0.12 * (i - (len(styles) - 1) / 2) for row in here]
            y, low, high = ([100 * row[f'rate{end}'] for row in here] for end in ('', '_low', '_high'))
            errors = figures.error_bars(y, low, high)
            axis.errorbar(x, y, errors, fmt='none', ecolor=style[0], elinewidth=1.6, capsize=3)
            joined = [place for place, row in zip(x, here, strict=True) if row['group'] != CUT]  # that is no length
            axis.plot(joined, y[: len(joined)], color=style[0], linestyle=style[2], linewidth=1.4)
            axis.plot(x, y, linestyle='none', markersize=7.5, markeredgewidth=1.8, label=source, **marks(style))
        short = ['cut' if name == CUT else name.removesuffix(' tokens') for name in names]
        axis.set_xticks(range(len(names)), short, fontsize=10 if len(names) < 6 else 9)
        axis.set_xlabel(label)
        axis.set_ylabel('samples kept, %')
        axis.set_ylim(bottom=0)
        axis.grid(axis='y', color=GRID, linewidth=0.8)
        figure.legend(loc='outside upper center', ncols=min(4, len(styles)))
    return figure


def _source(row):
    return row['source'] if row['data'] == row['source'] else f'{row["data"]}: {row["source"]}'


def _sources(rows):
    return list(dict.fromkeys(map(_source, rows)))
