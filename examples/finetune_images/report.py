# SPDX-License-Identifier: BSD-3-Clause
"""Keeps the results of a whole run of finetune_images, and writes what they say into README.md here.

    report.py FOLDER   FOLDER/results.json, which the program wrote, becomes bench/results/finetune_images.json, without
                       its curves and spectra; README.md follows
    report.py --check  fails where README.md is not what the kept results say
"""

import argparse
import datetime
import json
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts"))

from plot_names import METHODS
from prose import paragraph, written_between

RESULTS = ROOT / "bench/results/finetune_images.json"
README = pathlib.Path(__file__).with_name("README.md")
COMMAND = "bash examples/run.sh --save"
NAMES = {**METHODS, "frozen": "frozen"}


def git(*words):
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True).stdout.strip()


def kept(results):
    """What is kept of a run: curves and spectra are for its plots."""
    runs = [{name: value for name, value in run.items() if name != "curve"} for run in results["runs"]]
    return {
        "command": COMMAND,
        "date": datetime.date.today().isoformat(),
        "commit": git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(git("status", "--porcelain", "--untracked-files=no")),
        **{name: value for name, value in results.items() if name != "spectra"},
        "runs": runs,
    }


def methods_of(entries):
    """The methods that occur, in the order of NAMES."""
    present = {entry["method"] for entry in entries}
    return [method for method in NAMES if method in present]


def table(head, rows, rule="---"):
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---", *[rule] * (len(head) - 1)], *rows)) + "\n"


def mean_and_deviation(values):
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{spread}"


def worst_orthogonality(runs):
    """Over seeds and layers; None where no method has a Q."""
    return max((run["orthogonality_error"] for run in runs if run["orthogonality_error"] is not None), default=None)


def accuracies(results):
    rows = []
    for method in methods_of(results["runs"]):
        runs = [run for run in results["runs"] if run["method"] == method]
        error, drift = worst_orthogonality(runs), max(run["singular_value_drift"] for run in runs)
        rows.append([NAMES[method], f"{runs[0]['parameters']:,.0f}", mean_and_deviation([run["target"] for run in runs]),
                     mean_and_deviation([run["source"] for run in runs]), f"{error:.1e}" if error else "has no Q",
                     f"{drift:.1e}" if drift else "0"])
    return table(["method", "parameters", "upside down, %", "upright, kept, %", "orthogonality error",
                  "singular value drift"], rows)


def validations(results):
    rates, rows = sorted({trial["rate"] for trial in results["trials"]}), []
    for method in methods_of(results["trials"]):
        scores = {trial["rate"]: trial["validation"] for trial in results["trials"] if trial["method"] == method}
        (chosen,) = {run["rate"] for run in results["runs"] if run["method"] == method}
        rows.append([NAMES[method], *(f"{scores[rate]:.1f}{'*' if rate == chosen else ''}" for rate in rates)])
    return table(["validation, %", *(f"{rate:.0e}" for rate in rates)], rows, "---:")


def text(results):
    """What the page says of the results."""
    changed = ", with uncommitted changes" if results["uncommitted_changes"] else ""
    return "\n".join([
        paragraph(f"What `{results['command']}` found on {results['date']} at commit {results['commit'][:7]}{changed}, with "
                  f"rank {results['rank']:g} over {results['seeds']:g} seeds (mean ± standard deviation). Learning rates were "
                  f"chosen by cross-validation on the {results['labels']:,.0f} labels, never on the test set:"),
        accuracies(results),
        paragraph("The accuracies on held-out labels by which the rates (`*`) were chosen:"),
        validations(results),
    ])  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=pathlib.Path, help="where finetune_images put results.json")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if (options.folder is None) != options.check:
        parser.error("a folder is needed, or --check")
    if options.check:
        results = json.loads(RESULTS.read_text(encoding="utf-8"))
    else:
        results = kept(json.loads((options.folder / "results.json").read_text(encoding="utf-8")))
    page = written_between("examples/run.sh --save", text(results), README)
    if options.check:
        if page != README.read_text(encoding="utf-8"):
            sys.exit(f"{README} is not what {RESULTS.name} says")
        return
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    README.write_text(page, encoding="utf-8")
    print(f"Saved: {RESULTS}, {README}")


if __name__ == "__main__":
    main()
