"""Differentiable products of reflectors, HOFT and SHOFT. Reflectors are rows: u [rank, features], of any length but not
all of them zero to be trained; a zero row is the identity. Tokens are rows as well: x [..., features].

Parameters (u, v, tau, s) are float for bfloat16, half and float activations, double for double; 16-bit ones are read as
float. Gradients are not differentiable a second time, and asking for that is an error.
"""

import torch
from torch.autograd.function import once_differentiable

from .extension import operators

# Where PyTorch compiles functions, these stay outside of what it compiles.
_uncompiled = torch.compiler.disable if hasattr(torch, "compiler") else lambda function: function


def master_dtype(dtype):
    """The type in which hoft computes with that storage type."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def _rows(x):
    """[..., features] as [tokens, features] with contiguous rows: without a copy where memory allows."""
    x = x.unsqueeze(0) if x.dim() == 1 else x.flatten(0, -2)
    apart = x.shape[0] <= 1 or x.stride(0) >= x.shape[1]
    return x if apart and (x.shape[1] <= 1 or x.stride(1) == 1) else x.contiguous()


def _tokens(function, x):
    if not (torch.is_tensor(x) and x.is_floating_point()):
        raise TypeError(f"{function}: x is {_kind(x)}, must be a tensor of floating-point numbers")
    if x.dim() == 0:
        raise ValueError(f"{function}: x has no dimension, must be [..., features]")
    return _rows(x)


def _parameter(function, name, value, dimensions, like, or_more=False):
    """`value` as the type that `like` is computed in. Only what loses nothing is converted."""
    if not torch.is_tensor(value):
        raise TypeError(f"{function}: {name} is {_kind(value)}, must be a tensor")
    if not (value.dim() == dimensions or or_more and value.dim() > dimensions):
        wanted = f"{dimensions}{' or more' * or_more}"
        raise ValueError(f"{function}: {name} has the shape {list(value.shape)}, must have {wanted} dimensions")
    if value.device != like.device:
        raise ValueError(f"{function}: {name} is on {value.device}, must be on {like.device}")
    wanted = master_dtype(like.dtype)
    if master_dtype(value.dtype) != wanted:
        raise TypeError(f"{function}: {name} holds {value.dtype}, must hold {wanted} beside {like.dtype}")
    return value.to(wanted).contiguous()


def _require_size(function, what, got, expected):
    if got != expected:
        raise ValueError(f"{function}: {what} is {got}, must be {expected}")


def _kind(value):
    return f"a tensor of {value.dtype}" if torch.is_tensor(value) else f"a {type(value).__name__}"


class _Householder(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, u, tau, adjoint, from_output):
        y = operators().householder_forward(x, u, tau, adjoint)
        ctx.save_for_backward(y if from_output else x, u, tau)
        ctx.adjoint, ctx.from_output = adjoint, from_output
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        known, u, tau = ctx.saved_tensors
        dx, du, dtau = operators().householder_backward(dy, known, u, tau, ctx.from_output, ctx.adjoint)
        return dx, du, None if tau is None else dtau, None, None


class BoundLayer:
    """What depends on weights alone: the forms of u, v and s, and K = M V T_V. Nobody writes to it once it is made.

    product(V̂): the product of M with every row of V̂ [rv, n], which it returns as [rv, m].
    """

    def __init__(self, u, v, s, product):
        # Made in inference mode, it could not be kept for a backward pass later.
        with torch.inference_mode(False), torch.no_grad():
            u, v, s = (a.clone() if a.is_inference() else a.detach() for a in (u, v, s))
            self.memory, directions = operators().begin_layer(u, v, s)
            self.sizes = [u.shape[1], v.shape[1], len(u), len(v), int(len(s) > 0)]
            operators().bind_layer(self.memory, self.sizes, product(directions))


def dense_product(weight):
    """For BoundLayer, of a matrix [m, n]. In the weight's own type, also where autocast is on."""

    def product(directions):
        with torch.autocast(weight.device.type, enabled=False):
            return torch.mm(directions.to(weight.dtype), weight.t())

    return product


def _through_layer(base_output, x, memory, sizes, keep_q, y):
    """y becomes the layer's output; what the backward pass needs beside it."""
    v = operators().project(x, memory, sizes)
    return v, *operators().adapt(base_output, v, memory, sizes, keep_q, y)


class Linear(torch.autograd.Function):
    """Rows x [t, n] through a bound layer of a dense weight, which torch multiplies. x is only read."""

    @staticmethod
    def forward(ctx, x, u, v, s, weight, layer, keep_q):
        y = torch.nn.functional.linear(x, weight)
        ctx.sizes = layer.sizes
        kept = _through_layer(y, x, layer.memory, layer.sizes, keep_q, y)
        ctx.save_for_backward(x, y, *kept, layer.memory, weight)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        x, y, v, w, q, memory, weight = ctx.saved_tensors
        dbase = torch.empty_like(y)
        dv, sums = operators().adapt_backward(_rows(dy), y, v, w, q, memory, ctx.sizes, dbase)
        with torch.autocast(weight.device.type, enabled=False):  # products in the weight's own type
            dx = torch.mm(dbase, weight) if ctx.needs_input_grad[0] else torch.empty_like(x)
            operators().project_backward(x, dv, memory, ctx.sizes, dx, sums)
            gradients = None, None, None
            if any(ctx.needs_input_grad[1:4]):
                gradients = operators().finish(memory, ctx.sizes, sums, weight)
        return dx, *gradients, None, None, None


class Adapted(torch.autograd.Function):
    """The output rows [t, m] of somebody else's base for the rows x [t, n], whose gradient with respect to x is left
    to the base. adjoint(dB): Mᵀ dB for every row of dB."""

    @staticmethod
    def forward(ctx, base_output, x, u, v, s, adjoint, layer, keep_q):
        y = torch.empty(base_output.shape, dtype=base_output.dtype, device=base_output.device)
        ctx.sizes, ctx.adjoint = layer.sizes, adjoint
        kept = _through_layer(base_output, x, layer.memory, layer.sizes, keep_q, y)
        ctx.save_for_backward(x, y, *kept, layer.memory)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        x, y, v, w, q, memory = ctx.saved_tensors
        dbase = torch.empty_like(y)
        dv, sums = operators().adapt_backward(_rows(dy), y, v, w, q, memory, ctx.sizes, dbase)
        dx = torch.zeros_like(x) if ctx.needs_input_grad[1] else torch.empty_like(x)
        operators().project_backward(x, dv, memory, ctx.sizes, dx, sums)
        gradients = None, None, None
        if any(ctx.needs_input_grad[2:5]):
            product = ctx.adjoint(operators().finish_product(memory, ctx.sizes, sums))
            gradients = operators().finish_given(memory, ctx.sizes, sums, product)
        return dbase, dx, *gradients, None, None, None


class _Merge(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight, u, v, s):
        forms = operators().accumulate(u, v)
        merged = torch.empty_like(weight, memory_format=torch.contiguous_format)
        operators().merge(forms, s, len(u), len(v), weight, merged)
        ctx.save_for_backward(forms, s, weight)
        ctx.ranks = len(u), len(v)
        return merged

    @staticmethod
    @once_differentiable
    def backward(ctx, dmerged):
        forms, s, weight = ctx.saved_tensors
        du, dv, ds = operators().merge_backward(forms, s, *ctx.ranks, weight, _rows(dmerged))
        return None, du, dv, ds


@_uncompiled
def householder_apply(x, u, tau=None, *, adjoint=False, from_output=False):
    """y = Q x for every token x [..., m], Q = H(u₁) ⋯ H(u_r) with H(u) = I − 2 u uᴴ/(uᴴu), u [r, m]; Qᴴ x if `adjoint`.

    A batch of products: u [*, r, m] and x [*, t, m], whose extents in front are broadcast. Complex x and u, of one
    type, are taken as well; rows of u are the vectors, not their conjugates.

    With tau [*, r], H_i = I − tau_i v_i v_iᴴ for the rows v_i of u as LAPACK's geqrf leaves them (columns of the input of
    torch.linalg.householder_product): zero before element i, one there; what u holds there is not read.

    from_output: keep y instead of x for the backward pass, where x is needed by nobody else. Not with tau.
    """
    name = "householder_apply"
    if not (torch.is_tensor(x) and (x.is_floating_point() or x.is_complex())):
        raise TypeError(f"{name}: x is {_kind(x)}, must be a tensor of real or complex numbers")
    if x.dim() == 0:
        raise ValueError(f"{name}: x has no dimension, must be [..., features]")
    u = _parameter(name, "u", u, 2, x, or_more=True)
    _require_size(name, "the number of features of u", u.shape[-1], x.shape[-1])
    if tau is not None:
        tau = _parameter(name, "tau", tau, u.dim() - 1, x)
        _require_size(name, "the length of tau", tau.shape[-1], u.shape[-2])
        if from_output:
            raise ValueError(f"{name}: from_output takes no tau: such a product need not be orthogonal")
    if u.dim() == 2:
        return _Householder.apply(_rows(x), u, tau, adjoint, from_output).reshape(x.shape)
    return _Householder.apply(*_broadcast(name, x, u, tau), adjoint, from_output)


def _broadcast(name, x, u, tau):
    """x [*, t, m], u [*, r, m] and tau [*, r] with the same extents in front."""
    if x.dim() < 2:
        raise ValueError(f"{name}: x has the shape {list(x.shape)}, must be [..., tokens, features] beside a batch of u")
    try:
        batch = torch.broadcast_shapes(x.shape[:-2], u.shape[:-2], tau.shape[:-1] if tau is not None else ())
    except RuntimeError:
        raise ValueError(
            f"{name}: the batch of x is {list(x.shape[:-2])}, which does not broadcast with {list(u.shape[:-2])} of u"
            + ("" if tau is None else f" and {list(tau.shape[:-1])} of tau")
        ) from None
    tau = tau if tau is None else tau.expand(*batch, -1)
    return x.expand(*batch, -1, -1), u.expand(*batch, -1, -1), tau


@_uncompiled
def shoft_linear(x, weight, u, v, s, bias=None, *, keep_q=True):
    """y = Q_U diag(s) M Q_V x + bias for every token x [..., n], with the frozen weight M [m, n], u [ru, m], v [rv, n],
    s [m]. Neither Q_U diag(s) M Q_V nor its gradient is formed.

    keep_q: save one [tokens, m] for the backward pass; without it that is recovered from y, which fails where s_i = 0.
    """
    return _linear("shoft_linear", x, weight, u, v, s, bias, keep_q)


@_uncompiled
def hoft_linear(x, weight, u, v, bias=None):
    """y = Q_U M Q_V x + bias: `shoft_linear` without s."""
    return _linear("hoft_linear", x, weight, u, v, None, bias, True)


def _linear(name, x, weight, u, v, s, bias, keep_q):
    rows = _tokens(name, x)
    _require_weight(name, weight)
    if weight.device != x.device or weight.dtype != x.dtype:
        raise TypeError(
            f"{name}: x is {x.dtype} on {x.device}, must be as the weight, {weight.dtype} on {weight.device}"
        )
    _require_size(name, "the number of features of x", x.shape[-1], weight.shape[1])
    u, v, s = _adapter(name, weight, u, v, s)
    layer = BoundLayer(u, v, s, dense_product(weight))
    return linear(x, rows, u, v, s, weight, layer, bias, keep_q)


def linear(x, rows, u, v, s, weight, layer, bias, keep_q=True):
    """x [..., n], whose tokens are the rows, through a bound layer of the weight."""
    keep_q = keep_q and torch.is_grad_enabled() and any(a.requires_grad for a in (x, u, v, s))
    with torch.autocast(x.device.type, enabled=False):  # x and weight have one type, which y has as well
        y = Linear.apply(rows, u, v, s, weight, layer, keep_q).reshape(*x.shape[:-1], len(weight))
    return y if bias is None else y + bias


@_uncompiled
def merge(weight, u, v, s=None):
    """Q_U diag(s) M Q_V for the frozen weight M [m, n], u [ru, m], v [rv, n] and s [m] (HOFT: none)."""
    _require_weight("merge", weight)
    return _Merge.apply(_rows(weight), *_adapter("merge", weight, u, v, s))


@_uncompiled
@torch.no_grad()
def unmerge(merged, u, v, s=None):
    """M from Q_U diag(s) M Q_V. Not differentiable."""
    _require_weight("unmerge", merged)
    u, v, s = _adapter("unmerge", merged, u, v, s)
    weight = merged.clone(memory_format=torch.contiguous_format)
    operators().unmerge(operators().accumulate(u, v), s, len(u), len(v), weight)
    return weight


def _adapter(name, weight, u, v, s):
    u = _parameter(name, "u", u, 2, weight)
    v = _parameter(name, "v", v, 2, weight)
    _require_size(name, "the number of features of u", u.shape[1], weight.shape[0])
    _require_size(name, "the number of features of v", v.shape[1], weight.shape[1])
    if s is None:
        return u, v, u.new_empty(0)
    s = _parameter(name, "s", s, 1, weight)
    _require_size(name, "the length of s", len(s), weight.shape[0])
    return u, v, s


def _require_weight(name, weight):
    if not (torch.is_tensor(weight) and weight.is_floating_point() and weight.dim() == 2):
        shape = f" of shape {list(weight.shape)}" if torch.is_tensor(weight) else ""
        raise TypeError(f"{name}: the weight is {_kind(weight)}{shape}, must be a matrix of floating-point numbers")
    if weight.requires_grad and torch.is_grad_enabled():
        raise ValueError(f"{name}: the weight requires a gradient, which is not computed: pass weight.detach()")


def paired_gaussian(rank, features, *, requires_grad=False, **options):
    """Reflectors u [rank, features] as Gaussian rows, each twice, so that their product is the identity. `options` as of
    torch.randn. The last row of an odd rank is zero, and never trains."""
    if rank < 0:
        raise ValueError(f"paired_gaussian: the rank is {rank}, must be at least 0")
    u = torch.randn((rank + 1) // 2, features, **options).repeat_interleave(2, 0)[:rank]
    if rank % 2:
        u[-1] = 0
    return u.contiguous().requires_grad_(requires_grad)
