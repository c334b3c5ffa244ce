"""`cosample sample --shard`: what a shard is; what shards draw together is in tests/test_hosts_run.py."""

import pytest

from cosample_jax import stages
from cosample_jax.commands import sample
from cosample_jax.errors import UserError
from cosample_jax.workdir import Workdir


def test_a_shard_is_one_part_of_several():
    assert sample.parse('0/1') == (0, 1) and sample.parse('3/4') == (3, 4)
    for wrong in ('4/4', '1', '1/', '/2', '-1/2', 'a/b', '0/0', '0/1/2'):
        with pytest.raises(UserError, match=f'--shard={wrong}: give it as i/n'):
            sample.parse(wrong)


def test_a_shard_needs_the_stages_before_and_is_no_attempt(tmp_path):
    workdir = Workdir(tmp_path)
    with pytest.raises(UserError, match='sample needs pretrain'):
        stages.execute_shard(None, workdir, 0, 2)
    assert not (tmp_path / 'started').exists()
    for stage, after in (('prepare', []), ('pretrain', ['prepare'])):
        workdir.mark_done(stage, {'after': after})
    workdir.mark_done('sample', {'after': ['prepare', 'pretrain']})
    assert stages.execute_shard(None, workdir, 0, 2) == []  # done: nothing is looked at
