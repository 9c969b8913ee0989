# SPDX-License-Identifier: BSD-3-Clause
"""A frozen base called as Q_U diag(s) M Q_V, whoever owns u, v and s; and the same merged into the base's weight."""

import functools
import warnings
from typing import Any, Callable, Optional, Sequence, Tuple

import torch

from . import bases, functional, parallel
from .functional import Adapted, BoundLayer, dense_product, linear, merge, unmerge

Tensor = torch.Tensor


class _Bound:
    """The bound layer of the last call, and how to recognise what it was made of. Copies begin empty."""

    def __init__(self):
        self.entry = None

    def __reduce__(self):
        return _Bound, ()

    def layer(self, trained, frozen, kind, make):
        """make(), or what it gave before if no tensor has changed since and `kind` is the same.

        Trained tensors on the host are compared with copies: optimisers, and what gathers shards, may write them
        behind autograd's back. That would wait for a GPU: there the address and autograd's count of changes must do,
        and where processes exchange tensors, which does not count, nothing is kept. Frozen ones are recognised so
        everywhere. An alias keeps their memory from being given to others.
        """
        key = kind, *(_identity(a) for a in frozen), *(_trained_identity(a) for a in trained)
        entry = self.entry
        if entry is not None and entry[0] == key and all(_unchanged(a, b) for a, b in zip(trained, entry[1])):
            return entry[2]
        layer = make()
        with torch.inference_mode(False), torch.no_grad():
            seen = [a.clone() if a.device.type == "cpu" else a.detach() for a in trained]
            self.entry = key, seen, layer, [a.detach() for a in frozen if torch.is_tensor(a)]
        return layer


class _Same:
    """Equal to what holds the very same object, which it keeps alive."""

    def __init__(self, held):
        self.held = held

    def __eq__(self, other):
        return isinstance(other, _Same) and self.held is other.held


def _identity(a):
    """What changes with the elements of a tensor; something new each time where that is not known."""
    if not torch.is_tensor(a):
        return _Same(a)
    if a.is_inference():
        return object()
    try:
        address = a.data_ptr()
    except (RuntimeError, NotImplementedError):
        address = 0
    # Tensors that wrap others, as quantised ones do, have no address of their own.
    return address or _Same(a), a._version, a.dtype, a.device, a.shape, a.stride()


def _trained_identity(a):
    if a.device.type == "cpu":  # `_unchanged` compares the elements
        return a.dtype, a.device, a.shape
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return object() if distributed else _identity(a)


def _unchanged(a, seen):
    return a.device.type != "cpu" or torch.equal(a.detach(), seen)


class Around:
    """A frozen base called as Q_U diag(s) M Q_V x + b. Keeps between calls what depends on weights alone.

    name: how errors call the caller.
    """

    def __init__(self, name: str = "hoft"):
        self.name = name
        self._bound = _Bound()

    def __call__(
        self, base: Callable, x: Tensor, u: Tensor, v: Tensor, s: Optional[Tensor] = None, *args: Any, **kwargs: Any
    ) -> Tensor:
        """x [..., in] to [..., out] with u [ru, out], v [rv, in] and s [out]; HOFT has no s. Extra arguments go to the
        base. Where s is computed anew for each call, `call` can be told what it was made of."""
        return self.call(base, x, u, v, s, (u, v) if s is None else (u, v, s), args, kwargs)

    def call(
        self,
        base: Callable,
        x: Tensor,
        u: Tensor,
        v: Tensor,
        s: Optional[Tensor],
        trained: Sequence[Tensor],
        args: Tuple = (),
        kwargs: Optional[dict] = None,
        outer: Sequence[Tuple[Tensor, Optional[Tensor]]] = (),
    ) -> Tensor:
        """The same. trained: the tensors by whose change a change of u, v and s is seen. outer: (u, s) of what is applied
        to Q_U diag(s) M Q_V x after it, one by one, before b is added."""
        kwargs = kwargs or {}
        if parallel.is_split(base, u, v, self.name):
            return parallel.call(base, x, u, v, s, *args, outer=outer, function=self.name, **kwargs)
        base = bases.of(base)
        bias = functional._bias(self.name, base.bias, base.features[1])
        y = self._adapted(base, x, u, v, s, trained, args, kwargs, None if outer else bias)
        for u, s in outer:
            y = left(y, u, s)
        return y + bias.to(y.dtype) if outer and bias is not None else y

    def _adapted(self, base, x, u, v, s, trained, args, kwargs, bias):
        """Q_U diag(s) M Q_V x + bias."""
        rows = self._tokens(x, base.features[0], u)
        u, v = (functional._parameter(self.name, n, a, 2, x) for n, a in (("u", u), ("v", v)))
        s = u.new_empty(0) if s is None else functional._parameter(self.name, "s", s, 1, x)
        if functional.is_seen_through(rows, u, v, s, base.bias):
            return self._seen_through(base, x, u, v, s, args, kwargs, bias)
        if not args and not kwargs and base.is_plain(x):
            layer = self._layer(base, u, v, s, trained, [base.weight], x.dtype, dense_product(base.weight))
            return linear(x, rows, u, v, s, base.weight, layer, bias)
        return self._around(base, x, rows, u, v, s, trained, args, kwargs, bias)

    def _tokens(self, x, features, u):
        rows = functional._tokens(self.name, x)
        functional._require_size(self.name, "the number of features of x", x.shape[-1], features)
        if x.device != u.device:
            raise ValueError(f"{self.name}: x is on {x.device}, must be on {u.device} as u")
        if (x.dtype == torch.float64) != (u.dtype == torch.float64):
            wanted = "torch.float64" if u.dtype == torch.float64 else "float, bfloat16 or half"
            raise TypeError(f"{self.name}: x is {x.dtype}, must be {wanted} beside u of {u.dtype}")
        return rows

    def rebind(self) -> None:
        """Forgets what was made of u, v, s and the weight. Needed only after changes that cannot be seen: of elements
        behind autograd's back (weight.data; on a GPU also those of u, v and s), and of what the base's call reads
        beside its parameters and buffers (a plain attribute with the state of a quantisation, a hook of its own)."""
        self._bound.entry = None

    def _layer(self, base, u, v, s, trained, frozen, kind, product):
        if torch.is_grad_enabled() and any(torch.is_tensor(a) and a.requires_grad and a is not base.bias for a in frozen):
            raise ValueError(f"{self.name}: the weight requires a gradient, which is not computed")
        return self._bound.layer(trained, frozen, kind, lambda: BoundLayer(u, v, s, product))

    def _seen_through(self, base, x, u, v, s, args, kwargs, bias):
        """For compilers and transforms: tensors alone pass between the base and one operator, and nothing is kept."""
        out, added = base.call(x, args, kwargs)
        product = base.product(functional.directions(v), x.dtype, args, kwargs)
        y = functional.adapted(out if added is None else out - added.to(out.dtype), x, u, v, s, product)
        return y if bias is None else y + bias.to(y.dtype)

    def _around(self, base, x, rows, u, v, s, trained, args, kwargs, bias):
        """The base called as a module, without its bias where that can be had."""
        out, added = base.call(x, args, kwargs)
        if torch.is_grad_enabled() and x.requires_grad and not out.requires_grad:
            raise RuntimeError(
                f"{self.name}: x requires a gradient, but what the base, {functional.a_type(base.module)}, makes of it has none"
            )
        # What the base makes of extra arguments is not known: nothing is kept then.
        autocast, dtype = functional.autocast_dtype(x.device), x.dtype
        kind = object() if args or kwargs else (dtype, autocast)

        def as_called(f, rows):
            with functional._as_under(autocast, rows.device):
                return f(rows, dtype, args, kwargs)

        product, adjoint = functools.partial(as_called, base.product), functools.partial(as_called, base.adjoint)
        layer = self._layer(base, u, v, s, trained, base.tensors(), kind, product)
        if added is not None:  # it must not go through Q_U
            out = out - added.to(out.dtype)
        keep_q = torch.is_grad_enabled() and any(a.requires_grad for a in (out, x, u, v, s))
        y = Adapted.apply(functional._rows(out), rows, u, v, s, bias, adjoint, layer, keep_q)
        return y.reshape(out.shape)


def left(y: Tensor, u: Tensor, s: Optional[Tensor]) -> Tensor:
    """Q_U diag(s) of each row of y."""
    return functional.householder_apply(y if s is None else (y * s).to(y.dtype), u)


@torch.no_grad()
def merge_into(base: torch.nn.Module, u: Tensor, v: Tensor, s: Optional[Tensor] = None) -> None:
    """Puts Q_U diag(s) M Q_V in the place of the weight M of `base`, so that its call is the adapted one. Everything is
    checked before the weight is written. Warns where an s is 0, since that cannot be undone.

    Raises:
        TypeError: the base has anything but a weight [out, in] (Conv1D: [in, out]) and a bias, or its call is not
            x Wᵀ + b: only it knows what else it does.
        ValueError: an element of u, v, s or of the adapted weight is not finite.
    """
    if parallel.is_spread(base):
        return parallel.merge_into(base, u, v, s)
    weight, merged = _adapted_weight(base, u, v, s)
    if s is not None and bool((s == 0).any()):
        warnings.warn(f"merge: {int((s == 0).sum())} of {len(s)} elements of s are 0: unmerging will not be possible")
    weight.copy_(merged)


@torch.no_grad()
def require_mergeable(base: torch.nn.Module, u: Tensor, v: Tensor, s: Optional[Tensor] = None) -> None:
    """Raises what `merge_into` would, at the same cost; nothing of a base that is split over ranks."""
    if not parallel.is_spread(base):
        _adapted_weight(base, u, v, s)


def _adapted_weight(base, u, v, s):
    """The weight of the base, to be written to, and the adapted one."""
    weight = bases.of(base).matrix("merge")
    for name, a in (("u", u), ("v", v), ("s", s)):
        _require_finite("merge", name, a)
    merged = merge(weight, u, v, s)
    _require_finite("merge", "the adapted weight", merged)
    return weight, merged


@torch.no_grad()
def unmerge_from(base: torch.nn.Module, u: Tensor, v: Tensor, s: Optional[Tensor] = None) -> None:
    """The inverse of `merge_into`, to the rounding of the weight's type. Raises as it does, and where an s is 0."""
    if parallel.is_spread(base):
        return parallel.unmerge_from(base, u, v, s)
    weight = bases.of(base).matrix("unmerge")
    if s is not None and bool((s == 0).any()):
        raise ValueError(f"unmerge: {int((s == 0).sum())} of {len(s)} elements of s are 0: M is lost there")
    before = unmerge(weight, u, v, s)
    _require_finite("unmerge", "the weight", before)
    weight.copy_(before)


def _require_finite(function, name, a):
    if a is not None and not bool(torch.isfinite(a).all()):
        count = int((~torch.isfinite(a)).sum())
        raise ValueError(f"{function}: {count} of {a.numel()} elements of {name} are not finite; nothing was written")
