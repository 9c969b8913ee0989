"""Layers that are split over ranks beside the whole ones: processes on this machine, which exchange by gloo."""

import contextlib
import copy
import pathlib
import tempfile
import unittest

import torch
import torch.multiprocessing

from common import DOUBLE, Case, adapted

try:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    MISSING = None
except ImportError as missing:
    MISSING = f"PyTorch {torch.__version__}: {missing}"

from hoft_torch import HOFTLinear, parallel

judge = Case()


def _work(rank, ranks, store, check, arguments):
    torch.set_num_threads(1)
    torch.manual_seed(3)  # the same numbers on every rank
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    try:
        check(init_device_mesh("cpu", (ranks,)), *arguments)
    finally:
        torch.distributed.destroy_process_group()


@unittest.skipIf(MISSING, MISSING)
class Parallel(unittest.TestCase):
    def run_on(self, ranks, check, *arguments):
        """check(mesh, *arguments) on so many processes: it fails where one of them does."""
        with tempfile.TemporaryDirectory() as folder:
            store = pathlib.Path(folder) / "store"
            torch.multiprocessing.spawn(_work, (ranks, store, check, arguments), nprocs=ranks)


def local(value, name, split_by, mesh):
    """This rank's part of the whole value of u, v, d or the weight."""
    dimension = {"rows": {"u": 1, "d": 0, "weight": 0}, "columns": {"v": 1, "weight": 1}}[split_by].get(name)
    if dimension is None:
        return value
    parts = torch.chunk(value, mesh.size(), dimension)
    rank = mesh.get_local_rank()
    return parts[rank] if rank < len(parts) else value.narrow(dimension, 0, 0)


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

    @torch.no_grad()
    def set(self, numbers):
        for name, value in numbers.items():
            mine = getattr(self.module, name)
            mine.copy_(distribute_tensor(value, mine.device_mesh, mine.placements, src_data_rank=None))

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


class TensorParallel(Parallel):
    def test_is_the_whole_network(self):
        for ranks in (2, 3):
            with self.subTest(ranks=ranks):
                self.run_on(ranks, check_networks)


if __name__ == "__main__":
    unittest.main()
