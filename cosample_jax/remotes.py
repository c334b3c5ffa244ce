"""The models of a run that are behind an API: their clients, and the door that a stage samples through."""

import importlib
import importlib.util

from cosample_jax import config as config_lib
from cosample_jax import endpoints, hosts
from cosample_jax.apis.protocol import ApiError, Client, Settings
from cosample_jax.errors import UserError
from cosample_jax.sampling.remote import Remote
from cosample_jax.tasks.api_prompts import ApiTemplate

# provider -> (the library that it needs, our client and its module)
_CLIENTS = {
    'gemini': ('google.genai', 'GeminiClient', 'cosample_jax.apis.gemini_client'),
    'openai': ('openai', 'OpenAIClient', 'cosample_jax.apis.openai_client'),
}


def open_door(
    config, workdir, name: str, purpose: str, template: ApiTemplate, *, greedy: bool = False, max_new_tokens: int = 0
) -> Remote:
    """What draws samples of a model for `purpose`: at the temperature of a source, or greedily; of the run's length,
    or `max_new_tokens`.

    Raises:
        UserError: the key or the library is missing; there are several processes; or the workdir is an object store.
    """
    if hosts.count() > 1:
        raise UserError(
            f'{config_lib.field_of(name)} is asked by one process, and there are {hosts.count()}: draw its '
            'samples in a run of one machine, and take them over with config.sampling.pools'
        )
    entry, settings = config_lib.all_models(config)[name], _settings(config, name, template, greedy, max_new_tokens)
    return Remote(
        connect(config, name, settings),
        workdir.ledger,
        model=name,
        purpose=purpose,
        seed=config.seed,
        settings=settings,
        price=config_lib.price(config, name),
        api=entry.api,
        text=template.text,
    )


def check(config, name: str) -> str:
    """Whether a model can be asked: its library is there, its key is good, and it exists. Costs nothing.

    Returns:
        What was found, in a few words.

    Raises:
        UserError: it cannot.
    """
    entry = config_lib.all_models(config)[name]
    asked = {'temperature': 0, 'top_k': 0, 'top_p': 1, 'max_new_tokens': 1, 'stop_strings': (), 'thinking': ''}
    settings = Settings(**asked, timeout=min(60, entry.api.timeout))
    try:
        connect(config, name, settings).check()
    except ApiError as error:
        raise UserError(f'{config_lib.field_of(name)}: {error}') from None
    return f'{entry.init} answers'


def connect(config, name: str, settings: Settings) -> Client:
    endpoint, entry = config_lib.endpoint(config, name), config_lib.all_models(config)[name]
    key = endpoints.key(endpoint, entry.api.key)
    library, client, module = _CLIENTS[endpoint.provider]
    try:
        found = importlib.util.find_spec(library)
    except ModuleNotFoundError:  # google, of google.genai
        found = None
    if found is None:
        raise UserError(f"{endpoint} needs one more package: pip install 'cosample_jax[api]'")
    return getattr(importlib.import_module(module), client)(endpoint, key, settings)


def _settings(config, name: str, template: ApiTemplate, greedy: bool, max_new_tokens: int) -> Settings:
    entry, sampling = config_lib.all_models(config)[name], config.sampling
    heat = entry if entry.get('temperature') else sampling
    return Settings(
        temperature=0.0 if greedy else heat.temperature,
        top_k=0 if greedy else heat.top_k,
        top_p=1.0 if greedy else sampling.top_p,
        max_new_tokens=max_new_tokens or sampling.max_new_tokens,
        stop_strings=template.stop_strings,
        thinking=entry.api.thinking,
        timeout=entry.api.timeout,
    )
