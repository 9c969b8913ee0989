"""What a base is: a frozen linear layer of any kind, how to call it and where its weight is."""

from typing import Callable, List, Optional, Tuple, Union

import torch

Tensor = torch.Tensor


def features(base: Callable) -> Tuple[int, int]:
    """(in, out) of a base; TypeError where it does not say."""
    if isinstance(getattr(base, "in_features", None), int) and isinstance(getattr(base, "out_features", None), int):
        return base.in_features, base.out_features
    raise TypeError(f"hoft: the base, a {type(base).__name__}, has no in_features and out_features")


def bias(base: Callable) -> Optional[Tensor]:
    """What the base adds to M x, if anything."""
    return getattr(base, "bias", None)


def tensors(base: Callable) -> List[Tensor]:
    """What the base's call depends on."""
    return [*base.parameters(), *base.buffers()]


def autocast(device: torch.device) -> Union[bool, torch.dtype]:
    """The type in which autocast takes products on that device, or False."""
    try:
        return torch.is_autocast_enabled(device.type) and torch.get_autocast_dtype(device.type)
    except (TypeError, AttributeError):  # before PyTorch 2.4
        if device.type == "cpu":
            return torch.is_autocast_cpu_enabled() and torch.get_autocast_cpu_dtype()
        return torch.is_autocast_enabled() and torch.get_autocast_gpu_dtype()


def _has_hooks(module):
    """Anything that watches or changes calls of a module."""
    names = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    everywhere = (getattr(torch.nn.modules.module, "_global" + name, None) for name in names)
    return any(getattr(module, name, None) for name in names) or any(everywhere) or "forward" in vars(module)


def is_plain(base: Callable, x: Tensor) -> bool:
    """Whether the base does nothing but multiply x with a dense matrix of its type."""
    if type(base) is not torch.nn.Linear or _has_hooks(base) or autocast(x.device):
        return False
    weight = base.weight
    same = weight.dtype == x.dtype and weight.device == x.device and weight.layout == torch.strided
    return same and type(weight) is torch.nn.Parameter


def matrix(name: str, base: torch.nn.Module) -> Tensor:
    """The weight [out, in] as it is in memory, to be written to; TypeError where the base has no such thing."""
    kept = dict([*base.named_parameters(), *base.named_buffers()])
    weight, (n, m) = kept.get("weight"), features(base)
    plain = weight is not None and weight.is_floating_point() and tuple(weight.shape) == (m, n)
    if not (plain and kept.keys() <= {"weight", "bias"}):
        raise TypeError(f"{name}: the weight of a {type(base).__name__} is no plain matrix")
    return weight
