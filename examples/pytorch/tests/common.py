# SPDX-License-Identifier: BSD-3-Clause
"""What the tests share: formulas in plain PyTorch as judges, and comparisons whose bounds are derived."""

import importlib.util
import math
import pathlib
import sys
import unittest

import torch

if importlib.util.find_spec("hoft_torch") is None:  # not installed: the checkout's own
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

DOUBLE = torch.float64
HOFT_REFUSES = (ValueError, RuntimeError)  # what a std::invalid_argument becomes depends on PyTorch's version


def compact_wy(u):
    """Q [m, m] of the rows of u, by the UT transform in plain PyTorch."""
    unit = u / u.norm(dim=1, keepdim=True)
    identity = torch.eye(len(u), dtype=u.dtype)
    inverse = torch.triu(unit @ unit.t(), 1) + identity / 2
    T = torch.linalg.solve_triangular(inverse, identity, upper=True)
    return torch.eye(u.shape[1], dtype=u.dtype) - unit.t() @ T @ unit


def adapted(weight, u, v, s=None):
    middle = weight if s is None else s[:, None] * weight
    return compact_wy(u) @ middle @ compact_wy(v)


def leaf(*shape, dtype=DOUBLE):
    return torch.randn(*shape, dtype=dtype).requires_grad_()


class Quantised(torch.nn.Module):
    """A linear layer whose weight is 8-bit integers with one scale to a row: nobody can take it for a matrix."""

    def __init__(self, linear):
        super().__init__()
        self.out_features, self.in_features = linear.weight.shape
        scale = linear.weight.detach().abs().amax(1, keepdim=True) / 127
        self.register_buffer("scale", scale)
        self.register_buffer("weight", (linear.weight.detach() / scale).round().to(torch.int8))
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())

    def dequantised(self):
        return self.weight.to(self.scale.dtype) * self.scale

    def forward(self, x):
        return torch.nn.functional.linear(x, self.dequantised().to(x.dtype), self.bias)


def randomise(layer):
    """A HOFTLinear far from its start."""
    with torch.no_grad():
        layer.u.normal_(), layer.v.normal_()
        if layer.d is not None:
            layer.d.uniform_(-0.5, 0.5)
    return layer


class Case(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(3)

    def assertClose(self, got, expected, scale, steps=1):
        """‖got − expected‖ ≤ steps · 16 √m ε · scale. Each of `steps` reflectors, products or sums on either side rounds
        to √m ε or better times a small constant, and all maps around it are isometries or in `scale`."""
        self.assertEqual(got.shape, expected.shape)
        self.assertEqual(got.dtype, expected.dtype)
        error = float((got - expected).detach().norm())
        root = math.sqrt(max(expected.shape[-1:] or [1]))
        bound = steps * 16 * root * torch.finfo(expected.dtype).eps * float(scale)
        self.assertTrue(error <= bound, f"{error} > {bound}")  # fails NaN

    def assertGradientsClose(self, got, expected, inputs, cotangent, steps):
        """Values and gradients of two functions, one an independent formula."""
        y, z = got(*inputs), expected(*inputs)
        sizes = 1.0
        for a in inputs:
            sizes = sizes * max(1.0, float(a.detach().norm()))
        self.assertClose(y, z, sizes, steps)
        first = torch.autograd.grad(y, inputs, cotangent)
        second = torch.autograd.grad(z, inputs, cotangent)
        for a, b in zip(first, second):
            self.assertClose(a, b, sizes * float(cotangent.norm()), steps)


def half_products():
    """PyTorch 1.13 has no products in half precision on the CPU."""
    try:
        torch.nn.functional.linear(torch.ones(1, 2).half(), torch.ones(1, 2).half())
        return True
    except RuntimeError:
        return False
