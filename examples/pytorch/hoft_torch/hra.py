# SPDX-License-Identifier: BSD-3-Clause
"""HRA, Householder reflection adaptation: M Q_V, reflectors on the right side alone. It is HOFT of rank (0, r)."""

import json
import pathlib
from typing import Dict, Union

import torch

from .module import HOFTLinear
from .wrap import replace

_ROOT = "base_model.model."  # what PEFT puts before the names of the model's modules


class HRALinear(HOFTLinear):
    """y = M Q_V x + b around the frozen `base`: a HOFTLinear of rank (0, rank). v [rank, in] holds the reflectors, whose
    columns PEFT calls hra_u. (Yuan et al., Bridging the gap between low-rank and orthogonal adaptation via Householder
    reflection adaptation, 2024.)"""

    def __init__(self, base: torch.nn.Module, rank: int, std: float = 0.1):
        super().__init__(base, (0, rank), std=std)


def load_hra(model: torch.nn.Module, directory: Union[str, pathlib.Path]) -> Dict[str, HRALinear]:
    """Puts HRALinear around the layers of `model` for which an adapter in `directory`, saved by PEFT's HRA, has
    reflectors; the layers by name. Where Gram and Schmidt were applied to the reflectors, the layers have what came out.
    Trained biases and modules that were saved with the adapter are loaded as well. Everything but the reflectors is
    frozen, as PEFT does it.

    Raises, before a layer is replaced: FileNotFoundError without adapter_config.json or weights; ValueError where the
    adapter is no HRA, its shapes do not fit, or names in it are not of the model; TypeError for layers that are not linear.
    """
    directory = pathlib.Path(directory)
    config = json.loads((directory / "adapter_config.json").read_text())
    if config.get("peft_type") != "HRA":
        raise ValueError(f"load_hra: the adapter in {directory} is of type {config.get('peft_type')}, must be HRA")
    tensors = {name[len(_ROOT) :] if name.startswith(_ROOT) else name: a for name, a in _read(directory).items()}
    made, rest = {}, {}
    modules = dict(model.named_modules())
    for name, a in tensors.items():
        path, _, last = name.rpartition(".")
        if last != "hra_u":
            rest[name] = a
            continue
        if path not in modules:
            raise ValueError(f"load_hra: the adapter has reflectors for {path}, which the model has not")
        made[path] = _layer(path, modules[path], a, config.get("apply_GS", False))
    biases = {name: a for name, a in rest.items() if ".base_layer." in name}
    others = {name: a for name, a in rest.items() if name not in biases}
    unknown = [name for name in others if name not in model.state_dict()]
    if unknown:
        raise ValueError(f"load_hra: the adapter has {unknown[0]}, which the model has not")
    model.load_state_dict(others, strict=False)
    model.requires_grad_(False)
    for path, layer in made.items():
        replace(model, path, layer)
    model.load_state_dict({name.replace(".base_layer.", ".base."): a for name, a in biases.items()}, strict=False)
    return made


def _read(directory):
    if (directory / "adapter_model.safetensors").exists():
        from safetensors.torch import load_file

        return load_file(directory / "adapter_model.safetensors")
    return torch.load(directory / "adapter_model.bin", map_location="cpu")


def _layer(name, base, columns, orthogonalised):
    layer = HRALinear(base, 0)
    if columns.dim() != 2 or len(columns) != layer.in_features:
        raise ValueError(
            f"load_hra: hra_u of {name} has the shape {list(columns.shape)}, must have [{layer.in_features}, rank]"
        )
    columns = columns.to(layer.v)
    if orthogonalised:
        columns = torch.linalg.qr(columns).Q  # Gram and Schmidt's, but for signs, which reflectors do not see
    layer.v = torch.nn.Parameter(columns.t().contiguous())
    return layer.train(base.training)
