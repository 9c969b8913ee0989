#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes docs/guide/examples.md: for each example the command, what it printed, and its plots.

  show_examples.py --run [NAME...]   runs these examples, or all of them, keeps what they print and draw in
                                     docs/guide/examples/ with a hash of their sources, and writes the page
  show_examples.py                   writes the page from what is kept
  show_examples.py --check           fails if the page is not what is kept, or a source has changed since
"""
import argparse
import dataclasses
import hashlib
import json
import pathlib
import re
import shutil
import subprocess
import sys

from prose import paragraph

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE, KEPT = ROOT / "docs/guide/examples.md", ROOT / "docs/guide/examples"
HASHES = KEPT / "sources.json"  # {example: hash of the sources that printed what is kept}
COMPILE = "mkdir -p build && g++ -std=c++20 -O3 -I include -isystem /usr/include/eigen3 examples/{name}.cpp"
INTRODUCTION = """What these examples print and draw, before you run them. Two more have pages of their own:
[orthogonality](testing-orthogonality.md) and [frameworks](frameworks.md).
Every command starts in the root of a checkout; those that call `run.sh` install what is missing.
`scripts/show_examples.py --run` runs the examples and writes this page. Times and last digits differ between machines."""
# Lines of builds and of progress, and lines that a terminal would have overwritten.
NOISE = re.compile(r"^(-- |\[\d+/\d+\]|ninja: |.* \d+/\d+, (took )?\d+ s|.*\r)|^\s*$")


@dataclasses.dataclass
class Example:
    name: str
    title: str
    about: str
    source: str
    command: str = ""
    plots: dict = dataclasses.field(default_factory=dict)  # {name of the file that is kept: where the example draws it}
    saved: str = ""  # a plot that is kept elsewhere, for an example that runs for hours

    def code(self):
        """The tracked files that the output depends on: the source that the page names or, where that is a README or a
        header, its folder; and the script that runs it."""
        source = (PAGE.parent / self.source).resolve().relative_to(ROOT)
        paths = [source if source.suffix == ".cpp" else source.parent, *re.findall(r"examples/[\w/]*run\.sh", self.command)]
        listed = subprocess.run(["git", "-C", ROOT, "ls-files", "--", *paths], capture_output=True, text=True, check=True)
        return [path for path in sorted(set(listed.stdout.splitlines())) if not path.endswith(".md")]

    def hash(self):
        found = hashlib.sha256()
        for path in self.code():
            content = (ROOT / path).read_bytes()
            found.update(f"{path} {len(content)}\n".encode() + content)
        return found.hexdigest()

    def kept_plots(self):
        return [f"examples/{name}" for name in self.plots] + ([self.saved] if self.saved else [])


def compiled(name, title, about, libraries=""):
    command = f"{COMPILE.format(name=name)} -pthread{libraries} -o build/{name}\nbuild/{name}"
    return Example(name, title, about, f"../../examples/{name}.cpp", command)


EXAMPLES = (
    compiled("quickstart", "Quickstart", "The program of README.md."),
    compiled("tutorial", "Tutorial", "The code of the [tutorial](tutorial.md), in its order: reflectors, gradients, a weight, "
             "activations, micro-batches, a training loop."),
    compiled("two_forms", "Forms of a call", "A call that returns its result, the same call into an earlier result, and into "
             "memory of the caller, as explained in [forms of every call](forms.md)."),
    Example("backend", "A backend in plain loops", "The smallest complete backend, explained in "
            "[Writing a backend](../internals/writing-a-backend.md). It needs no Eigen.", "../../examples/backend/naive.hpp",
            "mkdir -p build && g++ -std=c++20 -O2 -I include examples/backend/main.cpp -o build/example_backend\n"
            "build/example_backend"),
    Example("finetune_images", "Fine-tuning a network for images, C++", "A small network learns Fashion-MNIST upright, and is "
            "then fine-tuned to images upside down with full fine-tuning, LoRA, HOFT and SHOFT. The first plot has the "
            "accuracy while it adapts, the second the singular values of the weights before and after. This is the short "
            "form; without `--quick` it trains with five seeds.", "../../examples/finetune_images/README.md",
            "bash examples/run.sh --quick",
            {"finetune_images_curves.png": "build/finetune_images/learning_curves.png",
             "finetune_images_spectrum.png": "build/finetune_images/spectrum.png"}),
    Example("tensor_parallel", "Weights split over ranks, MPI", "Two layers are trained on 1, 2 and 4 processes. All numbers "
            "of processes follow one curve.", "../../examples/tensor_parallel/README.md",
            "bash examples/tensor_parallel/run.sh",
            {"tensor_parallel.png": "build/tensor_parallel/losses.png"}),
    Example("check_orthogonality", "How orthogonal is a matrix of yours?", "A program that reads `.npy` files and measures "
            "them in double. Here it gets the Q of a QR factorisation by NumPy (`apt install python3-numpy`).",
            "../../examples/check_orthogonality/README.md",
            "mkdir -p build && /usr/bin/python3 -c 'import numpy as np; A = np.random.default_rng(1).standard_normal((256, 256)); "
            "np.save(\"build/Q.npy\", np.linalg.qr(A)[0])'\n"
            "bash examples/check_orthogonality/run.sh build/Q.npy"),
    Example("libtorch", "C++ with libtorch", "A layer whose weight is a torch::Tensor is trained on Fashion-MNIST, with hoft "
            "on the memory of the tensors.", "../../examples/libtorch/README.md", "bash examples/libtorch/run.sh --quick"),
    Example("jax", "JAX", "The calls of hoft as operations of JAX: the tests run, then a network is trained.",
            "../../examples/jax/README.md", "bash examples/jax/run.sh --quick"),
    Example("embed", "hoft inside another project", "A CMake project that finds an installed hoft and solves an orthogonal "
            "Procrustes problem.", "../../examples/embed/README.md", "bash examples/embed/run.sh"),
    Example("finetune_text", "Fine-tuning a sentence encoder, PyTorch and PEFT", "Nine methods of fine-tuning on one task, "
            "with their time and memory. The whole comparison takes an hour or two, so its results are saved; with "
            "`--quick` it is short, under 6 minutes. The [page of the example](../../examples/finetune_text/README.md) has "
            "the table and what it shows.",
            "../../examples/finetune_text/README.md", "bash examples/finetune_text/run.sh",
            saved="../../bench/results/finetune_text.png"),
)


def kept(example):
    return KEPT / f"{example.name}.txt"


def hashes():
    return json.loads(HASHES.read_text(encoding="utf-8"))


def run(example):
    """Keeps what the example prints and draws, and what it was made of."""
    print(f"show_examples.py: {example.command}", flush=True)
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", example.command], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"show_examples.py: {example.name} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    lines = [line.rstrip().replace(str(ROOT) + "/", "") for line in done.stdout.split("\n") if not NOISE.match(line)]
    KEPT.mkdir(exist_ok=True)
    kept(example).write_text("\n".join(lines) + "\n", encoding="utf-8")
    made = {**hashes(), example.name: example.hash()}
    HASHES.write_text(json.dumps(made, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for name, drawn in example.plots.items():
        shutil.copyfile(ROOT / drawn, KEPT / name)


def section(example):
    parts = [f"## {example.title}\n", paragraph(f"{example.about} Source: [{pathlib.Path(example.source).name}]({example.source})."),
             f"```sh\n{example.command}\n```\n"]
    if not example.saved:
        if not kept(example).exists():
            sys.exit(f"show_examples.py: {kept(example).relative_to(ROOT)} is missing: show_examples.py --run {example.name}")
        parts.append(f"```text\n{kept(example).read_text(encoding='utf-8')}```\n")
    parts += [f"![{example.title}]({plot})\n" for plot in example.kept_plots()]
    return "\n".join(parts)


def page():
    return "\n".join(["# Examples\n", paragraph(INTRODUCTION), *map(section, EXAMPLES)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", nargs="*", metavar="NAME", help="run these examples, or all of them")
    parser.add_argument("--check", action="store_true", help="fail if the page is not what is kept")
    options = parser.parse_args()
    if options.check:
        if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page():
            sys.exit("show_examples.py: docs/guide/examples.md is not what docs/guide/examples/ has: run show_examples.py")
        if old := [example.name for example in EXAMPLES if not example.saved and hashes().get(example.name) != example.hash()]:
            sys.exit("show_examples.py: sources have changed since the output was kept of " + ", ".join(old)
                     + f": run show_examples.py --run {' '.join(old)}")
        return
    if options.run is not None:
        names = {example.name for example in EXAMPLES if not example.saved}
        if unknown := set(options.run) - names:
            parser.error(f"--run {' '.join(unknown)}: expected some of {', '.join(sorted(names))}")
        for example in EXAMPLES:
            if example.name in (options.run or names):
                run(example)
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
