# SPDX-License-Identifier: BSD-3-Clause
"""The methods that are compared, each as people call it.

All but `head` and `full` are methods of PEFT. They adapt the same matrices, which are those with
384 inputs: query, key, value and output of attention, and the first matrix of the feed-forward
block. The second, with 1536 inputs, is left out: PEFT's BOFT and HRA form a square matrix of that
size for it in each step, which would take most of the time of the whole comparison.

Ranks and block sizes are those that bring the number of trained parameters nearest to that of
LoRA with rank 6. DoRA, BOFT and SHOFT train one more number for each output.
"""

import warnings
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
from model import Classifier
from quietly import peft
from torch import nn

RANK = 6
COMMON = {
    "target_modules": ["query", "key", "value", "attention.output.dense", "intermediate.dense"],
    "modules_to_save": ["head"],
}


def lora(**options) -> peft.PeftConfig:
    return peft.LoraConfig(r=RANK, lora_alpha=RANK, **options, **COMMON)


def oft() -> peft.PeftConfig:
    return peft.OFTConfig(r=0, oft_block_size=32, use_cayley_neumann=False, **COMMON)


def boft() -> peft.PeftConfig:
    # One butterfly factor: PEFT falls back to it where its CUDA extension is missing.
    return peft.BOFTConfig(boft_block_size=16, boft_n_butterfly_factor=1, **COMMON)


def hra() -> peft.PeftConfig:
    return peft.HRAConfig(r=16, **COMMON)


def hoft(**options) -> peft.PeftConfig:
    from hoft_torch.peft import HoftConfig

    return HoftConfig(r=RANK, **options, **COMMON)


# What makes the configuration of each method; None for those that are none of PEFT's.
METHODS: dict[str, Callable[[], peft.PeftConfig] | None] = {
    "head": None,
    "full": None,
    "lora": lora,
    "dora": lambda: lora(use_dora=True),
    "oft": oft,
    "boft": boft,
    "hra": hra,
    "hoft": hoft,
    "shoft": lambda: hoft(scaled=True),
}


def adapt(model: Classifier, name: str, config: peft.PeftConfig | None = None) -> nn.Module:
    """The model with what the method trains requiring gradients; `config` in place of the
    method's own. The start of an adapter is drawn from PyTorch's generator."""
    make = METHODS[name]
    if make:
        with warnings.catch_warnings():  # PEFT's BOFT says that it has no CUDA extension
            warnings.simplefilter("ignore")
            return peft.get_peft_model(model, config or make())
    model.head.requires_grad_(True)
    model.encoder.requires_grad_(name == "full")
    return model


def is_head(parameter_name: str) -> bool:
    return "head." in parameter_name


def trained_parameters(model: nn.Module) -> tuple[int, int]:
    """How many numbers are trained in the encoder, and in the head."""
    counts = [0, 0]
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            counts[is_head(name)] += parameter.numel()
    return counts[0], counts[1]


def save(model: nn.Module, folder: Path) -> int:
    """Saves what was trained as people do, and returns the bytes of the weights."""
    if isinstance(model, peft.PeftModel):
        model.save_pretrained(folder)
        return (folder / "adapter_model.safetensors").stat().st_size
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.safetensors"
    trained = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
    safetensors.torch.save_file(trained, path)
    return path.stat().st_size


def load_adapter(model: Classifier, folder: Path) -> nn.Module:
    """The adapter of a folder on a model that is as it came."""
    return peft.PeftModel.from_pretrained(model, folder)
