"""The plan: its counts are those of the run, its seconds scale with the work and the machine."""

import json

import pytest

from cosample_jax import config as config_lib
from cosample_jax import devices, embedded, memory, plan, plan_tables, roofline
from cosample_jax.errors import UserError
from cosample_jax.gemma.config import variant
from cosample_jax.tasks import arithmetic, prompts


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


REAL = {
    'models.weak.variant': 'gemma2_9b',
    'models.strong.variant': 'gemma2_27b',
    'models.student.variant': 'gemma_7b',
    **{f'models.{name}.init': 'path/of/weights' for name in ('weak', 'strong', 'student')},
    'sampling.slots': 64,
    'sampling.max_new_tokens': 512,
    'finetune.row_length': 1024,
    'finetune.row_multiple': 8,
}


def on_slice(repository, topology, **overrides):
    config = config_lib.load(f'{repository}/configs/arithmetic.py:size=demo')
    config.update_from_flattened_dict(REAL | overrides)
    slice_ = devices.parse_slice(topology)
    return config_lib.finalize(config), plan.predict(config_lib.finalize(config), slice_)


def test_every_model_has_its_memory_and_what_fits_is_let_through(repository, steady):
    config = config_lib.load(f'{repository}/configs/arithmetic.py:size=demo')
    prediction = plan.predict(config_lib.finalize(config))
    told = [(row['stage'], row['model']) for row in prediction['memory']['rows']]
    sampled, trained = ('weak', 'strong', 'student'), ('student', 'weak', 'strong')
    assert told == [('sampling', name) for name in sampled] + [('fine-tuning', name) for name in trained]
    assert all(row['total'] < 2**28 for row in prediction['memory']['rows'])
    plan.require_fit(prediction)


def test_what_cannot_fit_is_refused_with_a_change_that_would(repository, steady):
    _, prediction = on_slice(repository, 'v5e:2x4', **{'mesh.fsdp': 8})
    with pytest.raises(UserError) as refused:
        plan.require_fit(prediction)
    line = str(refused.value)
    assert '\n' not in line
    assert line.startswith('fine-tuning of config.models.strong (gemma2_27b) needs 5'), 'the one that needs most'
    assert 'GiB a device, and a chip of v5e:2x4 has 15.8: 32 such devices with --config.mesh.fsdp=32' in line
    # The change is true, and a smaller one is not.
    rows = {fsdp: _strong(repository, f'v5e:4x{fsdp // 4}', fsdp)['total'] for fsdp in (16, 32)}
    assert rows[32] <= devices.parse_slice('v5e:4x8').usable < rows[16]


def _strong(repository, topology, fsdp):
    overrides = {'mesh.fsdp': fsdp, 'finetune.row_multiple': fsdp}
    rows = on_slice(repository, topology, **overrides)[1]['memory']['rows']
    return next(row for row in rows if (row['stage'], row['model']) == ('fine-tuning', 'strong'))


def test_too_many_rows_are_cured_by_fewer(repository, steady):
    overrides = {'mesh.tensor': 8, 'sampling.slots': 400}
    config, prediction = on_slice(repository, 'v5e:2x4', **overrides)
    row = next(row for row in prediction['memory']['rows'] if row['model'] == 'strong')
    assert row['total'] > prediction['memory']['bytes'] and row['fix'].startswith('--config.sampling.slots=')
    slots = int(row['fix'].partition('=')[2])

    def total(slots):
        rows = on_slice(repository, 'v5e:2x4', **overrides | {'sampling.slots': slots})[1]['memory']['rows']
        return next(row for row in rows if row['model'] == 'strong')['total']

    assert 200 < slots < 400
    assert total(slots) <= prediction['memory']['bytes'] < total(slots + 1)


def test_the_mesh_of_a_plan_is_the_slice(repository, steady):
    with pytest.raises(UserError, match='v5e:2x4 has 8 chips'):
        on_slice(repository, 'v5e:2x4', **{'mesh.fsdp': 4})


def test_a_batch_is_packed_into_at_most_the_planned_rows(repository):
    from cosample_jax.training import packing

    config = config_lib.load(f'{repository}/configs/arithmetic.py:size=demo')
    config.finetune.row_length, config.finetune.batch_size.weak, config.finetune.row_multiple = 128, 33, 4
    config.sampling.max_new_tokens = 30
    shape = plan.training_shape(config, {'prefix': 0, 'question': 30}, 'weak')
    longest = packing.Example([2] * 60, [True] * 60)
    assert packing.pack([longest] * 33, 128, 4).tokens.shape == shape[:2] == (20, 128)


def test_on_a_slice_the_plan_says_how_fast_training_can_be_at_most(repository, steady):
    config, prediction = on_slice(repository, 'v5e:4x8', **{'mesh.fsdp': 32, 'finetune.row_multiple': 32})
    told = {row['model']: row for row in prediction['training']}
    assert list(told) == ['student', 'weak', 'strong']
    planned = next(
        row for row in prediction['memory']['rows'] if (row['stage'], row['model']) == ('fine-tuning', 'weak')
    )
    weak, shape = told['weak'], memory.Training(**planned['shape'])
    step = roofline.training(variant('gemma2_9b'), devices.parse_slice('v5e:4x8'), memory.Sizes(fsdp=32), shape)
    assert (weak['seconds'], weak['bound'], weak['mfu']) == (step.seconds, step.bound, step.mfu)
    assert weak['hours']['high'] == pytest.approx(config.finetune.steps.weak.high * step.seconds / 3600)
    # Three data sets each.
    each = sum(sum(row['hours'].values()) for row in told.values())
    hours = prediction['hours']
    assert (hours['runs'], hours['chips']) == (18, 32) and hours['training'] == pytest.approx(3 * each)
    assert hours['sampling'] > 0
    assert 0 < told['strong']['mfu'] <= 0.75 and told['strong']['seconds'] > 2 * weak['seconds']


def test_the_printed_plan_has_the_speed_of_training_and_its_assumptions(repository, steady, capsys, monkeypatch):
    monkeypatch.setenv('COLUMNS', '140')
    _, prediction = on_slice(repository, 'v5e:2x4', **{'mesh.fsdp': 8})
    plan_tables.print_all(prediction)
    printed = capsys.readouterr().out.partition('fine-tuning on v5e:2x4, at most')[2]
    assert all(line in printed for line in plan_tables.TRAINING_ASSUMPTIONS)
    student = next(line for line in printed.splitlines() if 'student gemma_7b' in line)
    told = prediction['training'][0]
    assert f'{1 / told["seconds"]:.3g}' in student and f'{told["hours"]["high"]:,.1f}' in student
    hours = prediction['hours']
    total = hours['sampling'] + hours['training']
    assert f'in all at least {total:,.3g} hours, {8 * total:,.3g} chip-hours: ' in printed
    here = plan.predict(config_lib.finalize(config_lib.load(f'{repository}/configs/arithmetic.py:size=demo')))
    plan_tables.print_all(here)
    assert 'at most' not in capsys.readouterr().out, 'of this machine no data sheet is known'


def test_the_turns_of_a_model_are_counted_in_its_prompts(repository, steady):
    config = config_lib.load(f'{repository}/configs/arithmetic.py:size=demo')
    config.models.strong.chat = True
    rows = plan.predict(config_lib.finalize(config))['memory']['rows']
    shapes = {row['model']: row['shape'] for row in rows if row['stage'] == 'sampling'}
    splits, tokenizer = arithmetic.build(config), embedded.tokenizer()
    for name, shape in shapes.items():
        template = prompts.template(tokenizer, config.models[name].chat)
        longest = max((p.question for p in splits['test']), key=lambda q: len(template.prompt(q)))
        told = plan.lengths({'shots': splits['shots'], 'test': splits['test']}, template)
        assert told['prefix'] + told['question'] == len(template.prompt(longest, splits['shots']))
        assert shape['prefix'] == told['prefix']
    assert shapes['strong']['prefix'] != shapes['weak']['prefix'] == shapes['student']['prefix']


def test_microbatches_must_divide_over_the_mesh(repository, steady):
    with pytest.raises(UserError, match='finetune.microbatch_rows=4 does not divide'):
        on_slice(repository, 'v5e:2x4', **{'mesh.fsdp': 8, 'finetune.microbatch_rows': 4})


def test_what_was_left_out_is_printed(repository, steady, tmp_path, capsys):
    from cosample_jax.cli import main

    long = 'A farmer has {} hens, and every hen lays {} eggs a week. How many eggs does the farmer collect in a week?'
    rows = [{'question': long.format(3, 4), 'answer': 12}]
    (tmp_path / 'test.jsonl').write_text(json.dumps(rows[0]) + '\n')
    rows += [{'question': f'What is {n} + 1?', 'answer': n + 1} for n in range(20)]
    (tmp_path / 'train.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    arguments = f'data={tmp_path},train=15,validation=4,test=1'
    config = config_lib.load(f'{repository}/configs/own_data.py:{arguments}')
    for name in config_lib.MODELS:
        config.models[name].variant = f'mini_{name}'
    prediction = plan.predict(config_lib.finalize(config))
    left_out = 'contaminated: 1 of 17 training problems left out, as copies of one of 1 test problems'
    assert prediction['notes'] == [
        f'problems of {tmp_path}: 15 train, 4 validation, 1 test',
        left_out,
        'tokens are a guess, 3.5 characters each: config.tokenizer is not there yet',
    ]
    plan_tables.print_all(prediction)
    assert left_out in ' '.join(capsys.readouterr().out.split())
    assert main(['plan', f'--config={repository}/configs/own_data.py:{arguments}', '--show-prompt']) == 0
    shown = capsys.readouterr().out
    assert shown.startswith('weak and strong: about ') and '<bos>Q: What is' in shown


def test_the_prompt_is_shown_to_the_letter(repository, capsys):
    from cosample_jax.cli import main
    from cosample_jax.sampling import asking

    spec = f'{repository}/configs/arithmetic.py:size=demo'
    config = config_lib.finalize(config_lib.load(spec))
    splits, template = arithmetic.build(config), prompts.template(embedded.tokenizer(), False)
    first, shots = splits['train'][0], splits['shots']
    assert main(['plan', f'--config={spec}', '--show-prompt']) == 0
    count, sha256 = len(template.prompt(first.question, shots)), asking.prompt_hash(template, shots)
    asked = prompts.few_shot(shots, first.question)
    assert capsys.readouterr().out == (
        f'weak and strong: {count} tokens for train/0, sha256 {sha256}\n<bos>{asked}\n'
        "[a sample ends with '\\n\\n' or '\\nQ:']\n\n"
    )
