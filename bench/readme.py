#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes the measurements in README.md from bench/results: the rows that end in a command and a commit, what a step of
PyTorch takes, and the plot bench/results/peers.svg, six ways to multiply by the same product of reflectors. What it says
of whole models, and of where hoft is slower, stands in sentences: it fails where their numbers are others.

With --check it writes nothing and fails if README.md or the plot differs from what it would write. Needs no matplotlib,
so that every machine can check it.
"""
import argparse
import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path += [str(ROOT / folder) for folder in ("scripts", "bench/scaling")]

import model as scaling
from drawing import Drawing
from plot_names import METHOD_COLOURS, is_ours, peer_colour, peer_label
from prose import between_marks, paragraph
from series import over_hoft

PLOT, README = ROOT / "bench/results/peers.svg", ROOT / "README.md"
RESULTS = {name: ROOT / f"bench/results/{name}.json" for name in ("cpu", "finetune_images", "finetune_text", "claims/results")}
CASE, STEP = "apply/float/4096/4096/16", "step/float/1024/1024/16"
MORE_TOKENS_THAN_COLUMNS = ("768/768/8", "1024/1024/16", "4096/512/32")  # bench/data.hpp
TALL = ("forward/float/4096/512/32", "backward/float/4096/512/32")
SHOWN = ("hoft", "blas_products", "eigen_products", "lapack_larfb", "eigen_sequence", "lapack_ormqr")
LEFT, TOP, LENGTH, ROW = 240, 50, 400, 32  # of the bars: where they begin, the longest, the distance of two


def draw(results):
    case = results["cases"][CASE]
    shown = sorted(SHOWN, key=lambda name: case[name]["median_ms"])
    longest = case[shown[-1]]["median_ms"]
    bottom = TOP + ROW * len(shown)
    drawing = Drawing(840, bottom + 56, "Time of X := Q X by hoft and five peers")
    drawing.text(420, 28, "X := Q X for a 4096 × 4096 matrix, 16 reflectors, float, one thread", size=15)
    for milliseconds in range(0, int(longest) + 10, 10):
        x = round(LEFT + LENGTH * milliseconds / longest, 1)
        drawing.line(x, TOP, x, bottom, colour="#c8ccd0")
        drawing.text(x, bottom + 18, str(milliseconds), size=13)
    drawing.text(LEFT + LENGTH / 2, bottom + 40, "time, ms", size=13)
    for row, name in enumerate(shown):
        mine, time = is_ours(name), case[name]["median_ms"]
        y, width = TOP + ROW * row + 5, round(LENGTH * time / longest, 1)
        colour = METHOD_COLOURS["hoft"] if mine else peer_colour(name)
        drawing.box(LEFT, y, width, ROW - 10, colour, round_corners=0)
        label = "hoft" if mine else peer_label(name, "apply")
        drawing.text(LEFT - 10, y + 16, label, size=14, anchor="end", bold=mine)
        ratio = "" if mine else f", {over_hoft(case, name):.1f} × hoft"
        drawing.text(LEFT + width + 8, y + 16, f"{time:.1f} ms{ratio}", size=14, anchor="start", bold=mine)
    return drawing.write()


def rows(results, images):
    """{how a row of README.md's table begins: the row}"""
    apply, step, commit = results["cases"][CASE], results["cases"][STEP], results["commit"][:7]
    lora, frozen = (step["hoft"]["median_ms"] / step[peer]["median_ms"] for peer in ("lora", "frozen"))
    once = step["hoft_once"]["median_ms"] / step["hoft"]["median_ms"]
    on_blas = step["hoft_on_blas"]["median_ms"] / step["hoft"]["median_ms"] - 1
    tall = {who: sum(results["cases"][case][who]["median_ms"] for case in TALL) for who in ("hoft", "lora", "frozen")}
    measured = {
        "| 16 reflectors applied to a 4096² matrix, one thread |":
            f"{over_hoft(apply, 'blas_products'):.1f} times as fast as X − U (T (UᵀX)) by three products of OpenBLAS",
        "| forward and backward of a HOFT layer: 1024², rank 16, 2048 tokens, one thread |":
            f"{lora:.2f} times as long as LoRA, {frozen:.2f} times as long as the frozen layer, all three with hoft's "
            "product by M",
        "| the same HOFT layer, but with OpenBLAS's product by M (`hoft/blas.hpp`) |":
            f"{100 * abs(on_blas):.1f} % {'less' if on_blas < 0 else 'more'} time than with hoft's product by M",
        "| what the same HOFT layer adds once in an optimiser step (`accumulate`, `bind_layer`, `finish`) |":
            f"{100 * once:.1f} % of the time of one forward and backward",
        "| forward and backward of a tall HOFT layer: 4096 × 512, rank 32, 1024 tokens, one thread |":
            f"{tall['hoft'] / tall['lora']:.2f} times as long as LoRA, {tall['hoft'] / tall['frozen']:.2f} times as long as "
            "the frozen layer",
    }  # fmt: skip
    found = {start: f"{start} {what} | `bash bench/run.sh --cpu` at {commit} |" for start, what in measured.items()}
    trained = "| orthogonality error of trained layers, ‖I − QᵀQ‖_F/√m, in float |"
    worst = max(run["orthogonality_error"] or 0 for run in images["runs"])
    found[trained] = f"{trained} {worst:.1e}, which is rounding | `{images['command']}` at {images['commit'][:7]} |"
    return found


def with_rows(readme, results, images):
    lines = readme.split("\n")
    for start, row in rows(results, images).items():
        (place,) = (i for i, line in enumerate(lines) if line.startswith(start))
        lines[place] = row
    return "\n".join(lines)


def pytorch_step(text):
    """What a step takes beside PEFT's LoRA. Of finetune_text: a small step is 24 texts of 12 tokens, a large one 64 of 32."""
    small, large = (times["hoft"] / times["lora"] for times in (text["times"]["small"], text["times"]["large"]))
    hoft, lora = (next(one for one in text["memory"] if one["method"] == name and not one["four_bit"])
                  for name in ("hoft", "lora"))
    malloc_keeps = lambda one: one["process"] - one["peak"]  # Python and its libraries take the same for all methods
    return paragraph(
        f"On a CPU a training step of a small transformer takes {large:.2f} (2048 tokens) to {small:.2f} (288 tokens) of the "
        f"time of PEFT's LoRA with as many parameters. What training adds to the memory of the loaded model is "
        f"{hoft['peak'] / lora['peak']:.2f} of what LoRA adds. The peak of the whole process is "
        f"{hoft['process'] / lora['process']:.2f} of LoRA's: it also counts memory which malloc keeps after it is freed"
        f"{', and LoRA leaves more of it' if malloc_keeps(lora) > malloc_keeps(hoft) else ''}. The [text "
        "example](examples/finetune_text) has the other methods and their accuracies."
    )  # fmt: skip


def sentences(claims, cpu):
    """What README.md must say of whole models, and of where hoft is slower: numbers in sentences that people write."""
    shapes, r, t = claims["model_shapes"], claims["model_shapes"]["sizes"]["r"], claims["model_shapes"]["tokens"]
    model = shapes["models"][0]
    of_layers = lambda numbers: 4e-9 * model["layers"] * sum(one["count"] * numbers(one["m"], one["n"])
                                                             for one in model["linear"])
    hoft, lora = of_layers(lambda m, n: (5 * m + 2 * n) * r + 2 * r * t), of_layers(lambda m, n: r * t)
    peaks = [next(4e-9 * row["memory"] for row in claims["models"] if (row["model"], row["method"]) == (model["name"], method))
             for method in ("hoft_exact", "lora")]
    more = [round(100 * (scaling.step("LLaMA-3.1-70B", "hoft", ranks)[0] / scaling.step("LLaMA-3.1-70B", "frozen", ranks)[0]
                         - 1)) for ranks in (8, 128)]
    batch = cpu["cases"]["batch/float/64/64/8"]
    gemms = batch["blas_products"]["median_ms"] / batch["hoft"]["median_ms"]
    formed = sorted(over_hoft(cpu["cases"][f"forward/{number}/{shape}"], peer) for number in ("float", "double")
                    for shape in MORE_TOKENS_THAN_COLUMNS for peer in ("paper_step", "paper_step_on_blas"))
    return (
        f"For {model['name']}, rank {r} and {t} tokens, that is {hoft:.2f} GB against LoRA's {lora:.2f}.",
        f"that is {peaks[0]:.2f} GB against {peaks[1]:.2f}",
        f"({of_layers(lambda m, n: m * t):.0f} GB more in that model)",
        f"a step of LLaMA-3.1-70B takes {more[0]} % more than the frozen model's on 8 ranks, and {more[1]} % more on 128.",
        f"for 256 small products (64², r = 8) OpenBLAS's gemms take {gemms:.2f} of the time, when they are given",
        f"A forward pass with more tokens than M has columns takes {'less' if formed[-1] < 1 else 'no less'} time by "
        f"forming M̂, as the paper does: {formed[0]:.2f} to {formed[-1]:.2f}",
    )


def missing(readme, claims, cpu):
    """The sentences that it does not say."""
    words = " ".join(readme.split())
    return [sentence for sentence in sentences(claims, cpu) if sentence not in words]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail when something is out of date")
    check = parser.parse_args().check
    results = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in RESULTS.items()}
    readme = with_rows(README.read_text(encoding="utf-8"), results["cpu"], results["finetune_images"])
    readme = between_marks("bench/readme.py", pytorch_step(results["finetune_text"]), readme)
    for path, text in ((PLOT, draw(results["cpu"])), (README, readme)):
        if not check:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            sys.exit(f"{path.name} is not what bench/results says: run python3 bench/readme.py")
    for sentence in missing(readme, results["claims/results"], results["cpu"]):
        sys.exit(f"{README.name} does not say \"{sentence}\", as the results have it: write it there")


if __name__ == "__main__":
    main()
