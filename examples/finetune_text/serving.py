# SPDX-License-Identifier: BSD-3-Clause
"""A trained HOFT adapter as LoRA, and a SHOFT adapter as DoRA, read by PEFT without hoft."""

import sys
from pathlib import Path

import methods
import torch
from data import SECTIONS
from model import load
from training import Split, accuracy, scores

SERVED_AS = {"hoft": "LoRA", "shoft": "DoRA"}


def scores_of(folder: Path, data: Split) -> torch.Tensor:
    """The scores of the adapter in a folder on the model as it comes."""
    torch.set_num_threads(1)
    return scores(methods.load_adapter(load(len(SECTIONS), 0), folder), data)


def scores_without_hoft(folder: Path, data: Split) -> torch.Tensor:
    """The same where hoft_torch is not imported, nor can be. For measure.alone."""
    sys.modules["hoft_torch"] = None
    return scores_of(folder, data)


def export(folder: Path, exported: Path) -> None:
    """Writes the adapter of a folder as LoRA or DoRA."""
    import hoft_torch
    import hoft_torch.peft  # makes the method known to PEFT

    hoft_torch.export_lora(methods.load_adapter(load(len(SECTIONS), 0), folder), exported)


def compare(name: str, ours: torch.Tensor, theirs: torch.Tensor, data: Split) -> dict:
    """Accuracies before and after, and the largest difference between scores, as a part of the
    largest score."""
    return {
        "method": name,
        "served_as": SERVED_AS[name],
        "accuracy": accuracy(ours, data),
        "accuracy_served": accuracy(theirs, data),
        "difference": ((ours - theirs).abs().max() / ours.abs().max()).item(),
    }
