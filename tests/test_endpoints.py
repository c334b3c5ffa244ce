"""How a configuration names a model behind an API, and which key goes to whom."""

import pytest

from cosample_jax import endpoints
from cosample_jax.endpoints import Endpoint
from cosample_jax.errors import UserError


@pytest.mark.parametrize(
    ('init', 'endpoint'),
    [
        ('gemini:gemini-2.5-flash', Endpoint('gemini', 'gemini-2.5-flash')),
        ('openai:gpt-5-mini', Endpoint('openai', 'gpt-5-mini')),
        ('openai:weak@http://127.0.0.1:8000/v1/', Endpoint('openai', 'weak', 'http://127.0.0.1:8000/v1')),
        (
            'openai:meta-llama/Llama-3.1-8B@https://host/v1',
            Endpoint('openai', 'meta-llama/Llama-3.1-8B', 'https://host/v1'),
        ),
        ('openai:llama3:8b@http://localhost:11434/v1', Endpoint('openai', 'llama3:8b', 'http://localhost:11434/v1')),
    ],
)
def test_what_an_init_names(init, endpoint):
    assert endpoints.is_api(init) and endpoints.parse(init) == endpoint
    assert str(endpoint) == init.rstrip('/')


@pytest.mark.parametrize('init', ['package', 'pretrain', 'weights/gemma2_9b', 'gs://bucket/gemini:9b', 'weak'])
def test_what_is_none(init):
    assert not endpoints.is_api(init)


@pytest.mark.parametrize(
    ('init', 'said'),
    [
        ('openai:', 'openai:NAME'),
        ('gemini:a b', 'gemini:NAME'),
        ('openai:x@host:8000/v1', 'http://127.0.0.1'),
        ('openai:x@http://', 'http://127.0.0.1'),
        ('openai:x@http://user:secret@host/v1', 'api.key'),
        ('openai:x@http://host/v1?key=secret', 'api.key'),
    ],
)
def test_what_is_wrong_is_named_and_no_key_is_repeated(init, said):
    with pytest.raises(UserError) as caught:
        endpoints.parse(init)
    assert said in str(caught.value) and 'secret' not in str(caught.value)


def test_the_key_of_a_provider_goes_to_the_provider_alone(monkeypatch):
    for name in ('GEMINI_API_KEY', 'GOOGLE_API_KEY', 'OPENAI_API_KEY'):
        monkeypatch.setenv(name, f'value of {name}')
    assert endpoints.key(Endpoint('openai', 'x')) == 'value of OPENAI_API_KEY'
    assert endpoints.key(Endpoint('gemini', 'x')) == 'value of GEMINI_API_KEY'
    assert endpoints.key(Endpoint('openai', 'x', 'http://host/v1')) == ''
    monkeypatch.setenv('MINE', 'my own')
    assert endpoints.key(Endpoint('openai', 'x', 'http://host/v1'), 'MINE') == 'my own'
    monkeypatch.delenv('GEMINI_API_KEY')
    assert endpoints.key(Endpoint('gemini', 'x')) == 'value of GOOGLE_API_KEY'


def test_a_missing_key_is_one_line(monkeypatch):
    for name in ('GEMINI_API_KEY', 'GOOGLE_API_KEY'):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match='export GEMINI_API_KEY or GOOGLE_API_KEY='):
        endpoints.key(Endpoint('gemini', 'x'))
    with pytest.raises(UserError, match='export NOT_SET='):
        endpoints.key(Endpoint('openai', 'x', 'http://host/v1'), 'NOT_SET')
