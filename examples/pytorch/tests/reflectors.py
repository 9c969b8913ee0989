# SPDX-License-Identifier: BSD-3-Clause
"""Products of reflectors for the tests of drop-ins: how to draw some, and the same products one reflector after another."""

import torch
from common import DOUBLE

COMPLEX = torch.complex128


def reflectors(*shape, k, dtype=DOUBLE):
    """A and tau of unitary reflectors, by LAPACK; above A's diagonal stands what nobody may read."""
    A, tau = torch.geqrf(torch.randn(*shape, dtype=dtype))
    A = A.tril(-1) + torch.full_like(A, float("nan")).triu()
    return A.requires_grad_(), tau[..., :k].clone().requires_grad_()


def free_tau(*shape, dtype=DOUBLE):
    """Reflectors of any tau: the first H is the identity, the second has no inverse."""
    A, tau = 0.3 * torch.randn(*shape, dtype=dtype), torch.randn(*shape[:-2], shape[-1], dtype=dtype)
    tau[..., 0] = 0
    tau[..., 1] = 1 / (1 + A[..., 2:, 1].abs().square().sum(-1))
    return A.requires_grad_(), tau.requires_grad_()


def one_by_one(u, tau=None):
    """Q [*, m, m] of the rows of u, as the product of its reflectors; with tau, u in LAPACK's convention."""
    m, r = u.shape[-1], u.shape[-2]
    identity = torch.eye(m, dtype=u.dtype)
    Q = identity.expand(*u.shape[:-2], m, m)
    if tau is not None:
        u = torch.triu(u, 1) + torch.eye(r, m, dtype=u.dtype)
    for i in range(r):
        v = u[..., i, :, None]
        scale = 2 / (v.mH @ v) if tau is None else tau[..., i, None, None]
        Q = Q @ (identity - scale * (v @ v.mH))
    return Q


def first_columns(A, tau):
    """The judge of householder_product."""
    return one_by_one(A[..., : tau.shape[-1]].mT, tau)[..., : A.shape[-1]]


def multiplied(A, tau, other, left, transpose):
    """The judge of ormqr."""
    Q = one_by_one(A[..., : tau.shape[-1]].mT, tau)
    Q = Q.mH if transpose else Q
    return Q @ other if left else other @ Q
