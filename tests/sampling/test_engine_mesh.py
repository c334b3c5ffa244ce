"""The engine on several devices."""

import pytest
from drawing import FAMILIES, GREEDY, compiled, draw

from cosample_jax import memory
from cosample_jax.errors import UserError
from cosample_jax.sampling import decode
from cosample_jax.sharding import make_mesh


@pytest.mark.parametrize('sizes', [memory.Sizes(data=8), memory.Sizes(data=2, fsdp=2, tensor=2)], ids=['data', 'all'])
@pytest.mark.parametrize('family', [pytest.param('gemma2', marks=pytest.mark.slow), 'gemma2_scanned'])
def test_eight_devices_draw_the_same(sizes, family):
    config = FAMILIES[family]
    mesh = make_mesh(sizes)
    alone, together = draw(GREEDY, config=config), draw(GREEDY, config=config, mesh=mesh)
    once = compiled()
    draw(GREEDY, config=config, mesh=mesh)
    assert compiled() == once
    for key, expected in alone.items():
        assert together[key].tokens == expected.tokens
        assert together[key].logprob == pytest.approx(expected.logprob, abs=1e-4)


def test_rows_and_heads_are_split_and_stay_split(monkeypatch):
    """Every call gets and leaves a state of which a device holds its share."""
    shapes, original = [], decode.decode

    def watched(params, cache, *args, **kwargs):
        before = cache[0][0].sharding.shard_shape(cache[0][0].shape)
        cache, emitted = original(params, cache, *args, **kwargs)
        after = cache[0][0].sharding.shard_shape(cache[0][0].shape)
        shapes.extend([before, after])
        return cache, emitted

    monkeypatch.setattr(decode, 'decode', watched)
    draw(GREEDY, mesh=make_mesh(memory.Sizes(data=2, fsdp=2, tensor=2)))
    assert len(shapes) > 4
    assert {(shape[0], shape[2]) for shape in shapes} == {(4 // 4, 2 // 2)}  # shards of rows, heads


def test_rows_must_divide_over_the_mesh():
    with pytest.raises(UserError, match=r'sampling\.slots=8 does not divide .* 3 devices'):
        draw(mesh=make_mesh(memory.Sizes(data=3)))
