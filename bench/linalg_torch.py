#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""hoft_torch's householder_product and ormqr on the CPU, beside PyTorch's own, forward alone and with the gradients.

    build/venv/bin/python bench/linalg_torch.py [--quick] [--rounds N] [--limit SECONDS] [--save | --check]

Reflectors are those of torch.geqrf: A [batch, m, m], all m of them; ormqr multiplies [batch, m, 64]. Both contestants of a
case take turns; a number is the median of the processor times of the only thread. PyTorch's gradients take minutes for
large matrices: a case that would take longer than the limit, by what half the size or a smaller batch took, is left out
for PyTorch, and the table says so. With --save, writes bench/results/linalg_torch.json and the table in
examples/pytorch/linalg.md.
"""

import argparse
import datetime
import json
import pathlib
import random
import statistics
import sys
import time

import ratios
import tables

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "scripts"))

from prose import written_between

RESULTS = ROOT / "bench/results/linalg_torch.json"
PAGE = ROOT / "examples/pytorch/linalg.md"
SIZES, BATCHES, COLUMNS = (64, 128, 256, 512, 1024), (1, 16, 256), 64
NUMBERS = 2**25  # of A at most: larger batches of large matrices say nothing new
FUNCTIONS, PASSES = ("householder_product", "ormqr"), ("forward", "with gradients")


def calls(m, batch):
    """Name, pass and contestant: a call that runs it once."""
    import hoft_torch
    import torch

    A, tau = torch.geqrf(torch.randn(batch, m, m))
    other = torch.randn(batch, m, COLUMNS)
    cotangents = {"householder_product": torch.randn(batch, m, m), "ormqr": torch.randn_like(other)}
    functions = {
        ("householder_product", "hoft"): lambda A, tau, _: hoft_torch.householder_product(A, tau),
        ("householder_product", "torch"): lambda A, tau, _: torch.linalg.householder_product(A, tau),
        ("ormqr", "hoft"): hoft_torch.ormqr,
        ("ormqr", "torch"): torch.ormqr,
    }

    def forward(function):
        with torch.no_grad():
            function(A, tau, other)

    def with_gradients(function, cotangent):
        inputs = [a.detach().requires_grad_() for a in (A, tau, other)]
        function(*inputs).backward(cotangent)

    found = {}
    for (name, who), function in functions.items():
        found[name, "forward", who] = lambda f=function: forward(f)
        found[name, "with gradients", who] = lambda f=function, n=name: with_gradients(f, cotangents[n])
    return found


def cases(quick):
    """Sizes and batches, from the smallest on."""
    all_cases = [(m, batch) for m in SIZES for batch in BATCHES if batch * m * m <= NUMBERS]
    return [(m, batch) for m, batch in all_cases if m <= 128 and batch <= 16] if quick else all_cases


def seconds(call):
    start = time.thread_time()
    call()
    return time.thread_time() - start


def key(m, batch, name, which):
    return f"{name}, {which}, {batch} × {m}²"


def expected_seconds(results, m, batch, name, which):
    """Of PyTorch's contestant, at least, by its time at half the size or in a smaller batch; 0 if that is not known."""
    smaller = [(8, key(m // 2, batch, name, which))]  # products of matrices, at least
    if batch > 1:
        fewer = BATCHES[BATCHES.index(batch) - 1]
        smaller.append((batch / fewer, key(m, fewer, name, which)))
    found = [(factor, results[case]) for factor, case in smaller if case in results]
    times = [(f, e["torch"]["median_ms"] / 1e3 if "torch" in e else e["expected_s"]) for f, e in found]
    return max((factor * time for factor, time in times), default=0.0)


def take_turns(contestants, rounds, limit):
    """Medians in ms. The first round warms up, and counts where there is time for no other."""
    times = {who: [] for who in contestants}
    spent = 0.0
    for _ in range(rounds + 1):
        for who in random.sample(list(contestants), len(contestants)):
            times[who].append(seconds(contestants[who]))
            spent += times[who][-1]
        if spent > limit:
            break
    measured = {who: each[1:] or each for who, each in times.items()}
    return {
        who: {"median_ms": round(1e3 * statistics.median(each), 4), "rounds": len(each)} for who, each in measured.items()
    }


def measure(options):
    """Every case: {"hoft": ..., "torch": ... or absent, "expected_s": ...}."""
    found, todo = {}, cases(options.quick)
    start = time.monotonic()
    for done, (m, batch) in enumerate(todo):
        runs = calls(m, batch)
        for name in FUNCTIONS:
            for which in PASSES:
                expected = expected_seconds(found, m, batch, name, which)
                who = ["hoft"] + ["torch"] * (expected <= options.limit)
                entry = take_turns({w: runs[name, which, w] for w in who}, options.rounds, options.limit)
                found[key(m, batch, name, which)] = {"expected_s": round(expected, 3), **entry}
        print(f"{done + 1} of {len(todo)} cases, {time.monotonic() - start:.0f} s: {batch} × {m}²", flush=True)
    return found


def table(results):
    """Medians in ms of both, and PyTorch's over hoft's."""
    rows = [["batch × m²", *(f"`{name}` {which}: hoft, PyTorch" for name in FUNCTIONS for which in PASSES)]]
    for m, batch in [(m, batch) for m in SIZES for batch in BATCHES]:
        cells = []
        for name in FUNCTIONS:
            for which in PASSES:
                entry = results["cases"].get(key(m, batch, name, which))
                cells.append("" if entry is None else cell(entry))
        if any(cells):
            rows.append([f"{batch} × {m}²", *cells])
    return tables.as_markdown(rows)


def cell(entry):
    ours = entry["hoft"]["median_ms"]
    if "torch" not in entry:
        return f"{ours:.3g}, left out"
    theirs = entry["torch"]["median_ms"]
    return f"{ours:.3g}, {theirs:.3g} ({theirs / ours:.3g})"


def page(results):
    """The page with what stands between the marks replaced."""
    machine = results["machine"]
    text = (
        f"float32, on one thread of {machine['processor']}, PyTorch {machine['torch']}; medians of\n"
        f"up to {results['rounds']} rounds, ms, and PyTorch's over hoft's in brackets; left out: PyTorch would take more\n"
        f"than {results['limit']:g} s (`{results['command']}`, {results['date']}, commit `{results['commit'][:12]}`):\n\n"
        f"{table(results)}\n"
    )
    return written_between("bench/linalg_torch.py", text, PAGE)


def run(options):
    sys.path.insert(0, str(ROOT / "examples/pytorch"))
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(1)
    random.seed(1)
    results = {
        "command": f"python bench/linalg_torch.py {' '.join(sys.argv[1:])}".strip(),
        "date": datetime.date.today().isoformat(),
        "commit": ratios.output_of("git", "-C", str(ROOT), "rev-parse", "HEAD"),
        "machine": ratios.machine([{"torch": torch.__version__}]),
        "rounds": options.rounds,
        "limit": options.limit,
        "cases": measure(options),
    }
    print("\n" + table(results))
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--limit", type=float, default=20, help="seconds that a case may take, about")
    parser.add_argument("--quick", action="store_true", help="the smallest sizes alone")
    parser.add_argument("--save", action="store_true", help="keep the results and write the table")
    parser.add_argument("--check", action="store_true", help="fail if the table is not that of the saved results")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: expected at least 1")
    if options.check:
        if page(json.loads(RESULTS.read_text(encoding="utf-8"))) != PAGE.read_text(encoding="utf-8"):
            sys.exit(f"linalg_torch.py: {PAGE.relative_to(ROOT)} does not show bench/results/linalg_torch.json")
        return
    if options.save and options.quick:
        parser.error("--save: not with --quick, whose results are too few")
    results = run(options)
    if options.save:
        RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        PAGE.write_text(page(results), encoding="utf-8")


if __name__ == "__main__":
    main()
