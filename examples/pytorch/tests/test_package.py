"""The package, and how reflectors begin."""

import unittest

import torch

from common import DOUBLE, Case
import hoft_torch
from hoft_torch import householder_apply, paired_gaussian


class Start(Case):
    def test_pairs(self):
        u = paired_gaussian(5, 8, dtype=DOUBLE)
        self.assertTrue(torch.equal(u[0], u[1]) and torch.equal(u[2], u[3]) and not torch.equal(u[1], u[2]))
        self.assertTrue(torch.equal(u[4], torch.zeros(8, dtype=DOUBLE)))
        x = torch.randn(3, 8, dtype=DOUBLE)
        self.assertClose(householder_apply(x, u), x, x.norm(), 5)

    def test_is_a_leaf(self):
        for rank in (4, 5):
            u = paired_gaussian(rank, 8, requires_grad=True)
            self.assertTrue(u.is_leaf and u.requires_grad)
            self.assertFalse(paired_gaussian(rank, 8).requires_grad)
        self.assertEqual(tuple(paired_gaussian(0, 8).shape), (0, 8))
        for rank in (-1, -2):
            with self.assertRaisesRegex(ValueError, f"paired_gaussian: the rank is {rank}, must be at least 0"):
                paired_gaussian(rank, 8)

    def test_names(self):
        for name in hoft_torch.__all__:
            self.assertTrue(callable(getattr(hoft_torch, name)))


if __name__ == "__main__":
    unittest.main()
