#!/usr/bin/env python3
"""Prints how hoft compares with its peers, from Google Benchmark's JSON.

Usage: ratios.py FILE.json...

A benchmark is called operation/type/m/n/r/contestant. For each case there is a row with the median time of hoft, its
rate in GFLOP/s and GB/s (flops and bytes as in hoft/core/cost.hpp), the spread of its repetitions (half the distance
between the quartiles, of the median), and the median of each peer divided by that of hoft: above 1, hoft is faster.
Times are processor times of the only thread, so that a busy machine disturbs them little.
"""

import json
import pathlib
import statistics
import sys

TO_MILLISECONDS = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3}


class Series:
    """The repetitions of one contestant in one case."""

    def __init__(self):
        self.times, self.flops, self.bytes = [], [], []

    def add(self, run):
        self.times.append(run["cpu_time"] * TO_MILLISECONDS[run["time_unit"]])
        self.flops.append(run.get("FLOP/s", float("nan")))
        self.bytes.append(run.get("B/s", float("nan")))

    @property
    def median(self):
        return statistics.median(self.times)

    @property
    def spread(self):
        if len(self.times) < 3:
            return float("nan")
        low, _, high = statistics.quantiles(self.times, n=4, method="inclusive")
        return (high - low) / 2 / self.median


def read(paths):
    """{operation: {case: {contestant: Series}}}, all in the order of the files; and the contexts."""
    operations, contexts = {}, []
    for path in paths:
        text = pathlib.Path(path).read_text() if pathlib.Path(path).is_file() else ""
        if not text.strip():
            continue  # nothing matched the filter
        results = json.loads(text)
        contexts.append(results["context"])
        for run in results["benchmarks"]:
            if run["run_type"] != "iteration" or run.get("error_occurred"):
                continue
            operation, scalar, m, n, r, contestant = run["name"].split("/")[:6]
            case = (scalar, int(m), int(n), int(r))
            cases = operations.setdefault(operation, {})
            cases.setdefault(case, {}).setdefault(contestant, Series()).add(run)
    return operations, contexts


def number(value, form):
    return "-" if value != value else format(value, form)


def table(operation, cases):
    peers = []
    for contestants in cases.values():
        peers += [name for name in contestants if name != "hoft" and name not in peers]
    peers.sort()
    rows = [[operation, "m", "n", "r", "hoft ms", "±%", "GFLOP/s", "GB/s"] + peers]
    for case in sorted(cases, key=lambda c: (c[0] != "float", c[1] * c[2] * c[3], c)):
        contestants = cases[case]
        row = [str(part) for part in case]
        hoft = contestants.get("hoft")
        if hoft is None:
            row += ["-"] * (4 + len(peers))
        else:
            row += [
                number(hoft.median, ".3f"),
                number(100 * hoft.spread, ".1f"),
                number(statistics.median(hoft.flops) / 1e9, ".1f"),
                number(statistics.median(hoft.bytes) / 1e9, ".1f"),
            ]
            row += [f"{contestants[p].median / hoft.median:.2f}" if p in contestants else "-" for p in peers]
        rows.append(row)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        first = row[0].ljust(widths[0])
        lines.append("  ".join([first] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]).rstrip())
    return "\n".join(lines)


def main():
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__.strip())
        return 0 if len(sys.argv) > 1 else 2
    operations, contexts = read(sys.argv[1:])
    if not operations:
        print("ratios.py: no results in " + " ".join(sys.argv[1:]), file=sys.stderr)
        return 1
    context = contexts[0]
    print(
        f"{context['num_cpus']} CPUs at {context['mhz_per_cpu']} MHz, load {context['load_avg']}, "
        f"OpenBLAS for {context.get('openblas_core', 'unknown')}, one thread each."
    )
    print("Peers: median time / median time of hoft; above 1, hoft is faster.")
    for operation, cases in operations.items():
        print("\n" + table(operation, cases))
    return 0


if __name__ == "__main__":
    sys.exit(main())
