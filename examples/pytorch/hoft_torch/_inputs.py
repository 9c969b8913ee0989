# SPDX-License-Identifier: BSD-3-Clause
"""What the functions ask of their arguments before anything is computed, and who looks on while it is."""

import contextlib
from typing import Any, ContextManager, Optional, Tuple

import torch

from ._register import HAS_LIBRARY, transforms

Tensor = torch.Tensor


def is_compiling() -> bool:
    """Whether the program is being written down rather than run."""
    return hasattr(torch, "compiler") and hasattr(torch.compiler, "is_compiling") and torch.compiler.is_compiling()


def _by_formula(*tensors: Optional[Tensor]) -> bool:
    """Whether something is asked for that the operators do not offer: forward-mode derivatives, torch.func's
    transforms other than vmap, the operators of ONNX."""
    if torch.onnx.is_in_onnx_export():
        return True
    if is_compiling():
        return False
    if transforms() == "others":
        return True
    forward = torch.autograd.forward_ad
    return forward._current_level >= 0 and any(
        a is not None and forward.unpack_dual(a).tangent is not None for a in tensors
    )


def _without_memory(*tensors: Optional[Tensor]) -> bool:
    """Whether operators must change no argument: a compiler looks on, vmap does, or elements are not there."""
    if is_compiling():
        return True
    if any(a is not None and (a.is_meta or hasattr(a, "fake_mode")) for a in tensors):
        if not HAS_LIBRARY:
            raise RuntimeError(f"hoft: tensors without memory take PyTorch 2.4 or newer, this is {torch.__version__}")
        return True
    return transforms() == "vmap"


def is_seen_through(*tensors: Optional[Tensor]) -> bool:
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


def _as_under(autocast: Optional[torch.dtype], device: torch.device) -> ContextManager[Any]:
    """Autocast as `autocast_dtype` found it: backward passes are often called where it is off again."""
    if autocast_dtype(device) == autocast:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=autocast, enabled=autocast is not None)


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
        or_16_bits = " or 16 bits" if wanted == torch.float32 else ""
        raise TypeError(f"{function}: {name} holds {value.dtype}, must hold {wanted}{or_16_bits} beside {like.dtype}")
    return value.to(wanted).contiguous()


def _bias(function, bias, features):
    """The bias as a vector of neighbouring numbers; one number counts for all features."""
    if bias is None:
        return None
    if not (torch.is_tensor(bias) and bias.is_floating_point()):
        raise TypeError(f"{function}: the bias is {_kind(bias)}, must be a tensor of floating-point numbers")
    if not (bias.numel() == 1 or bias.numel() == bias.shape[-1] == features):
        raise ValueError(f"{function}: the bias has the shape {list(bias.shape)}, must have {features} elements")
    return bias.reshape(-1).expand(features).contiguous()


def _require_size(function, what, got, expected):
    if got != expected:
        raise ValueError(f"{function}: {what} is {got}, must be {expected}")


def _kind(value):
    return f"a tensor of {value.dtype}" if torch.is_tensor(value) else a_type(value)


def a_type(value):
    """Its type's name behind an article."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"
