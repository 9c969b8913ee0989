#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Draws docs/figures/transform.svg: HOFT and SHOFT as a product of matrices, what is trained and what is frozen.

Without arguments it writes the file, with --check it fails if the file differs from what it would write.
"""
import pathlib

from drawing import Drawing, write_or_check

TRAINED, FROZEN, DERIVED = "#e69f00", "#9aa5b1", "#cfe3f3"  # colour-blind readers can tell these apart
TARGET = pathlib.Path(__file__).resolve().parent.parent / "docs" / "figures" / "transform.svg"


def compact_wy(drawing, x, y, side, name):
    """I − U T Uᵀ behind the name of its square."""
    thin = 14
    drawing.text(x, y + 41, "= I −", size=15, anchor="start")
    x += 46
    drawing.box(x, y, thin, side, TRAINED)
    drawing.text(x + thin / 2, y + side + 16, name, size=13)
    drawing.triangle(x + thin + 8, y, thin, DERIVED)
    drawing.text(x + 1.5 * thin + 8, y + thin + 18, "T", size=13)
    drawing.box(x + 2 * thin + 16, y, side, thin, TRAINED)
    drawing.text(x + 2 * thin + 16 + side / 2, y + thin + 18, name + "ᵀ", size=13)


def draw():
    drawing = Drawing(900, 300, "The adapted weight is Q_U times diag(s) times M times Q_V: M is frozen, "
                      "U, V and s are trained")  # fmt: skip
    y, m, n = 46, 96, 72
    drawing.text(40, y + m / 2 + 6, "M̂", size=20)
    drawing.text(68, y + m / 2 + 6, "=", size=18)
    drawing.box(94, y, m, m, TRAINED, "Q", "m × m, orthogonal")
    drawing.text(94 + m / 2 + 12, y + m / 2 + 12, "U", size=11)
    drawing.text(208, y + m / 2 + 6, "·", size=22)
    for i in range(6):
        drawing.box(226 + 16 * i, y + 16 * i, 16, 16, TRAINED)
    drawing.text(274, y + m + 18, "diag(s), SHOFT only", size=12)
    drawing.text(340, y + m / 2 + 6, "·", size=22)
    drawing.box(360, y, n, m, FROZEN, "M", "m × n, frozen")
    drawing.text(450, y + m / 2 + 6, "·", size=22)
    drawing.box(470, y + (m - n) / 2, n, n, TRAINED, "Q")
    drawing.text(470 + n / 2 + 12, y + m / 2 + 12, "V", size=11)
    drawing.text(470 + n / 2, y + m + 18, "n × n, orthogonal", size=12)

    for i, (colour, text) in enumerate([(TRAINED, "trained: U, V, and s in SHOFT"), (FROZEN, "frozen: the weight M"),
                                        (DERIVED, "computed from U: the triangle T")]):  # fmt: skip
        drawing.box(600, y + 4 + 30 * i, 18, 18, colour)
        drawing.text(626, y + 18 + 30 * i, text, size=13, anchor="start")

    low = 196
    drawing.text(94, low + 40, "Q", size=18)
    drawing.text(107, low + 46, "U", size=11)
    compact_wy(drawing, 120, low, 72, "U")
    drawing.text(344, low + 40, "Q", size=18)
    drawing.text(357, low + 46, "V", size=11)
    compact_wy(drawing, 370, low, 56, "V")
    drawing.text(600, low + 20, "Each of the r columns of U is a reflector.", size=13, anchor="start")
    drawing.text(600, low + 40, "Training forms neither Q nor M̂: it adds", size=13, anchor="start")
    drawing.text(600, low + 60, "thin products to M x, as LoRA does.", size=13, anchor="start")
    return drawing.write()


if __name__ == "__main__":
    write_or_check(draw(), TARGET, __doc__.splitlines()[0])
