"""Slices are what data sheets say, and so are the peaks of devices."""

import jax
import pytest

from cosample_jax import devices, memory
from cosample_jax.errors import UserError


@pytest.mark.parametrize(
    ('name', 'links'),
    [
        ('v5e:1x1', 0),
        ('v5e:2x2', 2),
        ('v5e:4x8', 2),
        ('v6e:8x16', 3),  # rings of 16
        ('v5e:16x16', 4),
        ('v5p:2x2x1', 2),
        ('v4:2x2x4', 3),
        ('v5p:4x4x8', 6),  # whole cubes
    ],
)
def test_links_of_a_corner_chip(name, links):
    assert devices.parse_slice(name).links == links


def test_this_machine_is_shared_by_the_devices_it_stands_for():
    name, whole = devices.this_device(memory.Sizes())
    assert name == 'this machine'
    assert devices.this_device(memory.Sizes(2, 2, 2)) == ('each of 8 devices of this machine', whole // 8)


@pytest.mark.parametrize(
    ('name', 'chips', 'bounds'),
    [
        ('v5e:1x1', 1, (1, 1, 1)),
        ('v5e:2x4', 8, (2, 4, 1)),
        ('v6e:4x2', 8, (4, 2, 1)),
        ('v5e:4x8', 32, (2, 2, 1)),
        ('v4:2x2x4', 16, (2, 2, 1)),
        ('v5p:2x2x2', 8, (2, 2, 1)),
    ],
)
def test_slices(name, chips, bounds):
    found = devices.parse_slice(name)
    assert (found.chips, found.host_bounds) == (chips, bounds)
    hbm = {'v4': 32, 'v5e': 16, 'v5p': 95, 'v6e': 32}[found.kind] * devices.GIB  # of the data sheets
    assert 0.95 * hbm < found.usable <= hbm


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('v5:2x4', "unknown TPU 'v5'"),
        ('v5e:2x2x2', 'a v5e slice is written like v5e:2x4'),
        ('v5p:2x2', 'a v5p slice is written like v5p:2x2x4'),
        ('v5e', 'a v5e slice is written like'),
        ('v5e:0x4', 'a v5e slice is written like'),
        ('v5e:3x3', 'must be even'),
        ('v5e:32x32', 'the largest v5e slice has 256 chips'),
    ],
)
def test_slices_that_do_not_exist(name, message):
    with pytest.raises(UserError, match=message):
        devices.parse_slice(name)


def test_the_mesh_must_be_the_slice():
    with pytest.raises(UserError, match=r'mesh.data=1 x mesh.fsdp=4 x mesh.tensor=1 is 4 devices and v5e:2x4 has 8'):
        devices.check_mesh(devices.parse_slice('v5e:2x4'), memory.Sizes(fsdp=4))
    devices.check_mesh(devices.parse_slice('v5e:2x4'), memory.Sizes(2, 2, 2))
    assert len(jax.devices()) == 8  # the mesh of a slice is not limited by them
    devices.check_mesh(devices.parse_slice('v5e:4x4'), memory.Sizes(fsdp=16))


@pytest.mark.parametrize(
    ('kind', 'teraflops'),
    [('TPU v4', 275), ('TPU v5 lite', 197), ('TPU v5p', 459), ('TPU v6 lite', 918), ('NVIDIA H200', 989)],
)
def test_peak_of_known_devices(kind, teraflops):
    assert devices.peak_flops(memory.Sizes(data=2, tensor=4), kind) == 8e12 * teraflops


def test_peak_of_other_devices_is_not_guessed():
    assert devices.peak_flops(memory.Sizes(), 'cpu') is None
