from pathlib import Path

import pytest

from cosample_jax import config as config_lib
from cosample_jax.budget import samples

CONFIGS = sorted((Path(__file__).resolve().parent.parent / 'configs').glob('*.py'))


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_every_config_builds_and_tells_how_to_run_it(path):
    config = config_lib.finalize(config_lib.load(str(path)))
    assert config.name and config.budget.ratio > 0
    text = path.read_text()
    assert f'--config=configs/{path.name}' in text.split('"""')[1], 'the docstring names its command'


@pytest.mark.parametrize('size', ['demo', 'full', 'smoke'])
@pytest.mark.parametrize('init', ['package', 'pretrain'])
def test_the_arithmetic_sizes(repository, size, init):
    spec = f'{repository}/configs/arithmetic.py:size={size},init={init}'
    config = config_lib.finalize(config_lib.load(spec))
    assert size in config.name
    # The pair is built so that three weak samples cost one strong one.
    assert config.budget.ratio == pytest.approx(3.0, abs=0.02)
    assert {samples(f'p{i}', config.budget.ratio, 1) for i in range(100)} <= {2, 3, 4}


def test_a_smoke_run_is_small(repository):
    config = config_lib.finalize(config_lib.load(f'{repository}/configs/arithmetic.py:size=smoke'))
    assert (
        config.task.num_train <= 8
        and max(n for steps in config.finetune.steps.to_dict().values() for n in steps.values()) <= 4
    )
