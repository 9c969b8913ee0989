#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Measures the claims on complexity with hoft_claims, judges them, and writes JSON, CSV, plots and the page
docs/reference/complexity.md.

  harness.py --program=build/bench/bench/claims/hoft_claims --out=DIR [--level=full|quick|tiny] [--save --command=TEXT]
  harness.py --report   docs/reference/complexity.md and its plots anew from bench/results/claims/results.json
  harness.py --check    fails when docs/reference/complexity.md, or docs/reference/complexity-gpu.md if there is one,
                        is not what their results say

With --gpu and hoft_gpu_claims: the same on a GPU, docs/reference/complexity-gpu.md from bench/results/claims_gpu. Ends
with 77 where there is no GPU, with 1 if HOFT_REQUIRE_GPU is 1.
"""

import argparse
import csv
import datetime
import io
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(ROOT / "bench"))

import page
import plans
import rows
import verdicts
from figures_names import folder_of
from measured import require_measured
from terminal import claim_rows, show

INTEGERS = {*plans.LETTERS, "terms", "seed"}


SKIPPED = 77  # what a program ends with that has nothing to measure on


class Place:
    """Where it is measured: its levels, the folder of the saved results and the page."""

    def __init__(self, gpu):
        self.gpu = gpu
        self.levels = plans.GPU_LEVELS if gpu else plans.LEVELS
        self.saved = ROOT / "bench/results" / folder_of(gpu)
        # Where the methods are that this program may lack.
        self.other_methods = ROOT / ("bench/methods" if gpu else "bench/gpu/claims")
        self.page = ROOT / ("docs/reference/complexity-gpu.md" if gpu else "docs/reference/complexity.md")
        self.option = " --gpu" if gpu else ""


def fail(message):
    sys.exit(f"harness.py: {message}")


def table(path):
    """Rows of a table with tabs, numbers as numbers."""

    def number(name, text):
        try:
            return int(text) if name in INTEGERS else float(text)
        except ValueError:
            return text

    with open(path, encoding="utf-8", newline="") as file:
        return [{name: number(name, text) for name, text in row.items()} for row in csv.DictReader(file, delimiter="\t")]


class Stages:
    """Runs the program and says how long all of it still takes, by how the stages so far kept to what is expected."""

    def __init__(self, program, expected):
        self.program, self.expected, self.done, self.start = program, dict(expected), 0.0, time.monotonic()

    def run(self, command, *options):
        rest = sum(self.expected.values())
        pace = (time.monotonic() - self.start) / self.done if self.done else 1.0
        print(f"claims: {command}; about {max(1, round(rest * pace / 60))} min remain in all", flush=True)
        status = subprocess.run([self.program, command, *options], check=False).returncode
        if status == SKIPPED:
            sys.exit(SKIPPED)
        if status != 0:
            fail(f"'{self.program} {command}' ended with status {status}")
        self.done += self.expected.pop(command, 0)


def write_plan(path, keys):
    path.write_text("".join(" ".join(map(str, key)) + "\n" for key in keys), encoding="utf-8")


def read_counts(path):
    return {
        (row["method"], row["pass"], *(row[letter] for letter in plans.LETTERS)): {
            "parameters": row["parameters"], "memory": row["bytes"] / 4,
            **({"flops": row["flops"]} if "flops" in row else {}),
        }
        for row in table(path)
    }


def read_times(path):
    """Nanoseconds of each repetition: of processor time, or of what a benchmark measured itself."""
    times = {}
    with open(path, encoding="utf-8") as file:
        report = json.load(file)
    for run in report["benchmarks"]:
        if run["run_type"] != "iteration":
            continue
        method, which, *sizes = run["run_name"].split("/")[:8]
        clock = "real_time" if run["run_name"].endswith("/manual_time") else "cpu_time"
        times.setdefault((method, which, *map(int, sizes)), []).append(float(run[clock]))
    return times, report["context"]


def checked_methods(out, level):
    """Those that the program describes."""
    methods = {row["name"]: {name: value or "" for name, value in row.items()} for row in raw_table(out / "methods.tsv")}
    for method in methods.values():
        verdicts.check_description(method, level["count"]["base"])
    return methods


def names_in(folder):
    """Of methods, as its sources enter or describe them."""
    named = re.compile(r'(?:^BENCH_METHOD\(|describe_\w+\(\s*"|\.name = ")(\w+)', re.MULTILINE)
    return {name for path in folder.glob("*.hpp") for name in named.findall(path.read_text(encoding="utf-8"))}


def covering_sizes(program, out, order):
    """Dict from methods to the sizes at which coverage is tested, found by a run of one step."""
    path = out / "coverage_sizes.tsv"
    done = subprocess.run([program, "coverage", f"--out={path}", f"--order={order}", "--steps=1", "--seeds=1"], check=False,
                          capture_output=True, text=True)
    if done.returncode != 0:
        fail(f"'{program} coverage' ended with status {done.returncode}: {done.stderr.strip()}")
    found = {}
    for row in table(path):
        sizes = {letter: row[letter] for letter in rows.SIZES}
        if sizes not in found.setdefault(row["method"], []):
            found[row["method"]].append(sizes)
    return found


def read_table1(path):
    """The claims, which people edit."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        fail(f"{path.name}, line {error.lineno}, column {error.colno}: no JSON: {error.msg}")


def measure(program, out, level, place):
    table1 = read_table1(HERE / "table1.json")
    models = json.loads((HERE / "models.json").read_text(encoding="utf-8"))
    models["reduced"] = level.get("reduced", models["reduced"])
    stages = Stages(program, level["seconds"])
    stages.run("describe", f"--out={out / 'methods.tsv'}")
    more = {} if place.gpu else {name: level[name] for name in ("orthogonality", "sides", "coverage")}
    order = int(dict(option[2:].split("=") for option in more["coverage"])["order"]) if more else 0
    try:
        methods = checked_methods(out, level)
        rows.check(table1, methods, names_in(place.other_methods), level["count"]["base"], order,
                   covering_sizes(program, out, order) if more else {})
    except ValueError as error:
        fail(str(error))
    for command in ("count", "time"):
        write_plan(out / f"{command}.plan", plans.cases(methods, level[command], table1, models))
    stages.run("count", f"--plan={out / 'count.plan'}", f"--out={out / 'counts.tsv'}")
    stages.run("time", f"--plan={out / 'time.plan'}", f"--out={out / 'times.json'}",
               f"--repetitions={level['repetitions']}", f"--min-time={level['min_time']}")
    for command, options in more.items():
        stages.run(command, f"--out={out / (command + '.tsv')}", *options)
    times, context = read_times(out / "times.json")
    return {
        "methods": methods,
        "quantities": ("memory", "time") if place.gpu else ("flops", "memory", "time"),
        "memory_is_bounded": place.gpu,  # formulas with constants on the CPU, terms of O(…) on a GPU
        "table1": table1,
        "models": models,
        "grids": {"count": level["count"], "time": level["time"]},
        "counts": read_counts(out / "counts.tsv"),
        "times": times,
        **{name: table(out / f"{name}.tsv") if name in more else [] for name in ("orthogonality", "sides", "coverage")},
        "order": order,
        "context": context,
    }


def raw_table(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def git(*words):
    found = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
    return found.stdout.strip()


def judged(data, level, repetitions, command, seconds):
    processor = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo", encoding="utf-8")
                      if line.startswith("model name")), platform.processor())
    return {
        "command": command,
        "level": level,
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(git("status", "--porcelain", "--untracked-files=no")),
        "processor": f"{processor}, {os.cpu_count()} cores",
        **({"device": data["context"]["device"], "emulated": data["context"]["emulated"] == "true"}
           if "device" in data["context"] else {}),
        "load_at_start": data["context"].get("load_avg", []),
        "seconds": round(seconds),
        "repetitions": repetitions,
        "margins": verdicts.MARGINS,
        "grids": data["grids"],
        "order": data["order"],
        "methods": list(data["methods"].values()),
        "source": data["table1"]["source"],
        "table1_rows": verdicts.table1_rows(data),
        "table1": verdicts.table1(data),
        "declared": verdicts.declared(data),
        "flops_ratios": verdicts.ratios(data, "flops"),
        "memory_ratios": verdicts.ratios(data, "memory"),
        "one_by_one": verdicts.side_by_side(data),
        "orthogonality": data["orthogonality"],
        "sides": data["sides"],
        "coverage": data["coverage"],
        "models": verdicts.models(data),
        "model_shapes": data["models"],
        "samples": [
            {"case": "/".join(map(str, key)), **data["counts"].get(key, {}),
             **({"ns": [round(v) for v in data["times"][key]]} if key in data["times"] else {})}
            for key in sorted({*data["counts"], *data["times"]})
        ],
    }


def rounded(value):
    """Floats at six digits: what is known of them, and a third of the bytes."""
    if isinstance(value, float):
        return None if value != value else float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(part) for part in value]
    return value


def write(path, text):
    """Whole or not at all."""
    unfinished = path.with_suffix(path.suffix + ".unfinished")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def as_csv(rows):
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_tables(results, out):
    write(out / "results.json", json.dumps(results, ensure_ascii=False, separators=(",", ":")) + "\n")
    write(out / "claims.csv", as_csv(claim_rows(results)))
    for name in ("orthogonality", "sides", "coverage", "models"):
        if not results[name]:
            continue
        write(out / f"{name}.csv", as_csv(results[name]))


def load_saved(place):
    path = place.saved / "results.json"
    if not path.exists():
        fail(f"{path.relative_to(ROOT)} is missing: bash bench/run.sh --claims{place.option} --save writes it")
    results = json.loads(path.read_text(encoding="utf-8"))
    require_measured(results, path)
    return results


def report(results, place):
    import figures  # only here: --check needs no matplotlib

    write(place.page, page.text(results))
    figures.draw(results, place.saved)


def keep(results, place):
    require_measured(results, "--save")
    page.text(results)  # what fails here must not cost the results before
    shutil.rmtree(place.saved, ignore_errors=True)
    place.saved.mkdir(parents=True)
    write_tables(results, place.saved)
    report(results, place)


def check(place):
    if not place.page.exists() or place.page.read_text(encoding="utf-8") != page.text(load_saved(place)):
        fail(f"{place.page.relative_to(ROOT)} is not what {place.saved.relative_to(ROOT)}/results.json says: run "
             f"/usr/bin/python3 bench/claims/harness.py --report{place.option}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=pathlib.Path, help="hoft_claims")
    parser.add_argument("--out", type=pathlib.Path, help="the folder of the results; made anew")
    parser.add_argument("--level", choices=plans.LEVELS, default="full")
    parser.add_argument("--gpu", action="store_true", help="the program is hoft_gpu_claims")
    parser.add_argument("--save", action="store_true", help="also the results and the page that are kept")
    parser.add_argument("--command", default="", help="what the page says it was made by")
    parser.add_argument("--no-plots", action="store_true", help="tables only")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    place = Place(options.gpu)
    if options.check:
        check(Place(False))
        gpu = Place(True)
        if gpu.page.exists() or gpu.saved.exists():  # nobody has to have measured on one
            check(gpu)
        return
    if options.report:
        return report(load_saved(place), place)
    if options.program is None or options.out is None:
        parser.error("--program and --out are needed, or --report, or --check")
    if not options.program.is_file():
        fail(f"there is no program '{options.program}'")
    if options.save and options.level != "full":
        fail("--save keeps whole runs only")
    options.out.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    level = place.levels[options.level]
    data = measure(options.program.resolve(), options.out, level, place)
    print("claims: judging", flush=True)
    results = rounded(judged(data, options.level, level["repetitions"], options.command, time.monotonic() - start))
    write_tables(results, options.out)
    if not options.no_plots:
        import figures

        figures.draw(results, options.out)
    kept = place.saved / "results.json"
    show(results, json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else None, kept.relative_to(ROOT))
    if results.get("emulated"):
        print(f"claims: {results['device']} is no GPU: no time above is one")
    if options.level != "full":
        print(f"claims: --level={options.level} has small sizes and few repetitions. It shows that everything runs; "
              f"verdicts, on time above all, may differ from those of {place.page.relative_to(ROOT)}.")
    if options.save:
        keep(results, place)
    print(f"claims: {time.monotonic() - start:.0f} s; tables and plots in {options.out}")


if __name__ == "__main__":
    main()
