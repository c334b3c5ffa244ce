"""`cosample serve` under load, beside the sampler that it drives.

    python -m benchmarks.serve --workdir=runs/arithmetic [--model=strong] [--requests=512] [--rounds=5]

64 connections of the openai client, in a process of their own, ask the server for few-shot solutions of training
problems, one sample a request and then eight. In turn with them `Engine.sample` draws the same samples, in this
process, with the same rows: medians over the rounds, and what share of the sampler's tokens a second arrives at the
clients. Compilation is excluded. On a machine of few cores clients and server share them, and the clients' own work is
in the figure.

On two cores that much other work shared (noisy): 512 requests of one sample 113 requests/s and a ratio of 0.33 (0.31 to
0.40), 64 requests of eight 32 requests/s and 0.81 (0.72 to 1.27). Of the server's seconds four fifths were the model's,
as for the engine alone; the clients took a third as many, and with one sample a request rows wait for their next.
"""

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import sys
import time

CONNECTIONS = 64
CONFIG = 'configs/arithmetic.py:size=demo'
EACH = (1, 8)  # samples a request


async def ask_all(url: str, asked: list[dict]) -> dict:
    """Asks all of `asked` from CONNECTIONS connections: seconds and tokens."""
    import openai

    waiting = iter(asked)
    tokens = 0
    async with openai.AsyncOpenAI(base_url=url, api_key='none', max_retries=0, timeout=600) as client:

        async def connection() -> None:
            nonlocal tokens
            for request in waiting:
                told = await client.completions.create(**request)
                tokens += told.usage.completion_tokens

        start = time.perf_counter()
        await asyncio.gather(*(connection() for _ in range(CONNECTIONS)))
        return {'seconds': time.perf_counter() - start, 'tokens': tokens}


def clients() -> None:
    """The loop of the clients' process: a line of JSON in, one out."""
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps(asyncio.run(ask_all(job['url'], job['asked']))), flush=True)


class Clients:
    """The clients in a process of their own."""

    def __init__(self, url: str):
        self._url = url
        command = [sys.executable, '-m', 'benchmarks.serve', '--clients']
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, asked: list[dict]) -> dict:
        self._process.stdin.write(json.dumps({'url': self._url, 'asked': asked}) + '\n')
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def start_server(config: str, workdir: str, model: str) -> tuple[subprocess.Popen, str]:
    """`cosample serve` at a free port, ready: (process, address)."""
    command = [sys.executable, '-m', 'cosample_jax.cli', 'serve', f'--config={config}', f'--workdir={workdir}']
    server = subprocess.Popen([*command, '--model', model], stdout=subprocess.PIPE, text=True)
    for line in server.stdout:
        if found := re.search(r'serving .* at (http\S+)', line):
            return server, found[1]
    raise SystemExit('the server did not start')


def main(args) -> None:
    from cosample_jax import config as config_lib
    from cosample_jax import memory, models, tasks
    from cosample_jax.gemma.tokenizer import Tokenizer
    from cosample_jax.sampling import asking
    from cosample_jax.sampling.engine import Engine
    from cosample_jax.sampling.policy import problem_hash
    from cosample_jax.workdir import Workdir

    server, url = start_server(args.config, args.workdir, args.model)
    asking_clients = Clients(url)
    try:
        config, workdir = config_lib.finalize(config_lib.load(args.config)), Workdir(args.workdir)
        variant, chat, params, shots = models.load(args.model, config, workdir)
        template = tasks.template(config, Tokenizer(workdir.tokenizer_path), chat)
        problems = workdir.problems('train')
        for each in EACH:
            count = max(1, args.requests // each)
            chosen = (problems * -(-count // len(problems)))[:count]
            indices = [index // len(problems) * each for index in range(count)]
            asked = [
                {
                    'model': args.model,
                    'prompt': template.spelled(problem.question, shots).removeprefix('<bos>'),
                    'n': each,
                    'seed': (first << 32) | int(problem_hash('bench', problem.id)),
                }
                for problem, first in zip(chosen, indices, strict=True)
            ]
            times = -(-count // len(problems)) * each
            every = asking.requests(template, problems, shots, lambda _, times=times: times)
            wanted = {(p.id, f + i) for p, f in zip(chosen, indices, strict=True) for i in range(each)}
            requests = [r for r in every if (r.problem_id, r.sample_index) in wanted]
            settings = asking.settings(config, template, 'bench', source=args.model)
            settings = memory.with_slots(settings, variant, config.mesh, every)
            engine = Engine(params, variant, settings, every)
            results = {'server': [], 'engine': []}
            for round_ in range(args.rounds + 1):
                served = asking_clients.run(asked)
                start = time.perf_counter()
                tokens = sum(done.num_tokens for done in engine.sample(requests))
                local = {'seconds': time.perf_counter() - start, 'tokens': tokens}
                if served['tokens'] != local['tokens']:
                    print(f'tokens differ: {served["tokens"]} served, {local["tokens"]} drawn here')
                if round_:  # the first compiles
                    results['server'].append(served)
                    results['engine'].append(local)
            show(each, count, results)
    finally:
        asking_clients.close()
        server.terminate()
        server.wait()


def show(each: int, count: int, results: dict[str, list[dict]]) -> None:
    rates = {name: [run['tokens'] / run['seconds'] for run in runs] for name, runs in results.items()}
    server, engine = (statistics.median(rates[name]) for name in ('server', 'engine'))
    ratios = [a / b for a, b in zip(rates['server'], rates['engine'], strict=True)]
    seconds = statistics.median(run['seconds'] for run in results['server'])
    print(
        f'{count} requests of {each}: {count / seconds:,.0f} requests/s, {server:,.0f} tokens/s served, {engine:,.0f} '
        f'drawn by the engine alone, ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})',
        flush=True,
    )


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--config', default=CONFIG)
    parser.add_argument('--workdir', default='runs/arithmetic')
    parser.add_argument('--model', default='strong')
    parser.add_argument('--requests', type=int, default=512, help='samples of a round')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--clients', action='store_true', help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    clients() if parsed.clients else main(parsed)
