# SPDX-License-Identifier: BSD-3-Clause
"""One training on Debian's descriptions, and its accuracy."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import methods
import torch
from data import SECTIONS
from model import load
from torch import Tensor, nn

POOL = 8
Split = tuple[Tensor, Tensor, Tensor]  # ids [examples, longest], lengths and labels [examples]


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long a training is and what a step sees."""

    steps: int = 200
    batch: int = 24
    warm_up: float = 0.1  # share of the steps in which the learning rate rises; then it falls to 0


@dataclasses.dataclass(frozen=True)
class Task:
    """One training: which method with which learning rates, judged on which split."""

    method: str
    rate: float
    head_rate: float
    seed: int
    split: str
    four_bit: bool = False
    std: float | None = None  # of HOFT's start; None is the default of HoftConfig


def batches(train: Split, schedule: Schedule, seed: int) -> Iterator[Split]:
    """Batches of a split, in an order drawn by `seed`, cut to their longest text. Texts of about
    one length come together, so that little is padded: POOL batches are sorted at a time. What is
    left of an epoch begins the next."""
    ids, lengths, labels = train
    generator = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.long)
    pool: list[Tensor] = []
    for _ in range(schedule.steps):
        if not pool:
            while len(order) < POOL * schedule.batch:
                order = torch.cat([order, torch.randperm(len(ids), generator=generator)])
            taken, order = order.tensor_split([POOL * schedule.batch])
            by_length = taken[lengths[taken].argsort(stable=True)].split(schedule.batch)
            pool = [by_length[i] for i in torch.randperm(POOL, generator=generator)]
        chosen = pool.pop()
        yield ids[chosen, : lengths[chosen].max()], lengths[chosen], labels[chosen]


def train(
    model: nn.Module, data: Split, schedule: Schedule, rate: float, head_rate: float, seed: int
) -> None:
    """Trains what requires gradients by AdamW, the head with a learning rate of its own."""
    groups = {False: [], True: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[methods.is_head(name)].append(parameter)
    rates = {False: rate, True: head_rate}
    optimiser = torch.optim.AdamW(
        [{"params": parameters, "lr": rates[head]} for head, parameters in groups.items()],
        weight_decay=0.01,
    )
    warm = max(1, round(schedule.warm_up * schedule.steps))

    def factor(step: int) -> float:
        rest = (schedule.steps - step) / max(1, schedule.steps - warm)
        return min((step + 1) / warm, rest)

    plan = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
    model.train()
    for ids, lengths, labels in batches(data, schedule, seed):
        nn.functional.cross_entropy(model(ids, lengths), labels).backward()
        optimiser.step()
        optimiser.zero_grad()
        plan.step()


@torch.no_grad()
def scores(model: nn.Module, data: Split, batch: int = 64) -> Tensor:
    """Scores [examples, classes], the texts taken by length so that little is padded."""
    ids, lengths, _ = data
    model.eval()
    result = torch.empty(len(ids), len(SECTIONS))
    for chosen in lengths.argsort(stable=True).split(batch):
        result[chosen] = model(ids[chosen, : lengths[chosen].max()], lengths[chosen])
    return result


def accuracy(found: Tensor, data: Split) -> float:
    """The share of texts whose highest score is that of their section, in percent. ValueError
    where a score is no number."""
    if not found.isfinite().all():
        raise ValueError("accuracy: scores hold values that are not finite")
    return 100 * (found.argmax(1) == data[2]).double().mean().item()


def run(
    task: Task, data: dict[str, Split], schedule: Schedule, folder: Path | None = None
) -> dict:
    """Trains and judges; saves what was trained in `folder`. A diverged training is at 0 %."""
    model = load(len(SECTIONS), task.seed, task.four_bit)
    config = None
    if task.std is not None:
        config = methods.hoft(init_std=task.std)
    model = methods.adapt(model, task.method, config)
    torch.manual_seed(1000 + task.seed)  # dropout: the same however much the start has drawn
    train(model, data["train"], schedule, task.rate, task.head_rate, task.seed)
    found = scores(model, data[task.split])
    diverged = not found.isfinite().all()
    body, head = methods.trained_parameters(model)
    result = dataclasses.asdict(task) | {
        "accuracy": 0.0 if diverged else accuracy(found, data[task.split]),
        "diverged": bool(diverged),
        "parameters": body,
        "head_parameters": head,
    }
    if folder:
        result["bytes"] = methods.save(model, folder)
    return result
