# SPDX-License-Identifier: BSD-3-Clause
"""Trained HOFT and SHOFT as adapters that PEFT, and whatever reads its files, has without hoft:
LoRA and DoRA, exactly.

    hoft_torch.export_lora(model, directory)         # a PeftModel, or one with HOFTLinear layers
    python -m hoft_torch.export ADAPTER_DIR OUT_DIR  # what a PeftModel has saved

Q_U diag(s) M Q_V = diag(s) M + L R with L [out, left + right] and R [left + right, in]. Without s
that is LoRA of rank left + right. With s it is diag(s) (M + diag(1/s) L R), which DoRA computes of
B = diag(1/s) L, A = R and the magnitudes s_i times the norm of row i of M + B A.
"""

import argparse
import collections
import os
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Optional

import torch

from . import bases
from .functional import a_type
from .module import HOFTLinear

Tensor = torch.Tensor


def low_rank(weight: Tensor, u: Tensor, v: Tensor, s: Optional[Tensor] = None) -> tuple[Tensor, Tensor]:
    """L [m, ru + rv] and R [ru + rv, n] with Q_U diag(s) M Q_V = diag(s) M + L R, in double.

    weight: M [m, n]; u [ru, m], v [rv, n], s [m] (HOFT: none). Cost: O(m n (ru + rv)).
    """
    weight, u, v = (a.detach().double() for a in (weight, u, v))
    unit_u, triangle_u = _wy(u)
    unit_v, triangle_v = _wy(v)
    k = torch.linalg.solve_triangular(triangle_v, weight @ unit_v.t(), upper=True, left=False)  # M V T_V
    middle = weight - k @ unit_v
    if s is not None:
        s = s.detach().double()[:, None]
        middle, k = s * middle, s * k
    rows = torch.linalg.solve_triangular(triangle_u, unit_u @ middle, upper=True)  # T_U Uᵀ diag(s) M Q_V
    return torch.cat([unit_u.t(), k], 1), -torch.cat([rows, unit_v])


def _wy(u):
    """The unit reflectors and S = T⁻¹, of which Q = I − Uᵀ T U. A zero row is the identity, and has
    no direction."""
    norms = u.norm(dim=1, keepdim=True)
    unit = torch.where(norms > 0, u / norms, 0)
    return unit, torch.triu(unit @ unit.t(), 1) + torch.eye(len(u), dtype=u.dtype, device=u.device) / 2


@dataclass
class _Adapted:
    """An adapted layer, whoever made it."""

    name: str
    base: torch.nn.Module
    weight: Tensor  # [out, in]
    factors: tuple
    dtype: torch.dtype  # of the factors in the file

    @property
    def rank(self) -> int:
        return len(self.factors[0]) + len(self.factors[1])


def export_lora(model: torch.nn.Module, directory: "str | os.PathLike", adapter_name: Optional[str] = None) -> None:
    """Writes an adapter of HOFT as LoRA, one of SHOFT as DoRA. Outputs are the same to rounding.

    model: a PeftModel, or any model with HOFTLinear layers.
    directory: becomes one for peft.PeftModel.from_pretrained on the base.
    adapter_name: of a PeftModel; the active one if not given.

    Factors are written as float, as double beside double. What else an adapter of PEFT trains,
    modules_to_save and biases, is written with it; of other models it is not, with a warning. Cost: O(in out rank) a layer.

    Raises:
        TypeError: the model has no such layers.
        ValueError: an element of s is 0, or a row of the adapted weight, which has no norm that
            DoRA could scale; u, v or s are not finite; several adapters are active and none was
            chosen; a layer is merged. Nothing is written.
    """
    peft = _peft()
    is_peft = isinstance(model, peft.PeftModel)
    name = _chosen(model, adapter_name) if is_peft else None
    inner = model.get_base_model() if is_peft else model
    layers = list(_layers_of_peft(inner, name) if is_peft else _layers_of(inner))
    if not layers:
        raise TypeError(f"export_lora: the model, {a_type(inner)}, has no layer adapted by HOFT (merged and unloaded?)")
    scaled = any(layer.factors[2] is not None for layer in layers)
    state = {}
    for layer in layers:
        for key, value in _factors(layer, scaled).items():
            state[f"base_model.model.{layer.name}.{key}"] = value.to(layer.dtype).contiguous().cpu()
    options = _of_peft(model, name) if is_peft else _of_layers(inner, layers)
    if not is_peft:
        _warn_of_others(inner)
    if is_peft:
        saved = peft.get_peft_model_state_dict(model, adapter_name=name)
        state.update({key: value for key, value in saved.items() if not re.search(r"\.hoft_[uvd]$", key)})
    _save(directory, state, inner, use_dora=scaled, fan_in_fan_out=_stores_transposed(layers), **options)


def _warn_of_others(model):
    """What is trained beside HOFTLinear's reflectors and scales has no place in LoRA's file."""
    own = {id(a) for layer in model.modules() if isinstance(layer, HOFTLinear) for a in (layer.u, layer.v, layer.d)}
    others = [name for name, a in model.named_parameters() if a.requires_grad and id(a) not in own]
    if others:
        warnings.warn(f"export_lora: {', '.join(others)[:300]} require gradients, and are not written: save them apart")


def _chosen(model, adapter_name):
    active = model.active_adapters
    if adapter_name is None and len(active) != 1:
        raise ValueError(f"export_lora: {len(active)} adapters are active, {active}: choose one by adapter_name")
    name = active[0] if adapter_name is None else adapter_name
    if name not in model.peft_config:
        raise ValueError(f"export_lora: adapter_name is {name!r}, must be one of {sorted(model.peft_config)}")
    return name


def _layers_of(model) -> Iterator[_Adapted]:
    for name, module in model.named_modules():
        if isinstance(module, HOFTLinear):
            yield _adapted(name, module, module.base, (module.u, module.v, module.s))


def _layers_of_peft(model, adapter_name) -> Iterator[_Adapted]:
    from .peft import HoftLayer

    for name, module in model.named_modules():
        if isinstance(module, HoftLayer) and module.has(adapter_name):
            yield _adapted(name, module, module.get_base_layer(), module.factors(adapter_name))


def _adapted(name, module, base, factors):
    if module.merged:
        raise ValueError(f"export_lora: {name} is merged: unmerge it before")
    weight = _dense(base, name)
    return _Adapted(name, base, weight, factors, torch.float64 if weight.dtype == torch.float64 else torch.float32)


def _dense(base, name):
    """The weight [out, in] of a base. What PEFT makes of a quantised one is what DoRA takes norms
    of."""
    from peft.utils.integrations import dequantize_module_weight

    try:
        return bases.of(base).matrix("export_lora").detach()
    except TypeError as error:
        weight = getattr(base, "weight", None)
        if not torch.is_tensor(weight) or type(weight) in (torch.Tensor, torch.nn.Parameter):
            raise TypeError(f"{error} (layer {name})") from error
        bases.of(base).unpack()
        return dequantize_module_weight(base).detach()


def _factors(layer, as_dora):
    """What PEFT keeps of LoRA or DoRA for a layer, in double."""
    u, v, s = layer.factors
    for what, a in (("u", u), ("v", v), ("s", s)):
        if a is not None and not torch.isfinite(a).all():
            raise ValueError(f"export_lora: {what} of {layer.name} is not finite everywhere")
    B, A = low_rank(layer.weight, u, v, s)
    state = {"lora_A.weight": A, "lora_B.weight": B}
    if as_dora:
        s = torch.ones(len(B), dtype=B.dtype, device=B.device) if s is None else s.detach().double()
        _require_nonzero(layer.name, "s", s)
        state["lora_B.weight"] = B / s[:, None]
        norms = torch.linalg.norm(layer.weight.double() + state["lora_B.weight"] @ A, dim=1)
        _require_nonzero(layer.name, "the norm of row i of Q_U diag(s) M Q_V", norms)
        state["lora_magnitude_vector"] = s * norms
    return state


def _require_nonzero(layer, what, values):
    if (values == 0).any():
        index = int((values == 0).nonzero()[0])
        raise ValueError(f"export_lora: {what} of {layer} is 0 at {index}, must not be: DoRA divides by it")


def _stores_transposed(layers):
    from transformers.pytorch_utils import Conv1D

    return any(isinstance(layer.base, Conv1D) for layer in layers)


def _of_peft(model, name) -> dict[str, Any]:
    """LoRA's options in the place of those of HOFT."""
    from .peft import ranks_of

    config = model.peft_config[name]
    copied = (
        "target_modules exclude_modules layers_to_transform layers_pattern modules_to_save"
        " task_type base_model_name_or_path revision"
    )
    options = {key: getattr(config, key) for key in copied.split()}
    patterns = {key: sum(ranks_of(rank)) for key, rank in config.rank_pattern.items()}
    bias = "lora_only" if config.bias == "hoft_only" else config.bias
    return dict(options, r=sum(ranks_of(config.r)), rank_pattern=patterns, bias=bias)


def _of_layers(model, layers) -> dict[str, Any]:
    """For layers by their names, and the ranks that most do not have by name as well."""
    rank = collections.Counter(layer.rank for layer in layers).most_common(1)[0][0]
    names = [layer.name for layer in layers]
    others = [name for name, _ in model.named_modules() if name not in names]
    # PEFT takes names for the ends of names: where that would find more layers, an expression says
    # it all.
    clash = any(other.endswith("." + name) for other in others for name in names)
    return {
        "r": rank,
        "rank_pattern": {f"^{re.escape(layer.name)}": layer.rank for layer in layers if layer.rank != rank},
        "target_modules": "|".join(map(re.escape, names)) if clash else names,
        "base_model_name_or_path": getattr(model, "name_or_path", None) or None,
    }


def _save(directory, state, model, *, r, rank_pattern, **options):
    """As peft.save_as_lora does."""
    from peft import LoraConfig
    from peft.utils import SAFETENSORS_WEIGHTS_NAME
    from safetensors.torch import save_file

    config = LoraConfig(r=r, lora_alpha=r, rank_pattern=rank_pattern, alpha_pattern=dict(rank_pattern), **options)
    config.inference_mode = True
    mapping = None
    if config.task_type is None:
        mapping = {"base_model_class": type(model).__name__, "parent_library": type(model).__module__}
    os.makedirs(directory, exist_ok=True)
    config.save_pretrained(str(directory), auto_mapping_dict=mapping)
    save_file(state, os.path.join(directory, SAFETENSORS_WEIGHTS_NAME), metadata={"format": "pt"})


def _peft():
    """The package peft, which knows HOFT now."""
    from . import peft as method

    return method.peft


def _load(directory):
    """The PeftModel of a directory, whose configuration says which base it is for."""
    peft = _peft()
    config = peft.PeftConfig.from_pretrained(directory)
    if not config.base_model_name_or_path:
        sys.exit(
            f"hoft_torch.export: {directory} does not say which model its adapter is for (base_model_name_or_path): load"
            " both in Python, and call hoft_torch.export_lora(model, directory)"
        )
    task = config.task_type
    wanted = peft.PeftModel if task is None else peft.MODEL_TYPE_TO_PEFT_MODEL_MAPPING[task]
    classes = (a for key, a in vars(peft).items() if key.startswith("AutoPeftModel"))
    return next(a for a in classes if a._target_peft_class is wanted).from_pretrained(directory)


def main(arguments: Optional[list[str]] = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m hoft_torch.export", description="Writes HOFT as LoRA, SHOFT as DoRA.")
    parser.add_argument("adapter", help="a directory that PeftModel.save_pretrained has written")
    parser.add_argument("out", help="the directory to write")
    options = parser.parse_args(arguments)
    export_lora(_load(options.adapter), options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
