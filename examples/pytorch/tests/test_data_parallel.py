# SPDX-License-Identifier: BSD-3-Clause
"""Layers in models whose parameters or tokens are split over ranks: FSDP2 and DDP."""

import unittest

import torch

from common import DOUBLE
from ranks import MISSING, Parallel, judge

from hoft_torch import HOFTLinear

if MISSING is None:
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module


def network(dtype):
    """The same on every rank."""
    torch.manual_seed(5)
    layers = [HOFTLinear(torch.nn.Linear(n, m, dtype=dtype), (4, 2), scaled=True) for n, m in ((6, 12), (12, 6))]
    for layer in layers:
        torch.nn.init.normal_(layer.u), torch.nn.init.normal_(layer.v), torch.nn.init.uniform_(layer.d)
    return torch.nn.Sequential(layers[0], torch.nn.Tanh(), layers[1])


def sharded(model):
    """By FSDP2: the first layer for itself, the last with the root, which stays gathered behind a forward pass."""
    fully_shard(model[0])
    return fully_shard(model)


def check_fsdp_training(mesh, dtype):
    whole, model = network(dtype), sharded(network(dtype))
    x, goal = torch.randn(8, 6, dtype=dtype), torch.randn(8, 6, dtype=dtype)
    mine = lambda a: a.chunk(mesh.size())[mesh.get_local_rank()]
    optimisers = [torch.optim.SGD(m.parameters(), lr=0.1) for m in (whole, model)]
    for _ in range(4):
        for optimiser in optimisers:
            optimiser.zero_grad()
        (whole(x) - goal).square().mean().backward()
        (model(mine(x)) - mine(goal)).square().mean().backward()
        for optimiser in optimisers:
            optimiser.step()
    full = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    for name, value in whole.state_dict().items():
        if "extra" not in name:
            judge.assertClose(full[name], value, 10 * max(1, value.norm()), 40)
    # What was made of weights is made again of others: the base's are loaded as well.
    for a in whole.parameters():
        a.data.mul_(0.5)
    set_model_state_dict(model, whole.state_dict(), options=StateDictOptions(full_state_dict=True))
    judge.assertClose(model(x).detach(), whole(x).detach(), 10 * x.norm(), 40)


def check_fsdp_merge(mesh, dtype):
    x, g = torch.randn(8, 6, dtype=dtype), torch.randn(8, 6, dtype=dtype)
    for called_before in (False, True):
        whole, model = network(dtype), sharded(network(dtype))
        before = whole(x).detach()
        if called_before:
            model(x).backward(g)
            with judge.assertRaisesRegex(RuntimeError, r"merge: FSDP has gathered the weight, .* reshard\(\)"):
                model(x), model[2].merge()
            judge.assertFalse(model[2].merged)
            model.reshard()
        for layer, other in ((model[0], whole[0]), (model[2], whole[2])):
            weight = other.base.weight.clone()
            layer.merge(), other.merge()
            judge.assertClose(layer.base.weight.full_tensor(), other.base.weight, 4 * weight.norm(), 20)
        judge.assertClose(model(x).detach(), before, 10 * x.norm(), 40)
        model.reshard()
        for layer, other in ((model[0], whole[0]), (model[2], whole[2])):
            layer.unmerge(), other.unmerge()
            judge.assertClose(layer.base.weight.full_tensor(), other.base.weight, 8 * weight.norm(), 40)
        judge.assertClose(model(x).detach(), before, 10 * x.norm(), 80)


def check_fsdp_order(mesh):
    base = fully_shard(torch.nn.Sequential(torch.nn.Linear(6, 6)))
    with judge.assertRaisesRegex(ValueError, "HOFTLinear: the base belongs to fully_shard already, which must be called"):
        HOFTLinear(base[0], 2)


def check_ddp(mesh):
    x = torch.randn(4, 6) + mesh.get_local_rank()
    model = network(torch.float32)
    model[0].merge()
    parallel_model = torch.nn.parallel.DistributedDataParallel(model)
    with judge.assertRaisesRegex(RuntimeError, "HOFTLinear: DistributedDataParallel waits for .* find_unused_parameters"):
        parallel_model(x)
    with torch.no_grad():
        parallel_model(x)
    frozen = network(torch.float32)
    frozen[0].merge()
    for a in (frozen[0].u, frozen[0].v, frozen[0].d):
        a.requires_grad_(False)
    for model in (
        torch.nn.parallel.DistributedDataParallel(model, find_unused_parameters=True),
        torch.nn.parallel.DistributedDataParallel(frozen),
        torch.nn.parallel.DistributedDataParallel(network(torch.float32)),
    ):
        for _ in range(3):
            model.zero_grad()
            model(x).square().sum().backward()
        gradient = model.module[2].u.grad
        first = gradient.clone()
        torch.distributed.broadcast(first, 0)
        judge.assertTrue(torch.equal(gradient, first) and float(first.norm()) > 0)


def check_fsdp_of_parts(mesh):
    """Layers are called through what fully_shard was called for."""
    model = fully_shard(network(torch.float32))
    with judge.assertRaisesRegex(ValueError, "HOFTLinear: v is split .* Under FSDP call the modules that fully_shard"):
        model[0](torch.randn(2, 6))
    model = network(torch.float32)
    fully_shard(model[0].base), fully_shard(model)
    with judge.assertRaisesRegex(ValueError, "HOFTLinear: fully_shard was called for the base, whose bias"):
        model(torch.randn(2, 6))


def check_both(_):
    """Two groups of two ranks each: tensor parallelism in a group, FSDP2 over the groups."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
    whole, model = network(DOUBLE), network(DOUBLE)
    parallelize_module(model, mesh["tensor"], {"0.base": ColwiseParallel(), "2.base": RowwiseParallel()})
    for layer in (model[0], model[2]):
        layer.distribute()
    fully_shard(model, mesh=mesh["data"])
    x = torch.randn(4, 6, dtype=DOUBLE)
    whole(x).square().mean().backward()
    model(x.chunk(2)[mesh["data"].get_local_rank()]).square().mean().backward()
    for layer, other in ((model[0], whole[0]), (model[2], whole[2])):
        for name in ("u", "v", "d"):
            gradient = getattr(other, name).grad
            judge.assertClose(getattr(layer, name).grad.full_tensor(), gradient, max(1, float(gradient.norm())), 40)
    model.reshard()
    with judge.assertRaisesRegex(ValueError, "merge: .* on a mesh of 2 dimensions, must have"):
        model[0].merge()


class DataParallel(Parallel):
    def test_fsdp_trains_as_one_process(self):
        for dtype in (DOUBLE, torch.float32):
            with self.subTest(dtype=dtype):
                self.run_on(2, check_fsdp_training, dtype)

    def test_fsdp_merge(self):
        for dtype in (DOUBLE, torch.float32):
            with self.subTest(dtype=dtype):
                self.run_on(2, check_fsdp_merge, dtype)

    def test_fsdp_comes_last(self):
        self.run_on(2, check_fsdp_order)

    def test_fsdp_of_parts(self):
        self.run_on(2, check_fsdp_of_parts)

    def test_fsdp_and_tensor_parallelism(self):
        self.run_on(4, check_both)

    def test_ddp_and_a_merged_layer(self):
        self.run_on(2, check_ddp)


if __name__ == "__main__":
    unittest.main()
