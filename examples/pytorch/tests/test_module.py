# SPDX-License-Identifier: BSD-3-Clause
"""HOFTLinear around bases of all kinds, with PyTorch as the judge of values and gradients."""

import contextlib
import copy
import io
import itertools
import pathlib
import pickle
import re
import unittest

import torch
import torch.nn.utils.prune

from common import DOUBLE, Case, Quantised, adapted, half_products, randomise
from hoft_torch import HOFTLinear, householder_apply, merge
from hoft_torch._register import HAS_LIBRARY


class Readme(Case):
    def test_its_program_learns(self):
        text = (pathlib.Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
        (program,) = (block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "unwrap" in block)
        names, printed = {}, io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(program, names)
        said = re.findall(r"step (\d+), loss (\S+)", text)
        losses = re.findall(r"step (\d+), loss (\S+)", printed.getvalue())
        self.assertEqual([step for step, _ in losses], [step for step, _ in said])
        self.assertEqual(losses[0], said[0])  # before the first step: the network, its inputs and its goal
        self.assertLess(float(losses[-1][1]), 0.1 * float(losses[0][1]))
        self.assertIs(type(names["model"][0]), torch.nn.Linear)


class Module(Case):
    def layer(self, scaled=True, bias=True, rank=4, dtype=torch.float32):
        base = torch.nn.Linear(10, 7, bias=bias).to(dtype)
        return randomise(HOFTLinear(base, rank, scaled))

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
                    layer = randomise(HOFTLinear(make(torch.nn.Linear(10, 7, bias=bias)), 4, scaled))
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
            layer = randomise(HOFTLinear(make(torch.nn.Linear(10, 7)), 4))
            room = torch.randn(4, 6, 25)
            before = room.clone()
            for x in (room[:, :, 2:12], room[:, 1, :10], room[..., ::2][..., :10], room[0, :, :10].unsqueeze(1)):
                y = layer(x)
                y.sum().backward()
                self.assertTrue(torch.equal(room, before))
                self.assertClose(y, layer(x.contiguous()), 20 * x.norm(), 11)

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
            layer, x = randomise(HOFTLinear(base, 4)), torch.randn(5, 10)
            before = layer(x)
            with self.assertRaisesRegex(TypeError, f"merge: the weight of a {type(base).__name__} is no plain"):
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
        self.assertEqual(set(layer.state_dict()), {"u", "v", "d", "base.weight", "base.bias", "_extra_state"})
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
            layer = randomise(HOFTLinear(torch.nn.Linear(40, 24).to(dtype), 4, scaled=True))
            self.assertEqual({p.dtype for p in (layer.u, layer.v, layer.d)}, {torch.float32})
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
            self.assertEqual({p.grad.dtype for p in (layer.u, layer.v, layer.d)}, {torch.float32})
            self.assertEqual(x.grad.dtype, dtype)
            x.grad = None

    def test_scales_are_not_rounded_to_sixteen_bits(self):
        """1.003 is 1 in bfloat16, but 1.003 · 1.9921875 = 1.998 is 2."""
        base = torch.nn.Linear(2, 2, bias=False).bfloat16()
        layer = HOFTLinear(base, 0, scaled=True)
        with torch.no_grad():
            base.weight.copy_(torch.eye(2)), layer.d.fill_(0.003)
            y = layer(torch.full((3, 2), 1.9921875, dtype=torch.bfloat16))
        self.assertTrue(torch.equal(y, torch.full_like(y, 2)))

    def test_autocast(self):
        """Types of x and the weight differ. The backward pass is taken under autocast and, as trainers do, outside."""
        for of_x, of_weight in itertools.product((torch.float32, torch.bfloat16), repeat=2):
            layer, x = self.layer(), torch.randn(5, 10).to(of_x).requires_grad_()
            layer.base.to(of_weight)
            found = []
            for inside in (True, False):
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    y = layer(x)
                    self.assertEqual(y.dtype, torch.bfloat16)
                    if inside:
                        y.float().sum().backward()
                if not inside:
                    y.float().sum().backward()
                found.append([a.grad for a in (layer.u, layer.v, x)])
                layer.u.grad = layer.v.grad = x.grad = None
            for under, outside in zip(*found):
                self.assertTrue(torch.equal(under, outside) and bool(torch.isfinite(under).all()), (of_x, of_weight))

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

    def test_the_start_suits_the_rates_of_lora(self):
        """What 300 steps of AdamW at 3e-3 learn from std = 0.1 takes rates ten times as large from std = 1."""
        base, x = torch.nn.Linear(64, 64, bias=False), torch.randn(256, 64)
        with torch.no_grad():
            target = householder_apply(base(householder_apply(x, torch.randn(4, 64))), torch.randn(4, 64))
        left = {}
        for std in (0.1, 1.0):
            layer = HOFTLinear(base, 8) if std == 0.1 else HOFTLinear(base, 8, std=std)
            optimiser, losses = torch.optim.AdamW([layer.u, layer.v], lr=3e-3), []
            for _ in range(300):
                loss = (layer(x) - target).square().mean()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                losses.append(loss.item())
            left[std] = losses[-1] / losses[0]
        self.assertLess(left[0.1], 0.02)
        self.assertGreater(left[1.0], 0.1)

    @unittest.skipUnless(hasattr(torch, "compile"), "this PyTorch has no torch.compile")
    def test_compile(self):
        layer, x = self.layer(), torch.randn(5, 10, requires_grad=True)
        model = torch.nn.Sequential(layer, torch.nn.ReLU())
        compiled = torch.compile(model, backend="aot_eager")
        g = torch.randn(5, 7)
        first = torch.autograd.grad(model(x), (x, layer.u, layer.v, layer.d), g)
        second = torch.autograd.grad(compiled(x), (x, layer.u, layer.v, layer.d), g)
        self.assertClose(compiled(x), model(x), 10)
        for a, b in zip(first, second):
            self.assertClose(a, b, 10 * a.norm())

    @unittest.skipUnless(HAS_LIBRARY, "this PyTorch has no custom operators")
    def test_functions_of_torch_func(self):
        """Around a base that is called as a module as well."""
        for make in (lambda linear: linear, Quantised):
            layer = randomise(HOFTLinear(make(torch.nn.Linear(10, 7).double()), 4, scaled=True))
            layer.double()
            x, t = torch.randn(3, 5, 10, dtype=DOUBLE), torch.randn(3, 5, 10, dtype=DOUBLE)
            plain = lambda x: self.formula(layer, x)
            scale = 3 * x.norm() * max(1, t.norm())
            self.assertClose(torch.func.vmap(layer)(x), plain(x), scale, 11)
            self.assertClose(torch.func.jvp(layer, (x,), (t,))[1], torch.func.jvp(plain, (x,), (t,))[1], scale, 11)

    def test_second_derivatives(self):
        for make in (lambda linear: linear, Quantised):
            layer = randomise(HOFTLinear(make(torch.nn.Linear(10, 7).double()), 4, scaled=True)).double()
            x = torch.randn(2, 10, dtype=DOUBLE)
            loss = lambda call: lambda x: call(x).pow(3).sum()
            got = torch.autograd.functional.hessian(loss(layer), x)
            expected = torch.autograd.functional.hessian(loss(lambda x: self.formula(layer, x)), x)
            self.assertClose(got, expected, 3 * expected.norm(), 22)
            self.assertGreater(float(expected.norm()), 1)

    @unittest.skipUnless(torch.cuda.is_available(), "no GPU")
    def test_on_a_gpu(self):
        layer, x = self.layer(), torch.randn(5, 10)
        expected = layer(x).detach()
        layer.cuda()
        y = layer(x.cuda())
        self.assertClose(y.cpu().detach(), expected, expected.norm(), 12)
        y.sum().backward()
        self.assertTrue(layer.u.grad.is_cuda)
        with self.assertRaisesRegex(ValueError, "x is on cpu, must be on cuda:0 as u"):
            layer(x)

    def test_bad_arguments(self):
        base = torch.nn.Linear(10, 7)
        refused = [
            (ValueError, "the rank is 3, must be even", lambda: HOFTLinear(base, 3)),
            (ValueError, "the rank is -2", lambda: HOFTLinear(base, (4, -2))),
            (ValueError, r"the rank is \(2, 2, 2\), must be", lambda: HOFTLinear(base, (2, 2, 2))),
            (TypeError, "is a ReLU, which has no in_features", lambda: HOFTLinear(torch.nn.ReLU(), 4)),
            (ValueError, "the number of features of x is 9, must be 10", lambda: HOFTLinear(base, 4)(torch.randn(3, 9))),
            (
                TypeError,
                "x is torch.float64, must be float",
                lambda: HOFTLinear(base, 4)(torch.randn(3, 10).double()),
            ),
        ]
        for error, message, call in refused:
            with self.subTest(message), self.assertRaisesRegex(error, message):
                call()

    def test_representation(self):
        self.assertIn("rank=(4, 4), scaled=True, merged=False", repr(self.layer()))


if __name__ == "__main__":
    unittest.main()
