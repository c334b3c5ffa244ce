"""What devices are and have: kinds of TPU and their slices, this machine's, and their peaks by the data sheets."""

import math
import os
from typing import NamedTuple

import jax

from cosample_jax import sharding
from cosample_jax.errors import UserError, did_you_mean

GIB = 2**30


class Kind(NamedTuple):
    """A kind of TPU. Sources: its Cloud TPU data sheet (cloud.google.com/tpu/docs/v4, v5e, v5p, v6e), which gives the
    links of a chip together, two a dimension and both ways, and when sizes close to rings; v4's link: arXiv 2304.01433;
    `usable`: what the compiler leaves a program of it.
    """

    dimensions: int  # of its slices
    chips: int  # of its largest
    usable: float  # GiB of a chip
    teraflops: float  # peak of a chip, bfloat16, 1e12 a second
    bandwidth: float  # of a chip's memory, 1e9 bytes a second
    link: float  # of one link to a neighbour, one way, 1e9 bytes a second
    ring: int  # a size of its slices that is a multiple of this closes to a ring; in 3-D slices, when all are


KINDS = {
    'v4': Kind(3, 4096, 30.75, 275, 1228, 50, 4),
    'v5e': Kind(2, 256, 15.75, 197, 819, 50, 16),
    'v5p': Kind(3, 8960, 95, 459, 2765, 100, 4),
    'v6e': Kind(2, 256, 31.24, 918, 1640, 100, 16),
}


class Slice(NamedTuple):
    """A TPU slice.

    Attributes:
        name: As given, 'v5e:2x4'.
        kind: A key of KINDS.
        chips: How many.
        host_bounds: Chips of one host, (x, y, z).
        usable: Bytes of a chip that a program may have.
        links: Neighbours of the chip that has fewest, one in a corner: what it gets comes over these.
    """

    name: str
    kind: str
    chips: int
    host_bounds: tuple[int, int, int]
    usable: int
    links: int


def parse_slice(name: str) -> Slice:
    """The slice called 'v5e:2x4' or 'v5p:2x2x2'. UserError for a kind that does not exist or a shape it cannot have."""
    kind, _, shape = name.partition(':')
    if kind not in KINDS:
        raise UserError(f'--topology={name}: unknown TPU {kind!r}{did_you_mean(kind, KINDS)}')
    example = 'x'.join('224'[-KINDS[kind].dimensions :])
    sizes = shape.split('x')
    if len(sizes) != KINDS[kind].dimensions or not all(size.isdecimal() and int(size) for size in sizes):
        raise UserError(f'--topology={name}: a {kind} slice is written like {kind}:{example}')
    sizes = [int(size) for size in sizes]
    chips = math.prod(sizes)
    if chips > KINDS[kind].chips:
        raise UserError(f'--topology={name}: the largest {kind} slice has {KINDS[kind].chips:,} chips')
    # A host holds 2x2 chips; a whole 2x4 of v5e and v6e is one host, and a single chip has a host of its own.
    if chips == 1:
        bounds = (1, 1, 1)
    elif KINDS[kind].dimensions == 2 and sorted(sizes) == [2, 4]:
        bounds = (*sizes, 1)
    else:
        bounds = (2, 2, 1)
    if any(size % bound for size, bound in zip(sizes, bounds, strict=False)):
        raise UserError(f'--topology={name}: its hosts hold 2x2 chips, so both of its first sizes must be even')
    rings = [size % KINDS[kind].ring == 0 for size in sizes]
    if KINDS[kind].dimensions == 3:
        rings = [all(rings)] * 3
    links = sum((size > 1) + ring for size, ring in zip(sizes, rings, strict=True))
    return Slice(name, kind, chips, bounds, int(KINDS[kind].usable * GIB), links)


def check_mesh(slice_: Slice, sizes) -> None:
    """UserError unless a mesh of `sizes` uses every chip of the slice."""
    wanted = [getattr(sizes, axis) for axis in sharding.MESH_AXES]
    if math.prod(wanted) != slice_.chips:
        shown = ' x '.join(f'mesh.{axis}={size}' for axis, size in zip(sharding.MESH_AXES, wanted, strict=True))
        raise UserError(
            f'{shown} is {math.prod(wanted)} devices and {slice_.name} has {slice_.chips} chips: set '
            f'--config.mesh.fsdp or --config.mesh.tensor so that their product is {slice_.chips}'
        )


def this_device(sizes) -> tuple[str, int]:
    """What one device of a mesh of `sizes` is called and has: an accelerator's own memory, or its share of the
    machine's, in bytes.
    """
    device = jax.local_devices()[0]
    stats = device.memory_stats() if device.platform != 'cpu' else None
    if stats and 'bytes_limit' in stats:
        return f'a {device.device_kind} here', stats['bytes_limit']
    devices = math.prod(getattr(sizes, axis) for axis in sharding.MESH_AXES)
    whole = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    return 'this machine' if devices == 1 else f'each of {devices} devices of this machine', whole // devices


# Of devices that are no TPUs of KINDS, dense bfloat16, from NVIDIA's data sheets: 1e12 FLOP/s.
_GPU_TERAFLOPS = {'H100': 989, 'H200': 989, 'A100': 312}


_TPU_NAMES = {
    'TPU v4': 'v4',
    'TPU v5 lite': 'v5e',
    'TPU v5e': 'v5e',
    'TPU v5': 'v5p',
    'TPU v5p': 'v5p',
    'TPU v6 lite': 'v6e',
}


def peak_flops(sizes, device_kind: str | None = None) -> float | None:
    """FLOP/s in bfloat16 that a mesh of `sizes` has at most by the data sheets; None for devices not known here.

    `device_kind` is what JAX calls the device; None asks for this machine's.
    """
    kind = jax.devices()[0].device_kind if device_kind is None else device_kind
    teraflops = next((flops for name, flops in _GPU_TERAFLOPS.items() if name in kind), None)
    if kind in _TPU_NAMES:
        teraflops = KINDS[_TPU_NAMES[kind]].teraflops
    devices = math.prod(getattr(sizes, axis) for axis in sharding.MESH_AXES)
    return None if teraflops is None else teraflops * 1e12 * devices
