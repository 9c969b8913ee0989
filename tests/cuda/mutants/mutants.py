#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Changes the device's code at one place at a time, and tells which of the tests on the emulator sees it.

  mutants.py --check              the text of every change is in the headers, once; what no test sees has a reason; the
                                  page agrees with the results
  mutants.py [name...]            tries these changes, or all that have no result yet; --few: by the small program alone,
                                  --whole: by the whole one at once
  mutants.py --instructions N [kind...]  changes N instructions of these kinds, or of all (instructions.py), among those
                                  that the small program executes; unless --few the whole one is tried where it sees nothing
  mutants.py --save               writes the tables of docs/internals/device-tests.md from the results

The changes are in mutants.json: a header below include/hoft/cuda, a text of it, and what takes its place. The folder
build/tests (--build) must hold cuda_device_test, built for the emulator. Each change is compiled with a copy of the
headers, and the tests of ctest's list run in their order until one fails: first those of a small program
(few.cu), then, with --whole or if the small one sees nothing, those of the whole cuda_device_test. Results go to
results.json. It takes half a minute a change, and ten if nothing sees it.
"""
import argparse
import copy
import hashlib
import json
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import time

import instructions

here = pathlib.Path(__file__).resolve().parent
root = here.parents[2]
headers = root / "include/hoft/cuda"
page = root / "docs/internals/device-tests.md"
results_file = here / "results.json"
nothing = {"changes": {}, "instructions": {}}


def read(file, otherwise=None):
    return json.loads(file.read_text()) if otherwise is None or file.exists() else copy.deepcopy(otherwise)


def digest(mutant):
    return hashlib.sha1("\0".join(mutant[part] for part in ("file", "old", "new")).encode()).hexdigest()[:8]


def valid(mutants, results):
    """The results of changes that are still what they were when they were tried."""
    return {m["name"]: results[m["name"]] for m in mutants
            if m["name"] in results and results[m["name"]].get("change") == digest(m)}


# --- what ctest and ninja know -----------------------------------------------------------------------------------


class tests:
    """How the tests are compiled, linked and run."""

    def __init__(self, build):
        self.build = build
        told = lambda *command: subprocess.run(command, cwd=build, check=True, capture_output=True, text=True).stdout
        listed = json.loads(told("ctest", "--show-only=json-v1", "-R", "^cuda_device_test_"))["tests"]
        if not listed:
            sys.exit(f"mutants.py: {build} has no tests on the emulator: cmake --preset default, with CUDA 13 and no GPU")
        property_of = lambda test, name: next(p["value"] for p in test["properties"] if p["name"] == name)
        self.runs = [(t["name"], t["command"], property_of(t, "ENVIRONMENT")) for t in listed]
        self.compiled = {pathlib.Path(c["file"]).name: c["command"] for c in json.loads(told("ninja", "-t", "compdb"))}
        self.linked = told("ninja", "-t", "commands", "cuda_device_test").strip().splitlines()[-1]

    def compile(self, like, source, to, include=root / "include"):
        command = self.compiled[like]
        command = command.replace(str(root / "tests/cuda" / like), str(source))
        command = command.replace(f"-I{root}/include", f"-I{include}")
        command = command.replace("-Werror=all-warnings", "")  # a change may leave a variable unused
        command = re.sub(r" -MD -MT \S+ -MF \S+", "", command)
        command = re.sub(r" -o \S+", lambda _: f" -o {to}", command)
        self.call(command)

    def link(self, device, host, to):
        objects = "tests/CMakeFiles/cuda_device_test.dir/cuda/"
        command = self.linked.replace(objects + "device_together.cu.o", str(device))
        if host is not None:
            command = command.replace(objects + "device_test.cpp.o", str(host))
        self.call(re.sub(r" -o \S+", lambda _: f" -o {to}", command))

    def call(self, command):
        done = subprocess.run(command, cwd=self.build, shell=True, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"mutants.py: {command}\n{done.stdout}{done.stderr}")


# --- one change --------------------------------------------------------------------------------------------------


def seen_by(program, runs, limit):
    """The first test that fails, and how: a check of the emulator, wrong numbers, or no end. None if all pass."""
    for name, command, environment in runs:
        command = [str(program) if part.endswith("/cuda_device_test") else part for part in command]
        process = subprocess.Popen(["env", *environment, "PTXEMU_PRINT=1", *command, "--abort-after=1"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")
        finding, late = None, threading.Timer(limit, process.kill)
        late.start()
        output = []
        reader = threading.Thread(target=lambda: output.append(process.stdout.read()))
        reader.start()
        for line in process.stderr:
            if match := re.match(r"ptxemu: (?!\d)([^:]*)", line):
                finding = match[1]
                process.kill()  # the rest of its tests would take as long as all of them
                break
        process.wait()
        reader.join()
        in_time = late.is_alive()
        late.cancel()
        if finding is None and process.returncode == 0:
            continue
        case = re.search(r"TEST CASE:\s*(.*)", output[0])
        by = finding or ("numbers" if in_time else "no end")
        return {"by": by, "test": name} | ({"case": case[1]} if case else {})
    return None


def changed_headers(mutant, work):
    to = work / "include"
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(root / "include", to)
    file = to / "hoft/cuda" / mutant["file"]
    file.write_text(file.read_text().replace(mutant["old"], mutant["new"]))
    return to


def try_one(mutant, how, work, options):
    include = changed_headers(mutant, work)
    program = work / "changed"
    if not options.whole:
        how.compile("device_together.cu", here / "few.cu", work / "few.cu.o", include)
        how.link(work / "few.cu.o", work / "few_test.o", program)
        if result := seen_by(program, how.runs, 300):
            return result
        if options.few:
            return None
    how.compile("device_together.cu", root / "tests/cuda/device_together.cu", work / "all.cu.o", include)
    how.link(work / "all.cu.o", None, program)
    return seen_by(program, how.runs, 900) or {"by": None}


def keep(results):
    results_file.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")


def run(options, how, work, mutants):
    results = valid(mutants, read(results_file, nothing)["changes"])
    known = {m["name"]: m for m in mutants}
    if unknown := set(options.names) - set(known):
        sys.exit(f"mutants.py: no such change: {', '.join(sorted(unknown))}")
    for name in options.names or [n for n in known if n not in results]:
        begun = time.time()
        result = try_one(known[name], how, work, options)
        if result is None:
            print(f"{name}: the small program does not see it ({time.time() - begun:.0f} s)", flush=True)
            continue
        results = read(results_file, nothing)
        results["changes"][name] = {"change": digest(known[name])} | result
        results["changes"] = valid(mutants, results["changes"])
        keep(results)
        print(f"{name}: {result['by'] or 'SURVIVED'}; {result.get('test', 'every test passed')}, "
              f"{result.get('case', '')} ({time.time() - begun:.0f} s)", flush=True)


def seen_instruction(how, program, place, changed, few):
    """By the small program, or else, unless `few`, by the whole one, where its kernel is the same."""
    instructions.write_changed(program, place, changed)
    if result := seen_by(changed, how.runs, 300):
        return result["by"]
    whole = how.build / "tests/cuda_device_test"
    same = None if few else instructions.in_other(program, place, whole)
    if same is None:
        return "not tried"
    instructions.write_changed(whole, same, changed)
    return (seen_by(changed, how.runs, 900) or {"by": None})["by"]


def short_name(kernel):
    """A kernel without namespaces and, of its parameters, the first."""
    return re.sub(r"[a-z_0-9]+::", "", kernel.removeprefix("void ")).split("(")[0][:100]


def run_instructions(options, how, work):
    program, changed = work / "few", work / "changed"
    how.compile("device_together.cu", here / "few.cu", work / "few.cu.o")
    how.link(work / "few.cu.o", work / "few_test.o", program)
    lines = instructions.executed(program, how.runs, work / "report.json")
    chosen, counts = instructions.places(program, lines, options.instructions, options.seed)
    for kind in options.names or instructions.RULES:
        places = chosen.get(kind, [])
        of = {"executed": counts.get(kind, 0), "changed": len(places), "checks": 0, "numbers": 0, "not seen": []}
        for place in places:
            by = seen_instruction(how, program, place, changed, options.few)
            if by is None or by == "not tried":
                where = f"{instructions.source_of(program, place)}, of {short_name(place[1])}"
                of["not seen"].append(where + (", by the small program alone" if by else ""))
                print(f"  not seen: {kind}, {of['not seen'][-1]}", flush=True)
            else:
                of["numbers" if by == "numbers" else "checks"] += 1
        print(f"{kind}: {of['changed']} of {of['executed']} changed, {of['checks']} seen by checks, "
              f"{of['numbers']} by wrong numbers, {len(of['not seen'])} not seen", flush=True)
        results = read(results_file, nothing)
        results["instructions"][kind] = of
        keep(results)


# --- the page ----------------------------------------------------------------------------------------------------


def table_of_changes(mutants, results):
    """By headers: changes, those that have been tried, and how many a check has shown, or wrong numbers alone."""
    lines = ["| header | changes | tried | seen by checks | by wrong numbers | not seen |", "|---|---|---|---|---|---|"]
    total = [0] * 5
    for file in dict.fromkeys(m["file"] for m in mutants):
        row = [0] * 5
        for m in (m for m in mutants if m["file"] == file):
            row[0] += 1
            if m["name"] in results:
                by = results[m["name"]]["by"]
                row[1] += 1
                row[4 if by is None else 3 if by == "numbers" else 2] += 1
        total = [a + b for a, b in zip(total, row)]
        lines.append(f"| `{file}` | " + " | ".join(map(str, row)) + " |")
    lines.append("| all | " + " | ".join(map(str, total)) + " |")
    unseen = [f"- `{m['name']}`, {m['why']}: {m['unseen']}" for m in mutants if "unseen" in m]
    return "\n".join(lines + ["", "Not seen, and why:", ""] * bool(unseen) + unseen)


def table_of_instructions(found):
    lines = ["| instruction | executed | changed | seen by checks | by wrong numbers | not seen |", "|---|---|---|---|---|---|"]
    for kind, of in found.items():
        row = [of["executed"], of["changed"], of["checks"], of["numbers"], len(of["not seen"])]
        lines.append(f"| {kind} | " + " | ".join(map(str, row)) + " |")
    return "\n".join(lines)


def with_tables(text, mutants, results):
    tables = {"changes": table_of_changes(mutants, valid(mutants, results["changes"])),
              "instructions": table_of_instructions(results["instructions"])}
    for name, table in tables.items():
        begin, end = f"<!-- {name}, by mutants.py --save -->", f"<!-- end of {name} -->"
        first, last = text.index(begin) + len(begin), text.index(end)
        text = f"{text[:first]}\n{table}\n{text[last:]}"
    return text


def check(mutants, results):
    faults = []
    known = valid(mutants, results["changes"])
    for m in mutants:
        file = headers / m["file"]
        count = file.read_text().count(m["old"]) if file.exists() else 0
        if count != 1:
            faults.append(f"{m['name']}: its text is {count} times in {m['file']}")
        if m["name"] in known:
            by = known[m["name"]]["by"]
            if (by is None) != ("unseen" in m):
                faults.append(f"{m['name']}: seen by {by}, but why it cannot be: {m.get('unseen', 'not told')}")
    if with_tables(page.read_text(), mutants, results) != page.read_text():
        faults.append(f"{page.relative_to(root)} has other numbers: mutants.py --save")
    for fault in faults:
        print(f"mutants.py: {fault}", file=sys.stderr)
    return not faults


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--few", action="store_true")
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--instructions", type=int, default=0, metavar="N")
    parser.add_argument("--seed", type=int, default=1, help="which instructions")
    parser.add_argument("--build", type=pathlib.Path, default=root / "build/tests")
    parser.add_argument("--work", type=pathlib.Path, default=root / "build/mutants")
    options = parser.parse_args()
    mutants = read(here / "mutants.json")
    if options.check:
        sys.exit(not check(mutants, read(results_file, nothing)))
    if options.save:
        page.write_text(with_tables(page.read_text(), mutants, read(results_file, nothing)))
        return
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    how = tests(options.build.resolve())
    if not options.whole:  # anew, since the headers may have changed
        how.compile("device_test.cpp", here / "few_test.cpp", work / "few_test.o")
    if options.instructions > 0:
        run_instructions(options, how, work)
    else:
        run(options, how, work, mutants)


if __name__ == "__main__":
    main()
