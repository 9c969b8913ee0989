"""A linear layer of any kind, fine-tuned by HOFT or SHOFT."""

import torch

from . import functional
from .functional import Adapted, BoundLayer, dense_product, householder_apply, linear, master_dtype, merge
from .functional import paired_gaussian, unmerge


def _autocast(device):
    """Whether products on that device are taken in another type than their arguments', and in which."""
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
        key = kind, *(_identity(a, trained=False) for a in frozen), *(_identity(a, trained=True) for a in trained)
        entry = self.entry
        if entry is not None and entry[0] == key and all(_unchanged(a, b) for a, b in zip(trained, entry[1])):
            return entry[2]
        layer = make()
        with torch.inference_mode(False), torch.no_grad():
            seen = [a.clone() if a.device.type == "cpu" else a.detach() for a in trained]
            self.entry = key, seen, layer, [a.detach() for a in frozen]
        return layer


def _identity(a, trained):
    """What changes with the elements of a tensor; something new each time where that is not known."""
    shared = trained and a.device.type != "cpu" and torch.distributed.is_available() and torch.distributed.is_initialized()
    if shared or a.is_inference():
        return object()
    try:
        return a.data_ptr(), a._version, a.dtype, a.device, a.shape, a.stride()
    except (RuntimeError, NotImplementedError):  # a tensor of another kind
        return object()


def _unchanged(a, seen):
    return a.device.type != "cpu" or torch.equal(a.detach(), seen)


class HOFTLinear(torch.nn.Module):
    """y = Q_U diag(s) M Q_V x + b around the frozen `base`, y = M x + b: a torch.nn.Linear, or any module with its
    in_features, out_features, bias (a tensor or None) and call, however it stores M.

    rank: of both sides, or (left, right); even, since reflectors begin in pairs that cancel: at first y = base(x).
    scaled: train s [out_features] as well (SHOFT). Without it s = 1 and the singular values of M stay (HOFT).

    The base is called as a module on x as it is: what its call does (dequantising, hooks, autocast) happens, and neither
    the adapted weight nor its gradient is formed. It is also called with the normalised rows of v, without gradients,
    whenever u, v, s or one of its tensors have changed since the last call; what comes out is kept until then. A
    torch.nn.Linear without hooks is not called: its product with x is taken in the same way, and adapted in place. The
    parameters u, v and s are float beside 16-bit bases, whose type should be chosen before they are wrapped.
    """

    def __init__(self, base, rank, scaled=False):
        super().__init__()
        ranks = rank if isinstance(rank, tuple) and len(rank) == 2 else (rank, rank)
        for r in ranks:
            if not isinstance(r, int) or r < 0 or r % 2:
                raise ValueError(f"HOFTLinear: the rank is {r}, must be even and at least 0")
        for name in ("in_features", "out_features"):
            if not isinstance(getattr(base, name, None), int):
                raise TypeError(f"HOFTLinear: the base, a {type(base).__name__}, has no {name}")
        self.base = base.requires_grad_(False)
        weight = getattr(base, "weight", None)
        options = {}
        if torch.is_tensor(weight):
            options["device"] = weight.device
            if weight.is_floating_point():
                options["dtype"] = master_dtype(weight.dtype)
        self.u = torch.nn.Parameter(paired_gaussian(ranks[0], base.out_features, **options))
        self.v = torch.nn.Parameter(paired_gaussian(ranks[1], base.in_features, **options))
        self.s = torch.nn.Parameter(torch.ones(base.out_features, **options)) if scaled else None
        self.merged = False
        self._bound = _Bound()

    @functional._uncompiled
    def forward(self, x):
        if self.merged:
            return self.base(x)
        rows = functional._tokens("HOFTLinear", x)
        functional._require_size("HOFTLinear", "the number of features of x", x.shape[-1], self.base.in_features)
        u, v = (functional._parameter("HOFTLinear", name, getattr(self, name), 2, x) for name in "uv")
        s = u.new_empty(0) if self.s is None else functional._parameter("HOFTLinear", "s", self.s, 1, x)
        bias = getattr(self.base, "bias", None)
        if self._is_plain(x):
            layer = self._layer(u, v, s, [self.base.weight], x.dtype, dense_product(self.base.weight))
            return linear(x, rows, u, v, s, self.base.weight, layer, bias)
        return self._around(x, rows, u, v, s, bias)

    def rebind(self):
        """Forgets what was made of u, v, s and the weight. Needed only after changes that cannot be seen: of elements
        behind autograd's back (weight.data; on a GPU also those of u, v and s), and of what the base's call reads
        beside its parameters and buffers (a plain attribute with the state of a quantisation, a hook of its own)."""
        self._bound.entry = None

    def _apply(self, fn, *args, **kwargs):
        self.rebind()  # to(), half(), cuda() and their like may put other elements at the same address
        return super()._apply(fn, *args, **kwargs)

    def _layer(self, u, v, s, frozen, kind, product):
        if torch.is_grad_enabled() and any(a.requires_grad and a is not getattr(self.base, "bias", None) for a in frozen):
            raise ValueError("HOFTLinear: the weight requires a gradient, which is not computed")
        trained = [a for a in (self.u, self.v, self.s) if a is not None]
        return self._bound.layer(trained, frozen, kind, lambda: BoundLayer(u, v, s, product))

    def _is_plain(self, x):
        """Whether the base does nothing but multiply x with a dense matrix of its type."""
        if type(self.base) is not torch.nn.Linear or _has_hooks(self.base) or _autocast(x.device):
            return False
        weight = self.base.weight
        same = weight.dtype == x.dtype and weight.device == x.device and weight.layout == torch.strided
        return same and type(weight) is torch.nn.Parameter

    def _around(self, x, rows, u, v, s, bias):
        """The base called as a module."""
        frozen = [*self.base.parameters(), *self.base.buffers()]

        def product(directions):
            out = self.base(directions.to(x.dtype)).to(u.dtype)
            return out if bias is None else out - bias.to(u.dtype)

        def adjoint(dB):  # the base is linear: where its derivative is taken does not matter
            with torch.enable_grad():
                z = torch.zeros(len(dB), self.base.in_features, dtype=x.dtype, device=x.device, requires_grad=True)
                out = self.base(z)
                return torch.autograd.grad(out, z, dB.to(out.dtype))[0]

        out = self.base(x)
        layer = self._layer(u, v, s, frozen, (x.dtype, _autocast(x.device)), product)
        keep_q = torch.is_grad_enabled() and any(a.requires_grad for a in (out, x, u, v, s))
        y = Adapted.apply(functional._rows(out), rows, u, v, s, adjoint, layer, keep_q).reshape(out.shape)
        if bias is None:
            return y
        # The base's bias went through Q_U diag(s): take that out, and put the bias itself in.
        wide = bias.to(u.dtype)
        return y + (wide - self._left(wide)).to(y.dtype)

    def _left(self, p):
        """Q_U diag(s) p"""
        if self.s is not None:
            p = (p * self.s).to(p.dtype)
        return householder_apply(p, self.u, from_output=True)

    @torch.no_grad()
    def merge(self):
        """Puts Q_U diag(s) M Q_V in the place of the base's weight, so that calls cost what the base costs. Until
        `unmerge`, u, v and s are not used and get no gradients. Refused for a base that has anything but a weight
        [out_features, in_features] and a bias: only the base knows what its call does with the rest."""
        self._replace_weight("merge", merge, True)
        return self

    @torch.no_grad()
    def unmerge(self):
        """The inverse of `merge`, to the rounding of the weight's type. Fails where an s is 0."""
        self._replace_weight("unmerge", unmerge, False)
        return self

    def _replace_weight(self, name, function, merged):
        if self.merged == merged:
            raise RuntimeError(f"HOFTLinear.{name}: the layer is {'already' if merged else 'not'} merged")
        kept = dict([*self.base.named_parameters(), *self.base.named_buffers()])
        weight, shape = kept.get("weight"), (self.base.out_features, self.base.in_features)
        plain = weight is not None and weight.is_floating_point() and tuple(weight.shape) == shape
        if not (plain and kept.keys() <= {"weight", "bias"}):
            raise TypeError(f"HOFTLinear.{name}: the weight of a {type(self.base).__name__} is no plain matrix")
        weight.copy_(function(weight, self.u, self.v, self.s))
        self.rebind()
        self.merged = merged

    # Whether the weight in a state_dict is merged belongs to the state; as a tensor, so that every format takes it.
    def get_extra_state(self):
        return torch.tensor(self.merged)

    def set_extra_state(self, state):
        self.merged = bool(state)

    def extra_repr(self):
        return f"rank=({len(self.u)}, {len(self.v)}), scaled={self.s is not None}, merged={self.merged}"
