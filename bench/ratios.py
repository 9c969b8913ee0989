#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Prints how hoft compares with its peers, from JSON as Google Benchmark writes it; with --save, keeps it.

A benchmark is called operation/type/m/n/r/contestant. For each case there is a row with the median time of hoft, the
spread of its repetitions (half the distance between the quartiles, of the median), its rate, its share of the FMA peak
and of the roofline that were measured in the same case, and the median time of each peer divided by that of hoft:
above 1, hoft is faster. Peers that end in _out or _on_blas are divided by hoft_out and hoft_on_blas. Flops and bytes
are counted as in hoft/core/cost.hpp. Times are processor times of the only thread, so that a busy machine disturbs them
little; wall times where threads are compared.
"""

import argparse
import datetime
import json
import pathlib
import subprocess
import sys

import tables
from series import over_hoft, read
from targets import evaluate


def output_of(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def rounded(value):
    """Numbers of the file to as many digits as anybody will read."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def machine(contexts):
    """What the results depend on; nothing that names one machine among others of its kind."""
    fields = {field["field"].rstrip(":"): field["data"] for field in json.loads(output_of("lscpu", "--json"))["lscpu"]}
    caches = {level: fields[f"{level} cache"] for level in ("L1d", "L2", "L3") if f"{level} cache" in fields}
    found = {
        "processor": f"{fields.get('Model name', 'unknown')}, family {fields.get('CPU family', '?')}, "
        f"model {fields.get('Model', '?')}",
        "cores": fields.get("CPU(s)", "?"),
        "caches": caches,
    }
    for context in contexts:
        for name in ("compiler", "flags", "eigen", "vectors", "openblas", "openblas_core", "torch", "torch_pypi"):
            if name in context:
                found[name] = context[name]
    found["load_at_start"] = contexts[0].get("load_avg", [])
    return found


def save(path, cases, contexts, command):
    for case in cases.values():
        if "hoft" in case:
            for name, contestant in case.items():
                contestant["over_hoft"] = over_hoft(case, name)
    measured = ("include", "bench/*.cpp", "bench/*.hpp", "bench/torch_twin.py", "bench/run.sh")
    results = {
        "command": command,
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "commit": output_of("git", "rev-parse", "HEAD"),
        "uncommitted_changes": bool(output_of("git", "status", "--porcelain", "--", *measured)),
        "machine": machine(contexts),
        "cases": cases,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rounded(results), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=pathlib.Path)
    parser.add_argument("--save", type=pathlib.Path, help="the file of results to write")
    parser.add_argument("--command", default="", help="what was run, for that file")
    options = parser.parse_args()
    cases, contexts = read(options.files)
    if not cases:
        print("ratios.py: no results in " + " ".join(map(str, options.files)), file=sys.stderr)
        return 1
    print("Peers: median time / median time of hoft; above 1, hoft is faster.")
    for operation, table in tables.by_operation(cases).items():
        print("\n" + tables.as_text(tables.ratio_table(operation, table)))
    print("\n" + tables.as_text(tables.machine_table(cases)))
    targets = evaluate(cases)
    if targets:
        print("\n" + tables.as_text(tables.target_table(targets)))
    if options.save:
        save(options.save, cases, contexts, options.command)
    return 0


if __name__ == "__main__":
    sys.exit(main())
