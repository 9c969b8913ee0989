# SPDX-License-Identifier: BSD-3-Clause
"""Draws results as PNG: ratios as bars, rates under the roofline."""

import sys

try:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
except ImportError:
    sys.exit(
        "plots.py: matplotlib is missing for this Python: apt-get install python3-matplotlib, and use "
        "/usr/bin/python3"
    )

from gpu_targets import shares_of_copy
from measured import require_measured
from series import bandwidth, over_hoft, speed
from tables import by_operation, peers_of
from training import ratios_to_lora

HOFT, PEER, SLOWER = "#0072B2", "#E69F00", "#D55E00"  # Okabe and Ito's
LARGE = "4096/4096/16"
SHOWN = [
    f"apply/float/{LARGE}",
    f"apply/double/{LARGE}",
    f"apply_rows/float/{LARGE}",
    f"apply_backward/float/{LARGE}",
    f"merge/float/{LARGE}",
    f"training/float/{LARGE}",
    "apply/float/1024/1024/16",
    "apply/float/4096/512/32",
    "apply/float/4096/4096/64",
    "apply/float/4096/4096/256",
    "step/float/1024/1024/16",
    "batch/float/64/64/8",
]

plt.rcParams.update(
    {
        "figure.dpi": 120,
        "font.size": 8,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.alpha": 0.3,
        "grid.linewidth": 0.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "axes.titlesize": 9,
    }
)


def title(name):
    operation, scalar, m, n, r = name.split("/")
    return f"{operation.replace('_', ' ')}, {scalar}, {m} × {n}, r = {r}"


def plain_ticks(axis):
    """1, 2, 5, 10, …: the ranges are too short for powers of ten alone."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def draw_ratios(cases, path):
    shown = [name for name in SHOWN if name in cases]
    rows = (len(shown) + 2) // 3
    if not shown:
        return
    figure, axes = plt.subplots(rows, 3, figsize=(13, 2.6 * rows), layout="constrained", squeeze=False)
    figure.suptitle("Median time of each peer over that of hoft (above 1, hoft is faster; logarithmic)", fontsize=10)
    for axis in axes.flat[len(shown) :]:
        axis.set_axis_off()
    for axis, name in zip(axes.flat, shown):
        case = cases[name]
        ratios = sorted((over_hoft(case, peer), peer) for peer in peers_of(case) if not peer.startswith("hoft"))
        values, names = zip(*ratios)
        bars = axis.barh(names, values, color=[PEER if value >= 1 else SLOWER for value in values], height=0.7)
        axis.bar_label(bars, [f"{value:.2f}" for value in values], padding=2, fontsize=7)
        axis.axvline(1, color=HOFT, linewidth=1.5)
        axis.set_xscale("log")
        axis.set_xlim(min(0.7, 0.8 * values[0]), max(2, 1.5 * values[-1]))
        plain_ticks(axis.xaxis)
        axis.set_title(title(name))
        axis.grid(axis="y", visible=False)
    figure.savefig(path)


def median(values):
    return sorted(values)[len(values) // 2]


def draw_roofline(cases, path):
    figure, axes = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    markers = dict(
        zip(
            ("apply", "apply_rows", "apply_backward", "merge", "forward", "backward", "accumulate", "batch"), "osD^v<P*"
        )
    )
    for axis, scalar in zip(axes, ("float", "double")):
        mine = {
            name: case
            for name, case in cases.items()
            if name.split("/")[1] == scalar and name.split("/")[0] in markers and "fma_peak" in case
        }
        if not mine:
            axis.set_axis_off()
            continue
        top = median([speed(case["fma_peak"]) for case in mine.values()]) / 1e6
        slope = median([bandwidth(case) for case in mine.values()]) / 1e6
        points = []
        for operation, table in by_operation(mine).items():
            own = [
                (case["hoft"]["flops"] / case["hoft"]["bytes"], speed(case["hoft"]) / 1e6) for case in table.values()
            ]
            peers = [
                (
                    case["hoft"]["flops"] / case["hoft"]["bytes"],
                    max(
                        case["hoft"]["flops"] / case[p]["median_ms"]
                        for p in peers_of(case)
                        if not p.startswith(("hoft", "frozen", "lora"))
                    )
                    / 1e6,
                )
                for case in table.values()
            ]
            points += own
            axis.plot(*zip(*own), markers[operation], color=HOFT, markersize=6, label=operation.replace("_", " "))
            axis.plot(*zip(*peers), markers[operation], color=PEER, markersize=5, markerfacecolor="none")
        low, high = min(x for x, _ in points) / 2, max(x for x, _ in points) * 2
        axis.plot([low, top / slope, high], [low * slope, top, top], color="black", linewidth=1.2)
        axis.set_xscale("log")
        axis.set_yscale("log")
        plain_ticks(axis.xaxis)
        plain_ticks(axis.yaxis)
        axis.set_title(f"{scalar}: peak {top:.0f} GFLOP/s, copy {slope:.1f} GB/s, one thread")
        axis.set_xlabel("flops per byte that must move")
        axis.set_ylabel("GFLOP/s")
        axis.legend(loc="lower right", title="filled: hoft; hollow: fastest peer", ncols=2, fontsize=7)
    figure.savefig(path)


def draw_gpu(results, path):
    """Each contestant's share of the bandwidth of a device copy, an axis for each case with one."""
    require_measured(results, path)
    cases = {name: shares for name, case in results["cases"].items() if (shares := shares_of_copy(case))}
    heights = [len(shares) for shares in cases.values()]
    figure, axes = plt.subplots(
        len(cases),
        1,
        figsize=(8, 1 + 0.3 * sum(heights)),
        height_ratios=heights,
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, (name, shares) in zip(axes[:, 0], cases.items()):
        names, values = zip(*sorted(shares.items(), key=lambda item: item[1]))
        colours = [HOFT if name.startswith("hoft") else PEER for name in names]
        bars = axis.barh(names, values, color=colours, height=0.7)
        axis.bar_label(bars, [f"{value:.0f} %" for value in values], padding=2, fontsize=7)
        axis.set_title(name)
        axis.grid(axis="y", visible=False)
        axis.axvline(100, color="black", linewidth=1)
        axis.margins(x=0.1)
    axes[-1, 0].set_xlabel("bytes that must move once, by the time: % of a device copy's")
    figure.savefig(path)
    plt.close(figure)


def draw_training(results, path):
    """Step time and peak memory over LoRA's, summed over the shapes."""
    require_measured(results, path)
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for axis, what, text in zip(axes, ("median_ms", "peak_bytes"), ("step time", "peak memory")):
        ratios = sorted(ratios_to_lora(results, what), key=lambda item: -item[1])
        axis.set_title(f"{text} / LoRA's of rank r, sums over the shapes (logarithmic)")
        if not ratios:
            axis.set_axis_off()
            continue
        names, values = zip(*ratios)
        bars = axis.barh(names, values, color=[HOFT if "hoft" in name else PEER for name in names], height=0.7)
        axis.bar_label(bars, [f"{value:.2f}" for value in values], padding=2, fontsize=7)
        axis.axvline(1, color="black", linewidth=1)
        axis.set_xscale("log")
        axis.set_xlim(0.8 * min(values), 1.5 * max(values))
        plain_ticks(axis.xaxis)
        axis.grid(axis="y", visible=False)
    figure.savefig(path)
    plt.close(figure)


def draw(results, folder):
    draw_ratios(results["cases"], folder / "ratios.png")
    draw_roofline(results["cases"], folder / "roofline.png")
