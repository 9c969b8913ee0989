#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Usage: gpu_harness_test.py <hoft_gpu_claims, or the host in its place>: a run at tiny sizes, what it writes, and its
formulas of memory. Ends with 77 where there is no GPU."""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench/claims"))

import figures
import fits
import harness
import page
import plans


def check(holds, what):
    if not holds:
        sys.exit(f"gpu_harness_test.py: {what}")


def check_refused(results, out):
    """No page is made of them: not by --save, and not of the folder that --save would have written."""
    place = harness.Place(True)
    place.saved, place.page = out, out / "page.md"
    for read in (lambda: harness.keep(results, place), lambda: harness.load_saved(place)):
        try:
            read()
            check(False, "emulated results were taken as measured")
        except SystemExit as refusal:
            check("no time in it is measured" in str(refusal), str(refusal))
    check((out / "results.json").exists() and not place.page.exists(), "what was refused was written")


def main():
    program = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "claims"
        done = subprocess.run([sys.executable, ROOT / "bench/claims/harness.py", f"--program={program}", f"--out={out}",
                               "--gpu", "--level=tiny", "--no-plots"], capture_output=True, text=True, check=False)
        if done.returncode == harness.SKIPPED:
            print(f"Skipped: {done.stderr.strip()}")
            sys.exit(harness.SKIPPED)
        check(done.returncode == 0, f"the tiny run failed:\n{done.stdout}\n{done.stderr}")
        results = json.loads((out / "results.json").read_text(encoding="utf-8"))
        check(results["device"], "the results do not say which GPU made them")
        stands_in = results["device"].startswith(("emulated", "the host"))
        check(results["emulated"] is stands_in, "the results do not say whether a GPU made them")
        if stands_in:
            check("no time above is one" in done.stdout, "the tables do not say that their times are none")
            check_refused(results, out)

        names = {method["name"] for method in results["methods"]}
        check({"hoft_exact", "hoft_two_terms", "shoft", "lora", "full"} <= names, f"methods are missing: {names}")
        cells = {(cell["row"], cell["cell"]): cell for cell in results["table1"]}
        check(set(cells) == {(row, cell) for row in ("HOFT", "HOFT, two terms")
                             for cell in ("parameters", "one token", "on the weight")}, f"other cells: {set(cells)}")
        for (row, cell), found in cells.items():
            wanted = ["parameters"] if cell == "parameters" else ["time"]
            check([claim["quantity"] for claim in found["claims"]] == wanted, f"{row}, {cell} is judged by something else")
            check(found["verdict"] == found["claims"][0]["verdict"], f"{row}, {cell} has a verdict of its own")
        for claim in results["declared"]:
            if claim["quantity"] == "parameters":
                check(claim["verdict"] == fits.HOLDS, f"{claim['method']} trains other parameters than it declares")
        check({claim["quantity"] for claim in results["declared"]} == {"parameters", "memory", "time"},
              "quantities that nobody measured")
        check(min(min(sample["ns"]) for sample in results["samples"] if "ns" in sample) > 0, "a pass took no time")

        text = page.text(results)
        check(not re.search(r"\bnan\b|\binf\b|None|[{}]", text), "the page lacks a number")
        plots = set(re.findall(r"\(\.\./\.\./bench/results/claims_gpu/([a-z0-9_]+\.png)\)", text))
        drawn, rendering = set(), figures.save
        figures.save = lambda figure, path: (drawn.add(path.name), figures.plt.close(figure))  # rendering takes its time
        for draw, *about in figures.figures_of(results, out):  # here: processes of their own would fill a set of their own
            draw(*about)
        check(plots <= drawn, f"the page shows what nobody draws: {plots - drawn}")
        figures.save = rendering
        figures.models_figure(results["models"], out / "models.png")
        check((out / "models.png").read_bytes()[:4] == b"\x89PNG", "models.png is no PNG")
        check(len(plots) == len(cells) + len(names) + 1, f"the page shows {len(plots)} plots")

        # What is taken: LoRA's and full fine-tuning's to the number, and for hoft nothing of the order of the weight.
        sizes = {"m": 192, "n": 192, "r": 2, "b": 2, "k": 1, "t": 48}
        methods = {row["name"]: row for row in harness.raw_table(out / "methods.tsv")}
        keys = [plans.key(name, which, sizes) for name, method in methods.items() for which in plans.passes_of(method)]
        harness.write_plan(out / "memory.plan", keys)
        subprocess.run([program, "count", f"--plan={out / 'memory.plan'}", f"--out={out / 'memory.tsv'}"], check=True,
                       capture_output=True)
        memory = {key[:2]: found["memory"] for key, found in harness.read_counts(out / "memory.tsv").items()}
        check(len(memory) == len(keys) > 20, "the plan was not counted whole")
        m, r, t = sizes["m"], sizes["r"], sizes["t"]
        for key, exact in {("lora", "merge"): 0, ("lora", "merge_backward"): 0, ("lora", "forward"): r * t,
                           ("lora", "backward"): 2 * r * t, ("full", "merge"): 0, ("full", "merge_backward"): 0,
                           ("full", "forward"): 0, ("full", "backward"): 0}.items():
            check(memory[key] == exact, f"{key} takes {memory[key]:.0f} numbers of memory, expected {exact}")
        for key, found in memory.items():
            if key[0].startswith("hoft") or key[0] == "shoft":
                check(2 * m * r < found < m * m, f"{key} takes {found:.0f} numbers of memory, M has {m * m}")
    print("the sweeps of a GPU run and are judged")


if __name__ == "__main__":
    main()
