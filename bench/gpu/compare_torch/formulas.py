# SPDX-License-Identifier: BSD-3-Clause
"""The methods' formulas in plain PyTorch, differentiated by autograd. u [r, m] and v [r, n] hold reflectors as rows."""

import torch


def by_reflectors(x, weight, u, v, s):
    """y = H(u₁) ⋯ H(u_r) diag(s) M H(v₁) ⋯ H(v_r) x with the adapted weight formed, one reflector after another."""
    adapted = weight.to(u.dtype)
    for w in v:
        adapted = adapted - torch.outer(adapted @ w, w) * (2 / (w @ w))
    if s.numel() > 0:
        adapted = s[:, None] * adapted
    for w in reversed(u.unbind(0)):
        adapted = adapted - torch.outer(w, w @ adapted) * (2 / (w @ w))
    return x.to(u.dtype) @ adapted.t()


def two_terms(u):
    """T ≈ D⁻¹ − D⁻¹ A D⁻¹ for S = D + A, A strictly upper: the HOFT paper's truncated inverse."""
    gram = u @ u.t()
    inverse = 2 / torch.diagonal(gram)
    return torch.diag(inverse) - inverse[:, None] * torch.triu(gram, 1) * inverse


def paper(x, weight, u, v):
    """The HOFT paper's own formulation: M̂ = (I − U T Uᵀ) M (I − V T Vᵀ), then one product. Triangles in the type of u
    and v, all products with M in the type of M."""
    left, right = two_terms(u).to(weight.dtype), two_terms(v).to(weight.dtype)
    u, v = u.to(weight.dtype), v.to(weight.dtype)
    half = torch.addmm(weight, u.t() @ left, u @ weight, alpha=-1)
    return torch.nn.functional.linear(x, torch.addmm(half, (half @ v.t()) @ right, v, alpha=-1))
