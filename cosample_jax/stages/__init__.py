"""The pipeline: `ls` of this directory, in the order of STAGES. Stages meet only through files in the
workdir.
"""

import importlib
import time

from cosample_jax import hosts
from cosample_jax.errors import UserError

STAGES = ('prepare', 'pretrain', 'sample', 'grade', 'judge', 'analyze', 'finetune', 'evaluate', 'report')

# What must be done before a stage can run. A report of a pool alone (no fine-tuning) is a report too.
REQUIRES = {
    'prepare': (),
    'pretrain': ('prepare',),
    'sample': ('pretrain',),
    'grade': ('sample',),
    'judge': ('grade',),
    'analyze': ('judge',),
    'finetune': ('pretrain', 'judge'),  # a judge may decide what is kept
    'evaluate': ('finetune',),
    'report': ('analyze',),
}


# Without devices: one process does them, the others wait. In the other stages all take part.
ALONE = ('grade', 'analyze', 'report')


def execute(stage: str, config, workdir) -> dict:
    """Runs a stage unless it is done and returns its DONE marker: the stage's counters, `seconds`,
    `attempts`, `after`.

    `seconds` are those of the attempt that finished; `attempts` > 1 says that earlier ones were cut short.
    `after` lists the earlier stages that were done: when it no longer fits (a report made before the fine-
    tuning), the stage runs again. UserError when a stage it needs is not done.
    """
    begun = hosts.alone(_begin, stage, workdir)
    if 'done' in begun:
        return begun['done']
    start = time.monotonic()
    run = importlib.import_module(f'cosample_jax.stages.{stage}').run
    counters = (hosts.alone(run, config, workdir) if stage in ALONE else run(config, workdir)) or {}
    info = {**counters, 'seconds': round(time.monotonic() - start, 3), **begun}
    hosts.alone(_finish, stage, workdir, info)
    return info


def execute_shard(config, workdir, shard: int, shards: int) -> list[str]:
    """Draws what one shard of several does of the sample stage; returns the sources whose pools are not complete.

    UserError as `execute`. An attempt of the stage it is none.
    """
    if 'done' in hosts.alone(_check, 'sample', workdir):
        return []
    return importlib.import_module('cosample_jax.stages.sample').run_shard(config, workdir, shard, shards)


def _begin(stage: str, workdir) -> dict:
    """{'done': its marker} where nothing is to be done, else its `attempts` and `after`."""
    begun = _check(stage, workdir)
    if 'done' not in begun:
        begun['attempts'] = workdir.count_attempt(stage)
        print(f'{stage}: started')
    return begun


def _check(stage: str, workdir) -> dict:
    earlier = STAGES[: STAGES.index(stage)]
    after = [name for name in earlier if workdir.is_done(name)]
    if workdir.is_done(stage):
        info = workdir.done_info(stage)
        if info.get('after') == after:
            print(f'{stage}: already done')
            return {'done': info}
    for needed in REQUIRES[stage]:
        if needed not in after:
            raise UserError(
                f'{stage} needs {needed}, which is not done in {workdir.root}: run `cosample {needed} '
                f'--workdir={workdir.root}`, or `cosample run` for everything'
            )
    return {'after': after}


def _finish(stage: str, workdir, info: dict) -> None:
    workdir.mark_done(stage, info)
    workdir.forget_attempts(stage)
    print(f'{stage}: done in {info["seconds"]:.1f} s')
