#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""How calls on the CPU may scale over threads: a model of their parallel parts, which parts.cpp has counted and timed on
one thread.

threads.py OUTPUT [--save]   reads what parts.cpp printed and prints the tables; --save writes bench/results/threads.json
                             and the tables of docs/internals/threads.md
threads.py --rewrite         writes the tables from what bench/results keeps; --check fails where the page has others
threads.py --counts PROGRAM  fails where the program, which is parts.cpp, counts other tasks than bench/results keeps
"""

import argparse
import datetime
import heapq
import json
import math
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "bench"), str(ROOT / "scripts")]

from prose import paragraph, written_between
from series import bandwidth
from tables import as_markdown

RESULTS, PAGE = ROOT / "bench/results/threads.json", ROOT / "docs/internals/threads.md"
THREADS = (2, 4, 8, 16, 32, 64)
SIZE = 4  # bytes of a float
# What the first parts of a call are, and rows and columns, in multiples of r, of their sums if they have any. What comes
# behind them finishes gradients, in less than a hundredth of the time.
PARTS = {
    "apply": (("panels of X", None),),
    "apply_backward": (("chunks of X and dY", ("m", 1)),),
    "forward": (("blocks of M x", None), ("panels of x", None), ("panels of y", None)),
    "backward": (("chunks of y and dy", ("m", 2)), ("blocks of Mᵀ dq", None), ("chunks of x and dx", ("n", 1))),
}


def in_order(tasks, threads, seconds, merge=0.0):
    """Seconds until equal tasks are done, which threads take in ascending order; where there is a merge, it is the end of
    a task, and the merges come one after another in the order of the tasks, while their threads wait."""
    free = [0.0] * min(threads, tasks)
    merged = 0.0
    for _ in range(tasks):
        end = heapq.heappop(free) + seconds
        if merge:
            merged = end = max(end, merged) + merge
        heapq.heappush(free, end)
    return max(free)


def runs(panels, threads):
    """The lengths of the runs in which threads take the panels of a walk: long ones first."""
    workers, left = min(threads, panels), panels
    while left > 0:
        run = panels if workers == 1 else max(1, left // (2 * workers))
        yield run
        left -= run


def in_runs(panels, threads, seconds):
    """Seconds until the panels are done: who is free takes the next run."""
    free = [0.0] * min(threads, panels)
    for run in runs(panels, threads):
        heapq.heappush(free, heapq.heappop(free) + run * seconds)
    return max(free)


def merge_seconds(call, columns, bytes_a_second):
    """Partial sums and total are read, the total is written."""
    if columns is None:
        return 0.0
    rows, multiple = columns
    return 3 * call[rows] * multiple * call["r"] * SIZE / bytes_a_second


def large_parts(call):
    """[(name, columns of its sums, tasks, seconds on one thread)]"""
    named, parts = PARTS[call["call"]], call["parts"]
    if len(parts) < len(named) or sum(part["ms"] for part in parts[len(named) :]) > 0.01 * call["ms"]:
        sys.exit(f"threads.py: the parts of {title(call)} are not what PARTS says: {parts}")
    return [(name, columns, part["tasks"], 1e-3 * part["ms"]) for (name, columns), part in zip(named, parts)]


def in_no_part(call):
    """Seconds of which no other thread takes a share."""
    return max(0.0, 1e-3 * call["ms"] - sum(alone for *_, alone in large_parts(call)))


def seconds(call, threads, copy):
    """Of a call on so many threads, by the model."""
    parts = large_parts(call)
    total = in_no_part(call)
    for name, columns, tasks, alone in parts:
        merge = merge_seconds(call, columns, copy)
        if threads == 1:
            total += alone
        elif name.startswith("panels"):
            total += in_runs(tasks, threads, alone / tasks)
        else:
            total += in_order(tasks, threads, max(0.0, alone / tasks - merge), merge)
    return total


def title(call):
    tokens = f", {call['t']} tokens" if call["t"] else ""
    return f"`{call['call']}`, {call['m']} × {call['n']}, r = {call['r']}{tokens}"


def busy_by_merges(call, columns, tasks, alone, copy):
    """How many threads the merges of a part keep busy: t_c / t_m + 1."""
    merge = merge_seconds(call, columns, copy)
    return alone / tasks / merge


def parts_table(calls, copy):
    rows = [["call", "ms", "parts: tasks, share of the time", "in no part", "merges allow"]]
    for call in calls:
        parts = large_parts(call)
        shares = [f"{name}: {tasks}, {100e3 * alone / call['ms']:.0f} %" for name, _, tasks, alone in parts]
        most = [busy_by_merges(call, columns, tasks, alone, copy) for _, columns, tasks, alone in parts if columns]
        rows.append([title(call), f"{call['ms']:.2f}", "; ".join(shares), f"{100e3 * in_no_part(call) / call['ms']:.1f} %",
                     f"{math.floor(min(most))} threads" if most else ""])  # fmt: skip
    return as_markdown(rows, "left")


def speed_table(calls, copy):
    rows = [["call", *(str(threads) for threads in THREADS), "flops / byte", "GB/s, 1 thread", f"GB/s, {THREADS[-1]}"]]
    for call in calls:
        alone = seconds(call, 1, copy)
        ratios = [alone / seconds(call, threads, copy) for threads in THREADS]
        rate = call["bytes"] / alone / 1e9
        rows.append([title(call), *(f"{ratio:.1f}" for ratio in ratios), f"{call['flops'] / call['bytes']:.1f}",
                     f"{rate:.1f}", f"{rate * ratios[-1]:.0f}"])  # fmt: skip
    return as_markdown(rows, "left")


def of_benchmarks():
    """What the benchmarks have measured: the bandwidth of a copy by one thread, and two threads beside one."""
    has_amx = "amx_bf16" in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    results = ROOT / "bench/results" / ("cpu_amx.json" if has_amx else "cpu.json")  # as bench/run.sh keeps them apart
    cpu = json.loads(results.read_text(encoding="utf-8"))
    apply, step = (cpu["cases"][name] for name in ("apply_2_threads/float/4096/4096/16", "step_2_threads/float/1024/1024/16"))
    ratio = lambda case: case["hoft_1_thread"]["median_ms"] / case["hoft"]["median_ms"]
    return {"command": cpu["command"], "commit": cpu["commit"], "copy": 1e3 * bandwidth(apply), "apply": ratio(apply),
            "step": ratio(step)}  # fmt: skip


def measured_lines(measured):
    return paragraph(
        f"Measured on two threads (`{measured['command']}`, commit `{measured['commit'][:12]}`): `apply`, 4096 × "
        f"4096, r = 16, is {measured['apply']:.2f} times as fast as on one, and `forward` and `backward` together, 1024 × "
        f"1024, r = 16, 2048 tokens, {measured['step']:.2f} times. B is that of a copy by one thread in the same run, "
        f"{measured['copy'] / 1e9:.1f} GB/s."
    )


def text(saved):
    calls, copy = saved["calls"], saved["benchmarks"]["copy"]
    changed = ", with uncommitted changes" if saved["uncommitted_changes"] else ""
    return "\n".join([
        paragraph(f"`{saved['command']}`, {saved['date']}, commit `{saved['commit'][:12]}`{changed}, {saved['processor']}. "
                  "Times are processor times of one thread: hoft is asked for two, and an executor that lends none lets the "
                  "caller take all tasks, so that partial sums and merges are in them."),
        parts_table(calls, copy) + "\n",
        "Modelled, time on one thread over that on so many, if memory were never the limit:\n",
        speed_table(calls, copy) + "\n",
        measured_lines(saved["benchmarks"]),
    ])  # fmt: skip


def read(path):
    records = [json.loads(line) for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines()]
    return {
        "tile_rows": next(record["tile_rows"] for record in records if "tile_rows" in record),
        "calls": [record for record in records if "call" in record],
        "benchmarks": of_benchmarks(),
    }


def git(*arguments):
    return subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, check=True).stdout.strip()


def processor():
    lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    value = lambda key: next((line.split(":")[1].strip() for line in lines if line.startswith(key)), "?")
    return f"{value('model name')}, family {value('cpu family')}, {os.cpu_count()} cores"


def check_counts(program):
    found = [json.loads(line) for line in
             subprocess.run([program, "--counts"], capture_output=True, text=True, check=True).stdout.splitlines()]  # fmt: skip
    saved = json.loads(RESULTS.read_text(encoding="utf-8"))
    for record in found:
        if "runs" in record and record["runs"] != list(runs(record["panels"], record["threads"])):
            sys.exit(f"threads.py: {record['threads']} threads take {record['panels']} panels in runs of {record['runs']}, "
                     "not as runs() says")  # fmt: skip
    same_tiles = found[0]["tile_rows"] == saved["tile_rows"]
    here = {title(record): [part["tasks"] for part in record["parts"]] for record in found if "call" in record}
    for call in saved["calls"]:
        for (name, _, kept, _), counted in zip(large_parts(call), here[title(call)]):
            # Blocks of products have the rows of a tile; panels and chunks are the same for all vectors.
            if kept != counted and (same_tiles or not name.startswith("blocks")):
                sys.exit(f"threads.py: {title(call)}: {counted} {name}, {kept} in bench/results/threads.json: run bash "
                         "bench/threads/run.sh --save")  # fmt: skip
    print(f"{len(saved['calls'])} calls, their tasks as bench/results/threads.json has them")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", nargs="?")
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--command", default="bash bench/threads/run.sh --save")
    parser.add_argument("--rewrite", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--counts", metavar="PROGRAM")
    options = parser.parse_args()
    if options.counts:
        return check_counts(options.counts)
    if options.output:
        saved = {"command": options.command, "date": datetime.date.today().isoformat(), "commit": git("rev-parse", "HEAD"),
                 "uncommitted_changes": bool(git("status", "--porcelain", "--untracked-files=no")),
                 "processor": processor(), **read(options.output)}  # fmt: skip
        if options.save:
            RESULTS.write_text(json.dumps(saved, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    elif options.rewrite or options.check:
        saved = json.loads(RESULTS.read_text(encoding="utf-8"))
    else:
        parser.error("what parts.cpp printed is needed, or --rewrite, --check or --counts")
    tables = text(saved)
    if options.output and not options.save:
        return print(tables)
    page = written_between("bench/threads/threads.py", tables, PAGE)
    if not options.check:
        PAGE.write_text(page, encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page:
        sys.exit("docs/internals/threads.md is not what bench/results says: run bench/threads/threads.py --rewrite")


if __name__ == "__main__":
    main()
