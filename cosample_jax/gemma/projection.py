"""The matrices of a block, and how activations and low-rank adapters meet them.

Axis letters in equations: b rows, t tokens, d embed, f ffw hidden, n query heads, k kv heads, h head dim, r rank.
"""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp


class Matrix(NamedTuple):
    """How one of a block's matrices multiplies: the axes of x, of w and of what comes out, a letter each."""

    x: str
    w: str
    out: str

    @property
    def inputs(self) -> str:
        """The axes of w that are summed over."""
        return ''.join(axis for axis in self.w if axis not in self.out)

    @property
    def outputs(self) -> str:
        return ''.join(axis for axis in self.w if axis in self.out)

    def sizes(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """What `shape` has before the axes of w (layers, and the parts of a stack), its inputs and its outputs."""
        size = dict(zip(reversed(self.w), reversed(shape), strict=False))
        inputs, outputs = (tuple(size[axis] for axis in axes) for axes in (self.inputs, self.outputs))
        return shape[: -len(self.w)], inputs, outputs

    def project(self, x: jax.Array, w: jax.Array, a: jax.Array | None = None, b: jax.Array | None = None) -> jax.Array:
        """x w, or x w + (ALPHA / r) (x a) b with a [inputs, r] and b [r, outputs].

        Equation 3 of arXiv 2106.09685. Both products are thin, and so are their gradients: where only a and b are
        differentiated, nothing of w's size is made.
        """
        y = jnp.einsum(f'{self.x},{self.w}->{self.out}', x, w)
        if a is None:
            return y
        thin = ''.join(axis for axis in self.x if axis not in self.w) + 'r'
        down = jnp.einsum(f'{self.x},{self.inputs}r->{thin}', x, a) * (ALPHA / a.shape[-1])
        return y + jnp.einsum(f'{thin},r{self.outputs}->{self.out}', down, b)

    def update(self, a: jax.Array, b: jax.Array) -> jax.Array:
        """What a and b, both with the same axes before their own, add to w: (ALPHA / r) a b."""
        product = f'...{self.inputs}r,...r{self.outputs}->...{self.w}'
        return jnp.einsum(product, a, b, precision=jax.lax.Precision.HIGHEST) * (ALPHA / a.shape[-1])


# Of adapters, whatever their rank: with Adam, another alpha is another learning rate, and one that does not change with
# the rank lets the learning rate stay when the rank changes (arXiv 2106.09685, section 4.1). 32 is the common 2 r of
# rank 16.
ALPHA = 32.0
# The matrices of a block. 'kv_einsum' and 'gating_einsum' are stacks of two: keys and values, gate and up.
MATRICES = {
    'q_einsum': Matrix('btd', 'ndh', 'btnh'),
    'kv_einsum': Matrix('btd', 'kdh', 'btkh'),
    'attn_vec_einsum': Matrix('btnh', 'nhd', 'btd'),
    'gating_einsum': Matrix('btd', 'fd', 'btf'),
    'linear': Matrix('btf', 'fd', 'btd'),
}


class Projection(nn.Module):
    """x times the one of `MATRICES` that the module is called after, w, or a list of x times each of a stack of them.

    w is normal with variance 1 / fan-in. An adapter is a and b of the collection 'lora', stacked as w is.
    """

    shape: tuple[int, ...]

    @nn.compact
    def __call__(self, x):
        matrix = MATRICES[self.name]
        stack, inputs, _ = matrix.sizes(self.shape)
        arrays = [self.param('w', nn.initializers.normal(math.prod(inputs) ** -0.5), self.shape)]
        if self.has_variable('lora', 'a'):
            arrays += [self.get_variable('lora', 'a'), self.get_variable('lora', 'b')]
        if stack:
            return [matrix.project(x, *each) for each in zip(*arrays, strict=True)]
        return matrix.project(x, *arrays)
