"""hoft in PyTorch: products of Householder reflectors, HOFT and SHOFT with gradients."""

from .functional import hoft_linear, householder_apply, merge, paired_gaussian, shoft_linear, unmerge
from .module import HOFTLinear

__all__ = [
    "HOFTLinear",
    "hoft_linear",
    "householder_apply",
    "merge",
    "paired_gaussian",
    "shoft_linear",
    "unmerge",
]
