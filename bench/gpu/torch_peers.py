#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""apply by PyTorch on the same GPU: torch.ormqr, and torch.linalg.householder_product with a product. Adds its samples to
the JSON that hoft_gpu_bench wrote.

  torch_peers.py <file> [repetitions]

The three are compared before they are timed. Where PyTorch has no GPU it says so, and the file names them as left out.
Those of an emulated device run on the CPU, and their times are none.
"""

import json
import statistics
import sys
import time

try:
    import torch
except ImportError:
    torch = None

NAMES = ("torch_ormqr", "torch_householder_product", "torch_compact_wy")


def make_peers(m, t, r, device):
    """{name: call that gives Q X}"""
    V = torch.randn(m, r, device=device).tril(-1) * 0.01 + torch.eye(m, r, device=device)
    tau = 2 / (V * V).sum(0)
    X = torch.randn(m, t, device=device)
    S = torch.triu(V.t() @ V, 1) + torch.diag(1 / tau)
    # householder_product gives as many columns as its first argument has: all of Q, for r reflectors.
    V_square = torch.cat([V, torch.zeros(m, m - r, device=device)], 1)
    calls = (
        lambda: torch.ormqr(V, tau, X),
        lambda: torch.linalg.householder_product(V_square, tau) @ X,
        lambda: X - V @ (torch.linalg.solve_triangular(S, V.t() @ X, upper=True)),
    )
    return dict(zip(NAMES, calls))


def require_equal(peers):
    first, *others = ((name, run()) for name, run in peers.items())
    for name, found in others:
        difference = ((found - first[1]).norm() / first[1].norm()).item()
        if not difference < 1e-4:
            sys.exit(f"torch_peers.py: {name} differs from {first[0]} by {difference:.1e}")


def microseconds(run, device):
    if device == "cpu":
        start = time.perf_counter()
        run()
        return 1e6 * (time.perf_counter() - start)
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    run()
    end.record()
    end.synchronize()
    return 1000 * begin.elapsed_time(end)


def add_peers(results, device, repetitions):
    sizes = results["sizes"]
    m, t, r = sizes["features"], sizes["tokens"], 16
    peers = make_peers(m, t, r, device)
    require_equal(peers)
    samples = {name: [] for name in peers}
    for turn in range(-2, repetitions):
        for name, run in peers.items():
            taken = microseconds(run, device)
            if turn >= 0:
                samples[name].append(taken)
    case = results["cases"][f"apply float {m} x {t}, r = {r}"]
    hoft = case["hoft"]["median_us"]
    for name, times in samples.items():
        median = statistics.median(times)
        case[name] = {"bytes": 2 * m * t * 4, "median_us": median, "us": times}
        print(f"{'apply float, ' + torch.__version__:44} {name:26} {median:10.1f} us  x {median / hoft:6.2f}")


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    path, repetitions = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 25
    with open(path, encoding="utf-8") as file:
        results = json.load(file)
    if torch is None:
        print("torch_peers.py: no PyTorch here")
        results["left_out"] += NAMES
    elif results["emulated"]:
        print("torch_peers.py: PyTorch's CPU in the emulated device's place: no times")
        add_peers(results, "cpu", repetitions)
    elif not torch.cuda.is_available():
        print("torch_peers.py: PyTorch finds no GPU")
        results["left_out"] += NAMES
    else:
        torch.backends.cuda.matmul.allow_tf32 = False
        add_peers(results, "cuda", repetitions)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
