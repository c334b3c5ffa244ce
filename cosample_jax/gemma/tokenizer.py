"""SentencePiece tokenizers with Gemma's special tokens, read from a file and trained from text. No JAX here."""

import io
from collections.abc import Iterable, Sequence

from etils import epath

from cosample_jax.errors import UserError
from cosample_jax.records import commit

# As in Gemma's own vocabularies: ids 0..3, then the turn markers. A blank line is one piece, so it can be a stop.
PAD, EOS, BOS, UNK = 0, 1, 2, 3
CONTROL = ('<start_of_turn>', '<end_of_turn>')
USER_DEFINED = ('\n', '\n\n')


class Tokenizer:
    """Text to token ids and back. `path` may be local or gs://."""

    def __init__(self, path):
        import sentencepiece

        path = epath.Path(path)
        if not path.exists():
            raise UserError(
                f'no tokenizer at {path}: run `cosample prepare` first, or give the path of a SentencePiece model'
            )
        try:
            self._sp = sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes())
        except RuntimeError:
            raise UserError(f'{path} is not a SentencePiece model') from None
        if self._sp.bos_id() != BOS or self._sp.eos_id() != EOS:
            raise UserError(
                f'{path} is not a Gemma tokenizer: <bos> must be {BOS} and <eos> {EOS}, '
                f'found {self._sp.bos_id()} and {self._sp.eos_id()}'
            )
        self.pad, self.eos, self.bos = PAD, EOS, BOS
        self.vocab_size: int = self._sp.vocab_size()

    def encode(self, text: str, bos: bool = False) -> list[int]:
        return [BOS] * bos + self._sp.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`; control tokens have none. Leading spaces are kept."""
        return self._sp.decode([int(i) for i in ids])

    def piece_id(self, text: str) -> int:
        """The id of `text` as ONE token. Raises UserError when the vocabulary has no such piece."""
        ids = self._sp.encode(text)
        if len(ids) != 1 or ids[0] == UNK:
            raise UserError(f'{text!r} is not one token of this tokenizer ({ids}): choose a stop that is')
        return ids[0]


def train(path, texts: Iterable[str], vocab_size: int) -> None:
    """Trains a tokenizer on `texts` and writes it to `path`: single digits, no added space, Gemma's special ids."""
    import sentencepiece

    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(line for text in texts for line in text.split('\n') if line),
            model_writer=model,
            vocab_size=vocab_size,
            model_type='bpe',
            pad_id=PAD,
            eos_id=EOS,
            bos_id=BOS,
            unk_id=UNK,
            pad_piece='<pad>',
            eos_piece='<eos>',
            bos_piece='<bos>',
            unk_piece='<unk>',
            control_symbols=list(CONTROL),
            user_defined_symbols=list(USER_DEFINED),
            split_digits=True,
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            normalization_rule_name='identity',
            character_coverage=1.0,
            num_threads=1,  # the same file from the same text
            minloglevel=2,
        )
    except RuntimeError as error:
        raise UserError(f'cannot train a tokenizer of {vocab_size} pieces: {str(error).splitlines()[-1]}') from None
    commit(path, model.getvalue())
