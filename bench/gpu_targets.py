#!/usr/bin/env python3
"""What compact WY forms set out to reach on a Hopper GPU, from the cases that hoft_gpu_bench measured.

  gpu_targets.py <file>   prints the ceilings that were measured in the same run, and each figure beside what it must be
"""

import json
import sys

import tables
from targets import Target, evaluate

APPLY, BACKWARD = "apply {} 4096 x 8192, r = 16", "apply_backward {} 4096 x 8192, r = 16"
ACCUMULATE = "accumulate 224 of 4096 x 16"
PRODUCT, SIZE = "product bfloat16 8192 x 8192 x 8192", 8192


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


TARGETS = [
    Target("copy", "device copy, read + written", bandwidth(APPLY.format("bfloat16"), "copy"), "GB/s"),
    Target(
        "product",
        "cuBLAS's product of bfloat16 matrices of 8192²",
        lambda cases: 2 * SIZE**3 / median(PRODUCT, "cublas")(cases) / 1e6,
        "TFLOP/s",
    ),
    Target("apply", "apply, bfloat16, of the copy's bandwidth", of_copy(APPLY.format("bfloat16")), "%", 80, 92),
    Target("apply_float", "apply, float, of the copy's bandwidth", of_copy(APPLY.format("float")), "%", 80, 92),
    Target(
        "cublas", "three cuBLAS products / apply, bfloat16", ratio(APPLY.format("bfloat16"), "cublas_products"), "×", 1.4, 1.8
    ),
    Target("ormqr", "torch.ormqr / apply, float", ratio(APPLY.format("float"), "torch_ormqr"), "×", 20, 50),
    Target(
        "householder_product",
        "torch.linalg.householder_product and a product / apply, float",
        ratio(APPLY.format("float"), "torch_householder_product"),
        "×",
        20,
        50,
    ),
    Target(
        "backward", "apply_backward, bfloat16, of the copy's bandwidth", of_copy(BACKWARD.format("bfloat16")), "%", 70, 85
    ),
    Target("accumulate", "accumulate, 224 of 4096 × 16", median(ACCUMULATE, "hoft"), "µs", 60, 25, at_most=True),
    Target("one_by_one", "the same, one call each / one call", ratio(ACCUMULATE, "hoft_one_by_one"), "×", 20, 50),
]


def shares_of_copy(case):
    """who: share of the bandwidth of a device copy in the same case, %; nothing if it has none"""
    if "copy" not in case:
        return {}
    speed = {who: one["bytes"] / one["median_us"] for who, one in case.items()}
    return {who: 100 * each / speed["copy"] for who, each in speed.items()}


def target_table(results):
    return tables.target_table(evaluate(results["cases"], TARGETS))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        print("\n" + tables.as_text(target_table(json.load(file))))
