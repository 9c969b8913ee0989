# SPDX-License-Identifier: BSD-3-Clause
"""HOFTLinear put into a model, and taken out again."""

import re
from typing import Dict, Iterable, Tuple, Union

import torch

from . import bases
from .functional import a_type
from .module import HOFTLinear, refuse_to_save


def wrap(
    model: torch.nn.Module,
    rank: Union[int, Tuple[int, int]],
    target: Union[str, Iterable[str]],
    scaled: bool = False,
    std: float = 0.1,
) -> Dict[str, HOFTLinear]:
    """Puts a HOFTLinear around each layer of `model` whose name matches, and returns them by name. A HOFTLinear freezes its
    own base and nothing else: all other parameters train on, unless they are frozen, for example by
    `model.requires_grad_(False)` before.

    target: a regular expression for the whole name ("encoder.*(query|value)"), or endings of names (["query", "value"]).
    rank, scaled, std: as of HOFTLinear.

    A transformers model that is wrapped refuses save_pretrained, whose names would not be those of the model: `unwrap` it
    before, or use HoftConfig, PEFT's way. Raises before anything is changed: ValueError where no name matches or a layer
    is wrapped already, TypeError where one is not linear. Every ending of a list has to match.
    """
    if isinstance(target, str):
        rules = {target: lambda name: re.fullmatch(target, name) is not None}
    else:
        rules = {end: lambda name, end=end: name == end or name.endswith("." + end) for end in target}
    found = {name: module for name, module in _named(model) if name and any(rule(name) for rule in rules.values())}
    idle = [target for target, rule in rules.items() if not any(map(rule, found))]
    if idle or not rules:
        some = ", ".join(repr(name) for name, module in model.named_modules() if isinstance(module, torch.nn.Linear))
        hint = " as a whole (a list names endings)" if isinstance(target, str) else ""
        raise ValueError(
            f"wrap: no layer matches {', '.join(map(repr, idle)) or repr(target)}{hint}; linear layers of the model:"
            f" {some[:300] or 'none'}"
        )
    inside = {id(part) for _, module in model.named_modules() if isinstance(module, HOFTLinear) for part in module.modules()}
    for name, module in found.items():
        if id(module) in inside:
            raise ValueError(f"wrap: {name} is wrapped already")
        try:
            bases.of(module).features
        except TypeError:
            raise TypeError(f"wrap: {name}, {a_type(module)}, is no linear layer") from None
    made = {}
    with bases.looking_once():
        for module in found.values():  # a layer of several names is wrapped once
            if id(module) not in made:
                made[id(module)] = HOFTLinear(module, rank, scaled, std).train(module.training)
    layers = {name: made[id(module)] for name, module in found.items()}
    for name, layer in layers.items():
        replace(model, name, layer)
    if hasattr(model, "save_pretrained"):
        model.save_pretrained = refuse_to_save
    return layers


def unwrap(model: torch.nn.Module, merge: bool = True) -> torch.nn.Module:
    """Takes every HOFTLinear out of `model`, which is returned: its base comes back under its own name, with the adapted
    weight, or with its own where merge is False. Raises as HOFTLinear.merge, before anything is changed."""
    wrapped = {name: module for name, module in _named(model) if isinstance(module, HOFTLinear)}
    layers = {id(layer): layer for layer in wrapped.values()}.values()
    if "" in wrapped:
        raise ValueError("unwrap: the model is itself a HOFTLinear: its base is the attribute base")
    with bases.looking_once():
        for layer in layers:
            if merge and not layer.merged:
                layer.require_mergeable()
        for layer in layers:
            if layer.merged != merge:
                layer.merge() if merge else layer.unmerge()
    for name, layer in wrapped.items():
        replace(model, name, layer.base.train(layer.training))
        layer.leave_base()
    if vars(model).get("save_pretrained") is refuse_to_save:
        del model.save_pretrained
    return model


def _named(model):
    """(name, module) for every name of every module."""
    return model.named_modules(remove_duplicate=False)


def replace(model, name, module):
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)
