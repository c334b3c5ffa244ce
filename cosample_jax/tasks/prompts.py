"""How problems and solutions become the text a model reads and writes. One template a task, the same for all models.

Few-shot (base models)::

    Q: <shot question>
    A: <shot solution>

    Q: <question>
    A:

Zero-shot (fine-tuned models) is the last two lines alone. The blank line ends a solution: base models run on into the
next question, so it is a stop, and so is the beginning of that question. No JAX here.
"""

from collections.abc import Sequence

from cosample_jax.records import Problem

STOP = '\n\n'
STOP_STRINGS = (STOP, '\nQ:')


def zero_shot(question: str) -> str:
    return f'Q: {question}\nA:'


def target(solution: str) -> str:
    """What a model is to write after the prompt."""
    return f' {solution}'


def few_shot(shots: Sequence[Problem], question: str) -> str:
    return ''.join(zero_shot(s.question) + target(s.solution) + STOP for s in shots) + zero_shot(question)


def before_stop(text: str) -> str:
    """The text up to the first stop string in it."""
    return text[: min((at for stop in STOP_STRINGS if (at := text.find(stop)) >= 0), default=None)]
