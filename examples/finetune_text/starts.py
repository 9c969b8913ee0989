# SPDX-License-Identifier: BSD-3-Clause
"""Which standard deviation HOFT's reflectors should start with: its accuracy by that and by the
learning rate, beside LoRA's. Q does not depend on their length, but a step of a given learning rate
turns short reflectors further."""

from __future__ import annotations

from typing import TYPE_CHECKING

from progress import Progress
from training import Task

if TYPE_CHECKING:  # the program that has imported this module is that one
    from experiment import Experiment

DEVIATIONS = (1.0, 0.3, 0.1, 0.03)
SEEDS = 3
HEAD_RATE = 3e-2
STARTS = (("lora", None), *(("hoft", std) for std in DEVIATIONS))


def compare(experiment: Experiment) -> list[dict]:
    """Trains all, judged on the validation split."""
    settings = experiment.settings
    tasks = [
        Task(name, rate, HEAD_RATE, seed, "validation", std=std)
        for name, std in STARTS
        for rate in settings.rates
        for seed in range(1, min(SEEDS, settings.seeds) + 1)
    ]
    progress = Progress({"lora": 1.0, "hoft": 1.0}, [t.method for t in tasks], experiment.jobs)
    return list(experiment.trainings(tasks, progress))
