"""What a cell is trained on, and what is done with examples that no row takes."""

from types import SimpleNamespace

import pytest

from cosample_jax import config as config_lib
from cosample_jax.errors import UserError
from cosample_jax.records import Problem
from cosample_jax.stages import finetune


class Letters:
    bos, eos = 2, 1

    def encode(self, text):
        return [ord(c) for c in text]


def make(too_long, row_length):
    config = config_lib.base()
    config.name, config.finetune.too_long, config.finetune.row_length = 'test', too_long, row_length
    problems = [Problem(id=f'p{n}', question='q' * n, answer='1', solution='s') for n in (4, 20, 9, 21)]
    workdir = SimpleNamespace(problems=lambda split: problems)
    return finetune._lessons('gold', 'low', config, workdir, Letters())


def test_examples_end_with_eos_begin_with_bos_and_learn_the_solution_alone():
    kept, examples, too_long = make('fail', 64)
    assert too_long == 0 and [k.problem.id for k in kept] == ['p4', 'p20', 'p9', 'p21']
    tokens, learn = examples[0]
    assert tokens == [2, *map(ord, 'Q: qqqq\nA: s'), 1]
    assert [t for t, learned in zip(tokens, learn, strict=True) if learned] == [ord(' '), ord('s'), 1]


def test_examples_longer_than_a_row_fail_and_the_longest_is_named():
    with pytest.raises(UserError, match=r'2 of 4 examples .* problem p21 most: raise .*row_length \(24\) to 30'):
        make('fail', 24)


def test_or_they_are_dropped_and_counted():
    kept, examples, too_long = make('drop', 24)
    assert too_long == 2 and [k.problem.id for k in kept] == ['p4', 'p9'] and len(examples) == 2
