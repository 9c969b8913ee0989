# SPDX-License-Identifier: BSD-3-Clause
"""householder_product and ormqr, judged by plain PyTorch."""

import unittest
import unittest.mock

import torch
from common import DOUBLE, Case, leaf
from reflectors import COMPLEX, first_columns, free_tau, multiplied, reflectors

from hoft_torch import householder_apply, householder_product, linalg, ormqr
from hoft_torch._register import HAS_LIBRARY

SHAPES = (((), 5, 3, 3), ((2,), 6, 6, 4), ((2, 3), 7, 4, 4), ((), 150, 140, 130), ((2,), 70, 68, 66), ((1,), 64, 64, 64))
SIDES = [(left, transpose) for left in (True, False) for transpose in (False, True)]


class Product(Case):
    def test_is_the_product_of_reflectors(self):
        for dtype in (DOUBLE, COMPLEX):
            for batch, m, n, k in SHAPES:
                with self.subTest(dtype=dtype, batch=batch, m=m, n=n, k=k):
                    A, tau = reflectors(*batch, m, n, k=k, dtype=dtype)
                    g = torch.randn(*batch, m, n, dtype=dtype)
                    Q, expected = householder_product(A, tau), first_columns(A, tau)
                    self.assertClose(Q, expected, expected.detach().norm(), k)
                    for a, b in zip(torch.autograd.grad(Q, (A, tau), g), torch.autograd.grad(expected, (A, tau), g)):
                        self.assertClose(a, b, g.norm() * float(A.detach().tril(-1).norm().abs() + 1), k)

    def test_every_tau_has_its_gradient(self):
        """Where PyTorch's divides by zero."""
        for dtype in (DOUBLE, COMPLEX):
            inputs = free_tau(2, 6, 4, dtype=dtype)
            self.assertTrue(torch.autograd.gradcheck(householder_product, inputs))
            self.assertTrue(torch.autograd.gradgradcheck(householder_product, inputs))
            g = torch.randn(2, 6, 4, dtype=dtype)
            self.assertGradientsClose(householder_product, first_columns, inputs, g, 4)

    def test_float(self):
        for dtype in (torch.float32, torch.complex64):
            A, tau = reflectors(3, 90, 80, k=80, dtype=dtype)
            Q = householder_product(A, tau)
            self.assertEqual(Q.dtype, dtype)
            identity = torch.eye(80, dtype=dtype).expand(3, 80, 80)
            self.assertClose(Q.mH @ Q, identity, identity.norm().abs(), 80)

    def test_is_torch(self):
        """Values, gradients, strides."""
        A, tau = reflectors(2, 9, 5, k=5)
        with torch.no_grad():
            A.copy_(A.nan_to_num())
        ours, theirs = householder_product(A, tau), torch.linalg.householder_product(A, tau)
        self.assertEqual(ours.stride(), theirs.stride())
        g = torch.randn(2, 9, 5, dtype=DOUBLE)
        self.assertGradientsClose(householder_product, torch.linalg.householder_product, (A, tau), g, 5)

    def test_nothing_to_do(self):
        for shape, k in (((4, 3), 0), ((0, 0), 0), ((3, 0), 0), ((0, 4, 3), 3), ((2, 0, 4, 3), 2), ((2, 4, 3), 0)):
            A, tau = leaf(*shape), leaf(*shape[:-2], k)
            Q = householder_product(A, tau)
            self.assertTrue(torch.equal(Q, torch.linalg.householder_product(A, tau)))
            for a, da in zip((A, tau), torch.autograd.grad(Q.sum(), (A, tau))):
                self.assertTrue(torch.equal(da, torch.zeros_like(a)))

    def test_any_strides(self):
        for dtype in (DOUBLE, COMPLEX):
            A, tau = reflectors(3, 8, 5, k=4, dtype=dtype)
            A, tau = A.detach(), tau.detach()
            expected = householder_product(A, tau)
            wide, far = torch.zeros(3, 8, 15, dtype=dtype), torch.zeros(3, 8, dtype=dtype)
            wide[..., ::3], far[:, ::2] = A, tau
            for same in (A.contiguous(), A.mT.contiguous().mT, wide[..., ::3], A.mH.contiguous().mH, A.conj().clone().conj()):
                self.assertTrue(torch.equal(householder_product(same, far[:, ::2]), expected))
            one = A[:1].expand(3, -1, -1).requires_grad_()
            Q = householder_product(one, tau[:1].expand(3, -1))
            self.assertTrue(torch.equal(Q[1], expected[0]))
            self.assertEqual(torch.autograd.grad(Q.abs().sum(), one)[0].shape, one.shape)

    def test_same_bits_for_any_number_of_threads(self):
        for batch in (1, 5):
            A, tau = reflectors(batch, 100, 80, k=80, dtype=torch.float32)
            g, results, threads = torch.randn(batch, 100, 80), [], torch.get_num_threads()
            try:
                for count in (1, 2, 3):
                    torch.set_num_threads(count)
                    Q = householder_product(A, tau)
                    results.append((Q, *torch.autograd.grad(Q, (A, tau), g)))
            finally:
                torch.set_num_threads(threads)
            for other in results[1:]:
                for a, b in zip(results[0], other):
                    self.assertTrue(torch.equal(a, b))

    def test_out(self):
        A, tau = (a.detach() for a in reflectors(2, 5, 4, k=4))
        for out in (torch.empty(2, 5, 4, dtype=DOUBLE), torch.empty(0, dtype=DOUBLE)):
            self.assertIs(householder_product(A, tau, out=out), out)
            self.assertTrue(torch.equal(out, householder_product(A, tau)))
        with self.assertRaisesRegex(RuntimeError, "out is not differentiable"):
            householder_product(A.requires_grad_(), tau, out=out)
        with self.assertRaisesRegex(TypeError, "out is torch.float32"):
            householder_product(A.detach(), tau, out=torch.empty(2, 5, 4))
        with self.assertRaisesRegex(ValueError, r"out has the shape \[5, 4\]"):
            householder_product(A.detach(), tau, out=torch.empty(5, 4, dtype=DOUBLE))

    def test_bad_arguments(self):
        A, tau = torch.randn(2, 5, 4), torch.randn(2, 4)
        refused = [
            (TypeError, "A is a list", lambda: householder_product([1.0], tau)),
            (TypeError, "A is a tensor of torch.int64", lambda: householder_product(A.long(), tau)),
            (TypeError, "A is a tensor of torch.bfloat16", lambda: householder_product(A.bfloat16(), tau.bfloat16())),
            (TypeError, "tau is a float", lambda: householder_product(A, 2.0)),
            (TypeError, "tau holds torch.float64, must hold torch.float32", lambda: householder_product(A, tau.double())),
            (ValueError, "tau is on meta, must be on cpu", lambda: householder_product(A, tau.to("meta"))),
            (ValueError, r"A has the shape \[4\], must have at least 2", lambda: householder_product(A[0, 0], tau)),
            (ValueError, "at least as many rows as columns", lambda: householder_product(A.mT, tau)),
            (ValueError, r"tau has the shape \[4\], must have \[2, k\]", lambda: householder_product(A, tau[0])),
            (ValueError, r"tau has the shape \[1, 4\]", lambda: householder_product(A, tau[:1])),
            (ValueError, "tau has 5 elements, must have at most 4", lambda: householder_product(A, torch.randn(2, 5))),
        ]
        for error, message, call in refused:
            with self.subTest(message), self.assertRaisesRegex(error, message):
                call()


class Ormqr(Case):
    def test_is_the_product_of_reflectors(self):
        for dtype in (DOUBLE, COMPLEX):
            for batch, m, n, k in SHAPES:
                for left, transpose in SIDES:
                    A, tau = reflectors(*batch, m, n, k=k, dtype=dtype)
                    other = leaf(*batch, *((m, 3) if left else (3, m)), dtype=dtype)
                    g = torch.randn_like(other)
                    with self.subTest(dtype=dtype, m=m, left=left, transpose=transpose):
                        inputs, sides = (A, tau, other), (left, transpose)
                        Y, expected = ormqr(*inputs, *sides), multiplied(*inputs, *sides)
                        size = float(other.detach().norm().abs())
                        self.assertClose(Y, expected, size, k)
                        size *= float(g.norm().abs() * (A.detach().tril(-1).norm().abs() + 1))
                        got, wanted = torch.autograd.grad(Y, inputs, g), torch.autograd.grad(expected, inputs, g)
                        for a, b in zip(got, wanted):
                            self.assertClose(a, b, size, k)

    def test_every_tau_has_its_gradient(self):
        for dtype in (DOUBLE, COMPLEX):
            A, tau = free_tau(2, 6, 4, dtype=dtype)
            for left, transpose in SIDES:
                other = leaf(2, *((6, 3) if left else (3, 6)), dtype=dtype)
                function = lambda *inputs: ormqr(*inputs, left, transpose)
                self.assertTrue(torch.autograd.gradcheck(function, (A, tau, other)))
                self.assertTrue(torch.autograd.gradgradcheck(function, (A, tau, other)))

    def test_is_torch(self):
        A, tau = reflectors(2, 9, 5, k=5)
        with torch.no_grad():
            A.copy_(A.nan_to_num())
        for left, transpose in SIDES:
            other = leaf(2, *((9, 4) if left else (4, 9)))
            ours = lambda *inputs: ormqr(*inputs, left=left, transpose=transpose)
            theirs = lambda *inputs: torch.ormqr(*inputs, left=left, transpose=transpose)
            inputs = A, tau, other
            Y, expected = ours(*inputs), theirs(*(a.detach() for a in inputs))
            self.assertClose(Y, expected, expected.norm(), 5)
            if hasattr(torch, "func"):  # PyTorch 1.13 has no derivative of it
                self.assertGradientsClose(ours, theirs, inputs, torch.randn_like(other), 5)

    def test_some_gradients(self):
        A, tau = reflectors(2, 9, 5, k=5)
        other = leaf(2, 9, 4)
        everything = torch.autograd.grad(ormqr(A, tau, other).sum(), (A, tau, other))
        for i in range(3):
            inputs = [a.detach().requires_grad_(i == j) for j, a in enumerate((A, tau, other))]
            (one,) = torch.autograd.grad(ormqr(*inputs).sum(), inputs[i], create_graph=i == 2)
            self.assertClose(one, everything[i], everything[i].norm(), 5)

    def test_nothing_to_do(self):
        for m, k, columns, batch in ((4, 0, 3, ()), (0, 0, 3, ()), (4, 2, 0, ()), (4, 2, 3, (0,)), (4, 0, 3, (2, 1))):
            A, tau, other = leaf(*batch, m, k), leaf(*batch, k), leaf(*batch, m, columns)
            Y = ormqr(A, tau, other)
            self.assertEqual(Y.shape, other.shape)
            if k == 0:
                self.assertTrue(torch.equal(Y, other))
            dA, dtau, dother = torch.autograd.grad(Y.sum(), (A, tau, other))
            self.assertTrue(torch.equal(dA, torch.zeros_like(A)) and torch.equal(dtau, torch.zeros_like(tau)))
            self.assertEqual(dother.shape, other.shape)

    def test_other_is_only_read(self):
        A, tau = reflectors(6, 4, k=4)
        other = torch.randn(6, 5, dtype=DOUBLE)
        before = other.clone()
        for strided in (other, other.mT.contiguous().mT):
            ormqr(A, tau, strided).sum().backward()
            self.assertTrue(torch.equal(strided, before))

    def test_bad_arguments(self):
        A, tau, other = torch.randn(2, 5, 4), torch.randn(2, 4), torch.randn(2, 5, 3)
        refused = [
            (TypeError, "other is a float", lambda: ormqr(A, tau, 1.0)),
            (TypeError, "other holds torch.float64", lambda: ormqr(A, tau, other.double())),
            (ValueError, "other is on meta", lambda: ormqr(A, tau, other.to("meta"))),
            (ValueError, r"other has the shape \[5, 3\], must have \[2\] in front", lambda: ormqr(A, tau, other[0])),
            (ValueError, r"other has the shape \[1, 5, 3\]", lambda: ormqr(A, tau, other[:1])),
            (ValueError, r"other.shape\[-2\] is 3, must be 5", lambda: ormqr(A, tau, other.mT)),
            (ValueError, r"other.shape\[-1\] is 3, must be 5", lambda: ormqr(A, tau, other, left=False)),
            (ValueError, "tau has 5 elements, must have at most 4", lambda: ormqr(A, torch.randn(2, 5), other)),
            (ValueError, r"tau has the shape \[3, 4\]", lambda: ormqr(A, torch.randn(3, 4), other)),
        ]
        for error, message, call in refused:
            with self.subTest(message), self.assertRaisesRegex(error, message):
                call()


@unittest.skipUnless(HAS_LIBRARY, "PyTorch before 2.4 has no torch.library for this")
class Transforms(Case):
    """torch.compile, vmap, forward-mode derivatives and torch.func's."""

    def calls(self):
        """Name, function and one set of arguments."""
        A, tau = free_tau(6, 4)
        other, x, u = leaf(6, 3), leaf(3, 6), leaf(2, 6)
        return [
            ("householder_product", householder_product, (A, tau)),
            ("ormqr", ormqr, (A, tau, other)),
            ("ormqr from the right", lambda *inputs: ormqr(*inputs, False, True), (A, tau, x)),
            ("householder_apply", householder_apply, (x, u)),
            ("householder_apply with tau", householder_apply, (x, A[:, :2].mT.detach(), tau[:2].detach())),
        ]

    def test_vmap_is_a_batch(self):
        for name, function, inputs in self.calls():
            for count in range(1, 2 ** len(inputs)):
                mapped = [bool(count >> i & 1) for i in range(len(inputs))]
                many = [a.detach() + torch.randn(5, *a.shape).double() / 9 if m else a for a, m in zip(inputs, mapped)]
                got = torch.vmap(function, tuple(0 if m else None for m in mapped))(*many)
                each = [function(*(a[i] if m else a for a, m in zip(many, mapped))) for i in range(5)]
                with self.subTest(name, mapped=mapped):
                    self.assertClose(got, torch.stack(each), torch.stack(each).norm(), 4)

    def test_vmap_calls_once(self):
        A, tau = (a.detach() for a in free_tau(7, 6, 4))
        with unittest.mock.patch.object(linalg._product, "call", wraps=linalg._product.call) as call:
            torch.vmap(torch.vmap(householder_product))(A.expand(2, -1, -1, -1), tau.expand(2, -1, -1))
        shapes = [tuple(c.args[0].shape) for c in call.call_args_list]
        self.assertIn((2, 7, 6, 4), shapes)
        self.assertNotIn((6, 4), shapes[1:])

    def test_derivatives(self):
        for name, function, inputs in self.calls():
            with self.subTest(name):
                plain = [a.detach() for a in inputs]
                last = len(inputs) - 1
                one = lambda a: function(*plain[:last], a)
                loss = lambda a: one(a).sin().sum()
                tangent = torch.randn_like(plain[last])
                _, forward = torch.func.jvp(one, (plain[last],), (tangent,))
                jacobian = torch.autograd.functional.jacobian(one, plain[last])
                by_rows = (jacobian * tangent).flatten(forward.dim()).sum(-1)
                self.assertClose(forward, by_rows, forward.norm(), 8)
                gradient = torch.func.grad(loss)(plain[last])
                leaf_ = plain[last].clone().requires_grad_()
                self.assertClose(gradient, torch.autograd.grad(loss(leaf_), leaf_)[0], gradient.norm() + 1, 8)
                hessian = torch.autograd.functional.hessian(loss, plain[last])
                again = torch.func.hessian(loss)(plain[last])
                self.assertClose(hessian, again, again.norm() + 1, 16)

    def test_opcheck(self):
        """PyTorch's own check of fakes, gradients and what a compiler makes of them."""
        A, tau = free_tau(2, 6, 4)
        for args in ((A, tau, True), (A.detach(), tau.detach(), False)):
            torch.library.opcheck(torch.ops.hoft.householder_product.default, args)
        for dtype in (DOUBLE, COMPLEX):
            A, tau = free_tau(6, 4, dtype=dtype)
            torch.library.opcheck(torch.ops.hoft.ormqr.default, (A, tau, leaf(6, 3, dtype=dtype), True, True))
        x, u, tau = leaf(2, 5, 6, dtype=COMPLEX), leaf(2, 3, 6, dtype=COMPLEX), leaf(2, 3, dtype=COMPLEX)
        for args in ((x, u, None, False, True), (x, u, tau, True, False)):
            torch.library.opcheck(torch.ops.hoft.householder.default, args)

    def test_without_memory(self):
        meta = lambda *shape: torch.empty(*shape, device="meta", dtype=torch.complex64)
        self.assertEqual(householder_product(meta(3, 6, 4), meta(3, 2)).shape, (3, 6, 4))
        self.assertEqual(ormqr(meta(3, 6, 4), meta(3, 2), meta(3, 5, 6), left=False).shape, (3, 5, 6))
        self.assertEqual(householder_apply(meta(3, 5, 6), meta(3, 2, 6)).shape, (3, 5, 6))

    def test_compile(self):
        for name, function, inputs in self.calls():
            with self.subTest(name):
                written = torch.compile(function, fullgraph=True, backend="aot_eager")
                y, z = written(*inputs), function(*inputs)
                self.assertTrue(torch.equal(y, z))
                wanted = [a for a in inputs if a.requires_grad]
                if wanted:
                    for a, b in zip(torch.autograd.grad(y.sum(), wanted), torch.autograd.grad(z.sum(), wanted)):
                        self.assertTrue(torch.equal(a, b))


if __name__ == "__main__":
    unittest.main()
