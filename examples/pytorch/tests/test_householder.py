# SPDX-License-Identifier: BSD-3-Clause
"""Products of reflectors, with PyTorch as the judge of values and gradients."""

import time
import unittest

import torch

from common import DOUBLE, HOFT_REFUSES, Case, compact_wy, leaf
from hoft_torch import householder_apply
from hoft_torch.functional import _rows


class Householder(Case):
    def test_gradcheck(self):
        x, u = leaf(5, 7), leaf(4, 7)
        for options in ({}, {"adjoint": True}, {"from_output": True}, {"from_output": True, "adjoint": True}):
            with self.subTest(**options):
                self.assertTrue(torch.autograd.gradcheck(lambda x, u: householder_apply(x, u, **options), (x, u)))
        tau = leaf(4)
        for adjoint in (False, True):
            function = lambda x, u, tau: householder_apply(x, u, tau, adjoint=adjoint)
            self.assertTrue(torch.autograd.gradcheck(function, (x, u, tau)))
        with torch.no_grad():
            tau[1] = 0  # the identity, and yet its derivative counts
        self.assertTrue(torch.autograd.gradcheck(householder_apply, (x, u, tau)))

    def test_is_householder_product(self):
        m, k = 9, 5
        V, tau = torch.geqrf(torch.randn(m, k, dtype=DOUBLE))
        for t in (tau, torch.randn(k, dtype=DOUBLE)):
            inputs = (V.clone().requires_grad_(), t.clone().requires_grad_())
            columns = torch.eye(m, dtype=DOUBLE)[:k]
            ours = lambda V, t: householder_apply(columns, V.t(), t).t()
            self.assertGradientsClose(
                ours, torch.linalg.householder_product, inputs, torch.randn(m, k, dtype=DOUBLE), k
            )

    def test_is_compact_wy(self):
        for t, m, r in ((3, 11, 4), (1, 1, 1), (6, 5, 8), (40, 90, 70)):
            for adjoint in (False, True):
                with self.subTest(t=t, m=m, r=r, adjoint=adjoint):
                    ours = lambda x, u: householder_apply(x, u, adjoint=adjoint)
                    plain = lambda x, u: x @ (compact_wy(u) if adjoint else compact_wy(u).t())
                    u = leaf(r, m)
                    self.assertGradientsClose(ours, plain, (leaf(t, m), u), torch.randn(t, m, dtype=DOUBLE), r)

    def test_from_output_is_the_same(self):
        x, u, g = leaf(9, 12), leaf(6, 12), torch.randn(9, 12, dtype=DOUBLE)
        one, other = householder_apply(x, u), householder_apply(x, u, from_output=True)
        self.assertTrue(torch.equal(one, other))
        for a, b in zip(torch.autograd.grad(one, (x, u), g), torch.autograd.grad(other, (x, u), g)):
            self.assertClose(a, b, x.detach().norm() * g.norm(), 12)

    def test_zero_reflectors_are_the_identity(self):
        x, u = leaf(4, 6), torch.zeros(3, 6, dtype=DOUBLE, requires_grad=True)
        y = householder_apply(x, u)
        self.assertTrue(torch.equal(y, x))
        y.sum().backward()
        self.assertTrue(torch.equal(u.grad, torch.zeros_like(u)))
        self.assertTrue(torch.equal(x.grad, torch.ones_like(x)))
        self.assertTrue(torch.equal(householder_apply(x, u[:0]), x))

    def test_no_reflector_and_no_feature(self):
        for explicit_tau in (False, True):
            for t, m, r in ((3, 6, 0), (3, 0, 0), (0, 0, 0)) + (() if explicit_tau else ((3, 0, 2),)):
                inputs = (leaf(t, m), leaf(r, m), leaf(r)) if explicit_tau else (leaf(t, m), leaf(r, m))
                y = householder_apply(*inputs)
                self.assertTrue(torch.equal(y, inputs[0]))
                for a, da in zip(inputs, torch.autograd.grad(y.sum(), inputs)):
                    self.assertEqual(da.shape, a.shape)

    def test_any_number_of_tokens(self):
        u = leaf(4, 6)
        for shape in ((6,), (1, 6), (2, 3, 6), (2, 3, 1, 6)):
            x = torch.randn(shape, dtype=DOUBLE)
            one_by_one = [householder_apply(row, u) for row in x.reshape(-1, 6)]
            self.assertTrue(torch.allclose(householder_apply(x, u), torch.stack(one_by_one).reshape(shape), rtol=1e-12))
        for shape in ((0, 6), (2, 0, 6)):
            x = leaf(*shape)
            y = householder_apply(x, u)
            self.assertEqual(tuple(y.shape), shape)
            dx, du = torch.autograd.grad(y.sum(), (x, u))
            self.assertEqual(tuple(dx.shape), shape)
            self.assertTrue(torch.equal(du, torch.zeros_like(u)))

    def test_no_copy_of_rows(self):
        room = torch.randn(2, 5, 16)
        for x in (room, room[..., 3:11], room[0], room[0, :, :8], room[:, 1], room[0, 0], room[:, :, :1]):
            self.assertEqual(_rows(x).data_ptr(), x.data_ptr())

    def test_any_strides(self):
        u = leaf(4, 6)
        wide = torch.randn(7, 20, dtype=DOUBLE)
        for x in (
            wide[:, 5:11],
            wide[:6].t(),
            wide[:1, :6].expand(7, 6),
            wide[:, ::3][:, :6],
            torch.randn(6, 3, 2).double().permute(1, 2, 0),
        ):
            x, same = (
                x.detach().requires_grad_(),
                x.detach().clone(memory_format=torch.contiguous_format).requires_grad_(),
            )
            y, z = householder_apply(x, u), householder_apply(same, u)
            self.assertTrue(torch.equal(y, z))
            for g in (torch.ones((), dtype=DOUBLE).expand(y.shape), torch.randn(*y.shape, 2, dtype=DOUBLE)[..., 0]):
                got = torch.autograd.grad(y, (x, u), g, retain_graph=True)
                expected = torch.autograd.grad(
                    z, (same, u), g.clone(memory_format=torch.contiguous_format), retain_graph=True
                )
                for a, b in zip(got, expected):
                    self.assertTrue(torch.equal(a, b))

    def test_second_derivatives(self):
        x, u, tau = leaf(2, 6), leaf(4, 6), leaf(4)
        for options in ({}, {"adjoint": True}, {"from_output": True}, {"from_output": True, "adjoint": True}):
            with self.subTest(**options):
                self.assertTrue(torch.autograd.gradgradcheck(lambda x, u: householder_apply(x, u, **options), (x, u)))
        self.assertTrue(torch.autograd.gradgradcheck(householder_apply, (x, u, tau)))

    def test_same_bits_for_any_number_of_threads(self):
        x, u, g = leaf(700, 64), leaf(8, 64), torch.randn(700, 64, dtype=DOUBLE)
        results, threads = [], torch.get_num_threads()
        try:
            for count in (1, 3):
                torch.set_num_threads(count)
                y = householder_apply(x, u)
                results.append((y, *torch.autograd.grad(y, (x, u), g)))
        finally:
            torch.set_num_threads(threads)
        for a, b in zip(*results):
            self.assertTrue(torch.equal(a, b))

    def test_two_threads_work(self):
        x, u = torch.randn(1024, 4096), torch.randn(16, 4096)
        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(2)
            everyone, alone = time.process_time(), time.thread_time()
            for _ in range(10):
                householder_apply(x, u)
            everyone, alone = time.process_time() - everyone, time.thread_time() - alone
        finally:
            torch.set_num_threads(threads)
        self.assertGreater(everyone, 1.1 * alone)

    def test_bad_arguments(self):
        x, u = torch.randn(3, 6), torch.randn(4, 6)
        refused = [
            (ValueError, "number of features of u is 5, must be 6", lambda: householder_apply(x, u[:, :5])),
            (ValueError, r"u has the shape \[6\], must have 2", lambda: householder_apply(x, u[0])),
            (TypeError, "u holds torch.float64, must hold torch.float32 or 16 bits beside torch.float32$", lambda: householder_apply(x, u.double())),
            (TypeError, "u holds torch.float32, must hold torch.float64 beside torch.float64$", lambda: householder_apply(x.double(), u)),
            (TypeError, "u is a list", lambda: householder_apply(x, [1.0])),
            (ValueError, "u is on meta, must be on cpu", lambda: householder_apply(x, u.to("meta"))),
            (TypeError, "x is a tensor of torch.int64", lambda: householder_apply(x.long(), u)),
            (TypeError, "x is a tensor of torch.bool", lambda: householder_apply(x > 0, u)),
            (ValueError, "x has no dimension", lambda: householder_apply(x[0, 0], u)),
            (ValueError, "length of tau is 3, must be 4", lambda: householder_apply(x, u, torch.ones(3))),
            (ValueError, "from_output takes no tau", lambda: householder_apply(x, u, torch.ones(4), from_output=True)),
            (HOFT_REFUSES, "V.cols is 7, must be <= 6", lambda: householder_apply(x, torch.randn(7, 6), torch.ones(7))),
        ]
        for error, message, call in refused:
            with self.subTest(message), self.assertRaisesRegex(error, message):
                call()


if __name__ == "__main__":
    unittest.main()
