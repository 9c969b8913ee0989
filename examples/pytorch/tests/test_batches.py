# SPDX-License-Identifier: BSD-3-Clause
"""householder_apply on batches and complex numbers, judged by the product of its reflectors."""

import unittest

import torch
from common import DOUBLE, HOFT_REFUSES, Case, leaf
from reflectors import COMPLEX, one_by_one

from hoft_torch import householder_apply


class BatchedAndComplex(Case):
    def test_is_the_product_of_reflectors(self):
        for dtype in (DOUBLE, COMPLEX):
            for batch, t, m, r in (((3,), 5, 7, 4), ((2, 1), 1, 6, 6), ((2,), 3, 90, 70)):
                x, u, tau = leaf(*batch, t, m, dtype=dtype), leaf(*batch, r, m, dtype=dtype), leaf(*batch, r, dtype=dtype)
                g = torch.randn(*batch, t, m, dtype=dtype)
                for adjoint in (False, True):
                    with self.subTest(dtype=dtype, m=m, adjoint=adjoint):
                        ours = lambda *a: householder_apply(*a, adjoint=adjoint)
                        plain = lambda x, *a: x @ (one_by_one(*a).conj() if adjoint else one_by_one(*a).mT)
                        self.assertGradientsClose(ours, plain, (x, u), g, r)
                        if m < 10:  # such products grow with their number
                            self.assertGradientsClose(ours, plain, (x, u, tau), g, r * float(one_by_one(u, tau).detach().norm()))

    def test_complex_without_a_batch(self):
        x, u, g = leaf(2, 5, 8, dtype=COMPLEX), leaf(3, 8, dtype=COMPLEX), torch.randn(2, 5, 8, dtype=COMPLEX)
        plain = lambda x, u: x @ one_by_one(u).mT
        for from_output in (False, True):
            ours = lambda x, u: householder_apply(x, u, from_output=from_output)
            self.assertGradientsClose(ours, plain, (x, u), g, 3)
            self.assertTrue(torch.autograd.gradcheck(ours, (x, u)))

    def test_batches_are_broadcast(self):
        u = leaf(2, 1, 4, 6)
        for shape in ((3, 5, 6), (5, 6), (2, 3, 5, 6), (2, 1, 0, 6), (0, 5, 6)):
            x = leaf(*shape)
            batch = torch.broadcast_shapes(x.shape[:-2], u.shape[:-2])
            whole = x.expand(*batch, -1, -1).clone(), u.expand(*batch, -1, -1).clone()
            y, z = householder_apply(x, u), householder_apply(*whole)
            self.assertTrue(torch.equal(y, z))
            for a, da in zip((x, u), torch.autograd.grad(y.sum(), (x, u))):
                self.assertEqual(da.shape, a.shape)
        x = torch.randn(5, 3, 6, dtype=DOUBLE)
        one_at_a_time = torch.stack([householder_apply(a, b) for a, b in zip(x, torch.randn(5, 2, 6).double())])
        self.assertEqual(one_at_a_time.shape, x.shape)

    def test_same_bits_as_one_at_a_time(self):
        x, u, g = torch.randn(5, 40, 33), torch.randn(5, 7, 33), torch.randn(5, 40, 33)
        threads = torch.get_num_threads()
        for count in (1, 2, 8):  # more threads than problems: they share each
            torch.set_num_threads(count)
            try:
                a, b = x.clone().requires_grad_(), u.clone().requires_grad_()
                y = householder_apply(a, b)
                da, db = torch.autograd.grad(y, (a, b), g)
            finally:
                torch.set_num_threads(threads)
            for i in range(5):
                c, d = x[i].clone().requires_grad_(), u[i].clone().requires_grad_()
                single = householder_apply(c, d)
                for one, many in zip((single, *torch.autograd.grad(single, (c, d), g[i])), (y[i], da[i], db[i])):
                    self.assertTrue(torch.equal(one, many))

    def test_bad_arguments(self):
        x, u = torch.randn(3, 5, 6), torch.randn(3, 4, 6)
        refused = [
            (ValueError, r"batch of x is \[3\], .* \[2\] of u", lambda: householder_apply(x, u[:2])),
            (ValueError, r"batch of x is \[3\], .* \[2\] of tau", lambda: householder_apply(x, u, torch.ones(2, 4))),
            (ValueError, r"x has the shape \[6\]", lambda: householder_apply(x[0, 0], u)),
            (ValueError, r"tau has the shape \[4\], must have 2", lambda: householder_apply(x, u, torch.ones(4))),
            (TypeError, "u holds torch.complex64, must hold torch.float32", lambda: householder_apply(x, u * 1j)),
            (TypeError, "u holds torch.float32, must hold torch.complex64", lambda: householder_apply(x * 1j, u)),
            (HOFT_REFUSES, "is 7, must be <= 6",
             lambda: householder_apply(x, torch.randn(3, 7, 6), torch.ones(3, 7))),
        ]  # fmt: skip
        for error, message, call in refused:
            with self.subTest(message), self.assertRaisesRegex(error, message):
                call()


if __name__ == "__main__":
    unittest.main()
