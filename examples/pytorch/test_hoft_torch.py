"""PyTorch as the judge of hoft's values and gradients, and hoft's manners inside PyTorch."""

import contextlib
import copy
import io
import itertools
import math
import pickle
import time
import unittest
import unittest.mock

import torch
import torch.nn.utils.prune
import torch.utils.checkpoint

import hoft_torch
from hoft_torch import HOFTLinear, hoft_linear, householder_apply, merge, paired_gaussian, shoft_linear, unmerge
from hoft_torch.functional import _rows

DOUBLE = torch.float64
HOFT_REFUSES = (ValueError, RuntimeError)  # what a std::invalid_argument becomes depends on PyTorch's version


def compact_wy(u):
    """Q [m, m] of the rows of u, by the UT transform in plain PyTorch."""
    unit = u / u.norm(dim=1, keepdim=True)
    identity = torch.eye(len(u), dtype=u.dtype)
    inverse = torch.triu(unit @ unit.t(), 1) + identity / 2
    T = torch.linalg.solve_triangular(inverse, identity, upper=True)
    return torch.eye(u.shape[1], dtype=u.dtype) - unit.t() @ T @ unit


def adapted(weight, u, v, s=None):
    middle = weight if s is None else s[:, None] * weight
    return compact_wy(u) @ middle @ compact_wy(v)


def leaf(*shape, dtype=DOUBLE):
    return torch.randn(*shape, dtype=dtype).requires_grad_()


class Quantised(torch.nn.Module):
    """A linear layer whose weight is 8-bit integers with one scale to a row: nobody can take it for a matrix."""

    def __init__(self, linear):
        super().__init__()
        self.out_features, self.in_features = linear.weight.shape
        scale = linear.weight.detach().abs().amax(1, keepdim=True) / 127
        self.register_buffer("scale", scale)
        self.register_buffer("weight", (linear.weight.detach() / scale).round().to(torch.int8))
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())

    def dequantised(self):
        return self.weight.to(self.scale.dtype) * self.scale

    def forward(self, x):
        return torch.nn.functional.linear(x, self.dequantised().to(x.dtype), self.bias)


class Case(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(3)

    def assertClose(self, got, expected, scale, steps=1):
        """‖got − expected‖ ≤ steps · 16 √m ε · scale. Each of `steps` reflectors, products or sums on either side rounds
        to √m ε or better times a small constant, and all maps around it are isometries or in `scale`."""
        self.assertEqual(got.shape, expected.shape)
        self.assertEqual(got.dtype, expected.dtype)
        error = float((got - expected).detach().norm())
        root = math.sqrt(max(expected.shape[-1:] or [1]))
        bound = steps * 16 * root * torch.finfo(expected.dtype).eps * float(scale)
        self.assertTrue(error <= bound, f"{error} > {bound}")  # fails NaN

    def assertGradientsClose(self, got, expected, inputs, cotangent, steps):
        """Values and gradients of two functions, one an independent formula."""
        y, z = got(*inputs), expected(*inputs)
        sizes = 1.0
        for a in inputs:
            sizes = sizes * max(1.0, float(a.detach().norm()))
        self.assertClose(y, z, sizes, steps)
        first = torch.autograd.grad(y, inputs, cotangent)
        second = torch.autograd.grad(z, inputs, cotangent)
        for a, b in zip(first, second):
            self.assertClose(a, b, sizes * float(cotangent.norm()), steps)


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

    def test_second_derivatives_are_refused(self):
        x, u = leaf(2, 6), leaf(4, 6)
        (dx,) = torch.autograd.grad(householder_apply(x, u).square().sum(), x, create_graph=True)
        with self.assertRaisesRegex(RuntimeError, "once_differentiable"):
            dx.sum().backward()

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
            (TypeError, "u holds torch.float64, must hold torch.float32", lambda: householder_apply(x, u.double())),
            (TypeError, "u holds torch.float32, must hold torch.float64", lambda: householder_apply(x.double(), u)),
            (TypeError, "u is a list", lambda: householder_apply(x, [1.0])),
            (ValueError, "u is on meta, must be on cpu", lambda: householder_apply(x, u.to("meta"))),
            (TypeError, "x is a tensor of torch.int64", lambda: householder_apply(x.long(), u)),
            (TypeError, "x is a tensor of torch.complex64", lambda: householder_apply(x * 1j, u)),
            (ValueError, "x has no dimension", lambda: householder_apply(x[0, 0], u)),
            (ValueError, "length of tau is 3, must be 4", lambda: householder_apply(x, u, torch.ones(3))),
            (ValueError, "from_output takes no tau", lambda: householder_apply(x, u, torch.ones(4), from_output=True)),
            (HOFT_REFUSES, "V.cols is 7, must be <= 6", lambda: householder_apply(x, torch.randn(7, 6), torch.ones(7))),
        ]
        for error, message, call in refused:
            with self.subTest(message), self.assertRaisesRegex(error, message):
                call()


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
            self.assertTrue(torch.equal(y, shoft_linear(x.contiguous(), weight, u, v, s)))

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

    def test_second_derivatives_are_refused(self):
        weight, (x, u, v, s) = self.weight(), self.inputs()
        for y in (hoft_linear(x, weight, u, v), shoft_linear(x, weight, u, v, s), merge(weight, u, v, s)):
            (du,) = torch.autograd.grad(y.square().sum(), u, create_graph=True)
            with self.assertRaisesRegex(RuntimeError, "once_differentiable"):
                du.sum().backward()

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


class Module(Case):
    @staticmethod
    def randomise(layer):
        with torch.no_grad():
            layer.u.normal_(), layer.v.normal_()
            if layer.s is not None:
                layer.s.uniform_(0.5, 1.5)
        return layer

    def layer(self, scaled=True, bias=True, rank=4, dtype=torch.float32):
        base = torch.nn.Linear(10, 7, bias=bias).to(dtype)
        return self.randomise(HOFTLinear(base, rank, scaled))

    def formula(self, layer, x):
        """The layer in double, by plain PyTorch."""
        base = layer.base.dequantised() if isinstance(layer.base, Quantised) else layer.base.weight
        wide = [None if a is None else a.double() for a in (base, layer.u, layer.v, layer.s)]
        return torch.nn.functional.linear(
            x.double(), adapted(*wide), None if layer.base.bias is None else layer.base.bias.double()
        )

    def test_begins_as_its_base(self):
        x = torch.randn(5, 10)
        for scaled in (False, True):
            for rank in (4, (2, 6), (0, 2), (2, 0), 0):
                base = torch.nn.Linear(10, 7)
                layer = HOFTLinear(base, rank, scaled)
                self.assertClose(layer(x), base(x), base(x).detach().norm() + x.norm(), 12)
                if rank != 0:
                    self.assertGreater(float(layer.u.detach().norm() + layer.v.detach().norm()), 0)

    def test_is_its_formula_around_any_base(self):
        for make in (lambda linear: linear, Quantised):
            for scaled in (False, True):
                for bias in (False, True):
                    layer = self.randomise(HOFTLinear(make(torch.nn.Linear(10, 7, bias=bias)), 4, scaled))
                    x = torch.randn(2, 3, 10, requires_grad=True)
                    y, expected = layer(x), self.formula(layer, x)
                    size = expected.detach().norm()
                    self.assertClose(
                        y.double(), expected, size * torch.finfo(torch.float32).eps / torch.finfo(DOUBLE).eps, 11
                    )
                    g = torch.randn_like(y)
                    inputs = [x, *(p for p in layer.parameters() if p.requires_grad)]
                    self.assertEqual(len(inputs), 4 if scaled else 3)
                    for a, b in zip(
                        torch.autograd.grad(y, inputs, g), torch.autograd.grad(expected, inputs, g.double())
                    ):
                        self.assertClose(a, b, g.norm() * x.detach().norm(), 11)

    def test_bias_may_be_trained(self):
        layer = self.layer()
        layer.base.bias.requires_grad_()
        x = torch.randn(6, 10)
        g = torch.randn(6, 7)
        (got,) = torch.autograd.grad(layer(x), layer.base.bias, g)
        self.assertClose(got, g.sum(0), g.norm(), 20)

    def test_the_base_is_called(self):
        """On x as it is, and with the directions of v where these or the weight are new."""
        layer, calls = self.layer(), []
        layer.base.register_forward_hook(lambda module, inputs, output: calls.append(inputs[0]))
        x = torch.randn(2, 3, 10)
        layer(x)
        self.assertEqual([tuple(a.shape) for a in calls], [(2, 3, 10), (4, 10)])
        self.assertIs(calls[0], x)
        layer(x)
        self.assertIs(calls[-1], x)
        self.assertEqual(len(calls), 3)

    def test_hooks_change_nothing(self):
        """A base that is called as a module gives what the product with its weight gives, gradients too."""
        for scaled, bias, dtype in itertools.product((False, True), (False, True), (torch.float32, DOUBLE)):
            layer = self.layer(scaled, bias, dtype=dtype)
            hooked = copy.deepcopy(layer)
            hooked.base.register_forward_hook(lambda module, inputs, output: None)
            x, g = torch.randn(6, 10, dtype=dtype, requires_grad=True), torch.randn(6, 7, dtype=dtype)
            results = []
            for one in (layer, hooked):
                inputs = [x, *(p for p in one.parameters() if p.requires_grad)]
                y = one(x)
                results.append((y, *torch.autograd.grad(y, inputs, g)))
            for a, b in zip(*results):
                self.assertClose(a, b, 3 * g.norm() * x.detach().norm(), 11)

    def test_x_is_only_read(self):
        for make in (lambda linear: linear, Quantised):
            layer = self.randomise(HOFTLinear(make(torch.nn.Linear(10, 7)), 4))
            room = torch.randn(4, 6, 25)
            before = room.clone()
            for x in (room[:, :, 2:12], room[:, 1, :10], room[..., ::2][..., :10], room[0, :, :10].unsqueeze(1)):
                y = layer(x)
                y.sum().backward()
                self.assertTrue(torch.equal(room, before))
                self.assertClose(y, layer(x.contiguous()), 20 * x.norm(), 11)

    def bindings(self, layer, x):
        """How often a call makes the layer anew; and it gives what a copy that knows nothing yet gives."""
        make = hoft_torch.module.BoundLayer
        with unittest.mock.patch.object(hoft_torch.module, "BoundLayer", side_effect=make) as count:
            y = layer(x)
        fresh = copy.deepcopy(layer)
        self.assertIsNone(fresh._bound.entry)
        self.assertTrue(torch.equal(y, fresh(x)))
        return count.call_count

    def test_bound_once_in_a_step(self):
        """u, v, s and the weight are looked at once; whatever changes them is noticed."""
        x = torch.randn(5, 10)
        for make in (lambda linear: linear, Quantised):
            layer = self.randomise(HOFTLinear(make(torch.nn.Linear(10, 7)), 4, scaled=True))
            again = lambda: self.bindings(layer, x)
            self.assertEqual([again(), again()], [1, 0])
            self.assertEqual(self.bindings(layer, torch.randn(2, 3, 10)), 0)
            with torch.no_grad():
                self.assertEqual(again(), 0)
            with torch.inference_mode():
                self.assertEqual(again(), 0)
            layer(x).sum().backward()
            self.assertEqual(again(), 0)
            for optimiser in (torch.optim.SGD, torch.optim.AdamW, lambda p, lr: torch.optim.Adam(p, lr, foreach=True)):
                before = layer(x).detach()
                optimiser([layer.u, layer.v, layer.s], lr=0.1).step()
                self.assertEqual([again(), again()], [1, 0])
                self.assertFalse(torch.equal(layer(x), before))
            for parameter in (layer.u, layer.v, layer.s):
                parameter.data[-1] += 1  # behind autograd's back
                self.assertEqual([again(), again()], [1, 0])
                with torch.inference_mode():
                    parameter.mul_(1.25)
                    self.assertEqual([again(), again()], [1, 0])
                parameter.data = parameter.data.clone() * 1.25  # as fully sharded layers do
                self.assertEqual([again(), again()], [1, 0])
            other = self.randomise(copy.deepcopy(layer))
            layer.load_state_dict(other.state_dict())
            self.assertEqual([again(), again()], [1, 0])
            self.assertTrue(torch.equal(layer(x), other(x)))
            with torch.no_grad():
                (layer.base.scale if make is Quantised else layer.base.weight).mul_(1.5)
            self.assertEqual([again(), again()], [1, 0])
            layer.float()
            self.assertEqual([again(), again()], [1, 0])
            layer.rebind()
            self.assertEqual(again(), 1)

    def test_bound_after_a_change_of_type(self):
        """The weight may come back to the same address with other elements."""
        layer, x = self.layer(), torch.randn(5, 10)
        layer(x)
        self.assertEqual(self.bindings(layer.to(torch.bfloat16).to(torch.float32), x), 1)
        layer.base.weight = torch.nn.Parameter(torch.randn(7, 10), requires_grad=False)
        self.assertEqual(self.bindings(layer, x), 1)
        self.assertEqual(self.bindings(layer.double(), x.double()), 1)

    def test_bound_in_inference_mode_it_can_be_trained(self):
        layer, x = self.layer(scaled=False), torch.randn(5, 10)
        with torch.inference_mode():
            before = layer(x)
        y = layer(x)
        self.assertTrue(torch.equal(y, before))
        y.sum().backward()
        self.assertGreater(float(layer.u.grad.norm()), 0)

    def test_backward_after_a_step(self):
        """What a forward pass was made of stays as it was: its gradients are those of then."""
        layer, x = self.layer(), torch.randn(5, 10, requires_grad=True)
        expected = torch.autograd.grad(layer(x).square().sum(), (x, layer.u, layer.v, layer.s))
        y = layer(x)
        with torch.no_grad():
            layer.u.add_(1)
        layer(x)
        for a, b in zip(torch.autograd.grad(y.square().sum(), (x, layer.u, layer.v, layer.s)), expected):
            self.assertTrue(torch.equal(a, b))

    def test_micro_batches(self):
        """Their gradients add up in .grad to those of the batch."""
        for make in (lambda linear: linear, Quantised):
            layer = self.randomise(HOFTLinear(make(torch.nn.Linear(10, 7)), 4, scaled=True))
            x, g = torch.randn(64, 10), torch.randn(64, 7)
            parameters = [layer.u, layer.v, layer.s]
            expected = torch.autograd.grad(layer(x), parameters, g)
            for part, cotangent in zip(x.split(16), g.split(16)):
                layer(part).backward(cotangent)
            for parameter, b in zip(parameters, expected):
                self.assertClose(parameter.grad, b, 3 * g.norm() * x.norm(), 11 + 4)

    def test_a_weight_that_is_trained_is_refused(self):
        x = torch.randn(5, 10)
        for hooked in (False, True):
            layer = self.layer()
            if hooked:
                layer.base.register_forward_hook(lambda module, inputs, output: None)
            layer.base.weight.requires_grad_()
            with self.assertRaisesRegex(ValueError, "the weight requires a gradient"):
                layer(x)
            with torch.no_grad():
                layer(x)

    def test_merge_and_unmerge(self):
        for scaled in (False, True):
            layer, x = self.layer(scaled), torch.randn(5, 10)
            before, weight = layer(x).detach(), layer.base.weight.clone()
            layer.merge()
            self.assertClose(layer(x).detach(), before, before.norm(), 12)
            self.assertGreater(float((layer.base.weight - weight).norm()), 0.1)
            with self.assertRaisesRegex(RuntimeError, "already merged"):
                layer.merge()
            layer.unmerge()
            self.assertClose(layer.base.weight.detach(), weight, 3 * weight.norm(), 12)
            with self.assertRaisesRegex(RuntimeError, "not merged"):
                layer.unmerge()

    def test_only_a_plain_matrix_is_merged(self):
        """Where more than weight and bias makes the product, another weight would be forgotten or only half of it."""

        class LowRank(torch.nn.Linear):
            def __init__(self):
                super().__init__(10, 7)
                self.low_rank = torch.nn.Parameter(torch.randn(7, 10))

            def forward(self, x):
                return super().forward(x) + x @ self.low_rank.t()

        class Doubled(torch.nn.Module):
            """Its weight is made anew each time."""

            def __init__(self):
                super().__init__()
                self.in_features, self.out_features, self.bias = 10, 7, None
                self.one_half = torch.nn.Parameter(torch.randn(7, 10))

            @property
            def weight(self):
                return 2 * self.one_half

            def forward(self, x):
                return x @ self.weight.t()

        pruned = torch.nn.utils.prune.l1_unstructured(torch.nn.Linear(10, 7), "weight", amount=0.3)
        for base in (LowRank(), Doubled(), pruned, Quantised(torch.nn.Linear(10, 7))):
            layer, x = self.randomise(HOFTLinear(base, 4)), torch.randn(5, 10)
            before = layer(x)
            with self.assertRaisesRegex(TypeError, f"HOFTLinear.merge: the weight of a {type(base).__name__} is no plain"):
                layer.merge()
            self.assertFalse(layer.merged)
            self.assertTrue(torch.equal(layer(x), before))

    def test_state_dict(self):
        x = torch.randn(5, 10)
        for merged in (False, True):
            layer, other = self.layer(), self.layer()
            if merged:
                layer.merge()
            stream = io.BytesIO()
            torch.save(layer.state_dict(), stream)
            stream.seek(0)
            other.load_state_dict(torch.load(stream))
            self.assertEqual(other.merged, merged)
            self.assertTrue(torch.equal(layer(x), other(x)))
        self.assertEqual(set(layer.state_dict()), {"u", "v", "s", "base.weight", "base.bias", "_extra_state"})
        with self.assertRaisesRegex(RuntimeError, "size mismatch for u"):
            self.layer(rank=2).load_state_dict(layer.state_dict())

    def test_copies(self):
        layer, x = self.layer(), torch.randn(5, 10)
        before = layer(x).detach()
        for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            self.assertTrue(torch.equal(twin(x), before))
            twin(x).sum().backward()
            with torch.no_grad():
                twin.u.add_(1)
            self.assertIsNone(layer.u.grad)
            self.assertTrue(torch.equal(layer(x), before))

    def test_without_gradients(self):
        """The same bits for HOFT. SHOFT saves one more product for gradients, and rounds elsewhere then."""
        for scaled in (False, True):
            layer, x = self.layer(scaled), torch.randn(5, 10)
            with torch.no_grad():
                y = layer(x)
            self.assertFalse(y.requires_grad)
            self.assertClose(y, layer(x), 20 * x.norm(), 11)
            if not scaled:
                self.assertTrue(torch.equal(y, layer(x)))

    def test_sixteen_bits(self):
        for dtype in (torch.bfloat16, torch.float16):
            layer = self.randomise(HOFTLinear(torch.nn.Linear(40, 24).to(dtype), 4, scaled=True))
            self.assertEqual({p.dtype for p in (layer.u, layer.v, layer.s)}, {torch.float32})
            x = torch.randn(9, 40).to(dtype).requires_grad_()
            if dtype == torch.float16 and not half_products():
                self.assertEqual(householder_apply(x, layer.v).dtype, dtype)
                continue
            y, expected = layer(x), self.formula(layer, x)
            self.assertEqual(y.dtype, dtype)
            # z, M z + b, s ∘ p, Q_U p, the correction of the bias and the sum are rounded to 16 bits once each; errors
            # before Q_U grow by ‖diag(s) M‖ and max s at most.
            weight = layer.base.weight.detach().double()
            size = (
                1.5 * torch.linalg.matrix_norm(weight, 2) * x.detach().double().norm()
                + 4 * layer.base.bias.detach().double().norm() * 3
            )
            error = (y.double() - expected).detach().norm()
            self.assertTrue(float(error) <= 6 * float(torch.finfo(dtype).eps) / 2 * float(size), f"{error} {size}")
            y.float().sum().backward()
            self.assertEqual({p.grad.dtype for p in (layer.u, layer.v, layer.s)}, {torch.float32})
            self.assertEqual(x.grad.dtype, dtype)
            x.grad = None

    def test_scales_are_not_rounded_to_sixteen_bits(self):
        """1.003 is 1 in bfloat16, but 1.003 · 1.9921875 = 1.998 is 2."""
        base = torch.nn.Linear(2, 2, bias=False).bfloat16()
        layer = HOFTLinear(base, 0, scaled=True)
        with torch.no_grad():
            base.weight.copy_(torch.eye(2)), layer.s.fill_(1.003)
            y = layer(torch.full((3, 2), 1.9921875, dtype=torch.bfloat16))
        self.assertTrue(torch.equal(y, torch.full_like(y, 2)))

    def test_autocast(self):
        layer, x = self.layer(), torch.randn(5, 10)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = layer(x)
        self.assertEqual(y.dtype, torch.bfloat16)
        y.float().sum().backward()
        self.assertTrue(bool(torch.isfinite(layer.u.grad).all()))

    def test_functions_ignore_autocast(self):
        """x and the weight have one type, in which all products are made, forward and backward."""
        x, weight, u, v = (torch.randn(*size) for size in ((5, 10), (7, 10), (4, 7), (4, 10)))
        for context in (contextlib.nullcontext(), torch.autocast("cpu", dtype=torch.bfloat16)):
            leaves = [a.clone().requires_grad_() for a in (x, u, v)]
            with context:
                y = hoft_torch.hoft_linear(leaves[0], weight, *leaves[1:])
                y.square().sum().backward()
            found = [y.detach(), *(a.grad for a in leaves)]
            if isinstance(context, contextlib.nullcontext):
                expected = found
        for a, b in zip(found, expected):
            self.assertTrue(torch.equal(a, b))

    def test_checkpoint(self):
        """Forward twice, what is kept dropped between: the same bits, and nothing is bound again."""
        for make, reentrant in itertools.product((lambda linear: linear, Quantised), (False, True)):
            # The first pass of a reentrant one has no gradients, and other bits for SHOFT.
            layer = self.randomise(HOFTLinear(make(torch.nn.Linear(10, 7)), 4, scaled=not reentrant))
            x = torch.randn(5, 10, requires_grad=True)
            layer(x).square().sum().backward()
            inputs = (x, *(p for p in layer.parameters() if p.requires_grad))
            expected = [a.grad.clone() for a in inputs]
            for a in inputs:
                a.grad = None
            with unittest.mock.patch.object(hoft_torch.module, "BoundLayer") as count:
                torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=reentrant).square().sum().backward()
            self.assertEqual(count.call_count, 0)
            for a, b in zip(inputs, expected):
                self.assertTrue(torch.equal(a.grad, b))

    def test_learns_a_rotation(self):
        """Targets from the base behind two reflections: only u and v are trained, and they find them."""
        layer, x = HOFTLinear(torch.nn.Linear(10, 7, bias=False), 4), torch.randn(100, 10)
        frozen = layer.base.weight.clone()
        with torch.no_grad():
            target = householder_apply(layer.base(householder_apply(x, torch.randn(2, 10))), torch.randn(2, 7))
        optimiser = torch.optim.Adam([p for p in layer.parameters() if p.requires_grad], lr=0.03)
        losses = []
        for _ in range(250):
            loss = (layer(x) - target).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        self.assertLess(losses[-1], 0.05 * losses[0])
        self.assertTrue(torch.equal(layer.base.weight, frozen))
        drift = torch.linalg.svdvals(merge(frozen, layer.u, layer.v)) - torch.linalg.svdvals(frozen)
        self.assertClose(drift.detach(), torch.zeros_like(drift), frozen.norm(), 12)

    @unittest.skipUnless(hasattr(torch, "compile"), "this PyTorch has no torch.compile")
    def test_compile(self):
        layer, x = self.layer(), torch.randn(5, 10, requires_grad=True)
        model = torch.nn.Sequential(layer, torch.nn.ReLU())
        compiled = torch.compile(model, backend="aot_eager")
        g = torch.randn(5, 7)
        first = torch.autograd.grad(model(x), (x, layer.u, layer.v, layer.s), g)
        second = torch.autograd.grad(compiled(x), (x, layer.u, layer.v, layer.s), g)
        self.assertClose(compiled(x), model(x), 10)
        for a, b in zip(first, second):
            self.assertClose(a, b, 10 * a.norm())

    @unittest.skipUnless(torch.cuda.is_available(), "no GPU")
    def test_on_a_gpu(self):
        layer, x = self.layer(), torch.randn(5, 10)
        expected = layer(x).detach()
        layer.cuda()
        y = layer(x.cuda())
        self.assertClose(y.cpu().detach(), expected, expected.norm(), 12)
        y.sum().backward()
        self.assertTrue(layer.u.grad.is_cuda)
        with self.assertRaisesRegex(ValueError, "v is on cuda:0, must be on cpu"):
            layer(x)

    def test_bad_arguments(self):
        base = torch.nn.Linear(10, 7)
        refused = [
            (ValueError, "the rank is 3, must be even", lambda: HOFTLinear(base, 3)),
            (ValueError, "the rank is -2", lambda: HOFTLinear(base, (4, -2))),
            (ValueError, r"the rank is \(2, 2, 2\), must be", lambda: HOFTLinear(base, (2, 2, 2))),
            (TypeError, "a ReLU, has no in_features", lambda: HOFTLinear(torch.nn.ReLU(), 4)),
            (ValueError, "the number of features of x is 9, must be 10", lambda: HOFTLinear(base, 4)(torch.randn(3, 9))),
            (
                TypeError,
                "u holds torch.float32, must hold torch.float64",
                lambda: HOFTLinear(base, 4)(torch.randn(3, 10).double()),
            ),
        ]
        for error, message, call in refused:
            with self.subTest(message), self.assertRaisesRegex(error, message):
                call()

    def test_representation(self):
        self.assertIn("rank=(4, 4), scaled=True, merged=False", repr(self.layer()))


class Start(Case):
    def test_pairs(self):
        u = paired_gaussian(5, 8, dtype=DOUBLE)
        self.assertTrue(torch.equal(u[0], u[1]) and torch.equal(u[2], u[3]) and not torch.equal(u[1], u[2]))
        self.assertTrue(torch.equal(u[4], torch.zeros(8, dtype=DOUBLE)))
        x = torch.randn(3, 8, dtype=DOUBLE)
        self.assertClose(householder_apply(x, u), x, x.norm(), 5)

    def test_is_a_leaf(self):
        for rank in (4, 5):
            u = paired_gaussian(rank, 8, requires_grad=True)
            self.assertTrue(u.is_leaf and u.requires_grad)
            self.assertFalse(paired_gaussian(rank, 8).requires_grad)
        self.assertEqual(tuple(paired_gaussian(0, 8).shape), (0, 8))
        for rank in (-1, -2):
            with self.assertRaisesRegex(ValueError, f"paired_gaussian: the rank is {rank}, must be at least 0"):
                paired_gaussian(rank, 8)

    def test_names(self):
        for name in hoft_torch.__all__:
            self.assertTrue(callable(getattr(hoft_torch, name)))


def half_products():
    """PyTorch 1.13 has no products in half precision on the CPU."""
    try:
        torch.nn.functional.linear(torch.ones(1, 2).half(), torch.ones(1, 2).half())
        return True
    except RuntimeError:
        return False


if __name__ == "__main__":
    unittest.main()
