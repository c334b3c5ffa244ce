"""SentencePiece tokenizers: the official Gemma files, and small ones trained from text. No JAX here.

Which pieces a model knows is data: `vocabulary(variant)`. A tokenizer is told by its special pieces, not by its size
alone: with another one every text would still become ids, only meaningless ones.

Sources: gemma/gm/text/_tokenizer.py of the official `gemma` package, and the tokenizer files of the `google/gemma-*`
checkpoints.
"""

import dataclasses
import functools
import hashlib
import io
import re
from collections.abc import Iterable, Sequence

from etils import epath

from cosample_jax import config as config_lib
from cosample_jax.errors import UserError
from cosample_jax.gemma import config as gemma_config
from cosample_jax.gemma.config import GemmaConfig
from cosample_jax.records import commit

# The same in every Gemma.
PAD, EOS, BOS, UNK = 0, 1, 2, 3
CONTROL = ('<start_of_turn>', '<end_of_turn>')
SPELLED = re.compile('(?<=<)(?=(?:start|end)_of_turn>)')  # within those pieces, where text spells them
USER_DEFINED = ('\n', '\n\n')  # a blank line is one piece, so it can be a stop


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The pieces that models of one kind were trained on.

    Attributes:
        name: For messages.
        sizes: How many pieces a file may have; () is any number.
        turns: The ids of <start_of_turn> and <end_of_turn>.
    """

    name: str
    sizes: tuple[int, ...]
    turns: tuple[int, int]

    @property
    def ends(self) -> tuple[int, int]:
        """The tokens that end what a model writes: <eos> and <end_of_turn>."""
        return EOS, self.turns[1]

    def __str__(self) -> str:
        pieces = ' or '.join(f'{size:,}' for size in self.sizes)
        turns = f'{CONTROL[0]} {self.turns[0]} and {CONTROL[1]} {self.turns[1]}'
        return f'{self.name} ({pieces} pieces, {turns})' if pieces else f'{self.name} ({turns})'


GEMMA_1_2 = Vocabulary('the tokenizer of Gemma 1 and 2', (256_000,), (106, 107))
# transformers adds <image_soft_token> as id 262,144, for which a text model has no row. A file saved with it is the
# same tokenizer: no text becomes that piece but its own name, and the engine refuses a prompt that has it.
GEMMA_3 = Vocabulary('the tokenizer of Gemma 3', (262_144, 262_145), (105, 106))
OWN = Vocabulary('a tokenizer of this package', (), (4, 5))  # as `train` makes them, of any size


def vocabulary(variant: GemmaConfig) -> Vocabulary:
    """What `variant` needs: an official vocabulary, or for a small model one of its own size."""
    official = GEMMA_3 if variant.family == 'gemma3' else GEMMA_1_2
    if variant.vocab_size in official.sizes:
        return official
    return dataclasses.replace(OWN, sizes=(variant.vocab_size,))


class Tokenizer:
    """Text to token ids and back. `path` may be local or gs://.

    Raises UserError when there is no such file, or it is no Gemma tokenizer; whether it is the right one for a model
    is told by :meth:`check`.
    """

    def __init__(self, path):
        import sentencepiece

        self.path = epath.Path(path)
        if not self.path.exists():
            raise UserError(
                f'no tokenizer at {path}: run `cosample prepare` first, or give the path of a SentencePiece model'
            )
        if self.path.is_dir():
            raise UserError(f'{path} is a directory: name the SentencePiece model in it, usually tokenizer.model')
        self.content = self.path.read_bytes()
        try:
            self._sp = sentencepiece.SentencePieceProcessor(model_proto=self.content)
        except RuntimeError:
            raise UserError(f'{path} is not a SentencePiece model') from None
        found = (self._sp.pad_id(), self._sp.eos_id(), self._sp.bos_id(), self._sp.unk_id())
        if found != (PAD, EOS, BOS, UNK):
            raise UserError(
                f'{path} is not a Gemma tokenizer: <pad>, <eos>, <bos>, <unk> must be {PAD}, {EOS}, {BOS}, {UNK}, '
                f'found {", ".join(map(str, found))}'
            )
        turns = tuple(self._sp.piece_to_id(piece) for piece in CONTROL)
        known = [vocabulary for vocabulary in (GEMMA_1_2, GEMMA_3, OWN) if vocabulary.turns == turns]
        if not known:
            shown = ', '.join(f'no {p}' if i == UNK else f'{p} {i}' for p, i in zip(CONTROL, turns, strict=True))
            raise UserError(
                f'{path} is not a tokenizer of a Gemma known here: it has {shown}; known are {GEMMA_1_2} and {GEMMA_3}'
            )
        self.pad, self.eos, self.bos = PAD, EOS, BOS
        self.vocab_size: int = self._sp.vocab_size()
        self.vocabulary = known[0]

    @property
    def fingerprint(self) -> str:
        """Tells one file from another: weights are worth something with the tokenizer they were trained with alone."""
        return hashlib.sha256(self.content).hexdigest()[:16]

    def check(self, variant: GemmaConfig, who: str) -> None:
        """UserError unless this is a tokenizer of `variant`, which the message calls `who` (variant.name)."""
        wanted = vocabulary(variant)
        if self.vocabulary.turns != wanted.turns or self.vocab_size not in wanted.sizes:
            found = dataclasses.replace(self.vocabulary, sizes=(self.vocab_size,))
            fix = (
                'choose a variant made for this tokenizer, or leave config.tokenizer empty'
                if wanted.name == OWN.name
                else 'set config.tokenizer to the tokenizer.model that comes with its weights'
            )
            raise UserError(f'{who} ({variant.name}) needs {wanted}, and {self.path} is {found}: {fix}')

    def encode(self, text: str, bos: bool = False) -> list[int]:
        """Ids of `text`, which never begins or ends a turn.

        To SentencePiece these two are ordinary pieces of the official files, so text that spells one is cut in it.
        """
        ids = self._sp.encode(text)
        if not set(self.vocabulary.turns).isdisjoint(ids):
            ids = [i for part in SPELLED.split(text) for i in self._sp.encode(part)]
        return [BOS] * bos + ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`; control tokens have none. Leading spaces are kept."""
        return self._sp.decode([int(i) for i in ids])

    @functools.cached_property
    def pieces(self) -> list[bytes]:
        """What each token adds to a text, by id; a byte piece its byte, a control token nothing.

        Joined they are what `decode` returns, but for bytes that are no character.
        """
        texts = []
        for token in range(self.vocab_size):
            piece = self._sp.id_to_piece(token)
            if self._sp.is_control(token):
                texts.append(b'')
            elif self._sp.is_byte(token):
                texts.append(bytes([int(piece[3:-1], 16)]))  # <0x0A>
            elif self._sp.is_unknown(token):
                texts.append(self._sp.decode([token]).encode())
            else:
                texts.append(piece.replace('\N{LOWER ONE EIGHTH BLOCK}', ' ').encode())
        return texts

    def piece_id(self, text: str) -> int:
        """The id of `text` as ONE token. Raises UserError when the vocabulary has no such piece."""
        ids = self._sp.encode(text)
        if len(ids) != 1 or ids[0] == UNK:
            raise UserError(f'{text!r} is not one token of this tokenizer ({ids}): choose a stop that is')
        return ids[0]

    def stop_ids(self, stop: str) -> tuple[int, ...]:
        """The tokens that end a sample: <eos>, <end_of_turn>, and every piece that is `stop` or `stop` and more of its
        last character.

        The official vocabularies have a piece for each run of up to 31 newlines: a model that leaves two lines blank
        writes one token, and not the one of a single blank line. Raises UserError when `stop` is not one token.
        """
        ids = [self.piece_id(stop)]
        while (longer := self._sp.piece_to_id(stop + stop[-1] * len(ids))) != UNK:
            ids.append(longer)
        return (*self.vocabulary.ends, *ids)


def needed(config) -> Vocabulary:
    """The one vocabulary of a run.

    Raises UserError when its models need different ones (a run has one tokenizer), when they need an official one and
    `config.tokenizer` names none, or when it names one and shipped weights are to be used.
    """
    variants = {n: gemma_config.variant(entry.variant) for n, entry in config_lib.local_models(config).items()}
    first, *others = variants
    wanted = vocabulary(variants[first])
    for name in others:
        if vocabulary(variants[name]) != wanted:
            raise UserError(
                f'config.models.{first} ({variants[first].name}) needs {wanted} but config.models.{name} '
                f'({variants[name].name}) needs {vocabulary(variants[name])}: a run has one tokenizer, so choose '
                'variants that share one (Gemma 1 and 2 do) or give each family a run of its own'
            )
    if not config.tokenizer and wanted.name != OWN.name:
        raise UserError(
            f'config.tokenizer is empty, and config.models.{first} ({variants[first].name}) needs {wanted}: set it to '
            'the tokenizer.model that comes with the weights; `cosample doctor` with this configuration says how to '
            'get both'
        )
    shipped = [name for name, entry in config.models.items() if entry.init == 'package']
    if config.tokenizer and shipped:
        raise UserError(
            f"config.tokenizer is {config.tokenizer}, but config.models.{shipped[0]}.init is 'package': shipped "
            'weights go with the shipped tokenizer, so leave config.tokenizer empty'
        )
    return wanted


def given(config) -> Tokenizer | None:
    """The tokenizer that `config.tokenizer` names, right for every model of the run; None when one is to be made.

    Reads files, changes nothing. Raises UserError as :func:`needed` does, and when the named one is missing or wrong.
    """
    needed(config)
    if not config.tokenizer:
        return None
    tokenizer = Tokenizer(config.tokenizer)
    for name, entry in config_lib.local_models(config).items():
        tokenizer.check(gemma_config.variant(entry.variant), f'config.models.{name}')
    return tokenizer


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
        if 'size too high' in str(error):
            raise UserError(
                f'there is too little text for a tokenizer of {vocab_size} pieces: add training problems with '
                'solutions (a few hundred), or take models that have a tokenizer'
            ) from None
        raise UserError(f'cannot train a tokenizer of {vocab_size} pieces: {str(error).splitlines()[-1]}') from None
    commit(path, model.getvalue())
