#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Draws docs/figures/layers.svg: the folders and headers of include/hoft, and an arrow from each to what it includes.

Boxes and arrows are read from the #include lines; an arrow that others imply is left out. Without arguments it writes
the file, with --check it fails if the file differs from what it would write.
"""
import collections
import pathlib
import re
import sys

from drawing import Drawing, write_or_check

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs/figures/layers.svg"
BASE = ("version.hpp", "abi.hpp", "config.hpp")  # one box
APART = ("view/eigen.hpp", "view/dlpack.hpp", "view/mdspan.hpp")  # headers with a box of their own
# The column of each box. Its row follows from what it includes.
COLUMNS = {
    "hoft.hpp": 1, "blas.hpp": 0, "nccl.hpp": 4, "eigen": 1, "cuda.hpp": 3, "mpi.hpp": 5, "adapter": 2, "sharded": 4, "cpu": 1,
    "householder": 2, "cuda": 3, "reference": 0, "backend": 2, "view/eigen.hpp": 0.5, "memory": 2, "view/dlpack.hpp": 3.3,
    "view/mdspan.hpp": 4.5, "fwd.hpp": 3.3, "view": 2, "core": 2, "base": 2,
}  # fmt: skip
# What else must be installed: the start of a header's name, and the colour of the boxes that need it.
NEEDS = {"Eigen": (r"Eigen/", "#fde3b3"), "CUDA": (r"(cub|cuda)", "#cdeac0"), "MPI": (r"mpi\.h", "#cfe3f3"),
         "NCCL": (r"nccl\.h", "#cdeac0"), "BLAS": (r"cblas\.h", "#fde3b3")}
PLAIN = "#eef0f2"
WIDTH, HEIGHT, STEP_X, STEP_Y, LEFT, TOP = 128, 40, 146, 72, 20, 46


def box_of(path):
    """The box of a header, a path below include/hoft."""
    if path in BASE:
        return "base"
    return path if path in APART else path.split("/")[0]


def read():
    """(number of headers of each box, {box: boxes it includes}, {box: names in NEEDS})"""
    headers, edges, needs = collections.Counter(), collections.defaultdict(set), collections.defaultdict(set)
    for file in sorted((ROOT / "include/hoft").rglob("*")):
        if file.suffix not in (".hpp", ".cuh"):
            continue
        box = box_of(file.relative_to(ROOT / "include/hoft").as_posix())
        headers[box] += 1
        for target in re.findall(r"^[ \t]*#[ \t]*include[ \t]*<([^>]*)>", file.read_text(encoding="utf-8"), re.M):
            if target.startswith("hoft/"):
                edges[box].add(box_of(target.removeprefix("hoft/")))
            needs[box] |= {name for name, (start, _) in NEEDS.items() if re.match(start, target)}
        edges[box].discard(box)
    return headers, edges, needs


def reachable(edges, box):
    """All that the box includes, directly or through others."""
    found, todo = set(), [box]
    while todo:
        new = edges[todo.pop()] - found
        found |= new
        todo += new
    return found


def row_of(edges, box):
    return 1 + max((row_of(edges, other) for other in edges[box]), default=-1)


def draw():
    headers, edges, needs = read()
    if headers.keys() != COLUMNS.keys():
        sys.exit(f"draw_layers.py: COLUMNS differs from include/hoft in {sorted(headers.keys() ^ COLUMNS.keys())}")
    below = {box: reachable(edges, box) for box in headers}
    if cyclic := [box for box in headers if box in below[box]]:
        sys.exit(f"draw_layers.py: {cyclic} include each other")
    rows = {box: row_of(edges, box) for box in headers}
    top = max(rows.values())
    centre = {
        box: (round(LEFT + WIDTH / 2 + STEP_X * COLUMNS[box]), TOP + HEIGHT // 2 + STEP_Y * (top - rows[box])) for box in headers
    }
    drawing = Drawing(LEFT * 2 + WIDTH + STEP_X * 5, TOP + STEP_Y * top + HEIGHT + 24,
                          "Each folder and header of hoft, with arrows to those it includes")
    drawing.text(LEFT, 26, "An arrow: includes. Colours: what must be installed beside hoft.", anchor="start")
    for box in headers:
        direct = {other for other in edges[box] if not any(other in below[between] for between in edges[box])}
        for other in sorted(direct):
            (x1, y1), (x2, y2) = centre[box], centre[other]
            lean = (x2 - x1) / STEP_X * 12  # arrows to several boxes leave and arrive apart
            drawing.arrow(round(x1 + lean), y1 + HEIGHT // 2, round(x2 - lean), y2 - HEIGHT // 2)
    for box, (x, y) in centre.items():
        everything = {name for other in (box, *below[box]) for name in needs[other]}
        colour = next((colour for name, (_, colour) in NEEDS.items() if name in everything), PLAIN)
        drawing.box(x - WIDTH // 2, y - HEIGHT // 2, WIDTH, HEIGHT, colour)
        name = "version, abi, config" if box == "base" else box if "." in box else box + "/"
        count = [f"{headers[box]} headers"] if headers[box] > 1 else []
        drawing.text(x, y - 2, name, size=11 if len(name) > 14 else 13, bold=True)
        drawing.text(x, y + 14, " · ".join(count + sorted(everything)) or "1 header", size=11)
    return drawing.write()


if __name__ == "__main__":
    write_or_check(draw(), TARGET, __doc__.splitlines()[0])
