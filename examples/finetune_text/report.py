# SPDX-License-Identifier: BSD-3-Clause
"""The tables of a comparison, in Markdown, and where they are saved.

With --check it fails where README.md is not what the saved results say."""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from labels import LABELS, methods_of
from prose import written_between

RESULTS = "bench/results"
README = Path(__file__).with_name("README.md")
COMMAND, STARTS_COMMAND = "run.sh --save", "run.sh --starts --save"


def best_rate(trials: Sequence[dict], name: str) -> float:
    """The rate of a method with the best accuracy, the smaller one where two are equal."""
    own = [trial for trial in trials if trial["method"] == name]
    return max(own, key=lambda trial: (trial["accuracy"], -trial["rate"]))["rate"]


def processor() -> str:
    """The processor's name, as far as the system says it."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "an unknown processor"


def commit(root: Path) -> str:
    """The commit that is checked out, where this is a checkout."""
    command = ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    return done.stdout.strip() or "unknown"


def mean_and_spread(values: Sequence[float], digits: int = 1) -> str:
    text = f"{statistics.fmean(values):.{digits}f}"
    return text + (f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else "")


def runs_of(results: dict, name: str, four_bit: bool = False) -> list[dict]:
    return [r for r in results["runs"] if r["method"] == name and r["four_bit"] == four_bit]


def against_lora(results: dict, name: str) -> str:
    """The difference from LoRA's accuracy, seed by seed: same head, same batches."""
    lora = {run["seed"]: run["accuracy"] for run in runs_of(results, "lora")}
    own = {run["seed"]: run["accuracy"] for run in runs_of(results, name)}
    shared = sorted(lora.keys() & own.keys())
    if name == "lora" or not shared:
        return ""
    text = mean_and_spread([own[seed] - lora[seed] for seed in shared], 1)
    return text if text.startswith("-") else "+" + text


def peak_of(results: dict, name: str, four_bit: bool = False) -> dict:
    same = (m for m in results["memory"] if m["method"] == name and m["four_bit"] == four_bit)
    return next(same)


def process_peak(results: dict, name: str) -> str:
    own, lora = (peak_of(results, method)["process"] for method in (name, "lora"))
    return f"{own / 2**20:.0f} ({own / lora:.2f})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def main_table(results: dict) -> str:
    rows = []
    times = results["times"]
    lora = {shape: of["lora"] for shape, of in times.items()}
    for name in methods_of(results):
        runs = runs_of(results, name)
        rows.append([
            LABELS[name],
            f"{runs[0]['parameters']:,}",
            f"{runs[0]['rate']:.0e}",
            mean_and_spread([run["accuracy"] for run in runs]),
            against_lora(results, name),
            *(f"{of[name]:.0f} ({of[name] / lora[shape]:.2f})" for shape, of in times.items()),
            f"{peak_of(results, name)['peak'] / 2**20:.0f}",
            process_peak(results, name),
            size(runs[0]["bytes"]),
        ])
    head = ["method", "parameters", "rate", "test accuracy, %", "− LoRA's",
            "ms a small step (/ LoRA)", "ms a large step (/ LoRA)", "memory, MiB",
            "whole process, MiB (/ LoRA)", "on disk"]
    return table(head, rows)


def served_table(results: dict) -> str:
    rows = [[
        LABELS[s["method"]],
        s["served_as"],
        f"{s['accuracy']:.2f}",
        f"{s['accuracy_served']:.2f}",
        f"{s['difference']:.0e}",
    ] for s in results["served"]]
    head = ["trained as", "served as", "accuracy, %", "accuracy served, %",
            "largest difference of a score / largest score"]
    return table(head, rows)


def four_bit_table(results: dict) -> str:
    rows = []
    for name in results["settings"]["four_bit"]:
        cells = [f"Q{LABELS[name]}"]
        for four_bit in (False, True):
            run = next(r for r in runs_of(results, name, four_bit) if r["seed"] == 1)
            peak = peak_of(results, name, four_bit)
            cells += [f"{run['accuracy']:.1f}", f"{peak['weights'] / 2**20:.0f}",
                      f"{peak['peak'] / 2**20:.0f}"]
        rows.append(cells)
    head = ["method", "accuracy, float base, %", "weights, MiB", "memory, MiB",
            "accuracy, 4-bit base, %", "weights, MiB", "memory, MiB"]
    return table(head, rows)


def page(results: dict) -> str:
    """All tables, and what they are of."""
    machine, settings, data = results["machine"], results["settings"], results["data"]
    measured, others = results["measured"], results.get("others")
    schedule = settings["schedule"]
    kept = ""
    if others:
        kept = f"\nAccuracies of other methods than HOFT and SHOFT need nothing of hoft: {others['date']}."
    return f"""\
{schedule['steps']} steps of {schedule['batch']} texts, {data['train']} to train on, {data['test']} to test;
mean ± standard deviation of {settings['seeds']} seeds; {machine['cores']} cores of {machine['processor']};
PyTorch {machine['torch']}, PEFT {machine['peft']}; {machine['date']}, commit `{machine['commit']}`, data
`{data['fingerprint']}`. Times and memory: {measured['date']}, commit `{measured['commit']}`.{kept}

{main_table(results)}
Served by PEFT in a process that cannot import hoft (seed 1):

{served_table(results)}
On a base in 4 bits (bitsandbytes, NF4; seed 1, the rates chosen in float):

{four_bit_table(results)}"""


def starts_page(results: dict) -> str:
    """The table of reflectors of several lengths, and what it is of."""
    machine, trials = results["machine"], results["starts"]
    rates = sorted({trial["rate"] for trial in trials})
    seeds = len({trial["seed"] for trial in trials})
    # LoRA, which has no such reflectors, comes first, then the longest.
    starts = sorted({(t["method"], t["std"]) for t in trials}, key=lambda start: -(start[1] or 1e9))
    rows = []
    for name, std in starts:
        own = [trial for trial in trials if (trial["method"], trial["std"]) == (name, std)]
        cells = [LABELS[name] + (f", {std:g}" if std else "")]
        for rate in rates:
            cells.append(mean_and_spread([r["accuracy"] for r in own if r["rate"] == rate]))
        rows.append(cells)
    return f"""\
Mean ± standard deviation of {seeds} seeds; {machine['date']}, commit `{machine['commit']}`, data
`{results['data']['fingerprint']}`.

{table(["validation, %", *(f"{rate:.0e}" for rate in rates)], rows)}"""


def save(results: dict, root: Path) -> None:
    """Writes the results, their plot and the tables of README.md. RuntimeError where README.md
    has no marks."""
    import plot

    target = root / RESULTS / "finetune_text.json"
    write(target, results)
    plot.draw(results, target.with_suffix(".png"))
    fill_readme(COMMAND, page(results))
    print(f"Saved: {target.with_suffix('.png')}")


def write(target: Path, results: dict) -> None:
    target.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"Saved: {target}")


def fill_readme(command: str, text: str) -> None:
    """Puts what a command of this folder writes between its two marks in README.md. RuntimeError
    where these are missing."""
    README.write_text(with_tables(command, text), encoding="utf-8")
    print(f"Saved: {README}")


def with_tables(command: str, text: str) -> str:
    """README.md with what that command writes."""
    return written_between(f"examples/finetune_text/{command}", text, README)


def check() -> None:
    """Exits with a message where README.md is not what the saved results say."""
    results = Path(__file__).resolve().parents[2] / RESULTS
    for file, command, text_of in (
        ("finetune_text.json", COMMAND, page),
        ("finetune_starts.json", STARTS_COMMAND, starts_page),
    ):
        saved = json.loads((results / file).read_text(encoding="utf-8"))
        if with_tables(command, text_of(saved)) != README.read_text(encoding="utf-8"):
            sys.exit(f"{README} is not what {RESULTS}/{file} says")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", required=True, help="all that it does alone")
    parser.parse_args()
    check()
