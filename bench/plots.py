# SPDX-License-Identifier: BSD-3-Clause
"""Draws results as PNG: ratios as bars, rates under the roofline."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "scripts"))

from plot_names import BLUE, ORANGE, is_ours, method_colour, method_label, peer_colour, peer_label
from plot_style import WIDTH, bars, plain_ticks, plt, save

from gpu_targets import shares_of_copy
from measured import require_measured
from series import bandwidth, over_hoft, speed
from tables import by_operation, peers_of
from training import ratios_to_lora

LARGE = "4096/4096/16"
# Two stand side by side: with about as many peers.
SHOWN = [
    f"apply/float/{LARGE}",
    f"apply/double/{LARGE}",
    "apply/float/1024/1024/16",
    "apply/float/4096/512/32",
    "apply/float/4096/4096/64",
    "apply/float/4096/4096/256",
    f"merge/float/{LARGE}",
    "batch/float/64/64/8",
    f"apply_backward/float/{LARGE}",
    f"apply_rows/float/{LARGE}",
    f"training/float/{LARGE}",
    "step/float/1024/1024/16",
]
TITLES = {
    "apply": "X := Q X",
    "apply_rows": "X := Q X by rows",
    "apply_backward": "gradients of Q X",
    "merge": "Q_U M Q_V",
    "batch": "256 × Q X",
    "training": "Q X and gradients",
    "step": "layer, 2048 tokens",
}


def title(name):
    operation, scalar, m, n, r = name.split("/")
    size = f"{m}²" if m == n else f"{m} × {n}"
    return f"{TITLES.get(operation, operation.replace('_', ' '))}: {size}, r = {r}, {scalar}"


def ratios_of(name, case):
    """[(the peer's time over hoft's, its name)], the fastest peer first."""
    operation = name.split("/")[0]
    return sorted((over_hoft(case, peer), peer_label(peer, operation), peer_colour(peer)) for peer in peers_of(case)
                  if not is_ours(peer))  # fmt: skip


def draw_ratios_of(axis, name, case, rows):
    """In a panel that is high enough for `rows` bars."""
    values, names, colours = zip(*ratios_of(name, case))
    bars(axis, names, values, colours, [f"{value:.2f}" for value in values])
    axis.axvline(1, color=BLUE, linewidth=2, zorder=1.5)
    axis.set_xscale("log")
    axis.set_xlim(min(0.7, 0.8 * values[0]), max(2, 1.6 * values[-1]))
    axis.set_ylim(len(values) - rows - 0.5, len(values) - 0.5)
    plain_ticks(axis.xaxis, (1, 2, 5) if values[-1] < 20 else (1,))
    axis.set_title(title(name), loc="right")  # over the names as well


def draw_ratios(cases, path):
    shown = [name for name in SHOWN if name in cases]
    if not shown:
        return
    pairs = [shown[i : i + 2] for i in range(0, len(shown), 2)]
    heights = [max(len(ratios_of(name, cases[name])) for name in pair) for pair in pairs]
    figure, axes = plt.subplots(
        len(pairs),
        2,
        figsize=(WIDTH, 0.7 + sum(0.65 + 0.2 * height for height in heights)),
        height_ratios=[height + 1.2 for height in heights],
        layout="constrained",
        squeeze=False,
    )
    figure.suptitle("Time of each peer / time of hoft: right of the blue line, hoft is faster")
    for pair, line, height in zip(pairs, axes, heights):
        for axis in line[len(pair) :]:
            axis.set_axis_off()
        for axis, name in zip(line, pair):
            draw_ratios_of(axis, name, cases[name], height)
    for axis in axes[-1]:
        axis.set_xlabel("time / hoft's, logarithmic")
    save(figure, path)


def median(values):
    return sorted(values)[len(values) // 2]


MARKERS = dict(
    zip(("apply", "apply_rows", "apply_backward", "merge", "forward", "backward", "accumulate", "batch"), "osD^v<P*")
)


def rates(case):
    """(flops per byte, GFLOP/s of hoft, of the fastest peer that computes the same)"""
    hoft = case["hoft"]
    peers = [peer for peer in peers_of(case) if not peer.startswith(("hoft", "frozen", "lora"))]
    fastest = min(case[peer]["median_ms"] for peer in peers)
    return hoft["flops"] / hoft["bytes"], speed(hoft) / 1e6, hoft["flops"] / fastest / 1e6


def draw_roofline_of(axis, scalar, cases):
    top = median([speed(case["fma_peak"]) for case in cases.values()]) / 1e6
    slope = median([bandwidth(case) for case in cases.values()]) / 1e6
    intensities = []
    for operation, table in by_operation(cases).items():
        x, ours, peers = zip(*(rates(case) for case in table.values()))
        intensities += x
        marker = MARKERS[operation]
        axis.plot(x, ours, marker, color=BLUE, markersize=7, label=operation.replace("_", " "))
        axis.plot(x, peers, marker, color=ORANGE, markersize=6, markerfacecolor="none", markeredgewidth=1.3)
    low, high = min(intensities) / 2, max(intensities) * 2
    axis.plot([low, top / slope, high], [low * slope, top, top], color="black", linewidth=1.2)
    axis.set_xscale("log")
    axis.set_yscale("log")
    plain_ticks(axis.xaxis)
    plain_ticks(axis.yaxis)
    axis.set_title(f"{scalar}, one thread; the line: {slope:.0f} GB/s of a copy, {top:.0f} GFLOP/s of multiply-adds")
    axis.set_ylabel("GFLOP/s")
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), title="filled: hoft\nhollow: fastest peer")


def draw_roofline(cases, path):
    figure, axes = plt.subplots(2, 1, figsize=(WIDTH, 8), sharex=True, layout="constrained")
    figure.suptitle("Rate of each case under the roofline")
    for axis, scalar in zip(axes, ("float", "double")):
        mine = {
            name: case
            for name, case in cases.items()
            if name.split("/")[1] == scalar and name.split("/")[0] in MARKERS and "fma_peak" in case
        }
        if mine:
            draw_roofline_of(axis, scalar, mine)
        else:
            axis.set_axis_off()
    axes[-1].set_xlabel("flops per byte that must move")
    save(figure, path)


def draw_gpu(results, path):
    """Each contestant's share of the bandwidth of a device copy, an axis for each case with one."""
    require_measured(results, path)
    cases = {name: shares for name, case in results["cases"].items() if (shares := shares_of_copy(case))}
    heights = [len(shares) for shares in cases.values()]
    figure, axes = plt.subplots(
        len(cases),
        1,
        figsize=(WIDTH, 1 + 0.3 * sum(heights)),
        height_ratios=heights,
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, (name, shares) in zip(axes[:, 0], cases.items()):
        who, values = zip(*sorted(shares.items(), key=lambda item: item[1]))
        labels = [one if is_ours(one) else peer_label(one) for one in who]
        bars(axis, labels, values, [peer_colour(one) for one in who], [f"{value:.0f} %" for value in values],
             [is_ours(one) for one in who])  # fmt: skip
        axis.set_title(name)
        axis.axvline(100, color="black", linewidth=1)
        axis.margins(x=0.1)
    axes[-1, 0].set_xlabel("bytes that must move once / time, % of a device copy's")
    save(figure, path)


def draw_training(results, path):
    """Step time and peak memory over LoRA's, summed over the shapes."""
    require_measured(results, path)
    figure, axes = plt.subplots(2, 1, figsize=(WIDTH, 7.5), layout="constrained")
    for axis, what, text in zip(axes, ("median_ms", "peak_bytes"), ("time of a step", "peak memory")):
        ratios = sorted(ratios_to_lora(results, what), key=lambda item: -item[1])
        axis.set_title(f"{text}, all shapes")
        axis.set_xlabel("ratio to LoRA's of rank r, logarithmic")
        if not ratios:
            axis.set_axis_off()
            continue
        who, values = zip(*ratios)
        bars(axis, [method_label(one) for one in who], values, [method_colour(one) for one in who],
             [f"{value:.2f}" for value in values], [is_ours(one) for one in who])  # fmt: skip
        axis.axvline(1, color="black", linewidth=1)
        axis.set_xscale("log")
        axis.set_xlim(0.8 * min(values), 1.7 * max(values))
        plain_ticks(axis.xaxis)
    save(figure, path)


def draw(results, folder):
    draw_ratios(results["cases"], folder / "ratios.png")
    draw_roofline(results["cases"], folder / "roofline.png")
