"""What a cell is trained on, and what is done with examples that no row takes."""

from types import SimpleNamespace

import pytest

from cosample_jax import config as config_lib
from cosample_jax import embedded, training_sets
from cosample_jax.errors import UserError
from cosample_jax.gemma.tokenizer import OWN
from cosample_jax.records import Problem
from cosample_jax.sampling import asking
from cosample_jax.stages import finetune
from cosample_jax.tasks import prompts
from cosample_jax.training import packing


class Letters:
    bos, eos, vocabulary = 2, 1, OWN

    def encode(self, text, bos=False):
        return [2] * bos + [ord(c) for c in text]


PROBLEMS = [Problem(id=f'p{n}', question='q' * n, answer='1', solution='s') for n in (4, 20, 9, 21)]


def make(too_long, row_length, chat=False):
    config = config_lib.base()
    config.name, config.finetune.too_long, config.finetune.row_length = 'test', too_long, row_length
    workdir = SimpleNamespace(problems=lambda split: PROBLEMS)
    return finetune._lessons('gold', 'low', chat, config, workdir, Letters())


def test_examples_end_with_eos_begin_with_bos_and_learn_the_solution_alone():
    kept, examples, too_long, _ = make('fail', 64)
    assert too_long == 0 and [k.problem.id for k in kept] == ['p4', 'p20', 'p9', 'p21']
    tokens, learn = examples[0]
    assert tokens == [2, *map(ord, 'Q: qqqq\nA: s'), 1]
    assert [t for t, learned in zip(tokens, learn, strict=True) if learned] == [ord(' '), ord('s'), 1]


def test_in_turns_the_solution_and_the_end_of_the_turn_are_learned():
    tokens, learn = make('fail', 64, chat=True).examples[0]
    assert tokens == [2, 4, *map(ord, 'user\nqqqq'), 5, ord('\n'), 4, *map(ord, 'model\ns'), 5]
    assert [t for t, learned in zip(tokens, learn, strict=True) if learned] == [ord('s'), 5]


@pytest.mark.parametrize('chat', [False, True])
def test_what_is_taught_is_what_is_asked(chat):
    asked = asking.requests(prompts.template(Letters(), chat), PROBLEMS, [], lambda _: 1)
    for request, (tokens, learn) in zip(asked, make('fail', 64, chat).examples, strict=True):
        assert [t for t, learned in zip(tokens, learn, strict=True) if not learned] == request.prompt
        assert tokens[: len(request.prompt)] == request.prompt


def test_each_cell_has_the_lessons_and_the_validation_of_its_model(tmp_path, monkeypatch):
    config = config_lib.base()
    config.name, config.models.weak.chat, config.roles.trained = 'test', True, ('student', 'weak')
    config.finetune.row_length = 512
    workdir = SimpleNamespace(
        tokenizer_path=embedded.FILES / 'tokenizer.model',
        problems=lambda split: PROBLEMS,
        cell_dir=lambda name: tmp_path / name,
    )
    data = training_sets.Training([training_sets.Kept(p, p.solution) for p in PROBLEMS], contaminated=0)
    monkeypatch.setattr(training_sets, 'training_data', lambda *_: data)
    seen = {}

    def train(cell, config, workdir, lessons, validation, bar):
        seen[cell.model, cell.data, cell.budget] = lessons.examples, validation
        return {'trained': True, 'steps': 1, 'tokens': 1}

    monkeypatch.setattr(finetune, '_train_cell', train)
    assert finetune.run(config, workdir)['cells'] == len(seen) == 12
    tokenizer = embedded.tokenizer()
    for (model, data, budget), (examples, validation) in seen.items():
        template = prompts.template(tokenizer, chat=model == 'weak')
        expected = [template.prompt(p.question) + template.answer(p.solution) for p in PROBLEMS]
        assert [example.tokens for example in examples] == expected, (model, data, budget)
        assert [r.prompt for r in validation._requests] == [template.prompt(p.question) for p in PROBLEMS]
        assert validation._settings.stop_ids == template.stop_ids


def test_what_was_seen_is_counted_by_source_and_once_for_each_time():
    kept = [training_sets.Kept(PROBLEMS[0], 's', 0, 'weak'), training_sets.Kept(PROBLEMS[0], 's', 1, 'weak')]
    kept += [training_sets.Kept(PROBLEMS[1], 's', 0, 'strong'), training_sets.Kept(PROBLEMS[2], 't', 2, 'strong')]
    examples = [packing.lesson([1] * n, [2] * 3) for n in (2, 2, 10, 20)]
    weak, strong = finetune._seen(kept, examples, [0, 1, 0, 2])
    assert (weak['source'], weak['kept'], weak['unique'], weak['problems'], weak['examples']) == ('weak', 2, 1, 1, 3)
    assert (weak['tokens'], weak['loss_tokens'], weak['epochs']) == (3 * 4, 3 * 3, 1.5)
    assert (strong['kept'], strong['unique'], strong['examples'], strong['tokens']) == (2, 1, 1, 12)


def test_examples_longer_than_a_row_fail_and_the_longest_is_named():
    with pytest.raises(UserError, match=r'2 of 4 examples .* problem p21 most: raise .*row_length \(24\) to 30'):
        make('fail', 24)


def test_or_they_are_dropped_and_counted():
    kept, examples, too_long, _ = make('drop', 24)
    assert too_long == 2 and [k.problem.id for k in kept] == ['p4', 'p9'] and len(examples) == 2
