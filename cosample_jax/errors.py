"""The one exception for what the user can fix, and the help that names the nearest valid spelling."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can fix. The message is ONE line that names the culprit and the fix."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows of it: the line, and no traceback."""
        return [f'cosample: error: {self}']


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """' (did you mean X?)' with the nearest of `choices`, or the choices themselves when few, or ''."""
    choices = [str(choice) for choice in choices]
    near = difflib.get_close_matches(str(name), choices, n=1, cutoff=0.5)
    if near:
        return f' (did you mean {near[0]!r}?)'
    if 0 < len(choices) <= 12:
        return f' (one of: {", ".join(choices)})'
    return ''
