# SPDX-License-Identifier: BSD-3-Clause
"""Each operator by its formula in PyTorch's own operations, all of which can be differentiated any number of times,
forward and backward, vectorised by vmap and exported: what the compiled operators fall back to there.

Reflectors are rows, u [..., r, m]; tokens are rows, x [..., t, m]. u, v, s and tau have the type that is computed in;
activations and weights may have fewer bits, and results have their type. s is None or empty where it is not given.
Complex reflectors are H(u) = I − 2 u uᴴ/(uᴴu).
"""

import functools
from typing import Optional

import torch

from ._inputs import _no_autocast

Tensor = torch.Tensor


def _without_autocast(formula):
    """The formula in the types of its arguments, as the operators compute, also where autocast is on."""

    @functools.wraps(formula)
    def computed(x, *args, **kwargs):
        with _no_autocast(x.device):
            return formula(x, *args, **kwargs)

    return computed


def directions(v: Tensor) -> Tensor:
    """The rows of v [..., r, n] divided by their norms, of any length; rows of zeros stay, with gradients of zero."""
    if v.shape[-1] == 0:
        return v
    largest = v.detach().abs().amax(-1, keepdim=True)
    zero = largest == 0
    # Squares of the rows as they are could overflow or vanish. The norm of a row of ones has a derivative; that of
    # zeros has none.
    scaled = torch.where(zero, torch.ones_like(v), v / torch.where(zero, torch.ones_like(largest), largest))
    unit = scaled / (scaled * scaled.conj()).real.sum(-1, keepdim=True).sqrt()
    return torch.where(zero, torch.zeros_like(v), unit)


def _turned(a: Tensor) -> Tensor:
    return a.transpose(-1, -2)


def _triangle(u: Tensor, tau: Optional[Tensor]) -> Tensor:
    """T [..., r, r], upper triangular, with H₁ ⋯ H_r = I − U T Uᴴ, H_i = I − tau_i u_i u_iᴴ, tau_i = 2 if not given:
    T = D (I + N D)⁻¹ with D = diag(tau) and N the part of UᴴU above its diagonal."""
    r = u.shape[-2]
    scale = u.new_full((r,), 2) if tau is None else tau
    strict = torch.triu(u.conj() @ _turned(u), 1) * scale.unsqueeze(-2)
    # The inverse of a triangle in blocks of twice the size each time, by products alone: with the inverses A and C of
    # two neighbouring blocks on the diagonal and B above them, that of both is [[A, −A B C], [0, C]].
    index = torch.arange(r, device=u.device)
    inverse = torch.eye(r, dtype=u.dtype, device=u.device).expand(strict.shape)
    size = 1
    while size < r:
        block = index // size
        above = (block[:, None] % 2 == 0) & (block[None, :] == block[:, None] + 1)
        inverse = inverse - inverse @ (strict * above) @ inverse
        size *= 2
    return scale.unsqueeze(-1) * inverse


@_without_autocast
def householder(x: Tensor, u: Tensor, tau: Optional[Tensor] = None, adjoint: bool = False) -> Tensor:
    """y [..., t, m] = Q x for every token, or Qᴴ x; with tau [..., r] of the reflectors that LAPACK's geqrf leaves."""
    r, m = u.shape[-2:]
    if tau is None:
        u = directions(u)
    else:
        u = torch.triu(u, 1) + torch.eye(r, m, dtype=u.dtype, device=u.device)
    T = _triangle(u, tau)
    wide = x.to(u.dtype)
    return (wide - wide @ _turned(u.conj()) @ (T.conj() if adjoint else _turned(T)) @ u).to(x.dtype)


def ormqr(A: Tensor, tau: Tensor, other: Tensor, adjoint: bool) -> Tensor:
    """Q other, or Qᴴ other, for other [..., m, columns] and the reflectors in the columns of A [..., m, n], tau [..., k]."""
    return _turned(householder(_turned(other), _turned(A[..., : tau.shape[-1]]), tau, adjoint))


def householder_product(A: Tensor, tau: Tensor) -> Tensor:
    """The first n columns of Q, for A [..., m, n]."""
    return ormqr(A, tau, torch.eye(*A.shape[-2:], dtype=A.dtype, device=A.device), False)


@_without_autocast
def adapted(base_output: Tensor, x: Tensor, u: Tensor, v: Tensor, s: Optional[Tensor], product: Tensor) -> Tensor:
    """y [..., t, m] = Q_U diag(s) M Q_V x from base_output = M x and product [rv, m] = M times `directions(v)`."""
    p = base_output.to(u.dtype) - _correction(x, v, product)
    if s is not None and s.numel() > 0:
        p = p * s
    return householder(p, u).to(base_output.dtype)


@_without_autocast
def base_output(y: Tensor, x: Tensor, u: Tensor, v: Tensor, s: Optional[Tensor], product: Tensor) -> Tensor:
    """M x from what `adapted` made of it, where no s is 0."""
    q = householder(y.to(u.dtype), u, adjoint=True)
    if s is not None and s.numel() > 0:
        q = q / s
    return (q + _correction(x, v, product)).to(y.dtype)


def _correction(x: Tensor, v: Tensor, product: Tensor) -> Tensor:
    """K V̂ᵀx [..., t, m] with K = M V̂ T_V, by which M Q_V x is less than M x."""
    unit = directions(v)
    return x.to(v.dtype) @ _turned(unit) @ _turned(_triangle(unit, None)) @ product.to(v.dtype)


@_without_autocast
def linear(x: Tensor, weight: Tensor, u: Tensor, v: Tensor, s: Optional[Tensor]) -> Tensor:
    """y [..., t, m] = Q_U diag(s) M Q_V x with M = weight [m, n]."""
    p = householder(x.to(v.dtype), v) @ _turned(weight.to(v.dtype))
    if s is not None and s.numel() > 0:
        p = p * s
    return householder(p, u).to(x.dtype)


@_without_autocast
def merged(weight: Tensor, u: Tensor, v: Tensor, s: Optional[Tensor]) -> Tensor:
    """Q_U diag(s) M Q_V [m, n]."""
    right = householder(weight.to(v.dtype), v, adjoint=True)
    if s is not None and s.numel() > 0:
        right = right * s.unsqueeze(-1)
    return _turned(householder(_turned(right), u)).to(weight.dtype)


@_without_autocast
def unmerged(weight: Tensor, u: Tensor, v: Tensor, s: Optional[Tensor]) -> Tensor:
    """M from Q_U diag(s) M Q_V, where no s is 0."""
    left = _turned(householder(_turned(weight.to(u.dtype)), u, adjoint=True))
    if s is not None and s.numel() > 0:
        left = left / s.unsqueeze(-1)
    return householder(left, v).to(weight.dtype)
