# SPDX-License-Identifier: BSD-3-Clause
"""The compiled operators that change no argument, each with the shapes it gives and with its gradients: by another
operator, or by its formula (plain.py) where these are to be differentiated again.

An empty tensor stands for an s that is not given.
"""

from typing import Any, Optional, Tuple

import torch

from . import _extension, plain
from ._derivative import derivative
from ._register import Operator

Tensor = torch.Tensor
Gradients = Tuple[Optional[Tensor], ...]

compiled = _extension.load()


def _empty_rows(like: Tensor) -> Tensor:
    return torch.empty_like(like, memory_format=torch.contiguous_format)


def _save_householder(ctx: Any, inputs: Tuple[Any, ...], y: Tensor) -> None:
    x, u, tau, ctx.adjoint, ctx.from_output = inputs
    ctx.save_for_backward(y if ctx.from_output else x, u, tau)


def _backward_householder(ctx: Any, dy: Tensor) -> Gradients:
    known, u, tau = ctx.saved_tensors
    if torch.is_grad_enabled():
        x = plain.householder(known, u, None, not ctx.adjoint) if ctx.from_output else known
        formula = lambda x, u, *tau: plain.householder(x, u, *(tau or (None,)), ctx.adjoint)
        inputs = (x, u) if tau is None else (x, u, tau)
        found = derivative(formula, inputs, ctx.needs_input_grad[: len(inputs)], dy)
        return (*found, *(5 - len(found)) * (None,))
    dx, du, dtau = householder_backward(dy, known, u, tau, ctx.from_output, ctx.adjoint)
    return dx, du, None if tau is None else dtau, None, None


def _save_adapted(ctx: Any, inputs: Tuple[Any, ...], outputs: Tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*outputs, *inputs[1:6])
    ctx.mark_non_differentiable(*outputs[1:])


def _backward_adapted(ctx: Any, dy: Tensor, *_: Optional[Tensor]) -> Gradients:
    y, projected, w, q, x, u, v, s, product = ctx.saved_tensors
    if torch.is_grad_enabled():
        base = base_output_again(y, x, u, v, s, product)
        return (*derivative(plain.adapted, (base, x, u, v, s, product), ctx.needs_input_grad[:6], dy), None)
    return (*adapted_backward(dy, y, projected, w, q, x, u, v, s, product), None)


def base_output_again(y: Tensor, x: Tensor, u: Tensor, v: Tensor, s: Tensor, product: Tensor) -> Tensor:
    """What a base that is somebody else's gave, from what was made of it; it is not kept for second derivatives."""
    if bool((s == 0).any()):
        raise RuntimeError(
            "shoft: an element of s is 0, where second derivatives of a layer around a base that is called as a module"
            " are not computed: pass the weight to shoft_linear"
        )
    return plain.base_output(y, x, u, v, s, product)


def _save_merged(ctx: Any, inputs: Tuple[Any, ...], merged: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward_merged(ctx: Any, dmerged: Tensor) -> Gradients:
    weight, u, v, s = ctx.saved_tensors
    if torch.is_grad_enabled():
        return derivative(plain.merged, (weight, u, v, s), ctx.needs_input_grad, dmerged)
    return (None, *merged_backward(dmerged, weight, u, v, s))


def _fake_adapted(
    base_output: Tensor, x: Tensor, u: Tensor, v: Tensor, s: Tensor, product: Tensor, keep_q: bool
) -> Tuple[Tensor, ...]:
    t, m = base_output.shape
    q = base_output.new_empty(t, m) if keep_q and s.shape[0] > 0 else base_output.new_empty(0)
    return _empty_rows(base_output), u.new_empty(t, v.shape[0]), u.new_empty(t, u.shape[0]), q


householder = Operator(
    "householder",
    fake=lambda x, u, tau, adjoint, from_output: _empty_rows(x),
    save=_save_householder,
    backward=_backward_householder,
    tokens=(0,),
    batches=True,
)
householder_backward = Operator(
    "householder_backward",
    fake=lambda dy, known, u, tau, from_output, adjoint: (
        _empty_rows(known),
        _empty_rows(u),
        u.new_empty(0) if tau is None else _empty_rows(tau),
    ),
    batches=True,
)
adapted = Operator(
    "adapted", _fake_adapted, save=_save_adapted, backward=_backward_adapted, tokens=(0, 1), joined=(0, 1, 2, 3)
)
adapted_backward = Operator(
    "adapted_backward",
    fake=lambda dy, y, projected, w, q, x, u, v, s, product: tuple(map(_empty_rows, (y, x, u, v, s, product))),
)
merged = Operator(
    "merged", fake=lambda weight, u, v, s: _empty_rows(weight), save=_save_merged, backward=_backward_merged
)
merged_backward = Operator(
    "merged_backward", fake=lambda dmerged, weight, u, v, s: tuple(map(_empty_rows, (u, v, s)))
)
unmerged = Operator("unmerged", fake=lambda merged, u, v, s: _empty_rows(merged))
