# SPDX-License-Identifier: BSD-3-Clause
"""Bound layers: what depends on weights alone, kept between calls, and autograd's functions through them."""

from typing import Any, Optional, Tuple

import torch

from . import _operators, plain
from ._derivative import derivative
from ._inputs import _no_autocast, _rows, master_dtype
from ._operators import compiled
from ._register import transforms

Tensor = torch.Tensor


class BoundLayer:
    """What depends on weights alone: the forms of u, v and s, and K = M V T_V. Nobody writes to it once it is made.

    product(V̂): the product of M with every row of V̂ [rv, n], which it returns as [rv, m].
    """

    def __init__(self, u, v, s, product):
        # Made in inference mode, it could not be kept for a backward pass later.
        with torch.inference_mode(False), torch.no_grad():
            u, v, s = (a.clone() if a.is_inference() else a.detach() for a in (u, v, s))
            self.memory, directions = compiled.begin_layer(u, v, s)
            self.sizes = [u.shape[1], v.shape[1], len(u), len(v), int(len(s) > 0)]
            compiled.bind_layer(self.memory, self.sizes, product(directions))
            self.product = product


def dense_product(weight):
    """For BoundLayer, of a matrix [m, n]. In the weight's own type, also where autocast is on."""

    def product(directions):
        with _no_autocast(weight.device):
            return torch.mm(directions.to(weight.dtype), weight.t())

    return product


class _Parameters:
    """u, v, s and the bias of a forward pass, for second derivatives alone: first ones come from what is kept, and may be
    taken after an optimiser has changed these."""

    def __init__(self, *tensors: Optional[Tensor]):
        self.tensors, self.versions = tensors, self._versions(tensors)

    @staticmethod
    def _versions(tensors):
        return [a._version for a in tensors if a is not None and not a.is_inference()]

    def unchanged(self) -> Tuple[Optional[Tensor], ...]:
        if self.versions != self._versions(self.tensors):
            raise RuntimeError(
                "hoft: u, v, s or the bias was changed in place after the forward pass: no second derivatives"
            )
        return self.tensors


def _saved(ctx: Any) -> Tuple[Tensor, ...]:
    """What the forward pass saved; where that was changed, an error that says how to go on."""
    try:
        return ctx.saved_tensors
    except RuntimeError as error:
        if "modified by an inplace operation" not in str(error):
            raise
        raise RuntimeError(
            "hoft: the input of a layer, or its output, was changed in place before the backward pass, which reads it (or its"
            " weight was): change a copy (ReLU(inplace=False)), or let the layer give one away,"
            " layer.register_forward_hook(lambda layer, inputs, output: output.clone())"
        ) from error


def _kept_bias(bias):
    """For the backward pass. A copy, since an optimiser, or who unfreezes it, may change it before."""
    return None if bias is None else bias.detach().clone()


def _dbias(dy, dtype):
    return dy.sum(0, dtype=master_dtype(dy.dtype)).to(dtype)


def _dtype_of(bias):
    return None if bias is None else bias.dtype


def _plus(y, bias):
    return y if bias is None else y + bias.to(y.dtype)


class Linear(torch.autograd.Function):
    """Rows x [t, n] through a bound layer of a dense weight, which torch multiplies, and a bias or None. x is only read."""

    @staticmethod
    def forward(ctx, x, u, v, s, bias, weight, layer, keep_q):
        y, *kept = compiled.bound_linear(x, weight, bias, layer.memory, layer.sizes, keep_q)
        ctx.sizes, ctx.parameters, ctx.bias_dtype = layer.sizes, _Parameters(u, v, s, bias), _dtype_of(bias)
        # An output that is not read is not kept, so that it may be changed in place.
        read = any(ctx.needs_input_grad[1:4]) and (len(u) > 0 or len(s) > 0 and not keep_q)
        ctx.save_for_backward(y if read else None, *kept, x, weight, _kept_bias(bias) if read else None, layer.memory)
        return y

    @staticmethod
    def backward(ctx, dy):
        y, *kept, x, weight, bias, memory = _saved(ctx)
        wanted = ctx.needs_input_grad[:5]
        if torch.is_grad_enabled() or transforms() != "none":
            inputs = (x, *ctx.parameters.unchanged())
            formula = lambda x, u, v, s, bias: _plus(plain.linear(x, weight, u, v, s), bias)
            return (*derivative(formula, inputs, wanted, dy), None, None, None)
        parameters = any(wanted[1:4])
        y = _rows(dy) if y is None else y
        found = compiled.bound_linear_backward(dy, y, *kept, x, weight, bias, memory, ctx.sizes, wanted[0], parameters)
        found = (a if want else None for a, want in zip(found, (wanted[0], *3 * (parameters,))))
        return (*found, _dbias(dy, ctx.bias_dtype) if wanted[4] else None, None, None, None)


class _Product(torch.autograd.Function):
    """A linear map of rows given as a call, and its transpose for the gradient, in turn for gradients of that."""

    @staticmethod
    def forward(ctx, rows, product, adjoint):
        ctx.calls = adjoint, product
        return product(rows).to(rows.dtype)

    @staticmethod
    def backward(ctx, gradient):
        return _Product.apply(gradient, *ctx.calls), None, None


class Adapted(torch.autograd.Function):
    """The output rows [t, m] of somebody else's base for the rows x [t, n], adapted, and a bias or None. The gradient of
    the base's output with respect to x is left to the base. adjoint(dB): Mᵀ dB for every row of dB."""

    @staticmethod
    def forward(ctx, base_output, x, u, v, s, bias, adjoint, layer, keep_q):
        y = torch.empty(base_output.shape, dtype=base_output.dtype, device=base_output.device)
        ctx.sizes, ctx.parameters, ctx.bias_dtype = layer.sizes, _Parameters(u, v, s, bias), _dtype_of(bias)
        ctx.product, ctx.adjoint = layer.product, adjoint
        projected = compiled.project(x, layer.memory, layer.sizes)
        kept = compiled.adapt(base_output, projected, bias, layer.memory, layer.sizes, keep_q, y)
        ctx.save_for_backward(x, y, projected, *kept, _kept_bias(bias), layer.memory)
        return y

    @staticmethod
    def backward(ctx, dy):
        x, y, v, w, q, bias, memory = _saved(ctx)
        if torch.is_grad_enabled() or transforms() != "none":
            return (*Adapted._derivative(ctx, x, y, dy), None, None, None)
        dbase, read = torch.empty_like(y), bias if any(ctx.needs_input_grad[2:5]) else None
        dv, sums = compiled.adapt_backward(_rows(dy), y, v, w, q, read, memory, ctx.sizes, dbase)
        dx = torch.zeros_like(x) if ctx.needs_input_grad[1] else torch.empty_like(x)
        compiled.project_backward(x, dv, memory, ctx.sizes, dx, sums)
        gradients = None, None, None
        if any(ctx.needs_input_grad[2:5]):
            product = ctx.adjoint(compiled.finish_product(memory, ctx.sizes, sums))
            gradients = compiled.finish_given(memory, ctx.sizes, sums, product)
        return dbase, dx, *gradients, _dbias(dy, ctx.bias_dtype) if ctx.needs_input_grad[5] else None, None, None, None

    @staticmethod
    def _derivative(ctx, x, y, dy):
        multiply = lambda v: _Product.apply(plain.directions(v), ctx.product, ctx.adjoint)
        formula = lambda base, x, u, v, s, bias: _plus(plain.adapted(base, x, u, v, s, multiply(v)), bias)
        u, v, s, bias = ctx.parameters.unchanged()
        without = y if bias is None else y - bias.to(y.dtype)
        base = _operators.base_output_again(without, x, u, v, s, multiply(v))
        return derivative(formula, (base, x, u, v, s, bias), ctx.needs_input_grad[:6], dy)
