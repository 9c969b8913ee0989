#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Times Q X and its gradients in eager PyTorch on the CPU, one thread, and writes JSON as Google Benchmark does.

The twin of the training contest: from U [m, r], X and dY [m, n] to Y = Q X, dX and dU, with the compact WY form in the
fewest operations that we found, with the same by a triangular solve, and one reflector after another as HRA does, all
differentiated by autograd; and torch.ormqr, which has no derivative, forward only. Every one is checked against the
formulas of docs/reference/mathematics.md, section 2, before it is timed.
"""

import argparse
import json
import pathlib
import sys
import time

try:
    import torch
except ImportError:
    sys.exit(
        "torch_twin.py: PyTorch is missing for this Python: apt-get install python3-torch, and use /usr/bin/python3"
    )


def inverse_factor(U):
    """S = T⁻¹ = striu(UᵀU) + ½ diag(UᵀU)."""
    gram = U.T @ U
    return torch.triu(gram, 1) + torch.diag(torch.diagonal(gram) / 2)


def compact_wy(U, X):
    T = torch.linalg.solve_triangular(inverse_factor(U), torch.eye(U.shape[1], dtype=U.dtype), upper=True)
    return torch.addmm(X, U @ T, U.T @ X, alpha=-1)


def compact_wy_solve(U, X):
    return X - U @ torch.linalg.solve_triangular(inverse_factor(U), U.T @ X, upper=True)


def hra(U, X):
    for j in reversed(range(U.shape[1])):
        u = U[:, j : j + 1]
        X = X - (u * (2 / (u * u).sum())) @ (u.T @ X)
    return X


def formulas(U, X, dY):
    """Y, dX and dU by docs/reference/mathematics.md, section 2."""
    T = torch.linalg.inv(inverse_factor(U))
    W = U.T @ X
    Z = T @ W
    P = U.T @ dY
    dW = -T.T @ P
    dT = -P @ W.T
    dA = -T.T @ dT @ T.T
    dS = torch.triu(dA, 1) + torch.diag(torch.diagonal(dA)) / 2
    return X - U @ Z, dY + U @ dW, -dY @ Z.T + X @ dW.T + U @ (dS + dS.T)


def step(forward, U, X, dY):
    Y = forward(U, X)
    return (Y, *torch.autograd.grad(Y, (X, U), dY))


def worst_error(results, expected):
    return max(float((a - b).detach().norm() / b.detach().norm()) for a, b in zip(results, expected))


def data(m, n, r, dtype):
    torch.manual_seed(1)
    U = torch.randn(m, r, dtype=dtype, requires_grad=True)
    X = torch.randn(m, n, dtype=dtype, requires_grad=True)
    return U, X, torch.randn(m, n, dtype=dtype)


STEPS = {"compact_wy": compact_wy, "compact_wy_solve": compact_wy_solve, "hra": hra}
SLOW = ("hra", "ormqr_forward")  # once a round instead of several times


def contestants(m, n, r, dtype):
    """{name: (run, expected results)}"""
    U, X, dY = data(m, n, r, dtype)
    with torch.no_grad():
        expected = formulas(U, X, dY)
        packed, tau = torch.geqrf(U)
        V = torch.tril(packed, -1) + torch.eye(m, r, dtype=dtype)
        start = X.detach()
        by_ormqr = (formulas(V, start, dY)[0],)
    entries = {name: (lambda f=f: step(f, U, X, dY), expected) for name, f in STEPS.items()}
    entries["ormqr_forward"] = (lambda: (torch.ormqr(packed, tau, start),), by_ormqr)
    return entries


def check(entries, size, dtype):
    """The program's exit status depends on this alone, never on a time."""
    bound = 4 * size * torch.finfo(dtype).eps
    for name, (run, expected) in entries.items():
        error = worst_error(run(), expected)
        if not error <= bound:
            sys.exit(f"torch_twin.py: {name} differs from the formulas by {error}, more than {bound}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small size")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--suffix", default="", help="of the contestants' names")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    check(contestants(96, 80, 12, torch.float64), 96, torch.float64)
    m, n, r = (768, 768, 8) if options.quick else (4096, 4096, 16)
    entries = contestants(m, n, r, torch.float32)
    # This warms up, too: kept memory must be there before it is timed. Without, the slow ones have nothing to warm.
    check({name: entry for name, entry in entries.items() if options.suffix or name not in SLOW}, m, torch.float32)
    runs = []
    for repetition in range(options.repetitions):
        for name, (run, _) in entries.items():
            if name in SLOW and repetition > 0:
                continue
            # Processor time of all threads, of which there should be one.
            wall, processor = time.perf_counter(), time.process_time()
            run()
            processor, wall = time.process_time() - processor, time.perf_counter() - wall
            runs.append(
                {
                    "name": f"training/float/{m}/{n}/{r}/torch_{name}{options.suffix}",
                    "run_type": "iteration",
                    "cpu_time": 1e3 * processor,
                    "real_time": 1e3 * wall,
                    "time_unit": "ms",
                }
            )
    context = {"torch_pypi" if "_pypi" in options.suffix else "torch": torch.__version__, "torch_threads": torch.get_num_threads()}
    options.out.write_text(json.dumps({"context": context, "benchmarks": runs}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
