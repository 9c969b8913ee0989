# SPDX-License-Identifier: BSD-3-Clause
"""Names of the methods for people, without what runs them."""

LABELS = {
    "head": "head only",
    "full": "full fine-tuning",
    "lora": "LoRA",
    "dora": "DoRA",
    "oft": "OFT",
    "boft": "BOFT",
    "hra": "HRA",
    "hoft": "HOFT",
    "shoft": "SHOFT",
}


def methods_of(results: dict) -> list[str]:
    """The methods that were run, in the order of LABELS."""
    present = {run["method"] for run in results["runs"]}
    return [name for name in LABELS if name in present]
