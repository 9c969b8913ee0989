# SPDX-License-Identifier: BSD-3-Clause
"""HOFT as one writes it by hand in plain PyTorch: what bench/linear.py has beside hoft's HOFTLinear."""

import torch


def factors(u, dtype):
    """A and B [r, m] in `dtype` with Q = I − Aᵀ B for the product Q of the reflectors in the rows of u: the compact WY form,
    A the rows divided by their norms, B = T A, T⁻¹ = ½ I + striu(A Aᵀ)."""
    unit = torch.nn.functional.normalize(u, dim=1)
    half = torch.eye(len(u), device=u.device, dtype=u.dtype) / 2
    B = torch.linalg.solve_triangular(torch.triu(unit @ unit.t(), 1) + half, unit, upper=True)
    return unit.to(dtype), B.to(dtype)


def turn(x, u):
    """Q x for each row of x, by two products with r columns in the type of x."""
    A, B = factors(u, x.dtype)
    return torch.addmm(x, x @ B.t(), A, alpha=-1)


class PlainWY(torch.nn.Module):
    """Q_U M Q_V x around a frozen torch.nn.Linear without bias, autograd through all of it; u and v are float."""

    def __init__(self, base, rank):
        super().__init__()
        self.base = base
        pairs = [torch.randn(rank // 2, m).mul_(0.1).repeat_interleave(2, 0) for m in reversed(base.weight.shape)]
        self.v, self.u = map(torch.nn.Parameter, pairs)

    def forward(self, x):
        return turn(self.base(turn(x, self.v)), self.u)
