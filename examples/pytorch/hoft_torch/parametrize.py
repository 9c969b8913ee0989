# SPDX-License-Identifier: BSD-3-Clause
"""Orthogonal and unitary weights as products of Householder reflectors of any direction and number: a drop-in for
torch.nn.utils.parametrizations.orthogonal(module, name, "householder")."""

from typing import Optional

import torch
import torch.nn.utils.parametrize as parametrize

from .functional import householder_apply, master_dtype
from .linalg import householder_product

Tensor = torch.Tensor


def orthogonal(
    module: torch.nn.Module,
    name: str = "weight",
    orthogonal_map: Optional[str] = None,
    *,
    use_trivialization: bool = True,
    reflectors: Optional[int] = None,
) -> torch.nn.Module:
    """Keeps module.name orthogonal, real or complex: [*, m, n] has orthonormal columns where m >= n, else orthonormal
    rows. Returns the module. The call, the constraint, assigning to the weight and the state behind
    module.parametrizations are as of torch.nn.utils.parametrizations.orthogonal; what is trained differs.

    Trained is parametrizations.weight.original [*, reflectors, max(m, n)], one reflector in each row: a free vector whose
    length has no effect, so that no start, step or weight decay leads off the constraint, and none has to be zero.

    use_trivialization: the weight is H(u₁) ⋯ H(u_r) times the buffer `base`, which takes up the initial weight, and any
        weight that is assigned: any number of reflectors, and the reflectors begin as random ones. Without it the
        weight is the first columns of H(u₁) ⋯ H(u_r), each times a fixed sign (complex: phase) in the buffer `phases`;
        this takes at least min(m, n) reflectors.
    reflectors: min(m, n) if not given, with which every small change of the weight can be made; fewer are cheaper and
        train less, as the rank of an adapter does.
    orthogonal_map: "householder" or nothing.

    A weight that is not orthogonal, at the start or assigned, is made so by the QR decomposition.

    Raises:
        ValueError: there is no such tensor, it holds integers or has one dimension, another map or too few reflectors are asked for; on
            assignment: another shape.

    Cost: 4 max(m, n) min(m, n) reflectors for each use of the weight, backward 10.
    """
    weight = getattr(module, name, None)
    if not torch.is_tensor(weight):
        raise ValueError(f"orthogonal: the module {type(module).__name__} has no parameter or buffer named {name!r}")
    if not (weight.is_floating_point() or weight.is_complex()):
        raise ValueError(f"orthogonal: {name} holds {weight.dtype}, must hold floating-point or complex numbers")
    if weight.dim() < 2:
        raise ValueError(f"orthogonal: {name} has the shape {list(weight.shape)}, must have at least 2 dimensions")
    if orthogonal_map not in (None, "householder"):
        raise ValueError(
            f'orthogonal: orthogonal_map is {orthogonal_map!r}, must be "householder"; for others there is'
            " torch.nn.utils.parametrizations.orthogonal"
        )
    parametrization = Orthogonal(weight.shape, reflectors, use_trivialization)
    parametrize.register_parametrization(module, name, parametrization, unsafe=True)
    return module


class Orthogonal(torch.nn.Module):
    """The parametrisation that `orthogonal` registers: reflectors to weight and back."""

    def __init__(self, shape: torch.Size, reflectors: Optional[int] = None, use_trivialization: bool = True):
        super().__init__()
        few = min(shape[-2:])
        self.shape, self.reflectors = torch.Size(shape), few if reflectors is None else int(reflectors)
        least = 0 if use_trivialization else few
        if self.reflectors < least:
            raise ValueError(
                f"orthogonal: reflectors is {self.reflectors}, must be at least {least}"
                + ("" if use_trivialization else f" for {list(shape)} without a base (use_trivialization)")
            )
        self.register_buffer("base" if use_trivialization else "phases", None)

    def forward(self, u: Tensor) -> Tensor:
        """The weight of the reflectors u [*, reflectors, max(m, n)]."""
        m, n = self.shape[-2:]
        # householder_apply takes columns as rows, and so does a wide weight.
        if hasattr(self, "base"):
            rows = householder_apply(self.base.transpose(-1, -2), u)
        else:
            few, many = min(m, n), max(m, n)
            identity = torch.eye(few, many, device=u.device).to(u.dtype).expand(*u.shape[:-2], few, many)
            rows = householder_apply(identity, u) * self.phases.unsqueeze(-1)
        return rows if m < n else rows.transpose(-1, -2)

    @torch.no_grad()
    def right_inverse(self, weight: Tensor) -> Tensor:
        """Reflectors of that weight, and the buffer beside them."""
        if weight.shape != self.shape:
            raise ValueError(f"orthogonal: the weight has the shape {list(weight.shape)}, must have {list(self.shape)}")
        m, n = self.shape[-2:]
        exact = master_dtype(weight.dtype)
        tall = _orthonormal((weight.transpose(-1, -2) if m < n else weight).to(exact))
        if hasattr(self, "base"):
            u = _random(tall, self.reflectors).to(weight.dtype)
            # Q(u) base is the weight: base = Q(u)ᴴ weight, for u as it is stored
            base = householder_apply(tall.transpose(-1, -2), u.to(exact), adjoint=True)
            self.base = base.transpose(-1, -2).to(weight.dtype)
            return u
        more = _random(tall, self.reflectors - tall.shape[-1])
        rest = householder_apply(tall.transpose(-1, -2), more, adjoint=True).transpose(-1, -2)
        u, self.phases = _factors(rest)
        self.phases = self.phases.to(weight.dtype)
        return torch.cat([more, u], -2).to(weight.dtype)

    def extra_repr(self) -> str:
        return f"reflectors={self.reflectors}, use_trivialization={hasattr(self, 'base')}"


def _random(tall: Tensor, count: int) -> Tensor:
    """Reflectors of length one, about, so that steps of an optimiser turn the weight by as much as they are long."""
    m = tall.shape[-2]
    return torch.randn(*tall.shape[:-2], count, m, dtype=tall.dtype, device=tall.device) / max(1, m) ** 0.5


def _orthonormal(tall: Tensor) -> Tensor:
    """`tall` itself if its columns are orthonormal, to rounding; else those of its QR decomposition whose R has a
    diagonal that is not negative."""
    m, n = tall.shape[-2:]
    gram = tall.mH @ tall
    identity = torch.eye(n, dtype=tall.dtype, device=tall.device)
    if tall.numel() == 0 or bool(((gram - identity).abs() <= 10 * m * torch.finfo(tall.dtype).eps).all()):
        return tall
    A, tau = torch.geqrf(tall)
    return householder_product(A, tau) * A.diagonal(dim1=-2, dim2=-1).sgn().unsqueeze(-2)


def _factors(tall: Tensor) -> tuple:
    """u [*, n, m] and phases [*, n] with H(u₁) ⋯ H(u_n) E diag(phases) = tall, E the first columns of the identity.
    LAPACK's reflectors will not do: complex ones are no H(u), and it leaves out a reflector that changes nothing, which
    would never train."""
    rest = tall.clone()
    n, m = tall.shape[-1], tall.shape[-2]
    u, phases = rest.new_zeros(*tall.shape[:-2], n, m), rest.new_ones(*tall.shape[:-2], n)
    for i in range(n):
        column = rest[..., i:, i]
        phase = torch.where(column[..., 0] == 0, torch.ones_like(column[..., 0]), column[..., 0].sgn())
        u[..., i, i:] = column
        u[..., i, i] += phase * torch.linalg.vector_norm(column, dim=-1)
        phases[..., i] = -phase
        rest = householder_apply(rest.transpose(-1, -2), u[..., i : i + 1, :]).transpose(-1, -2)
    return u, phases
