import random

import pytest

from cosample_jax import embedded
from cosample_jax.sampling.stops import StopStrings
from cosample_jax.tasks import prompts

PIECES = [b'', b'Prob', b'lem', b':', b'm:', b'Proble', b' x', b'\n', b'\n\n', b'Problem: 3', b'\xe2', b'\x82\xac']
STOPS = StopStrings(['Problem:', '\n\n', '€'], PIECES)


@pytest.mark.parametrize(
    ('tokens', 'count'),
    [
        ([6, 1, 2, 3], 4),  # in three tokens
        ([5, 4, 6], 2),  # in two others
        ([6, 9, 6], 2),  # within one, with text behind it
        ([7, 7], 2),
        ([8], 1),
        ([6, 10, 11], 3),  # a character of two tokens
        ([1, 2, 6, 3], None),
        ([1, 0, 2, 3], 4),  # a control token has no text
        ([], None),
    ],
)
def test_the_token_that_completes_a_stop_is_found(tokens, count):
    assert STOPS.find(b'', tokens)[0] == count


def test_a_stop_is_found_wherever_the_host_looks_in_between():
    rng = random.Random(0)
    found = 0
    for _ in range(300):
        tokens = rng.choices(range(len(PIECES)), k=12)
        whole, _ = STOPS.find(b'', tokens)
        found += whole is not None
        tail, seen = b'', 0
        while seen < len(tokens):
            part = tokens[seen : seen + rng.randint(1, 4)]
            end, tail = STOPS.find(tail, part)
            if end is not None:
                assert seen + end == whole
                break
            seen += len(part)
        else:
            assert whole is None
    assert 50 < found < 300


def test_an_empty_stop_is_refused():
    with pytest.raises(ValueError, match='every sample'):
        StopStrings(['x', ''], PIECES)


def test_pieces_join_to_what_the_tokenizer_decodes():
    tokenizer = embedded.tokenizer()
    assert len(tokenizer.pieces) == tokenizer.vocab_size
    for text in ('Q: Ann has 12 pens.\nA: 12 + 3 = 15\n\nQ:', '  two  spaces', 'caf\u00e9 \u20ac 5'):
        ids = tokenizer.encode(text, bos=True)
        assert b''.join(tokenizer.pieces[i] for i in ids).decode() == tokenizer.decode(ids)


@pytest.mark.parametrize(
    ('text', 'kept'),
    [(' 12\n\nQ: x', ' 12'), (' 12\nQ: x', ' 12'), (' 12 Q: x\n', ' 12 Q: x\n'), ('', '')],
)
def test_text_is_cut_before_the_first_stop(text, kept):
    assert prompts.before_stop(text) == kept
