#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes docs/reference/performance.md and the plots from bench/results/*.json and bench/notes.json.

--check writes nothing and fails when the page is not what would be written.
"""

import argparse
import json
import pathlib
import sys

import gpu_targets
import tables
import training
from measured import require_measured

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS, NOTES = ROOT / "bench/results/cpu.json", ROOT / "bench/notes.json"
GPU, TRAINING = ROOT / "bench/results/gpu.json", ROOT / "bench/results/gpu_training.json"
PAGE = ROOT / "docs/reference/performance.md"

OPERATIONS = {
    "apply": "X := Q X. `…_out`: into another matrix; the peers copy first and multiply in place there.",
    "apply_rows": "The same for row-major X, with the peers' matrices row-major too.",
    "apply_2_threads": "hoft on two threads beside hoft on one, by the wall clock.",
    "accumulate": "From U to the triangle T. `hoft_tau`, `eigen_sequence` and `lapack_larft` are given (v, tau).",
    "apply_backward": "dX and dU from X and dY. `hoft_from_output`: from Y and dY.",
    "merge": "M̂ := Q_U M Q_V from M. Products and larfb take one side after the other.",
    "forward": "y = Q_U M Q_V x of a bound layer, base product included. `…_step`: what a step makes anew included: "
    "accumulate and bind, or the paper's M̂. `…_on_blas`: large products by OpenBLAS.",
    "backward": "Gradients of the same for x, and the sums for U and V (LoRA: x, A and B; frozen: x). `hoft_step`: finish "
    "included. `paper_step`: dM̂, and from there dU and dV.",
    "step": "forward, then backward. `hoft_micro_4`: on four quarters of the tokens, one after another. `hoft_once`: "
    "accumulate, bind and finish, which a step has once; `hoft_step`: all of it. `…_on_blas`: every large product by "
    "OpenBLAS.",
    "step_2_threads": "forward, then backward, hoft, the frozen layer and LoRA on two threads of one pool, by the wall clock.",
    "decode_1": "forward of a bound layer on one token, nothing kept.",
    "decode_4": "The same on 4 tokens.",
    "decode_32": "The same on 32 tokens.",
    "shared": "forward_shared: 256 tokens of one adapter (`hoft`), of 8 and of 64, behind one base call; `calls_…`: a forward "
    "for each adapter.",
    "memory": "The same with all memory lent by a counting allocator; LoRA of twice the rank beside it.",
    "batch": "Many small problems, one after another; hoft: accumulate and apply. `eigen_qr_sequence` and "
    "`lapack_larft_larfb` include making the form.",
    "batch_2_threads": "hoft on two threads, each with problems of its own, by the wall clock; Eigen on one.",
    "apply_backward_forms": "The same call into the caller's memory with a workspace (`hoft`), into a result that is "
    "refilled, and with a result that is returned and given back.",
    "merge_forms": "The same for M̂ from M.",
    "training": "accumulate, apply and its gradients. `torch_…`: eager PyTorch, `…_kept_memory`: as below. "
    "`torch_ormqr_forward` and `hoft_apply` are the product alone.",
}


METHOD = """\
One process holds hoft and all its peers, and their results are compared before anything is timed. In each case the repetitions of all contestants
alternate in random order, at least three of each and mostly 15, and **a ratio is the ratio of medians**: "against" a peer hoft is faster above 1,
"over" something hoft's time is divided by its. Times are processor times of the only thread, which a busy machine disturbs little; two threads are
compared by the wall clock. float and one thread unless said otherwise.

Flops and bytes are counted as in [cost.hpp](../../include/hoft/core/cost.hpp). The roofline is min(peak, bandwidth × flops / bytes), both of one thread:
two threads may pass it. Peak (multiply-adds
on registers) and bandwidth (the faster of memcpy and streaming stores between arrays of 64 MiB in float and 128 MiB in double, bytes read and written)
are contestants of every case, so that a clock that drifts shows in them as well.

PyTorch cannot share the process: rounds of the binary and of [its twin](../../bench/torch_twin.py) alternate, each with a few repetitions, and medians
are taken over all rounds. Eager PyTorch asks the C library for new memory at each operation, and the system clears its pages each time; in the rows
with kept memory glibc was told to return none of it (`MALLOC_MMAP_MAX_=0` and a large `MALLOC_TRIM_THRESHOLD_`).

Extra memory is counted by an allocator that lends hoft and LoRA everything beyond x, y, the parameters and all of their gradients: what is saved for
the backward pass and workspace. What stands for all tokens, of length O((m + n) r), has a row of its own.
"""


def paragraph(*lines):
    return "\n".join(lines) + "\n"


def machine_lines(results):
    machine = results["machine"]
    caches = ", ".join(f"{level} {size}" for level, size in machine["caches"].items())
    changed = ", with uncommitted changes" if results["uncommitted_changes"] else ""
    rows = [
        ["", ""],
        ["command", f"`{results['command']}`"],
        ["date", results["date"]],
        ["commit", f"`{results['commit'][:12]}`{changed}"],
        ["processor", f"{machine['processor']}, {machine['cores']} cores; {caches}"],
        [
            "compiler",
            f"{machine.get('compiler', '?')}, `{machine.get('flags', '')}`, vectors: " f"{machine.get('vectors', '?')}",
        ],
        ["OpenBLAS", f"{machine.get('openblas', '?')}, kernels for {machine.get('openblas_core', '?')}"],
        ["Eigen", machine.get("eigen", "?")],
        ["PyTorch", machine.get("torch", "not measured")],
        ["load at the start", ", ".join(f"{load:.2f}" for load in machine.get("load_at_start", []))],
    ]
    return "\n".join(
        ["| " + " | ".join(row) + " |" for row in rows[:1]]
        + ["|---|---|"]
        + ["| " + " | ".join(row) + " |" for row in rows[1:]]
    )


def target_lines(targets):
    emphasised = [
        {**row, "verdict": {"falls short": "**falls short**", "reported": ""}.get(row["verdict"], row["verdict"])}
        for row in targets
    ]
    return tables.as_markdown(tables.target_table(emphasised))


def note_lines(targets, notes):
    unknown = set(notes) - {row["id"] for row in targets}
    if unknown:
        sys.exit(f"report.py: bench/notes.json explains what is no target: {', '.join(sorted(unknown))}")
    short = [row for row in targets if row["verdict"] == "falls short"]
    lines = [f"- {row['what']}: {notes.get(row['id'], 'not explained yet.')}" for row in short]
    lines += [f"- {row['what']}: {notes[row['id']]}" for row in targets if row["id"] in notes and row not in short]
    return "\n".join(lines) if lines else "Nothing falls short."


def gpu_lines(results):
    """What bench/gpu/run.sh --save wrote, or that it has not."""
    if results is None:
        return paragraph("No results yet: `bash bench/gpu/run.sh --save` makes them on a machine with a GPU.")
    require_measured(results, "gpu.json")
    rows = [["case", "", "us", "time / hoft", "GB/s", "% of a copy"]]
    for name, case in results["cases"].items():
        shares = gpu_targets.shares_of_copy(case)
        for who, one in case.items():
            rows.append(
                [
                    name,
                    who,
                    f"{one['median_us']:.1f}",
                    f"{one['median_us'] / case['hoft']['median_us']:.2f}" if "hoft" in case else "-",
                    f"{one['bytes'] / one['median_us'] / 1e3:.0f}",
                    f"{shares[who]:.0f}" if who in shares else "-",
                ]
            )
    return paragraph(
        f"{results['device']}, driver {results['driver']}, runtime {results['runtime']}, {results['date']}, commit "
        f"`{results['commit'][:12]}`, `{results['command']}`. Medians of alternating repetitions between events of the "
        "stream; bytes that must move once, by the time.",
        "",
        tables.as_markdown(gpu_targets.target_table(results)),
        "",
        "![Shares of a device copy's bandwidth](../../bench/results/gpu.png)",
        "",
        tables.as_markdown(rows),
    )


def training_lines(results):
    """What bench/gpu/compare_torch measured, or that it has not."""
    if results is None:
        return paragraph(
            "No results yet, and no part of it has run on a GPU: `bash bench/gpu/run.sh --compare-only --save` makes "
            "them there (`bench/gpu/compare_torch/README.md` says what is measured, and how)."
        )
    require_measured(results, "gpu_training.json")
    machine = results["machine"]
    changed = ", with uncommitted changes" if results["uncommitted_changes"] else ""
    contestants = [f"- `{name}`: {what}" for name, what in results["contestants"].items()]
    parts = [
        f"{machine['device']}, driver {machine['driver']}, CUDA {machine['toolkit']}, PyTorch {machine['torch']}, PEFT "
        f"{machine['peft']}, {results['date']}, commit `{(results['commit'] or 'unknown')[:12]}`{changed}, "
        f"`{results['command']}`. {results['dtype']}, {results['tokens']} tokens, r = {results['rank']}; shapes are "
        "out × in. `bench/gpu/compare_torch/README.md` says what is measured, and how.",
        tables.as_markdown(training.target_table(results)),
        "![A training step over LoRA's](../../bench/results/gpu_training.png)",
        "\n".join(contestants),
    ]
    for name, case in results["cases"].items():
        parts.append(tables.as_markdown(training.case_table(name, case)))
        parts += ["- " + line for line in training.reasons(case)]
    return "\n\n".join(parts) + "\n"


def page(results, notes, gpu, gpu_training):
    targets = results["targets"]
    judged = [row for row in targets if row["must"] is not None]
    counts = {
        verdict: sum(row["verdict"] == verdict for row in judged) for verdict in ("reached", "met", "falls short")
    }
    parts = [
        "# Performance\n",
        paragraph(
            "Written by `python3 bench/report.py` from [bench/results/cpu.json](../../bench/results/cpu.json); no "
            "number here is typed by hand."
        ),
        machine_lines(results) + "\n",
        METHOD,
        "## Targets\n",
        paragraph(
            f"{counts['reached']} reached, {counts['met']} met, {counts['falls short']} falling short of what they "
            "must. Rows without bounds are for information."
        ),
        target_lines(targets) + "\n",
        "## What falls short, and why\n",
        note_lines(targets, notes) + "\n",
        "## Plots\n",
        paragraph(
            "![Time of each peer over time of hoft](../../bench/results/ratios.png)",
            "",
            "![Rates under the roofline](../../bench/results/roofline.png)",
        ),
        "## On a GPU\n",
        gpu_lines(gpu),
        "### A training step beside PyTorch and PEFT\n",
        training_lines(gpu_training),
        "## The machine during the run\n",
        tables.as_markdown(tables.machine_table(results["cases"])) + "\n",
        "## All cases\n",
        paragraph(
            "Peers: median time / median time of hoft (`…_out` / `hoft_out`, `…_on_blas` / `hoft_on_blas`). ±%: half "
            "the distance between the quartiles of hoft's repetitions, of the median."
        ),
    ]
    for operation, cases in tables.by_operation(results["cases"]).items():
        parts += [
            f"### {operation}\n",
            OPERATIONS.get(operation, "") + "\n",
            tables.as_markdown(tables.ratio_table(operation, cases)) + "\n",
        ]
    return "\n".join(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the page is out of date")
    options = parser.parse_args()
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    notes = json.loads(NOTES.read_text(encoding="utf-8")) if NOTES.exists() else {}
    gpu, gpu_training = (
        json.loads(path.read_text(encoding="utf-8")) if path.exists() else None for path in (GPU, TRAINING)
    )
    text = page(results, notes, gpu, gpu_training)
    if options.check:
        if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
            sys.exit("docs/reference/performance.md is not what bench/results/cpu.json says: run python3 bench/report.py")
        return
    PAGE.write_text(text, encoding="utf-8")
    import plots  # only here: the check needs no matplotlib

    plots.draw(results, RESULTS.parent)
    if gpu is not None:
        plots.draw_gpu(gpu, RESULTS.parent / "gpu.png")
    if gpu_training is not None:
        plots.draw_training(gpu_training, RESULTS.parent / "gpu_training.png")


if __name__ == "__main__":
    main()
