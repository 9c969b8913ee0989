# SPDX-License-Identifier: BSD-3-Clause
"""Which standard deviation HOFT's reflectors should start with: its accuracy by that and by the
learning rate, beside LoRA's. Q does not depend on their length, but a step of a given learning rate
turns short reflectors further."""

from __future__ import annotations

from typing import TYPE_CHECKING

import report
from labels import LABELS
from progress import Progress
from training import Task

if TYPE_CHECKING:  # the program that has imported this module is that one
    from experiment import Experiment

DEVIATIONS = (1.0, 0.3, 0.1, 0.03)
HEAD_RATE = 3e-2


def compare(experiment: Experiment) -> str:
    """Trains all on the validation split, and returns the table."""
    settings = experiment.settings
    starts = [("lora", None), *(("hoft", std) for std in DEVIATIONS)]
    tasks = [
        Task(name, rate, HEAD_RATE, seed, "validation", std=std)
        for name, std in starts
        for rate in settings.rates
        for seed in range(1, settings.seeds + 1)
    ]
    progress = Progress({"lora": 1.0, "hoft": 1.0}, [t.method for t in tasks], experiment.jobs)
    found = list(experiment.trainings(tasks, progress))
    rows = []
    for name, std in starts:
        own = [r for r in found if (r["method"], r["std"]) == (name, std)]
        cells = [LABELS[name] + (f", {std:g}" if std else "")]
        for rate in settings.rates:
            cells.append(
                report.mean_and_spread([r["accuracy"] for r in own if r["rate"] == rate])
            )
        rows.append(cells)
    return report.table(["validation, %", *(f"{rate:.0e}" for rate in settings.rates)], rows)
