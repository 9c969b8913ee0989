#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""One training step of adapted linear layers, forward and backward, by hoft beside PyTorch and PEFT: time and peak
memory. Contestants are checked before they are timed, and one that differs from its formula is not timed. Writes every
sample as JSON and prints the tables.

Uses the PyTorch and PEFT of the Python that runs it; see README.md beside this file.
"""

import argparse
import dataclasses
import datetime
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import time
import typing
import warnings

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(ROOT / folder) for folder in ("bench", "examples/pytorch", "examples/pytorch/build_backend")]

import tables  # noqa: E402
import training  # noqa: E402

try:
    import torch
except ImportError:
    sys.exit("compare_torch.py: PyTorch is missing for this Python")

import formulas  # noqa: E402
import peers  # noqa: E402
import toolchain  # noqa: E402

LLAMA = [(4096, 4096), (1024, 4096), (14336, 4096), (4096, 14336)]  # out, in
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclasses.dataclass
class Setup:
    """What the contestants of one shape share."""

    weight: torch.Tensor
    x: torch.Tensor
    dy: torch.Tensor
    rank: int
    operators: typing.Any
    why_no_operators: str = ""


def make_setup(shape, tokens, rank, dtype, device, operators, why):
    m, n = shape
    kind = {"dtype": dtype, "device": device}
    weight = torch.randn(m, n, **kind) / math.sqrt(n)
    return Setup(weight, torch.randn(tokens, n, **kind), torch.randn(tokens, m, **kind), rank, operators, why)


def results_of(forward, x, parameters, dy):
    y = forward(x)
    return [y.detach(), *torch.autograd.grad(y, [x, *parameters], dy)]


def worst_difference(got, expected):
    """The largest ‖a − b‖/‖b‖; NaN if anything is NaN."""
    differences = [float((a.to(b.dtype) - b).norm() / b.norm()) for a, b in zip(got, expected)]
    return max(differences, key=lambda d: math.inf if math.isnan(d) else d)


def allowed(dtype, rank):
    """Of worst_difference, for s up to 1.5. The unit roundoff is u = eps / 2. In 16 bits, with ‖K v‖ ≤ ‖base‖ + ‖q‖ =
    2 ‖y‖, the stored base, V̂ and B = M V̂ (both through K v), q and y contribute 1 + 2 · 2 + 1 + 1 times u, times 1.5
    for s; the paper's products on rounded vectors have as many roundings. Gradients sum products of such errors, which
    are independent of their factors, and have two stored factors each: twice that, 21 u. In float and double the r
    reflectors one after another of the judge round 2 r times, and dot products of length n by about √n u each, below
    128 here: (2 r + 2) 128 u."""
    eps = torch.finfo(dtype).eps
    return 10.5 * eps if dtype == torch.bfloat16 else (2 * rank + 2) * 64 * eps


class Differs(Exception):
    """A contestant's results are not those of its formula."""


def require_close(name, got, expected, dtype, rank):
    difference, bound = worst_difference(got, expected), allowed(dtype, rank)
    if not difference <= bound:
        raise Differs(f"{name} differs from its formula by {difference:.3g}, more than {bound:.3g}")
    return difference


def reason_of(error):
    text = (str(error).strip().splitlines() or [""])[0]
    return text if isinstance(error, (peers.CannotRun, Differs)) else f"{type(error).__name__}: {text}"


def check(name, contestant, setup, judge_type):
    """The difference from the formula in plain PyTorch, or None for what PEFT itself defines."""
    if contestant.formula is None:
        return None
    wide = lambda a: a.detach().to(judge_type)
    x = wide(contestant.x).requires_grad_()
    parameters = [wide(p).requires_grad_() for p in contestant.parameters]
    weight = wide(setup.weight)
    expected = results_of(lambda x: contestant.formula(x, weight, parameters), x, parameters, wide(setup.dy))
    got = results_of(contestant.forward, contestant.x, contestant.parameters, setup.dy)
    return require_close(name, got, expected, setup.weight.dtype, setup.rank)


class CudaClock:
    def __init__(self):
        self.begin, self.end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def milliseconds(self, run):
        self.begin.record()
        run()
        self.end.record()
        self.end.synchronize()
        return self.begin.elapsed_time(self.end)

    @staticmethod
    def peak_bytes(run):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before


class WallClock:
    def milliseconds(self, run):
        start = time.perf_counter()
        run()
        return 1e3 * (time.perf_counter() - start)

    @staticmethod
    def peak_bytes(run):
        return None  # PyTorch counts no memory on the CPU


def time_all(runs, clock, repetitions, deadline):
    """{name: [ms]} of {name: (run, calls)}: all in turn, again and again; fewer rounds than asked for when time ends."""
    samples = {name: [] for name in runs}
    for _ in range(repetitions):
        if time.monotonic() > deadline:
            break
        for name, (run, calls) in runs.items():
            samples[name].append(clock.milliseconds(lambda: [run() for _ in range(calls)]) / calls)
    return samples


def calls_for(run, clock, wanted_ms):
    """Calls in a row, so that the host's time for submitting the first does not show; a first call warms up."""
    clock.milliseconds(run)
    return max(1, min(10, math.ceil(wanted_ms / max(clock.milliseconds(run), 1e-3))))


def run_shape(setup, clock, options, deadline):
    case, ready = {}, {}
    for name, (_, make) in peers.CONTESTANTS.items():
        if options.only and name not in options.only:
            continue
        try:
            if time.monotonic() > deadline:
                raise peers.CannotRun("no time was left")
            contestant = make(setup)
            difference = check(name, contestant, setup, torch.float32)
            step = lambda c=contestant: (c.clear(), c.step(setup.dy))
            calls = calls_for(step, clock, options.sample_ms)
            contestant.clear()
            peak = clock.peak_bytes(step)
            contestant.clear()
        except Exception as error:  # told in the table; the others go on
            case[name] = {"cannot_run": reason_of(error)}
            continue
        ready[name] = (step, calls)
        case[name] = {
            "parameters": contestant.count(),
            "adapters": contestant.adapters,
            "difference": difference,
            "peak_bytes": peak,
            "calls": calls,
        }
    samples = time_all(ready, clock, options.repetitions, deadline)
    for name, times in samples.items():
        case[name]["ms"] = times
        if times:
            case[name]["median_ms"] = statistics.median(times)
        else:
            case[name] = {"cannot_run": "no time was left"}
    return case


def run_merge(options, dtype, device, operators, clock, deadline):
    """Merge of one weight beside a copy of it: eight weights in turn, more than a second-level cache holds."""
    m, n = options.shapes[0]
    weights = [torch.randn(m, n, dtype=dtype, device=device) for _ in range(8)]
    wide = torch.promote_types(dtype, torch.float32)
    u, v = (torch.randn(options.rank, size, dtype=wide, device=device) for size in (m, n))
    s = torch.empty(0, dtype=wide, device=device)
    results = []

    def merge():
        results[:] = [operators.merged(weight, u, v, s) for weight in weights]

    def copy():
        results[:] = [weight.clone() for weight in weights]

    merge()
    identity = torch.eye(n, dtype=torch.float32, device=device)
    expected = formulas.by_reflectors(identity, weights[0].float(), u.float(), v.float(), s.float()).t()
    difference = require_close("merge", results[:1], [expected], dtype, options.rank)
    runs = {
        "copy": (copy, calls_for(copy, clock, options.sample_ms)),
        "hoft": (merge, calls_for(merge, clock, options.sample_ms)),
    }
    samples = time_all(runs, clock, options.repetitions, deadline)
    size = weights[0].numel() * weights[0].element_size()
    return {
        "shape": f"{m}x{n}",
        "bytes": 2 * size,
        "difference": difference,
        **{
            name: {"ms": [t / 8 for t in times], "median_ms": statistics.median(times) / 8}
            for name, times in samples.items()
            if times
        },
    }


def check_small(dtype, device, operators, why):
    """What differs where a wrong formula shows: ranks near the sizes, and no roundings to 16 bits."""
    failed = []
    with torch.random.fork_rng():
        torch.manual_seed(2)
        for shape in ((40, 56), (96, 32)):
            setup = make_setup(shape, 24, 8, dtype, device, operators, why)
            for name in ("hoft", "shoft", "shoft_from_output", "paper"):
                try:
                    check(name, peers.CONTESTANTS[name][1](setup), setup, torch.float64)
                except peers.CannotRun:
                    pass
                except Exception as error:
                    failed.append(f"{name}, {dtype}, {shape[0]}x{shape[1]}: {reason_of(error)}")
    return failed


def git(*arguments):
    try:
        answer = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)
    except OSError:  # no git
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def machine(device):
    found = {
        "torch": torch.__version__,
        "peft": peers.peft.__version__ if peers.peft else None,
        "python": sys.version.split()[0],
        "toolkit": torch.version.cuda,
    }
    if device == "cuda":
        found["device"] = torch.cuda.get_device_name()
        found["capability"] = ".".join(map(str, torch.cuda.get_device_capability()))
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        try:
            found["driver"] = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]
        except (OSError, subprocess.CalledProcessError, IndexError):
            found["driver"] = None
    else:
        found["device"], found["driver"] = "CPU: a dry run, its times mean nothing", None
    return found


def shape_of(text):
    try:
        m, n = map(int, text.split("x"))
        if m > 0 and n > 0:
            return m, n
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"'{text}' is no shape: expected OUTxIN, for example 4096x1024")


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a dry run with tiny shapes")
    parser.add_argument("--out", type=pathlib.Path, help="the JSON to write")
    parser.add_argument("--dtype", choices=TYPES, default="bfloat16")
    parser.add_argument("--shapes", type=shape_of, nargs="+", help="OUTxIN of the frozen weights")
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--rank", type=int)
    parser.add_argument("--repetitions", type=int)
    parser.add_argument("--only", nargs="+", choices=peers.CONTESTANTS, help="these contestants alone")
    parser.add_argument("--limit", type=float, default=480, help="seconds after which no further round is begun")
    parser.add_argument("--build-only", action="store_true", help="build the extension and stop")
    options = parser.parse_args(arguments)
    tiny = options.device == "cpu"
    options.shapes = options.shapes or ([(64, 64), (32, 96)] if tiny else LLAMA)
    options.tokens = options.tokens or (48 if tiny else 8192)
    options.rank = options.rank or (4 if tiny else 16)
    options.repetitions = options.repetitions or (3 if tiny else 25)
    options.sample_ms = 0 if tiny else 10
    if min(options.tokens, options.rank, options.repetitions) < 1:
        parser.error("tokens, rank and repetitions must be positive")
    return options


def write(path, results):
    """All or nothing; after each shape, so that a run that is stopped leaves what it had."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(part, path)


def main(arguments=None):
    options = parse(arguments)
    if options.device == "cpu":
        os.environ.setdefault("HOFT_TORCH_CXXFLAGS", "-O1")  # the times of the dry run mean nothing
    if options.build_only:
        toolchain.build_once(options.device == "cuda", verbose=True)
        return
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("compare_torch.py: PyTorch finds no GPU; --device cpu makes a dry run")
    if options.out and not options.out.parent.is_dir():
        sys.exit(f"compare_torch.py: there is no folder {options.out.parent} to write {options.out.name} to")
    deadline = time.monotonic() + options.limit
    warnings.filterwarnings("ignore", module="peft")
    torch.manual_seed(1)
    torch.backends.cuda.matmul.allow_tf32 = False
    operators, why = None, ""
    if not options.only or any("hoft" in name for name in options.only):
        try:
            import hoft_torch  # noqa: F401, compiles the extension where that was not done

            operators = torch.ops.hoft
        except (RuntimeError, OSError, ImportError) as error:
            why = "the extension does not build"
            print(f"compare_torch.py: {why}: {error}", file=sys.stderr)
    dtype, clock = TYPES[options.dtype], CudaClock() if options.device == "cuda" else WallClock()
    failed = check_small(torch.float32, options.device, operators, why)
    if options.device == "cpu":
        failed += check_small(torch.float64, options.device, operators, why)
    changes = git("status", "--porcelain", "--", "include", "bench", "examples/pytorch")
    results = {
        "command": "python3 bench/gpu/compare_torch/compare_torch.py "
        + " ".join(sys.argv[1:] if arguments is None else arguments),
        "commit": git("rev-parse", "HEAD"),
        "uncommitted_changes": None if changes is None else bool(changes),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "dry_run": options.device == "cpu",
        "machine": machine(options.device),
        "dtype": options.dtype,
        "tokens": options.tokens,
        "rank": options.rank,
        "contestants": {name: what for name, (what, _) in peers.CONTESTANTS.items()},
        "failed_checks": failed,
        "cases": {},
        "merge": None,
    }
    left = lambda parts: time.monotonic() + max(0.0, deadline - time.monotonic()) / parts
    if operators is not None and not options.only:
        try:
            results["merge"] = run_merge(options, dtype, options.device, operators, clock, left(4))
        except Exception as error:
            results["merge"] = {"cannot_run": reason_of(error)}
            failed.append(f"merge: {reason_of(error)}")
    for number, shape in enumerate(options.shapes):
        setup = make_setup(shape, options.tokens, options.rank, dtype, options.device, operators, why)
        name = "x".join(map(str, shape))
        results["cases"][name] = run_shape(setup, clock, options, left(len(options.shapes) - number))
        print("\n" + tables.as_text(training.case_table(name, results["cases"][name])), flush=True)
        print("\n".join(training.reasons(results["cases"][name])))
        if options.device == "cuda":
            torch.cuda.empty_cache()
        if options.out:
            write(options.out, results)
    print("\n" + tables.as_text(training.target_table(results)))
    for name, case in results["cases"].items():
        failed += [
            f"{name}: {line}" for line in training.reasons(case) if "hoft" in line.split()[0] or "differs" in line
        ]
    if failed:
        sys.exit("compare_torch.py: these should have run, and agreed:\n" + "\n".join(failed))


if __name__ == "__main__":
    main()
