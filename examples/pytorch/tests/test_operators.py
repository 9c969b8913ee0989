# SPDX-License-Identifier: BSD-3-Clause
"""The operators inside PyTorch's compilers and exporters. The judges are the operators outside of them, formulas in plain
PyTorch, and PyTorch's own checks of operators."""

import contextlib
import copy
import importlib
import io
import itertools
import unittest

import torch

from common import DOUBLE, Case
from formulas import M, N, RV, arguments, formulas
from tiny import MISSING, ModelCase, adapt, make, needs_peft
from hoft_torch import HOFTLinear, plain, shoft_linear
from hoft_torch._register import HAS_LIBRARY

if MISSING is None:
    from hoft_torch.peft import HoftConfig

needs_library = unittest.skipUnless(HAS_LIBRARY, "torch.library of this PyTorch takes no gradients")


def optional(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        raise unittest.SkipTest(f"{name} is not installed") from None


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


@needs_peft
class Models(ModelCase):
    def test_whole_models_are_one_graph(self):
        for name, method in itertools.product(("BERT", "LLaMA", "GPT-2"), (dict(r=4), dict(r=(2, 4), scaled=True))):
            base, inputs = make(name)
            model = adapt(base, HoftConfig(target_modules="all-linear", **method))
            trained = [p for p in model.parameters() if p.requires_grad]
            torch._dynamo.reset()
            compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
            y, z = (one(**inputs).logits for one in (compiled, model))
            with self.subTest(name, **method):
                self.assertModelsClose(y, z, model)
                found, expected = (torch.autograd.grad(a.square().mean(), trained) for a in (y, z))
                scale = torch.cat([a.flatten() for a in expected]).norm()
                for a, b in zip(found, expected):
                    self.assertModelsClose(a, b, model, scale)


if __name__ == "__main__":
    unittest.main()
