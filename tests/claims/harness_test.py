#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Usage: harness_test.py <hoft_claims>: a run at tiny sizes, what it writes, and wrong formulas that must not hold."""

import contextlib
import csv
import io
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
import terminal
import verdicts


def check(holds, what):
    if not holds:
        sys.exit(f"harness_test.py: {what}")


def run(*options):
    return subprocess.run([sys.executable, ROOT / "bench/claims/harness.py", *options], capture_output=True, text=True,
                          check=False)


def check_refused_rows(program, out, results):
    """A row that cannot be judged ends the run before anything is measured; what is new is shown last."""
    lora = {"name": "Mine", "method": "lora", "parameters": "r * (m + n)", "terms": ["m * n * r"], "printed": "O(mnr)"}
    table, here = json.loads((harness.HERE / "table1.json").read_text(encoding="utf-8")), harness.HERE
    harness.HERE, place = out / "tables", harness.Place(False)
    harness.HERE.mkdir()
    (harness.HERE / "models.json").write_bytes((here / "models.json").read_bytes())
    for changed, said in (({"method": "lorra"}, "no method is called 'lorra'"), ({"terms": ["m * b"]}, "depends on b"),
                          ({"method": "dora", "coverage": "r = m", "covers": {"r": "m"}}, "coverage of 'dora' is not measured"),
                          ({"method": "hra", "coverage": "r = m - 2", "covers": {"r": "m - 2"}}, "is r = 6 at m = 8")):
        table["rows"].append({**lora, **changed})
        (harness.HERE / "table1.json").write_text(json.dumps(table), encoding="utf-8")
        table["rows"].pop()
        (out / "refused").mkdir(exist_ok=True)
        try:
            harness.measure(program, out / "refused", plans.LEVELS["tiny"], place)
            check(False, f"{changed} was taken")
        except SystemExit as refusal:
            check(said in str(refusal) and "row 'Mine'" in str(refusal), f"{changed} was answered by: {refusal}")
        check({path.name for path in (out / "refused").iterdir()} == {"methods.tsv", "coverage_sizes.tsv"},
              f"{changed} was measured")
    harness.HERE = here

    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        terminal.show(results, {"methods": [one for one in results["methods"] if one["name"] != "hra"],
                                "table1_rows": results["table1_rows"][1:]}, "results.json")
    before, _, after = shown.getvalue().partition("\nNew, or changed, since results.json: hra, Table 1, OFT\n")
    check("hra, merge " in after and "Table 1, OFT, one token" in after, "what is new is not shown last")
    check("boft, merge " in before and "boft, merge " not in after and "BOFT" not in after, "what is new has other company")


def main():
    program = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "claims"
        done = run(f"--program={program}", f"--out={out}", "--level=tiny", "--no-plots")
        check(done.returncode == 0, f"the tiny run failed:\n{done.stdout}\n{done.stderr}")
        results = json.loads((out / "results.json").read_text(encoding="utf-8"))
        rows = list(csv.DictReader((out / "claims.csv").open(encoding="utf-8")))
        check(len(rows) == len(harness.claim_rows(results)) > 100, "claims.csv has other rows than the results")
        check({row["verdict"] for row in rows} <= {fits.HOLDS, fits.FAILS, fits.UNKNOWN}, "a verdict of another name")
        for row in rows:
            check(float(row["low"]) <= float(row["measured"]) <= float(row["high"]), f"no interval around {row}")

        # What is counted does not depend on the machine, so these verdicts are known.
        cells = {(cell["row"], cell["cell"]): cell for cell in results["table1"]}
        check(len(cells) == 4 * len(results["table1_rows"]), "Table 1 has a cell without a verdict")
        for name in ("OFT", "HRA", "HOFT"):
            check(cells[name, "parameters"]["verdict"] == fits.HOLDS, f"the parameters of {name} are as printed")
        for claim in results["declared"]:
            if claim["quantity"] == "parameters":
                check(claim["verdict"] == fits.HOLDS, f"{claim['method']} trains other parameters than it declares")
        check(cells["HRA", "on the weight"]["verdict"] == fits.FAILS, "HRA on the weight takes m n r")

        # The page names a plot for each cell and has no value missing.
        text = page.text(results)
        plots = set(re.findall(r"\(\.\./\.\./bench/results/claims/([a-z0-9_]+\.png)\)", text))
        for cell in results["table1"]:
            check(pathlib.Path(page.link(results, cell)).name in plots, f"no plot for {cell['row']}, {cell['cell']}")
        check(not re.search(r"\bnan\b|\binf\b|None|[{}]", text), "the page lacks a number")

        # One of each kind of figure.
        figures.claim_figure("a claim", cells["HRA", "one token"]["claims"], out / "claim.png")
        figures.declared_figure("hra", [c for c in results["declared"] if c["method"] == "hra"], out / "declared.png")
        figures.orthogonality_map(results["orthogonality"], out / "orthogonality.png")
        figures.sides_map(results["sides"], "drift", "singular values", out / "sides.png")
        figures.coverage_map(results["coverage"], out / "coverage.png")
        figures.coverage_cell(cells["HRA", "coverage"], [r for r in results["coverage"] if r["method"] == "hra"],
                              out / "cell.png")
        figures.models_figure(results["models"], out / "models.png")
        for name in ("claim", "declared", "orthogonality", "sides", "coverage", "cell", "models"):
            check((out / f"{name}.png").read_bytes()[:4] == b"\x89PNG", f"{name}.png is no PNG")

        # Deliberately wrong formulas against what was counted: too small, too large, another variable.
        data = {"grids": {"count": plans.LEVELS["tiny"]["count"]}, "counts": harness.read_counts(out / "counts.tsv")}
        lora = {"name": "lora", "variables": "mnrt"}
        swept = verdicts.swept_samples(data, "flops", lora, "merge_backward")
        for formula, verdict in (("4*m*n*r", fits.HOLDS), ("m*n", fits.FAILS), ("m*n*r**2", fits.FAILS),
                                 ("m**2*r", fits.FAILS), ("(m + n)*r", fits.FAILS)):
            found = verdicts.claim(swept, [formula], "growth", "flops", False)["verdict"]
            check(found == verdict, f"LoRA's gradients take 4 m n r flops; {formula}: {found}, expected: {verdict}")

        check_refused_rows(program, out, results)

        # Bad input names itself and writes nothing.
        for options, said in (((f"--program={out}/none", f"--out={out}/x"), "there is no program"),
                              ((f"--program={program}", f"--out={out}/x", "--level=huge"), "invalid choice: 'huge'"),
                              ((f"--program={program}", f"--out={out}/x", "--level=tiny", "--save"), "whole runs only"),
                              ((f"--program={program}", "--wrong"), "unrecognized arguments: --wrong")):
            refused = run(*options)
            check(refused.returncode != 0 and said in refused.stderr, f"{options} was answered by: {refused.stderr}")
            check(not (out / "x").exists(), f"{options} left something behind")
    print("the harness runs, writes and judges")


if __name__ == "__main__":
    main()
