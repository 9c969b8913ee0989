# SPDX-License-Identifier: BSD-3-Clause
"""Differentiable products of reflectors, HOFT and SHOFT. Reflectors are rows: u [rank, features], of any length but not
all of them zero to be trained; a zero row is the identity. Tokens are rows as well: x [..., features].

Parameters (u, v, tau, s) are float for bfloat16, half and float activations, double for double; 16-bit ones are read as
float. Gradients can be differentiated again, at the cost of the formulas in plain.py. So can forward-mode derivatives
and torch.func's; vmap calls the operators where nothing else is asked for.
"""

from typing import Any, Optional

import torch

from . import _operators, plain
from ._inputs import _autocast, _bias, _by_formula, _kind, _no_autocast, _parameter, _require_size, _rows, _tokens
from ._inputs import _as_under, _without_memory, a_type, autocast_dtype, is_compiling, is_seen_through, master_dtype
from ._layer import Adapted, BoundLayer, Linear, dense_product

Tensor = torch.Tensor

def householder_apply(
    x: Tensor, u: Tensor, tau: Optional[Tensor] = None, *, adjoint: bool = False, from_output: bool = False
) -> Tensor:
    """y = Q x for every token x [..., m], Q = H(u₁) ⋯ H(u_r) with H(u) = I − 2 u uᴴ/(uᴴu), u [r, m]; Qᴴ x if `adjoint`.

    A batch of products: u [*, r, m] and x [*, t, m], whose extents in front are broadcast. Complex x and u, of one
    type, are taken as well; rows of u are the vectors, not their conjugates.

    With tau [*, r], H_i = I − tau_i v_i v_iᴴ for the rows v_i of u as LAPACK's geqrf leaves them (columns of the input of
    torch.linalg.householder_product): zero before element i, one there; what u holds there is not read.

    from_output: keep y instead of x for the backward pass, where x is needed by nobody else. Not with tau.

    Raises:
        TypeError, ValueError: naming the argument of a wrong type, device or shape.

    Cost: 4 m r for a token, forward, and 10 m r backward; m r² in each.
    """
    name = "householder_apply"
    if not (torch.is_tensor(x) and (x.is_floating_point() or x.is_complex())):
        raise TypeError(f"{name}: x is {_kind(x)}, must be a tensor of floating-point or complex numbers")
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
        return _householder(_rows(x), u, tau, adjoint, from_output).reshape(x.shape)
    return _householder(*_broadcast(name, x, u, tau), adjoint, from_output)


def _householder(x, u, tau, adjoint, from_output):
    tensors = (x, u) if tau is None else (x, u, tau)
    if _by_formula(*tensors):
        return plain.householder(x, u, tau, adjoint)
    return _call(_operators.householder, tensors)(x, u, tau, adjoint, from_output)


def _call(operator, tensors):
    return operator if _without_memory(*tensors) else operator.eager


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


def shoft_linear(
    x: Tensor,
    weight: Tensor,
    u: Tensor,
    v: Tensor,
    s: Tensor,
    bias: Optional[Tensor] = None,
    *,
    keep_q: bool = True,
) -> Tensor:
    """y = Q_U diag(s) M Q_V x + bias for every token x [..., n], with the frozen weight M [m, n], u [ru, m], v [rv, n],
    s [m]. Neither Q_U diag(s) M Q_V nor its gradient is formed. Under autocast x and M are read in its type, as
    torch.nn.functional.linear does.

    keep_q: save one [tokens, m] for the backward pass; without it that is recovered from y, which fails where s_i = 0.

    Raises:
        TypeError, ValueError: naming the argument of a wrong type, device or shape, and a weight that requires a
            gradient, which is not computed.

    Cost: 2 m n + 4 m ru + 2 (m + n) rv for a token, forward, and 2 m n rv.
    """
    return _linear("shoft_linear", x, weight, u, v, s, bias, keep_q)


def hoft_linear(x: Tensor, weight: Tensor, u: Tensor, v: Tensor, bias: Optional[Tensor] = None) -> Tensor:
    """y = Q_U M Q_V x + bias: `shoft_linear` without s."""
    return _linear("hoft_linear", x, weight, u, v, None, bias, True)


def _linear(name, x, weight, u, v, s, bias, keep_q):
    _require_weight(name, weight)
    rows = _tokens(name, x)
    rows, weight = _autocast(rows, weight)
    if weight.device != x.device or weight.dtype != rows.dtype:
        raise TypeError(
            f"{name}: x is {x.dtype} on {x.device}, must be as the weight, {weight.dtype} on {weight.device}"
        )
    _require_size(name, "the number of features of x", x.shape[-1], weight.shape[1])
    u, v, s = _adapter(name, weight, u, v, s)
    bias = _bias(name, bias, weight.shape[0])
    tensors = rows, weight, u, v, s
    if is_seen_through(*tensors, bias):
        y = plain.linear(*tensors) if _by_formula(*tensors, bias) else _linear_without_memory(*tensors, keep_q)
    else:
        return linear(x, rows, u, v, s, weight, BoundLayer(u, v, s, dense_product(weight)), bias, keep_q)
    y = y.reshape(*x.shape[:-1], weight.shape[0])
    return y if bias is None else y + bias.to(y.dtype)


def _linear_without_memory(rows, weight, u, v, s, keep_q):
    with _no_autocast(rows.device):
        base_output = torch.nn.functional.linear(rows, weight)
        product = torch.nn.functional.linear(plain.directions(v).to(weight.dtype), weight).to(u.dtype)
    return _adapted(base_output, rows, u, v, s, product, keep_q)


def linear(x, rows, u, v, s, weight, layer, bias, keep_q=True):
    """x [..., n], whose tokens are the rows, through a bound layer of the weight."""
    y = Linear.apply(rows, u, v, s, bias, weight, layer, keep_q and _has_gradient(rows, u, v, s))
    return y.reshape(*x.shape[:-1], len(weight))


def _has_gradient(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(a.requires_grad for a in tensors)


def directions(v: Tensor) -> Tensor:
    """The normalised rows of v [rv, n], with gradients: what the base of `adapted` is called with. Rows of zeros stay."""
    return plain.directions(v)


def adapted(
    base_output: Tensor,
    x: Tensor,
    u: Tensor,
    v: Tensor,
    s: Optional[Tensor],
    product: Tensor,
    *,
    keep_q: bool = True,
) -> Tensor:
    """y [..., m] = Q_U diag(s) M Q_V x from base_output [..., m] = M x, of any base, for x [..., n].

    product: [rv, m], the same base's product with every row of `directions(v)`. The gradients of base_output and of
    product are for the base's own backward pass, so that nothing but tensors passes through here, and compilers can
    see all of it.
    s: [m]; None for HOFT. keep_q: as of `shoft_linear`.

    Raises:
        TypeError, ValueError: naming the argument of a wrong type, device or shape.

    Cost: 4 m ru + 2 (m + n) rv for a token, forward; (m + n) (ru² + rv²) in each pass.
    """
    name = "adapted"
    rows, base_rows = _tokens(name, x), _tokens(name, base_output, "base_output")
    if rows.dtype != base_rows.dtype and autocast_dtype(x.device) is not None:
        rows = rows.to(base_rows.dtype)
    if rows.dtype != base_rows.dtype or x.device != base_output.device:
        raise TypeError(
            f"{name}: x is {x.dtype} on {x.device}, must be as base_output, {base_output.dtype} on {base_output.device}"
        )
    _require_size(name, "the number of tokens of x", rows.shape[0], base_rows.shape[0])
    u = _parameter(name, "u", u, 2, base_rows)
    v = _parameter(name, "v", v, 2, base_rows)
    _require_size(name, "the number of features of u", u.shape[1], base_rows.shape[1])
    _require_size(name, "the number of features of v", v.shape[1], rows.shape[1])
    s = u.new_empty(0) if s is None else _parameter(name, "s", s, 1, base_rows)
    if s.shape[0] > 0:
        _require_size(name, "the length of s", s.shape[0], u.shape[1])
    product = _parameter(name, "product", product, 2, base_rows)
    _require_size(name, "the number of rows of product", product.shape[0], v.shape[0])
    _require_size(name, "the number of features of product", product.shape[1], u.shape[1])
    tensors = base_rows, rows, u, v, s, product
    if _by_formula(*tensors):
        y = plain.adapted(*tensors)
    else:
        y = _adapted(*tensors, keep_q)
    return y.reshape(base_output.shape)


def _adapted(base_output, x, u, v, s, product, keep_q):
    keep_q = keep_q and _has_gradient(base_output, x, u, v, s, product)
    tensors = base_output, x, u, v, s, product
    return _call(_operators.adapted, tensors)(*tensors, keep_q)[0]


def merge(weight: Tensor, u: Tensor, v: Tensor, s: Optional[Tensor] = None) -> Tensor:
    """Q_U diag(s) M Q_V [m, n] for the frozen weight M [m, n], u [ru, m], v [rv, n] and s [m] (HOFT: none)."""
    _require_weight("merge", weight)
    tensors = _rows(weight), *_adapter("merge", weight, u, v, s)
    if _by_formula(*tensors):
        return plain.merged(*tensors)
    return _call(_operators.merged, tensors)(*tensors)


@torch.no_grad()
def unmerge(merged: Tensor, u: Tensor, v: Tensor, s: Optional[Tensor] = None) -> Tensor:
    """M from Q_U diag(s) M Q_V. Not differentiable."""
    _require_weight("unmerge", merged)
    tensors = _rows(merged), *_adapter("unmerge", merged, u, v, s)
    return _call(_operators.unmerged, tensors)(*tensors)


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


def paired_gaussian(rank: int, features: int, *, requires_grad: bool = False, **options: Any) -> Tensor:
    """Reflectors u [rank, features] as Gaussian rows, each twice, so that their product is the identity. `options` as of
    torch.randn. The last row of an odd rank is zero, and never trains. In C++ paired_gaussian<T>(m, r, seed) has the
    number of features first, since reflectors are columns there."""
    if rank < 0:
        raise ValueError(f"paired_gaussian: the rank is {rank}, must be at least 0")
    u = torch.randn((rank + 1) // 2, 1, features, **options).expand(-1, 2, -1).flatten(0, 1)[:rank]
    if rank % 2:
        u[-1] = 0
    return u.contiguous().requires_grad_(requires_grad)
