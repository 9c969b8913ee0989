# SPDX-License-Identifier: BSD-3-Clause
"""How the weight of a base is split over ranks, and products of reflectors that are split with it: parallel.py says how."""

import torch

from ._ranks import GATHERED, Once, Shared, Summed, all_reduce, distributed, is_dtensor, of_fsdp
from .functional import a_type, householder_apply, master_dtype


class Split:
    """How the weight [m, n] of a base lies on the ranks of `mesh`: its rows or its columns."""

    def __init__(self, base, function):
        from torch.distributed.tensor import Replicate, Shard

        weight = base.weight
        name = f"{function}: the weight of the base, {a_type(base)},"
        if not isinstance(base, torch.nn.Linear) or weight.dim() != 2:
            raise TypeError(f"{name} is a DTensor, for which the base must be a torch.nn.Linear")
        placement = weight.placements[0]
        if weight.device_mesh.ndim != 1 or type(placement) is not Shard:
            raise ValueError(
                f"{name} has the placements {weight.placements} on a mesh of {weight.device_mesh.ndim} dimensions, must "
                "have Shard(0) or Shard(1) on one (ColwiseParallel, RowwiseParallel; 'colwise', 'rowwise' in a tp_plan)"
            )
        self.mesh, self.by_rows, self.function = weight.device_mesh, placement.dim % 2 == 0, function
        self.hint = GATHERED if of_fsdp(base) else "The layer's distribute() does that, after its base has been split"
        self.whole, self.local = tuple(weight.shape), tuple(weight.to_local().shape)
        whole = [Replicate()]
        self.placements = {
            "u": [Shard(1)] if self.by_rows else whole,
            "v": whole if self.by_rows else [Shard(1)],
            "s": [Shard(0)] if self.by_rows else whole,
        }

    def part(self, name, value):
        """What this rank has of a parameter in training."""
        if len(value) == 0:
            return value
        wanted = self.placements[name]
        if not is_dtensor(value) or value.device_mesh != self.mesh or list(value.placements) != wanted:
            what = f"split as {value.placements}" if is_dtensor(value) else "whole"
            raise ValueError(
                f"{self.function}: {name} is {what}, must be split as {tuple(wanted)} on the mesh of the base. {self.hint}"
            )
        return Once.apply(value).to_local()

    def moved_part(self, name, value):
        """The same of a parameter that lies in any way, without gradients. All ranks take part."""
        if len(value) == 0:
            return value
        whole = value.full_tensor() if is_dtensor(value) else value.detach()
        return distributed(whole, self.mesh, self.placements[name], None).to_local()

    def splits(self, name):
        """Whether the features of u or v are split."""
        return (name == "u") == self.by_rows

    def product(self, name, part):
        """The product of the reflectors of u or v, of which this rank has a part."""
        if len(part) == 0:
            return lambda x, adjoint=False: x
        return _SplitProduct(part, self.mesh) if self.splits(name) else _WholeProduct(part)


class _WholeProduct:
    def __init__(self, u):
        self.u = u

    def __call__(self, x, adjoint=False):
        return householder_apply(x, self.u, adjoint=adjoint)


class _SplitProduct:
    """Q of reflectors whose features are split, for tokens [..., features of this rank]."""

    def __init__(self, u, mesh):
        self.mesh, u = mesh, u.to(master_dtype(u.dtype))
        with torch.autocast(u.device.type, enabled=False):
            # Q does not depend on the lengths of reflectors, so these take no part in gradients.
            largest = u.detach().abs().amax(1) if u.shape[1] else u.new_zeros(len(u))
            largest = all_reduce(largest, "max", mesh)
            self.rows = u / torch.where(largest == 0, torch.ones_like(largest), largest)[:, None]
            wide = self.rows.double()
            gram = Summed.apply(wide @ wide.t(), mesh)
            squares = gram.diagonal()
            # A zero row is the identity: it is orthogonal to the others, and whatever stands here is multiplied by it.
            inverse = gram.triu(1) + torch.diag(torch.where(squares == 0, torch.ones_like(squares), squares / 2))
            identity = torch.eye(len(u), dtype=inverse.dtype, device=u.device)
            self.triangle = torch.linalg.solve_triangular(inverse, identity, upper=True).to(u.dtype)

    def __call__(self, x, adjoint=False):
        if master_dtype(x.dtype) != self.rows.dtype:
            raise TypeError(f"hoft: tokens are {x.dtype}, their reflectors {self.rows.dtype}: double goes with double alone")
        with torch.autocast(x.device.type, enabled=False):
            wide = x.to(self.rows.dtype)
            projected = Summed.apply(wide @ self.rows.t(), self.mesh)
            projected = projected @ (self.triangle if adjoint else self.triangle.t())
            return (wide - Shared.apply(projected, self.mesh) @ self.rows).to(x.dtype)
