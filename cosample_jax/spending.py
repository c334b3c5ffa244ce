"""What the pools of a run cost, by every lens of :mod:`cosample_jax.budget`: a section of the plan, and its tables.

Solutions are assumed to be as long as the gold ones, all models' alike. Once there is a pilot, a pool of the same
models and prompts, the lengths measured on it stand beside that, and the chip-seconds that it took.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

from cosample_jax import cells, config_schema, devices, memory, roofline, sharding
from cosample_jax import config as config_lib
from cosample_jax.budget import Cost, Lengths, chip_cost, flops_cost, matched, params_cost, price_cost
from cosample_jax.gemma.config import variant
from cosample_jax.records import Problem, read_json

REFERENCE = 'strong'  # what the others are matched to
JUDGE_TOKENS = 150  # about as many as the words of a judge's question have
LENSES = {
    'params': '2P FLOPs',
    'flops': 'FLOPs',
    'price': 'US$',
    'chip_seconds': 'chip-s',
    'slice_seconds': 'chip-h',
}
# How long solutions are, and what they take of a device, depends on these and on no count of problems or samples.
_OF_THE_PILOT = ('task.name', 'task.shots', 'sampling.temperature', 'sampling.top_k', 'sampling.top_p')
_OF_THE_PILOT += ('sampling.max_new_tokens',)
_OF_ITS_MODELS = ('variant', 'init', 'chat')


class Pilot(NamedTuple):
    """What was measured on pools: the mean lengths of each model's samples, and, of those whose run says so, the
    chip-seconds that a token took, on ``device``.
    """

    lengths: dict[str, Lengths]
    seconds_per_token: dict[str, float]
    device: str


class Slice(NamedTuple):
    """A TPU slice to sample on, and the shapes of each model's run on it."""

    chips: devices.Slice
    shapes: dict[str, memory.Sampling]


def compared(config) -> list[str]:
    """The sources, and what they are matched to."""
    return list(dict.fromkeys((REFERENCE, *config.roles.sources)))


def pilot(config, workdir, assumed: dict[str, Lengths]) -> tuple[Pilot | None, str]:
    """What the training pools of a workdir tell, unfinished ones too; or None, and why not ('' where there are none).

    A pool tells whole prompts: the share of them that is common to all is that of `assumed`, the lengths of each model,
    which may be a guess of another tokenizer.
    """
    models = compared(config)
    tables = {model: workdir.pool('train', model).table() for model in models if len(workdir.pool('train', model))}
    if not tables:
        return None, ''
    if missing := [model for model in models if model not in tables]:
        return None, f'{workdir.root} has no samples of {" and ".join(missing)}: no lengths are taken from it'
    fields = _OF_THE_PILOT + tuple(f'models.{model}.{field}' for model in models for field in _OF_ITS_MODELS)
    there = config_lib.flatten(read_json(workdir.path('config.json')))
    here = config_lib.flatten(config_lib.to_json(config))
    if differing := next((field for field in fields if there.get(field) != here[field]), None):
        return None, (
            f'{workdir.root} was sampled with {differing} {there.get(differing)!r}, not {here[differing]!r}: '
            'no lengths are taken from it'
        )
    lengths = {}
    for model, table in tables.items():
        prompts, drawn = (table.column(column).to_pylist() for column in ('prompt_tokens', 'num_tokens'))
        if not (all(prompts) and all(drawn)):
            return None, f'{workdir.root} has imported samples of {model}, of unknown length: none is taken from it'
        prompt, like = sum(prompts) / len(table), assumed[model]
        question = max(1.0, prompt * like.question / (like.prefix + like.question))
        lengths[model] = Lengths(prompt - question, question, sum(drawn) / len(table))
    told = workdir.done_info('sample') if workdir.is_done('sample') else {}
    told = {model: told[model] for model in models if 'chip_seconds' in told.get(model, {})}
    seconds = {model: counters['chip_seconds'] / counters['drawn'] for model, counters in told.items()}
    device = ' and '.join(sorted({counters['device'] for counters in told.values()}))
    return Pilot(lengths, seconds, device), ''


def section(
    config,
    problem_ids: Sequence[str],
    assumed: dict[str, Lengths],
    measured: Pilot | None = None,
    slice_: Slice | None = None,
) -> dict:
    """``{"rows": [...], "matched": [...], ...}``: what the run's own counts cost under each lens that something is
    known for, and what counts each lens would match, at both budgets.

    A row is a model at a budget under lengths that are ``assumed`` or ``measured``: its ``samples`` (their ``mean`` a
    problem), the ``tokens`` they have, their ``cost`` and the ``mismatch`` of each lens: what it costs more than the
    strong model's share, as a part of that. A row of ``matched`` is a lens: ``mean`` and ``mismatch`` after rounding.
    """
    models = compared(config)
    rows, matches = [], []
    everything = {'assumed': assumed} | ({'measured': measured.lengths} if measured else {})
    for told, lengths in everything.items():
        of_models = {model: lengths[model] for model in models}
        costs = lens_costs(config, of_models, measured, slice_)
        for level in config_schema.LEVELS:
            drawn = {
                model: sum(cells.sample_count(config, model, level, each) for each in problem_ids) for model in models
            }
            totals = {
                lens: {model: of[model].total(len(problem_ids), drawn[model]) for model in models}
                for lens, of in costs.items()
            }
            for model in models:
                row = {'budget': level, 'model': model, 'source': model in config.roles.sources, 'lengths': told}
                row |= {'mean': drawn[model] / len(problem_ids), 'samples': drawn[model]}
                row |= {'solution': lengths[model].generated, 'tokens': round(drawn[model] * lengths[model].generated)}
                row['cost'] = {lens: of[model] for lens, of in totals.items()}
                row['mismatch'] = {lens: of[model] / of[REFERENCE] - 1 for lens, of in totals.items()}
                rows.append(row)
            for lens, of in costs.items():
                found = matched(of, REFERENCE, config.budget.strong[level], problem_ids)
                for model in models:
                    if model != REFERENCE:
                        row = {'budget': level, 'model': model, 'lens': lens, 'lengths': told}
                        matches.append(row | dataclasses.asdict(found[model]))
    return {
        'problems': len(problem_ids),
        'rows': rows,
        'matched': matches,
        'lengths': {told: {m: dataclasses.asdict(each[m]) for m in models} for told, each in everything.items()},
        'slice': {'name': slice_.chips.name, 'chips': slice_.chips.chips} if slice_ else {},
        'device': measured.device if measured else '',
        'prices': {model: _price(config, model) for model in models} if 'price' in costs else {},
    }


def _price(config, model: str) -> dict:
    """As it is paid: a discount for jobs counts where they are asked for."""
    discount = config_lib.price(config, model).batch_discount
    return config.models[model].price.to_dict() | {'batch_discount': discount}


def lens_costs(config, lengths: dict[str, Lengths], measured: Pilot | None, slice_: Slice | None = None):
    """lens -> model -> Cost, of the lenses that something is known for of every model."""
    costs: dict[str, dict[str, Cost]] = {}
    if all(config_lib.num_params(config, m) for m in lengths):
        costs['params'] = {m: params_cost(config_lib.num_params(config, m), each) for m, each in lengths.items()}
    if all(config.models[m].variant for m in lengths):
        costs['flops'] = {m: flops_cost(variant(config.models[m].variant), each) for m, each in lengths.items()}
    prices = {m: config_lib.price(config, m) for m in lengths}
    if all(price.output for price in prices.values()):
        costs['price'] = {m: price_cost(prices[m], each) for m, each in lengths.items()}
    if measured and all(m in measured.seconds_per_token for m in lengths):
        costs['chip_seconds'] = {m: chip_cost(measured.seconds_per_token[m], each) for m, each in lengths.items()}
    if slice_ and all(m in slice_.shapes for m in lengths):
        costs['slice_seconds'] = {
            m: chip_cost(_seconds_per_token(config, m, slice_, each), each) for m, each in lengths.items()
        }
    return costs


def _seconds_per_token(config, model: str, slice_: Slice, lengths: Lengths) -> float:
    """Chip-seconds at least, by `roofline.sampling`: rows have drawn half of a mean sample."""
    sizes = memory.Sizes(*(config.mesh[axis] for axis in sharding.MESH_AXES))
    shape = slice_.shapes[model]
    filled = min(1.0, lengths.generated / shape.new_tokens) / 2
    tokens = roofline.sampling(variant(config.models[model].variant), slice_.chips.kind, sizes, shape, filled)
    return slice_.chips.chips / tokens


def apis(config, problems: Sequence[Problem], lengths: dict[str, Lengths]) -> list[dict]:
    """What each model behind an API is asked, and what that costs: ``requests``, tokens ``read`` and ``written``,
    ``usd``, ``usd_cached`` when a cache has the shared prompt, and ``usd_most`` when every sample is as long as it may
    be. Prices are those of ``as_of``, with the discount of jobs where these are asked for; 0 where none is known.

    A judge reads a question and a solution of every sample that it judges, and writes as much as it may.
    """
    rows = []
    longest = config.sampling.max_new_tokens
    for name in config_lib.api_models(config):
        entry, price = config_lib.all_models(config)[name], config_lib.price(config, name)
        if name in cells.sources(config):
            counts = cells.pool_counts(config, name, problems).values()
            each = lengths.get(name) or next(iter(lengths.values()))
            requests = sum(math.ceil(count / entry.api.samples) for count in counts)
            rows.append(_api_row(name, 'pool', entry, price, requests, sum(counts), each, longest))
        if name in config.judge.by:
            pools = len(cells.sources(config))
            asked = pools * (config.judge.samples or sum(cells.pool_counts(config, 'strong', problems).values()))
            of = next(iter(lengths.values()))
            each = Lengths(JUDGE_TOKENS, of.question + of.generated, config.judge.max_new_tokens)
            rows.append(_api_row(name, 'judging', entry, price, asked, asked, each, config.judge.max_new_tokens))
    return rows


def _api_row(name: str, does: str, entry, price, requests: int, drawn: int, each: Lengths, longest: int) -> dict:
    prefix, read = requests * each.prefix, requests * (each.prefix + each.question)
    written, most = drawn * each.generated, drawn * longest
    batch = entry.api.batch
    return {
        'model': name,
        'init': entry.init,
        'does': does,
        'requests': requests,
        'samples': drawn,
        'read': round(read),
        'written': round(written),
        'usd': price.of(read, written, batch=batch),
        'usd_cached': price.of(read, written, prefix, batch),
        'usd_most': price.of(read, most, batch=batch),
        'as_of': entry.price.as_of,
        'source': entry.price.source,
    }


def apis_table(rows: list[dict]):
    """The rows of `apis` as a table."""
    from rich.table import Table

    columns = ('samples', 'asks', 'M in', 'M out', 'US$', 'cached', 'most')
    table = Table('model', 'for', *columns, title='models behind APIs, millions of tokens')
    for column in table.columns[2:]:
        column.justify = 'right'
    table.columns[0].no_wrap = table.columns[1].no_wrap = True
    for row in rows:
        counts = (f'{row[column]:,}' for column in ('samples', 'requests'))
        tokens = (f'{row[column] / 1e6:,.3g}' for column in ('read', 'written'))
        costs = (f'{row[column]:,.2f}' for column in ('usd', 'usd_cached', 'usd_most'))
        table.add_row(row['model'], row['does'], *counts, *tokens, *costs)
    total = (f'{sum(row[column] for row in rows):,.2f}' for column in ('usd', 'usd_cached', 'usd_most'))
    table.add_section()
    table.add_row('in all', '', '', '', '', '', *total)
    dated = {row['model']: f'{row["as_of"]} ({row["source"]})' if row['as_of'] else 'unknown' for row in rows}
    prices = '; '.join(f'{model} {told}' for model, told in dated.items())
    table.caption = f'cached: a cache has the prompt; most: all samples as long as they may be; prices: {prices}'
    return table


def recipes(config, problems: Sequence[Problem]) -> list[dict]:
    """What each recipe asks for: ``samples`` of each model and their ``cost`` in samples of the strong one (by
    config.budget.lens, equally long), a problem of all of `problems`; with an allocation, before that moves them.
    """
    rows = []
    for name, entry in config.recipes.items():
        here = cells.chosen(config, name, problems)
        mean = {m: sum(cells.recipe_count(config, name, m, p) for p in here) / len(problems) for m in entry.samples}
        cost = sum(count / cells.ratio(config, model, config.budget.lens) for model, count in mean.items())
        told = {'recipe': name, 'budget': entry.budget, 'samples': mean, 'cost': cost, 'filter': entry.filter}
        rows.append(told | {'allocation': entry.allocation, 'against': entry.against or REFERENCE})
    return rows


def recipes_table(rows: list[dict]):
    """The rows of `recipes` as a table."""
    from rich.table import Table

    table = Table('recipe', 'steps', 'samples a problem', 'cost', 'kept', 'against', title='recipes')
    table.columns[3].justify = 'right'
    table.columns[0].no_wrap = table.columns[-1].no_wrap = True
    for row in rows:
        drawn = ' + '.join(f'{count:,.4g} {model}' for model, count in row['samples'].items())
        filter_ = {'answer': 'right', 'none': 'all'}.get(row['filter'], row['filter'])
        if row['allocation'] != 'uniform':
            drawn += f', {row["allocation"]}'
        table.add_row(row['recipe'], row['budget'], drawn, f'{row["cost"]:,.3g}', filter_, row['against'])
    table.caption = 'cost: in samples of the strong model, by what the budget is matched by'
    return table


def print_tables(console, section: dict) -> None:
    """The counts of the run; what they cost by each lens, and what counts it would match; what all this assumes."""
    console.print(_counts_table(section))
    console.print(_costs_table(section))
    console.print(*_notes(section), sep='\n', style='dim', highlight=False)


def _counts_table(section: dict):
    from rich.table import Table

    columns = ('budget', 'model', 'a problem', 'samples', *(f'tokens, {told}' for told in section['lengths']))
    table = Table(*columns, title=f'budget, {section["problems"]:,} problems')
    for column in table.columns[2:]:
        column.justify = 'right'
    for row in section['rows']:
        if row['lengths'] == 'assumed':
            same = (r for r in section['rows'] if (r['budget'], r['model']) == (row['budget'], row['model']))
            tokens = (f'{each["tokens"]:,}' for each in same)
            table.add_row(row['budget'], row['model'], f'{row["mean"]:,.4g}', f'{row["samples"]:,}', *tokens)
    return table


def _costs_table(section: dict):
    from rich.table import Table

    others = list(dict.fromkeys(row['model'] for row in section['matched']))
    columns = [name for model in others for name in (model, f'{model}, matched')]
    table = Table('by', 'solutions', 'budget', REFERENCE, *columns, title='cost')
    for column in table.columns[3:]:
        column.justify = 'right'
    rows = {(row['lengths'], row['budget'], row['model']): row for row in section['rows']}
    matches = {(row['lens'], row['lengths'], row['budget'], row['model']): row for row in section['matched']}
    for lens in section['rows'][0]['cost']:
        for told in section['lengths']:
            for level in config_schema.LEVELS:
                cells_ = []
                for model in others:
                    row, match = rows[told, level, model], matches[lens, told, level, model]
                    cells_.append(f'{_cost(lens, row["cost"][lens])} {row["mismatch"][lens]:+.1%}')
                    cells_.append(f'{match["mean"]:,.4g} {match["mismatch"]:+.1%}')
                table.add_row(
                    LENSES[lens], told, level, _cost(lens, rows[told, level, REFERENCE]['cost'][lens]), *cells_
                )
        table.add_section()
    return table


def _cost(lens: str, cost: float) -> str:
    if lens == 'price':
        return f'{cost:,.2f}'
    if lens in ('params', 'flops'):
        return f'{cost:.2e}'
    return f'{cost / 3600 if lens == "slice_seconds" else cost:.3g}'


def _told(lengths: dict[str, dict]) -> str:
    """'weak 110 (prompt 900 + 60), strong 90 (prompt 900 + 60)'."""
    each = (
        f'{model} {told["generated"]:,.0f} (prompt {told["prefix"]:,.0f} + {told["question"]:,.0f})'
        for model, told in lengths.items()
    )
    return ', '.join(each)


def _notes(section: dict) -> list[str]:
    lenses = section['rows'][0]['cost']
    notes = [
        f'+: more than the {REFERENCE} model; matched: samples a problem of equal cost, and how far off when rounded',
        *(f'{told} tokens of a solution: {_told(each)}' for told, each in section['lengths'].items()),
        'assumed: all models write as much as the gold solutions; prompt: what all share + the question',
        'each budget is a pool of its own, although the low one is a part of the high one',
        'FLOPs: all matrix products, the shared prefix once, a question once a problem, no padding',
    ]
    if 'price' in lenses:
        notes.append('US$: each sample pays for its whole prompt')
        notes += [
            f'  {model}, of {each["as_of"]}: {each["input"]:g} a million tokens in, {each["output"]:g} out, '
            f'{each["batch_discount"]:.0%} off ({each["source"]})'
            for model, each in section['prices'].items()
        ]
    if 'chip_seconds' in lenses:
        notes.append(
            f'chip-s: chip-seconds at what the pilot took a token, on {section["device"]}, compilation included'
        )
    if 'slice_seconds' in lenses:
        name, chips = section['slice']['name'], section['slice']['chips']
        notes.append(
            f'chip-h: chip-hours on {name} ({chips} chips), at least: a model of data sheets, decoding alone; the high '
            f'budget of the sources, {list(section["lengths"])[-1]}, takes {slice_hours(section):,.3g} hours'
        )
    return notes


def slice_hours(section: dict) -> float:
    """That drawing the high budget of the sources takes on the slice of a `section` at least, by the latest lengths."""
    latest = list(section['lengths'])[-1]
    drawn = (r for r in section['rows'] if (r['lengths'], r['budget']) == (latest, 'high') and r['source'])
    return sum(row['cost']['slice_seconds'] for row in drawn) / section['slice']['chips'] / 3600
