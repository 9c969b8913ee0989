# SPDX-License-Identifier: BSD-3-Clause
"""Drawings as SVG without a library: boxes, triangles, lines and text, as the scripts that draw figures need them."""
import argparse
import math
import pathlib
import sys

INK = "#1b1f24"


class Drawing:
    def __init__(self, width, height, described):
        self.size, self.described, self.parts = (width, height), described, []

    def box(self, x, y, width, height, fill, label="", note="", round_corners=3):
        self.parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="{round_corners}" '
                          f'fill="{fill}" stroke="{INK}" stroke-width="1.2"/>')
        if label:
            self.text(x + width / 2, y + height / 2 + 6, label, size=18)
        if note:
            self.text(x + width / 2, y + height + 18, note, size=12)

    def triangle(self, x, y, side, fill):
        self.parts.append(f'<path d="M{x} {y} h{side} v{side} Z" fill="{fill}" stroke="{INK}" stroke-width="1.2"/>')

    def line(self, x1, y1, x2, y2, width=0.5, colour=INK):
        self.parts.append(f'<path d="M{x1} {y1} L{x2} {y2}" stroke="{colour}" stroke-width="{width}"/>')

    def arrow(self, x1, y1, x2, y2):
        self.line(x1, y1, x2, y2, width=1.2)
        length = math.hypot(x2 - x1, y2 - y1)
        along = ((x2 - x1) / length, (y2 - y1) / length)
        back = (x2 - 9 * along[0], y2 - 9 * along[1])
        ends = [(round(back[0] + side * along[1], 1), round(back[1] - side * along[0], 1)) for side in (3.5, -3.5)]
        points = " L".join(f"{x} {y}" for x, y in ((x2, y2), *ends))
        self.parts.append(f'<path d="M{points} Z" fill="{INK}"/>')

    def text(self, x, y, text, size=14, anchor="middle", bold=False):
        style = ' font-weight="bold"' if bold else ""
        self.parts.append(f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}"{style}>{text}</text>')

    def write(self):
        width, height = self.size
        return "\n".join([
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'font-family="Helvetica, Arial, sans-serif" fill="{INK}" role="img" aria-label="{self.described}">',
            f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>', *self.parts, "</svg>", ""])


def write_or_check(picture, target, description):
    """The main program of a script that draws: without arguments it writes the file, with --check it fails if the file
    differs from what it would write."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("--check", action="store_true", help="fail if the file is not what this script writes")
    if not arguments.parse_args().check:
        target.write_text(picture, encoding="utf-8")
    elif not target.exists() or target.read_text(encoding="utf-8") != picture:
        sys.exit(f"{target.name} is not what {pathlib.Path(sys.argv[0]).name} writes: run it without --check")
