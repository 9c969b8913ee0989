# SPDX-License-Identifier: BSD-3-Clause
"""Layers whose base is split over ranks beside the whole ones."""

import unittest

import torch

from common import DOUBLE, adapted
from ranks import MISSING, Parallel, assign, judge, local

from hoft_torch import HOFTLinear

if MISSING is None:
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module


class Layer:
    """The whole numbers of a layer, its module whose base is split, and its formula."""

    def __init__(self, mesh, split_by, m, n, ranks, scaled, dtype, bias=True, style=None):
        self.mesh, self.split_by = mesh, split_by
        base = torch.nn.Linear(n, m, bias=bias, dtype=dtype)
        self.weight, self.bias = base.weight.detach().clone(), None if base.bias is None else base.bias.detach().clone()
        style = style or (ColwiseParallel() if split_by == "rows" else RowwiseParallel())
        self.module = HOFTLinear(parallelize_module(base, mesh, style), ranks, scaled=scaled)
        master = dtype if dtype == DOUBLE else torch.float32
        self.numbers = {"u": torch.randn(ranks[0], m, dtype=master), "v": torch.randn(ranks[1], n, dtype=master)}
        if scaled:
            self.numbers["d"] = torch.rand(m, dtype=master)
        self.set(self.numbers)
        self.leaves = {name: value.to(DOUBLE).requires_grad_() for name, value in self.numbers.items()}

    def set(self, numbers):
        for name, value in numbers.items():
            assign(getattr(self.module, name), value)

    def whole(self, x):
        """In double, from the leaves."""
        s = 1 + self.leaves["d"] if "d" in self.leaves else None
        M = adapted(self.weight.to(DOUBLE), self.leaves["u"], self.leaves["v"], s)
        y = x.to(DOUBLE) @ M.t()
        return y if self.bias is None else y + self.bias.to(DOUBLE)

    def compare_gradients(self, scale, steps):
        for name, leaf in self.leaves.items():
            if leaf.numel() == 0:
                continue
            gradient = getattr(self.module, name).grad
            expected = local(leaf.grad, name, self.split_by, self.mesh)
            judge.assertClose(gradient.to_local(), expected.to(gradient.dtype), scale, steps)


def check_network(mesh, dtype, scaled, ranks, bias):
    """A perceptron as Megatron splits it: what lies between its two layers never leaves its rank."""
    up = Layer(mesh, "rows", 12, 9, ranks, scaled, dtype, bias)
    down = Layer(mesh, "columns", 7, 12, ranks, scaled, dtype, bias)
    x = torch.randn(2, 5, 9, dtype=dtype).requires_grad_()
    wide = x.detach().to(DOUBLE).requires_grad_()
    g = torch.randn(2, 5, 7, dtype=dtype)
    y = down.module(torch.tanh(up.module(x)))
    z = down.whole(torch.tanh(up.whole(wide)))
    y.backward(g)
    z.backward(g.to(DOUBLE))
    sizes = 2 * up.weight.double().norm() * 2 * down.weight.double().norm()
    steps = 2 * sum(ranks) + 8  # reflectors of two layers; products, scales, tanh
    judge.assertClose(y, z.to(dtype), sizes * max(1, float(x.detach().norm())), steps)
    judge.assertClose(x.grad, wide.grad.to(dtype), sizes * g.double().norm(), steps)
    for layer in (up, down):
        layer.compare_gradients(sizes * float(x.detach().norm()) * float(g.norm()), steps)


def check_networks(mesh):
    for dtype in (DOUBLE, torch.float32):
        for scaled, ranks, bias in ((False, (4, 2), True), (True, (2, 4), False), (True, (0, 2), True), (True, (2, 0), True)):
            check_network(mesh, dtype, scaled, ranks, bias)


def check_layouts(mesh):
    """What lies between layers may be split by tokens as well, whole, or DTensors: the base's style says how."""
    rank, ranks = mesh.get_local_rank(), mesh.size()
    x, g = torch.randn(2, 2 * ranks, 6, dtype=DOUBLE), torch.randn(2, 2 * ranks, 4 * ranks, dtype=DOUBLE)
    mine = lambda a, dimension: a.chunk(ranks, dimension)[rank]

    def compare(layer, x, y, whole_y, part):
        """A loss of which every rank has its part of y, or all of it."""
        whole_y.backward(g)
        part(y).backward(part(g))
        judge.assertClose(part(y), part(whole_y), x.norm() * 2 * layer.weight.norm(), 12)
        layer.compare_gradients(2 * layer.weight.norm() * x.norm() * g.norm(), 12)

    tokens_split = ColwiseParallel(input_layouts=Shard(1))
    layer = Layer(mesh, "rows", 4 * ranks, 6, (4, 4), True, DOUBLE, style=tokens_split)
    compare(layer, x, layer.module(mine(x, 1)), layer.whole(x), lambda a: a if a.shape[-1] == 4 else mine(a, 2))

    layer = Layer(mesh, "rows", 4 * ranks, 6, (4, 4), True, DOUBLE, style=ColwiseParallel(output_layouts=Replicate()))
    compare(layer, x, layer.module(x), layer.whole(x), lambda a: a)

    layer = Layer(mesh, "rows", 4 * ranks, 6, (2, 2), False, DOUBLE, style=ColwiseParallel(use_local_output=False))
    y = layer.module(x)
    judge.assertEqual((y.shape, tuple(y.placements)), (g.shape, (Shard(2),)))
    compare(layer, x, y.to_local(), layer.whole(x), lambda a: a if a.shape[-1] == 4 else mine(a, 2))

    wide = torch.randn(2, 2 * ranks, 3 * ranks, dtype=DOUBLE)
    tokens_split = RowwiseParallel(output_layouts=Shard(1))
    layer = Layer(mesh, "columns", 4 * ranks, 3 * ranks, (4, 4), True, DOUBLE, style=tokens_split)
    y = layer.module(mine(wide, 2))
    compare(layer, wide, y, layer.whole(wide), lambda a: a if a.shape[1] == 2 else mine(a, 1))


def check_extremes(mesh):
    """Zero reflectors are the identity and get no gradient; lengths do not matter; more ranks than features."""
    for split_by in ("rows", "columns"):
        layer = Layer(mesh, split_by, 4, 4, (4, 4), False, torch.float32)
        scales = torch.tensor([1e30, 1e-30, 0.0, 1.0])[:, None]
        plain = {name: layer.numbers[name].clone() for name in "uv"}
        layer.set({name: scales * value for name, value in plain.items()})
        x = torch.randn(3, 4)
        mine = local(x, "v", split_by, mesh).clone().requires_grad_()
        y = layer.module(mine)
        kept = {name: value[[0, 1, 3]].to(DOUBLE) for name, value in plain.items()}
        expected = x.to(DOUBLE) @ adapted(layer.weight.to(DOUBLE), kept["u"], kept["v"]).t() + layer.bias
        expected = local(expected.t(), "weight", split_by, mesh).t() if split_by == "rows" else expected
        judge.assertClose(y, expected.float(), x.norm() * 2 * layer.weight.norm() + layer.bias.norm(), 10)
        y.sum().backward()
        for name in "uv":
            gradient = getattr(layer.module, name).grad.to_local()
            judge.assertTrue(bool(torch.isfinite(gradient).all()))
            judge.assertEqual(float(gradient[2].abs().sum()), 0.0)
    layer = Layer(mesh, "rows", 1, 3, (2, 2), True, DOUBLE)  # the last rank has no feature
    x = torch.randn(2, 3, dtype=DOUBLE)
    y = layer.module(x)
    judge.assertClose(y, local(layer.whole(x).t(), "weight", "rows", mesh).t(), 4 * layer.weight.norm() * x.norm(), 8)


def check_sixteen_bits(mesh):
    """Between layers numbers have 16 bits, sums and reflectors 32; the weight alone is rounded as merged ones are."""
    for split_by in ("rows", "columns"):
        layer = Layer(mesh, split_by, 64, 48, (8, 8), True, torch.bfloat16)
        layer.bias[3] = 1000  # it must not go through Q_U
        assign(layer.module.base.bias, layer.bias)
        x = torch.randn(20, 48, dtype=torch.bfloat16)
        y = layer.module(local(x, "v", split_by, mesh).contiguous())
        judge.assertEqual(y.dtype, torch.bfloat16)
        bias, layer.bias = layer.bias.to(DOUBLE), None
        expected = layer.whole(x).detach()
        if split_by == "rows":
            bias, expected = (local(a.t(), "weight", "rows", mesh).t() for a in (bias[None], expected))
        # Three roundings to 16 bits: of Q_V x, of the base's output, of y without its bias; and that of y itself.
        error, epsilon = (y.detach().to(DOUBLE) - bias - expected).abs(), torch.finfo(torch.bfloat16).eps
        judge.assertTrue(float((error - epsilon * bias.abs()).max()) <= 8 * epsilon * float(expected.norm(dim=1).max()))


def whole_module(layer, scaled):
    """The same module on one process, with hoft's operators."""
    base = torch.nn.Linear(*reversed(layer.weight.shape), bias=layer.bias is not None, dtype=layer.weight.dtype)
    module = HOFTLinear(base, (len(layer.numbers["u"]), len(layer.numbers["v"])), scaled=scaled)
    with torch.no_grad():
        base.weight.copy_(layer.weight)
        base.bias.copy_(layer.bias)
        for name, value in layer.numbers.items():
            getattr(module, name).copy_(value)
    return module


def check_training(mesh, dtype):
    """Ten steps of AdamW and a saved adapter, beside one process; every rank starts with the numbers of the first."""
    layers = [Layer(mesh, "rows", 12, 6, (4, 2), True, dtype), Layer(mesh, "columns", 6, 12, (2, 4), True, dtype)]
    split = torch.nn.Sequential(layers[0].module, torch.nn.Tanh(), layers[1].module)
    whole = torch.nn.Sequential(whole_module(layers[0], True), torch.nn.Tanh(), whole_module(layers[1], True))
    x, goal = torch.randn(20, 6, dtype=dtype), torch.randn(20, 6, dtype=dtype)
    errors = []
    for model in (split, whole):
        optimiser = torch.optim.AdamW([a for a in model.parameters() if a.requires_grad], lr=1e-2)
        for _ in range(10):
            optimiser.zero_grad()
            loss = (model(x) - goal).square().mean()
            loss.backward()
            optimiser.step()
        errors.append(loss.detach())
    # Adam divides by gradients, so that it carries their rounding into the numbers: ten steps of 1e-2 each.
    loose = torch.finfo(dtype).eps ** 0.5
    judge.assertTrue(abs(errors[0] - errors[1]) <= loose, errors)
    full = get_model_state_dict(split, options=StateDictOptions(full_state_dict=True))
    for name, value in whole.state_dict().items():
        judge.assertEqual((type(full[name]), full[name].shape), (torch.Tensor, value.shape))
        judge.assertTrue((full[name].double() - value.double()).abs().max() <= loose, name)
    # A file of one process goes into the split layers, and theirs into whole ones: the same outputs.
    whole.load_state_dict(full)
    judge.assertClose(split(x).detach(), whole(x).detach(), 10 * x.norm(), 40)
    with torch.no_grad():
        whole[0].u.add_(1), whole[2].d.add_(1)
    options = StateDictOptions(full_state_dict=True, strict=True)
    set_model_state_dict(split, whole.state_dict(), options=options)
    judge.assertClose(split(x).detach(), whole(x).detach(), 20 * x.norm(), 40)


def check_start(mesh):
    torch.manual_seed(mesh.get_local_rank())  # ranks need not draw the same
    for style, whole, part in ((ColwiseParallel(), "v", "u"), (RowwiseParallel(), "u", "v")):
        base = parallelize_module(torch.nn.Linear(8, 8), mesh, style)
        module = HOFTLinear(base, 4, scaled=True)
        kept = getattr(module, whole).to_local()
        first = kept.clone()
        torch.distributed.broadcast(first, 0)
        judge.assertTrue(torch.equal(kept, first))
        judge.assertEqual(getattr(module, part).to_local().shape, (4, 8 // mesh.size()))
        x = torch.randn(3, base.weight.to_local().shape[1])
        if whole == "v":
            torch.distributed.broadcast(x, 0)
        judge.assertClose(module(x), base(x), x.norm() * base.weight.full_tensor().norm(), 10)
    # A base that is split after it was wrapped
    module = HOFTLinear(torch.nn.Linear(8, 8), 4)
    parallelize_module(module, mesh, {"base": ColwiseParallel()})
    x = torch.randn(3, 8)
    torch.distributed.broadcast(x, 0)
    with judge.assertRaisesRegex(ValueError, "HOFTLinear: v is whole, must be split .* distribute"):
        module(x)
    judge.assertClose(module.distribute()(x), module.base(x), x.norm() * module.base.weight.full_tensor().norm(), 10)


def check_merge(mesh, dtype):
    for split_by in ("rows", "columns"):
        for scaled, ranks in ((True, (4, 2)), (False, (0, 2)), (False, (2, 0))):
            layer = Layer(mesh, split_by, 12, 6, ranks, scaled, dtype)
            s = layer.module.s.full_tensor() if scaled else None
            kind = DOUBLE if dtype == DOUBLE else torch.float32
            expected = adapted(layer.weight.to(DOUBLE), *(layer.numbers[name].to(DOUBLE) for name in "uv"), s)
            layer.module.merge()
            weight = layer.module.base.weight
            judge.assertClose(weight.full_tensor(), expected.to(dtype), 2 * layer.weight.norm(), 2 * sum(ranks) + 4)
            x = local(torch.randn(5, 6, dtype=dtype), "v", split_by, mesh)
            judge.assertTrue(torch.equal(layer.module(x), layer.module.base(x)))
            layer.module.unmerge()
            judge.assertClose(weight.full_tensor(), layer.weight, 4 * layer.weight.norm(), 4 * sum(ranks) + 8)
            judge.assertEqual(kind, layer.module.u.dtype)
    # One NaN in the part of one rank: every rank raises, and nothing is written.
    layer = Layer(mesh, "rows", 12, 6, (2, 2), False, dtype)
    if mesh.get_local_rank() == 0:
        with torch.no_grad():
            layer.module.u.to_local()[0, 0] = float("nan")
    with judge.assertRaisesRegex(ValueError, "merge: .* not finite"):
        layer.module.merge()
    judge.assertTrue(torch.equal(layer.module.base.weight.full_tensor(), layer.weight))
    judge.assertFalse(layer.module.merged)


def check_refusals(mesh):
    rows = parallelize_module(torch.nn.Linear(8, 8), mesh, ColwiseParallel())
    for placement in (Replicate(), Shard(0)):
        base = torch.nn.Linear(8, 8)
        other = init_device_mesh("cpu", (1, mesh.size())) if placement == Shard(0) else mesh
        placements = [placement] * other.ndim
        base.weight = torch.nn.Parameter(distribute_tensor(base.weight.detach(), other, placements))
        with judge.assertRaisesRegex(ValueError, r"HOFTLinear: the weight of the base, a Linear, .* must have Shard\(0\)"):
            HOFTLinear(base, 2)
    with judge.assertRaisesRegex(ValueError, "HOFTLinear: x has 7 features on this rank, must have 8, since rows"):
        HOFTLinear(rows, 2)(torch.randn(2, 7))


def check_second_derivatives(mesh):
    """DTensor would leave out terms of them in silence."""
    layer = Layer(mesh, "rows", 8, 6, (2, 2), False, DOUBLE)
    x = torch.randn(3, 6, dtype=DOUBLE, requires_grad=True)
    for what in (x, layer.module.u):
        loss = layer.module(x).pow(4).sum()
        (gradient,) = torch.autograd.grad(loss, what, create_graph=True)
        with judge.assertRaisesRegex(RuntimeError, "split over ranks have no second derivatives"):
            torch.autograd.grad(gradient.pow(2).sum(), what)


def check_autocast(mesh):
    for split_by in ("rows", "columns"):
        layer = Layer(mesh, split_by, 64, 32, (4, 4), True, torch.float32)
        x = local(torch.randn(6, 32), "v", split_by, mesh)
        y = layer.module(x).detach()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            z = layer.module(x).detach()
        judge.assertEqual(z.dtype, torch.bfloat16)
        # x and the weight, the base's output, that of each side and y are rounded to 16 bits.
        bound = 5 * torch.finfo(torch.bfloat16).eps * float(x.norm() * layer.weight.norm())
        judge.assertTrue(float((z.float() - y).norm()) <= bound)


class TensorParallel(Parallel):
    def test_is_the_whole_network(self):
        for ranks in (2, 3):
            with self.subTest(ranks=ranks):
                self.run_on(ranks, check_networks)

    def test_layouts(self):
        self.run_on(2, check_layouts)

    def test_extreme_reflectors(self):
        self.run_on(2, check_extremes)

    def test_training_and_files(self):
        for dtype in (DOUBLE, torch.float32):
            with self.subTest(dtype=dtype):
                self.run_on(2, check_training, dtype)

    def test_start(self):
        self.run_on(2, check_start)

    def test_merge_and_unmerge(self):
        for dtype in (DOUBLE, torch.float32, torch.bfloat16):
            with self.subTest(dtype=dtype):
                self.run_on(2 + (dtype == DOUBLE), check_merge, dtype)

    def test_refusals(self):
        self.run_on(2, check_refusals)

    def test_sixteen_bits(self):
        self.run_on(2, check_sixteen_bits)

    def test_second_derivatives_are_refused(self):
        self.run_on(2, check_second_derivatives)

    def test_autocast(self):
        self.run_on(2, check_autocast)


if __name__ == "__main__":
    unittest.main()
