#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A training step of one linear layer on the CPU: hoft's HOFTLinear beside PEFT's LoRA of as many parameters, and beside
the same layer by hand in plain PyTorch (plain_wy.py).

    python3 -m venv build/venv && build/venv/bin/pip install torch peft ninja
    build/venv/bin/python bench/linear.py [--rounds N] [--amx] [--save | --check]

A step is forward, backward and a small update of what is trained, so that hoft binds its layer anew in each. The
contestants of a case take turns, in another order in each round; a number is the median of the processor times of the
only thread. With --save, writes bench/results/linear.json and its table in examples/pytorch/README.md; --amx keeps the
results of a processor with AMX apart, in linear_amx.json.
"""

import argparse
import datetime
import json
import pathlib
import random
import statistics
import sys
import time
import warnings

import ratios
import tables

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "scripts"))

from prose import written_between

RESULTS, AMX_RESULTS = ROOT / "bench/results/linear.json", ROOT / "bench/results/linear_amx.json"
PAGE = ROOT / "examples/pytorch/README.md"
CASES = [((m, n), kind) for (m, n) in ((1024, 1024), (4096, 1024)) for kind in ("float32", "bfloat16")]
COLUMNS = {
    "frozen": "frozen layer",
    "lora": "LoRA",
    "lora_16": "LoRA, adapters in bfloat16",
    "hoft": "`HOFTLinear`",
    "shoft": "`HOFTLinear(scaled=True)`",
    "plain_wy": "compact WY in plain PyTorch",
}
RATIOS = {
    "lora": "`HOFTLinear` / LoRA",
    "lora_16": "`HOFTLinear` / LoRA, adapters in bfloat16",
    "plain_wy": "`HOFTLinear` / plain PyTorch",
}


def contestants(shape, dtype, rank):
    import peft
    import torch
    from hoft_torch import HOFTLinear
    from plain_wy import PlainWY

    def linear():
        return torch.nn.Linear(*reversed(shape), bias=False).to(dtype).requires_grad_(False)

    def lora(**options):
        config = peft.LoraConfig(r=rank, target_modules=["0"], lora_dropout=0.0)
        return peft.get_peft_model(torch.nn.Sequential(linear()), config, **options)

    found = {
        "frozen": linear(),
        "lora": lora(),
        "hoft": HOFTLinear(linear(), rank),
        "shoft": HOFTLinear(linear(), rank, scaled=True),
        "plain_wy": PlainWY(linear(), rank),
    }
    if dtype == torch.bfloat16:
        found["lora_16"] = lora(autocast_adapter_dtype=False)
    return found


def step_ms(model, x, dy):
    """Milliseconds of one step. The update is too small to change anything but the versions of the parameters."""
    import torch

    trained = [p for p in model.parameters() if p.requires_grad]
    for tensor in (x, *trained):
        tensor.grad = None
    start = time.thread_time()
    model(x).backward(dy)
    with torch.no_grad():
        for p in trained:
            p.add_(p.grad, alpha=-1e-9)
    return 1e3 * (time.thread_time() - start)


def measure(shape, kind, tokens, rank, rounds):
    import torch

    dtype = getattr(torch, kind)
    models = contestants(shape, dtype, rank)
    x = torch.randn(tokens, shape[1]).to(dtype).requires_grad_()
    dy = torch.randn(tokens, shape[0]).to(dtype)
    times = {name: [] for name in models}
    for round_ in range(rounds + 1):
        for name in random.sample(list(models), len(models)):
            ms = step_ms(models[name], x, dy)
            if round_ > 0:  # the first warms up
                times[name].append(round(ms, 3))
    return {name: {"median_ms": statistics.median(ms), "ms": ms} for name, ms in times.items()}


def table(results):
    """Medians in ms, and hoft's over those of others; columns for what these results have."""
    cases = results["cases"]
    columns, ratio_columns = (
        {key: head for key, head in heads.items() if any(key in case for case in cases.values())} for heads in (COLUMNS, RATIOS)
    )
    rows = [["out × in, type", *columns.values(), *ratio_columns.values()]]
    for name, case in cases.items():
        ms = {key: contestant["median_ms"] for key, contestant in case.items()}
        cells = [f"{ms[key]:.1f}" if key in ms else "" for key in columns]
        rows.append([name, *cells, *(f"{ms['hoft'] / ms[key]:.2f}" if key in ms else "" for key in ratio_columns)])
    return tables.as_markdown(rows)


def section(results):
    machine = results["machine"]
    return (
        f"One step, {results['tokens']} tokens, r = {results['rank']}, on one thread of {machine['processor']};\n"
        f"PyTorch {machine['torch']}, PEFT {machine['peft']}; medians of {results['rounds']} rounds, ms\n"
        f"(`{results['command']}`, {results['date']}, commit `{results['commit'][:12]}`):\n\n{table(results)}\n"
    )


def page():
    """The README with the saved results between the marks."""
    paths = [RESULTS, AMX_RESULTS] if AMX_RESULTS.exists() else [RESULTS]
    saved = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    return written_between("bench/linear.py", "\n".join(map(section, saved)), PAGE)


def machine():
    import peft
    import torch

    return {**ratios.machine([{"torch": torch.__version__}]), "peft": peft.__version__}


def run(options):
    warnings.filterwarnings("ignore", module="peft")
    sys.path.insert(0, str(ROOT / "examples/pytorch"))
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(1)
    random.seed(1)
    tokens, rank = 1024, 16
    results = {
        "command": f"python bench/linear.py {' '.join(sys.argv[1:])}".strip(),
        "date": datetime.date.today().isoformat(),
        "commit": ratios.output_of("git", "-C", str(ROOT), "rev-parse", "HEAD"),
        "machine": machine(),
        "tokens": tokens,
        "rank": rank,
        "rounds": options.rounds,
        "cases": {},
    }
    for (m, n), kind in CASES:
        name = f"{m} × {n}, {kind}"
        results["cases"][name] = measure((m, n), kind, tokens, rank, options.rounds)
        print(name, {k: c["median_ms"] for k, c in results["cases"][name].items()}, flush=True)
    print("\n" + table(results))
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--save", action="store_true", help="keep the results and write the table")
    parser.add_argument("--amx", action="store_true", help="results of a processor with AMX for bfloat16")
    parser.add_argument("--check", action="store_true", help="fail if the tables are not those of the saved results")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: expected at least 1")
    if options.check:
        if page() != PAGE.read_text(encoding="utf-8"):
            sys.exit(f"linear.py: {PAGE.relative_to(ROOT)} does not show bench/results/linear*.json")
        return
    has_amx = "amx_bf16" in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    if options.amx and not has_amx:
        parser.error("--amx: this processor has no AMX for bfloat16")
    if options.save and has_amx and not options.amx:
        parser.error("--save: results of this processor, which has AMX for bfloat16, are kept apart: add --amx")
    results = run(options)
    if options.save:
        text = json.dumps(results, indent=1, ensure_ascii=False) + "\n"
        (AMX_RESULTS if options.amx else RESULTS).write_text(text, encoding="utf-8")
        PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
