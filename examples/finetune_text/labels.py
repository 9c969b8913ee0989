# SPDX-License-Identifier: BSD-3-Clause
"""Names of the methods for people, without what runs them."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts"))

from plot_names import METHODS

NAMES = ("head", "full", "lora", "dora", "oft", "boft", "hra", "hoft", "shoft")
LABELS = {name: METHODS[name] for name in NAMES}


def methods_of(results: dict) -> list[str]:
    """The methods that were run, in the order of LABELS."""
    present = {run["method"] for run in results["runs"]}
    return [name for name in LABELS if name in present]
