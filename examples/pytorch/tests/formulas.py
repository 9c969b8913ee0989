# SPDX-License-Identifier: BSD-3-Clause
"""The operators beside formulas in plain PyTorch, as functions of the same arguments."""

import torch

from common import DOUBLE, adapted, compact_wy
from hoft_torch import functional, hoft_linear, householder_apply, merge, shoft_linear

M, N, RU, RV = 6, 9, 4, 2


def arguments(t=5, dtype=DOUBLE):
    """x, weight, u, v, s"""
    sizes = ((t, N), (M, N), (RU, M), (RV, N))
    return *(torch.randn(*size, dtype=dtype) for size in sizes), torch.empty(M, dtype=dtype).uniform_(0.5, 1.5)


def through_base(x, weight, u, v, s):
    """shoft_linear around a base that is called."""
    base = lambda x: torch.nn.functional.linear(x, weight)
    return functional.adapted(base(x), x, u, v, s, base(functional.directions(v).to(weight.dtype)).to(u.dtype))


def formulas():
    """Pairs: an operator of (x, weight, u, v, s), and the same in plain PyTorch."""
    return {
        "householder": (lambda x, W, u, v, s: householder_apply(x, v), lambda x, W, u, v, s: x @ compact_wy(v).t()),
        "hoft": (lambda x, W, u, v, s: hoft_linear(x, W, u, v), lambda x, W, u, v, s: x @ adapted(W, u, v).t()),
        "shoft": (shoft_linear, lambda x, W, u, v, s: x @ adapted(W, u, v, s).t()),
        "adapted": (through_base, lambda x, W, u, v, s: x @ adapted(W, u, v, s).t()),
        "merge": (lambda x, W, u, v, s: merge(W, u, v, s), lambda x, W, u, v, s: adapted(W, u, v, s)),
    }
