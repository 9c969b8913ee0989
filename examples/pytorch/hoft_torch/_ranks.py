# SPDX-License-Identifier: BSD-3-Clause
"""What ranks exchange, with gradients, and how to tell what is split over them."""

import sys

import torch


def is_dtensor(value):
    module = sys.modules.get("torch.distributed.tensor")  # without it there is none; importing it takes a second
    return module is not None and isinstance(value, module.DTensor)


def all_reduce(a, operation, mesh):
    from torch.distributed import _functional_collectives as collectives

    return collectives.wait_tensor(collectives.all_reduce(a.contiguous(), operation, (mesh, 0)))


class Summed(torch.autograd.Function):
    """The sum over ranks of their parts. What is made of it is the same on every rank, and so is its gradient, which is
    the gradient of each part."""

    @staticmethod
    def forward(ctx, part, mesh):
        ctx.mesh = mesh
        return all_reduce(part, "sum", mesh)

    @staticmethod
    def backward(ctx, gradient):
        return Shared.apply(gradient, ctx.mesh), None


class Shared(torch.autograd.Function):
    """What is the same on every rank, of which each makes something else: its gradient is the sum over ranks."""

    @staticmethod
    def forward(ctx, whole, mesh):
        ctx.mesh = mesh
        return whole.view_as(whole)

    @staticmethod
    def backward(ctx, gradient):
        return Summed.apply(gradient, ctx.mesh), None


class Once(torch.autograd.Function):
    """The identity, whose gradient cannot be differentiated: DTensor would leave out terms of that without a word."""

    @staticmethod
    def forward(ctx, a):
        ctx.save_for_backward(a)
        return a.view_as(a)

    @staticmethod
    def backward(ctx, gradient):
        return _Refused.apply(gradient, *ctx.saved_tensors)


class _Refused(torch.autograd.Function):
    @staticmethod
    def forward(ctx, gradient, of):
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx, _):
        raise RuntimeError("hoft: layers that are split over ranks have no second derivatives, since DTensor has none")


def distributed(value, mesh, placements, source):
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, mesh, placements, src_data_rank=source)


def of_fsdp(module):
    """Whether fully_shard was called for it, or for a module around it."""
    return getattr(module, "_is_fsdp_managed_module", False)


GATHERED = "Under FSDP call the modules that fully_shard was called for, which gather what they need"
