# SPDX-License-Identifier: BSD-3-Clause
"""The judge of the tests: products of explicit reflectors in double, by NumPy and jax's autodiff, and derived bounds."""

import functools
import math
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_disable_most_optimizations", True)  # the time of these tests is that of compiling


def reflectors(u, tau=None):
    """Q [m, m], the product of matrices H(u_i). u [r, m]; with tau [r] LAPACK's."""
    rank, size = u.shape
    if tau is None:
        tau = 2 / jnp.sum(jnp.real(u * jnp.conj(u)), axis=1)
    else:
        u = jnp.triu(u, 1) + jnp.eye(rank, size)
    identity = jnp.eye(size, dtype=u.dtype)
    H = identity - tau[:, None, None] * u[:, :, None] * jnp.conj(u)[:, None, :]
    while len(H) > 1:  # neighbours, which is quick to compile
        H = jnp.concatenate([H, identity[None][: len(H) % 2]])
        H = H[0::2] @ H[1::2]
    return H[0] if rank > 0 else identity


# NumPy from here on where a number is all that is wanted: jax would compile each of these for each shape.


def wide(a):
    """In double."""
    a = np.asarray(a)
    return a.astype(np.complex128 if np.iscomplexobj(a) else np.float64)


def norm(a):
    return float(np.linalg.norm(wide(a).ravel()))


def norms(*arrays):
    """Their product, each taken as 1 at least."""
    return math.prod(max(1.0, norm(a)) for a in arrays)


def growth(u, tau):
    """What a product of r reflectors of LAPACK's, which need not be isometries, may multiply a norm by."""
    squares = 1 + np.sum(np.abs(np.triu(u, 1)) ** 2, axis=1)
    return float(np.prod(1 + np.abs(tau) * squares))


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradients(function, arguments, dy):
    y, pull = jax.vjp(function, *arguments)
    return y, pull(dy)


class Case(unittest.TestCase):
    def setUp(self):
        self.random = np.random.default_rng(3)

    def normal(self, *shape, dtype=jnp.float64):
        a = self.random.standard_normal(shape)
        if jnp.issubdtype(dtype, jnp.complexfloating):
            a = a + 1j * self.random.standard_normal(shape)
        return jnp.asarray(a, dtype)

    def assertClose(self, got, expected, scale, steps=1, precision=None):
        """‖got − expected‖ ≤ steps · 16 √m ε · scale. Each of `steps` reflectors, products or sums on either side rounds
        to √m ε or better times a small constant, and all maps around it are isometries or in `scale`. `precision`: the
        type whose ε counts, where it is not that of the values."""
        self.assertEqual(got.shape, expected.shape)
        epsilon = float(jnp.finfo(precision or got.dtype).eps)
        error = norm(wide(got) - wide(expected))
        bound = steps * 16 * math.sqrt(max(expected.shape[-1:] or (1,))) * epsilon * float(scale)
        self.assertTrue(error <= bound, f"{error} > {bound}")  # fails NaN

    def assertSecondClose(self, got, expected, arguments, scale, steps):
        """The second derivative of sums of sines in a random direction, forward and backward over the gradient."""
        direction = tuple(self.normal(*a.shape, dtype=a.dtype) for a in arguments)
        scale *= max(1.0, *map(norm, direction))

        @functools.partial(jax.jit, static_argnums=0)
        def along(function, arguments, direction):
            gradient = jax.grad(lambda arguments: jnp.sin(function(*arguments)).sum())
            slope = lambda arguments: sum(jnp.vdot(a, b) for a, b in zip(gradient(arguments), direction))
            return jax.jvp(gradient, (arguments,), (direction,))[1], jax.grad(slope)(arguments)

        for forward, backward, judged, _ in zip(
            *along(got, arguments, direction), *along(expected, arguments, direction), strict=True
        ):
            self.assertClose(forward, judged, scale, steps)
            self.assertClose(backward, judged, scale, steps)

    def assertGradientsClose(self, got, expected, arguments, steps, precision=None, growth=1.0):
        """Values and gradients, for a random cotangent, of two functions, one an independent formula in double. `growth`:
        what maps that are no isometries multiply a norm by, beside the arguments' own norms."""
        scale = growth * norms(*arguments)
        dy = jax.eval_shape(got, *arguments)
        dy = self.normal(*dy.shape, dtype=dy.dtype)
        y, gradients = value_and_gradients(got, tuple(arguments), dy)
        z, judged = value_and_gradients(expected, tuple(map(wide, arguments)), wide(dy))
        self.assertEqual(y.dtype, arguments[0].dtype)
        self.assertClose(y, z, scale, steps, precision)
        for a, b, argument in zip(gradients, judged, arguments, strict=True):
            self.assertEqual(a.dtype, argument.dtype)
            self.assertClose(a, b, scale * norm(dy), steps, precision)
