"""What models behind APIs were asked and what that cost, beside what was planned."""

from collections.abc import Sequence

from cosample_jax.report import page
from cosample_jax.report.page import Column, Markup

NOTE = (
    'From the ledger, over all attempts. Lost: broken off, so that nobody knows whether they are charged for; at risk: '
    'what these, and requests that a kill left open, can have cost at most.'
)


def table(rows: Sequence[dict]) -> Markup:
    """Rows of `cosample_jax.ledger.paid`."""
    columns = [
        Column('model', lambda r: r['model'], text=True),
        Column('answered', lambda r: f'{r["requests"]:,}'),
        Column('retries', lambda r: f'{r["retries"]:,}'),
        Column('lost', lambda r: f'{r["lost"]:,}'),
        Column('tokens read', lambda r: f'{r["read"]:,}'),
        Column('of them cached', lambda r: f'{r["cached"]:,}'),
        Column('written', lambda r: f'{r["written"]:,}'),
        Column('US$', lambda r: f'{r["usd"]:,.4f}'),
        Column('at risk', lambda r: f'{r["at_risk"]:,.4f}'),
        Column('planned', lambda r: f'{r["planned"]:,.4f}' if r['planned'] != '' else '–'),
    ]
    return page.table('What the APIs cost', NOTE, columns, rows)
