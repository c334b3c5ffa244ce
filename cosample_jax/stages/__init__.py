"""The pipeline: `ls` of this directory, in the order of STAGES. Stages meet only through files in the
workdir.
"""

import importlib
import time

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


def execute(stage: str, config, workdir) -> dict:
    """Runs a stage unless it is done and returns its DONE marker: the stage's counters, `seconds`,
    `attempts`, `after`.

    `seconds` are those of the attempt that finished; `attempts` > 1 says that earlier ones were cut short.
    `after` lists the earlier stages that were done: when it no longer fits (a report made before the fine-
    tuning), the stage runs again. UserError when a stage it needs is not done.
    """
    earlier = STAGES[: STAGES.index(stage)]
    after = [name for name in earlier if workdir.is_done(name)]
    if workdir.is_done(stage):
        info = workdir.done_info(stage)
        if info.get('after') == after:
            print(f'{stage}: already done')
            return info
    for needed in REQUIRES[stage]:
        if needed not in after:
            raise UserError(
                f'{stage} needs {needed}, which is not done in {workdir.root}: run `cosample {needed} '
                f'--workdir={workdir.root}`, or `cosample run` for everything'
            )
    attempts = workdir.count_attempt(stage)
    print(f'{stage}: started')
    start = time.monotonic()
    counters = importlib.import_module(f'cosample_jax.stages.{stage}').run(config, workdir) or {}
    seconds = round(time.monotonic() - start, 3)
    info = {**counters, 'seconds': seconds, 'attempts': attempts, 'after': after}
    workdir.mark_done(stage, info)
    workdir.forget_attempts(stage)
    print(f'{stage}: done in {seconds:.1f} s')
    return info
