#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What compact WY forms set out to reach on a Hopper GPU, from the cases that hoft_gpu_bench measured.

  gpu_targets.py <file>              prints the ceilings that were measured in the same run, and each figure beside what
                                     it must be
  gpu_targets.py --emulated <file>   the same table of a run on the emulator, whose figures are none: that they can be made

Ends with 1 where a figure lacks a contestant that the file does not name as left out.
"""

import argparse
import json
import pathlib
import sys

import tables
from measured import require_measured
from targets import Target, evaluate


def median(case, who):
    return lambda cases: cases[case][who]["median_us"]


def ratio(case, peer):
    """time of the peer / time of hoft"""
    return lambda cases: median(case, peer)(cases) / median(case, "hoft")(cases)


def bandwidth(case, who):
    """GB/s of the bytes that must move"""
    return lambda cases: cases[case][who]["bytes"] / median(case, who)(cases) / 1e3


def of_copy(case):
    """hoft's share of the bandwidth of a device copy in the same case, %"""
    return lambda cases: 100 * bandwidth(case, "hoft")(cases) / bandwidth(case, "copy")(cases)


def targets(sizes):
    """The figures of a run of these sizes."""
    shape = "{} " + f"{sizes['features']} x {sizes['tokens']}, r = 16"
    bfloat16, single = (f"apply {shape.format(name)}" for name in ("bfloat16", "float"))
    backward = f"apply_backward {shape.format('bfloat16')}"
    matrices, features, product = sizes["matrices"], sizes["features"], sizes["product"]
    accumulate = f"accumulate {matrices} of {features} x 16"
    multiply = f"product bfloat16 {product} x {product} x {product}"
    return [
        Target("copy", "device copy, read + written", bandwidth(bfloat16, "copy"), "GB/s"),
        Target(
            "product",
            f"cuBLAS's product of bfloat16 matrices of {product}²",
            lambda cases: 2 * product**3 / median(multiply, "cublas")(cases) / 1e6,
            "TFLOP/s",
        ),
        Target("apply", "apply, bfloat16, of the copy's bandwidth", of_copy(bfloat16), "%", 80, 92),
        Target("apply_float", "apply, float, of the copy's bandwidth", of_copy(single), "%", 80, 92),
        Target("cublas", "three cuBLAS products / apply, bfloat16", ratio(bfloat16, "cublas_products"), "×", 1.4, 1.8),
        Target("ormqr", "torch.ormqr / apply, float", ratio(single, "torch_ormqr"), "×", 20, 50),
        Target(
            "householder_product",
            "torch.linalg.householder_product and a product / apply, float",
            ratio(single, "torch_householder_product"),
            "×",
            20,
            50,
        ),
        Target("backward", "apply_backward, bfloat16, of the copy's bandwidth", of_copy(backward), "%", 70, 85),
        Target(
            "accumulate",
            f"accumulate, {matrices} of {features} × 16",
            median(accumulate, "hoft"),
            "µs",
            60,
            25,
            at_most=True,
        ),
        Target("one_by_one", "the same, one call each / one call", ratio(accumulate, "hoft_one_by_one"), "×", 20, 50),
    ]


def shares_of_copy(case):
    """who: share of the bandwidth of a device copy in the same case, %; nothing if it has none"""
    if "copy" not in case:
        return {}
    speed = {who: one["bytes"] / one["median_us"] for who, one in case.items()}
    return {who: 100 * each / speed["copy"] for who, each in speed.items()}


def target_table(results):
    rows = evaluate(results["cases"], targets(results["sizes"]))
    if results["emulated"]:
        rows = [{**row, "verdict": ""} for row in rows]
    return tables.target_table(rows, "emulated: no times" if results["emulated"] else "measured")


def without_figure(results):
    """Figures that lack a case or a contestant which nobody left out, a line each."""
    lines = []
    for target in targets(results["sizes"]):
        try:
            target.measure(results["cases"])
        except KeyError as missing:
            if missing.args[0] not in results["left_out"]:
                lines.append(f"{target.what}: there is no '{missing.args[0]}'")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--emulated", action="store_true")
    parser.add_argument("file", type=pathlib.Path)
    options = parser.parse_args()
    results = json.loads(options.file.read_text(encoding="utf-8"))
    if not options.emulated:
        require_measured(results, options.file)
    elif not results["emulated"]:
        sys.exit(f"gpu_targets.py: {options.file} is not of the emulator, but of {results['device']}")
    print("\n" + tables.as_text(target_table(results)))
    for name in results["left_out"]:
        print(f"left out: {name}")
    if missing := without_figure(results):
        sys.exit("gpu_targets.py: no figure for these:\n" + "\n".join(missing))


if __name__ == "__main__":
    main()
