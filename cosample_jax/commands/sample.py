"""`cosample sample`: the stage, or one shard of it.

    cosample sample --workdir=runs/x                  the stage
    cosample sample --workdir=runs/x --shard=0/4      a part of the problems; 1/4, 2/4 and 3/4 elsewhere, at any time

Shards are runs of their own, each on a slice of its own, that fill the same pools; they have nothing in common but the
workdir. Whoever finds the pools complete and nobody else at work marks the stage done.
"""

import contextlib

from cosample_jax import config as config_lib
from cosample_jax import hosts, stages
from cosample_jax.errors import UserError
from cosample_jax.records import is_remote


def main(args) -> None:
    """The stage, or a shard.

    Raises:
        UserError: --shard is no i/n; the stages before are not done; or others are writing.
    """
    config, workdir = args.config, args.workdir
    if not args.shard:
        with contextlib.ExitStack() as stack:
            hosts.alone(stack.enter_context, workdir.taken(config))
            stages.execute('sample', config, workdir)
        return
    shard, shards = parse(args.shard)
    with contextlib.ExitStack() as stack:
        hosts.alone(stack.enter_context, workdir.taken(config, shard))
        missing = stages.execute_shard(config, workdir.of_shard(shard), shard, shards)
    if missing:
        print(f'shard {shard}/{shards}: done; not complete yet: {", ".join(missing)}')
        return
    with contextlib.ExitStack() as stack:
        if hosts.alone(_take_alone, stack, config, workdir):
            stages.execute('sample', config, workdir)
        else:
            print(f'shard {shard}/{shards}: done; the last one at work, or `cosample sample`, marks the stage done')


def parse(text: str) -> tuple[int, int]:
    """(0, 4) of '0/4'. Raises UserError for anything else."""
    shard, slash, shards = text.partition('/')
    if not (slash and shard.isdigit() and shards.isdigit() and int(shard) < int(shards)):
        raise UserError(f'--shard={text}: give it as i/n, from 0/n to n-1/n, such as 0/4')
    return int(shard), int(shards)


def _take_alone(stack: contextlib.ExitStack, config, workdir) -> bool:
    """Whether this process now holds the directory as any other verb does: another shard may be at work."""
    if is_remote(workdir.root) and config_lib.adaptive(config):
        return False  # where nothing is locked, two might spend one budget
    try:
        stack.enter_context(workdir.lock())
    except UserError:
        return False
    return True
