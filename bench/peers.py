#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Draws bench/results/peers.svg, the plot of README.md: six ways to multiply by the same product of reflectors.

Without arguments it writes the file, with --check it fails if the file differs from what it would write. Needs no
matplotlib, so that every machine can check it.
"""
import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "scripts"))

from drawing import Drawing, write_or_check
from plot_names import METHOD_COLOURS, is_ours, peer_colour, peer_label
from series import over_hoft

RESULTS, TARGET = ROOT / "bench/results/cpu.json", ROOT / "bench/results/peers.svg"
CASE = "apply/float/4096/4096/16"
SHOWN = ("hoft", "blas_products", "eigen_products", "lapack_larfb", "eigen_sequence", "lapack_ormqr")
LEFT, TOP, LENGTH, ROW = 240, 50, 400, 32  # of the bars: where they begin, the longest, the distance of two


def draw(results):
    case = results["cases"][CASE]
    shown = sorted(SHOWN, key=lambda name: case[name]["median_ms"])
    longest = case[shown[-1]]["median_ms"]
    bottom = TOP + ROW * len(shown)
    drawing = Drawing(840, bottom + 56, "Time of X := Q X by hoft and five peers")
    drawing.text(420, 28, "X := Q X for a 4096 × 4096 matrix, 16 reflectors, float, one thread", size=15)
    for milliseconds in range(0, int(longest) + 10, 10):
        x = round(LEFT + LENGTH * milliseconds / longest, 1)
        drawing.line(x, TOP, x, bottom, colour="#c8ccd0")
        drawing.text(x, bottom + 18, str(milliseconds), size=13)
    drawing.text(LEFT + LENGTH / 2, bottom + 40, "time, ms", size=13)
    for row, name in enumerate(shown):
        mine, time = is_ours(name), case[name]["median_ms"]
        y, width = TOP + ROW * row + 5, round(LENGTH * time / longest, 1)
        colour = METHOD_COLOURS["hoft"] if mine else peer_colour(name)
        drawing.box(LEFT, y, width, ROW - 10, colour, round_corners=0)
        label = "hoft" if mine else peer_label(name, "apply")
        drawing.text(LEFT - 10, y + 16, label, size=14, anchor="end", bold=mine)
        ratio = "" if mine else f", {over_hoft(case, name):.1f} × hoft"
        drawing.text(LEFT + width + 8, y + 16, f"{time:.1f} ms{ratio}", size=14, anchor="start", bold=mine)
    return drawing.write()


if __name__ == "__main__":
    write_or_check(draw(json.loads(RESULTS.read_text(encoding="utf-8"))), TARGET, __doc__.splitlines()[0])
