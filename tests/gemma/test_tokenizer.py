"""The tokenizer: Gemma's special ids, single digits, blank lines as one piece, wrong files refused."""

import pytest

from cosample_jax import embedded
from cosample_jax.errors import UserError
from cosample_jax.gemma import tokenizer as tokenizer_lib
from cosample_jax.gemma.tokenizer import Tokenizer


@pytest.fixture(scope='module')
def tokenizer():
    return embedded.tokenizer()


def test_the_special_ids_are_gemmas(tokenizer):
    assert (tokenizer.pad, tokenizer.eos, tokenizer.bos) == (0, 1, 2)
    assert tokenizer.encode('Ann has 5 pens.', bos=True)[0] == 2


def test_digits_are_pieces_of_their_own_and_text_survives(tokenizer):
    text = 'Q: Ann has 157 pens.\nA: 157+28=185. The answer is 185.'
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert len(tokenizer.encode('157')) == 3
    assert ids == [
        i for piece in ('Q: Ann has 157 pens.\nA:', ' 157+28=185. The answer is 185.') for i in tokenizer.encode(piece)
    ]


def test_a_blank_line_is_one_token_and_so_can_be_a_stop(tokenizer):
    assert tokenizer.piece_id('\n\n') != tokenizer.piece_id('\n')
    with pytest.raises(UserError, match='not one token'):
        tokenizer.piece_id('The answer')


def test_the_vocabulary_is_small(tokenizer):
    assert tokenizer.vocab_size <= 512


def test_training_twice_gives_the_same_file(tmp_path):
    texts = [f'Ann has {n} pens and buys {n + 3} more.\nA: {n}+3' for n in range(200)]
    for name in ('a', 'b'):
        tokenizer_lib.train(tmp_path / name, texts, 70)
    assert (tmp_path / 'a').read_bytes() == (tmp_path / 'b').read_bytes()
    made = Tokenizer(tmp_path / 'a')
    assert made.vocab_size == 70 and made.encode('12', bos=True)[0] == made.bos


def test_a_vocabulary_that_is_too_large_for_the_text_is_one_line(tmp_path):
    with pytest.raises(UserError, match='cannot train a tokenizer of 5000 pieces'):
        tokenizer_lib.train(tmp_path / 'a', ['one two three'], 5000)


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path):
    (tmp_path / 'x.model').write_bytes(b'not a model')
    with pytest.raises(UserError, match='not a SentencePiece model'):
        Tokenizer(tmp_path / 'x.model')
    with pytest.raises(UserError, match='no tokenizer at'):
        Tokenizer(tmp_path / 'nothing.model')
