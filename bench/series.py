# SPDX-License-Identifier: BSD-3-Clause
"""Reads what the benchmarks wrote: repetitions by case and contestant."""

import json
import pathlib
import statistics

TO_MILLISECONDS = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3}
KNOWN = {
    "name",
    "family_index",
    "per_family_instance_index",
    "run_name",
    "run_type",
    "repetitions",
    "repetition_index",
    "threads",
    "iterations",
    "real_time",
    "cpu_time",
    "time_unit",
    "flops",
    "bytes",
    "FLOP/s",
}


class Series:
    """The repetitions of one contestant in one case, in milliseconds."""

    def __init__(self, wall):
        self.wall, self.times, self.flops, self.bytes, self.measures = wall, [], 0.0, 0.0, {}

    def add(self, run):
        time = run["real_time" if self.wall else "cpu_time"]
        self.times.append(time * TO_MILLISECONDS[run["time_unit"]])
        self.flops, self.bytes = run.get("flops", 0.0), run.get("bytes", 0.0)
        self.measures.update({name: value for name, value in run.items() if name not in KNOWN})

    def summary(self):
        low, median, high = (
            statistics.quantiles(self.times, n=4, method="inclusive") if len(self.times) > 1 else 3 * self.times
        )
        return {
            "median_ms": median,
            "spread": (high - low) / 2 / median,
            "repetitions": len(self.times),
            "clock": "wall" if self.wall else "processor",
            "flops": self.flops,
            "bytes": self.bytes,
            **self.measures,
        }


def read(paths):
    """({"operation/type/m/n/r": {contestant: summary}}, contexts), in the order of the files."""
    cases, contexts = {}, []
    for path in paths:
        text = pathlib.Path(path).read_text(encoding="utf-8")
        if not text.strip():
            continue  # nothing matched the filter
        results = json.loads(text)
        contexts.append(results["context"])
        for run in results["benchmarks"]:
            if run["run_type"] != "iteration" or run.get("error_occurred"):
                continue
            parts = run["name"].split("/")
            case, contestant, rest = "/".join(parts[:5]), parts[5], parts[6:]
            series = cases.setdefault(case, {}).setdefault(contestant, Series("real_time" in rest))
            series.add(run)
    return {
        case: {name: s.summary() for name, s in contestants.items()} for case, contestants in cases.items()
    }, contexts


def rival(case, name):
    """What of hoft's does the same job as this contestant: into another matrix, for a whole step, or over OpenBLAS's
    products."""
    for suffix in ("_out", "_step_on_blas", "_step", "_on_blas"):
        if name.endswith(suffix) and not name.startswith("hoft") and "hoft" + suffix in case:
            return "hoft" + suffix
    return "hoft"


def over_hoft(case, name):
    return case[name]["median_ms"] / case[rival(case, name)]["median_ms"]


def speed(contestant):
    """flops a millisecond"""
    return contestant["flops"] / contestant["median_ms"]


def bandwidth(case):
    """Bytes a millisecond of the fastest copy in this case."""
    return max(case[name]["bytes"] / case[name]["median_ms"] for name in ("copy", "copy_streaming") if name in case)


def fraction_of_peak(case, name="hoft"):
    return speed(case[name]) / speed(case["fma_peak"])


def roofline_ms(case, name="hoft"):
    """The least time that peak and bandwidth, measured in this case, allow."""
    return max(case[name]["flops"] / speed(case["fma_peak"]), case[name]["bytes"] / bandwidth(case))


def fraction_of_roofline(case, name="hoft"):
    return roofline_ms(case, name) / case[name]["median_ms"]
