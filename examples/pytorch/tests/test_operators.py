"""The operators inside PyTorch's machinery: derivatives of all orders and kinds, torch.func, compilers, exporters. The
judges are formulas in plain PyTorch (common.py), and PyTorch's own checks of operators."""

import contextlib
import copy
import importlib
import io
import itertools
import unittest

import torch

from common import DOUBLE, Case, adapted, compact_wy, leaf
from hoft_torch import HOFTLinear, hoft_linear, householder_apply, merge, shoft_linear
from hoft_torch import functional, plain
from hoft_torch._register import HAS_LIBRARY

needs_library = unittest.skipUnless(HAS_LIBRARY, "torch.library of this PyTorch takes no gradients")
func = torch.func if hasattr(torch, "func") else importlib.import_module("functorch")

M, N, RU, RV = 6, 9, 4, 2


def arguments(t=5, dtype=DOUBLE):
    """x, weight, u, v, s"""
    sizes = ((t, N), (M, N), (RU, M), (RV, N))
    return *(torch.randn(*size, dtype=dtype) for size in sizes), torch.empty(M, dtype=dtype).uniform_(0.5, 1.5)


def through_base(x, weight, u, v, s):
    """shoft_linear around a base that is called."""
    base = lambda x: torch.nn.functional.linear(x, weight)
    return functional.adapted(base(x), x, u, v, s, base(functional.directions(v).to(weight.dtype)).to(u.dtype))


def formulas():
    """Pairs: an operator of (x, weight, u, v, s), and the same in plain PyTorch."""
    return {
        "householder": (lambda x, W, u, v, s: householder_apply(x, v), lambda x, W, u, v, s: x @ compact_wy(v).t()),
        "hoft": (lambda x, W, u, v, s: hoft_linear(x, W, u, v), lambda x, W, u, v, s: x @ adapted(W, u, v).t()),
        "shoft": (shoft_linear, lambda x, W, u, v, s: x @ adapted(W, u, v, s).t()),
        "adapted": (through_base, lambda x, W, u, v, s: x @ adapted(W, u, v, s).t()),
        "merge": (lambda x, W, u, v, s: merge(W, u, v, s), lambda x, W, u, v, s: adapted(W, u, v, s)),
    }


def optional(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        raise unittest.SkipTest(f"{name} is not installed") from None


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


@needs_library
class Compilers(Case):
    def test_checks_of_operators(self):
        """PyTorch's own checks: schema, fakes against values, gradients, shapes that vary."""
        x, weight, u, v, s = arguments()
        none, product = u.new_empty(0), plain.directions(v) @ weight.t()
        tau = torch.randn(RV, dtype=DOUBLE)
        y, projected, w, q = torch.ops.hoft.adapted(x @ weight.t(), x, u, v, s, product, True)
        self.assertEqual(tuple(q.shape), tuple(y.shape))
        calls = [
            ("householder", (x, v, None, False, False)),
            ("householder", (x, v, None, True, True)),
            ("householder", (x, v, tau, False, False)),
            ("householder", (x.expand(2, 5, N), v.expand(2, RV, N), tau.expand(2, RV), False, False)),
            ("householder_backward", (x, x, v, tau, False, False)),
            ("householder_backward", (x, x, v, None, False, False)),
            ("adapted", (x @ weight.t(), x, u, v, s, product, True)),
            ("adapted", (x @ weight.t(), x, u, v, s, product, False)),
            ("adapted", (x @ weight.t(), x, u, v, none, product, True)),
            ("adapted_backward", (y, y, projected, w, q, x, u, v, s, product)),
            ("merged", (weight, u, v, s)),
            ("merged", (weight, u, v, none)),
            ("merged_backward", (weight, weight, u, v, s)),
            ("unmerged", (weight, u, v, s)),
        ]
        for name, given in calls:
            differentiable = name in ("householder", "adapted", "merged")
            for bits in (DOUBLE, torch.bfloat16):
                if bits != DOUBLE and not differentiable:
                    continue
                activations = {"householder": (0,), "adapted": (0, 1), "merged": (0,)}.get(name, ())
                args = [a.to(bits) if i in activations else a for i, a in enumerate(given)]
                if bits != DOUBLE:
                    args = [a.float() if torch.is_tensor(a) and a.dtype == DOUBLE else a for a in args]
                if differentiable:
                    args = [a.clone().requires_grad_() if torch.is_tensor(a) and a is not given[0] else a for a in args]
                    args[0] = args[0].detach()
                with self.subTest(name, given=[tuple(a.shape) if torch.is_tensor(a) else a for a in given], bits=bits):
                    torch.library.opcheck(getattr(torch.ops.hoft, name).default, tuple(args))

    def test_compile(self):
        for name, (ours, _) in formulas().items():
            for dtype in (torch.float32, torch.bfloat16):
                inputs = list(arguments(dtype=torch.float32))
                inputs[:2] = (a.to(dtype) for a in inputs[:2])
                leaves = [a.requires_grad_(i != 1) for i, a in enumerate(inputs)]
                compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
                wanted = [leaves[i] for i in {"householder": (0, 3), "hoft": (0, 2, 3), "merge": (2, 3, 4)}.get(name, (0, 2, 3, 4))]
                y, z = compiled(*leaves), ours(*leaves)
                g = torch.randn_like(z)
                with self.subTest(name, dtype=dtype):
                    size = inputs[0].detach().norm() * inputs[1].float().norm()
                    self.assertClose(y, z, size, 11)
                    for a, b in zip(torch.autograd.grad(y, wanted, g), torch.autograd.grad(z, wanted, g)):
                        self.assertClose(a, b, 4 * size * g.norm(), 11)
                        self.assertEqual(a.dtype, b.dtype)

    def test_compile_for_any_number_of_tokens(self):
        _, weight, u, v, s = arguments()
        compiled = torch.compile(shoft_linear, fullgraph=True, backend="aot_eager", dynamic=True)
        for t in (2, 7, 30):
            x = torch.randn(t, 3, N, dtype=DOUBLE, requires_grad=True)
            y = compiled(x, weight, u, v, s)
            expected = shoft_linear(x, weight, u, v, s)
            self.assertClose(y, expected, x.detach().norm() * weight.norm(), 11)
            (dx,), (expected,) = (torch.autograd.grad(a.square().sum(), x) for a in (y, expected))
            self.assertClose(dx, expected, 4 * x.detach().norm() * weight.norm() ** 2, 11)

    def test_compile_under_autocast(self):
        x, weight, u, v, s = arguments(dtype=torch.float32)
        compiled = torch.compile(shoft_linear, fullgraph=True, backend="aot_eager")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y, z = compiled(x, weight, u, v, s), shoft_linear(x, weight, u, v, s)
        self.assertEqual(y.dtype, torch.bfloat16)
        self.assertClose(y, z, x.norm() * weight.norm(), 4)

    def test_compiled_module(self):
        """A HOFTLinear and what stands around it, in one graph: around a plain base, one whose call is its own, and in
        autocast."""

        class Own(torch.nn.Linear):
            def forward(self, x):
                return super().forward(x)

        for kind, scaled, bias in itertools.product((torch.nn.Linear, Own), (False, True), (False, True)):
            model = torch.nn.Sequential(HOFTLinear(kind(N, M, bias=bias), 4, scaled=scaled), torch.nn.Tanh())
            with torch.no_grad():
                for p in model.parameters():
                    p.add_(torch.randn_like(p), alpha=0.2)
            parameters = [p for p in model.parameters() if p.requires_grad]
            torch._dynamo.reset()
            compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
            x = torch.randn(2, 3, N, requires_grad=True)
            for contexts in (contextlib.nullcontext, lambda: torch.autocast("cpu", dtype=torch.bfloat16)):
                with contexts():
                    y, z = compiled(x), model(x)
                g = torch.randn_like(z)
                with self.subTest(kind.__name__, scaled=scaled, bias=bias, dtype=y.dtype):
                    self.assertClose(y, z, 8 * x.detach().norm(), 11)
                    found, expected = (torch.autograd.grad(a, [x, *parameters], g) for a in (y, z))
                    eps = torch.finfo(y.dtype).eps / torch.finfo(torch.float32).eps
                    for a, b in zip(found, expected):  # the graph rounds where it is fused otherwise
                        self.assertClose(a, b, 20 * eps * x.detach().norm() * g.float().norm(), 11)

    def test_training_compiles_once(self):
        model = torch.nn.Sequential(HOFTLinear(torch.nn.Linear(N, M), 4, scaled=True), torch.nn.Tanh())
        twin = copy.deepcopy(model)
        x = torch.randn(3, N)
        torch._dynamo.reset()
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        for one, call in ((model, compiled), (twin, twin)):
            optimiser = torch.optim.AdamW([p for p in one.parameters() if p.requires_grad], lr=0.1)
            for step in range(4):
                with torch._dynamo.config.patch(error_on_recompile=step > 0):
                    loss = (call(x) - 1).square().mean()
                    optimiser.zero_grad()
                    loss.backward()
                    optimiser.step()
        for a, b in zip(model.parameters(), twin.parameters()):
            self.assertClose(a, b, 1 + b.detach().norm(), 40)

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

    def test_onnx(self):
        """By the formulas, whose operators ONNX has; run by onnxruntime."""
        onnxruntime, _ = (optional(name) for name in ("onnxruntime", "onnxscript"))
        layer = HOFTLinear(torch.nn.Linear(N, M), 4, scaled=True)
        with torch.no_grad():
            layer.u.normal_(), layer.v.normal_(), layer.d.normal_()
        x = torch.randn(3, N)
        stream = io.BytesIO()
        torch.onnx.export(layer, (x,), dynamo=True, verbose=False).save(stream)
        session = onnxruntime.InferenceSession(stream.getvalue(), providers=["CPUExecutionProvider"])
        (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        self.assertClose(torch.from_numpy(y), layer(x).detach(), 9 * x.norm(), 11)

    def test_export(self):
        class Layer(torch.nn.Module):
            def __init__(self, ours):
                super().__init__()
                self.ours, (_, self.weight, *rest) = ours, arguments()
                self.u, self.v, self.s = (torch.nn.Parameter(a) for a in rest)

            def forward(self, x):
                return self.ours(x, self.weight, self.u, self.v, self.s)

        x = torch.randn(2, 3, N, dtype=DOUBLE)
        for name, (ours, _) in formulas().items():
            with self.subTest(name):
                layer = Layer(ours)
                exported = torch.export.export(layer, (x,))
                stream = io.BytesIO()
                torch.export.save(exported, stream)
                stream.seek(0)
                self.assertClose(torch.export.load(stream).module()(x), layer(x), 9 * x.norm() * layer.weight.norm(), 11)

    def test_without_memory(self):
        from torch._subclasses.fake_tensor import FakeTensorMode

        for name, (ours, _) in formulas().items():
            real = arguments(dtype=torch.float32)
            expected = ours(*real)
            meta = [a.to("meta").requires_grad_(i != 1) for i, a in enumerate(real)]
            y = ours(*meta)
            with FakeTensorMode() as mode:
                fake = ours(*(mode.from_tensor(a) for a in real))
            for got in (y, fake):
                with self.subTest(name):
                    self.assertEqual((got.shape, got.dtype, got.stride()), (expected.shape, expected.dtype, expected.stride()))
            y.sum().backward()
            self.assertEqual(meta[3].grad.shape, real[3].shape)


if __name__ == "__main__":
    unittest.main()
