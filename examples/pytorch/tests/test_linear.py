# SPDX-License-Identifier: BSD-3-Clause
"""HOFT and SHOFT as functions of a dense weight, with PyTorch as the judge of values and gradients."""

import itertools
import unittest

import torch

from common import DOUBLE, HOFT_REFUSES, Case, adapted, leaf
from hoft_torch import hoft_linear, householder_apply, merge, shoft_linear, unmerge


class Linear(Case):
    m, n, ru, rv = 6, 9, 4, 2

    def inputs(self, t=5):
        scale = torch.empty(self.m, dtype=DOUBLE).uniform_(0.5, 1.5).requires_grad_()
        return leaf(t, self.n), leaf(self.ru, self.m), leaf(self.rv, self.n), scale

    def weight(self):
        return torch.randn(self.m, self.n, dtype=DOUBLE)

    def test_gradcheck(self):
        weight, bias, (x, u, v, s) = self.weight(), leaf(self.m), self.inputs()
        check = torch.autograd.gradcheck
        self.assertTrue(check(lambda x, u, v, b: hoft_linear(x, weight, u, v, b), (x, u, v, bias)))
        for keep_q in (True, False):
            function = lambda x, u, v, s, b: shoft_linear(x, weight, u, v, s, b, keep_q=keep_q)
            self.assertTrue(check(function, (x, u, v, s, bias)))
        self.assertTrue(check(lambda u, v: merge(weight, u, v), (u, v)))
        self.assertTrue(check(lambda u, v, s: merge(weight, u, v, s), (u, v, s)))
        self.assertTrue(check(lambda x, u: hoft_linear(x, weight, u, v[:0]), (x, u)))
        self.assertTrue(check(lambda x, v: hoft_linear(x, weight, u[:0], v), (x, v)))

    def test_is_the_adapted_weight(self):
        weight = self.weight()
        for t in (1, 5, 300):
            x, u, v, s = self.inputs(t)
            steps = self.ru + self.rv + 3
            g = torch.randn(t, self.m, dtype=DOUBLE) * weight.norm()
            plain = lambda x, u, v, s: x @ adapted(weight, u, v, s).t()
            ours = lambda x, u, v, s: shoft_linear(x, weight, u, v, s)
            self.assertGradientsClose(ours, plain, (x, u, v, s), g, steps)
            plain = lambda x, u, v: x @ adapted(weight, u, v).t()
            self.assertGradientsClose(lambda x, u, v: hoft_linear(x, weight, u, v), plain, (x, u, v), g, steps)
            through_merge = lambda x, u, v, s: x @ merge(weight, u, v, s).t()
            self.assertGradientsClose(through_merge, ours, (x, u, v, s), g, steps)

    def test_bias_is_added_behind(self):
        weight, bias, (x, u, v, s) = self.weight(), torch.randn(self.m, dtype=DOUBLE), self.inputs()
        self.assertTrue(torch.equal(hoft_linear(x, weight, u, v, bias), hoft_linear(x, weight, u, v) + bias))
        self.assertTrue(torch.equal(shoft_linear(x, weight, u, v, s, bias), shoft_linear(x, weight, u, v, s) + bias))

    def test_gradients_do_not_see_the_bias(self):
        """It is in the output that the backward pass reads, in which rounding is all that may be left of it."""
        t = 4096
        types = ((DOUBLE, DOUBLE), (torch.float32, torch.float32), (torch.bfloat16, torch.bfloat16), (torch.bfloat16, torch.float32))
        for (dtype, of_bias), ru, keep_q in itertools.product(types, (4, 70), (True, False)):
            wide = torch.float32 if dtype == torch.bfloat16 else dtype
            weight, x, u, v = (torch.randn(a, b, dtype=DOUBLE) for a, b in ((90, 80), (t, 80), (ru, 90), (6, 80)))
            weight, x = weight.to(dtype), x.to(dtype)
            s, bias = torch.rand(90).add(0.5).to(wide), 10 * torch.randn(90).to(of_bias)
            dy = (1 + torch.randn(t, 90)).to(dtype)  # not around zero, so that what is systematic adds up
            found = []
            for b in (None, bias):
                leaves = [a.to(wide).requires_grad_() for a in (u, v, s)]
                shoft_linear(x, weight, *leaves, b, keep_q=keep_q).backward(dy)
                found.append([a.grad for a in leaves])
            eps = torch.finfo(dtype).eps
            for (without, with_bias), a in zip(zip(*found), (u, v, s)):
                # Rounding moves an element of y by 0.3 eps (|b| + |y|) in the mean square, and a gradient by that, times
                # dy, which is 1.4 in the mean square, and at most 1 / |u|. That of different tokens is independent: six
                # standard deviations. What does not vanish in the mean would be of the order t in place of its root.
                size = bias.double().abs().max() + 4
                allowed = 6 * t**0.5 * 0.3 * eps * size * 1.4 * max(1, 1 / u.norm(dim=1).min())
                difference = (without - with_bias).double().abs().max()
                self.assertLess(difference, allowed, (ru, dtype, of_bias, keep_q, a.shape))

    def test_a_bias_of_any_strides(self):
        weight, (x, u, v, s) = self.weight(), self.inputs()
        bias = torch.randn(2 * self.m, dtype=DOUBLE)[::2]
        expected = hoft_linear(x, weight, u, v) + bias
        for b in (bias, bias.unsqueeze(0)):
            self.assertTrue(torch.equal(hoft_linear(x, weight, u, v, b), expected))
        one = torch.randn(1, dtype=DOUBLE)
        self.assertTrue(torch.equal(hoft_linear(x, weight, u, v, one), hoft_linear(x, weight, u, v) + one))
        with self.assertRaisesRegex(TypeError, "hoft_linear: the bias is a list, must be a tensor"):
            hoft_linear(x, weight, u, v, [0.0] * self.m)
        for wrong in (torch.randn(self.m + 1, dtype=DOUBLE), torch.randn(self.m, 1, dtype=DOUBLE)):
            with self.assertRaisesRegex(ValueError, "hoft_linear: the bias has the shape .*, must have 6 elements"):
                hoft_linear(x, weight, u, v, wrong)

    def test_keeps_its_input_and_its_output_alone(self):
        """Nothing of the size of the tokens beside them, with a bias or without; SHOFT q as well."""
        weight, bias = torch.randn(70, 60), torch.randn(70)
        for b, scaled in itertools.product((None, bias), (False, True)):
            x, kept = torch.randn(500, 60, requires_grad=True), {}
            s = torch.ones(70, requires_grad=True) if scaled else None
            u, v = torch.randn(4, 70, requires_grad=True), torch.randn(4, 60, requires_grad=True)

            def pack(a):
                kept[a.data_ptr()] = a.numel()
                return a

            with torch.autograd.graph.saved_tensors_hooks(pack, lambda a: a):
                y = shoft_linear(x, weight, u, v, s, b) if scaled else hoft_linear(x, weight, u, v, b)
            large = {address for address, size in kept.items() if size >= 500 * 60}
            self.assertEqual(len(large), 3 if scaled else 2)
            self.assertLessEqual({x.data_ptr(), y.data_ptr()}, large)

    def test_unmerge_undoes_merge(self):
        weight, (_, u, v, s) = self.weight(), self.inputs()
        for scale in (None, s):
            back = unmerge(merge(weight, u, v, scale), u, v, scale)
            self.assertClose(back, weight, 3 * weight.norm(), self.ru + self.rv)  # max s / min s <= 3
        s.data[2] = 0
        with self.assertRaisesRegex(HOFT_REFUSES, r"a.scale\[2\] is 0"):
            unmerge(weight, u, v, s)

    def test_x_is_only_read(self):
        """Nothing in the memory of x changes, around it neither, whatever its strides."""
        weight, (_, u, v, s) = self.weight(), self.inputs()
        room = torch.randn(9, 30, dtype=DOUBLE)
        before = room.clone()
        for x in (room[:5, : self.n], room[2:7, 3 : 3 + self.n], room[:, ::3][:5, : self.n], room[: self.n, :5].t()):
            y = shoft_linear(x, weight, u, v, s)
            y.sum().backward()
            self.assertTrue(torch.equal(room, before))
            # PyTorch's own product may have other bits for other strides.
            self.assertClose(y, shoft_linear(x.contiguous(), weight, u, v, s), 3 * weight.norm() * x.norm(), 11)

    def test_tokens(self):
        weight, (x, u, v, s) = self.weight(), self.inputs(12)
        y = shoft_linear(x, weight, u, v, s)
        self.assertTrue(
            torch.equal(shoft_linear(x.reshape(2, 2, 3, self.n), weight, u, v, s), y.reshape(2, 2, 3, self.m))
        )
        turned = x.t().contiguous().t()
        self.assertTrue(torch.equal(shoft_linear(turned, weight, u, v, s), y))
        self.assertTrue(torch.allclose(shoft_linear(x[0], weight, u, v, s), y[0], rtol=1e-12))
        empty = leaf(3, 0, self.n)
        y = shoft_linear(empty, weight, u, v, s)
        self.assertEqual(tuple(y.shape), (3, 0, self.m))
        for gradient in torch.autograd.grad(y.sum(), (u, v, s)):
            self.assertTrue(torch.equal(gradient, torch.zeros_like(gradient)))

    def test_no_feature(self):
        for m, n in ((0, 5), (5, 0), (0, 0)):
            weight, inputs = torch.randn(m, n, dtype=DOUBLE), (leaf(3, n), leaf(2, m), leaf(4, n), leaf(m))
            y = shoft_linear(inputs[0], weight, *inputs[1:])
            self.assertTrue(torch.equal(y, torch.zeros(3, m, dtype=DOUBLE)))
            for a, da in zip(inputs, torch.autograd.grad(y.sum(), inputs)):
                self.assertTrue(torch.equal(da, torch.zeros_like(a)))
            for a, da in zip(inputs[1:], torch.autograd.grad(merge(weight, *inputs[1:]).sum(), inputs[1:])):
                self.assertEqual(da.shape, a.shape)

    def test_parameters_and_gradients_of_any_strides(self):
        weight, (_, u, v, s) = self.weight(), self.inputs()
        g = torch.randn(self.n, self.m, dtype=DOUBLE).t()
        spread = [torch.stack((a.detach(), a.detach()), -1)[..., 0].requires_grad_() for a in (u, v, s)]
        self.assertFalse(any(a.is_contiguous() for a in spread))
        got, expected = merge(weight, *spread), merge(weight, u, v, s)
        self.assertTrue(torch.equal(got, expected))
        first = torch.autograd.grad(got, spread, g)
        second = torch.autograd.grad(expected, (u, v, s), g.contiguous())
        for a, b in zip(first, second):
            self.assertTrue(torch.equal(a, b))

    def test_gradients_of_some(self):
        weight = self.weight()
        all_of_them = self.inputs()
        expected = torch.autograd.grad(shoft_linear(all_of_them[0], weight, *all_of_them[1:]).sum(), all_of_them)
        for wanted in itertools.product((False, True), repeat=4):
            inputs = [a.detach().clone().requires_grad_(want) for a, want in zip(all_of_them, wanted)]
            y = shoft_linear(inputs[0], weight, *inputs[1:])
            self.assertEqual(y.requires_grad, any(wanted))
            if any(wanted):
                y.sum().backward()
            for a, want, da in zip(inputs, wanted, expected):
                self.assertTrue(torch.equal(a.grad, da) if want else a.grad is None)

    def test_second_derivatives(self):
        weight, (x, u, v, s) = self.weight(), self.inputs(2)
        check = torch.autograd.gradgradcheck
        self.assertTrue(check(lambda x, u, v: hoft_linear(x, weight, u, v), (x, u, v)))
        self.assertTrue(check(lambda x, u, v, s: shoft_linear(x, weight, u, v, s), (x, u, v, s)))
        self.assertTrue(check(lambda u, v, s: merge(weight, u, v, s), (u, v, s)))

    def test_second_derivatives_after_a_change_are_refused(self):
        weight, (x, u, v, s) = self.weight(), self.inputs(2)
        y = shoft_linear(x, weight, u, v, s)
        with torch.no_grad():
            u.add_(1)
        torch.autograd.grad(y.sum(), u, retain_graph=True)
        with self.assertRaisesRegex(RuntimeError, "changed in place"):
            torch.autograd.grad(y.sum(), u, create_graph=True)

    def test_weights_of_any_strides(self):
        weight, (x, u, v, s) = self.weight(), self.inputs()
        turned = weight.t().contiguous().t()
        self.assertClose(shoft_linear(x, turned, u, v, s), shoft_linear(x, weight, u, v, s), 99 * x.detach().norm())
        self.assertTrue(torch.equal(merge(turned, u, v, s), merge(weight, u, v, s)))

    def test_bad_arguments(self):
        weight, (x, u, v, s) = self.weight(), self.inputs()
        refused = [
            (
                ValueError,
                "hoft_linear: the number of features of x is 8, must be 9",
                lambda: hoft_linear(x[:, :8], weight, u, v),
            ),
            (ValueError, "the number of features of u is 9, must be 6", lambda: hoft_linear(x, weight, v, v)),
            (ValueError, "the number of features of v is 6, must be 9", lambda: merge(weight, u, u)),
            (ValueError, "shoft_linear: the length of s is 5, must be 6", lambda: shoft_linear(x, weight, u, v, s[:5])),
            (
                TypeError,
                "x is torch.float32 on cpu, must be as the weight, torch.float64",
                lambda: hoft_linear(x.float(), weight, u, v),
            ),
            (TypeError, "merge: u holds torch.float32", lambda: merge(weight, u.float(), v)),
            (TypeError, "the weight is a tensor of torch.int8 of shape", lambda: merge(weight.to(torch.int8), u, v)),
            (TypeError, "must be a matrix", lambda: merge(weight[0], u, v)),
            (ValueError, "the weight requires a gradient", lambda: hoft_linear(x, weight.requires_grad_(), u, v)),
        ]
        for error, message, call in refused:
            with self.subTest(message), self.assertRaisesRegex(error, message):
                call()

    def test_autocast(self):
        """x and the weight in any type but double, as torch.nn.functional.linear takes them; the gradients too."""
        weight, (x, u, v, s) = self.weight().float(), (a.detach().float() for a in self.inputs())
        g = torch.randn(5, self.m)
        expected = None
        for kinds in itertools.product((torch.float32, torch.bfloat16), repeat=2):
            x_, weight_ = (a.to(torch.bfloat16).to(kind) for a, kind in zip((x, weight), kinds))
            leaves = [a.clone().requires_grad_() for a in (x_, u, v, s)]
            with torch.autocast("cpu", dtype=torch.bfloat16):
                y = shoft_linear(leaves[0], weight_, *leaves[1:])
            self.assertEqual(y.dtype, torch.bfloat16)
            y.backward(g.to(torch.bfloat16))
            self.assertEqual([a.grad.dtype for a in leaves], [kinds[0]] + 3 * [torch.float32])
            found = [y.detach(), leaves[0].grad.float(), *(a.grad for a in leaves[1:])]
            expected = expected or found
            for a, b in zip(found, expected):
                self.assertTrue(torch.equal(a, b))
        with torch.autocast("cpu", dtype=torch.bfloat16):  # double stays
            wide = [a.double() for a in (x, weight, u, v, s)]
            self.assertEqual(shoft_linear(*wide).dtype, DOUBLE)
            self.assertEqual(householder_apply(x, v).dtype, torch.float32)

    def test_differentiable_gradients_under_autocast(self):
        """Where a gradient is to be differentiated, as penalties of gradients are, its products are in float all the same."""
        half = lambda a: a.detach().to(torch.bfloat16)
        weight, g, (x, u, v, s) = half(self.weight()), half(torch.randn(5, self.m)), self.inputs()
        leaves = [half(x), *(a.detach().float() for a in (u, v, s))]
        wide = [a.double().requires_grad_() for a in leaves]
        expected = torch.autograd.grad(shoft_linear(wide[0], weight.double(), *wide[1:]), wide, g.double())
        leaves = [a.requires_grad_() for a in leaves]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = shoft_linear(leaves[0], weight, *leaves[1:])
            found = torch.autograd.grad(y, leaves, g, create_graph=True)
        for a, b in zip(found, expected):
            rounding = 2**-9 if a.dtype == torch.bfloat16 else 2**-18
            self.assertLess((a.double() - b).norm(), rounding * b.norm())


if __name__ == "__main__":
    unittest.main()
