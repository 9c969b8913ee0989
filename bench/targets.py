# SPDX-License-Identifier: BSD-3-Clause
"""What the library sets out to reach on one core, and how each number comes out of the measured cases."""

import dataclasses
import typing

from series import fraction_of_peak

LARGE = "4096/4096/16"
GEMMS = ("blas_products", "eigen_products")
STEP_THREADS = "step_2_threads/float/1024/1024/16"
STEP, MEMORY, TRAINING = "step/float/1024/1024/16", "memory/float/1024/1024/16", f"training/float/{LARGE}"
APPLY = f"apply/float/{LARGE}"


def peak(case):
    """hoft's share of the FMA peak measured in the same case, %"""
    return lambda cases: 100 * fraction_of_peak(cases[case])


def ratio(case, *peers, hoft="hoft"):
    """time of the fastest of these peers / time of hoft"""
    return lambda cases: min(cases[case][p]["median_ms"] for p in peers) / cases[case][hoft]["median_ms"]


def over(case, contestant, base):
    """time of hoft / time of what it stands over"""
    return lambda cases: cases[case][contestant]["median_ms"] / cases[case][base]["median_ms"]


def share(case, part, whole):
    return lambda cases: 100 * over(case, part, whole)(cases)


def memory_of(contestant, kind):
    """Bytes of that kind in the memory case, MiB"""
    return lambda cases: cases[MEMORY][contestant][kind] / 2**20


def lora_memory(buffers):
    """What LoRA of rank 2 r asks for, and that many m × t buffers: m = 1024, t = 2048, float."""
    return lambda cases: memory_of("lora_2r", "pass_bytes")(cases) + buffers * 1024 * 2048 * 4 / 2**20


@dataclasses.dataclass
class Target:
    id: str
    what: str
    measure: typing.Callable
    unit: str  # "%" of something, "×" a ratio, "MiB"
    must: typing.Union[float, typing.Callable, None] = None  # None: only reported
    reach: typing.Union[float, typing.Callable, None] = None
    at_most: bool = False  # less is better


TARGETS = [
    Target("apply_peak", "apply 4096² × 16, of FMA peak", peak(APPLY), "%", 75, 85),
    Target(
        "apply_cached",
        "apply 4096 × 256 × 16, in the last-level cache, of FMA peak: as if memory were no limit",
        peak("apply/float/4096/256/16"),
        "%",
    ),
    Target(
        "apply_blas",
        "apply 4096² × 16, in place, against OpenBLAS's three gemms",
        ratio(APPLY, "blas_products"),
        "×",
        1.5,
        1.8,
    ),
    Target(
        "apply_blas_out",
        "apply 4096² × 16, out of place, against a copy and OpenBLAS's three gemms",
        ratio(APPLY, "blas_products_out", hoft="hoft_out"),
        "×",
        1.8,
        2.2,
    ),
    Target("apply_larfb", "apply 4096² × 16 against larfb", ratio(APPLY, "lapack_larfb"), "×", 2, 2.5),
    Target("apply_ormqr", "apply 4096² × 16 against ormqr", ratio(APPLY, "lapack_ormqr"), "×", 8, 10),
    Target("apply_gemqrt", "apply 4096² × 16 against gemqrt, nb = r", ratio(APPLY, "lapack_gemqrt"), "×"),
    Target(
        "apply_eigen", "apply 4096² × 16 against Eigen's HouseholderSequence", ratio(APPLY, "eigen_sequence"), "×", 7, 9
    ),
    Target(
        "apply_eigen_products", "apply 4096² × 16 against Eigen's three products", ratio(APPLY, "eigen_products"), "×"
    ),
    Target(
        "apply_reflectors",
        "apply 4096² × 16 against reflectors one by one, vectorised, panels in cache",
        ratio(APPLY, "reflectors"),
        "×",
    ),
    Target(
        "threads",
        "apply 4096² × 16 on two threads, against one thread, wall time",
        ratio(f"apply_2_threads/float/{LARGE}", "hoft_1_thread"),
        "×",
        1.9,
        1.96,
    ),
    Target(
        "threads_copy",
        "a copy of 64 MiB on two threads, against one thread, wall time: what the memory of this machine gains",
        over(f"apply_2_threads/float/{LARGE}", "copy_1_thread", "copy_2_threads"),
        "×",
    ),
    Target(
        "threads_peak",
        "multiply-adds on registers on two threads, against one thread, wall time: what its cores gain",
        over(f"apply_2_threads/float/{LARGE}", "peak_1_thread", "peak_2_threads"),
        "×",
    ),
    Target("apply_1024", "apply 1024² × 16, of FMA peak", peak("apply/float/1024/1024/16"), "%", 78, 88),
    Target("apply_tall", "apply 4096 × 512 × 32, of FMA peak", peak("apply/float/4096/512/32"), "%", 78, 88),
    Target("apply_64_peak", "apply 4096² × 64, of FMA peak", peak("apply/float/4096/4096/64"), "%", 80, 88),
    Target(
        "apply_64_blas",
        "apply 4096² × 64 against OpenBLAS's three gemms",
        ratio("apply/float/4096/4096/64", "blas_products"),
        "×",
        1.05,
        1.2,
    ),
    Target(
        "apply_256_blas",
        "apply 4096² × 256 against OpenBLAS's three gemms",
        ratio("apply/float/4096/4096/256", "blas_products"),
        "×",
        0.95,
        1.1,
    ),
    Target("double_peak", "double: apply 4096² × 16, of FMA peak", peak(f"apply/double/{LARGE}"), "%", 72, 82),
    Target(
        "double_gemms",
        "double: apply 4096² × 16 against the faster three gemms, OpenBLAS's or Eigen's",
        ratio(f"apply/double/{LARGE}", *GEMMS),
        "×",
        1.5,
        1.7,
    ),
    Target("rows_peak", "row-major: apply 4096² × 16, of FMA peak", peak(f"apply_rows/float/{LARGE}"), "%", 76, 80),
    Target(
        "rows_gemms",
        "row-major: apply 4096² × 16 against the faster three gemms, OpenBLAS's or Eigen's",
        ratio(f"apply_rows/float/{LARGE}", *GEMMS),
        "×",
        1.3,
        1.6,
    ),
    Target(
        "backward_peak", "apply_backward 4096² × 16, of FMA peak", peak(f"apply_backward/float/{LARGE}"), "%", 80, 85
    ),
    Target(
        "backward_cached",
        "apply_backward 4096 × 256 × 16, in the last-level cache, of FMA peak: as if memory were no limit",
        peak("apply_backward/float/4096/256/16"),
        "%",
    ),
    Target(
        "backward_gemms",
        "apply_backward 4096² × 16 against the faster gemms for the same formulas",
        ratio(f"apply_backward/float/{LARGE}", *GEMMS),
        "×",
        2.2,
        2.4,
    ),
    Target(
        "backward_rows_peak",
        "row-major: apply_backward 4096² × 16, of FMA peak",
        peak(f"apply_backward_rows/float/{LARGE}"),
        "%",
        65,
        75,
    ),
    Target(
        "backward_threads",
        "apply_backward 4096² × 16 on two threads, against one thread, wall time",
        ratio(f"apply_backward_2_threads/float/{LARGE}", "hoft_1_thread"),
        "×",
        1.9,
        1.96,
    ),
    Target(
        "backward_1024",
        "apply_backward 1024² × 16, of FMA peak",
        peak("apply_backward/float/1024/1024/16"),
        "%",
        82,
        86,
    ),
    Target(
        "double_backward_1024",
        "double: apply_backward 1024² × 16, of FMA peak",
        peak("apply_backward/double/1024/1024/16"),
        "%",
        78,
        82,
    ),
    Target(
        "merge",
        "merge 4096² × 16, both sides, against the fastest of gemms (OpenBLAS, Eigen) and larfb",
        ratio(f"merge/float/{LARGE}", *GEMMS, "lapack_larfb"),
        "×",
        2.2,
        2.4,
    ),
    Target(
        "refilled_backward",
        "apply_backward 4096² × 16 into a result that is refilled, over views and a workspace",
        over(f"apply_backward_forms/float/{LARGE}", "hoft_refilled", "hoft"),
        "×",
        1.03,
        1.01,
        at_most=True,
    ),
    Target(
        "value_backward",
        "the same with a result that is returned",
        over(f"apply_backward_forms/float/{LARGE}", "hoft_value", "hoft"),
        "×",
    ),
    Target(
        "refilled_merge",
        "merge 4096² × 16 into a result that is refilled, over views and a workspace",
        over(f"merge_forms/float/{LARGE}", "hoft_refilled", "hoft"),
        "×",
        1.03,
        1.01,
        at_most=True,
    ),
    Target(
        "value_merge",
        "the same with a result that is returned",
        over(f"merge_forms/float/{LARGE}", "hoft_value", "hoft"),
        "×",
    ),
    *(
        Target(
            f"{storage}_{operation}",
            f"{what}: time on floats over time on {storage}",
            ratio(f"{operation}_storage/float/{shape}", "hoft", hoft=f"hoft_{storage}"),
            "×",
            1,
            1.6,
        )
        for storage in ("bfloat16", "half")
        for operation, what, shape in (
            ("apply", "apply 4096² × 16, in place", LARGE),
            ("apply_backward", "apply_backward 4096² × 16", LARGE),
            ("merge", "merge 4096² × 16, both sides", LARGE),
            ("step", "forward + backward, 1024² × 16, 2048 tokens, the weight in that type too", "1024/1024/16"),
        )
    ),
    Target(
        "torch",
        "accumulate, apply and gradients 4096² × 16 against eager PyTorch's compact WY form",
        ratio(TRAINING, "torch_compact_wy", "torch_compact_wy_solve"),
        "×",
        2.2,
        3,
    ),
    Target(
        "torch_kept",
        "accumulate, apply and gradients 4096² × 16 against the same in PyTorch with kept memory",
        ratio(TRAINING, "torch_compact_wy_kept_memory", "torch_compact_wy_solve_kept_memory"),
        "×",
        2.2,
        3,
    ),
    Target(
        "torch_pypi",
        "accumulate, apply and gradients 4096² × 16 against the compact WY form in eager PyTorch of PyPI",
        ratio(TRAINING, "torch_compact_wy_pypi", "torch_compact_wy_solve_pypi"),
        "×",
        2.2,
        3,
    ),
    Target(
        "torch_pypi_kept",
        "accumulate, apply and gradients 4096² × 16 against the same in PyTorch of PyPI with kept memory",
        ratio(TRAINING, "torch_compact_wy_pypi_kept_memory", "torch_compact_wy_solve_pypi_kept_memory"),
        "×",
        2.2,
        3,
    ),
    Target(
        "torch_hra",
        "accumulate, apply and gradients 4096² × 16 against eager PyTorch, one reflector after another (HRA)",
        ratio(TRAINING, "torch_hra"),
        "×",
    ),
    Target(
        "torch_hra_kept",
        "accumulate, apply and gradients 4096² × 16 against the same in PyTorch with kept memory (HRA)",
        ratio(TRAINING, "torch_hra_kept_memory"),
        "×",
    ),
    Target(
        "torch_ormqr",
        "apply 4096² × 16, out of place, against the faster torch.ormqr (memory kept or not), which has no derivative",
        ratio(TRAINING, "torch_ormqr_forward", "torch_ormqr_forward_kept_memory", hoft="hoft_apply"),
        "×",
    ),
    Target(
        "training_gemms",
        "accumulate, apply and gradients 4096² × 16 against the faster gemms for the same formulas",
        ratio(TRAINING, *GEMMS),
        "×",
    ),
    *(
        Target(
            f"accumulate_{peer}_{scalar}_{m}",
            f"{'double: ' if scalar == 'double' else ''}accumulate {m} × {r}, tau given, against {name}",
            ratio(f"accumulate/{scalar}/{m}/{m}/{r}", contestant, hoft="hoft_tau"),
            "×",
            1,
            1.5,
        )
        for scalar in ("float", "double")
        for m, r in ((768, 8), (1024, 16))
        for peer, contestant, name in (
            ("larft", "lapack_larft", "larft"),
            ("eigen", "eigen_sequence", "Eigen's HouseholderSequence"),
        )
    ),
    Target(
        "inverse",
        "the exact triangular inverse, of one apply 4096² × 16",
        share(f"inverse/float/{LARGE}", "exact_inverse", "apply"),
        "%",
        0.5,
        at_most=True,
    ),
    Target(
        "accumulate",
        "all of accumulate, of one apply 4096² × 16",
        share(f"inverse/float/{LARGE}", "accumulate", "apply"),
        "%",
    ),
    Target(
        "neumann",
        "all of accumulate with two terms of the series instead, of one apply 4096² × 16",
        share(f"inverse/float/{LARGE}", "accumulate_neumann_2", "apply"),
        "%",
    ),
    Target(
        "step_frozen",
        "forward + backward, 1024² × 16, 2048 tokens, over the frozen layer (by flops 1.09)",
        over(STEP, "hoft", "frozen"),
        "×",
        1.11,
        1.09,
        at_most=True,
    ),
    Target(
        "step_frozen_blas",
        "the same over the frozen layer, both with OpenBLAS's gemms",
        over(STEP, "hoft_on_blas", "frozen_on_blas"),
        "×",
        1.11,
        1.09,
        at_most=True,
    ),
    Target(
        "step_on_blas",
        "forward + backward, 1024² × 16, 2048 tokens: with hoft's own base product against the same with OpenBLAS's",
        ratio(STEP, "hoft_on_blas"),
        "×",
        1,
        1.05,
    ),
    Target(
        "step_lora",
        "forward + backward, 1024² × 16, 2048 tokens, over LoRA of rank 16 (by flops 1.04)",
        over(STEP, "hoft", "lora"),
        "×",
        1.04,
        1.02,
        at_most=True,
    ),
    Target(
        "step_lora_blas",
        "the same over LoRA, both with OpenBLAS's gemms",
        over(STEP, "hoft_on_blas", "lora_on_blas"),
        "×",
        1.04,
        1.02,
        at_most=True,
    ),
    Target(
        "step_micro",
        "the same in 4 × 512 tokens over 1 × 2048",
        over(STEP, "hoft_micro_4", "hoft"),
        "×",
    ),
    Target(
        "step_once",
        "accumulate, bind and finish, once in a step, of forward + backward on 2048 tokens",
        share(STEP, "hoft_once", "hoft"),
        "%",
    ),
    Target(
        "step_whole",
        "all of a step with 2048 tokens over the frozen layer",
        over(STEP, "hoft_step", "frozen"),
        "×",
    ),
    *(
        Target(
            f"backward_layer_{r}_blas",
            f"backward on activations 4096² × {r}, 512 tokens: with hoft's own base product against the same with "
            "OpenBLAS's",
            ratio(f"backward/float/4096/4096/{r}", "hoft_on_blas"),
            "×",
            1,
            1.05,
        )
        for r in (16, 64)
    ),
    Target(
        "backward_layer_peak",
        "backward on activations 4096² × 16, 512 tokens, of FMA peak",
        peak(f"backward/float/{LARGE}"),
        "%",
        76,
        82,
    ),
    Target(
        "step_threads_frozen",
        "forward + backward, 1024² × 16, 2048 tokens, over the frozen layer, both on two threads, wall time",
        over(STEP_THREADS, "hoft", "frozen"),
        "×",
        1.11,
        1.09,
        at_most=True,
    ),
    Target(
        "step_threads_lora",
        "the same over LoRA of rank 16",
        over(STEP_THREADS, "hoft", "lora"),
        "×",
        1.04,
        1.02,
        at_most=True,
    ),
    Target(
        "step_threads",
        "the same on two threads, against one thread",
        ratio(STEP_THREADS, "hoft_1_thread"),
        "×",
    ),
    Target(
        "decode_1",
        "forward on one token, 4096² × 16, over the frozen layer",
        over("decode_1/float/4096/4096/16", "hoft", "frozen"),
        "×",
        1.05,
        1.02,
        at_most=True,
    ),
    Target(
        "decode_1_lora",
        "the same over LoRA of rank 16",
        over("decode_1/float/4096/4096/16", "hoft", "lora"),
        "×",
    ),
    Target(
        "decode_1_blas",
        "the same against the frozen layer alone with OpenBLAS's gemv",
        ratio("decode_1/float/4096/4096/16", "frozen_on_blas"),
        "×",
    ),
    Target(
        "decode_4",
        "forward on 4 tokens, 4096² × 16, over the frozen layer",
        over("decode_4/float/4096/4096/16", "hoft", "frozen"),
        "×",
    ),
    Target(
        "decode_4_lora",
        "the same over LoRA of rank 16",
        over("decode_4/float/4096/4096/16", "hoft", "lora"),
        "×",
    ),
    Target(
        "decode_32",
        "forward on 32 tokens, 4096² × 16, over the frozen layer",
        over("decode_32/float/4096/4096/16", "hoft", "frozen"),
        "×",
    ),
    Target(
        "decode_32_lora",
        "the same over LoRA of rank 16",
        over("decode_32/float/4096/4096/16", "hoft", "lora"),
        "×",
    ),
    *(
        Target(
            f"shared_{count}",
            f"forward_shared, {count} adapters, 256 tokens, 2048² × 16, over the frozen layer",
            over("shared/float/2048/2048/16", "hoft" if count == 1 else f"hoft_shared_{count}", "frozen"),
            "×",
        )
        for count in (1, 8, 64)
    ),
    Target(
        "memory_hoft",
        "extra memory of HOFT, forward + backward; reach for: LoRA of rank 2r",
        memory_of("hoft", "pass_bytes"),
        "MiB",
        0.6,
        lora_memory(0),
        at_most=True,
    ),
    Target(
        "memory_shoft",
        "extra memory of SHOFT; must: LoRA of rank 2r and one m × t buffer",
        memory_of("shoft", "pass_bytes"),
        "MiB",
        lora_memory(1),
        at_most=True,
    ),
    Target(
        "memory_shoft_from_output",
        "extra memory of SHOFT, backward from the output; must: LoRA of rank 2r",
        memory_of("shoft_from_output", "pass_bytes"),
        "MiB",
        lora_memory(0),
        at_most=True,
    ),
    Target(
        "memory_standing",
        "extra memory besides, for compact WY forms, bound layers and sums of gradients, O((m + n) r)",
        memory_of("hoft", "standing_bytes"),
        "MiB",
    ),
    Target(
        "batch",
        "256 × (64², r = 8): accumulate and apply, against Eigen's HouseholderSequence given its form",
        ratio("batch/float/64/64/8", "eigen_sequence"),
        "×",
    ),
    Target(
        "batch_threads",
        "the same with two threads over the problems, wall time",
        ratio("batch_2_threads/float/64/64/8", "eigen_sequence"),
        "×",
        3,
    ),
    Target(
        "batch_apply",
        "256 × (64², r = 8): apply alone, against Eigen's HouseholderSequence given its form",
        ratio("batch/float/64/64/8", "eigen_sequence", hoft="hoft_apply"),
        "×",
    ),
    Target(
        "batch_gemms",
        "256 × (64², r = 8): accumulate and apply, against OpenBLAS's gemms given the form",
        ratio("batch/float/64/64/8", "blas_products"),
        "×",
        1,
        1.3,
    ),
    Target(
        "batch_apply_gemms",
        "256 × (64², r = 8): apply alone, against OpenBLAS's gemms given the form",
        ratio("batch/float/64/64/8", "blas_products", hoft="hoft_apply"),
        "×",
        1.3,
        1.6,
    ),
    Target(
        "batch_qr",
        "256 × (64², r = 8): accumulate and apply, against Eigen's householderQr and its sequence",
        ratio("batch/float/64/64/8", "eigen_qr_sequence"),
        "×",
    ),
]


def evaluate(cases, targets=None):
    """The rows of the table whose cases were measured."""
    rows = []
    for target in TARGETS if targets is None else targets:
        try:
            value = target.measure(cases)
            must, reach = (bound(cases) if callable(bound) else bound for bound in (target.must, target.reach))
        except KeyError:
            continue
        holds = (lambda bound: value <= bound) if target.at_most else (lambda bound: value >= bound)
        verdict = (
            "reported"
            if must is None
            else "falls short" if not holds(must) else "met" if reach is None or not holds(reach) else "reached"
        )
        rows.append(
            {
                "id": target.id,
                "what": target.what,
                "unit": target.unit,
                "value": value,
                "must": must,
                "reach": reach,
                "at_most": target.at_most,
                "verdict": verdict,
            }
        )
    return rows
