"""A prediction of :mod:`cosample_jax.plan`, printed."""

from cosample_jax import devices, memory, spending

TRAINING_ASSUMPTIONS = (
    'a model of data sheets, no measurement: arithmetic, memory and links of a corner chip at their peaks, all at once',
    'every batch is the fullest, packed from the longest examples: padding is multiplied, and loss falls on all tokens',
    'layers are computed again for their gradients: 8 FLOPs a weight and token, of which MFU counts 6; LoRA: 6 and 4',
    'hours are those of one cell at one learning rate, without validation and checkpoints',
)


def print_all(prediction: dict) -> None:
    """The work of each stage and the memory of each model. Seconds are this machine's: none for another's devices."""
    from rich.console import Console
    from rich.table import Table

    here = not prediction['memory']['slice']
    table = Table('stage', 'samples', 'tokens', 'FLOPs', *(['seconds'] if here else []), title='plan')
    for column in table.columns[1:]:
        column.justify = 'right'
    for stage, row in prediction['stages'].items():
        table.add_row(
            stage,
            f'{row["samples"]:,}' if row.get('samples') else '',
            f'{row["tokens"]:,}' if row.get('tokens') else '',
            f'{row["flops"]:.1e}' if row.get('flops') else '',
            *([f'{row["seconds"]:,.0f}'] if here else []),
        )
    if here:
        total = sum(row['seconds'] for row in prediction['stages'].values())
        table.add_section()
        table.add_row('in all', '', '', '', f'{total:,.0f}')
        speed = prediction['matmul_gflops']
        table.caption = f'seconds: a model for a machine that multiplies matrices at {speed:g} GFLOP/s'
    console = Console()
    console.print(table)
    spending.print_tables(console, prediction['budget'])
    if prediction['recipes']:
        console.print(spending.recipes_table(prediction['recipes']))
    if prediction['apis']:
        console.print(spending.apis_table(prediction['apis']))
    console.print(_memory_table(prediction['memory']))
    for note in prediction['notes']:
        console.print(note, highlight=False)
    if not here:
        console.print(_training_table(prediction['training'], prediction['memory']['slice']))
        console.print(*TRAINING_ASSUMPTIONS, sep='\n', style='dim')
        console.print(_in_all(prediction['hours']), highlight=False)


def _memory_table(section: dict):
    from rich.table import Table

    has = f'{section["device"]} has {section["bytes"] / devices.GIB:.2f}'
    stages = {'sampling': 'sample', 'fine-tuning': 'finetune'}
    columns = ('weights', 'KV', 'optimizer', 'temp', 'total')
    table = Table('model', 'stage', *columns, title=f'memory of a device, GiB ({has})')
    for column in table.columns[2:]:
        column.justify = 'right'
    for row in section['rows']:
        figures = (f'{row[field] / devices.GIB:.2f}' for field in (*memory.Memory._fields, 'total'))
        table.add_row(f'{row["model"]} {row["variant"]}', stages[row['stage']], *figures)
    return table


def _in_all(hours: dict) -> str:
    total = hours['sampling'] + hours['training']
    return (
        f'in all at least {total:,.3g} hours, {total * hours["chips"]:,.3g} chip-hours: {hours["sampling"]:,.3g} hours '
        f'of sampling, {hours["training"]:,.3g} of fine-tuning ({hours["runs"]:,} runs: cells x learning rates)'
    )


def _training_table(rows: list[dict], name: str):
    from rich.table import Table

    levels = rows[0]['hours']
    columns = ('rows x tokens', 'steps/s', 'bound by', 'MFU', *(f'hours, {level}' for level in levels))
    table = Table('model', *columns, title=f'fine-tuning on {name}, at most')
    for column in table.columns[1:]:
        column.justify = 'right'
    for row in rows:
        table.add_row(
            f'{row["model"]} {row["variant"]}',
            f'{row["shape"]["rows"]:,} x {row["shape"]["row_length"]:,}',
            f'{1 / row["seconds"]:.3g}',
            row['bound'],
            f'{row["mfu"]:.0%}',
            *(f'{hours:,.1f}' for hours in row['hours'].values()),
        )
    return table
