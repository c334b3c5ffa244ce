"""What an HTTP status means for a request: ask again, or stop and say why. No JAX here."""

import email.utils
import time
from collections.abc import Mapping

from cosample_jax.apis.protocol import ApiError
from cosample_jax.endpoints import Endpoint

_AGAIN = (408, 409, 425, 429)


class Blocked(Exception):
    """The provider will not answer this prompt, however often it is asked."""


def http_fault(endpoint: Endpoint, status: int, message: str, wait: float | None, quota: bool = False) -> ApiError:
    """The error of a request that was answered with this status; a `quota` that is used up does not come back soon."""
    told = f'{endpoint} answers {status}: {message}'
    if status in (401, 403):
        return ApiError(f'{told} (check the key, and what it may do)', again=False)
    if status == 404:
        return ApiError(f'{told} (check the name of the model and the address)', again=False)
    if status == 429 and quota:
        return ApiError(f'{told} (the quota is used up: raise it, or wait; the same command continues)', again=False)
    again = status in _AGAIN or status >= 500
    return ApiError(told, again=again, wait=wait, busy=status in (429, 503, 529))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from a Retry-After header of seconds or of a date; None where it says neither."""
    text = headers.get('retry-after') or ''
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
