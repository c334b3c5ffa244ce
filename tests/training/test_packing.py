"""Packing: nothing lost, nothing mixed, targets are the next tokens."""

import numpy as np
import pytest

from cosample_jax.errors import UserError
from cosample_jax.training import packing
from cosample_jax.training.packing import Example


def make_examples(seed, count, longest=40):
    rng = np.random.default_rng(seed)
    examples = []
    for _ in range(count):
        n = int(rng.integers(3, longest))
        start = int(rng.integers(1, n))
        examples.append(Example(rng.integers(3, 250, n).tolist(), [i >= start for i in range(n)]))
    return examples


def unpack(batch):
    """The examples of a batch, each as (inputs, targets, weights)."""
    found = []
    for r in range(len(batch.tokens)):
        for segment in range(1, batch.segment_ids[r].max() + 1):
            at = batch.segment_ids[r] == segment
            assert batch.positions[r, at].tolist() == list(range(at.sum()))
            found.append((batch.tokens[r, at].tolist(), batch.targets[r, at].tolist(), batch.weights[r, at].tolist()))
    return found


@pytest.mark.parametrize('seed', range(5))
def test_every_example_is_there_once_and_whole(seed):
    examples = make_examples(seed, 16)
    batch = packing.pack(examples, row_length=64, row_multiple=4)
    expected = [(e.tokens[:-1], e.tokens[1:], [float(x) for x in e.learn[1:]]) for e in examples]
    assert sorted(unpack(batch)) == sorted((list(a), list(b), c) for a, b, c in expected)


def test_rows_come_in_multiples_and_padding_weighs_nothing():
    batch = packing.pack(make_examples(0, 9), row_length=64, row_multiple=4)
    assert batch.tokens.shape[0] % 4 == 0 and batch.tokens.shape[1] == 64
    assert batch.weights[batch.segment_ids == 0].sum() == 0
    assert (batch.segment_ids == 0).any()


def test_packing_saves_rows():
    examples = [Example([5] * 17, [True] * 17)] * 16  # 16 positions each: four to a row of 64
    assert packing.pack(examples, row_length=64, row_multiple=1).tokens.shape == (4, 64)


def test_a_longer_example_than_a_row_is_refused_with_the_length_it_needs():
    with pytest.raises(UserError, match=r'row_length \(63\) to 64'):
        packing.pack([Example([1] * 65, [True] * 65)], row_length=63, row_multiple=1)


def test_a_stream_fills_rows_and_leaves_the_overlong_out():
    examples = make_examples(1, 500) + [Example([9] * 200, [True] * 200)]
    batches = list(packing.pack_stream(iter(examples), row_length=64, num_rows=4))
    assert all(batch.tokens.shape == (4, 64) for batch in batches)
    fill = np.mean([np.mean(batch.segment_ids > 0) for batch in batches])
    assert fill > 0.7
    found = [example for batch in batches for example in unpack(batch)]
    assert (
        sorted(found)[:50]
        == sorted(
            (list(e.tokens[:-1]), list(e.tokens[1:]), [float(x) for x in e.learn[1:]]) for e in examples[: len(found)]
        )[:50]
    )


def test_of_a_lesson_the_answer_is_learned_with_its_end():
    made = packing.lesson([2, 4, 9], [8, 7, 5])
    assert (made.tokens, made.learn) == ([2, 4, 9, 8, 7, 5], [False] * 3 + [True] * 3)
    batch = packing.pack([made], row_length=8, row_multiple=1)
    assert batch.targets[batch.weights > 0].tolist() == [8, 7, 5]


class Letters:
    bos, eos = 2, 1

    def encode(self, text):
        return [ord(c) for c in text]


def test_only_what_the_model_is_to_write_is_learned():
    made = packing.example(Letters(), [('ab', 'c'), ('d', 'ef')])
    assert made.tokens == [2, *map(ord, 'abcdef'), 1]
    assert made.learn == [False, False, False, True, False, True, True, True]
