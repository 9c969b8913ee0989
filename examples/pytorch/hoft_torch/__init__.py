# SPDX-License-Identifier: BSD-3-Clause
"""hoft in PyTorch: products of Householder reflectors, HOFT and SHOFT with gradients."""

import importlib.metadata

from . import parametrize  # noqa: F401
from .functional import hoft_linear, householder_apply, merge, paired_gaussian, shoft_linear, unmerge
from .hra import HRALinear, load_hra
from .linalg import householder_product, ormqr
from .module import HOFTLinear
from .wrap import unwrap, wrap

__all__ = [
    "HOFTLinear",
    "HRALinear",
    "export_lora",
    "hoft_linear",
    "householder_apply",
    "householder_product",
    "load_hra",
    "merge",
    "ormqr",
    "paired_gaussian",
    "shoft_linear",
    "unmerge",
    "unwrap",
    "wrap",
]


def __getattr__(name):
    if name == "export_lora":  # only now: `python -m hoft_torch.export` wants to be the first to import it
        from .export import export_lora

        return export_lora
    if name == "__version__":
        try:
            return importlib.metadata.version("hoft-torch")
        except importlib.metadata.PackageNotFoundError:  # of a checkout
            return "0+checkout"
    raise AttributeError(f"module 'hoft_torch' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
