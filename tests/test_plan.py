"""The plan: its counts are those of the run, its seconds scale with the work and the machine."""

import pytest

from cosample_jax import config as config_lib
from cosample_jax import embedded, plan
from cosample_jax.tasks import arithmetic


def predict(repository, arguments='size=demo', **overrides):
    config = config_lib.load(f'{repository}/configs/arithmetic.py:{arguments}')
    config.update_from_flattened_dict(overrides)
    return plan.predict(config_lib.finalize(config))['stages']


@pytest.fixture
def steady(monkeypatch):
    monkeypatch.setattr(plan, '_matmul_flops', lambda: plan.REFERENCE_FLOPS)


def test_samples_and_tokens_are_counted(repository, steady):
    stages = predict(repository)
    assert stages['sample']['samples'] == 256 * (30 + 10)
    tokenizer = embedded.tokenizer()
    config = config_lib.load(f'{repository}/configs/arithmetic.py:size=demo')
    gold = [len(tokenizer.encode(p.solution)) for p in arithmetic.build(config)['train']]
    assert stages['sample']['tokens'] == pytest.approx(40 * sum(gold), rel=1e-6)
    assert stages['sample']['flops'] == pytest.approx(2 * (30 * 68e3 + 10 * 204e3) * sum(gold), rel=1e-6)
    assert stages['evaluate']['samples'] == 3 * 7 * (400 + 400 + 16 * 100)
    assert stages['pretrain']['tokens'] == 0


def test_more_seeds_and_rates_cost_more(repository, steady):
    one = predict(repository)['finetune']['tokens']
    three = predict(repository, **{'finetune.seeds': (0, 1, 2)})['finetune']['tokens']
    assert three == pytest.approx(3 * one, rel=1e-6)
    rates = predict(repository, **{'finetune.learning_rate.weak': (1e-4, 1e-3)})['finetune']['tokens']
    assert rates == pytest.approx(one * 4 / 3, rel=1e-6)


def test_pretraining_is_planned_when_it_is_asked_for(repository, steady):
    stages = predict(repository, 'size=demo,init=pretrain')
    assert stages['pretrain']['tokens'] == 2560 * sum(
        config_lib.load(f'{repository}/configs/arithmetic.py').pretrain.steps.to_dict().values()
    )
    assert stages['pretrain']['seconds'] > 100


def test_a_machine_of_twice_the_speed_needs_half_the_time(repository, monkeypatch):
    def total(speed):
        monkeypatch.setattr(plan, '_matmul_flops', lambda: speed * plan.REFERENCE_FLOPS)
        return sum(row['seconds'] for row in predict(repository).values())

    assert total(1.0) == pytest.approx(2 * total(2.0))


def test_the_stages_of_the_plan_are_the_stages(repository, steady):
    from cosample_jax.stages import STAGES

    assert tuple(predict(repository)) == STAGES == plan.ORDER
