# SPDX-License-Identifier: BSD-3-Clause
"""Times and memory of training steps, each method under the same conditions."""

import concurrent.futures
import ctypes
import multiprocessing
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import methods
import torch
from data import SECTIONS
from model import Classifier, load
from torch import Tensor, nn

MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of malloc.h
SHAPES = {"small": (24, 12), "large": (64, 32)}  # texts a step and tokens a text


def processes() -> multiprocessing.context.BaseContext:
    """How processes are made: from one that has imported what takes long, and done nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["quietly"])
    return context


def alone(function: Callable, *arguments) -> Any:
    """What a function returns in a process of its own, which has done nothing before."""
    with concurrent.futures.ProcessPoolExecutor(1, processes()) as pool:
        return pool.submit(function, *arguments).result()


class Step:
    """One step of training after another on one batch of random tokens."""

    def __init__(self, model: nn.Module, shape: tuple[int, int]):
        texts, tokens = shape
        self.model = model.train()
        self.batch = (torch.randint(1000, 20000, shape), torch.full((texts,), tokens))
        self.labels = torch.arange(texts) % len(SECTIONS)
        trained = [p for p in model.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(trained, lr=1e-4)

    def __call__(self) -> Tensor:
        loss = nn.functional.cross_entropy(self.model(*self.batch), self.labels)
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad()
        return loss


def step_times(
    names: Sequence[str], shape: tuple[int, int], rounds: int, done: Callable[[], None]
) -> dict[str, float]:
    """Milliseconds of a step of each method on one thread: medians of the processor time over
    the rounds. In a round the methods take turns, in another order each time. `done` is called
    after each round, of which there is one more, to warm up."""
    torch.set_num_threads(1)
    steps = {name: Step(methods.adapt(load(len(SECTIONS), 1), name), shape) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    order = random.Random(1)
    for _ in range(rounds + 1):
        for name in order.sample(list(names), len(names)):
            start = time.process_time()
            steps[name]()
            times[name].append(1000 * (time.process_time() - start))
        done()
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def weight_bytes(model: Classifier) -> int:
    """Of the encoder's parameters, with what a quantised one needs beside its codes."""
    total = 0
    for parameter in model.encoder.parameters():
        total += parameter.numel() * parameter.element_size()
        state = getattr(parameter, "quant_state", None)
        if state is not None:
            tensors = state.as_dict(packed=True).values()
            total += sum(t.numel() * t.element_size() for t in tensors if torch.is_tensor(t))
    return total


def _resident(which: str) -> int:
    """Bytes of this process: VmRSS now, or VmHWM, the most since the last reset."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(which + ":"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"measure: /proc/self/status has no {which}")


def peak_memory(name: str, four_bit: bool, steps: int) -> dict:
    """Bytes of the frozen weights, and by how much large `steps` of a method raise the memory of a
    process that has loaded them: adapters, gradients, optimiser and activations. For `alone`."""
    # What is freed goes back at once: otherwise gaps between what lives count as well, and these
    # depend on the order of allocations more than on how much a method needs.
    ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, 1 << 16)
    torch.set_num_threads(1)
    base = load(len(SECTIONS), 1, four_bit)
    weights = weight_bytes(base)
    ctypes.CDLL(None).malloc_trim(0)  # what loading has freed would hide what the steps take
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    step = Step(methods.adapt(base, name), SHAPES["large"])
    for _ in range(steps):
        step()
    return {"weights": weights, "peak": _resident("VmHWM") - before}


def process_peak(name: str, four_bit: bool, steps: int) -> int:
    """Bytes of a whole process, Python and its libraries with it, at its peak over large `steps`
    of a method, with malloc as it is. For `alone`."""
    torch.set_num_threads(1)
    step = Step(methods.adapt(load(len(SECTIONS), 1, four_bit), name), SHAPES["large"])
    for _ in range(steps):
        step()
    return _resident("VmHWM")
