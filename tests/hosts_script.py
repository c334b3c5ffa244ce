"""One process of several without JAX: `python hosts_script.py COUNT INDEX PORT MODE DIRECTORY`; MODE says what it does.

Run by test_hosts.py. It ends as a `cosample` command does.
"""

import os
import sys
import time
from pathlib import Path

from cosample_jax import cli, hosts
from cosample_jax.errors import UserError

count, index, port, mode, directory = *map(int, sys.argv[1:4]), sys.argv[4], Path(sys.argv[5])
hosts.JOIN_S, hosts.GRACE_S, hosts.LAST_S = 1.0 if mode in ('late', 'unreachable') else 60.0, 2.0, 0.3


def here(name: str):
    """Tells the test how far this process came."""
    (directory / f'{name}-{index}').touch()


def work():
    here('working')
    if mode == 'refused':
        raise UserError('there are no problems')
    if mode == 'full':
        raise OSError(28, 'No space left on device', 'pools/x.parquet')
    if mode == 'bug':
        raise KeyError('x')
    if mode in ('long', 'killed'):
        time.sleep(60)
    assert hosts.count() == 1 and hosts.is_mine(1) and hosts.any_process(True) and hosts.alone(lambda: 3) == 3
    (directory / 'written').write_text(str(index))
    return {'counted': 7, 'as': os.getpid()}


def dispatch(_):
    command = f'run --seed={index}' if mode == 'unlike' else 'run'
    told = count + index if mode == 'miscounted' else count
    hosts.meet(f'localhost:{port}', told, index, command)
    here('met')
    assert hosts.count() == count and hosts.index() == index
    assert [n for n in range(2 * count) if hosts.is_mine(n)] == [index, index + count]
    if mode == 'stuck' and index == 1:
        raise UserError('this disk is gone')
    if mode == 'stuck':
        time.sleep(60)  # as in a collective, from which no signal and no exception leads out
    if mode == 'astray':
        hosts.wait('left' if index else 'right')
    if mode == 'fails' and index == 1:
        raise UserError('this disk is gone')
    said = hosts.alone(work)
    assert said['counted'] == 7
    assert [hosts.any_process(index == each) for each in (0, count - 1, count)] == [True, True, False]
    hosts.wait('the end')
    print('done by', said['as'])


cli._dispatch = dispatch
sys.exit(cli.main([]))
