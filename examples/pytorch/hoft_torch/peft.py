# SPDX-License-Identifier: BSD-3-Clause
"""HOFT and SHOFT as a method of PEFT.

    from hoft_torch.peft import HoftConfig
    model = peft.get_peft_model(model, HoftConfig(r=16, target_modules="all-linear"))

Importing this module registers the method in PEFT's own tables. What follows is PEFT's: saving and
loading, several adapters, merging, modules_to_save. `hoft_torch.export_lora` writes a trained
adapter as LoRA or DoRA.

An adapted layer computes Q_U diag(s) M Q_V x + b. Several active adapters are applied in the order
of activation: the second adapts the layer that the first has made,
Q_U2 diag(s2) (Q_U1 diag(s1) M Q_V1) Q_V2. Merging them in that order gives the same weight.
"""

import contextlib
import numbers
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional, Union

import torch

from . import bases, functional, parallel
from .around import Around, left, merge_into, unmerge_from
from .module import keeping_wide, warn_of_ranks
from .weight import AdaptedWeight

try:
    import peft
    from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer, check_adapters_to_merge
    from peft.utils import (
        TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING,
        PeftType,
        get_quantization_kwargs,
        quantization_extra_repr,
        register_peft_method,
        resolve_quantization_backend,
    )
    from peft.utils.other import get_pattern_key
    from transformers.pytorch_utils import Conv1D
except ImportError as error:
    raise ImportError("hoft_torch.peft needs PEFT 0.21 or newer: pip install 'peft>=0.21'") from error

NAME = "HOFT"
Rank = Union[int, tuple[int, int]]


def ranks_of(rank: Any, argument: str = "r") -> tuple[int, int]:
    """(left, right) of a rank of both sides or a pair. ValueError unless both are even, at least 0
    and not both 0."""
    pair = tuple(rank) if isinstance(rank, Sequence) and not isinstance(rank, str) else (rank, rank)
    if len(pair) != 2 or not all(isinstance(r, numbers.Integral) and r >= 0 and r % 2 == 0 for r in pair) or not any(pair):
        raise ValueError(
            f"HoftConfig: {argument} is {rank!r}, must be an even number of at least 2, or two even numbers (left,"
            " right) of which one is at least 2, since reflectors begin in pairs"
        )
    return int(pair[0]), int(pair[1])


# What those who come from LoRA look for first.
OF_LORA = {
    "lora_alpha": "HOFT has no factor beside the learning rate, since Q does not depend on the length of reflectors",
    "lora_dropout": "it is called dropout here",
}


@dataclass
class HoftConfig(peft.PeftConfig):
    """Which layers are adapted by HOFT or SHOFT, and how. What is not named here is as in
    peft.PeftConfig.

    r: the number of reflectors on both sides of the weight, or (left, right); even, since they
        begin in pairs that cancel. (0, r) adapts the inputs alone, (r, 0) the outputs alone.
    scaled: trains a factor for each output as well (SHOFT).
    dropout: the probability with which a pair of reflectors is left out of a step of training,
        which is multiplicative dropout as in OFT and BOFT. What is left out costs no less.
    init_weights: whether the adapter begins as the identity. Without it all reflectors are
        independent, for tests.
    init_std: the standard deviation of their elements at the start. Q does not depend on it, but
        the step that an optimiser of a given learning rate turns Q by goes as 1 / init_std.
    rank_pattern: r by layer: names, or regular expressions of names, with their own r.
    target_modules, exclude_modules, layers_to_transform, layers_pattern, modules_to_save: as in
        peft.LoraConfig.
    bias: which biases of the base are trained: "none", "all", or "hoft_only", those of adapted
        layers.
    """

    r: Rank = field(default=8, metadata={"help": "Reflectors on both sides, or (left, right)."})
    scaled: bool = field(default=False, metadata={"help": "Whether to train a factor for each output (SHOFT)."})
    dropout: float = field(default=0.0, metadata={"help": "Probability of leaving out a pair of reflectors."})
    target_modules: Optional[Union[list[str], str]] = field(default=None, metadata={"help": "Layers to adapt."})
    exclude_modules: Optional[Union[list[str], str]] = field(default=None, metadata={"help": "Layers not to adapt."})
    init_weights: bool = field(default=True, metadata={"help": "Whether to begin as the identity."})
    init_std: float = field(default=0.1, metadata={"help": "Standard deviation of reflectors at the start."})
    rank_pattern: dict[str, Rank] = field(default_factory=dict, metadata={"help": "r by name or regular expression."})
    layers_to_transform: Optional[Union[list[int], int]] = field(default=None, metadata={"help": "Indices of layers."})
    layers_pattern: Optional[Union[list[str], str]] = field(default=None, metadata={"help": "Name of the list of layers."})
    bias: str = field(default="none", metadata={"help": "Biases to train: 'none', 'all' or 'hoft_only'."})
    modules_to_save: Optional[list[str]] = field(default=None, metadata={"help": "Modules to train and save whole."})

    def __new__(cls, *_, **options):
        for name, hint in OF_LORA.items():
            if name in options:  # in the words by which PEFT knows that a file has more than this version takes
                raise TypeError(f"HoftConfig got an unexpected keyword argument '{name}': {hint}")
        return super().__new__(cls)

    def __post_init__(self):
        super().__post_init__()
        self.peft_type = getattr(PeftType, NAME)
        self.r = _checked_rank(self.r, "r")
        patterns = (self.rank_pattern or {}).items()
        self.rank_pattern = {name: _checked_rank(rank, f"rank_pattern[{name!r}]") for name, rank in patterns}
        self.target_modules = _as_set(self.target_modules)
        self.exclude_modules = _as_set(self.exclude_modules)
        self._check()

    def _check(self):
        if not 0 <= self.dropout < 1:
            raise ValueError(f"HoftConfig: dropout is {self.dropout}, must be at least 0 and below 1")
        if not 0 < self.init_std < float("inf"):
            raise ValueError(f"HoftConfig: init_std is {self.init_std}, must be positive")
        if self.bias not in ("none", "all", "hoft_only"):
            raise ValueError(f"HoftConfig: bias is {self.bias!r}, must be 'none', 'all' or 'hoft_only'")
        for name in ("layers_to_transform", "layers_pattern"):
            if isinstance(self.target_modules, str) and getattr(self, name) is not None:
                raise ValueError(f"HoftConfig: {name} is given, must be None where target_modules is a string")
        if self.layers_pattern and self.layers_to_transform is None:
            raise ValueError("HoftConfig: layers_pattern is given, needs layers_to_transform")


def _checked_rank(rank, argument):
    """As JSON gives it back."""
    pair = ranks_of(rank, argument)
    return pair[0] if isinstance(rank, numbers.Integral) else list(pair)


def _as_set(names):
    return set(names) if isinstance(names, list) else names


def _quantisation(base_layer, **kwargs):
    """How PEFT takes the weight of a quantised layer apart and puts it back, which it needs for
    merging alone; None where there is no need for it or, for torchao outside of transformers, no
    way to know how it was quantised."""
    try:
        return resolve_quantization_backend(base_layer, **kwargs)
    except ValueError:
        return None


class HoftLayer(torch.nn.Module, BaseTunerLayer):
    """A frozen linear layer of any kind with adapters: hoft_u [left, out_features], hoft_v [right,
    in_features] and, for SHOFT, hoft_d = s - 1 [out_features], by the name of the adapter. A side
    without reflectors has no parameter."""

    adapter_layer_names = ("hoft_u", "hoft_v", "hoft_d")
    other_param_names = ("hoft_dropout", "_around")

    def __init__(self, base_layer: torch.nn.Module, adapter_name: str, ranks: tuple[int, int], config: HoftConfig, **kwargs):
        super().__init__()
        self.base_layer = base_layer
        self.in_features, self.out_features = bases.of(base_layer).features
        self.quantization_backend = _quantisation(base_layer, **kwargs)
        self.hoft_u = torch.nn.ParameterDict()
        self.hoft_v = torch.nn.ParameterDict()
        self.hoft_d = torch.nn.ParameterDict()
        self.hoft_dropout: dict[str, float] = {}
        self._around: dict[str, Around] = {}
        self._disable_adapters = False
        self.cast_input_dtype_enabled = True  # PEFT's helpers ask for it; nothing is cast here
        self.merged_adapters = []
        self._merged_factors: dict[str, tuple] = {}
        self._active_adapter = adapter_name
        self.train(base_layer.training)
        self.update_layer(adapter_name, ranks, config)

    def update_layer(self, adapter_name: str, ranks: tuple[int, int], config: HoftConfig) -> None:
        """Adds an adapter."""
        warn_of_ranks("HoftLayer", ranks, (self.out_features, self.in_features))
        for reflectors, rank, size in (
            (self.hoft_u, ranks[0], self.out_features),
            (self.hoft_v, ranks[1], self.in_features),
        ):
            if rank:
                rows = functional.paired_gaussian(rank, size) if config.init_weights else torch.randn(rank, size)
                reflectors[adapter_name] = torch.nn.Parameter(config.init_std * rows)
        if config.scaled:
            d = torch.zeros(self.out_features) if config.init_weights else 0.1 * torch.randn(self.out_features)
            self.hoft_d[adapter_name] = torch.nn.Parameter(d)
        self.hoft_dropout[adapter_name] = config.dropout
        self._around[adapter_name] = Around("HoftLayer")
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self._distribute(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def _distribute(self, adapter_name):
        """Splits the adapter over ranks as the base's weight is split."""
        kept = [getattr(self, name) for name in self.adapter_layer_names]
        values = [parameters[adapter_name] if adapter_name in parameters else None for parameters in kept]
        for parameters, value in zip(kept, parallel.place(self.get_base_layer(), *values, function="HoftLayer")):
            if value is not None:
                parameters[adapter_name] = value

    def factors(self, adapter_name: str) -> tuple[torch.Tensor, torch.Tensor, Optional[torch.Tensor]]:
        """u [left, out_features], v [right, in_features], and s [out_features] or None, of an
        adapter of this layer."""
        kept = {name: getattr(self, name) for name in self.adapter_layer_names}
        some = next(parameters[adapter_name] for parameters in kept.values() if adapter_name in parameters)
        u = kept["hoft_u"][adapter_name] if adapter_name in kept["hoft_u"] else some.new_empty(0, self.out_features)
        v = kept["hoft_v"][adapter_name] if adapter_name in kept["hoft_v"] else some.new_empty(0, self.in_features)
        d = kept["hoft_d"][adapter_name] if adapter_name in kept["hoft_d"] else None
        # In bfloat16 1 + d would be 1 for every small d.
        return u, v, None if d is None else 1 + d.to(functional.master_dtype(d.dtype))

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if self.disable_adapters and self.merged:
            self.unmerge()
        names = self._working()
        if not names:
            if self.merged:
                parallel.require_used(self._parameters_of(self._known(self.active_adapters)), "HoftLayer")
            return self.base_layer(x, *args, **kwargs)
        (u, v, s), outer = self._composed(names)
        # What the layer keeps between calls is recognised by its parameters, where those are what
        # it is made of.
        trained = [u, v, *([] if s is None else [s])] if self._leaves_out(names) else self._parameters_of(names)
        return self._around[names[0]].call(self.base_layer, x, u, v, s, trained, args, kwargs, outer)

    @property
    def weight(self) -> torch.Tensor:
        """What calls multiply with, for those who multiply with it themselves, as
        torch.nn.MultiheadAttention does: around a torch.nn.Linear the adapted weight, formed with
        gradients when they do; else the base's."""
        base, names = self.get_base_layer(), self._working()
        plain = type(getattr(base, "weight", None)) is torch.nn.Parameter and self.quantization_backend is None
        if not (names and plain and isinstance(base, torch.nn.Linear)):
            return super().weight
        return AdaptedWeight(base.weight.shape, base.weight.dtype, base.weight.device, lambda: self._formed(names))

    def _formed(self, names):
        (u, v, s), outer = self._composed(names)
        weight = functional.merge(bases.of(self.get_base_layer()).matrix("HoftLayer.weight").detach(), u, v, s)
        for u, s in outer:
            weight = left(weight.t(), u, s).t()
        return weight

    def _composed(self, names):
        """The factors of the first adapter with the v of all, and u and s of the others in their
        order."""
        factors = [self._with_dropout(name) for name in names]
        u, v, s = factors[0]
        if len(names) > 1:
            v = torch.cat([v for _, v, _ in factors])
        return (u, v, s), [(u, s) for u, _, s in factors[1:]]

    def _working(self):
        """The adapters that a call applies."""
        return [] if self.disable_adapters or self.merged else self._known(self.active_adapters)

    def has(self, adapter_name: str) -> bool:
        """Whether this layer has a part of the adapter."""
        return adapter_name in self._around

    def _known(self, names):
        return [name for name in names if self.has(name)]

    def _with_dropout(self, name):
        """The factors with pairs of reflectors left out: a reflector of zeros is the identity."""
        u, v, s = self.factors(name)
        if not self._leaves_out([name]):
            return u, v, s
        kept = (torch.rand(len(a) // 2, 1, device=a.device) >= self.hoft_dropout[name] for a in (u, v))
        return *(a * parallel.same(pairs.repeat_interleave(2, 0), a) for a, pairs in zip((u, v), kept)), s

    def _leaves_out(self, names):
        return self.training and any(self.hoft_dropout[name] for name in names)

    def _parameters_of(self, names):
        kept = (getattr(self, kind) for kind in self.adapter_layer_names)
        return [parameters[name] for parameters in kept for name in names if name in parameters]

    def merge(self, safe_merge: bool = False, adapter_names: Optional[list[str]] = None) -> None:
        """Puts the adapted weight in the place of the base's. What is not finite is refused before
        anything is written, with safe_merge or without."""
        for name in self._known(check_adapters_to_merge(self, adapter_names)):
            factors = tuple(a if a is None else a.detach().clone() for a in self.factors(name))
            try:
                self._replace(functional.merge, merge_into, factors)
            except ValueError as error:
                raise ValueError(f"{error} (adapter {name!r})") from error
            self._merged_factors[name] = factors
            self.merged_adapters.append(name)

    def unmerge(self) -> None:
        """Takes all merged adapters out again, as they were when they were merged, to the rounding
        of the weight."""
        if not self.merged:
            warnings.warn("HoftLayer.unmerge: nothing is merged.")
        while self.merged_adapters:
            self._replace(functional.unmerge, unmerge_from, self._merged_factors[self.merged_adapters[-1]])
            del self._merged_factors[self.merged_adapters.pop()]

    @torch.no_grad()
    def _replace(self, of_weight, of_base, factors):
        """The weight becomes of_weight(weight, *factors). PEFT knows how to take and give a
        quantised one."""
        weight = self.get_base_layer().weight
        wanted = torch.float64 if weight.dtype == torch.float64 else torch.float32
        factors = [a if a is None else a.to(weight.device, wanted) for a in factors]
        if self.quantization_backend is None:
            of_base(self.get_base_layer(), *factors)
            return
        weight = self.base_matrix()
        replaced = of_weight(weight.float(), *factors)
        if not torch.isfinite(replaced).all():
            raise ValueError("HoftLayer.merge: the adapted weight is not finite everywhere")
        self.set_base_weight(replaced.to(weight.dtype))

    def base_matrix(self) -> torch.Tensor:
        """The base's weight [out_features, in_features], dequantised if need be; not to be written
        to."""
        base = bases.of(self.get_base_layer())
        if self.quantization_backend is None:
            return base.matrix("HoftLayer").detach()
        base.unpack()
        return self.get_base_weight().detach()

    @torch.no_grad()
    def get_delta_weight(self, adapter_name: str) -> torch.Tensor:
        """The adapted weight less the base's, stored as the base stores its weight: what
        peft.convert_to_lora takes apart where a rank below left + right is wanted.
        `hoft_torch.export_lora` is exact."""
        weight = self.base_matrix()
        delta = functional.merge(weight, *self.factors(adapter_name)) - weight
        return delta.t().contiguous() if isinstance(self.get_base_layer(), Conv1D) else delta

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:
        return True

    def _apply(self, fn, *args, **kwargs):
        """to(), half(), cuda() and their like: parameters that are not of 16 bits stay so."""
        for around in self._around.values():
            around.rebind()
        kept = [getattr(self, kind) for kind in self.adapter_layer_names]
        return super()._apply(keeping_wide([a for each in kept for a in each.values()], fn), *args, **kwargs)

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing, unexpected, errors):
        """With strict=False too, as PEFT loads, an adapter of HOFT takes none of SHOFT, and the other way round."""
        for name in self._around:
            # PEFT puts no name to a kind of parameter that no adapter has.
            keys = ({f"{prefix}{kind}.{name}", f"{prefix}{kind}"} for kind in self.adapter_layer_names)
            given = [not each.isdisjoint(state_dict) for each in keys]
            if any(given[:2]) and given[2] != (name in self.hoft_d):
                has = "scales (SHOFT), the adapter has none (HOFT)" if given[2] else "no scales (HOFT), the adapter has (SHOFT)"
                errors.append(f"HoftLayer {prefix[:-1]}, adapter {name!r}: the file has {has}")
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing, unexpected, errors)

    def _move_adapter_to_device_of_base_layer(self, adapter_name: str, device: Optional[torch.device] = None) -> None:
        if torch.is_tensor(getattr(self.get_base_layer(), "weight", None)):  # torch.ao's is a method, on the host
            super()._move_adapter_to_device_of_base_layer(adapter_name, device)

    def extra_repr(self) -> str:
        return quantization_extra_repr(self)


class HoftModel(BaseTuner):
    """A model whose targeted layers are adapted by HOFT or SHOFT. Made by peft.get_peft_model."""

    prefix = "hoft_"
    tuner_layer_cls = HoftLayer
    target_module_mapping = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    def _create_and_replace(self, config, adapter_name, target, target_name, parent, current_key, **_):
        pattern = get_pattern_key(config.rank_pattern.keys(), current_key)
        ranks = ranks_of(config.rank_pattern.get(pattern, config.r))
        if isinstance(target, HoftLayer):
            target.update_layer(adapter_name, ranks, config)
            return
        try:
            layer = HoftLayer(target, adapter_name, ranks, config, **get_quantization_kwargs(self))
        except TypeError as error:
            raise TypeError(f"HoftModel: {current_key} cannot be adapted: {error}") from error
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)  # another adapter is not trained before it is chosen
        self._replace_module(parent, target_name, layer, target)

    @contextlib.contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, adapter_names: Optional[list[str]] = None, **kwargs: Any) -> Iterator:
        if adapter_names is not None:
            raise ValueError("HoftModel: adapter_names is given, but batches of several adapters are for LoRA alone")
        yield


def _register() -> None:
    """Adds the method to PEFT's tables. PeftType has no way in for methods from elsewhere, so its
    member is made here as enum makes them."""
    if NAME in PeftType.__members__:
        raise ImportError(f"hoft_torch.peft: PEFT {peft.__version__} has a method of its own named {NAME}")
    member = str.__new__(PeftType, NAME)
    member._name_, member._value_ = NAME, NAME
    PeftType._member_names_.append(NAME)
    PeftType._member_map_[NAME] = PeftType._value2member_map_[NAME] = member
    type.__setattr__(PeftType, NAME, member)
    register_peft_method(name=NAME.lower(), config_cls=HoftConfig, model_cls=HoftModel)


_register()
