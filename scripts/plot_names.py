# SPDX-License-Identifier: BSD-3-Clause
"""What the plots and pages call the methods and the peers, and the colour of each, without what draws them.

The names of the benchmarks are short (`blas_products`); people know others ("OpenBLAS gemm × 3"). A colour stands for
one method or one library, in every plot.
"""

# Most of these are Okabe and Ito's colours or Tol's, which colour-blind readers can tell apart. hoft's own are the blues.
BLUE, SKY, ORANGE, VERMILLION, GREEN = "#0072B2", "#56B4E9", "#E69F00", "#D55E00", "#009E73"
PINK, BROWN, WINE, GREY, BLACK = "#CC79A7", "#8C6D1F", "#882255", "#8A8A8A", "#000000"
TEAL, PURPLE, OLIVE, SAND = "#44AA99", "#AA4499", "#999933", "#DDCC77"

OURS = ("hoft", "shoft")
METHODS = {
    "frozen": "frozen layer",
    "head": "head only",
    "full": "full fine-tuning",
    "lora": "LoRA",
    "dora": "DoRA",
    "oft": "OFT",
    "boft": "BOFT",
    "hra": "HRA",
    "hoft": "HOFT",
    "shoft": "SHOFT",
    "paper": "HOFT as in the paper",
}
METHOD_COLOURS = {
    "frozen": BLACK, "head": BLACK, "full": GREEN, "lora": ORANGE, "dora": BROWN, "oft": PINK, "boft": WINE,
    "hra": GREY, "hoft": BLUE, "shoft": SKY, "paper": SAND,
}  # fmt: skip
LIBRARY_COLOURS = {
    "blas": VERMILLION, "cublas": VERMILLION, "lapack": PURPLE, "cusolver": PURPLE, "eigen": TEAL, "torch": OLIVE,
    "reflectors": GREY, "copy": BLACK,
}  # fmt: skip

# Of the methods in bench/methods that are one of METHODS in another form.
VARIANTS = {
    "hoft_exact": "HOFT",
    "hoft_two_terms": "HOFT, two terms",
    "hoft_in_turn_exact": "HOFT, factors in turn",
    "hoft_in_turn_two_terms": "HOFT, in turn, two terms",
    "hra_dense": "HRA, Q formed",
    "oft_neumann": "OFT, Neumann series",
    "lora_r": "LoRA, rank r",
    "lora_2r": "LoRA, rank 2r",
    "dora_r": "DoRA, rank r",
    "hra_r": "HRA, r reflectors",
    "hra_2r": "HRA, 2r reflectors",
    "shoft_from_output": "SHOFT, from the output",
    "paper_compiled": "HOFT as in the paper, compiled",
    "paper_step": "HOFT as in the paper",
    "frozen_eigen": "frozen layer, Eigen",
}
PEERS = {
    "blas_products": "OpenBLAS gemm",
    "eigen_products": "Eigen product",
    "eigen_sequence": "Eigen HouseholderSequence",
    "eigen_qr_sequence": "Eigen QR + sequence",
    "lapack_ormqr": "LAPACK ormqr",
    "lapack_larfb": "LAPACK larfb",
    "lapack_larft": "LAPACK larft",
    "lapack_gemqrt": "LAPACK gemqrt",
    "lapack_larft_larfb": "LAPACK larft + larfb",
    "reflectors": "reflectors one by one",
    "torch_compact_wy": "PyTorch, compact WY",
    "torch_compact_wy_solve": "PyTorch, WY by solve",
    "torch_hra": "PyTorch, HRA",
    "torch_ormqr_forward": "torch.ormqr, forward",
    "cusolver_ormqr": "cuSOLVER ormqr",
    "torch_ormqr": "torch.ormqr",
    "torch_householder_product": "torch householder_product",
    "cublas": "cuBLAS gemm",
    "cublas_products": "cuBLAS gemm",
    "copy": "device copy",
}
PRODUCTS = {"apply": 3, "apply_rows": 3, "batch": 3, "merge": 6}  # products of a peer that has nothing but products
SUFFIXES = {"_on_blas": ", OpenBLAS", "_kept_memory": " (memory kept)", "_pypi": " of PyPI", "_out": " (out of place)"}


def method_label(method):
    return METHODS.get(method) or VARIANTS.get(method) or method.replace("_", " ")


def method_colour(method):
    """A variant has the colour of its method."""
    return METHOD_COLOURS.get(method) or METHOD_COLOURS.get(method.split("_")[0], BLACK)


def peer_label(peer, operation=""):
    """Of a contestant of the benchmarks; the number of products depends on the operation."""
    for suffix, text in SUFFIXES.items():
        if peer.endswith(suffix):
            return peer_label(peer.removesuffix(suffix), operation) + text
    if peer in PEERS:
        times = f" × {PRODUCTS[operation]}" if peer.endswith("_products") and operation in PRODUCTS else ""
        return PEERS[peer] + times
    return method_label(peer)


def peer_colour(peer):
    return LIBRARY_COLOURS.get(peer.split("_")[0]) or method_colour(peer)


def is_ours(name):
    """Whether hoft does the work: of a method or of a contestant."""
    return name.startswith(OURS)
