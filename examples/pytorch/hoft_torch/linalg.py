# SPDX-License-Identifier: BSD-3-Clause
"""torch.linalg.householder_product and torch.ormqr by hoft: the same arguments, conventions and checks, with gradients
by products of matrices, which exist for every tau. float, double and their complex types.

PyTorch's backward pass inverts one reflector after another, in matrices [m, m], and is undefined for reflectors that have
no inverse. Here batches are one call, whose threads share the problems, or each problem where there are few.
"""

import torch

from . import plain
from ._derivative import derivative
from ._register import Operator
from .functional import _by_formula, _kind, _without_memory

_TYPES = (torch.float32, torch.float64, torch.complex64, torch.complex128)


def householder_product(A, tau, *, out=None):
    """The first n columns of H₁ ⋯ H_k, H_i = I − tau_i v_i v_iᴴ: torch.linalg.householder_product.

    A [*, m, n], m >= n, holds v_i below the diagonal of its column i, as torch.geqrf leaves it: v_i is zero before
    element i and one there. tau [*, k], k <= n, of A's type. Returns [*, m, n].

    Gradients with respect to A (below its diagonal, elsewhere zero) and tau, for every tau; twice, through the formula
    in PyTorch's own operations. Without a gradient to come nothing is saved; else A, tau, the result and [*, k, n].

    Cost: about 4 k (m n − k (m + n) / 2 + k² / 3) flops, backward about three times that. TypeError and ValueError as
    PyTorch's errors: types and devices differ, m < n, n < k, extents in front differ.
    """
    name = "householder_product"
    _require(name, A, tau)
    if A.shape[-2] < A.shape[-1]:
        raise ValueError(f"{name}: A has the shape {list(A.shape)}, must have at least as many rows as columns")
    return _into(name, out, (A, tau), _reflected(_product, plain.householder_product, (A, tau)))


def ormqr(input, tau, other, left=True, transpose=False, *, out=None):
    """Q other, Qᴴ other (`transpose`), other Q or other Qᴴ (not `left`) for the whole Q [mn, mn] = H₁ ⋯ H_k of
    `householder_product`, which is not formed: torch.ormqr.

    input [*, mn, n] and tau [*, k], k <= min(mn, n), hold the reflectors, other [*, m, n] is multiplied; mn is its m
    from the left, its n from the right. Returns the shape of other. Gradients as of `householder_product`, and for
    other. Cost: 4 k (mn − k / 2) flops for each column of other (from the right: row), backward two and a half times
    that. TypeError and ValueError as PyTorch's errors.
    """
    name = "ormqr"
    _require(name, input, tau, argument="input")
    _require_like(name, "other", other, "input", input)
    if other.dim() != input.dim() or other.shape[:-2] != input.shape[:-2]:
        raise ValueError(
            f"{name}: other has the shape {list(other.shape)}, must have {list(input.shape[:-2])} in front of its last two"
        )
    side = -2 if left else -1
    if other.shape[side] != input.shape[-2]:
        raise ValueError(f"{name}: other.shape[{side}] is {other.shape[side]}, must be {input.shape[-2]}, the rows of input")
    # X Q = (Qᴴ Xᴴ)ᴴ
    inputs, adjoint = (input, tau, other if left else other.mH), bool(transpose) == bool(left)
    Y = _reflected(_ormqr, plain.ormqr, inputs, adjoint)
    return _into(name, out, inputs, Y if left else Y.mH)


def _reflected(operator, formula, inputs, *options):
    if _by_formula(*inputs):
        return formula(*inputs, *options)
    _without_memory(*inputs)  # refuses what this PyTorch cannot do
    keep = torch.is_grad_enabled() and any(a.requires_grad for a in inputs)
    return operator(*inputs, *options, keep)[0]


def _require(name, A, tau, argument="A"):
    if not torch.is_tensor(A) or A.dtype not in _TYPES:
        raise TypeError(f"{name}: {argument} is {_kind(A)}, must be a tensor of float, double or their complex types")
    if A.dim() < 2:
        raise ValueError(f"{name}: {argument} has the shape {list(A.shape)}, must have at least 2 dimensions")
    _require_like(name, "tau", tau, argument, A)
    if tau.dim() != A.dim() - 1 or tau.shape[:-1] != A.shape[:-2]:
        wanted = ", ".join([str(extent) for extent in A.shape[:-2]] + ["k"])
        raise ValueError(f"{name}: tau has the shape {list(tau.shape)}, must have [{wanted}] beside {list(A.shape)}")
    if tau.shape[-1] > min(A.shape[-2:]):
        raise ValueError(f"{name}: tau has {tau.shape[-1]} elements, must have at most {min(A.shape[-2:])}")


def _require_like(name, what, a, argument, A):
    if not torch.is_tensor(a):
        raise TypeError(f"{name}: {what} is {_kind(a)}, must be a tensor")
    if a.dtype != A.dtype:
        raise TypeError(f"{name}: {what} holds {a.dtype}, must hold {A.dtype}, as {argument}")
    if a.device != A.device:
        raise ValueError(f"{name}: {what} is on {a.device}, must be on {A.device}, as {argument}")


def _into(name, out, inputs, result):
    """The result, written to `out` if that is given."""
    if out is None:
        return result
    if torch.is_grad_enabled() and any(a.requires_grad for a in (*inputs, out)):
        raise RuntimeError(f"{name}: out is not differentiable, but an argument requires a gradient")
    if out.dtype != result.dtype or out.device != result.device:
        raise TypeError(f"{name}: out is {out.dtype} on {out.device}, must be {result.dtype} on {result.device}")
    if out.shape != result.shape and out.numel() > 0:
        raise ValueError(f"{name}: out has the shape {list(out.shape)}, must have {list(result.shape)}, or no element")
    return out.resize_(result.shape).copy_(result)


def _new_columns(A, *extents):
    """Without memory; column-major, as hoft and PyTorch give matrices of reflectors."""
    *front, m, n = extents
    return A.new_empty(*front, n, m).transpose(-1, -2)


def _projections(A, tau, columns, keep):
    return A.new_empty(*A.shape[:-2], columns, tau.shape[-1]) if keep else A.new_empty(0)


def _save(ctx, inputs, outputs):
    ctx.save_for_backward(*outputs, *(a for a in inputs if torch.is_tensor(a)))
    ctx.mark_non_differentiable(outputs[1])
    ctx.adjoint = len(inputs) > 3 and inputs[3]


def _backward_product(ctx, dQ, _):
    Q, W, A, tau = ctx.saved_tensors
    if torch.is_grad_enabled():  # what comes out is to be differentiated
        return (*derivative(plain.householder_product, (A, tau), ctx.needs_input_grad[:2], dQ), None)
    return (*_product_backward(dQ, Q, W, A, tau), None)


def _backward_ormqr(ctx, dY, _):
    Y, W, A, tau, other = ctx.saved_tensors
    if torch.is_grad_enabled():
        formula = lambda A, tau, other: plain.ormqr(A, tau, other, ctx.adjoint)
        return (*derivative(formula, (A, tau, other), ctx.needs_input_grad[:3], dY), None, None)
    return (*_ormqr_backward(dY, Y, W, A, tau, ctx.adjoint), None, None)


_product = Operator(
    "householder_product",
    fake=lambda A, tau, keep: (_new_columns(A, *A.shape), _projections(A, tau, A.shape[-1], keep)),
    save=_save,
    backward=_backward_product,
    batches=True,
)
_product_backward = Operator(
    "householder_product_backward",
    fake=lambda dQ, Q, W, A, tau: (_new_columns(A, *A.shape), torch.empty_like(tau, memory_format=torch.contiguous_format)),
    batches=True,
)
_ormqr = Operator(
    "ormqr",
    fake=lambda A, tau, other, adjoint, keep: (
        _new_columns(other, *other.shape),
        _projections(A, tau, other.shape[-1], keep),
    ),
    save=_save,
    backward=_backward_ormqr,
    batches=True,
)
_ormqr_backward = Operator(
    "ormqr_backward",
    fake=lambda dY, Y, W, A, tau, adjoint: (
        _new_columns(A, *A.shape),
        torch.empty_like(tau, memory_format=torch.contiguous_format),
        _new_columns(Y, *Y.shape),
    ),
    batches=True,
)
