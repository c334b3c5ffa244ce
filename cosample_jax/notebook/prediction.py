"""What a run would cost and need, as tables of a notebook."""

import html

from ml_collections import ConfigDict

from cosample_jax import compiled
from cosample_jax.notebook.rows import Rows

_GIB = 2**30


def predict(config: ConfigDict, topology: str = '', workdir: str = '') -> 'Prediction':
    """What a run of this configuration would cost, and whether it fits, before anything is spent.

    Args:
        config: Of `load_config`.
        topology: A TPU slice such as 'v5e:2x4', whose memory and speed are asked for; '' = this machine.
        workdir: Of a pilot: the lengths of its samples stand beside the assumed ones.

    Returns:
        A dict, as `cosample plan` prints it; its `tables` show themselves in a notebook, and `problem` says what does
        not fit ('' when everything does).

    Raises:
        UserError: no such slice, or a mesh that is not the slice's.

    >>> import cosample_jax as cs
    >>> prediction = cs.predict(cs.load_config('configs/arithmetic.py:size=smoke'))
    >>> [row['a problem'] for row in prediction.tables['budget'].where(budget='low')]
    [1.0, 3.0]
    >>> prediction.problem
    ''
    """
    compiled.keep()
    from cosample_jax import devices, plan
    from cosample_jax.errors import UserError
    from cosample_jax.workdir import Workdir

    slice_ = devices.parse_slice(topology) if topology else None
    told = Prediction(plan.predict(config, slice_, Workdir(workdir) if workdir else None))
    try:
        plan.require_fit(told)
    except UserError as error:
        told.problem = str(error)
    return told


class Prediction(dict):
    """What `cosample_jax.plan.predict` returns, with its `tables` (name -> `Rows`)."""

    problem = ''

    @property
    def tables(self) -> dict[str, Rows]:
        """'budget', 'cost' (by each lens) and 'memory'; 'stages' of this machine, 'training' on a slice; 'recipes' and
        'apis' where there are any.
        """
        made = {'budget': _budget(self['budget']), 'cost': _cost(self['budget']), 'memory': _memory(self['memory'])}
        if 'training' in self:
            made['training'] = _training(self['training'])
        else:
            made['stages'] = _stages(self['stages'])
        made |= {name: Rows(self[name], name) for name in ('recipes', 'apis') if self[name]}
        return made

    def _repr_html_(self) -> str:
        parts = [table._repr_html_() for table in self.tables.values()] + [html.escape(note) for note in self['notes']]
        return ''.join(f'<div style="margin-bottom:1rem">{part}</div>' for part in parts)


def _budget(section: dict) -> Rows:
    rows = [
        {'budget': r['budget'], 'model': r['model'], 'a problem': float(r['mean']), 'samples': r['samples']}
        | {'solutions': r['lengths'], 'tokens': r['tokens']}
        for r in section['rows']
    ]
    return Rows(rows, f'Budget, {section["problems"]:,} problems')


def _cost(section: dict) -> Rows:
    from cosample_jax import spending

    matches = {(r['lens'], r['lengths'], r['budget'], r['model']): r for r in section['matched']}
    rows = []
    for lens in section['rows'][0]['cost']:
        unit = 3600 if lens == 'slice_seconds' else 1  # chip-hours
        for row in section['rows']:
            match = matches.get((lens, row['lengths'], row['budget'], row['model']))
            made = {'by': spending.LENSES[lens], 'solutions': row['lengths'], 'budget': row['budget']}
            made |= {'model': row['model'], 'a problem': float(row['mean']), 'cost': row['cost'][lens] / unit}
            made |= {'mismatch': f'{row["mismatch"][lens]:+.1%}' if match else ''}
            rows.append(made | {'matched, a problem': float(match['mean']) if match else ''})
    note = (
        f'Mismatch: what a model costs more than the {spending.REFERENCE} one. Matched: the samples a problem of equal '
        'cost by that lens. Assumed solutions are as long as the gold ones.'
    )
    return Rows(rows, 'Cost', note)


def _memory(section: dict) -> Rows:
    parts = {'weights': 'weights', 'kv': 'KV cache', 'optimizer': 'optimizer', 'temporaries': 'temporaries'}
    rows = [
        {'model': f'{r["model"]} {r["variant"]}', 'stage': r['stage']}
        | {shown: r[part] / _GIB for part, shown in parts.items()}
        | {'total': r['total'] / _GIB, 'fits': r['total'] <= section['bytes'], 'what would fit': r.get('fix', '')}
        for r in section['rows']
    ]
    return Rows(rows, f'Memory in GiB: {section["device"]} has {section["bytes"] / _GIB:.2f}')


def _training(section: list[dict]) -> Rows:
    rows = [
        {'model': f'{r["model"]} {r["variant"]}', 'rows': r['shape']['rows'], 'tokens a row': r['shape']['row_length']}
        | {'steps a second': 1 / r['seconds'], 'bound by': r['bound'], 'MFU': r['mfu']}
        | {f'hours, {level}': hours for level, hours in r['hours'].items()}
        for r in section
    ]
    return Rows(rows, 'Fine-tuning, at most as fast', 'A model of data sheets, no measurement; without validation.')


def _stages(section: dict) -> Rows:
    rows = [
        {'stage': stage, 'samples': row.get('samples') or '', 'tokens': row.get('tokens') or ''}
        | {'seconds': float(row['seconds'])}
        for stage, row in section.items()
    ]
    note = 'Seconds are predicted for this machine, from how fast it multiplies matrices.'
    return Rows(rows, f'Stages, {sum(row["seconds"] for row in rows):,.0f} seconds in all', note)
