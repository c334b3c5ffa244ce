"""Models behind an API, as the `init` of a model names them. No JAX here.

gemini:gemini-2.5-flash                      Google's, through google-genai
openai:gpt-5-mini                            OpenAI's, through openai
openai:weak@http://127.0.0.1:8000/v1         any server that speaks OpenAI's format (`cosample serve`, vLLM, ...)
"""

import os
import re
import urllib.parse
from typing import NamedTuple

from cosample_jax.errors import UserError

PROVIDERS = ('gemini', 'openai')
# The first that is set is sent to the provider's own address, and to no other.
_KEYS = {'gemini': ('GEMINI_API_KEY', 'GOOGLE_API_KEY'), 'openai': ('OPENAI_API_KEY',)}
_START = re.compile(rf'({"|".join(PROVIDERS)}):')


class Endpoint(NamedTuple):
    """Where a model answers: the `provider`'s own address where `base_url` is ''."""

    provider: str
    model: str
    base_url: str = ''

    def __str__(self) -> str:
        return f'{self.provider}:{self.model}{"@" if self.base_url else ""}{self.base_url}'


def is_api(init: str) -> bool:
    """Whether an `init` names a model behind an API, well-formed or not."""
    return bool(_START.match(init))


def parse(init: str) -> Endpoint:
    """The endpoint that an `init` names.

    Raises:
        UserError: it names none; or its address is no http(s) one, or carries a key, which would end up in files.
    """
    provider, _, rest = init.partition(':')
    model, at, url = rest.partition('@')
    if provider not in PROVIDERS or not re.fullmatch(r'[\w./:-]+', model):
        raise UserError(
            f'{init!r} names no model of an API: write gemini:NAME, openai:NAME or openai:NAME@http://HOST/v1'
        )
    if at:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ('http', 'https') or not parts.hostname:
            raise UserError(f'{init!r}: behind the @ belongs an address, such as http://127.0.0.1:8000/v1')
        if parts.username or parts.password or parts.query:
            raise UserError(
                f'{provider}:{model}@...: its address has a name, password or query in it, which files would show: '
                'give the key by config.models.<name>.api.key, the name of an environment variable'
            )
    return Endpoint(provider, model, url.rstrip('/'))


def key(endpoint: Endpoint, variable: str = '') -> str:
    """The key to send: the value of the environment `variable`, or of the provider's own. '' for a server that needs
    none: the key of a provider goes to nobody else.

    Raises:
        UserError: none is set; names the variables.
    """
    names = (variable,) if variable else () if endpoint.base_url else _KEYS[endpoint.provider]
    for name in names:
        if os.environ.get(name):
            return os.environ[name]
    if names:
        raise UserError(f'{endpoint}: no key in the environment: export {" or ".join(names)}=...')
    return ''
