#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes docs/reference/performance.md, those of other processors and the plots from bench/results/*.json and
bench/notes.json.

--check writes nothing and fails when a page is not what would be written.
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
sys.path.append(str(ROOT / "scripts"))

import contestants
from plot_names import peer_label
from prose import bullets, paragraph
from series import over_hoft
from targets import evaluate

RESULTS, NOTES = ROOT / "bench/results/cpu.json", ROOT / "bench/notes.json"
GPU, TRAINING = ROOT / "bench/results/gpu.json", ROOT / "bench/results/gpu_training.json"
PAGE = ROOT / "docs/reference/performance.md"
# Further runs: what the title and the first sentence of docs/reference/performance-….md say of bench/results/cpu_….json.
FURTHER = {
    "avx2": ("without AVX-512", "hoft, and every peer, with AVX2 and FMA alone."),
    "amx": (
        "on a processor with AMX",
        "The same on another processor, which multiplies a weight in bfloat16 by instructions for tiles: see the rows of "
        "bfloat16. The table of the machine says what its memory gives.",
    ),
}

TOKENS = "There are 2048 tokens for 768² and 1024², 1024 for 4096 × 512, and 512 for 4096². "  # bench/data.hpp
ON_BLAS = (
    "`…_on_blas` computes large products by OpenBLAS: `hoft_on_blas` is over `hoft`, every other `…_on_blas` over "
    "`hoft_on_blas`."
)
OPERATIONS = {
    "apply": "X := Q X. `…_out` writes to another matrix; the peers copy X there and multiply in place.",
    "apply_rows": "X := Q X for row-major X. The peers' matrices are row-major too.",
    "apply_2_threads": "X := Q X by hoft on two threads and on one, by the wall clock.",
    "accumulate": "The triangle T from U. `hoft_tau`, `eigen_sequence` and `lapack_larft` start from (v, tau).",
    "apply_backward": "dX and dU from X and dY. `hoft_from_output` starts from Y and dY.",
    "merge": "M̂ := Q_U M Q_V from M. The peers multiply one side after the other.",
    "forward": "y = Q_U M Q_V x of a bound layer, base product included. `…_step` includes what each step computes once: "
    "accumulate and bind in hoft, M̂ in the paper's formulation. " + TOKENS + ON_BLAS,
    "backward": "The gradient for x, and the sums for U and V (LoRA: for x, A and B; frozen layer: for x). `hoft_step` "
    "includes finish. `paper_step` computes dM̂, and dU and dV from it. " + TOKENS + ON_BLAS,
    "step": "forward, then backward. `hoft_micro_4` takes the tokens in four quarters. `hoft_once` is accumulate, bind and "
    "finish, which a step needs once; `hoft_step` is everything together. " + ON_BLAS,
    "apply_backward_rows": "dX and dU for row-major X and dY, beside column-major ones (`hoft_columns`).",
    "apply_backward_2_threads": "dX and dU by hoft on two threads and on one, by the wall clock.",
    "step_2_threads": "forward, then backward, of hoft, the frozen layer and LoRA on two threads of one pool, by the wall "
    "clock.",
    "decode_1": "forward of a bound layer on one token. Nothing is saved.",
    "decode_4": "The same on 4 tokens.",
    "decode_32": "The same on 32 tokens.",
    "shared": "forward_shared on 256 tokens: of one adapter (`hoft`), of 8 and of 64, with one call of the base. `calls_…` "
    "calls forward for each adapter.",
    "memory": "The same with memory from a counting allocator. `lora_2r` is LoRA of twice the rank.",
    "batch": "Many small problems, one after another. hoft accumulates and applies. `eigen_qr_sequence` and "
    "`lapack_larft_larfb` compute the form too.",
    "batch_2_threads": "hoft on two threads, each with problems of its own, and Eigen on one, by the wall clock. `hoft` "
    "starts its second thread in each call, `hoft_pool` wakes one that sleeps.",
    "apply_backward_forms": "The same call in three forms: into the caller's memory with a workspace (`hoft`), into a "
    "result that is filled again, and with a new result that is freed.",
    "merge_forms": "The same three forms for M̂ from M.",
    **{
        f"{operation}_storage": f"`{operation}` on floats (`hoft`) and on matrices stored in 16 bits, a layer's weight "
        "included; sums are floats in all."
        for operation in ("apply", "apply_backward", "merge", "step")
    },
    "training": "accumulate, apply and the gradients. `torch_…` is eager PyTorch, Debian's and, as `…_pypi`, PyPI's; `…_kept_memory` is explained above. "
    "`torch_ormqr_forward` and `hoft_apply` are the product alone.",
}

SLOWER_ON_TWO = (
    " One thread is faster where `hoft_1_thread` is below 1, or below `hoft_pool`: waking another takes long beside so "
    "short a batch."
)

UNEXPLAINED = "not explained yet."

# Contestants that do something else than hoft does in their case.
OTHER_JOBS = ("hoft", "shoft", "frozen", "lora", "calls_", "torch_ormqr_forward")

METHOD = (
    "One process holds hoft and all its peers, and their results are compared before anything is timed. The repetitions "
    "of all contestants of a case alternate in random order: at least three of each, and mostly 15. **A ratio is the "
    "ratio of two medians.** \"Against\" a peer: the peer's time over hoft's, so hoft is faster above 1. \"Over\" "
    "something: hoft's time over that of the other.",
    "Times are processor times of one thread, which a busy machine disturbs little. Two threads are compared by the wall "
    "clock. The scalar is float and there is one thread unless a row says otherwise.",
    "Flops and bytes are counted as in [cost.hpp](../../include/hoft/core/cost.hpp). The roofline is min(peak, bandwidth "
    "× flops / bytes) of one thread; two threads may exceed it, and so may a case whose matrices stay in a cache, since the "
    "bandwidth is that of memory. The peak is that of multiply-adds on registers. The bandwidth is that of memcpy or of "
    "streaming stores, whichever is faster, between arrays of 64 MiB (float) or 128 MiB (double), bytes read and written. "
    "Both are measured in every case, so a drifting clock shows in them as well.",
    "PyTorch cannot share the process. Rounds of the C++ program and of [its twin](../../bench/torch_twin.py) in PyTorch "
    "alternate, each with a few repetitions, and medians are taken over all rounds. Eager PyTorch asks the C library for "
    "new memory at each operation, and the system clears the new pages each time. In the rows with kept memory, glibc "
    "returns no memory to the system (`MALLOC_MMAP_MAX_=0` and a large `MALLOC_TRIM_THRESHOLD_`).",
    "Extra memory is everything beyond x, y, the parameters and their gradients: what is saved for the backward pass, "
    "and workspace. An allocator that lends all of it to hoft and to LoRA counts it. Memory that is kept for all tokens, "
    "of length O((m + n) r), has a row of its own. HOFT of rank r has as many parameters as LoRA of rank r, but projections "
    "of both sides, as many as LoRA of rank 2r; so its memory is held against that.",
    "The machine is a virtual one, without hardware counters: `perf_event_open` knows no event there. So causes are "
    "found by arithmetic and by experiments. It shares memory and the last-level cache with other machines, so a share "
    "of the peak moves by some percent from one run to another, also where no code has changed.",
    "[Complexity](complexity.md) may be of another machine and commit: its table says which. Compare times within one page "
    "alone. [Performance without AVX-512](performance-avx2.md) has hoft and its peers with AVX2; [performance on a "
    "processor with AMX](performance-amx.md) is of another machine.",
)


def contestant_lines(cases):
    """Those of the tables of all cases."""
    operations = tables.by_operation(cases).values()
    names = {peer for table in operations for case in table.values() for peer in tables.peers_of(case)}
    return contestants.lines(names, lambda rows: tables.as_markdown(rows, "left"))


def lines(*parts):
    return "\n".join(parts) + "\n"


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
            f"{machine.get('compiler', '?')}, `{machine.get('flags', '')}`, vectors as Eigen names them: "
            f"{machine.get('vectors', '?')}",
        ],
        ["OpenBLAS", f"{machine.get('openblas', '?')}, kernels for {machine.get('openblas_core', '?')}"],
        ["Eigen", machine.get("eigen", "?")],
        ["PyTorch", f"{machine.get('torch', 'not measured')} of Debian, {machine.get('torch_pypi', 'none')} of PyPI"],
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


def note_lines(targets, notes, falls_short):
    """A bullet for each row that falls short, or for each other one with a note; a note of several rows stands once."""
    unknown = set(notes) - {row["id"] for row in targets}
    if unknown:
        sys.exit(f"report.py: bench/notes.json explains what is no target: {', '.join(sorted(unknown))}")
    explained, head = {}, ""  # head: the row that "the same" below it means
    for row in targets:
        same = row["what"].startswith("the same")
        head = head if same else row["what"]
        if falls_short == (row["verdict"] == "falls short") and (falls_short or row["id"] in notes):
            named = explained.setdefault(notes.get(row["id"], UNEXPLAINED), [])
            named.append(f"**{head}**, {row['what']}" if same else f"**{head}**")
    return bullets(
        f"{row}: {note if i == 0 or note == UNEXPLAINED else 'for the same reason.'}"
        for note, rows in explained.items()
        for i, row in enumerate(rows)
    )


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
    return lines(
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
    targets = evaluate(results["cases"])
    judged = [row for row in targets if row["must"] is not None]
    counts = {
        verdict: sum(row["verdict"] == verdict for row in judged) for verdict in ("reached", "met", "falls short")
    }
    parts = [
        "# Performance\n",
        paragraph(
            "hoft beside OpenBLAS, LAPACK, Eigen and PyTorch. `python3 bench/report.py` writes this page from "
            "[bench/results/cpu.json](../../bench/results/cpu.json)."
        ),
        "![Time of each peer over time of hoft](../../bench/results/ratios.png)\n",
        machine_lines(results) + "\n",
        "## How it is measured\n",
        *map(paragraph, METHOD),
        "## Who takes part\n",
        contestant_lines(results["cases"]),
        *ahead_parts(results["cases"]),
        "## Targets\n",
        paragraph(
            f"{counts['reached']} targets are reached, {counts['met']} are met, and {counts['falls short']} fall short. The "
            "project sets itself these bounds: a target is met when it has the value in the column \"must\", and reached "
            "when it has that in \"reach for\". A bound with ≤ is a maximum, one without it a minimum. Rows "
            "without bounds are for information. A value has further digits where rounding would hide on which side of a "
            "bound it lies."
        ),
        target_lines(targets) + "\n",
        "## What falls short, and why\n",
        note_lines(targets, notes, falls_short=True) or "Nothing falls short.\n",
        "Of targets that are met or reached, the notes say what keeps them from more:\n",
        note_lines(targets, notes, falls_short=False),
        "## Roofline\n",
        "![Rates under the roofline](../../bench/results/roofline.png)\n",
        "## On a GPU\n",
        gpu_lines(gpu),
        "### A training step beside PyTorch and PEFT\n",
        training_lines(gpu_training),
        "## The machine during the run\n",
        tables.as_markdown(tables.machine_table(results["cases"])) + "\n",
        "## All cases\n",
        paragraph(
            "The columns of peers have the peer's median time over hoft's; `…_out` is over `hoft_out`, and `…_on_blas` over "
            "`hoft_on_blas`, while these two are over `hoft`. ±% is half the distance between the quartiles of hoft's repetitions, as a share of their median."
        ),
    ]
    return "\n".join(parts + case_parts(results["cases"], "###"))


def about(operation, table):
    """What the table of an operation has; that a second thread costs more than it gains only where it does."""
    slower = operation == "batch_2_threads" and any(
        case["hoft_1_thread"]["median_ms"] < case[two]["median_ms"]
        for case in table.values()
        for two in ("hoft", "hoft_pool")
    )
    return OPERATIONS.get(operation, "") + (SLOWER_ON_TWO if slower else "")


def case_parts(cases, heading):
    parts = []
    for operation, table in tables.by_operation(cases).items():
        parts += [
            f"{heading} {operation}\n",
            paragraph(about(operation, table)),
            tables.as_markdown(tables.ratio_table(operation, table)) + "\n",
        ]
    return parts


def ahead_lines(cases):
    """The contestants that are none of hoft's own and faster than hoft, in the same job."""
    rows = [["case", "peer", "time / hoft's"]]
    for name, case in cases.items():
        rows += [
            [name, peer_label(peer), f"{ratio:.2f}"]
            for peer in tables.peers_of(case)
            if "hoft" in case and not peer.startswith(OTHER_JOBS) and (ratio := over_hoft(case, peer)) < 1
        ]
    return tables.as_markdown(rows) if len(rows) > 1 else "None.\n"


def ahead_parts(cases):
    return [
        "## Who is ahead of hoft\n",
        ahead_lines(cases) + "\n",
        paragraph(
            "In `accumulate` the peers are given (v, tau) and hoft starts from U; the table of all cases has "
            "`hoft_tau`, which is given the same as they. In `batch` OpenBLAS is given the triangles that hoft makes. "
            "\"HOFT as in the paper\" forms M̂ in each pass, which takes fewer flops than the activations where there are "
            "more tokens than M has columns: there use `merge`, and multiply by M̂."
        ),
    ]


def further_page(name, results):
    title, first = FURTHER[name]
    parts = [
        f"# Performance {title}\n",
        paragraph(
            f"{first} `python3 bench/report.py` writes this page from [bench/results/cpu_{name}.json]"
            f"(../../bench/results/cpu_{name}.json). [Performance](performance.md) says how it is measured, what the cases "
            "and the columns are, and why rows fall short."
        ),
        machine_lines(results) + "\n",
        *ahead_parts(results["cases"]),
        "## Targets\n",
        target_lines(evaluate(results["cases"])) + "\n",
        "## The machine during the run\n",
        tables.as_markdown(tables.machine_table(results["cases"])) + "\n",
        "## All cases\n",
    ]
    return "\n".join(parts + case_parts(results["cases"], "###"))


def check_or_write(page, text, check):
    if not check:
        page.write_text(text, encoding="utf-8")
    elif not page.exists() or page.read_text(encoding="utf-8") != text:
        sys.exit(f"docs/reference/{page.name} is not what its results in bench/results say: run python3 bench/report.py")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the page is out of date")
    options = parser.parse_args()
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    notes = json.loads(NOTES.read_text(encoding="utf-8")) if NOTES.exists() else {}
    gpu, gpu_training = (
        json.loads(path.read_text(encoding="utf-8")) if path.exists() else None for path in (GPU, TRAINING)
    )
    check_or_write(PAGE, page(results, notes, gpu, gpu_training), options.check)
    for name in FURTHER:
        if (path := RESULTS.with_stem(f"cpu_{name}")).exists():
            written = further_page(name, json.loads(path.read_text(encoding="utf-8")))
            check_or_write(PAGE.with_stem(f"performance-{name}"), written, options.check)
    if options.check:
        return
    import plots  # only here: the check needs no matplotlib

    plots.draw(results, RESULTS.parent)
    if gpu is not None:
        plots.draw_gpu(gpu, RESULTS.parent / "gpu.png")
    if gpu_training is not None:
        plots.draw_training(gpu_training, RESULTS.parent / "gpu_training.png")


if __name__ == "__main__":
    main()
