#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Draws docs/figures/transform.svg: HOFT and SHOFT as a product of matrices, what is trained and what is frozen.

Without arguments it writes the file, with --check it fails if the file differs from what it would write.
"""
import argparse
import pathlib
import sys

TRAINED, FROZEN, DERIVED = "#e69f00", "#9aa5b1", "#cfe3f3"  # told apart by colour-blind readers, and by hatching
INK = "#1b1f24"
TARGET = pathlib.Path(__file__).resolve().parent.parent / "docs" / "figures" / "transform.svg"


class Drawing:
    def __init__(self, width, height):
        self.size = (width, height)
        self.parts = []

    def box(self, x, y, width, height, fill, label="", note=""):
        self.parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="3" fill="{fill}" '
                          f'stroke="{INK}" stroke-width="1.2"/>')
        if label:
            self.text(x + width / 2, y + height / 2 + 6, label, size=18)
        if note:
            self.text(x + width / 2, y + height + 18, note, size=12)

    def triangle(self, x, y, side, fill):
        self.parts.append(f'<path d="M{x} {y} h{side} v{side} Z" fill="{fill}" stroke="{INK}" stroke-width="1.2"/>')

    def text(self, x, y, text, size=14, anchor="middle", italic=False):
        style = ' font-style="italic"' if italic else ""
        self.parts.append(f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}"{style}>{text}</text>')

    def write(self):
        width, height = self.size
        return "\n".join([
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'font-family="Helvetica, Arial, sans-serif" fill="{INK}" role="img" '
            'aria-label="The adapted weight is Q_U times diag(s) times M times Q_V: M is frozen, U, V and s are trained">',
            f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>', *self.parts, "</svg>", ""])


def compact_wy(drawing, x, y, side, name):
    """I − U T Uᵀ under its square."""
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
    drawing = Drawing(850, 300)
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

    drawing.box(600, y + 4, 18, 18, TRAINED)
    drawing.text(626, y + 18, "trained: U, V (and s)", size=13, anchor="start")
    drawing.box(600, y + 34, 18, 18, FROZEN)
    drawing.text(626, y + 48, "frozen: the weight M", size=13, anchor="start")
    drawing.box(600, y + 64, 18, 18, DERIVED)
    drawing.text(626, y + 78, "made of U: triangle T", size=13, anchor="start")

    low = 196
    drawing.text(94, low + 40, "Q", size=18)
    drawing.text(107, low + 46, "U", size=11)
    compact_wy(drawing, 120, low, 72, "U")
    drawing.text(344, low + 40, "Q", size=18)
    drawing.text(357, low + 46, "V", size=11)
    compact_wy(drawing, 370, low, 56, "V")
    drawing.text(600, low + 20, "r columns of U are r reflectors.", size=13, anchor="start")
    drawing.text(600, low + 40, "Neither Q nor M̂ is formed: beside M x", size=13, anchor="start")
    drawing.text(600, low + 60, "there are thin products, as in LoRA.", size=13, anchor="start")
    return drawing.write()


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--check", action="store_true", help="fail if the file is not what this script writes")
    picture = draw()
    if arguments.parse_args().check:
        if TARGET.read_text(encoding="utf-8") != picture:
            sys.exit(f"{TARGET.name} is not what {pathlib.Path(__file__).name} writes: run it without --check")
        return
    TARGET.write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
