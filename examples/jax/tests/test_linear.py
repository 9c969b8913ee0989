# SPDX-License-Identifier: BSD-3-Clause
"""HOFT and SHOFT layers: values, gradients, batches, threads, and what is refused."""

import concurrent.futures
import contextlib
import hashlib
import os
import pathlib
import subprocess
import sys
import unittest

from common import Case, norm, norms, reflectors

import jax
import jax.numpy as jnp
import numpy as np

from hoft_jax import hoft_linear, householder_apply, householder_product, paired_gaussian

DOUBLE = jnp.float64


def judge(x, weight, u, v, s=None, bias=None):
    """By the adapted weight, from explicit reflectors."""
    middle = weight if s is None else s[:, None] * weight
    y = x @ (reflectors(u) @ middle @ reflectors(v)).T
    return y if bias is None else y + bias


class Linear(Case):
    def layer(self, t, m, n, ru, rv, scaled, bias, dtype=DOUBLE):
        """x, weight, u, v, and s and bias where wanted."""
        wide = jnp.float32 if dtype == jnp.bfloat16 else dtype
        arguments = [self.normal(t, n, dtype=dtype), self.normal(m, n, dtype=dtype)]
        arguments += [self.normal(ru, m, dtype=wide), self.normal(rv, n, dtype=wide)]
        return arguments + scaled * [self.normal(m, dtype=wide)] + bias * [self.normal(m, dtype=dtype)]

    def function(self, of, scaled, bias):
        """One of positional arguments alone, which jax.vjp takes."""
        def call(x, weight, u, v, *rest):
            s = rest[0] if scaled else None
            return of(x, weight, u, v, s, rest[-1] if bias else None)

        return call

    def test_is_the_adapted_weight(self):
        for t, m, n, ru, rv, scaled, bias in (
            (6, 9, 11, 4, 3, False, False),
            (6, 9, 11, 4, 3, True, True),
            (1, 1, 1, 1, 1, True, False),
            (5, 7, 6, 0, 4, True, False),
            (5, 7, 6, 4, 0, False, True),
            (17, 90, 70, 70, 68, True, False),  # more than one block of u
        ):
            ours, expected = (self.function(f, scaled, bias) for f in (hoft_linear, judge))
            for dtype in (jnp.float32, DOUBLE, jnp.bfloat16):
                with self.subTest(dtype=dtype, t=t, m=m, n=n, ru=ru, rv=rv, scaled=scaled, bias=bias):
                    arguments = self.layer(t, m, n, ru, rv, scaled, bias, dtype)
                    # Rounding to 16 bits goes in with the tokens, the weight and everything that XLA multiplies.
                    precision = jnp.bfloat16 if dtype == jnp.bfloat16 else None
                    self.assertGradientsClose(ours, expected, arguments, ru + rv + 3, precision)

    def test_any_leading_dimensions(self):
        x, *rest = self.layer(24, 7, 6, 2, 2, True, True)
        y = hoft_linear(x, *rest)
        np.testing.assert_array_equal(hoft_linear(x.reshape(2, 3, 4, 6), *rest), y.reshape(2, 3, 4, 7))
        self.assertClose(hoft_linear(x[0], *rest), y[0], norm(y[0]), 8)
        self.assertEqual(hoft_linear(x[:0], *rest).shape, (0, 7))

    def test_pairs_are_the_identity(self):
        x, weight = self.normal(5, 12), self.normal(8, 12)
        for rank in (0, 1, 4, 5):
            u, v = (paired_gaussian(jax.random.key(i), rank, size, DOUBLE) for i, size in enumerate((8, 12)))
            self.assertEqual((u.shape, v.shape), ((rank, 8), (rank, 12)))
            scale = norms(x, weight)
            self.assertClose(hoft_linear(x, weight, u, v), x @ weight.T, scale, 2 * rank + 1)

    def test_the_gradient_of_a_frozen_weight_costs_nothing(self):
        x, weight, u, v = self.layer(6, 40, 50, 4, 4, False, False)
        loss = lambda u, v, weight: hoft_linear(x, weight, u, v).sum()
        flops = lambda *of: jax.jit(jax.grad(loss, of)).lower(u, v, weight).compile().cost_analysis()["flops"]
        self.assertGreaterEqual(flops(0, 1, 2) - flops(0, 1), 2 * 5 * 40 * 50)  # most of a product with 6 tokens

    def test_a_zero_scale_has_its_gradient(self):
        x, weight, u, v, s = self.layer(6, 9, 11, 4, 4, True, False)
        self.assertGradientsClose(hoft_linear, judge, (x, weight, u, v, s.at[3].set(0)), 11)

    def test_batches(self):
        arguments = self.layer(5, 6, 7, 4, 2, True, False)
        many = [jnp.stack([a, a[::-1], -a]) for a in arguments]
        scale = norms(*many) * 15**0.5
        for axes in ((0, None, None, None, None), (None, None, 0, 0, 0), (0, 0, 0, 0, 0)):
            chosen = [a if axis is None else b for a, b, axis in zip(arguments, many, axes)]
            each = range(len(axes))
            for of in (
                lambda f: jax.vmap(jax.value_and_grad(lambda *a: jnp.sin(f(*a)).sum(), each), axes),
                lambda f: jax.grad(lambda *a: jnp.sin(jax.vmap(f, axes)(*a)).sum(), each),
            ):
                got, expected = (jax.tree.leaves(jax.jit(of(f))(*chosen)) for f in (hoft_linear, judge))
                for a, b in zip(got, expected, strict=True):
                    self.assertClose(a, b, scale, 9)

    def test_a_batch_is_one_call(self):
        arguments = self.layer(5, 6, 7, 4, 2, True, False)
        many = [jnp.stack([a, a]) for a in arguments]
        gradient = jax.vmap(jax.grad(lambda *a: hoft_linear(*a).sum(), (2, 3)))
        text = jax.jit(gradient).lower(*many).as_text()
        for target, count in (("adapt(", 1), ("adapt_backward(", 1), ("finish(", 1), ("accumulate(", 2)):
            self.assertEqual(text.count(f"custom_call @hoft_jax_{target}"), count, text)
        self.assertNotIn("stablehlo.while", text)

    def test_second_derivatives(self):
        arguments = tuple(self.layer(3, 4, 5, 2, 2, True, False))
        scale = norms(*arguments) ** 2
        self.assertSecondClose(hoft_linear, judge, arguments, scale, 7)

    def test_forward_mode_is_refused(self):
        arguments = self.layer(3, 4, 5, 2, 2, True, False)
        with self.assertRaisesRegex(TypeError, "forward-mode"):
            jax.jvp(hoft_linear, arguments, arguments)

    def test_arguments_are_named(self):
        x, weight, u, v, s, bias = self.layer(3, 4, 5, 2, 2, True, True)
        for words, kind, arguments in (
            ("x is a float", TypeError, (1.0, weight, u, v)),
            ("x holds complex128", TypeError, (x + 0j, weight, u, v)),
            ("features of x is 4, must be 5", ValueError, (x[:, :4], weight, u, v)),
            ("weight has the shape", ValueError, (x, weight[0], u, v)),
            ("weight holds float32, must hold float64", TypeError, (x, weight.astype(jnp.float32), u, v)),
            ("features of u is 5, must be 4", ValueError, (x, weight, v, v)),
            ("features of v is 4, must be 5", ValueError, (x, weight, u, u)),
            ("v holds float32", TypeError, (x, weight, u, v.astype(jnp.float32))),
            ("length of s is 3, must be 4", ValueError, (x, weight, u, v, s[:3])),
            ("length of bias is 3, must be 4", ValueError, (x, weight, u, v, s, bias[:3])),
            ("bias holds float32", TypeError, (x, weight, u, v, s, bias.astype(jnp.float32))),
        ):
            with self.subTest(words=words), self.assertRaisesRegex(kind, f"hoft_linear: .*{words}"):
                hoft_linear(*arguments)
        with self.assertRaisesRegex(ValueError, "paired_gaussian: rank is -1"):
            paired_gaussian(jax.random.key(0), -1, 4)


class Threads(unittest.TestCase):
    """This file as a program prints the threads of XLA's pool, and a hash of results that several of them make."""

    def test_any_number_gives_the_same_bits(self):
        found = {}
        for threads in (1, 3):
            environment = {**os.environ, "PJRT_NPROC": str(threads), "NPROC": str(threads)}
            command = [sys.executable, os.path.abspath(__file__), "--bits"]
            run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            found[threads], bits = run.stdout.split()
            found[bits] = threads
        self.assertEqual((found[1], found[3]), ("1", "3"))
        self.assertEqual(len(found), 3, found)  # two counts, one hash


def print_bits():
    random = np.random.default_rng(5)
    x, u, a = (jnp.asarray(random.standard_normal(shape)) for shape in ((2000, 500), (70, 500), (40, 30, 6)))
    layer = jax.jit(jax.value_and_grad(lambda x, u: jnp.sum(householder_apply(x, u) * x), (0, 1)))
    product = jax.jit(jax.value_and_grad(lambda a: jnp.sum(householder_product(a)[:, 0])))

    def bits(_):
        results = jax.tree.leaves(layer(x, u)[1]) + jax.tree.leaves(product(a)[1])
        return hashlib.sha256(b"".join(np.asarray(r).tobytes() for r in results)).hexdigest()

    with concurrent.futures.ThreadPoolExecutor(4) as callers:  # calls at the same time share the pool
        every = set(callers.map(bits, range(12)))
    print(sum("XLAEigen" in name for name in thread_names()), *every)


def thread_names():
    for file in pathlib.Path("/proc/self/task").glob("*/comm"):
        with contextlib.suppress(FileNotFoundError):  # the thread has ended
            yield file.read_text()


class Installation(unittest.TestCase):
    def test_a_missing_library_says_what_to_do(self):
        program = "import common, jax.numpy as jnp, hoft_jax; hoft_jax.householder_product(jnp.ones((3, 2)))"
        run = subprocess.run(
            [sys.executable, "-c", program],
            cwd=os.path.dirname(os.path.abspath(__file__)),
            env={**os.environ, "HOFT_JAX_LIBRARY": "nowhere.so"},
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("nowhere.so is not there: build it by `bash examples/jax/run.sh --build`", run.stderr)


if __name__ == "__main__":
    print_bits() if "--bits" in sys.argv else unittest.main()
