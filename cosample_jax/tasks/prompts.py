"""How problems and solutions become the tokens a model reads and writes. Two templates, the same for all tasks.

Base models continue a page of questions and answers (:class:`Page`). Few-shot::

    Q: <shot question>
    A: <shot solution>

    Q: <question>
    A:

Zero-shot (fine-tuned models) is the last two lines alone. The blank line ends a solution: base models run on into the
next question, so it is a stop, and so is the beginning of that question. A solution that has blank lines itself (MATH's
have, and what instruction-tuned models write) gets single line breaks instead wherever it is shown or taught: models
then write none, and the stop cuts nothing short. Programs keep theirs: there the beginning of the next question is the
only stop (a task's ``STOPS``).

Instruction-tuned models are asked and taught in turns (:class:`Turns`); shots are earlier turns::

    <bos><start_of_turn>user
    <question><end_of_turn>
    <start_of_turn>model

Sampling and training ask the same template, so what is taught is what is asked; a conversation with a model that is
served is put into it, too: what was asked and answered before are shots. No JAX here.
"""

import re
from collections.abc import Sequence

from cosample_jax.gemma.tokenizer import Tokenizer
from cosample_jax.records import Problem

STOP = '\n\n'
STOP_STRINGS = (STOP, '\nQ:')
_BLANK_LINES = re.compile(r'\n\s*\n')


def zero_shot(question: str) -> str:
    return f'Q: {question}\nA:'


def target(solution: str, stops: Sequence[str] = STOP_STRINGS) -> str:
    """What a model is to write after the prompt; blank lines become line breaks where a blank line would end it."""
    return ' ' + (_BLANK_LINES.sub('\n', solution) if STOP in stops else solution)


def few_shot(shots: Sequence[Problem], question: str, stops: Sequence[str] = STOP_STRINGS) -> str:
    return ''.join(zero_shot(s.question) + target(s.solution, stops) + STOP for s in shots) + zero_shot(question)


def before_stop(text: str, stops: Sequence[str] = STOP_STRINGS) -> str:
    """The text up to the first stop string in it."""
    return text[: min((at for stop in stops if (at := text.find(stop)) >= 0), default=None)]


class Page:
    """A page of questions and answers, for a model that continues text. `stop_strings` end an answer."""

    def __init__(self, tokenizer: Tokenizer, stop_strings: Sequence[str] = STOP_STRINGS):
        self.tokenizer, self.stop_strings = tokenizer, tuple(stop_strings)

    @property
    def stop_ids(self) -> tuple[int, ...]:
        if STOP in self.stop_strings:
            return self.tokenizer.stop_ids(STOP)
        return self.tokenizer.vocabulary.ends

    def prompt(self, question: str, shots: Sequence[Problem] = ()) -> list[int]:
        """Tokenised whole: pieces tokenised apart give other tokens at the seams."""
        return self.conversation('', shots, question)

    def conversation(self, system: str, shots: Sequence[Problem], question: str) -> list[int]:
        """The same page below a first paragraph `system`, '' for none."""
        page = few_shot(shots, question, self.stop_strings)
        return self.tokenizer.encode(system + STOP + page if system else page, bos=True)

    def spelled(self, question: str, shots: Sequence[Problem] = ()) -> str:
        """The same prompt to read, control tokens by name."""
        return f'<bos>{few_shot(shots, question, self.stop_strings)}'

    def answer(self, solution: str) -> list[int]:
        """What is to be learned after the prompt. Tokenised apart from it, as it is when the model is asked."""
        return [*self.tokenizer.encode(target(solution, self.stop_strings)), self.tokenizer.eos]

    def text(self, tokens: Sequence[int]) -> str:
        """What a sample says, up to where it stopped."""
        return before_stop(self.tokenizer.decode(tokens), self.stop_strings)

    def said(self, text: str) -> str:
        """What a sample's text says in a conversation: a page has a space in front of it (`target`)."""
        return text.removeprefix(' ')


class Turns:
    """A conversation as Gemma's own chat template has it, which strips what is said, too.

    <start_of_turn> and <end_of_turn> are put in by id: a question that spells them must not end its turn.
    """

    stop_strings = ()  # it writes paragraphs, and ends its turn itself

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer

    @property
    def stop_ids(self) -> tuple[int, ...]:
        return self.tokenizer.vocabulary.ends

    def prompt(self, question: str, shots: Sequence[Problem] = ()) -> list[int]:
        return self.conversation('', shots, question)

    def conversation(self, system: str, shots: Sequence[Problem], question: str) -> list[int]:
        """The same prompt, with `system` before what the user says first, as in Gemma 3's own template; '' for none."""
        newline = self.tokenizer.encode('\n')
        ids = [self.tokenizer.bos]
        before = system and f'{system}\n\n'
        for shot in shots:
            ids += [*self._asked(shot.question, before), *self.answer(shot.solution), *newline]
            before = ''
        return ids + self._asked(question, before)

    def spelled(self, question: str, shots: Sequence[Problem] = ()) -> str:
        """The same prompt to read, control tokens by name."""
        told = ''.join(f'{_turn(s.question)}{s.solution.strip()}<end_of_turn>\n' for s in shots)
        return f'<bos>{told}{_turn(question)}'

    def _asked(self, question: str, before: str) -> list[int]:
        encode, (start, end) = self.tokenizer.encode, self.tokenizer.vocabulary.turns
        return [start, *encode(f'user\n{before}{question.strip()}'), end, *encode('\n'), start, *encode('model\n')]

    def answer(self, solution: str) -> list[int]:
        """What is to be learned after the prompt."""
        return [*self.tokenizer.encode(solution.strip()), self.tokenizer.vocabulary.turns[1]]

    def text(self, tokens: Sequence[int]) -> str:
        """What a sample says, blank lines and all."""
        return self.tokenizer.decode(tokens)

    def said(self, text: str) -> str:
        """What a sample's text says in a conversation."""
        return text


def _turn(question: str) -> str:
    return f'<start_of_turn>user\n{question.strip()}<end_of_turn>\n<start_of_turn>model\n'


Template = Page | Turns


def template(tokenizer: Tokenizer, chat: bool, stops: Sequence[str] = STOP_STRINGS) -> Template:
    """How a model is asked and taught; `chat` is its setting in `config.models`, `stops` are its task's."""
    return Turns(tokenizer) if chat else Page(tokenizer, stops)
