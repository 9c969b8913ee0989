# SPDX-License-Identifier: BSD-3-Clause
"""What a base is: a frozen linear layer of any kind, how it is called and where its weight is.

`of(module)` is the base around a module. Types that are known by name are called without their bias, which must not go
through Q_U; of any other module the bias is taken out of what it returns. Nothing of other packages is imported.
"""

import contextlib
import contextvars
import copy
import gc
import math
import sys
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple, Type

import torch

from .functional import a_type, autocast_dtype, is_compiling

Tensor = torch.Tensor


class Base:
    """Any module with in_features, out_features and bias that is linear but for its bias."""

    def __init__(self, module: Callable):
        self.module = module

    @property
    def features(self) -> Tuple[int, int]:
        """(in, out); TypeError where the module does not say."""
        sizes = getattr(self.module, "in_features", None), getattr(self.module, "out_features", None)
        if not all(isinstance(size, int) for size in sizes):
            raise TypeError(
                f"hoft: the base is {a_type(self.module)}, which has no in_features and out_features: it must be a linear"
                " layer, such as torch.nn.Linear"
            )
        return sizes

    @property
    def bias(self) -> Optional[Tensor]:
        """What the module adds to M x, if anything."""
        return getattr(self.module, "bias", None)

    @property
    def weight(self) -> Optional[Tensor]:
        """The tensor that holds M in whatever form, where there is one."""
        weight = getattr(self.module, "weight", None)
        return weight if torch.is_tensor(weight) else None

    def tensors(self) -> List[Any]:
        """All that a call depends on, tensors or whole objects."""
        return [*self.module.parameters(), *self.module.buffers()]

    def call(self, x: Tensor, args: Tuple = (), kwargs: Dict[str, Any] = {}) -> Tuple[Tensor, Optional[Tensor]]:
        """(output, the bias that is in it)"""
        return self.module(x, *args, **kwargs), self.bias

    def unpack(self) -> None:
        """Takes back what a call has done to the weight that none but the module can read."""

    def product(self, rows: Tensor, dtype: torch.dtype, args: Tuple = (), kwargs: Dict[str, Any] = {}) -> Tensor:
        """M times each of the rows, which the module sees in `dtype`; in the type of the rows."""
        out, added = self.call(rows.to(dtype), args, kwargs)
        out = out.to(rows.dtype)
        return out if added is None else out - added.to(rows.dtype)

    def adjoint(self, rows: Tensor, dtype: torch.dtype, args: Tuple = (), kwargs: Dict[str, Any] = {}) -> Tensor:
        """Mᵀ times each of the rows: the module is linear, so where its derivative is taken does not matter."""
        with torch.enable_grad():
            zero = torch.zeros(len(rows), self.features[0], dtype=dtype, device=rows.device, requires_grad=True)
            out, _ = self.call(zero, args, kwargs)
            if not out.requires_grad:
                raise RuntimeError(
                    f"hoft: v requires a gradient, but what the base, {a_type(self.module)}, makes of its input"
                    " has none"
                )
            return torch.autograd.grad(out, zero, rows.to(out.dtype))[0]

    def is_plain(self, x: Tensor) -> bool:
        """Whether a call does nothing but multiply x with `weight`, a dense matrix [out, in] of its type."""
        return False

    def matrix(self, name: str) -> Tensor:
        """A view [out, in] of the weight, to be written to. `name` is the caller.

        Raises:
            TypeError: the module has more than a weight and a bias, or its weight is no matrix of floating-point
                numbers, or its call is not x Wᵀ + b (which is tried, unless the type is known).
        """
        kept = dict([*self.module.named_parameters(), *self.module.named_buffers()])
        weight, shape = kept.get("weight"), self.features[::-1]
        plain = weight is not None and _is_matrix(weight) and kept.keys() <= {"weight", "bias"}
        views = [a for a in ([weight, weight.t()] if plain else []) if tuple(a.shape) == shape]
        if not views:
            kind = "" if weight is None else f" ({type(weight).__name__} of {weight.dtype}, {list(weight.shape)})"
            raise TypeError(
                f"{name}: the weight of {a_type(self.module)} is no plain matrix{kind}; to merge, put a"
                " torch.nn.Linear with the dequantised or gathered weight in its place"
            )
        found = [view for view in views if self._computes(view)]
        if not found:
            raise TypeError(f"{name}: {a_type(self.module)} does something else with its weight than x Wᵀ + b")
        if len(found) == 2:  # symmetric, which the adapted weight is not
            raise TypeError(f"{name}: whether {a_type(self.module)} stores W or Wᵀ cannot be told")
        return found[0]

    @torch.no_grad()
    def _computes(self, weight: Tensor) -> bool:
        """Whether the module's call is x Wᵀ + b, up to the rounding of its type."""
        m, n = weight.shape
        draw = torch.Generator().manual_seed(0)
        x = torch.randn(4, n, generator=draw).to(weight.device, weight.dtype)
        out = self.module(x)
        if not (torch.is_tensor(out) and tuple(out.shape) == (4, m)):
            return False
        wide = torch.promote_types(weight.dtype, torch.float32)
        expected, scale = x.to(wide) @ weight.to(wide).t(), x.to(wide).norm(dim=1, keepdim=True) * weight.to(wide).norm(dim=1)
        if self.bias is not None:
            expected, scale = expected + self.bias.to(wide), scale + self.bias.to(wide).abs()
        # A sum of n products in `wide`, or in the 10 bits of TF32 on a GPU, rounded to the weight's type.
        eps = max(torch.finfo(out.dtype).eps, 2 * math.sqrt(n) * torch.finfo(wide).eps, 2.0**-10 * weight.is_cuda)
        return bool(((out.to(wide) - expected).abs() <= 8 * eps * scale).all())


class Called(Base):
    """A module whose call is that of torch.nn.Linear, with hooks around it, a parametrisation, or a class of its own. A
    twin is called, which has no bias: the module itself stays as it is, since other threads may call it."""

    def call(self, x, args=(), kwargs={}):
        module = self.module
        bound = "forward" in vars(module) or vars(module).get("_compiled_call_impl") is not None  # to the module itself
        weight = module._parameters.get("weight")
        sharded = weight is not None and type(weight) is not torch.nn.Parameter
        if is_compiling() or bound or sharded or module._parameters.get("bias") is None:
            return super().call(x, args, kwargs)
        twin = twin_without_bias(module)
        out = twin(x, *args, **kwargs)
        for name, value in vars(twin).items():  # what hooks leave on the module
            if name != "_parameters" and vars(module).get(name) is not value:
                setattr(module, name, value)
        return out, None


def twin_without_bias(module: torch.nn.Module) -> torch.nn.Module:
    """A module with the same tensors, state and hooks, but for its bias."""
    twin = copy.copy(module)
    twin._parameters = {**module._parameters, "bias": None}
    return twin


class Dense(Called):
    """torch.nn.Linear, whose weight may be any tensor that torch.nn.functional.linear takes: torchao's are."""

    def call(self, x, args=(), kwargs={}):
        if args or kwargs or is_watched(self.module):
            return super().call(x, args, kwargs)
        weight = self.module.weight
        if weight.dtype != x.dtype and autocast_dtype(x.device) is None:
            hint = " (torch multiplies no plain float8 matrix: convert it, or quantise by torchao)"
            raise TypeError(
                f"hoft: x is {x.dtype}, the weight of the base {weight.dtype}; they must be the same"
                + hint * str(weight.dtype).startswith("torch.float8")
            )
        return torch.nn.functional.linear(x, weight), None

    def matrix(self, name):
        known = _is_matrix(self.module.weight) and not is_watched(self.module)
        return self.module.weight if known else super().matrix(name)

    def is_plain(self, x):
        if is_watched(self.module) or autocast_dtype(x.device) is not None:
            return False
        weight = self.module.weight
        same = weight.dtype == x.dtype and weight.device == x.device and weight.layout == torch.strided
        return same and type(weight) is torch.nn.Parameter


class Transposed(Base):
    """GPT-2's Conv1D: weight [in, out]."""

    @property
    def features(self):
        return tuple(self.module.weight.shape)

    def call(self, x, args=(), kwargs={}):
        if args or kwargs or is_watched(self.module):
            return super().call(x, args, kwargs)
        return torch.matmul(x, self.module.weight), None

    def matrix(self, name):
        known = _is_matrix(self.module.weight) and not is_watched(self.module)
        return self.module.weight.t() if known else super().matrix(name)


class BitsAndBytes(Base):
    """The 8 and 4 bit layers of bitsandbytes."""

    def call(self, x, args=(), kwargs={}):
        if torch.is_grad_enabled() and (x.requires_grad or self.module.training):
            self.unpack()
        if args or kwargs or is_watched(self.module):
            return super().call(x, args, kwargs)
        return twin_without_bias(self.module)(x), None

    def product(self, rows, dtype, args=(), kwargs={}):
        # The 4 bit layer packs its weight for inference where x requires no gradient, which a training step needs as
        # it was.
        return super().product(rows if rows.requires_grad else rows.detach().requires_grad_(), dtype, args, kwargs)

    def unpack(self) -> None:
        """The 4 bit layer has no gradients while its weight is packed for inference on a CPU, as its first call in
        eval mode leaves it."""
        weight = self.module.weight
        if getattr(getattr(weight, "quant_state", None), "packing_format_for_cpu", False):
            unpack = sys.modules["bitsandbytes.nn.modules"]._convert_weight_packed_for_cpu_inverse
            weight.data, weight.quant_state = unpack(weight.data, weight.quant_state)


class _Dynamic(torch.autograd.Function):
    """A dynamically quantised layer as the product with its weight, which its own call has no gradient of."""

    @staticmethod
    def forward(ctx, x, module):
        ctx.module, ctx.dtype = module, x.dtype
        return module(x)

    @staticmethod
    def backward(ctx, dy):
        return torch.matmul(dy, ctx.module.weight().dequantize().to(dy.dtype)).to(ctx.dtype), None


class Dynamic(Base):
    """torch.ao's dynamically quantised Linear, whose weight and bias are methods. The directions of v and gradients see
    its weight alone, not the rounding of the activations."""

    @property
    def bias(self):
        bias = self.module.bias()
        return None if bias is None else bias.detach()

    @property
    def weight(self):
        return self.module.weight()

    def tensors(self):
        return [self.module._packed_params._packed_params]  # anew where the weight is

    def call(self, x, args=(), kwargs={}):
        return _Dynamic.apply(x, self.module), self.bias

    def product(self, rows, dtype, args=(), kwargs={}):
        return rows @ self.module.weight().dequantize().to(rows.dtype).t()

    def adjoint(self, rows, dtype, args=(), kwargs={}):
        return rows @ self.module.weight().dequantize().to(rows.dtype)


KNOWN: Dict[str, Type[Base]] = {
    "torch.nn.modules.linear.Linear": Dense,
    "torch.nn.modules.linear.NonDynamicallyQuantizableLinear": Dense,
    "transformers.pytorch_utils.Conv1D": Transposed,
    "bitsandbytes.nn.modules.Linear8bitLt": BitsAndBytes,
    "bitsandbytes.nn.modules.Linear4bit": BitsAndBytes,
    "bitsandbytes.nn.modules.LinearNF4": BitsAndBytes,
    "bitsandbytes.nn.modules.LinearFP4": BitsAndBytes,
    "torch.ao.nn.quantized.dynamic.modules.linear.Linear": Dynamic,
    "torch.nn.quantized.dynamic.modules.linear.Linear": Dynamic,
}


def of(module: Callable) -> Base:
    """The base around a module, by its exact type, since a subclass may have a call of its own; or by its call."""
    kind = type(module)
    other = Called if getattr(kind, "forward", None) is torch.nn.Linear.forward else Base
    return KNOWN.get(f"{kind.__module__}.{kind.__qualname__}", other)(module)


def is_watched(module: torch.nn.Module) -> bool:
    """Whether anything beside the module's class sees or changes its calls."""
    names = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_compiled_call_impl")
    everywhere = (getattr(torch.nn.modules.module, "_global" + name, None) for name in names)
    return any(getattr(module, name, None) for name in names) or any(everywhere) or "forward" in vars(module)


def _is_matrix(weight: Tensor) -> bool:
    wide = weight.dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    return wide and weight.dim() == 2 and type(weight) in (torch.Tensor, torch.nn.Parameter) and not weight.is_meta


_known_holders: contextvars.ContextVar[Optional[Dict[int, List[dict]]]] = contextvars.ContextVar("holders", default=None)


@contextlib.contextmanager
def looking_once() -> Iterator[None]:
    """Within it `shared` looks through the objects of the process once, at the beginning, and not for each module."""
    holders: Dict[int, List[dict]] = {}
    for module in gc.get_objects():
        if issubclass(type(module), torch.nn.Module):  # isinstance would ask the object, which may be anything
            for parameter in vars(module).get("_parameters", {}).values():
                holders.setdefault(id(parameter), []).append(module._parameters)
    token = _known_holders.set(holders)
    try:
        yield
    finally:
        _known_holders.reset(token)


def shared(module: torch.nn.Module) -> List[str]:
    """The parameters of `module` that other modules hold as well, as tied embeddings do."""
    mine = [part._parameters for part in module.modules()]
    names, parameters = zip(*module.named_parameters()) if any(mine) else ((), ())
    return [name for name, p in zip(names, parameters) if _held_elsewhere(p, mine)]


def _held_elsewhere(parameter, mine):
    known = _known_holders.get()
    if known is not None:
        return any(not any(holder is own for own in mine) for holder in known.get(id(parameter), ()))
    # Held by its module, by the tuple of the caller, by a loop there and here, and by the call below. Only where there is
    # more, all objects of the process are looked through.
    if sys.getrefcount(parameter) <= 6:
        return False
    holders = [a for a in gc.get_referrers(parameter) if isinstance(a, dict) and not any(a is own for own in mine)]
    return any(
        isinstance(owner, torch.nn.Module) or isinstance(owner, dict) and owner.get("_parameters") is holder
        for holder in holders
        for owner in gc.get_referrers(holder)
    )
