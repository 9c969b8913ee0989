# SPDX-License-Identifier: BSD-3-Clause
"""hoft's products of Householder reflectors and fine-tuning transforms for JAX, on the CPU."""

from .householder import householder_apply, householder_product
from .linear import hoft_linear, paired_gaussian

__all__ = ["hoft_linear", "householder_apply", "householder_product", "paired_gaussian"]
