# SPDX-License-Identifier: BSD-3-Clause
"""Draws the results of finetune_text: plot.py FOLDER reads FOLDER/results.json and writes two PNG
files there, accuracy with time and memory, and the choice of the learning rates."""

import argparse
import json
import statistics
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts"))

from labels import LABELS, methods_of
from plot_names import is_ours, method_colour
from plot_style import WIDTH, bars, bold_ours, plt, save, style
from report import best_rate, peak_of, runs_of


def title(results: dict) -> str:
    schedule, seeds = results["settings"]["schedule"], results["settings"]["seeds"]
    spread = f"mean and standard deviation of {seeds} seeds" if seeds > 1 else "1 seed"
    return (
        f"all-MiniLM-L6-v2 says the section of Debian's packages\n{schedule['steps']} steps of "
        f"{schedule['batch']} texts, {spread}"
    )


def draw_accuracy(axis, results: dict, names: list[str]) -> None:
    for row, name in enumerate(names):
        values = [run["accuracy"] for run in runs_of(results, name)]
        axis.plot(values, [row] * len(values), ".", color=method_colour(name), alpha=0.5, markersize=4)
        spread = statistics.stdev(values) if len(values) > 1 else 0
        mean = statistics.fmean(values)
        axis.errorbar(mean, row, xerr=spread, fmt="o", color=method_colour(name), capsize=3)
        axis.annotate(f"{mean:.1f}", (mean, row), (0, 6), textcoords="offset points", ha="center")
    axis.set_yticks(range(len(names)), [LABELS[name] for name in names])
    bold_ours(axis, map(is_ours, names))
    axis.set_ylim(len(names) - 0.4, -0.7)
    axis.set_xlabel("test accuracy, %")


def draw_bars(axis, values: list[float], names: list[str], digits: int, heading: str) -> None:
    labels, texts = [LABELS[name] for name in names], [f"{value:.{digits}f}" for value in values]
    bars(axis, labels, values, [method_colour(name) for name in names], texts, map(is_ours, names))
    axis.margins(x=0.25)
    axis.set_xlabel(heading)


def draw(results: dict, path: Path) -> None:
    """Accuracy, time of a large step and memory of each method."""
    names = methods_of(results)
    figure, axes = plt.subplots(
        1, 3, figsize=(WIDTH, 1.1 + 0.4 * len(names)), sharey=True, width_ratios=(1.7, 1, 1),
        layout="constrained",
    )
    figure.suptitle(title(results))
    draw_accuracy(axes[0], results, names)
    times = results["times"]["large"]
    ratios = [times[name] / times["lora"] for name in names]
    draw_bars(axes[1], ratios, names, 2, "time of a step,\nratio to LoRA's")
    peaks = [peak_of(results, name)["peak"] / 2**20 for name in names]
    draw_bars(axes[2], peaks, names, 0, "memory of a step,\nMiB")
    save(figure, path)


def draw_rates(results: dict, path: Path) -> None:
    """Accuracy on the validation split by learning rate, the chosen one in a circle."""
    figure, axis = plt.subplots(figsize=(6.5, 4), layout="constrained")
    for name in methods_of(results):
        trials = sorted(
            (trial["rate"], trial["accuracy"])
            for trial in results["trials"]
            if trial["method"] == name
        )
        axis.plot(*zip(*trials), marker=".", label=LABELS[name], **style(name))
        best = best_rate(results["trials"], name)
        axis.plot(best, dict(trials)[best], "o", markersize=9, markerfacecolor="none",
                  color=method_colour(name))
    best = max(trial["accuracy"] for trial in results["trials"])
    axis.set_ylim(max(0, best - 25), min(100, best + 3))
    axis.set_xscale("log")
    axis.set_xlabel("learning rate (circle: chosen)")
    axis.set_ylabel("validation accuracy, %")
    axis.set_title("Choice of the learning rate")
    axis.legend(loc="lower left", ncols=3)
    save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where experiment.py put results.json")
    folder = parser.parse_args().folder
    try:
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as trouble:
        sys.exit(f"plot.py: no readable results in {folder}: {trouble}; run experiment.py first")
    for make, name in ((draw, "methods.png"), (draw_rates, "rates.png")):
        make(results, folder / name)
        print(f"Plot: {folder / name}")


if __name__ == "__main__":
    main()
