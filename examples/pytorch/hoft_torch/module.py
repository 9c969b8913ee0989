"""A linear layer of any kind, fine-tuned by HOFT or SHOFT."""

import operator
from typing import Any, Optional, Tuple, Union

import torch

from . import bases, parallel
from .around import Around, merge_into, unmerge_from
from .functional import paired_gaussian

Tensor = torch.Tensor


def _ranks(rank) -> Tuple[int, int]:
    """(left, right) from one rank for both or from a pair."""
    ranks = rank if isinstance(rank, (tuple, list)) and len(rank) == 2 else (rank, rank)
    try:
        ranks = tuple(operator.index(r) for r in ranks)
    except TypeError:
        raise ValueError(f"HOFTLinear: the rank is {rank!r}, must be a whole number or a pair of them") from None
    for r in ranks:
        if r < 0 or r % 2:
            raise ValueError(f"HOFTLinear: the rank is {r}, must be even and at least 0")
    return ranks


class HOFTLinear(torch.nn.Module):
    """y = Q_U diag(s) M Q_V x + b around the frozen `base`, y = M x + b: a torch.nn.Linear, or any module with its
    in_features, out_features, bias (a tensor or None) and call, however it stores M.

    rank: of both sides, or (left, right); even, since reflectors begin in pairs that cancel: at first y = base(x).
    scaled: train s [out_features] as well (SHOFT). Without it s = 1 and the singular values of M stay (HOFT). The
        parameter is d = s − 1, so that weight decay pulls s to 1.
    std: of the Gaussian rows that u and v begin with. Q does not depend on the length of its reflectors, but the step
        of an optimiser does: 0.1 suits the learning rates that LoRA is trained with.

    The base is called as a module on x as it is: what its call does (dequantising, hooks, autocast) happens, and neither
    the adapted weight nor its gradient is formed. It is also called with the normalised rows of v, without gradients,
    whenever u, v, s or one of its tensors have changed since the last call; what comes out is kept until then. A
    torch.nn.Linear without hooks is not called: its product with x is taken in the same way, and adapted in place. The
    parameters u, v and d are float beside 16-bit bases, double beside double.
    """

    def __init__(self, base: torch.nn.Module, rank: Union[int, Tuple[int, int]], scaled: bool = False, std: float = 0.1):
        super().__init__()
        ranks, (n, m) = _ranks(rank), bases.of(base).features
        weight = bases.of(base).weight
        double = weight is not None and weight.dtype == torch.float64
        options = {"dtype": torch.float64 if double else torch.float32, "device": None if weight is None else weight.device}
        self.base = base.requires_grad_(False)
        self.u = torch.nn.Parameter(paired_gaussian(ranks[0], m, **options).mul_(std))
        self.v = torch.nn.Parameter(paired_gaussian(ranks[1], n, **options).mul_(std))
        self.d = torch.nn.Parameter(torch.zeros(m, **options)) if scaled else None
        self.distribute()
        self.merged = False
        self._around = Around("HOFTLinear")

    def distribute(self) -> "HOFTLinear":
        """Splits u, v and d over ranks as the base's weight is split: for a base that was split after it was wrapped.
        Before an optimiser is told of them, since they are new parameters. Raises as `parallel.place`."""
        self.u, self.v, self.d = parallel.place(self.base, self.u, self.v, self.d)
        return self

    @property
    def s(self) -> Optional[Tensor]:
        """1 + d [out_features]; None for HOFT."""
        return None if self.d is None else 1 + self.d

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.merged:
            parallel.require_used((self.u, self.v, self.d))
            return self.base(x, *args, **kwargs)
        trained = [a for a in (self.u, self.v, self.d) if a is not None]
        return self._around.call(self.base, x, self.u, self.v, self.s, trained, args, kwargs)

    def rebind(self) -> None:
        """`Around.rebind`"""
        self._around.rebind()

    def _apply(self, fn, *args, **kwargs):
        self.rebind()  # to(), half(), cuda() and their like may put other elements at the same address
        return super()._apply(fn, *args, **kwargs)

    def merge(self) -> "HOFTLinear":
        """Puts Q_U diag(s) M Q_V in the place of the base's weight, so that calls cost what the base costs. Until
        `unmerge`, u, v and d are not used and get no gradients. Raises as `around.merge_into`."""
        self._require_merged("merge", False)
        merge_into(self.base, self.u, self.v, self.s)
        self.merged = True
        self.rebind()
        return self

    def unmerge(self) -> "HOFTLinear":
        """The inverse of `merge`, to the rounding of the weight's type. Raises where an s is 0."""
        self._require_merged("unmerge", True)
        unmerge_from(self.base, self.u, self.v, self.s)
        self.merged = False
        self.rebind()
        return self

    def _require_merged(self, name, merged):
        if self.merged != merged:
            raise RuntimeError(f"HOFTLinear.{name}: the layer is {'already' if self.merged else 'not'} merged")

    # Whether the weight in a state_dict is merged belongs to the state; as a tensor, so that every format takes it.
    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.merged)

    def set_extra_state(self, state: Tensor) -> None:
        self.merged = bool(state)

    def extra_repr(self) -> str:
        return f"rank=({len(self.u)}, {len(self.v)}), scaled={self.d is not None}, merged={self.merged}"
