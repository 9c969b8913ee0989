# SPDX-License-Identifier: BSD-3-Clause
"""Products of reflectors: values, gradients, batches, complex numbers, and what is refused."""

import functools
import unittest

from common import Case, growth, norm, norms, reflectors, wide

import jax
import jax.numpy as jnp
import numpy as np

from hoft_jax import householder_apply, householder_product
from hoft_jax._extension import call

DOUBLE, COMPLEX = jnp.float64, jnp.complex128


def apply_plain(x, u, tau=None, adjoint=False):
    Q = reflectors(u, tau)
    return x @ (jnp.conj(Q) if adjoint else Q.T)


def product_plain(a, tau=None, columns=None):
    return reflectors(a.T, tau)[:, :columns]


class Apply(Case):
    def test_is_a_product_of_reflectors(self):
        for t, m, r, adjoint in ((3, 11, 4, False), (1, 1, 1, False), (6, 5, 8, True), (20, 90, 70, False)):
            ours, plain = (functools.partial(f, adjoint=adjoint) for f in (householder_apply, apply_plain))
            for dtype in (jnp.float32, DOUBLE, jnp.complex64, COMPLEX):
                with self.subTest(dtype=dtype, t=t, m=m, r=r, adjoint=adjoint):
                    arguments = self.normal(t, m, dtype=dtype), self.normal(r, m, dtype=dtype)
                    self.assertGradientsClose(ours, plain, arguments, r)

    def test_tau(self):
        for dtype in (DOUBLE, COMPLEX):
            for tau in (self.normal(4, dtype=dtype), self.normal(4, dtype=dtype).at[1].set(0)):
                x, u = self.normal(5, 7, dtype=dtype), self.normal(4, 7, dtype=dtype)
                self.assertGradientsClose(householder_apply, apply_plain, (x, u, tau), 4, growth=growth(u, tau))

    def test_bfloat16(self):
        x, u = self.normal(9, 40, dtype=jnp.bfloat16), self.normal(6, 40, dtype=jnp.float32)
        self.assertGradientsClose(householder_apply, apply_plain, (x, u), 6)
        # Sums are in float: what is rounded to bfloat16 is the result alone.
        y, exact = wide(householder_apply(x, u)), wide(x) @ np.asarray(reflectors(u.astype(DOUBLE))).T
        rounding = float(jnp.finfo(jnp.bfloat16).eps) / 2 * np.abs(exact)
        sums = 6 * 16 * 40**0.5 * np.finfo(np.float32).eps * np.linalg.norm(wide(x), axis=1, keepdims=True)
        self.assertTrue(np.all(np.abs(y - exact) <= rounding + sums))
        half = u.astype(jnp.bfloat16)
        np.testing.assert_array_equal(householder_apply(x, half), householder_apply(x, half.astype(jnp.float32)))

    def test_any_leading_dimensions(self):
        x, u = self.normal(2, 3, 4, 6), self.normal(3, 6)
        rows = householder_apply(x.reshape(24, 6), u)
        np.testing.assert_array_equal(householder_apply(x, u), rows.reshape(x.shape))
        np.testing.assert_array_equal(householder_apply(x[0, 0, 0], u), rows[0])

    def test_zero_reflectors_are_the_identity(self):
        x, zeros = self.normal(4, 6), jnp.zeros((3, 6))
        y, pull = jax.vjp(householder_apply, x, zeros)
        np.testing.assert_array_equal(y, x)
        dx, du = pull(x)
        np.testing.assert_array_equal(dx, x)
        np.testing.assert_array_equal(du, zeros)
        for gradient in jax.tree.leaves(jax.jit(jax.hessian(lambda *a: householder_apply(*a).sum(), (0, 1)))(x, zeros)):
            self.assertTrue(np.all(np.isfinite(gradient)))

    def test_nothing(self):
        for t, m, r in ((0, 5, 2), (3, 5, 0), (3, 0, 2), (0, 0, 0)):
            with self.subTest(t=t, m=m, r=r):
                x, u = self.normal(t, m), self.normal(r, m)
                y, pull = jax.vjp(householder_apply, x, u)
                self.assertClose(y, x if t == 0 or r == 0 or m == 0 else y, 1)
                dx, du = pull(y)
                self.assertEqual((dx.shape, du.shape), (x.shape, u.shape))
                self.assertFalse(np.any(np.asarray(du) != 0))

    def test_extreme_lengths(self):
        x, u = self.normal(4, 9), self.normal(3, 9)
        expected = householder_apply(x, u)
        for length in (1e-200, 1e200):
            self.assertClose(householder_apply(x, u * length), expected, norm(x), 3)
        second = jax.jit(jax.hessian(lambda u: jnp.sin(householder_apply(x, u)).sum()))
        self.assertTrue(np.all(np.isfinite(second(u * 1e100))))


class Product(Case):
    def test_is_a_product_of_reflectors(self):
        for m, r, columns in ((7, 4, None), (1, 1, None), (5, 8, 3), (90, 70, 80), (6, 2, 0)):
            ours, plain = (functools.partial(f, columns=columns) for f in (householder_product, product_plain))
            for dtype in (jnp.float32, DOUBLE, COMPLEX):
                with self.subTest(dtype=dtype, m=m, r=r, columns=columns):
                    a = self.normal(m, r, dtype=dtype)
                    self.assertGradientsClose(ours, plain, (a,), r + 1)
                    if columns is None:
                        Q = np.asarray(householder_product(a))
                        self.assertClose(Q.conj().T @ Q, np.eye(m, dtype=dtype), m**0.5, r)

    def test_is_jaxs(self):
        for dtype in (jnp.float32, DOUBLE, COMPLEX):
            a, tau = jnp.linalg.qr(self.normal(3, 9, 5, dtype=dtype), mode="raw")
            a = a.mT  # NumPy has it the other way round
            for k in (5, 3, 0):
                theirs = jax.lax.linalg.householder_product(a, tau[:, :k])
                self.assertClose(householder_product(a, tau[:, :k]), theirs, 3**0.5 * 5**0.5, 5)

    def test_gradient_with_tau(self):
        for dtype in (DOUBLE, COMPLEX):
            a, tau = self.normal(8, 5, dtype=dtype), self.normal(4, dtype=dtype)
            plain = lambda a, tau: product_plain(a[:, :4], tau, 5)
            self.assertGradientsClose(householder_product, plain, (a, tau), 5, growth=growth(a[:, :4].T, tau))

    def test_batches_are_one_call(self):
        a = self.normal(2, 3, 7, 4)
        Q = householder_product(a)
        for i in range(2):
            for j in range(3):
                np.testing.assert_array_equal(Q[i, j], householder_product(a[i, j]))
        np.testing.assert_array_equal(Q, jax.vmap(jax.vmap(householder_product))(a))
        np.testing.assert_array_equal(Q, jax.vmap(householder_product, in_axes=1, out_axes=1)(a))
        text = str(jax.make_jaxpr(jax.vmap(jax.vmap(householder_product)))(a))
        self.assertEqual(text.count("ffi_call["), 2, text)  # the form, and its columns
        self.assertNotIn("while", text)
        self.assertGradientsClose(
            householder_product, lambda a: jnp.stack([jnp.stack([product_plain(x) for x in b]) for b in a]), (a,), 4
        )


class Batches(Case):
    """vmap, whatever is mapped over."""

    def compare(self, axes, x, u):
        ours = lambda x, u: jnp.sin(householder_apply(x, u)).sum()
        plain = lambda x, u: jnp.sin(apply_plain(x, u)).sum()
        scale = norms(x, u)
        for f in (lambda f: jax.vmap(f, axes), lambda f: jax.vmap(jax.grad(f, (0, 1)), axes),
                  lambda f: jax.grad(lambda *a: jax.vmap(f, axes)(*a).sum(), (0, 1))):  # fmt: skip
            for got, expected in zip(*(jax.tree.leaves(jax.jit(f(g))(x, u)) for g in (ours, plain)), strict=True):
                self.assertClose(got, expected, scale, 4 * x.size**0.5)

    def test_every_choice_of_axes(self):
        x, u, X, U = self.normal(5, 7), self.normal(3, 7), self.normal(4, 5, 7), self.normal(4, 3, 7)
        self.compare((0, 0), X, U)
        self.compare((0, None), X, u)
        self.compare((None, 0), x, U)
        self.compare((1, 2), X.transpose(1, 0, 2), U.transpose(1, 2, 0))

    def test_nested(self):
        X, U = self.normal(4, 5, 7), self.normal(6, 3, 7)
        y = jax.vmap(jax.vmap(householder_apply, (None, 0)), (0, None))(X, U)  # every x under every u
        z = jax.vmap(jax.vmap(householder_apply, (0, None)), (None, 0))(X, U)
        for i in range(4):
            for j in range(6):
                np.testing.assert_array_equal(y[i, j], householder_apply(X[i], U[j]))
                np.testing.assert_array_equal(z[j, i], y[i, j])

    def test_tau_of_each(self):
        x, u, tau = self.normal(5, 7), self.normal(3, 7), self.normal(6, 3)
        y = jax.vmap(householder_apply, (None, None, 0))(x, u, tau)
        for i in range(6):
            np.testing.assert_array_equal(y[i], householder_apply(x, u, tau[i]))


class Derivatives(Case):
    def test_second(self):
        x, u, tau = self.normal(3, 6), self.normal(4, 6), self.normal(4)
        scale = norms(x, u) ** 2
        self.assertSecondClose(householder_apply, apply_plain, (x, u), scale, 8)
        self.assertSecondClose(householder_apply, apply_plain, (x, u, tau), scale * growth(u, tau) ** 2, 8)
        self.assertSecondClose(householder_product, product_plain, (u.T,), scale, 8)

    def test_a_known_hessian(self):
        # ‖Q x‖² = ‖x‖², whose second derivative is 2 I.
        hessian = jax.jit(jax.hessian(lambda x: jnp.sum(householder_apply(x, jnp.ones((2, 4))) ** 2)))
        self.assertClose(hessian(jnp.ones(4)), 2 * jnp.eye(4), 2, 8)

    def test_forward_mode_is_refused(self):
        x, u = self.normal(3, 6), self.normal(4, 6)
        with self.assertRaisesRegex(TypeError, "forward-mode"):
            jax.jvp(householder_apply, (x, u), (x, u))

    def test_jit_scan_and_checkpoint(self):
        x, u = self.normal(3, 6), self.normal(4, 2, 6)
        body = lambda x, u: (jnp.tanh(householder_apply(x, u)), None)
        deep = lambda body: lambda x, u: jax.lax.scan(body, x, u)[0].sum()
        gradients = [jax.jit(jax.grad(deep(f), (0, 1)))(x, u) for f in (body, jax.checkpoint(body))]
        for a, b in zip(*gradients):
            self.assertClose(a, b, norm(x), 8)
        chain = lambda x, u: functools.reduce(lambda x, u: jnp.tanh(apply_plain(x, u)), u, x).sum()
        for a, b in zip(gradients[0], jax.jit(jax.grad(chain, (0, 1)))(x, u)):
            self.assertClose(a, b, norms(x, u), 8)


class Refusals(Case):
    def test_arguments_are_named(self):
        x, u = self.normal(3, 6), self.normal(2, 6)
        for words, kind, function in (
            ("x is a list", TypeError, lambda: householder_apply([1.0], u)),
            ("x has the shape", ValueError, lambda: householder_apply(jnp.ones(()), u)),
            ("x holds int64", TypeError, lambda: householder_apply(jnp.ones((3, 6), int), u)),
            ("u has the shape", ValueError, lambda: householder_apply(x, u[0])),
            ("features of u is 5, must be 6", ValueError, lambda: householder_apply(x, u[:, :5])),
            ("u holds float32, must hold float64", TypeError, lambda: householder_apply(x, u.astype(jnp.float32))),
            ("u holds complex128", TypeError, lambda: householder_apply(x, u.astype(COMPLEX))),
            ("length of tau is 3, must be 2", ValueError, lambda: householder_apply(x, u, jnp.ones(3))),
            ("u has 7 rows", ValueError, lambda: householder_apply(x, self.normal(7, 6), jnp.ones(7))),
            ("a holds bfloat16", TypeError, lambda: householder_product(u.astype(jnp.bfloat16))),
            ("a has the shape", ValueError, lambda: householder_product(u[0])),
            ("columns is 3", ValueError, lambda: householder_product(u, columns=3)),
            ("tau has the shape", ValueError, lambda: householder_product(u.T, jnp.ones(3))),
            ("tau has the shape", ValueError, lambda: householder_product(u, jnp.ones(2), columns=2)),
        ):
            with self.subTest(words=words), self.assertRaisesRegex(kind, words):
                function()

    def test_the_calls_check_what_python_did_not(self):
        x, u, factors = self.normal(3, 6), self.normal(2, 6), self.normal(2, 7)
        result = (jax.ShapeDtypeStruct((3, 6), DOUBLE),)
        for words, arguments in (
            ("factors do not fit", (x, u, factors[:, :6])),
            ("of another type", (x, u.astype(jnp.float32), factors)),
            ("apply: X.rows is 5, must be == 6", (x[:, :5], u, factors)),
        ):
            with self.subTest(words=words), self.assertRaisesRegex(Exception, words):
                jax.block_until_ready(call("hoft_jax_apply", result, *arguments, adjoint=False))


if __name__ == "__main__":
    unittest.main()
