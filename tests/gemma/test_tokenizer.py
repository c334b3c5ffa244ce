"""The tokenizer: Gemma's special ids, single digits, blank lines as one piece, wrong files refused."""

import pytest

from cosample_jax import config as config_lib
from cosample_jax import embedded
from cosample_jax.errors import UserError
from cosample_jax.gemma import config as gemma_config
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
    with pytest.raises(UserError, match='there is too little text for a tokenizer of 5000 pieces'):
        tokenizer_lib.train(tmp_path / 'a', ['one two three'], 5000)


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path):
    (tmp_path / 'x.model').write_bytes(b'not a model')
    with pytest.raises(UserError, match='not a SentencePiece model'):
        Tokenizer(tmp_path / 'x.model')
    with pytest.raises(UserError, match='no tokenizer at'):
        Tokenizer(tmp_path / 'nothing.model')
    with pytest.raises(UserError, match='is a directory: name the SentencePiece model in it'):
        Tokenizer(tmp_path)


@pytest.mark.parametrize(
    ('family', 'turns', 'newline'),
    [('gemma1', (106, 107), 108), ('gemma2', (106, 107), 108), ('gemma3', (105, 106), 107)],
)
def test_official_files_and_where_their_samples_end(gemma_tokenizer, family, turns, newline):
    """The ids are those of the official package and of published token sequences ('.\\n\\n': 235265, 109)."""
    made = Tokenizer(gemma_tokenizer(family))
    assert made.vocabulary.turns == turns
    assert made.encode('5\n\nA: 6', bos=True)[:3:2] == [2, newline + 1]
    # A model that leaves five lines blank writes one piece, which must end its sample as well.
    assert made.encode('\n' * 6) == [newline + 5]
    assert made.stop_ids('\n\n') == (1, turns[1], *range(newline + 1, newline + 31))
    for name, variant in gemma_config.VARIANTS.items():
        if variant.family == family and variant.nominal_params:
            made.check(variant, name)


def test_the_end_of_a_turn_ends_a_sample_of_an_embedded_model_too(tokenizer):
    assert tokenizer.stop_ids('\n\n') == (1, 5, tokenizer.piece_id('\n\n'))
    with pytest.raises(UserError, match='not one token'):
        tokenizer.stop_ids('The answer')


@pytest.mark.parametrize(
    ('family', 'size', 'variant'),
    [
        ('gemma3', 0, 'gemma2_9b'),
        ('gemma2', 0, 'gemma3_1b'),
        ('gemma2', 0, 'tiny_weak'),
        ('gemma3', 256_000, 'gemma2_9b'),  # the right number of pieces, other ids
        ('gemma2', 262_144, 'gemma3_1b'),
        ('gemma2', 256_001, 'gemma_7b'),  # the right ids, another number of pieces
        ('gemma3', 262_146, 'gemma3_4b'),
    ],
)
def test_the_tokenizer_of_another_model_is_refused(gemma_tokenizer, family, size, variant):
    """By the ids of the special pieces and by the size; the line names the model, what was found and what is needed."""
    made = Tokenizer(gemma_tokenizer(family, size))
    with pytest.raises(UserError) as refused:
        made.check(gemma_config.variant(variant), 'config.models.weak')
    line = str(refused.value)
    assert line.startswith(f'config.models.weak ({variant}) needs the tokenizer of') or 'a tokenizer of this' in line
    assert f'{made.vocab_size:,} pieces' in line and str(made.path) in line and 'config.tokenizer' in line


def test_a_gemma_3_file_with_the_image_piece_is_right(gemma_tokenizer):
    Tokenizer(gemma_tokenizer('gemma3', 262_145)).check(gemma_config.variant('gemma3_1b'), 'weak')


def edited(path, source, edit):
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto.FromString(source)
    edit(model)
    path.write_bytes(model.SerializeToString())
    return path


def test_a_sentencepiece_model_that_is_not_gemmas_is_refused(tmp_path):
    def swap_ids(model):
        model.pieces[1].piece, model.pieces[2].piece = '<bos>', '<eos>'

    def rename_turns(model):  # as the tokenizer of Gemma 4 does
        model.pieces[4].piece, model.pieces[5].piece = '<|turn>', '<turn|>'

    for edit, message in (
        (swap_ids, 'must be 0, 1, 2, 3, found 0, 2, 1, 3'),
        (rename_turns, 'it has no <start_of_turn>, no <end_of_turn>; known are the tokenizer of Gemma 1 and 2'),
    ):
        path = edited(tmp_path / 'x.model', embedded.tokenizer_bytes(), edit)
        with pytest.raises(UserError, match=message):
            Tokenizer(path)


def run_config(tokenizer='', init='pretrain', **variants):
    config = config_lib.base()
    config.name, config.tokenizer = 'test', str(tokenizer)
    for name, variant in variants.items():
        config.models[name].variant = variant
    for name in config_lib.MODELS:
        config.models[name].init = init
    return config


GEMMA2 = {'weak': 'gemma2_9b', 'strong': 'gemma2_27b', 'student': 'gemma_7b'}
GEMMA3 = {'weak': 'gemma3_4b', 'strong': 'gemma3_27b', 'student': 'gemma3_1b'}


def test_the_tokenizer_of_a_run(gemma_tokenizer):
    assert tokenizer_lib.given(run_config()) is None
    for variants, family in ((GEMMA2, 'gemma2'), (GEMMA3, 'gemma3')):
        path = gemma_tokenizer(family)
        assert tokenizer_lib.given(run_config(path, '/weights', **variants)).content == path.read_bytes()


def test_a_run_without_a_tokenizer_for_all_its_models_is_refused(gemma_tokenizer):
    right, wrong = gemma_tokenizer('gemma2'), gemma_tokenizer('gemma3')
    for config, message in (
        (run_config(right, **GEMMA2 | {'student': 'gemma3_1b'}), r'config.models.student \(gemma3_1b\) needs .*own'),
        (
            run_config(strong='mini_strong'),
            r'strong \(mini_strong\) needs a tokenizer of this package \(4,096 pieces.*\(256 pieces',
        ),
        (run_config(**GEMMA2), r'config.tokenizer is empty, and config.models.strong \(gemma2_27b\) needs'),
        (run_config(wrong, **GEMMA2), r'config.models.strong \(gemma2_27b\) needs the tokenizer of Gemma 1 and 2'),
        (run_config('/nowhere/tokenizer.model', **GEMMA2), 'no tokenizer at /nowhere/tokenizer.model'),
        (run_config(embedded.FILES / 'tokenizer.model', 'package'), "config.models.strong.init is 'package'"),
    ):
        with pytest.raises(UserError, match=message):
            tokenizer_lib.given(config)
