#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What the kernels of docs/internals/gpu-notes.md execute, counted by the emulator of tests/ptx; count.sh calls it.

  counts.py --run=<folder of the emulator's libraries> --program=<hoft_gpu_counts> [--case=<part of a name>] [--save]
            [--lines=<how many>]
  counts.py --check

Prints what was counted, beside a ratio to what bench/results/gpu_counts.json has of it. --save writes that file, and
from it the tables of the page. --check counts nothing, and fails when the page is not what would be written. --lines
prints the lines of the source that issue the most instructions instead.
"""

import argparse
import collections
import concurrent.futures
import datetime
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import instructions

ROOT = pathlib.Path(__file__).resolve().parents[2]
RESULTS, PAGE = ROOT / "bench/results/gpu_counts.json", ROOT / "docs/internals/gpu-notes.md"
EMULATOR = ROOT / "tests/ptx/run.sh"

# Two numbers of columns: their difference is what each column takes. A weight is counted whole, in one of the runs, since
# both of its sides are shared among blocks.
COLUMNS, WEIGHT_COLUMNS = (512, 1024), 4096
# An H200: processors, instructions of warps that each issues in a cycle, cycles a second, bytes a second of a copy.
PROCESSORS, ISSUES, CLOCK, COPY = 132, 4, 1.75e9, 4.3e12

SUMS = ("instructions", "sectors", "requests", "asked_bytes", "passes", "conflicts", "mma", "ldmatrix", "barriers")
GLOBAL = ("load_global", "store_global", "copy_async")


def label(kernel):
    """its short name, without what kernels of single elements are made of"""
    name = instructions.short_name(kernel)
    inner = re.match(r"(elements|columns_kernel)<(?:backend::)?(\w+)", name)
    return f"{inner[1]}<{inner[2]}>" if inner else name


def counted(launch):
    """of one line of the emulator's report"""
    classes = launch["classes"]
    sums = collections.Counter(instructions=launch["all"]["issued"])
    for name, one in classes.items():
        sums["class " + name] = one["issued"]
        if name in GLOBAL and "sectors" in one:
            sums["sectors"] += one["sectors"]
            sums["requests"] += one["issued"]
            sums["asked_bytes"] += one["bytes"]
        sums["passes"] += one.get("wavefronts", 0)
        sums["conflicts"] += one.get("conflicts", 0)
    for name, of in (("mma", "matrix"), ("ldmatrix", "ldmatrix"), ("barriers", "barrier")):
        sums[name] = classes.get(of, {}).get("issued", 0)
    return sums


def run_once(arguments, columns, schedule, lines=False):
    """{case: (what the program says of it, its launches)}; a weight is in the runs of the fewest columns alone"""
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PTXEMU_")}
        environment |= {"PTXEMU_CHECKS": "none", "PTXEMU_SCHEDULE": schedule, "PTXEMU_REPORT": str(report)}
        if lines:
            environment["PTXEMU_REPORT_LINES"] = "1"
        weight = WEIGHT_COLUMNS if columns == COLUMNS[0] else 0
        command = ["bash", EMULATOR, arguments.run, arguments.program, str(columns), str(weight), arguments.case]
        out = subprocess.run(command, env=environment, capture_output=True, text=True)
        if out.returncode != 0:
            sys.exit(f"counts.py: {' '.join(map(str, command))} ended with {out.returncode}\n{out.stderr}")
        launches = [json.loads(line) for line in report.read_text().splitlines()]
    cases = [json.loads(line) for line in out.stdout.splitlines()]
    inside, groups = False, []
    for launch in launches:
        if launch["kernel"].startswith("mark("):
            inside = not inside
            if inside:
                groups.append([])
        elif inside:
            groups[-1].append(launch)
    if len(groups) != len(cases):
        sys.exit(f"counts.py: {len(cases)} cases, but {len(groups)} groups of launches in the report")
    return {case["case"]: (case, launches) for case, launches in zip(cases, groups)}


def compare_runs(one, other, columns):
    for name, (_, launches) in one.items():
        if [counted(a) for a in launches] != [counted(a) for a in other[name][1]]:
            sys.exit(f"counts.py: {name} with {columns} columns has other counts when blocks run in reverse")


def at_full_size(small, large, sizes, full):
    """linear in the size, exactly"""
    begin, end = sizes
    if begin == end:
        return dict(large)
    scaled = {}
    for name in large.keys() | small.keys():
        rise = (large[name] - small[name]) * (full - end)
        if rise % (end - begin) != 0:
            sys.exit(f"counts.py: {name} is not the same for each of {full} columns")
        scaled[name] = large[name] + rise // (end - begin)
    return scaled


def kernels_of(small, large):
    """a case at its full size, from the same case at two others"""
    (case, first), (again, second) = small, large
    names = [[launch["kernel"] for launch in launches] for launches in (first, second)]
    if case["case"] != again["case"] or names[0] != names[1]:
        sys.exit(f"counts.py: {case['case']} has other launches with more columns")
    launches = []
    for a, b in zip(first, second):
        sums = at_full_size(counted(a), counted(b), (case["size"], again["size"]), case["full"])
        classes = {name.split()[1]: count for name, count in sorted(sums.items()) if name.startswith("class ")}
        launches.append({
            "kernel": label(a["kernel"]),
            **{name: b[name] for name in ("grid", "threads", "cluster", "shared")},
            **{name: sums.get(name, 0) for name in SUMS},
            "classes": classes,
        })
    tiles = case["elements"] // 256
    return {"case": case["case"], "counted_at": [case["size"], again["size"]], "full": case["full"], "tiles": tiles,
            "bytes": case["bytes"], "launches": launches}


def count_all(arguments):
    jobs = [(columns, schedule) for columns in COLUMNS for schedule in ("forward", "reverse")]
    with concurrent.futures.ThreadPoolExecutor(int(os.environ.get("HOFT_JOBS", "1"))) as pool:
        runs = dict(zip(jobs, pool.map(lambda job: run_once(arguments, *job), jobs)))
    for columns in COLUMNS:
        compare_runs(runs[columns, "forward"], runs[columns, "reverse"], columns)
    small, large = (runs[columns, "forward"] for columns in COLUMNS)
    return [kernels_of(one, large.get(name, one)) for name, one in small.items()]


def machine_code(program):
    """{kernel: registers, stack, spills, instructions} as ptxas makes them for sm_90, or None without CUDA's tools"""
    missing = [tool for tool in ("cuobjdump", "nvdisasm", "ptxas", "c++filt") if shutil.which(tool) is None]
    if missing:
        print(f"counts.py: no {', '.join(missing)} in PATH: machine code is not looked at", file=sys.stderr)
        return None

    def run(*command, **options):
        return subprocess.run(command, check=True, capture_output=True, text=True, **options)

    with tempfile.TemporaryDirectory() as folder:
        run("cuobjdump", "-xptx", "all", pathlib.Path(program).resolve(), cwd=folder)
        (source,) = pathlib.Path(folder).glob("*.ptx")
        binary = pathlib.Path(folder) / "all.cubin"
        said = run("ptxas", "-arch=sm_90", "-v", source, "-o", binary).stderr
        spills = dict(re.findall(r"Function properties for (\w+)\n.*?(\d+) bytes spill stores", said))
        names = run("c++filt", input="\n".join(spills)).stdout.split("\n")
        stores = {instructions.short_name(name): int(count) for name, count in zip(names, spills.values())}
        return {
            kernel.name: {
                "registers": kernel.registers,
                "stack": kernel.stack,
                "spill_stores": stores[kernel.name],
                "size": kernel.size,
            }
            for kernel in sorted(instructions.kernels(binary, ["cluster_", "accumulate_kernel"]))
            if not kernel.name.startswith("grouped")
        }


def print_counts(kernels, saved):
    before = {kernel["case"]: kernel for kernel in saved["kernels"]} if saved else {}
    print("per tile of 16 x 16, all launches; behind each the ratio to the saved count")
    for kernel in kernels:
        print(f"{kernel['case']}:")
        old = before.get(kernel["case"])
        for name in SUMS:
            count = total(kernel, name)
            if count == 0:
                continue
            then = total(old, name) if old else 0
            ratio = f"  x {count / then:.3f}" if then else ""
            print(f"  {name:14}{count / kernel['tiles']:12.3f}{ratio}")
        for launch in kernel["launches"]:
            warps = launch["grid"] * launch["threads"] // 32
            print(f"  {launch['kernel']}: {launch['grid']} x {launch['threads']}, clusters of {launch['cluster']}, "
                  f"{launch['instructions'] / kernel['tiles']:.1f} a tile, {launch['instructions'] / warps:.0f} a warp")


def print_lines(arguments):
    for case, launches in run_once(arguments, COLUMNS[0], "forward", lines=True).values():
        tiles = case["elements"] * case["size"] / case["full"] / 256
        print(f"{case['case']}, instructions of warps a tile:")
        for launch in launches:
            issued = collections.Counter()
            for place, count in launch["lines"].items():
                issued[place] += count["issued"]
            print(f"  {label(launch['kernel'])}: {launch['all']['issued'] / tiles:.1f}")
            for place, count in issued.most_common(arguments.lines):
                print(f"    {count / tiles:9.2f}  {place}")


def table(rows):
    head, *body = rows
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *body]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def total(kernel, name):
    return sum(launch[name] for launch in kernel["launches"])


def prediction(kernel):
    """seconds: to issue the instructions, to move the bytes"""
    return total(kernel, "instructions") / (PROCESSORS * ISSUES * CLOCK), kernel["bytes"] / COPY


def a_tile(kernel, name, digits=1):
    return f"{total(kernel, name) / kernel['tiles']:.{digits}f}"


def prediction_table(kernels):
    rows = [["kernel", "MB to move", "MB in sectors", "instructions a tile", "issue, µs", "floor, µs", "the larger"]]
    for kernel in kernels:
        issue, floor = (1e6 * seconds for seconds in prediction(kernel))
        larger = f"{max(issue, floor):.0f}, {'issue' if issue > floor else 'memory'}"
        megabytes = (f"{count / 1e6:.0f}" for count in (kernel["bytes"], 32 * total(kernel, "sectors")))
        count = a_tile(kernel, "instructions", 0)
        rows.append([f"`{kernel['case']}`", *megabytes, count, f"{issue:.0f}", f"{floor:.0f}", larger])
    return table(rows)


def access_table(kernels):
    names = ("passes", "conflicts", "mma", "ldmatrix", "barriers")
    rows = [["kernel", "sectors a request", "passes of shared memory", "conflicts", *names[2:]]]
    for kernel in kernels:
        sectors = f"{total(kernel, 'sectors') / total(kernel, 'requests'):.1f}"
        rows.append([f"`{kernel['case']}`", sectors, *(a_tile(kernel, name) for name in names)])
    return table(rows)


def launch_table(kernels):
    """of the launches that take most of each case"""
    rows = [["kernel", "by", "blocks × threads", "cluster", "KB a block", "instructions a tile"]]
    for kernel in kernels:
        for launch in kernel["launches"]:
            if launch["instructions"] < 0.05 * total(kernel, "instructions"):
                continue
            name, blocks = launch["kernel"].split("<")[0], f"{launch['grid']} × {launch['threads']}"
            count = f"{launch['instructions'] / kernel['tiles']:.0f}"
            shared = f"{launch['shared'] / 1e3:.0f}"
            rows.append([f"`{kernel['case']}`", f"`{name}`", blocks, launch["cluster"], shared, count])
    return table(rows)


def code_table(code):
    rows = [["kernel", "instructions", "registers", "bytes of stack", "bytes of spill stores"]]
    for name, kernel in code.items():
        rows.append([f"`{name}`", kernel["size"], kernel["registers"], kernel["stack"], kernel["spill_stores"]])
    return table(rows)


def page_of(results):
    """PAGE with its tables from the results"""
    changed = ", with uncommitted changes" if results["uncommitted_changes"] else ""
    commit_of = f"commit `{results['commit'][:12]}`{changed}"
    parts = {
        "origin": f"Emulated, {results['date']}, {commit_of}, by `{results['command']}`.\n",
        "predictions": prediction_table(results["kernels"]),
        "accesses": access_table(results["kernels"]),
        "launches": launch_table(results["kernels"]),
        "machine code": code_table(results["machine_code"]) if results["machine_code"] else "Not looked at.\n",
    }
    text = PAGE.read_text()
    for name, part in parts.items():
        begin, end = f"<!-- counts: {name} -->\n", f"<!-- end: {name} -->\n"
        if text.count(begin) != 1 or text.count(end) != 1:
            sys.exit(f"counts.py: {PAGE.relative_to(ROOT)} has no place for: {name}")
        before, rest = text.split(begin)
        text = before + begin + "\n" + part + "\n" + end + rest.split(end)[1]
    return text


def check_page(results):
    if results is None or PAGE.read_text() != page_of(results):
        sys.exit(f"counts.py: {PAGE.relative_to(ROOT)} is not what {RESULTS.relative_to(ROOT)} says; "
                 "`bash bench/gpu/count.sh --save` writes both")


def commit():
    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    return {"commit": git("rev-parse", "HEAD"),
            "uncommitted_changes": bool(git("status", "--porcelain", "--", "include", "bench/gpu", "tests/ptx"))}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run")
    parser.add_argument("--program")
    parser.add_argument("--case", default="")
    parser.add_argument("--lines", type=int)
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    saved = json.loads(RESULTS.read_text()) if RESULTS.exists() else None
    if arguments.check:
        return check_page(saved)
    if arguments.lines:
        return print_lines(arguments)
    if arguments.save and arguments.case:
        sys.exit("counts.py: all cases are saved, or none")
    kernels = count_all(arguments)
    print_counts(kernels, saved)
    if arguments.save:
        results = {
            "command": "bash bench/gpu/count.sh --save",
            **commit(),
            "date": datetime.date.today().isoformat(),
            "emulated": True,
            "kernels": kernels,
            "machine_code": machine_code(arguments.program),
        }
        PAGE.write_text(page_of(results))
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
