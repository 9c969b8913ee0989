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
    """Q [m, m], one reflector after another. u [r, m]; with tau [r] LAPACK's."""
    rank, size = u.shape
    if tau is None:
        factors = 2 / jnp.sum(jnp.real(u * jnp.conj(u)), axis=1)
    else:
        u, factors = jnp.triu(u, 1) + jnp.eye(rank, size), tau

    def times(Q, reflector):
        vector, factor = reflector
        return Q - factor * jnp.outer(Q @ vector, jnp.conj(vector)), None

    return jax.lax.scan(times, jnp.eye(size, dtype=u.dtype), (u, factors))[0]


def growth(u, tau):
    """What a product of r reflectors of LAPACK's, which need not be isometries, may multiply a norm by."""
    squares = 1 + jnp.sum(jnp.abs(jnp.triu(u, 1)) ** 2, axis=1)
    return float(jnp.prod(1 + jnp.abs(tau) * squares))


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
        error = float(jnp.linalg.norm((got.astype(expected.dtype) - expected).ravel()))
        bound = steps * 16 * math.sqrt(max(expected.shape[-1:] or (1,))) * epsilon * float(scale)
        self.assertTrue(error <= bound, f"{error} > {bound}")  # fails NaN

    def assertGradientsClose(self, got, expected, arguments, steps, precision=None, growth=1.0):
        """Values and gradients, for a random cotangent, of two functions, one an independent formula in double. `growth`:
        what maps that are no isometries multiply a norm by, beside the arguments' own norms."""
        wide = [a.astype(jnp.complex128 if jnp.iscomplexobj(a) else jnp.float64) for a in arguments]
        scale = growth * math.prod(max(1.0, float(jnp.linalg.norm(a.ravel()))) for a in wide)
        dy = jax.eval_shape(got, *arguments)
        dy = self.normal(*dy.shape, dtype=dy.dtype)
        z, judged = value_and_gradients(expected, wide, dy.astype(wide[0].dtype))
        y, gradients = value_and_gradients(got, arguments, dy)
        self.assertEqual(y.dtype, arguments[0].dtype)
        self.assertClose(y, z, scale, steps, precision)
        scale *= float(jnp.linalg.norm(dy.astype(z.dtype).ravel()))
        for a, b, argument in zip(gradients, judged, arguments, strict=True):
            self.assertEqual(a.dtype, argument.dtype)
            self.assertClose(a, b, scale, steps, precision)
