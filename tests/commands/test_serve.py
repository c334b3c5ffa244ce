"""What `cosample serve` refuses before it serves."""

import importlib.util
import socket
from types import SimpleNamespace

import pytest

from cosample_jax import config as config_lib
from cosample_jax import devices, memory
from cosample_jax.commands import serve
from cosample_jax.errors import UserError
from cosample_jax.gemma.config import variant

SHAPE = memory.Sampling(0, 800, 256, 400)


def args(**changes):
    config = config_lib.base()
    config.name = 'test'
    config = config_lib.finalize(config)
    return SimpleNamespace(
        **{'config': config, 'workdir': None, 'model': [], 'host': '', 'port': 0, 'prompt_tokens': 0} | changes
    )


def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None if name == 'uvicorn' else find(name))
    with pytest.raises(UserError, match=r"needs uvicorn: pip install 'cosample_jax\[serve\]'"):
        serve.main(args())


def test_a_model_that_is_none_of_the_run_is_refused_before_anything_is_made():
    with pytest.raises(UserError, match=r"--model=strnog: neither a model nor a cell .*'strong'"):
        serve.main(args(model=['weak', 'strnog']))


def test_a_port_that_is_taken():
    with socket.create_server(('127.0.0.1', 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f'cannot listen at 127.0.0.1, port {port}'):
            serve.main(args(port=port))
    with pytest.raises(UserError, match='port 70000'):
        serve.main(args(port=70000))


def test_prompts_are_as_long_as_the_context_leaves():
    small, large = variant('tiny_weak'), variant('gemma2_9b')
    assert serve._longest_prompt('weak', small, 96, 0) == 1024 - 96
    assert serve._longest_prompt('weak', large, 400, 0) == 1024
    assert serve._longest_prompt('weak', large, 400, 5000) == 5000
    with pytest.raises(UserError, match=r'--prompt-tokens=929: weak \(tiny_weak\) has a context of 1024 .* leave 928'):
        serve._longest_prompt('weak', small, 96, 929)


@pytest.mark.parametrize(('address', 'ours'), [('127.0.0.1', True), ('::1', True), ('0.0.0.0', False), ('::', False)])
def test_who_can_reach_it(address, ours):
    assert serve._is_loopback(address) == ours


def test_caches_of_all_models_fit_beside_their_weights(monkeypatch):
    config, sizes, there = variant('gemma2_2b'), memory.Sizes(), 64 * devices.GIB
    monkeypatch.setattr(memory, 'this_device', lambda _: ('a chip', there))
    monkeypatch.setattr(memory, 'most_rows', lambda _: 4096)
    monkeypatch.setattr(memory.model, 'compute_dtype', lambda: memory.jnp.bfloat16)
    weights = memory.weight_bytes(config, sizes, memory.jnp.bfloat16)
    shapes = [SHAPE, SHAPE._replace(prefix=0, question=1023)]

    def taken(rows):
        """Beside the weights by the two caches, each as large as the larger, and by what orders all logits."""
        whole = max(memory.sampling(config, sizes, shape._replace(slots=rows)).total for shape in shapes)
        return 2 * (whole - weights + memory.ORDERED * rows * config.vocab_size * 4)

    rows = {models: memory.live_slots(config, sizes, shapes, models * weights) for models in (1, 2)}
    assert 1 <= rows[2] < rows[1] < 4096
    for models, each in rows.items():
        assert models * (weights + taken(each)) <= there < models * (weights + taken(each + 1))
    with pytest.raises(UserError, match='gemma2_2b needs'):
        memory.live_slots(config, sizes, shapes, 8 * weights)
