# SPDX-License-Identifier: BSD-3-Clause
"""What tensor parallelism costs, measured on few ranks and modelled on many.

model.py FOLDER [--save] reads FOLDER/ranks_*.jsonl, which scaling.cpp printed, and writes FOLDER/scaling.md and
FOLDER/scaling.png; --save writes docs/reference/scaling.md, and the plot and what was measured to bench/results.

model.py --rewrite writes page and plot from what bench/results keeps; --check fails where the page is another.
"""

import argparse
import datetime
import json
import math
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts"))

from plot_names import METHODS as NAMES
from prose import bullets, paragraph

RESULTS, PLOT = ROOT / "bench/results/scaling.json", ROOT / "bench/results/scaling.png"
PAGE, IMAGE = ROOT / "docs/reference/scaling.md", "../../bench/results/scaling.png"
# What the model is given: a GPU of the H100's class on a network of 400 Gb/s.
FLOPS = 4e14  # sustained, 16-bit products
LATENCY = 5e-6  # seconds of one step of a message
PART = 1e-6  # seconds for each of the parts that a rank sends to all others
BANDWIDTH = 50e9  # bytes a second, one rank to the others
BYTES, SUM_BYTES = 2, 4  # of an activation as frameworks send it; of a number as hoft sums it
TOKENS, RANK = 4096, 16
RANKS = [8, 16, 32, 64, 128, 256, 512, 1024]
# hidden, feed-forward, key and value features, layers: the models' own configurations.
MODELS = {"LLaMA-3.1-70B": (8192, 28672, 1024, 80), "LLaMA-3.1-405B": (16384, 53248, 1024, 126)}
METHODS = ("frozen", "lora", "hoft")


def carried(bytes_: float, ranks: int) -> float:
    """Seconds for the bytes of an all-reduce alone: each rank sends 2 (p - 1) / p times as many."""
    return 2 * (ranks - 1) / ranks * bytes_ / BANDWIDTH


def framework_sum(bytes_: float, ranks: int) -> float:
    """Seconds of an all-reduce of NCCL: up a tree and down again."""
    return 2 * LATENCY * math.ceil(math.log2(ranks)) + carried(bytes_, ranks)


def ordered_sum(bytes_: float, ranks: int) -> float:
    """Seconds of hoft's, in the order of the ranks: a part to each of the other ranks, and its sum back to them."""
    return 2 * (LATENCY + PART * (ranks - 1)) + carried(bytes_, ranks)


def linears(model: tuple[int, int, int, int]) -> list[tuple[str, int, int]]:
    """The weights [m, n] of a layer, and how Megatron splits them."""
    d, f, kv, _ = model
    return [("rows", d, d), ("rows", kv, d), ("rows", kv, d), ("columns", d, d), ("rows", f, d), ("rows", f, d),
            ("columns", d, f)]


def sums_a_token(split: str, m: int, n: int, method: str) -> int:
    """Bytes of all-reduces for a token, forward and backward: y or dx as the framework sums it, and what is added."""
    more = {"frozen": 0, "lora": BYTES * RANK, "hoft": SUM_BYTES * RANK * (3 if split == "rows" else 1)}
    return BYTES * (n if split == "rows" else m) + more[method]


def step(name: str, method: str, ranks: int) -> tuple[float, float]:
    """Seconds of the forward and backward passes of a model, and of these in messages."""
    d, _, _, layers = MODELS[name]
    t, r = TOKENS, RANK
    computing = communicating = 0.0
    for split, m, n in linears(MODELS[name]):
        m, n = (m / ranks, n) if split == "rows" else (m, n / ranks)  # of a rank: what is whole is whole on all
        flops = 4 * m * n * t  # two passes over a frozen weight
        if method == "lora":
            flops += 6 * (m + n) * r * t
        if method == "hoft":
            flops += (18 * m + 6 * n) * r * t
        computing += flops / FLOPS
        if method == "hoft":  # w, P and dv; or v
            communicating += (3 if split == "rows" else 1) * ordered_sum(SUM_BYTES * r * t, ranks)
        if method == "lora":  # B^T dy on top of dx, or A x on top of y
            communicating += carried(BYTES * r * t, ranks)
    communicating += 4 * framework_sum(BYTES * d * t, ranks)  # y of two weights, dx of two inputs
    return layers * (computing + communicating), layers * communicating


def hidden_at_most(name: str, ranks: int) -> float:
    """Seconds of a step that messages could hide behind the projection of the next panel: no more than the shorter of
    both."""
    t, r = TOKENS, RANK
    seconds = 0.0
    for split, m, _ in linears(MODELS[name]):
        if split == "rows":  # w, P and dv, each a product with the rank's rows
            seconds += 3 * min(2 * m / ranks * r * t / FLOPS, ordered_sum(SUM_BYTES * r * t, ranks))
    return MODELS[name][3] * seconds


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def measured(records: list[dict]) -> str:
    messages = [r for r in records if r["kind"] == "message" and r["ranks"] > 1]
    steps = [r for r in records if r["kind"] == "step"]
    text = "One message of the ordered all-reduce:\n\n"
    text += table(["ranks", "bytes", "µs", "MB/s"],
                  [[str(r["ranks"]), f"{r['bytes']:,}", f"{r['seconds'] * 1e6:.1f}",
                    f"{r['bytes'] / r['seconds'] / 1e6:.0f}"] for r in messages])
    text += "\nForward and backward of one layer:\n\n"
    case = lambda r: [r[key] for key in ("scaling", "split", "ranks", "m", "n")]
    frozen = lambda r: next(f for f in steps if f["method"] == "frozen" and case(f) == case(r))["seconds"]
    text += table(["scaling", "split", "ranks", "m × n", "method", "ms", "time / frozen", "in messages"],
                  [[r["scaling"], r["split"], str(r["ranks"]), f"{r['m']} × {r['n']}", NAMES[r["method"]],
                    f"{r['seconds'] * 1e3:.1f}", f"{r['seconds'] / frozen(r):.2f}",
                    f"{100 * r['communicating'] / r['seconds']:.0f} %"] for r in steps])
    return text


def bytes_of_messages() -> str:
    rows = []
    for name, (d, f, _, _) in MODELS.items():
        for split, m, n in (("rows", f, d), ("columns", d, f)):
            sums = [sums_a_token(split, m, n, method) for method in METHODS]
            rows.append([name, split, f"{m} × {n}"] + [f"{b:,}" for b in sums] + [f"{100 * (sums[2] / sums[0] - 1):.2f} %"])
    return table(["model", "split", "m × n"] + [NAMES[m] for m in METHODS] + ["HOFT − frozen"], rows)


def modelled() -> str:
    rows = []
    for name in MODELS:
        for ranks in RANKS:
            times = {method: step(name, method, ranks) for method in METHODS}
            rows.append([name, str(ranks)] + [f"{times[m][0]:.3f} ({100 * times[m][1] / times[m][0]:.0f} %)"
                                              for m in METHODS])
    return table(["model", "ranks"] + [NAMES[m] + ", s (in messages)" for m in METHODS], rows)


def draw(path: pathlib.Path) -> None:
    from plot_style import WIDTH, plain_ticks, plt, save, style, ticks_at  # only here: --check needs no matplotlib

    figure, axes = plt.subplots(1, len(MODELS), figsize=(WIDTH, 3.6), layout="constrained")
    figure.suptitle("Time of a training step, modelled, not measured")
    for axis, name in zip(axes, MODELS):
        for method in METHODS:
            axis.loglog(RANKS, [step(name, method, ranks)[0] for ranks in RANKS], label=NAMES[method], **style(method))
        axis.set(title=name, xlabel="ranks (GPUs)")
        ticks_at(axis.xaxis, RANKS[::2] + RANKS[-1:])
        plain_ticks(axis.yaxis, range(1, 10))
    axes[0].set_ylabel("seconds a step")
    axes[0].legend(loc="upper left")
    save(figure, path)


def told(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def context() -> dict[str, str]:
    """When, of which code and on what the measurements were made."""
    fields = {field["field"].rstrip(":"): field["data"] for field in json.loads(told("lscpu", "--json"))["lscpu"]}
    changed = told("git", "status", "--porcelain", "--untracked-files=no", "--", "include", "bench/scaling")
    return {"command": "bash bench/scaling/run.sh --save", "date": datetime.date.today().isoformat(),
            "commit": told("git", "rev-parse", "HEAD")[:12] + (", with uncommitted changes" if changed else ""),
            "processor": f"{fields['Model name']}, {os.cpu_count()} cores"}


INTRODUCTION = """What does it cost to split a HOFT layer over several processes or GPUs? This page measures it on the ranks
of one machine, and models it for many GPUs."""
MEASURED = """Ranks are processes of one machine and communicate through its memory. With more ranks than cores they would take
turns, so there are no more ranks than cores. The methods of a case alternate, and a value is the median. With
strong scaling the whole weight, m × n, has one size, and a rank's part of it shrinks; with weak scaling a rank's part has one
size, and the whole grows with the ranks. "In messages" is the share of time that rank 0 spends in communication, waiting
included. A step has 256 tokens, the rank is 16, and numbers are floats. Memory is allocated
beforehand, HOFT layers are bound beforehand, and ranks do not compare their arguments before a message."""
BYTES_TEXT = """The table has the bytes that the all-reduces of one weight sum for each token, forward and backward, at rank
{rank}. All methods, the frozen layer included, sum y (columns split) or dx (rows split) in {bits} bits. LoRA adds r
numbers in {bits} bits. HOFT adds 3 r numbers (rows split) or r numbers (columns split) in {sum_bits} bits;
`sharded_messages_test` counts them. The table holds where the framework sums y and dx and calls the two halves of a layer.
Where hoft's `forward` and `backward` sum y and dx, these have {sum_bits} bits as well."""
MODELLED = (
    """Nothing in this section is measured. It models the time of {tokens} tokens, forward and backward, through all linear
layers. The weights are split over all ranks as Megatron splits them, and every weight has an adapter of rank {rank}. The model
assumes:""",
    "{flops:.0e} flops a second on each rank, and {bandwidth:.0f} GB/s from each rank to the others;",
    "{latency:.0f} µs for each step of a message, and {part:.0f} µs for each part that a rank sends to one of many;",
    "the framework sums along a tree, up and down again, y and dx in {bits} bits, and dx once for weights that share an input;",
    """hoft sums in the order of the ranks: each rank sends a part to each of the p − 1 others, twice. That is faster than a
tree between few ranks, and slower between many;""",
    "the sums of hoft are messages of their own, in {sum_bits} bits; those of LoRA travel with the framework's;",
    "every rank computes what is not split: V̂ᴴx where rows are split, all of y where columns are;",
    "nothing overlaps, and `bind_layer` and `finish`, once in an optimiser step, are left out.",
)


def modelled_text() -> str:
    values = {"tokens": TOKENS, "rank": RANK, "flops": FLOPS, "bandwidth": BANDWIDTH / 1e9, "latency": LATENCY * 1e6,
              "part": PART * 1e6, "bits": 8 * BYTES, "sum_bits": 8 * SUM_BYTES}
    first, *items = [text.format(**values) for text in MODELLED]
    return paragraph(first) + "\n" + bullets(items)


def overlap_text() -> str:
    most = max(hidden_at_most(name, ranks) / step(name, "hoft", ranks)[0] for name in MODELS for ranks in RANKS)
    return (f"The message of one panel of tokens could travel while the next panel is projected. At these numbers of ranks, "
            f"that would shorten a HOFT step by at most {100 * most:.2f} %, because a projection takes less time than its message.")


def page(records: list[dict], about: dict[str, str], image: str) -> str:
    facts = table(["", ""], [[key, f"`{value}`" if key in ("command", "commit") else value] for key, value in about.items()])
    return "\n".join(["# Scaling\n", paragraph(INTRODUCTION), facts, "## Measured\n", paragraph(MEASURED), measured(records),
                      "## Bytes a token\n", paragraph(BYTES_TEXT.format(rank=RANK, bits=8 * BYTES, sum_bits=8 * SUM_BYTES)),
                      bytes_of_messages(), "## Modelled\n", modelled_text(), modelled(), paragraph(overlap_text()),
                      f"![Seconds of a step over ranks, modelled]({image})\n"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path, nargs="?")
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--rewrite", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if (options.folder is None) != (options.rewrite or options.check):
        parser.error("expected either a folder, or --rewrite or --check")
    if options.rewrite or options.check:
        about = json.loads(RESULTS.read_text(encoding="utf-8"))
        text = page(about.pop("records"), about, IMAGE)
        if options.check and text != PAGE.read_text(encoding="utf-8"):
            sys.exit("model.py: docs/reference/scaling.md does not show bench/results/scaling.json")
        if options.rewrite:
            draw(PLOT)
            PAGE.write_text(text, encoding="utf-8")
        return
    records = [json.loads(line) for path in sorted(options.folder.glob("ranks_*.jsonl"))
               for line in path.read_text().splitlines() if line.startswith("{")]
    about = context()
    if options.save:
        kept = {**about, "records": records}
        RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        draw(PLOT)
        PAGE.write_text(page(records, about, IMAGE), encoding="utf-8")
    else:
        draw(options.folder / "scaling.png")
        (options.folder / "scaling.md").write_text(page(records, about, "scaling.png"), encoding="utf-8")
    print("wrote", "docs/reference/scaling.md" if options.save else options.folder / "scaling.md")


if __name__ == "__main__":
    main()
