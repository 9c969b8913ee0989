#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Draws docs/figures/compact_wy.svg: a product of reflectors, and the same as I − U T Uᵀ, in blocks to scale.

Without arguments it writes the file, with --check it fails if the file differs from what it would write.
"""
import pathlib

from drawing import Drawing, write_or_check

TARGET = pathlib.Path(__file__).resolve().parent.parent / "docs/figures/compact_wy.svg"
TRAINED, DERIVED, SQUARE, IDENTITY = "#e69f00", "#cfe3f3", "#9aa5b1", "#ffffff"
M, R, TOP = 120, 30, 60  # m, r and where the squares begin


def named(drawing, x, y, width, height, fill, name, size):
    drawing.box(x, y, width, height, fill)
    drawing.text(x + width // 2, TOP - 12, name, size=17)
    drawing.text(x + width // 2, TOP + M + 20, size, size=13)


def sign(drawing, x, text):
    drawing.text(x, TOP + M // 2 + 7, text, size=22)


def identity(drawing, x, side):
    named(drawing, x, TOP, side, side, IDENTITY, "I", "m × m")
    drawing.line(x, TOP, x + side, TOP + side, width=2)


def draw():
    drawing = Drawing(800, 300, "Q, an m by m matrix, is the identity minus U, m by r, times T, r by r and upper "
                                    "triangular, times U transposed, r by m")
    named(drawing, 30, TOP, M, M, SQUARE, "Q", "m × m")
    sign(drawing, 172, "=")
    identity(drawing, 194, M)
    sign(drawing, 336, "−")
    x = 358
    named(drawing, x, TOP, R, M, TRAINED, "U", "m × r")
    for column in range(1, 5):  # the columns are reflectors
        at = x + column * R // 5
        drawing.line(at, TOP, at, TOP + M)
    x += R + 26
    drawing.triangle(x, TOP, R, DERIVED)
    drawing.text(x + R // 2, TOP - 12, "T", size=17)
    drawing.text(x + R // 2, TOP + M + 20, "r × r", size=13)
    x += R + 26
    named(drawing, x, TOP, M, R, TRAINED, "Uᵀ", "r × m")

    x += M + 34
    for i, (fill, text) in enumerate(((TRAINED, "stored: r columns,"), (DERIVED, "made of U:"), (SQUARE, "never formed"))):
        drawing.box(x, TOP + 40 * i, 16, 16, fill)
        drawing.text(x + 24, TOP + 13 + 40 * i, text, size=13, anchor="start")
    drawing.text(x + 24, TOP + 30, "one for a reflector", size=13, anchor="start")
    drawing.text(x + 24, TOP + 70, "upper triangle", size=13, anchor="start")
    drawing.text(30, 236, "Q is the product of r reflectors, Q = H(u₁) H(u₂) ⋯ H(u_r), with H(u) = I − 2 u uᵀ / (uᵀu).",
                 size=14, anchor="start")
    drawing.text(30, 264, "Q X = X − U (T (Uᵀ X)): three thin products, 4 m n r + 2 n r² flops for X with n columns.",
                 size=14, anchor="start")
    return drawing.write()


if __name__ == "__main__":
    write_or_check(draw(), TARGET, __doc__.splitlines()[0])
