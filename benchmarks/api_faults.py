"""What becomes of each fault of an API, and what a run of 1,000 requests through 20% of them costs.

    python -m benchmarks.api_faults                       (half a minute, on loopback; needs the extra dev)

Prints, for each fault and provider: how often the request was sent, how its sample ended, what the ledger has of it and
what the stand-in for the provider (tests/api_server.py) charged. Then the 1,000 requests, as both keep their books.
"""

import sys
import tempfile
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cosample_jax import config as config_lib
from cosample_jax.apis.gemini_client import GeminiClient
from cosample_jax.apis.openai_client import OpenAIClient
from cosample_jax.apis.protocol import Settings
from cosample_jax.budget import Price
from cosample_jax.endpoints import Endpoint
from cosample_jax.errors import UserError
from cosample_jax.ledger import Ledger
from cosample_jax.sampling.remote import Patience, Remote
from cosample_jax.sampling.schedule import Request

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / 'tests'))
from api_parts import FAULTS, Plan, random_faults
from api_server import ApiServer

PRICE = Price(input=1.25, output=10.0, batch_discount=0.5, cached=0.125)
SAME_FOR_ALL = ('quota', 'unauthorized', 'forbidden', 'missing', 'bad_request')  # no 1,000 requests get past these
PLANS = {
    'completed': Plan(polls=3),
    'expired, half done': Plan(end='expired', done=0.5),
    'cancelled, a third done': Plan(end='cancelled', done=0.34),
    'failed': Plan(end='failed'),
    'never ends': Plan(polls=10**9),
    'lines lost or damaged': Plan(line={0: 'missing_line', 1: 'malformed', 2: 'half_json'}.get),
    'lines with errors': Plan(line={0: 'server_error', 1: 'rate_limit', 2: 'blocked'}.get),
}


def door(server, folder: str, provider: str, **api) -> Remote:
    settings = Settings(
        temperature=0.7, top_k=0, top_p=1.0, max_new_tokens=40, stop_strings=(), thinking='', timeout=0.5
    )
    make = {'gemini': (GeminiClient, server.gemini_url), 'openai': (OpenAIClient, server.openai_url)}
    client, url = make[provider]
    fields = config_lib.base().models.weak.api
    fields.update(api)
    return Remote(
        client(Endpoint(provider, 'a-model', url), 'a key', settings),
        Ledger(Path(folder) / 'ledger.jsonl'),
        model='weak',
        purpose='train',
        seed=0,
        settings=settings,
        price=PRICE,
        api=fields,
        text=str,
        patience=Patience(0.005, 0.05, 0.01),
    )


def requests(count: int, samples: int = 1) -> list[Request]:
    return [Request(f'p{i}', j, (('user', f'question {i}'),)) for i in range(count) for j in range(samples)]


def charged(server) -> float:
    return sum(PRICE.of(b.input, b.output, b.cached, b.batch) for b in server.billed)


def drawn(opened: Remote, wanted: list[Request]) -> tuple[list, str]:
    """What came, and the line that ended it, if one did."""
    came = []
    try:
        for each in opened.sample(wanted):
            came.append(each)
    except UserError as error:
        return came, str(error)
    return came, ''


def faults(console: Console) -> None:
    """One request with the fault the first time it is asked."""
    columns = ('fault', 'provider', 'sent', 'the sample', 'retries', 'lost', 'ledger, US$', 'at risk', 'charged')
    table = Table(*columns, title='a fault, once')
    for fault in FAULTS:
        for provider in ('openai', 'gemini'):
            with (
                ApiServer(fault=lambda n, _, fault=fault: fault if n == 0 else None, hang_seconds=5) as server,
                tempfile.TemporaryDirectory() as folder,
            ):
                opened = door(server, folder, provider)
                came, line = drawn(opened, requests(1))
                told = opened.counters
                how = came[0].finish if came else line.split('answers ')[-1][:40]
                numbers = (f'{told[name]:.5f}' for name in ('usd', 'at_risk'))
                sent = sum(request.route == 'generate' for request in server.requests)
                counts = f'{told["retries"]}', f'{told["lost"]}'
                table.add_row(fault, provider, f'{sent}', how, *counts, *numbers, f'{charged(server):.5f}')
    console.print(table)


def jobs(console: Console) -> None:
    """Twelve requests in a job of which this becomes; the next job is a good one."""
    columns = ('the first job', 'provider', 'jobs', 'samples', 'retries', 'lost', 'ledger, US$', 'at risk', 'charged')
    table = Table(*columns, title='jobs of 12 requests')
    for name, plan in PLANS.items():
        for provider in ('openai', 'gemini'):
            with (
                ApiServer(job=lambda number, plan=plan: plan if number == 0 else Plan()) as server,
                tempfile.TemporaryDirectory() as folder,
            ):
                opened = door(server, folder, provider, batch=True, job_hours=0.5 / 3600)
                came, line = drawn(opened, requests(12))
                told = opened.counters
                numbers = (f'{told[key]:.5f}' for key in ('usd', 'at_risk'))
                samples = f'{len(came)}' if not line else 'none: it failed, and says why'
                counts = f'{told["retries"]}', f'{told["lost"]}'
                table.add_row(
                    name, provider, f'{len(server.jobs)}', samples, *counts, *numbers, f'{charged(server):.5f}'
                )
    console.print(table)


def thousand(console: Console) -> None:
    """The books of both sides."""
    kinds = [fault for fault in FAULTS if fault not in SAME_FOR_ALL]
    for provider in ('openai', 'gemini'):
        with (
            ApiServer(fault=random_faults(0.2, 0, kinds), hang_seconds=2.0, thoughts=5, cached=1) as server,
            tempfile.TemporaryDirectory() as folder,
        ):
            opened = door(server, folder, provider, at_once=32)
            came, line = drawn(opened, requests(1000))
            told = opened.counters
            keys = Counter((each.problem_id, each.sample_index) for each in came)
            sent = sum(request.route == 'generate' for request in server.requests)
            injected = Counter(request.fault for request in server.requests if request.fault)
            table = Table('', 'ledger', 'server', title=f'1,000 requests to {provider}, a fifth of them with a fault')
            table.add_row('samples, each once', f'{len(came):,}', f'{max(keys.values())} at most of a key')
            table.add_row('requests answered / sent', f'{told["requests"]:,}', f'{sent:,}')
            table.add_row(
                'faults', f'{told["retries"]:,} retries', f'{sum(injected.values()):,} of {len(injected)} kinds'
            )
            table.add_row('lost / charged for, undelivered', f'{told["lost"]:,}', f'{_undelivered(server):,}')
            for name, of in (('read', 'input'), ('cached', 'cached'), ('written', 'output')):
                table.add_row(f'tokens {name}', f'{told[name]:,}', f'{sum(getattr(b, of) for b in server.billed):,}')
            table.add_row('US$', f'{told["usd"]:.6f} + at risk {told["at_risk"]:.6f}', f'{charged(server):.6f}')
            finishes = Counter(each.finish for each in came)
            table.caption = f'{dict(finishes)}; {told["empty"]} empty; {line or "no error"}'
            console.print(table)
            assert told['usd'] <= charged(server) + 1e-9 or told['lost'] == 0
            assert charged(server) <= told['usd'] + told['at_risk'] + 1e-9


def _undelivered(server) -> int:
    return sum(not billed.delivered for billed in server.billed)


if __name__ == '__main__':
    console = Console(width=150)
    faults(console)
    jobs(console)
    thousand(console)
