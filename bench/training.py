# SPDX-License-Identifier: BSD-3-Clause
"""What bench/gpu/compare_torch measured: sums over the shapes, ratios, and what they should be."""

import statistics

from tables import bound_text, value_beside_bounds
from targets import Target, evaluate


def usable(case, name):
    return name in case and "cannot_run" not in case[name]


def total(results, name, what):
    """Sum over all shapes. KeyError if the contestant could not run for one of them, or was not counted."""
    values = [case[name][what] for case in results["cases"].values()]
    if not values or None in values:
        raise KeyError(what)
    return sum(values)


def time_ratio(above, below):
    return lambda results: total(results, above, "median_ms") / total(results, below, "median_ms")


def memory_ratio(above, below):
    return lambda results: total(results, above, "peak_bytes") / total(results, below, "peak_bytes")


def merge_share(results):
    merge = results["merge"] or {}
    return 100 * merge["copy"]["median_ms"] / merge["hoft"]["median_ms"]


def at_most(id, what, measure, must, reach):
    return Target(id, what, measure, "×", must, reach, at_most=True)


TARGETS = [
    at_most("hoft_lora", "step time, HOFT / LoRA of as many parameters", time_ratio("hoft", "lora_r"), 1.15, 1.0),
    at_most("shoft_lora", "step time, SHOFT / LoRA", time_ratio("shoft", "lora_r"), 1.2, 1.05),
    at_most("hoft_memory", "peak memory, HOFT / LoRA", memory_ratio("hoft", "lora_r"), 1.08, 1.0),
    Target("hra", "step time, HRA / HOFT", time_ratio("hra_r", "hoft"), "×", 10, 20),
    Target("oft", "step time, OFT / HOFT", time_ratio("oft", "hoft"), "×", 2, 4),
    Target("dora", "step time, DoRA / HOFT", time_ratio("dora_r", "hoft"), "×", 1.6, 2),
    Target(
        "paper", "step time, the paper's formulation in eager PyTorch / HOFT", time_ratio("paper", "hoft"), "×", 2, 3
    ),
    Target("merge", "merge of one weight, of a device copy of it", merge_share, "%", 50, 75),
    Target(
        "paper_compiled", "step time, the same under torch.compile / HOFT", time_ratio("paper_compiled", "hoft"), "×"
    ),
    Target("hra_2r", "step time, HRA of 2 r reflectors / HOFT", time_ratio("hra_2r", "hoft"), "×"),
    Target("boft", "step time, BOFT / HOFT", time_ratio("boft", "hoft"), "×"),
    Target("lora_2r", "step time, LoRA of rank 2 r / HOFT", time_ratio("lora_2r", "hoft"), "×"),
    Target("frozen", "step time, HOFT / the frozen layer", time_ratio("hoft", "frozen"), "×"),
    Target("shoft_memory", "peak memory, SHOFT / LoRA", memory_ratio("shoft", "lora_r"), "×"),
    Target(
        "from_output", "peak memory, SHOFT with q recovered / LoRA", memory_ratio("shoft_from_output", "lora_r"), "×"
    ),
]
# The same ratios from the tables of the HOFT paper, LLaMA-3.1-8B and LLaMA-2-7B.
IN_PAPER = {"hoft_lora": 1.53, "shoft_lora": 1.73, "hoft_memory": 1.33, "hra": 8.3, "oft": 1.7, "dora": 1.4}


def verdict(results, row):
    if row is None:
        return "not measured"
    if results["dry_run"]:
        return "a dry run"
    return "" if row["verdict"] == "reported" else row["verdict"]


def target_table(results):
    measured = {row["id"]: row for row in evaluate(results, TARGETS)}
    rows = [["sums over the shapes", "measured", "must", "reach for", "the paper", ""]]
    for target in TARGETS:
        row = measured.get(target.id)
        bounds = {"unit": target.unit, "at_most": target.at_most}
        rows.append(
            [
                target.what,
                value_beside_bounds(row) if row else "-",
                bound_text(target.must, bounds),
                bound_text(target.reach, bounds),
                f"{IN_PAPER[target.id]:.2f}" if target.id in IN_PAPER else "",
                verdict(results, row),
            ]
        )
    return rows


def ratios_to_lora(results, what):
    """[(contestant, its sum / LoRA's)] of those that ran for every shape."""
    found = []
    for name in results["contestants"]:
        try:
            found.append((name, total(results, name, what) / total(results, "lora_r", what)))
        except KeyError:
            continue
    return found


def spread(times):
    """Half the distance between the quartiles, of the median, %"""
    if len(times) < 2:
        return 0.0
    low, middle, high = statistics.quantiles(times, n=4, method="inclusive")
    return 100 * (high - low) / 2 / middle


def case_table(name, case):
    base = case["lora_r"] if usable(case, "lora_r") else None
    rows = [[name, "parameters", "adapters", "step ms", "±%", "samples", "time / LoRA", "peak MiB", "memory / LoRA"]]
    for who, one in case.items():
        if "cannot_run" in one:
            rows.append([who, "cannot run"] + 7 * [""])
            continue
        ratio = lambda what: f"{one[what] / base[what]:.2f}" if base and base[what] and one[what] else "-"
        rows.append(
            [
                who,
                str(one["parameters"]),
                one["adapters"],
                f"{one['median_ms']:.3f}",
                f"{spread(one['ms']):.1f}",
                str(len(one["ms"])),
                ratio("median_ms"),
                f"{one['peak_bytes'] / 2**20:.0f}" if one["peak_bytes"] is not None else "-",
                ratio("peak_bytes"),
            ]
        )
    return rows


def reasons(case):
    """Why a contestant could not run, a line each."""
    return [f"{who} cannot run: {one['cannot_run']}" for who, one in case.items() if "cannot_run" in one]
