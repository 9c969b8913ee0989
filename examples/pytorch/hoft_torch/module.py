"""A linear layer of any kind, fine-tuned by HOFT or SHOFT."""

import torch

from .functional import householder_apply, master_dtype, merge, paired_gaussian, unmerge


class HOFTLinear(torch.nn.Module):
    """y = Q_U diag(s) M Q_V x + b around the frozen `base`, y = M x + b: a torch.nn.Linear, or any module with its
    in_features, out_features, bias (a tensor or None) and call, however it stores M.

    rank: of both sides, or (left, right); even, since reflectors begin in pairs that cancel: at first y = base(x).
    scaled: train s [out_features] as well (SHOFT). Without it s = 1 and the singular values of M stay (HOFT).

    The base is called as a module between Q_V and Q_U: what its call does (dequantising, hooks, autocast) happens, and
    neither the adapted weight nor its gradient is formed. The parameters u, v and s are float beside 16-bit bases, whose
    type should be chosen before they are wrapped.
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

    def forward(self, x):
        if self.merged:
            return self.base(x)
        y = self._left(self.base(householder_apply(x, self.v)))
        bias = getattr(self.base, "bias", None)
        if bias is None:
            return y
        # The base's bias went through Q_U diag(s): take that out, and put the bias itself in.
        wide = bias.to(self.u.dtype)
        return y + (wide - self._left(wide)).to(y.dtype)

    def _left(self, p):
        """Q_U diag(s) p, the product with s in the type of s."""
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
        self.merged = merged

    # Whether the weight in a state_dict is merged belongs to the state; as a tensor, so that every format takes it.
    def get_extra_state(self):
        return torch.tensor(self.merged)

    def set_extra_state(self, state):
        self.merged = bool(state)

    def extra_repr(self):
        return f"rank=({len(self.u)}, {len(self.v)}), scaled={self.s is not None}, merged={self.merged}"
