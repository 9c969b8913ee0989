# SPDX-License-Identifier: BSD-3-Clause
"""The adapted weight as a tensor that is formed where somebody computes with it."""

from typing import Callable

import torch

_UNSEEN = getattr(torch._C, "DisableTorchFunctionSubclass", None) or torch._C.DisableTorchFunction

# What is known without the weight's elements.
_KNOWN = {
    *(getattr(torch.Tensor, name).__get__ for name in ("dtype", "device", "shape", "layout", "ndim", "is_cuda", "is_meta")),
    *(getattr(torch.Tensor, name) for name in ("size", "dim", "numel", "is_floating_point", "element_size")),
}


class AdaptedWeight(torch.Tensor):
    """Q_U diag(s) M Q_V [out, in], of which `form` gives the tensor.

    Modules ask for the weight of a Linear for two ends: to learn its type or its device, as T5 does in each call, which
    must cost nothing; and to multiply with it behind the Linear's back, as torch.nn.MultiheadAttention does, which must
    get the adapted weight and its gradients. Each function of torch that is given this tensor gets the formed one in its
    place. Fused kernels, such as the fast path of torch.nn.TransformerEncoderLayer, stand back from tensors of this kind,
    so that the layers are called as modules.
    """

    @staticmethod
    def __new__(cls, shape, dtype, device, form: Callable[[], torch.Tensor]):
        weight = torch.Tensor._make_wrapper_subclass(cls, shape, dtype=dtype, device=device)
        weight.form = form
        return weight

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in _KNOWN:
            with _UNSEEN():
                return function(*args, **kwargs)
        return function(*_formed(args), **{name: _formed(value) for name, value in kwargs.items()})

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise TypeError(f"hoft: {function} was given an adapted weight below autograd, where it cannot be formed")


def _formed(value):
    if isinstance(value, AdaptedWeight):
        with _UNSEEN():
            form = value.form
        return form()
    if isinstance(value, (tuple, list)):
        return type(value)(_formed(a) for a in value) if type(value) in (tuple, list) else value
    return value
