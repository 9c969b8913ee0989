"""Differentiable products of reflectors, HOFT and SHOFT. Reflectors are rows: u [rank, features], of any length but not
all of them zero to be trained; a zero row is the identity. Tokens are rows as well: x [..., features].

Parameters (u, v, tau, s) are float for bfloat16, half and float activations, double for double; 16-bit ones are read as
float. Gradients can be differentiated again, at the cost of the formulas in plain.py. So can forward-mode derivatives
and torch.func's; vmap calls the operators where nothing else is asked for.
"""

import contextlib
from typing import Any, ContextManager, Optional, Tuple

import torch

from . import _operators, plain
from ._operators import compiled
from ._register import HAS_LIBRARY, derivative, transforms

Tensor = torch.Tensor

def _compiling() -> bool:
    """Whether the program is being written down rather than run."""
    return hasattr(torch, "compiler") and hasattr(torch.compiler, "is_compiling") and torch.compiler.is_compiling()


def _by_formula(*tensors: Tensor) -> bool:
    """Whether something is asked for that the operators do not offer: forward-mode derivatives, torch.func's
    transforms other than vmap, the operators of ONNX."""
    if torch.onnx.is_in_onnx_export():
        return True
    if _compiling():
        return False
    if transforms() == "others":
        return True
    forward = torch.autograd.forward_ad
    return forward._current_level >= 0 and any(forward.unpack_dual(a).tangent is not None for a in tensors)


def _without_memory(*tensors: Tensor) -> bool:
    """Whether operators must change no argument: a compiler looks on, vmap does, or elements are not there."""
    if _compiling():
        return True
    if any(a.is_meta or hasattr(a, "fake_mode") for a in tensors):
        if not HAS_LIBRARY:
            raise RuntimeError(f"hoft: tensors without memory take PyTorch 2.4 or newer, this is {torch.__version__}")
        return True
    return transforms() == "vmap"


def is_seen_through(*tensors: Tensor) -> bool:
    """Whether a compiler, an exporter or a transform follows what becomes of the tensors, so that calls can neither keep
    anything nor hide a call of their own in a backward pass."""
    return _by_formula(*tensors) or _without_memory(*tensors)


def autocast_dtype(device: torch.device) -> Optional[torch.dtype]:
    """The type in which autocast takes products on that device; None where it is off."""
    if device.type == "meta":
        return None
    if HAS_LIBRARY:
        return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
    if device.type == "cpu":
        return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None
    return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else None


def _no_autocast(device: torch.device) -> ContextManager:
    return contextlib.nullcontext() if autocast_dtype(device) is None else torch.autocast(device.type, enabled=False)


def _autocast(*tensors: Tensor) -> Tuple[Tensor, ...]:
    """The tensors as torch.nn.functional.linear takes them: in autocast's type where that is on, but for double."""
    wanted = autocast_dtype(tensors[0].device)
    cast = lambda a: a.to(wanted) if a.is_floating_point() and a.dtype != torch.float64 else a
    return tensors if wanted is None else tuple(map(cast, tensors))


def master_dtype(dtype):
    """The type in which hoft computes with that storage type."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def _rows(x):
    """[..., features] as [tokens, features] with contiguous rows: without a copy where memory allows."""
    x = x.unsqueeze(0) if x.dim() == 1 else x.flatten(0, -2)
    apart = x.shape[0] <= 1 or x.stride(0) >= x.shape[1]
    return x if apart and (x.shape[1] <= 1 or x.stride(1) == 1) else x.contiguous()


def _tokens(function, x, name="x"):
    if not (torch.is_tensor(x) and x.is_floating_point()):
        raise TypeError(f"{function}: {name} is {_kind(x)}, must be a tensor of floating-point numbers")
    if x.dim() == 0:
        raise ValueError(f"{function}: {name} has no dimension, must be [..., features]")
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


def _through_layer(base_output, x, memory, sizes, keep_q, y):
    """y becomes the layer's output; what the backward pass needs beside it."""
    v = compiled.project(x, memory, sizes)
    return v, *compiled.adapt(base_output, v, memory, sizes, keep_q, y)


class _Parameters:
    """u, v and s of a forward pass, for second derivatives alone: first ones come from the bound layer, and may be taken
    after an optimiser has changed these."""

    def __init__(self, *tensors: Tensor):
        self.tensors, self.versions = tensors, [a._version for a in tensors if not a.is_inference()]

    def unchanged(self) -> Tuple[Tensor, ...]:
        if self.versions != [a._version for a in self.tensors if not a.is_inference()]:
            raise RuntimeError("hoft: u, v or s was changed in place after the forward pass: no second derivatives")
        return self.tensors


def _saved(ctx: Any) -> Tuple[Tensor, ...]:
    """What the forward pass saved; where that was changed, an error that says how to go on."""
    try:
        return ctx.saved_tensors
    except RuntimeError as error:
        if "modified by an inplace operation" not in str(error):
            raise
        raise RuntimeError(
            "hoft: the input of a layer, or its output where it has no bias, was changed in place before the backward pass,"
            " which reads it: change a copy (ReLU(inplace=False)), or give the layer a bias, which copies its output"
        ) from error


class Linear(torch.autograd.Function):
    """Rows x [t, n] through a bound layer of a dense weight, which torch multiplies. x is only read."""

    @staticmethod
    def forward(ctx, x, u, v, s, weight, layer, keep_q):
        y, *kept = compiled.bound_linear(x, weight, layer.memory, layer.sizes, keep_q)
        ctx.sizes, ctx.parameters = layer.sizes, _Parameters(u, v, s)
        ctx.save_for_backward(y, *kept, x, weight, layer.memory)
        return y

    @staticmethod
    def backward(ctx, dy):
        *kept, x, weight, memory = _saved(ctx)
        if torch.is_grad_enabled() or transforms() != "none":
            inputs = (x, *ctx.parameters.unchanged())
            formula = lambda x, u, v, s: plain.linear(x, weight, u, v, s)
            return (*derivative(formula, inputs, ctx.needs_input_grad[:4], dy), None, None, None)
        want_dx, want_parameters = ctx.needs_input_grad[0], any(ctx.needs_input_grad[1:4])
        found = compiled.bound_linear_backward(dy, *kept, x, weight, memory, ctx.sizes, want_dx, want_parameters)
        wanted = (want_dx, *3 * (want_parameters,))
        return (*(a if want else None for a, want in zip(found, wanted)), None, None, None)


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
    """The output rows [t, m] of somebody else's base for the rows x [t, n], whose gradient with respect to x is left
    to the base. adjoint(dB): Mᵀ dB for every row of dB."""

    @staticmethod
    def forward(ctx, base_output, x, u, v, s, adjoint, layer, keep_q):
        y = torch.empty(base_output.shape, dtype=base_output.dtype, device=base_output.device)
        ctx.sizes, ctx.parameters, ctx.product, ctx.adjoint = layer.sizes, _Parameters(u, v, s), layer.product, adjoint
        kept = _through_layer(base_output, x, layer.memory, layer.sizes, keep_q, y)
        ctx.save_for_backward(x, y, *kept, layer.memory)
        return y

    @staticmethod
    def backward(ctx, dy):
        x, y, v, w, q, memory = _saved(ctx)
        if torch.is_grad_enabled() or transforms() != "none":
            return (*Adapted._derivative(ctx, x, y, dy), None, None, None)
        dbase = torch.empty_like(y)
        dv, sums = compiled.adapt_backward(_rows(dy), y, v, w, q, memory, ctx.sizes, dbase)
        dx = torch.zeros_like(x) if ctx.needs_input_grad[1] else torch.empty_like(x)
        compiled.project_backward(x, dv, memory, ctx.sizes, dx, sums)
        gradients = None, None, None
        if any(ctx.needs_input_grad[2:5]):
            product = ctx.adjoint(compiled.finish_product(memory, ctx.sizes, sums))
            gradients = compiled.finish_given(memory, ctx.sizes, sums, product)
        return dbase, dx, *gradients, None, None, None

    @staticmethod
    def _derivative(ctx, x, y, dy):
        multiply = lambda v: _Product.apply(plain.directions(v), ctx.product, ctx.adjoint)
        formula = lambda base, x, u, v, s: plain.adapted(base, x, u, v, s, multiply(v))
        u, v, s = ctx.parameters.unchanged()
        base = _operators.base_output_again(y, x, u, v, s, multiply(v))
        return derivative(formula, (base, x, u, v, s), ctx.needs_input_grad[:5], dy)


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
        return _householder(_rows(x), u, tau, adjoint, from_output).reshape(x.shape)
    return _householder(*_broadcast(name, x, u, tau), adjoint, from_output)


def _householder(x, u, tau, adjoint, from_output):
    tensors = (x, u) if tau is None else (x, u, tau)
    if _by_formula(*tensors):
        return plain.householder(x, u, tau, adjoint)
    _without_memory(*tensors)  # refuses what this PyTorch cannot do
    return _operators.householder(x, u, tau, adjoint, from_output)


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
    tensors = rows, weight, u, v, s
    if _by_formula(*tensors):
        y = plain.linear(rows, weight, u, v, s)
    elif _without_memory(*tensors):
        with _no_autocast(x.device):
            base_output = torch.nn.functional.linear(rows, weight)
            product = torch.nn.functional.linear(plain.directions(v).to(weight.dtype), weight).to(u.dtype)
        y = _adapted(base_output, rows, u, v, s, product, keep_q)
    else:
        y = _through_weight(rows, u, v, s, weight, BoundLayer(u, v, s, dense_product(weight)), keep_q)
    y = y.reshape(*x.shape[:-1], weight.shape[0])
    return y if bias is None else y + bias.to(y.dtype)


def linear(x, rows, u, v, s, weight, layer, bias, keep_q=True):
    """x [..., n], whose tokens are the rows, through a bound layer of the weight."""
    y = _through_weight(rows, u, v, s, weight, layer, keep_q).reshape(*x.shape[:-1], len(weight))
    return y if bias is None else y + bias


def _through_weight(rows, u, v, s, weight, layer, keep_q):
    keep_q = keep_q and _has_gradient(rows, u, v, s)
    return Linear.apply(rows, u, v, s, weight, layer, keep_q)


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
        _without_memory(*tensors)  # refuses what this PyTorch cannot do
        y = _adapted(*tensors, keep_q)
    return y.reshape(base_output.shape)


def _adapted(base_output, x, u, v, s, product, keep_q):
    keep_q = keep_q and _has_gradient(base_output, x, u, v, s, product)
    return _operators.adapted(base_output, x, u, v, s, product, keep_q)[0]


def merge(weight: Tensor, u: Tensor, v: Tensor, s: Optional[Tensor] = None) -> Tensor:
    """Q_U diag(s) M Q_V [m, n] for the frozen weight M [m, n], u [ru, m], v [rv, n] and s [m] (HOFT: none)."""
    _require_weight("merge", weight)
    tensors = _rows(weight), *_adapter("merge", weight, u, v, s)
    if _by_formula(*tensors):
        return plain.merged(*tensors)
    _without_memory(*tensors)  # refuses what this PyTorch cannot do
    return _operators.merged(*tensors)


@torch.no_grad()
def unmerge(merged: Tensor, u: Tensor, v: Tensor, s: Optional[Tensor] = None) -> Tensor:
    """M from Q_U diag(s) M Q_V. Not differentiable."""
    _require_weight("unmerge", merged)
    tensors = _rows(merged), *_adapter("unmerge", merged, u, v, s)
    _without_memory(*tensors)  # refuses what this PyTorch cannot do
    return _operators.unmerged(*tensors)


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
    torch.randn. The last row of an odd rank is zero, and never trains."""
    if rank < 0:
        raise ValueError(f"paired_gaussian: the rank is {rank}, must be at least 0")
    u = torch.randn((rank + 1) // 2, 1, features, **options).expand(-1, 2, -1).flatten(0, 1)[:rank]
    if rank % 2:
        u[-1] = 0
    return u.contiguous().requires_grad_(requires_grad)
