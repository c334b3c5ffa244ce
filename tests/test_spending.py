"""What a run's pools cost by every lens: assumed before there is a pool, measured beside that once there is one."""

import io

import pytest
from rich.console import Console

from cosample_jax import budget, devices, memory, roofline, spending
from cosample_jax import config as config_lib
from cosample_jax.budget import Lengths
from cosample_jax.gemma.config import variant
from cosample_jax.records import Problem, Sample
from cosample_jax.workdir import Workdir

IDS = [f'train/{i}' for i in range(300)]
ASSUMED = {'weak': Lengths(900, 60, 130), 'strong': Lengths(900, 60, 130)}
PRICES = {
    f'models.{name}.price.{field}': value
    for name, (asked, generated) in {'weak': (0.075, 0.3), 'strong': (3.5, 10.5)}.items()
    for field, value in {'input': asked, 'output': generated, 'as_of': '2024-08-12', 'source': 'a list'}.items()
}


def gemma(**fields):
    config = config_lib.base()
    config.name = 'test'
    pair = {'models.weak.variant': 'gemma2_9b', 'models.strong.variant': 'gemma2_27b', 'budget.params': 'nominal'}
    config.update_from_flattened_dict(pair | fields)
    return config_lib.finalize(config)


def cost_rows(section, lengths='assumed'):
    return {(row['budget'], row['model']): row for row in section['rows'] if row['lengths'] == lengths}


def matched(section, lens, level, lengths='assumed'):
    wanted = {'lens': lens, 'budget': level, 'lengths': lengths, 'model': 'weak'}
    (row,) = (row for row in section['matched'] if wanted.items() <= row.items())
    return row


def test_the_papers_pair_before_anything_is_known():
    section = spending.section(gemma(), IDS, ASSUMED)
    rows = cost_rows(section)
    assert list(rows) == [(level, model) for level in ('low', 'high') for model in ('strong', 'weak')]
    assert [rows[level, 'weak']['samples'] for level in ('low', 'high')] == [900, 9000]
    assert rows['high', 'weak']['tokens'] == 9000 * 130
    assert rows['high', 'weak']['cost']['params'] == rows['high', 'strong']['cost']['params'] == 2 * 27e9 * 3000 * 130
    assert rows['high', 'weak']['mismatch']['params'] == 0
    for model in ('weak', 'strong'):
        one = budget.flops_cost(variant(f'gemma2_{"9b" if model == "weak" else "27b"}'), ASSUMED[model])
        assert rows['low', model]['cost']['flops'] == one.total(300, rows['low', model]['samples'])
    assert set(rows['low', 'weak']['cost']) == {'params', 'flops'}, 'no price, no pilot and no slice'


@pytest.mark.parametrize('params', ['exact', 'nominal'])
@pytest.mark.parametrize('level', ['low', 'high'])
def test_what_is_off_after_rounding_is_what_the_counts_cost(params, level):
    config = gemma(**PRICES, **{'budget.params': params})
    section = spending.section(config, IDS, ASSUMED)
    rows, problems, base = cost_rows(section), len(IDS), config.budget.strong[level]
    for lens in ('params', 'flops', 'price'):
        found = matched(section, lens, level)
        assert found['samples'] == sum(budget.samples(i, found['mean'], 1) for i in IDS)
        cost = spending.lens_costs(config, ASSUMED, None)[lens]
        target = cost['strong'].total(problems, problems * base)
        assert found['mismatch'] == pytest.approx(cost['weak'].total(problems, found['samples']) / target - 1)
        assert abs(found['mismatch']) < 0.02, 'rounded for 300 problems'
        row = rows[level, 'weak']
        assert row['mismatch'][lens] == pytest.approx(cost['weak'].total(problems, row['samples']) / target - 1)


def test_a_run_matched_by_price_is_matched_in_nothing_else():
    section = spending.section(gemma(**PRICES, **{'budget.lens': 'price'}), IDS, ASSUMED)
    row = cost_rows(section)['low', 'weak']
    assert row['samples'] == 35 * len(IDS)
    assert row['mismatch']['params'] == pytest.approx(35 / 3 - 1)
    assert row['cost']['price'] == pytest.approx(35 * 300 * (0.075 * 960 + 0.3 * 130) / 1e6)
    # The paper's ratio is that of generated tokens; Pro's prompts cost 47 times as much as Flash's.
    assert row['mismatch']['price'] == pytest.approx(35 * 111 / 4725 - 1)
    assert matched(section, 'price', 'low')['mean'] == pytest.approx(4725 / 111)


def test_one_price_alone_compares_nothing():
    known = {field: value for field, value in PRICES.items() if field.startswith('models.weak')}
    section = spending.section(gemma(**known), IDS, ASSUMED)
    assert 'price' not in section['rows'][0]['cost'] and section['prices'] == {}


def test_on_a_slice_chip_seconds_are_the_rooflines():
    config = gemma(**{'mesh.tensor': 8})
    shape = memory.Sampling(slots=64, prefix=900, question=64, new_tokens=320)
    on = spending.Slice(devices.parse_slice('v5e:2x4'), {'weak': shape, 'strong': shape})
    section = spending.section(config, IDS, ASSUMED, slice_=on)
    rate = roofline.sampling(variant('gemma2_27b'), 'v5e', memory.Sizes(tensor=8), shape, filled=130 / 320 / 2)
    assert cost_rows(section)['high', 'strong']['cost']['slice_seconds'] == pytest.approx(8 * 3000 * 130 / rate)
    assert section['slice'] == {'name': 'v5e:2x4', 'chips': 8}


def test_a_model_that_is_no_source_is_still_what_the_others_are_matched_to():
    section = spending.section(gemma(**{'roles.sources': ('weak',)}), IDS, ASSUMED)
    assert {row['model']: row['source'] for row in section['rows']} == {'weak': True, 'strong': False}
    alone = spending.section(gemma(**{'roles.sources': ('strong',)}), IDS, ASSUMED)
    assert {row['model'] for row in alone['rows']} == {'strong'} and alone['matched'] == []


@pytest.fixture
def workdir(tmp_path):
    """A finished pilot: the weak model writes 100 and 120 tokens, the strong one 90, behind prompts of 950 and 970."""
    workdir = Workdir(tmp_path / 'pilot')
    workdir.open(gemma(**{'task.num_train': 2}))
    for model, written in {'weak': (100, 120), 'strong': (90, 90)}.items():
        workdir.pool('train', model).append(
            [
                Sample(f'train/{i}', model, 0, '', [], 'stop', 0.0, 0.0, prompt_tokens=950 + 20 * i, num_tokens=tokens)
                for i, tokens in enumerate(written)
            ]
        )
    counters = {'chip_seconds': 22.0, 'drawn': 220, 'device': 'TPU v5 lite'}
    workdir.mark_done('sample', {'weak': counters, 'strong': counters | {'chip_seconds': 90.0, 'drawn': 180}})
    return workdir


def test_a_pilot_is_measured(workdir):
    found, note = spending.pilot(gemma(), workdir, ASSUMED)
    assert note == ''
    assert found.lengths == {'weak': Lengths(900, 60, 110), 'strong': Lengths(900, 60, 90)}
    assert found.seconds_per_token == {'weak': 0.1, 'strong': 0.5} and found.device == 'TPU v5 lite'
    section = spending.section(gemma(), IDS, ASSUMED, found)
    assumed, measured = cost_rows(section), cost_rows(section, 'measured')
    assert assumed['high', 'weak']['mismatch']['params'] == 0
    assert measured['high', 'weak']['mismatch']['params'] == pytest.approx(110 / 90 - 1)
    assert measured['high', 'weak']['cost']['chip_seconds'] == pytest.approx(9000 * 110 * 0.1)
    assert matched(section, 'params', 'high', 'measured')['mean'] == pytest.approx(30 * 90 / 110)
    assert matched(section, 'chip_seconds', 'low', 'measured')['mean'] == pytest.approx(90 * 0.5 / (110 * 0.1))


def test_an_unfinished_pilot_has_lengths_and_no_seconds(workdir):
    workdir.clear_done('sample')
    found, _ = spending.pilot(gemma(), workdir, ASSUMED)
    assert found.lengths['weak'].generated == 110 and found.seconds_per_token == {}
    assert 'chip_seconds' not in spending.section(gemma(), IDS, ASSUMED, found)['rows'][0]['cost']


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'models.weak.variant': 'gemma2_2b'}, "models.weak.variant 'gemma2_9b', not 'gemma2_2b': no lengths"),
        ({'sampling.max_new_tokens': 64}, 'sampling.max_new_tokens 128, not 64'),
        ({'task.shots': ('train/1',)}, "task.shots [], not ['train/1']"),
    ],
)
def test_a_pilot_of_something_else_is_named_and_left_out(workdir, fields, message):
    found, note = spending.pilot(gemma(**fields), workdir, ASSUMED)
    assert found is None and message in note and '\n' not in note
    assert spending.pilot(gemma(**{'task.num_train': 7, 'seed': 3}), workdir, ASSUMED)[0] is not None


def test_half_a_pilot_is_named_and_none_is_no_news(tmp_path):
    workdir = Workdir(tmp_path / 'half')
    assert spending.pilot(gemma(), workdir, ASSUMED) == (None, '')
    workdir.open(gemma())
    workdir.pool('train', 'weak').append([Sample('train/0', 'weak', 0, '', [], 'stop', 0.0, 0.0, 950, 100)])
    found, note = spending.pilot(gemma(), workdir, ASSUMED)
    assert found is None and note.endswith('has no samples of strong: no lengths are taken from it')


def test_imported_samples_have_no_lengths(workdir):
    workdir.pool('train', 'weak').append([Sample('train/2', 'weak', 0, '', [], 'stop', 0.0, 0.0, 0, 0)])
    found, note = spending.pilot(gemma(), workdir, ASSUMED)
    assert found is None and 'has imported samples of weak, of unknown length' in note


def test_a_guess_of_the_prompt_is_scaled_to_what_was_measured(workdir):
    guessed = dict.fromkeys(ASSUMED, Lengths(1800, 120, 250))
    assert spending.pilot(gemma(), workdir, guessed)[0].lengths['weak'] == Lengths(900, 60, 110)


def printed(section):
    console = Console(width=80, record=True, file=io.StringIO())
    spending.print_tables(console, section)
    return console.export_text()


def test_everything_is_printed_with_what_it_assumes(workdir):
    config = gemma(**PRICES, **{'mesh.tensor': 8})
    shape = memory.Sampling(slots=64, prefix=900, question=64, new_tokens=320)
    on = spending.Slice(devices.parse_slice('v5e:2x4'), {'weak': shape, 'strong': shape})
    section = spending.section(config, IDS, ASSUMED, spending.pilot(config, workdir, ASSUMED)[0], on)
    text = printed(section)
    assert ' 1,170,000 ' in text and '…' not in text, 'nothing is cut off in 80 columns'
    for lens, name in spending.LENSES.items():
        for lengths in ('assumed', 'measured'):
            row, found = cost_rows(section, lengths)['low', 'weak'], matched(section, lens, 'low', lengths)
            (line,) = (
                line
                for line in text.splitlines()
                if [cell.strip() for cell in line.split('│')[1:4]] == [name, lengths, 'low']
            )
            assert f'{row["mismatch"][lens]:+.1%}' in line, 'how far off the counts of the run are'
            assert f'{found["mean"]:,.4g} {found["mismatch"]:+.1%}' in line, 'and what that lens would take'
    assert 'weak, of 2024-08-12: 0.075 a million tokens in, 0.3 out, 0% off (a list)' in text
    assert 'measured tokens of a solution: strong 90 (prompt 900 + 60), weak 110 (prompt 900 + 60)' in ' '.join(
        text.split()
    )
    hours = sum(cost_rows(section, 'measured')['high', m]['cost']['slice_seconds'] for m in ASSUMED) / 8 / 3600
    assert f'of the sources, measured, takes {hours:.3g} hours' in ' '.join(text.split())
    assert 'on TPU v5 lite' in text and 'v5e:2x4 (8 chips)' in text
    plain = printed(spending.section(gemma(), IDS, ASSUMED))
    assert 'US$' not in plain and 'chip-' not in plain


def test_recipes_are_told_with_what_they_cost():
    config = config_lib.base()
    config.name, config.budget.params = 'recipes', 'nominal'
    config.models.weak.params_nominal, config.models.strong.params_nominal = 1.0, 3.0
    half = config_lib.recipe(weak=0.5, strong=1, problems=2)
    config_lib.add_recipes(config, half=half, once=config_lib.recipe(lens='number', weak=1, filter='none'))
    problems = [Problem(f'train/{n}', 'What?', '1', '') for n in range(4)]
    half, once = spending.recipes(config_lib.finalize(config), problems)
    assert half['samples']['strong'] == 0.5
    assert half['samples']['weak'] in (0.5, 0.75, 1.0)  # 1.5 of each of two problems, in whole ones
    assert half['cost'] == pytest.approx(half['samples']['weak'] / 3 + 0.5)
    assert (once['samples'], once['cost'], once['filter']) == ({'weak': 1.0}, pytest.approx(1 / 3), 'none')
    assert [len(column._cells) for column in spending.recipes_table([half, once]).columns] == [2] * 6
