# SPDX-License-Identifier: BSD-3-Clause
"""Derivatives of all orders and kinds, and torch.func's transforms, judged by formulas in plain PyTorch."""

import importlib
import itertools
import unittest

import torch

from common import DOUBLE, Case, adapted, leaf
from formulas import M, N, RU, RV, arguments, formulas, through_base
from hoft_torch import HOFTLinear, householder_apply, plain, shoft_linear

func = torch.func if hasattr(torch, "func") else importlib.import_module("functorch")


class Plain(Case):
    """The fallback itself."""

    def test_values(self):
        x, weight, u, v, s = arguments()
        expected = {name: formula(x, weight, u, v, s) for name, (_, formula) in formulas().items()}
        scale = weight.norm() * x.norm()
        unit = plain.directions(v)
        for got, name in (
            (plain.householder(x, v), "householder"),
            (plain.linear(x, weight, u, v, None), "hoft"),
            (plain.linear(x, weight, u, v, s), "shoft"),
            (plain.adapted(x @ weight.t(), x, u, v, s, unit @ weight.t()), "adapted"),
            (plain.merged(weight, u, v, s), "merge"),
        ):
            self.assertClose(got, expected[name], 2 * scale, RU + RV)
        self.assertClose(plain.unmerged(expected["merge"], u, v, s), weight, 3 * weight.norm(), RU + RV)
        back = plain.base_output(expected["adapted"], x, u, v, s, unit @ weight.t())
        self.assertClose(back, x @ weight.t(), 3 * scale, RU + RV)
        self.assertClose(plain.householder(plain.householder(x, v), v, adjoint=True), x, x.norm(), 2 * RV)

    def test_ranks(self):
        for r in (0, 1, 2, 3, 5, 8, 13):
            u, x = torch.randn(r, 8, dtype=DOUBLE), torch.randn(3, 8, dtype=DOUBLE)
            self.assertClose(plain.householder(x, u), householder_apply(x, u), x.norm(), max(1, r))
            tau = torch.randn(min(r, 8), dtype=DOUBLE)
            got = plain.householder(x, u[:8], tau)
            scale = x.norm() * torch.prod(1 + tau.abs() * torch.triu(u[:8]).square().sum(1))
            self.assertClose(got, householder_apply(x, u[:8], tau), scale, max(1, r))

    def test_batches_and_complex_reflectors(self):
        x, u = torch.randn(2, 3, 5, dtype=torch.complex128), torch.randn(2, 4, 5, dtype=torch.complex128)
        y = x
        for i in reversed(range(4)):  # one reflector at a time
            unit = u[:, i] / u[:, i].norm(dim=-1, keepdim=True)
            y = y - 2 * (y * unit.conj().unsqueeze(-2)).sum(-1, keepdim=True) * unit.unsqueeze(-2)
        self.assertTrue(float((plain.householder(x, u) - y).norm()) < 1e-13 * float(x.norm()))

    def test_complex_adjoint(self):
        """What Q does, its adjoint undoes; both are the operators' to rounding."""
        x, u = torch.randn(3, 5, dtype=torch.complex128), torch.randn(4, 5, dtype=torch.complex128)
        there = plain.householder(x, u)
        self.assertClose(plain.householder(there, u, adjoint=True), x, x.norm(), 8)
        for adjoint in (False, True):
            expected = householder_apply(x, u, adjoint=adjoint)
            self.assertClose(plain.householder(x, u, adjoint=adjoint), expected, x.norm(), 8)

    def test_zeros_and_scales(self):
        u = leaf(3, 6)
        with torch.no_grad():
            u[0] = 0
        x = torch.randn(2, 6, dtype=DOUBLE)
        (du,) = torch.autograd.grad(plain.householder(x, u).sum(), u)
        self.assertTrue(torch.equal(du[0], torch.zeros_like(du[0])))
        self.assertClose(plain.householder(x, u), householder_apply(x, u), x.norm(), 3)
        for factor in (1e-38, 1e38):
            small = torch.randn(2, 6)
            ours = plain.directions(small / small.abs().amax() * factor)
            self.assertClose(ours, small / small.norm(dim=1, keepdim=True), 1, 2)


class Derivatives(Case):
    def test_hessian(self):
        """The sum of squares of Q x has the Hessian 2 I."""
        x, u = torch.randn(2, 4, dtype=DOUBLE), torch.ones(2, 4, dtype=DOUBLE)
        for options in ({}, {"from_output": True}):
            function = lambda x: householder_apply(x, u, **options).square().sum()
            found = torch.autograd.functional.hessian(function, x).reshape(8, 8)
            self.assertClose(found, 2 * torch.eye(8, dtype=DOUBLE), 8, 8)
            vector = torch.randn_like(x)
            self.assertClose(torch.autograd.functional.hvp(function, x, vector)[1], 2 * vector, vector.norm(), 8)

    def test_first_to_third(self):
        """Gradients, then gradients of them, then of those, in directions of u, v, s and x at once."""
        inputs = arguments(3)
        weight = inputs[1]
        for name, (ours, formula) in formulas().items():
            found = []
            for function in (ours, formula):
                x, _, u, v, s = (a.clone().requires_grad_() for a in inputs)
                torch.manual_seed(5)
                value, orders = function(x, weight, u, v, s).sin().sum(), []
                for _ in range(3):
                    wanted = [a for a in (x, u, v, s)]
                    gradients = torch.autograd.grad(value, wanted, create_graph=True, allow_unused=True)
                    gradients = [torch.zeros_like(a) if g is None else g for a, g in zip(wanted, gradients)]
                    orders.append(torch.cat([g.flatten() for g in gradients]))
                    value = (orders[-1] * torch.randn_like(orders[-1])).sum()
                found.append(orders)
            for order, (a, b) in enumerate(zip(*found)):
                with self.subTest(name, order=order):
                    self.assertClose(a, b, 1 + b.detach().norm() * (1 + weight.norm()), 40)

    def test_module_to_third(self):
        """The same through HOFTLinear, which multiplies with a plain weight itself and calls any other base."""

        class Own(torch.nn.Linear):
            def forward(self, x):
                return super().forward(x)

        for kind, scaled in itertools.product((torch.nn.Linear, Own), (False, True)):
            layer = HOFTLinear(kind(N, M).double(), 4, scaled=scaled)
            parameters = [p for p in layer.parameters() if p.requires_grad]
            with torch.no_grad():
                for p in parameters:
                    p.add_(torch.randn_like(p), alpha=0.5)
            x, weight, bias = torch.randn(3, N, dtype=DOUBLE, requires_grad=True), layer.base.weight, layer.base.bias
            found = []
            for ours in (True, False):
                torch.manual_seed(5)
                y = layer(x) if ours else x @ adapted(weight, layer.u, layer.v, layer.s).t() + bias
                value, orders = y.sin().sum(), []
                for _ in range(3):
                    gradients = torch.autograd.grad(value, [x, *parameters], create_graph=True)
                    orders.append(torch.cat([g.flatten() for g in gradients]))
                    value = (orders[-1] * torch.randn_like(orders[-1])).sum()
                found.append(orders)
            for order, (a, b) in enumerate(zip(*found)):
                with self.subTest(kind.__name__, scaled=scaled, order=order):
                    self.assertClose(a, b, 1 + b.detach().norm() * (1 + weight.norm()), 40)

    def test_inputs_made_of_each_other(self):
        """No path counts twice where v is computed from x."""
        x, weight, u, v, s = arguments(2)
        for name, (ours, formula) in formulas().items():
            found = []
            for function in (ours, formula):
                start = x.clone().requires_grad_()
                y = function(start, weight, u, start[:RV] + v, s)
                (first,) = torch.autograd.grad(y.square().sum(), start, create_graph=True)
                found.append(torch.autograd.grad(first.square().sum(), start, allow_unused=True)[0])
            with self.subTest(name):
                self.assertClose(found[0], found[1], 1 + found[1].norm() * weight.norm(), 40)

    def test_scales_of_zero_around_a_base(self):
        x, weight, u, v, s = arguments(2)
        s[1] = 0
        u.requires_grad_()
        for function in (shoft_linear, through_base):
            y = function(x, weight, u, v, s)
            self.assertClose(y, x @ adapted(weight, u, v, s).t(), x.norm() * weight.norm(), RU + RV)
            torch.autograd.grad(y.sum(), u, retain_graph=True)
            if function is shoft_linear:
                torch.autograd.grad(y.sum(), u, create_graph=True)
            else:
                with self.assertRaisesRegex(RuntimeError, "an element of s is 0"):
                    torch.autograd.grad(y.sum(), u, create_graph=True)

    def test_forward_mode(self):
        inputs = arguments(3)
        tangents = [torch.randn_like(a) for a in inputs]
        forward = torch.autograd.forward_ad
        for name, (ours, formula) in formulas().items():
            found = []
            for function in (ours, formula):
                with forward.dual_level():
                    duals = [a if i == 1 else forward.make_dual(a, t) for i, (a, t) in enumerate(zip(inputs, tangents))]
                    found.append(forward.unpack_dual(function(*duals)))
            with self.subTest(name):
                for a, b in zip(*found):
                    self.assertClose(a, b, 1 + b.norm() * inputs[1].norm(), 40)

    def test_gradients_in_batches(self):
        """autograd.functional's vectorised Jacobian is a backward pass under vmap."""
        x, weight, u, v, s = arguments(2)
        for name, (ours, formula) in formulas().items():
            with self.subTest(name):
                jacobian = lambda f, many: torch.autograd.functional.jacobian(
                    lambda v: f(x, weight, u, v, s), v, vectorize=many
                )
                self.assertClose(jacobian(ours, True), jacobian(formula, False), 1 + weight.norm() * x.norm(), 40)


class Func(Case):
    def test_vmap(self):
        """Over each argument alone, over all, and over two at once in other dimensions."""
        x, weight, u, v, s = arguments()
        many = [torch.stack([torch.randn_like(a) for _ in range(3)]) for a in (x, weight, u, v, s)]
        cases = [tuple(0 if i == j else None for j in range(5)) for i in range(5)] + [(0,) * 5, (1, None, None, 1, None)]
        for name, (ours, formula) in formulas().items():
            for dims in cases:
                one = (x, weight, u, v, s)
                given = [a if d is None else b.movedim(0, d) for d, a, b in zip(dims, one, many)]
                expected = [formula(*(a if d is None else b[k] for d, a, b in zip(dims, one, many))) for k in range(3)]
                with self.subTest(name, dims=dims):
                    found = func.vmap(ours, in_dims=dims)(*given)
                    scale = 1 + max(a.norm() for a in expected) + many[0].norm() * many[1].norm()
                    self.assertClose(found, torch.stack(expected), 4 * scale, 40)

    def test_gradients_behind_vmap(self):
        x, weight, u, v, s = arguments()
        many = torch.randn(3, *x.shape, dtype=DOUBLE)
        for name, (ours, formula) in formulas().items():
            found = []
            for function in (ours, formula):
                leaves = [a.clone().requires_grad_() for a in (many, u, v, s)]
                y = func.vmap(lambda x, u, v, s: function(x, weight, u, v, s), (0, None, None, None))(*leaves)
                found.append(torch.autograd.grad(y.square().sum(), leaves, allow_unused=True))
            for a, b in zip(*found):
                with self.subTest(name):
                    self.assertEqual(a is None, b is None)
                    if a is not None:
                        self.assertClose(a, b, (many.norm() * weight.norm()) ** 2, RU + RV)

    def test_transforms(self):
        x, weight, u, v, s = arguments(3)
        many = torch.randn(2, *x.shape, dtype=DOUBLE)
        for name, (ours, formula) in formulas().items():
            found = []
            for function in (ours, formula):
                loss = lambda v, x: function(x, weight, u, v, s).square().sum()
                found.append(
                    (
                        func.grad(loss)(v, x),
                        func.vmap(func.grad(loss), (None, 0))(v, many),  # the gradient of each sample
                        func.hessian(loss)(v, x),
                        func.jvp(lambda v: loss(v, x), (v,), (torch.ones_like(v),))[1],
                        func.jacrev(lambda x: function(x, weight, u, v, s))(x),
                        func.jacfwd(lambda x: function(x, weight, u, v, s))(x),
                    )
                )
            for i, (a, b) in enumerate(zip(*found)):
                with self.subTest(name, transform=i):
                    self.assertClose(a, b, 1 + b.norm() * (1 + weight.norm()), 40)

    @unittest.skipUnless(hasattr(func, "functional_call"), "functorch has no functional_call")
    def test_module_behind_transforms(self):
        layer = HOFTLinear(torch.nn.Linear(N, M).double(), 4, scaled=True)
        parameters = {name: p.detach() + 0.1 * torch.randn_like(p) for name, p in layer.named_parameters()}
        trained = {name: parameters[name] for name in "uvd"}
        x = torch.randn(5, N, dtype=DOUBLE)

        def loss(trained, x):
            return func.functional_call(layer, {**parameters, **trained}, (x,)).square().sum()

        def formula(trained, x):
            weight = adapted(parameters["base.weight"], trained["u"], trained["v"], 1 + trained["d"])
            return torch.nn.functional.linear(x, weight, parameters["base.bias"]).square().sum()

        each = func.vmap(func.grad(loss), (None, 0))(trained, x)
        expected = func.vmap(func.grad(formula), (None, 0))(trained, x)
        for name in trained:
            self.assertClose(each[name], expected[name], 9 * x.norm() ** 2, 40)


if __name__ == "__main__":
    unittest.main()
