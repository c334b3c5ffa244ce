"""A problem and its solutions side by side, to be read. No JAX here."""

import html

from cosample_jax.notebook.rows import Rows
from cosample_jax.records import VALID, WRONG, Problem
from cosample_jax.report.drawing import BLUE, GREEN, ORANGE

RIGHT, FALSE, MISSED, UNGRADED = 'right', 'right answer, wrong reasoning', 'wrong', 'not graded'
_COLOURS = {RIGHT: GREEN, FALSE: ORANGE, MISSED: '#c0392b', UNGRADED: BLUE}
_SOFT = 'opacity:.68;font-size:.9em'


class Reading:
    """A problem with a few samples of each model; in a notebook columns, printed text."""

    def __init__(self, problem: Problem, samples: Rows, each: int):
        self.problem = problem
        self._columns: dict[str, list[dict]] = {model: [] for model in dict.fromkeys(row['model'] for row in samples)}
        for model, column in self._columns.items():
            column += _spread([row for row in samples if row['model'] == model], each)

    def __str__(self) -> str:
        lines = [f'{self.problem.id}: {self.problem.question}', f'answer: {self.problem.answer}']
        for column in self._columns.values():
            for row in column:
                lines += ['', f'{row["model"]}, sample {row["sample_index"]} [{kind(row)}]', row['text'].strip()]
                lines += [f'  {judge}: {said}' for judge, said in _verdicts(row)]
        return '\n'.join(lines)

    def _repr_html_(self) -> str:
        problem = self.problem
        level = f', level {problem.level}' if problem.level else ''
        reference = _details('Reference solution', problem.solution) if problem.solution else ''
        head = (
            f'<div style="{_SOFT}">{html.escape(problem.id)}{level}</div>'
            f'<div style="font-size:1.05em;margin:.2rem 0 .3rem;max-width:60rem">{html.escape(problem.question)}</div>'
            f'<div>Answer: <b>{html.escape(problem.answer)}</b></div>{reference}'
        )
        columns = ''.join(
            f'<div style="flex:1 1 17rem;min-width:15rem"><div style="font-weight:600;margin:.5rem 0">'
            f'{html.escape(model)}</div>{"".join(map(_card, rows))}</div>'
            for model, rows in self._columns.items()
        )
        return f'<div>{head}<div style="display:flex;flex-wrap:wrap;gap:0 1.2rem">{columns}</div></div>'


def kind(row: dict) -> str:
    """What a row of samples is: wrong as soon as the answer is, false as soon as a judge says so."""
    if row['correct'] == '':
        return UNGRADED
    if not row['correct']:
        return MISSED
    return FALSE if any(said.startswith(WRONG) for _, said in _verdicts(row)) else RIGHT


def _verdicts(row: dict) -> list[tuple[str, str]]:
    """(judge, what it says and why) of those that were asked."""
    said = {name: (row[name], row[f'{name}_reason']) for name in row if f'{name}_reason' in row and row[name]}
    # A reason may begin with the verdict.
    return [
        (j, why if why.startswith(what) else ': '.join(filter(None, (what, why)))) for j, (what, why) in said.items()
    ]


def _spread(rows: list[dict], count: int) -> list[dict]:
    """So many, one of each kind and then the others, in the order of sampling."""
    firsts: dict[str, dict] = {}
    for row in rows:
        firsts.setdefault(kind(row), row)
    first = list(firsts.values())
    chosen = (first + [row for row in rows if row not in first])[:count]
    return sorted(chosen, key=lambda row: row['sample_index'])


def _card(row: dict) -> str:
    colour = _COLOURS[kind(row)]
    answer = f' · {html.escape(row["answer"])}' if row['answer'] else ''
    marks = {VALID: '✓', WRONG: '✗'}
    said = ''.join(
        f'<div style="{_SOFT}">{marks.get(row[judge], "·")} {html.escape(judge)}: {html.escape(words)}</div>'
        for judge, words in _verdicts(row)
    )
    return (
        f'<div style="border:1px solid rgba(128,128,128,.28);border-left:4px solid {colour};border-radius:6px;'
        f'padding:.5rem .75rem;margin:0 0 .6rem">'
        f'<div style="{_SOFT}">sample {row["sample_index"]} · <span style="color:{colour};font-weight:700">'
        f'{kind(row)}</span>{answer}</div>'
        f'<div style="white-space:pre-wrap;margin:.3rem 0">{html.escape(row["text"].strip())}</div>{said}</div>'
    )


def _details(title: str, text: str) -> str:
    return (
        f'<details style="margin:.3rem 0"><summary style="cursor:pointer;{_SOFT}">{title}</summary>'
        f'<div style="white-space:pre-wrap;padding:.3rem 0 .3rem 1rem">{html.escape(text)}</div></details>'
    )
