# SPDX-License-Identifier: BSD-3-Clause
"""A linear layer of any kind, fine-tuned by HOFT or SHOFT."""

import math
import operator
import sys
import warnings
from typing import Any, Optional, Tuple, Union

import torch

from . import bases, functional, parallel
from .around import Around, merge_into, require_mergeable, unmerge_from
from .functional import merge, paired_gaussian
from .weight import AdaptedWeight

Tensor = torch.Tensor


def _ranks(name, rank) -> Tuple[int, int]:
    """(left, right) from one rank for both or from a pair."""
    ranks = rank if isinstance(rank, (tuple, list)) and len(rank) == 2 else (rank, rank)
    try:
        ranks = tuple(operator.index(r) for r in ranks)
    except TypeError:
        raise ValueError(f"{name}: the rank is {rank!r}, must be a whole number or a pair of them") from None
    for r in ranks:
        if r < 0 or r % 2:
            raise ValueError(f"{name}: the rank is {r}, must be even, since reflectors begin in pairs, and at least 0")
    return ranks


def refuse_to_save(*args, **kwargs):
    """What stands for save_pretrained of a model with such layers."""
    raise RuntimeError(
        "save_pretrained: the model has HOFTLinear layers, and from_pretrained would not find their weights: call"
        " hoft_torch.unwrap(model) before, torch.save(model.state_dict()) for a checkpoint, or wrap by PEFT's HoftConfig"
    )


def refuse_to_save_by_transformers():
    """Raises where save_pretrained of transformers asks for the state of a layer, whoever has put it into the model."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "save_pretrained" and frame.f_globals.get("__name__", "").startswith("transformers."):
            refuse_to_save()
        frame = frame.f_back


def warn_of_ranks(name, ranks, features):
    """Where a side has more reflectors than any orthogonal matrix of its size needs."""
    for side, rank, size in zip(("left", "right"), ranks, features):
        if rank > size + size % 2:
            warnings.warn(f"{name}: {rank} reflectors on the {side}, where {size} features need {size} at most")


def keeping_wide(parameters, fn):
    """fn, which `_apply` of a module takes, but for those of these parameters that are not of 16 bits: they stay so."""
    masters = [a for p in parameters if p is not None for a in (p, p.grad) if a is not None]

    def wide(tensor):
        result = fn(tensor)
        kept = tensor.dtype in (torch.float32, torch.float64) and any(tensor is a for a in masters)
        if kept and result.dtype not in (torch.float32, torch.float64):
            return tensor.to(result.device, torch.float32)
        return result

    return wide


def _has_weight(state_dict, prefix):
    """Whether a file has more of the base with that prefix than its bias."""
    return any(key.startswith(prefix) and key != prefix + "bias" for key in state_dict)


def _same(now, then):
    """Whether the elements are the same, as far as this rank has them."""
    now, then = parallel.parts_here(now, then)
    return now.shape != then.shape or torch.equal(now, then.to(now.device, now.dtype))


class HOFTLinear(torch.nn.Module):
    """y = Q_U diag(s) M Q_V x + b around the frozen `base`, y = M x + b: a torch.nn.Linear, or any module with its
    in_features, out_features, bias (a tensor or None) and call, however it stores M; GPT-2's Conv1D as well.

    rank: of both sides, or (left, right); even, since reflectors begin in pairs that cancel: at first y = base(x).
        (0, r) is the method HRA.
    scaled: train s [out_features] as well (SHOFT). Without it s = 1 and the singular values of M stay (HOFT). The
        parameter is d = s − 1, so that weight decay pulls s to 1.
    std: standard deviation of the Gaussian rows that u and v begin with. Q does not depend on the length of its
        reflectors, but what a step of an optimiser does to it: 0.1 suits the learning rates that LoRA is trained with.

    The base is called as a module on x as it is: what its call does (dequantising, hooks, autocast) happens, and neither
    the adapted weight nor its gradient is formed. It is also called with the normalised rows of v, without gradients,
    whenever u, v, d or one of its tensors have changed since the last call; what comes out is kept until then. A
    torch.nn.Linear without hooks is not called: its product with x is taken in the same way, and adapted in place. More
    arguments of a call go to the base; nothing is kept then. The parameters u [rank, out], v [rank, in] and d [out] are
    double beside double and float beside all else, and stay float where the module is given a 16-bit type.

    Raises: TypeError where the base has no features, ValueError for a rank or std that is none. Warns where a parameter
    that is frozen here belongs to another module as well.
    """

    def __init__(self, base: torch.nn.Module, rank: Union[int, Tuple[int, int]], scaled: bool = False, std: float = 0.1):
        super().__init__()
        name = type(self).__name__
        ranks, (n, m), weight = _ranks(name, rank), bases.of(base).features, bases.of(base).weight
        if not (math.isfinite(std) and std > 0):
            raise ValueError(f"{name}: std is {std}, must be positive")
        trained = [a for a in bases.shared(base) if dict(base.named_parameters())[a].requires_grad]
        if trained:
            warnings.warn(
                f"{name}: {', '.join(trained)} of the base belongs to another module as well (a tied embedding?) and is"
                " frozen there too"
            )
        warn_of_ranks(name, ranks, (m, n))
        self.base = base.requires_grad_(False)
        double = weight is not None and weight.dtype == torch.float64
        options = {"dtype": torch.float64 if double else torch.float32, "device": None if weight is None else weight.device}
        self.u, self.v = (torch.nn.Parameter(paired_gaussian(r, k, **options).mul_(std)) for r, k in zip(ranks, (m, n)))
        self.d = torch.nn.Parameter(torch.zeros(m, **options)) if scaled else None
        self.distribute()
        self._around = Around(name)
        self._merged_from = self._merged_hook = None

    def distribute(self) -> "HOFTLinear":
        """Splits u, v and d over ranks as the base's weight is split: for a base that was split after it was wrapped.
        Before an optimiser is told of them, since they are new parameters. Raises as `parallel.place`."""
        self.u, self.v, self.d = parallel.place(self.base, self.u, self.v, self.d)
        return self

    @property
    def s(self) -> Optional[Tensor]:
        """1 + d [out]; None for HOFT."""
        return None if self.d is None else 1 + self.d

    @property
    def in_features(self) -> int:
        return bases.of(self.base).features[0]

    @property
    def out_features(self) -> int:
        return bases.of(self.base).features[1]

    @property
    def bias(self) -> Optional[Tensor]:
        return bases.of(self.base).bias

    @property
    def weight(self) -> Optional[Tensor]:
        """The adapted weight [out, in], for those who multiply with it themselves; it is formed, with gradients, when
        they do, if the base stores a plain matrix (TypeError otherwise)."""
        base = bases.of(self.base)
        if self.merged or base.weight is None:
            return base.weight
        form = lambda: merge(base.matrix("HOFTLinear.weight"), self.u, self.v, self.s)
        return AdaptedWeight(base.features[::-1], base.weight.dtype, base.weight.device, form)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """x [..., in] to [..., out]."""
        if self.merged:
            if not functional.is_compiling():
                self._require_as_merged()
                parallel.require_used((self.u, self.v, self.d))
            return self.base(x, *args, **kwargs)
        trained = [a for a in (self.u, self.v, self.d) if a is not None]
        return self._around.call(self.base, x, self.u, self.v, self.s, trained, args, kwargs)

    def rebind(self) -> None:
        """`Around.rebind`"""
        self._around.rebind()

    def _apply(self, fn, *args, **kwargs):
        """to(), half(), cuda() and their like. The parameters are not rounded to 16 bits."""
        self.rebind()  # other elements may come to the same address
        return super()._apply(keeping_wide(self._parameters.values(), fn), *args, **kwargs)

    @property
    def merged(self) -> bool:
        """Whether the weight of the base is the adapted one."""
        return self._merged_from is not None

    def merge(self) -> "HOFTLinear":
        """Puts Q_U diag(s) M Q_V in the place of the base's weight, so that calls cost what the base costs. Until
        `unmerge`, u, v and d are not used and get no gradients; a call raises RuntimeError if they change. Raises as
        `around.merge_into`, and where the weight belongs to another module as well."""
        self._require_own_weight()
        merge_into(self.base, self.u, self.v, self.s)
        for parameter in self._parameters.values():
            if parameter is not None:
                parameter.grad = None  # optimisers leave alone what has none
        self._remember_merged()
        return self

    def require_mergeable(self) -> None:
        """Raises what `merge` would."""
        self._require_own_weight()
        require_mergeable(self.base, self.u, self.v, self.s)

    def _require_own_weight(self):
        if self.merged:
            raise RuntimeError("HOFTLinear.merge: the layer is already merged")
        if "weight" in bases.shared(self.base):
            raise RuntimeError(
                "HOFTLinear.merge: the weight belongs to another module as well (a tied embedding?), which would change:"
                " give the base a copy, base.weight = torch.nn.Parameter(base.weight.detach().clone())"
            )

    def unmerge(self) -> "HOFTLinear":
        """The inverse of `merge`, by u, v and s as they were then, to the rounding of the weight's type. Raises where an s
        was 0."""
        if not self.merged:
            raise RuntimeError("HOFTLinear.unmerge: the layer is not merged")
        u, v, d = (None if a is None else a.to(b.device, b.dtype) for a, b in zip(self._merged_from, self._trained()))
        unmerge_from(self.base, u, v, None if d is None else 1 + d)
        self._forget_merged()
        self.rebind()
        return self

    def _trained(self):
        return self.u, self.v, self.d

    def _remember_merged(self, loading=False):
        """loading: the weight is about to be read from the file that says so."""
        self._forget_merged()
        self._merged_from = [None if a is None else a.detach().clone() for a in self._trained()]
        self._seen_merged = None
        self._weight_expected = loading
        self._merged_hook = self.base._register_load_state_dict_pre_hook(self._base_is_loaded)
        self.rebind()

    def _forget_merged(self):
        self.leave_base()
        self._merged_from = None

    def leave_base(self) -> None:
        """The base knows nothing of this layer any more, though its weight may be the adapted one."""
        if self._merged_hook is not None:
            self._merged_hook.remove()
        self._merged_hook = None

    def _base_is_loaded(self, state_dict, prefix, *_):
        """A weight that is read into the base alone is not the one that was merged."""
        expected, self._weight_expected = self._weight_expected, False
        if not expected and _has_weight(state_dict, prefix):
            self._forget_merged()
            self.rebind()

    def _require_as_merged(self):
        """While merged, outputs and files must not speak of other u, v and d than the weight does."""
        # On the host elements may be written behind autograd's back; elsewhere a comparison would wait for a device.
        on_host = all(a is None or a.device.type == "cpu" for a in self._trained())
        seen = [None if a is None else (a.data_ptr(), a._version) for a in self._trained()]
        if seen == self._seen_merged and not on_host:
            return
        for name, now, then in zip("uvd", self._trained(), self._merged_from):
            if now is not None and not _same(now.detach(), then):
                raise RuntimeError(
                    f"HOFTLinear: {name} has changed since the layer was merged, its weight has not: call unmerge()"
                )
        self._seen_merged = seen

    def get_extra_state(self) -> Tensor:
        """Whether the weight in a state_dict is merged belongs to the state; a tensor, so that every format takes it."""
        refuse_to_save_by_transformers()
        if self.merged:
            self._require_as_merged()
        return torch.tensor(self.merged, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        """`_load_from_state_dict` reads it, which knows whether the weight comes with it."""

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing, unexpected, errors):
        names = {key[len(prefix) :] for key in state_dict if key.startswith(prefix)}
        adapter, weight = {"u", "v"} <= names, _has_weight(state_dict, prefix + "base.")
        flag = state_dict.get(prefix + "_extra_state")
        known = flag is None or not flag.is_meta
        merged = bool(flag) if known and flag is not None else False
        refused = None
        if "d" in names and self.d is None:
            refused = "the file has scales d (SHOFT), this layer has none: make it with scaled=True"
        elif adapter and "d" not in names and self.d is not None:
            refused = "the file has no scales d (HOFT), this layer has (SHOFT): make it with scaled=False"
        elif merged and weight and not adapter:
            refused = "the file has a merged weight, but not the u and v that it was merged from"
        elif self.merged and not weight and names & {"u", "v", "d"}:
            refused = "the layer is merged, and the file has u, v or d without a weight: call unmerge() before"
        if refused:
            errors.append(f"HOFTLinear {prefix[:-1]}: {refused}")
            return
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing, unexpected, errors)
        self.rebind()
        if weight and known:
            self._forget_merged()
            if merged:
                self._remember_merged(loading=True)

    def extra_repr(self) -> str:
        return f"rank=({len(self.u)}, {len(self.v)}), scaled={self.d is not None}, merged={self.merged}"
