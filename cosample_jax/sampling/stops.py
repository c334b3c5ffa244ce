"""Texts that end a sample, wherever they begin and end in tokens. No JAX here."""

from collections.abc import Sequence


class StopStrings:
    """Finds the first token that completes one of the stop strings.

    A base model runs on after its answer, and may write a stop in other tokens than it was shown: 'Problem' and ':', or
    'm:' behind 'Proble'. So texts are compared, as bytes: a token may end within a character.
    """

    def __init__(self, stops: Sequence[str], pieces: Sequence[bytes]):
        """`pieces` are the texts of the tokens, by id (`Tokenizer.pieces`). ValueError for an empty stop."""
        if not all(stops):
            raise ValueError('an empty stop string would end every sample at once')
        self._stops = tuple(stop.encode() for stop in stops)
        self._pieces = pieces
        self._kept = max(map(len, self._stops), default=1) - 1

    def find(self, tail: bytes, tokens: Sequence[int]) -> tuple[int | None, bytes]:
        """(how many of `tokens` it takes to complete a stop, or None; the new tail of the text).

        `tail` is what the last call on the same sample returned, b'' at first.
        """
        text = tail + b''.join([self._pieces[token] for token in tokens])
        if not self._has_stop(text):
            return None, text[-self._kept :] if self._kept else b''
        for count in range(1, len(tokens) + 1):
            text = tail + b''.join([self._pieces[token] for token in tokens[:count]])
            if self._has_stop(text):
                break
        return count, b''

    def _has_stop(self, text: bytes) -> bool:
        return any(stop in text for stop in self._stops)
