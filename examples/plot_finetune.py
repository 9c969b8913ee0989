# SPDX-License-Identifier: BSD-3-Clause
"""Draws the results of finetune_images: plot_finetune.py FOLDER reads FOLDER/results.json and writes PNG files there."""

import argparse
import json
import pathlib
import statistics
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "scripts"))

from plot_names import METHODS, method_colour
from plot_style import WIDTH, plain_ticks, plt, save, style
from matplotlib.ticker import MaxNLocator

NAMES = {**METHODS, "frozen": "frozen network"}


def methods_of(entries):
    """The methods that occur, in the order of NAMES."""
    present = {entry["method"] for entry in entries}
    return [method for method in NAMES if method in present]


def figure_text(results):
    seeds = results["seeds"]
    return (f"Fashion-MNIST upside down, {results['labels']} labels, rank {results['rank']}, "
            + (f"mean and standard deviation over {seeds} seeds" if seeds > 1 else "1 seed"))


def draw_curves(results, path):
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.8), sharex=True, layout="constrained")
    figure.suptitle(figure_text(results))
    finals = []
    panels = zip(axes, ("target", "source"), ("upside down (target)", "upright (source), not shown while adapting"))
    for axis, quantity, title in panels:
        for method in methods_of(results["runs"]):
            runs = [run for run in results["runs"] if run["method"] == method]
            values = list(zip(*(run["curve"][quantity] for run in runs)))
            epochs = runs[0]["curve"]["epoch"]
            mean = [statistics.fmean(v) for v in values]
            if len(epochs) == 1:
                label = f"{NAMES[method]}: {mean[0]:.1f} %"
                axis.axhline(mean[0], label=label, **style(method))
                continue
            label = f"{NAMES[method]}, {runs[0]['parameters']:,.0f} parameters"
            axis.plot(epochs, mean, marker=".", markersize=4, label=label, **style(method))
            if len(runs) > 1:
                spread = [statistics.stdev(v) for v in values]
                low, high = ([m + sign * s for m, s in zip(mean, spread)] for sign in (-1, 1))
                axis.fill_between(epochs, low, high, color=method_colour(method), alpha=0.15, linewidth=0)
            if quantity == "target":
                finals.append(mean[-1])
        axis.set_title(title)
        axis.set_xlabel("epoch")
        axis.set_xlim(0, results["epochs"])
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_ylim(0, 100)
    if finals:  # the methods end close together: show the end, not the way up from the frozen network
        axes[0].set_ylim(max(0, min(finals) - 25), min(100, max(finals) + 4))
    axes[0].set_ylabel("test accuracy, %")
    axes[0].legend(loc="lower right")
    save(figure, path)


def draw_spectra(results, path):
    before = next(s for s in results["spectra"] if s["method"] == "source")["layers"]
    adapted = [s for s in results["spectra"] if s["method"] != "source"]
    if not adapted:
        return
    figure, axes = plt.subplots(2, 2, figsize=(WIDTH, 6), sharex=True, sharey="row", layout="constrained")
    figure.suptitle(f"Singular values of the hidden weights before and after, rank {results['rank']}, seed 1",
                    fontsize=10)
    largest = 1
    for layer, title in enumerate(("first hidden weight, 256 × 784", "second hidden weight, 256 × 256")):
        index = range(1, len(before[layer]) + 1)
        values, ratios = axes[0][layer], axes[1][layer]
        values.set_title(title)
        values.plot(index, before[layer], color="black", linewidth=4, alpha=0.25, label="before")
        for method in methods_of(adapted):
            after = next(s for s in adapted if s["method"] == method)["layers"][layer]
            values.plot(index, after, label=NAMES[method], **style(method))
            ratio = [a / b if b > 0 else float("nan") for a, b in zip(after, before[layer])]
            ratios.plot(index, ratio, **style(method))
            largest = max(largest, *ratio[:len(ratio) // 2])
        values.set_yscale("log")
        ratios.set_yscale("log")
        ratios.set_xscale("log")
        plain_ticks(ratios.yaxis)
        plain_ticks(ratios.xaxis, (1,))
        ratios.set_xlim(1, len(before[layer]))
        ratios.set_xlabel("index $i$")
    # The last few singular values are nearly zero and their ratios noise: they shall not set the scale.
    axes[0][0].set_ylim(bottom=0.01 * before[0][0])
    axes[1][0].set_ylim(0.2, 1.2 * largest)
    axes[0][0].set_ylabel("$\\sigma_i$")
    axes[1][0].set_ylabel("$\\sigma_i$ after / before")
    axes[0][0].legend(loc="lower left")
    save(figure, path)


def draw_rates(results, path):
    if not results["trials"]:
        return
    figure, axis = plt.subplots(figsize=(5.5, 3.8), layout="constrained")
    for method in methods_of(results["trials"]):
        trials = [trial for trial in results["trials"] if trial["method"] == method]
        rates, scores = [t["rate"] for t in trials], [t["validation"] for t in trials]
        axis.plot(rates, scores, marker=".", label=NAMES[method], **style(method))
        best = scores.index(max(scores))
        axis.plot(rates[best], scores[best], marker="o", markersize=9, markerfacecolor="none", color=method_colour(method))
    axis.set_xscale("log")
    axis.set_ylim(0, 100)
    axis.set_xlabel("learning rate (circle: chosen)")
    axis.set_ylabel("accuracy on held-out labels, %")
    axis.set_title("Choice of the learning rate")
    axis.legend(loc="lower center")
    save(figure, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path, help="where finetune_images put results.json")
    folder = parser.parse_args().folder
    try:
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as trouble:
        sys.exit(f"plot_finetune.py: no readable results in {folder}: {trouble}; run finetune_images first")
    for draw, name in ((draw_curves, "learning_curves.png"), (draw_spectra, "spectrum.png"),
                       (draw_rates, "learning_rates.png")):
        (folder / name).unlink(missing_ok=True)  # not every run has something for every plot
        draw(results, folder / name)
        if (folder / name).exists():
            print(f"Plot: {folder / name}")


if __name__ == "__main__":
    main()
