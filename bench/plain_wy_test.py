#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The layer by hand that bench/linear.py times, judged by reflectors that are applied one after another."""

import unittest

import torch
from plain_wy import PlainWY, turn

M, N, RANK, TOKENS = 7, 11, 4, 5


def one_by_one(u):
    """Q = H(u_1) ⋯ H(u_r)."""
    Q = torch.eye(u.shape[1], dtype=u.dtype)
    for row in u:
        Q = Q @ (torch.eye(len(row), dtype=u.dtype) - 2 * torch.outer(row, row) / (row @ row))
    return Q


class Plain(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(3)
        base = torch.nn.Linear(N, M, bias=False).requires_grad_(False)
        self.layer, self.x = PlainWY(base, RANK).double(), torch.randn(TOKENS, N).double().requires_grad_()

    def close(self, got, expected, scale):
        """‖got − expected‖ ≤ steps · 16 √N ε · scale: each reflector and product on either side rounds to √N ε times a
        small constant or better, and reflectors are isometries."""
        self.assertEqual(got.shape, expected.shape)
        steps, epsilon = 2 * RANK + 1, torch.finfo(expected.dtype).eps
        error, bound = float((got - expected).detach().norm()), steps * 16 * N**0.5 * epsilon * float(scale)
        self.assertTrue(error <= bound, f"{error} > {bound}")  # fails NaN

    def test_turns(self):
        u = torch.randn(RANK, N).double()
        self.close(turn(self.x, u), self.x @ one_by_one(u).t(), self.x.detach().norm())

    def test_layer_and_its_gradients(self):
        with torch.no_grad():
            self.layer.u.normal_(), self.layer.v.normal_()
        u, v, inputs = self.layer.u, self.layer.v, (self.x, self.layer.u, self.layer.v)
        y, expected = self.layer(self.x), self.x @ (one_by_one(u) @ self.layer.base.weight @ one_by_one(v)).t()
        sizes = [a.detach().norm() for a in (self.x, self.layer.base.weight)]
        self.close(y, expected, sizes[0] * sizes[1])
        dy = torch.randn_like(y)
        for got, wanted in zip(torch.autograd.grad(y, inputs, dy), torch.autograd.grad(expected, inputs, dy)):
            self.close(got, wanted, dy.norm() * max(1, sizes[0]) * sizes[1])  # rows of u and v are longer than 1

    def test_starts_as_its_base(self):
        self.close(self.layer(self.x), self.layer.base(self.x), self.x.detach().norm() * self.layer.base.weight.norm())


if __name__ == "__main__":
    unittest.main()
