#!/usr/bin/env python3
"""apply by PyTorch on the same GPU: torch.ormqr, and torch.linalg.householder_product with a product. Adds its samples to
the JSON that hoft_gpu_bench wrote.

  torch_peers.py <file> [repetitions]

Says so and changes nothing where PyTorch has no GPU.
"""

import json
import statistics
import sys

try:
    import torch
except ImportError:
    print("torch_peers.py: no PyTorch here")
    sys.exit(0)
if not torch.cuda.is_available():
    print("torch_peers.py: PyTorch finds no GPU")
    sys.exit(0)

path, repetitions = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 25
m, t, r = 4096, 8192, 16
V = torch.randn(m, r, device="cuda").tril(-1) * 0.01 + torch.eye(m, r, device="cuda")
tau = 2 / (V * V).sum(0)
X = torch.randn(m, t, device="cuda")
S = torch.triu(V.t() @ V, 1) + torch.diag(1 / tau)
# householder_product gives as many columns as its first argument has: all of Q, for r reflectors.
V_square = torch.cat([V, torch.zeros(m, m - r, device="cuda")], 1)
peers = {
    "torch_ormqr": lambda: torch.ormqr(V, tau, X),
    "torch_householder_product": lambda: torch.linalg.householder_product(V_square, tau) @ X,
    "torch_compact_wy": lambda: X - V @ (torch.linalg.solve_triangular(S, V.t() @ X, upper=True)),
}
samples = {name: [] for name in peers}
for turn in range(-2, repetitions):
    for name, run in peers.items():
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        end.synchronize()
        if turn >= 0:
            samples[name].append(1000 * begin.elapsed_time(end))

with open(path, encoding="utf-8") as file:
    results = json.load(file)
case = results["cases"][f"apply float {m} x {t}, r = {r}"]
hoft = case["hoft"]["median_us"]
for name, times in samples.items():
    case[name] = {"bytes": 2 * m * t * 4, "median_us": statistics.median(times), "us": times}
    print(f"{'apply float, ' + torch.__version__:34} {name:26} {statistics.median(times):10.1f} us  x {statistics.median(times) / hoft:6.2f}")
with open(path, "w", encoding="utf-8") as file:
    json.dump(results, file, indent=1)
