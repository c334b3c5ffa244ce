"""`cosample serve`: models of a run behind HTTP, as the OpenAI API, on the sampler that the run uses.

    cosample serve --config=configs/arithmetic.py:size=demo --workdir=runs/arithmetic --model weak strong --port=8000

A workdir without models is prepared first. Others may go on writing there: a server only reads, and holds no lock.
COSAMPLE_SERVE_KEY in the environment is the key that clients must send. Ctrl-C or SIGTERM: takes no more, finishes what
it can in a few seconds, and gives up the rest.
"""

import asyncio
import contextlib
import dataclasses
import hashlib
import importlib.util
import ipaddress
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence

from cosample_jax import memory, models, progress, sharding, stages, tasks
from cosample_jax.errors import UserError
from cosample_jax.gemma import config as gemma_config
from cosample_jax.gemma import model
from cosample_jax.gemma.tokenizer import Tokenizer
from cosample_jax.preemption import Preempted
from cosample_jax.sampling import asking
from cosample_jax.sampling.engine import Engine, common_prefix

LIBRARIES = ('starlette', 'uvicorn', 'pydantic')  # of the extra `serve`
KEY = 'COSAMPLE_SERVE_KEY'
PROMPT_TOKENS = 1024
WAITING = 4096  # samples that may wait for a row
GRACE_S = 4.0  # for what is running when the server is stopped
SECONDS_BETWEEN_LINES = 10.0


def main(args) -> None:
    """Serves until it is stopped.

    Raises:
        UserError: A library is missing, a model is not there, does not fit, or the address cannot be had.
        KeyboardInterrupt, Preempted: It was stopped, by Ctrl-C or SIGTERM.
    """
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"`cosample serve` needs {', '.join(missing)}: pip install 'cosample_jax[serve]'")
    from cosample_jax.serving.app import Server

    config, workdir = args.config, args.workdir
    names = list(dict.fromkeys(args.model)) or list(config.roles.sources)
    for name in names:
        models.model_of(name, config)  # a name that is none is refused before anything is made
    with _listening(args.host or '127.0.0.1', args.port) as place:
        if not workdir.is_done('prepare'):
            with workdir.lock():
                workdir.open(config)
                stages.execute('prepare', config, workdir)
        served = load(config, workdir, names, args.prompt_tokens)
        key = os.environ.get(KEY, '')
        if not key and not _is_loopback(place.getsockname()[0]):
            _warn(f'whoever reaches this machine may use the models: set {KEY} to ask for a key')
        server = Server(served, int(time.time()), key)
        stopped_by = asyncio.run(_serve(server, place, ', '.join(names)))
        server.join(GRACE_S)
    raise KeyboardInterrupt if stopped_by == signal.SIGINT else Preempted


def load(config, workdir, names: Sequence[str], prompt_tokens: int) -> list:
    """Each model with its weights and its engine, compiled and running.

    `prompt_tokens` is the longest prompt, 0 for the usual limit. UserError when a model is not there, or does not fit.
    """
    from cosample_jax.serving.live import Live
    from cosample_jax.serving.served import Served

    variants = [gemma_config.variant(config.models[models.model_of(name, config)].variant) for name in names]
    sizes = memory.Sizes(*(getattr(config.mesh, axis) for axis in sharding.MESH_AXES))
    weights = sum(memory.weight_bytes(variant, sizes, model.compute_dtype()) for variant in variants)
    tokenizer, mesh = Tokenizer(workdir.tokenizer_path), sharding.run_mesh(config)
    served = []
    for name in names:
        variant, chat, params, shots = models.load(name, config, workdir, mesh)
        longest = _longest_prompt(name, variant, config.sampling.max_new_tokens, prompt_tokens)
        template = tasks.template(config, tokenizer, chat)
        asked = asking.requests(template, workdir.problems('train'), shots, lambda _: 1)
        prefix = common_prefix([request.prompt for request in asked])
        if len(prefix) >= longest:
            prefix = []
        if (own := max(len(request.prompt) for request in asked)) > longest:
            _warn(f"{name}: the run's own prompts have up to {own} tokens: --prompt-tokens={own} takes them")
        shape = memory.Sampling(0, len(prefix), longest - len(prefix) - 1, config.sampling.max_new_tokens)
        without = shape._replace(prefix=0, question=longest - 1)
        settings = asking.settings(config, template, 'serve', source=name if name in config.models else '')
        slots = settings.slots or memory.live_slots(variant, config.mesh, [shape, without], weights)
        settings = dataclasses.replace(settings, slots=slots, stop_ids=tokenizer.vocabulary.ends)
        engine = Engine.live(params, variant, settings, prefix=prefix, question=shape.question, mesh=mesh)
        live = Live(engine, longest, WAITING)
        live.start()
        told = json.dumps(models.lineage(name, config, workdir), sort_keys=True)
        fingerprint = f'fp_{hashlib.sha256(told.encode()).hexdigest()[:12]}'
        served.append(Served(name, template, settings, live, fingerprint))
    return served


def _longest_prompt(name: str, variant, max_new_tokens: int, given: int) -> int:
    most = variant.context - max_new_tokens
    if most < 1 or given > most or given < 0:
        raise UserError(
            f'--prompt-tokens={given}: {name} ({variant.name}) has a context of {variant.context} tokens, of which '
            f'config.sampling.max_new_tokens={max_new_tokens} leave {most}: lower either'
        )
    return given or min(PROMPT_TOKENS, most)


def _warn(message: str) -> None:
    print(f'cosample: warning: {message}', file=sys.stderr)


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ':' in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        raise UserError(f'cannot listen at {host}, port {port} ({error}): take another --port or --host') from None


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


async def _serve(server, place: socket.socket, names: str) -> signal.Signals:
    """Answers until a signal comes, and then for GRACE_S at most; returns the signal.

    UserError when it ends by itself.
    """
    import uvicorn

    class Http(uvicorn.Server):
        def capture_signals(self):
            return contextlib.nullcontext()  # ours, below

    http = Http(
        uvicorn.Config(
            server.app, log_config=None, log_level='warning', access_log=False, lifespan='off', ws='none',
            server_header=False, timeout_keep_alive=60, timeout_graceful_shutdown=int(GRACE_S) + 2,
        )
    )  # fmt: skip
    came = []

    def stop(number: signal.Signals) -> None:
        if came:
            http.force_exit = True
            return
        came.append(number)
        server.close(GRACE_S)
        http.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    serving = asyncio.create_task(http.serve(sockets=[place]))
    while not http.started and not serving.done():
        await asyncio.sleep(0.01)
    host, port = place.getsockname()[:2]
    host = f'[{host}]' if ':' in host else host
    print(f'serving {names} at http://{host}:{port}/v1 (Ctrl-C stops it)', flush=True)
    telling = asyncio.create_task(_tell(server, http))
    await serving
    telling.cancel()
    if not came:
        raise UserError('the server has stopped by itself: what it says above tells why; start it again')
    return came[0]


async def _tell(server, http) -> None:
    """A line now and then while there is anything to tell; ends the server when an engine is dead."""
    traffic = progress.Traffic()
    while True:
        await asyncio.sleep(SECONDS_BETWEEN_LINES)
        if not server.is_alive:
            http.should_exit = True
        if (text := traffic.text(*server.totals())) is not None:
            print(f'serving: {text}', flush=True)
