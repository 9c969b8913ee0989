# SPDX-License-Identifier: BSD-3-Clause
"""Who takes part in the benchmarks of the CPU, a line each, for docs/reference/performance.md."""

import sys

from plot_names import peer_label
from prose import bullets, paragraph

INTRODUCTION = (
    "All apply or differentiate the same product of reflectors, Q = I − U T Uᵀ, or the same adapted layer. The first "
    "column has the names of the tables below, the second what the plots say."
)
WHAT = {
    "blas_products": "the formula as products of matrices (gemm) by OpenBLAS, in memory that is kept: W = UᵀX, Z = T W, X := X − U Z",
    "eigen_products": "the same products by Eigen",
    "eigen_sequence": "Eigen's class for Q, given (v, tau); for `accumulate` the function with which it makes T",
    "eigen_qr_sequence": "Eigen's QR factorisation, which makes (v, tau), and that class",
    "lapack_larft": "makes the triangle T from (v, tau)",
    "lapack_larfb": "applies Q, given T",
    "lapack_gemqrt": "applies Q, given T: another routine, for the form that `geqrt` leaves, all reflectors in one block (nb = r)",
    "lapack_ormqr": "applies Q, given (v, tau): it makes the triangles itself, block by block",
    "lapack_larft_larfb": "`larft`, then `larfb`",
    "reflectors": "one reflector after another, as vectorised products with a vector, on panels that stay in cache",
    "reference": "hoft's numerical reference, plain loops",
    "frozen": "y = M x, and dx for the backward pass, by hoft's product of matrices",
    "frozen_eigen": "the same by Eigen's product",
    "lora": "M + B A of rank r, on hoft's products of matrices",
    "lora_2r": "the same of rank 2r",
    "paper_step": "HOFT as its paper writes it: M̂ is formed, and its gradient",
    "shoft": "SHOFT, beside HOFT in the case of memory",
    "shoft_from_output": "SHOFT that recovers from y what it would keep",
    "calls_…": "`forward` for one adapter after another, beside one call of `forward_shared`",
    "torch_compact_wy": "eager PyTorch: T by a triangular solve, then products; gradients by autograd",
    "torch_compact_wy_solve": "the same, without T: the solve is applied to UᵀX",
    "torch_hra": "eager PyTorch, one reflector after another, as the method HRA (Householder reflection adaptation) does it",
    "torch_ormqr_forward": "PyTorch's call of `ormqr`, which has no derivative there",
}
ENDINGS = (
    "`…_out` writes to another matrix than X. A peer copies X there first.",
    "`…_on_blas` computes large products, such as M x, by OpenBLAS.",
    "`…_kept_memory` is PyTorch under a C library that gives no memory back to the system: see above.",
    "`hoft_tau` is `accumulate` given (v, tau) in place of U. `hoft_1_thread` and `hoft_pool` are hoft on one thread, and "
    "on two that a `thread_pool` keeps.",
)


def lines(names, as_markdown):
    """Of these contestants; one that nobody described ends the program."""
    base = {described(name) for name in names if not name.startswith("hoft")}
    if missing := base - set(WHAT):
        sys.exit(f"contestants.py: WHAT does not say what {', '.join(sorted(missing))} is")
    rows = [[f"`{name}`", label(name), what] for name, what in WHAT.items() if name in base]
    return "\n".join([paragraph(INTRODUCTION), as_markdown([["column", "plots say", "is"], *rows]) + "\n", bullets(ENDINGS)])


def described(name):
    """The contestant without the endings of ENDINGS."""
    for ending in ("_kept_memory", "_pypi", "_on_blas", "_out"):
        name = name.removesuffix(ending)
    return "calls_…" if name.startswith("calls_") else name


def label(name):
    plain = peer_label(name)
    return "" if plain == name.replace("_", " ") else plain
