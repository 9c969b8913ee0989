# SPDX-License-Identifier: BSD-3-Clause
"""Orthogonal weights, beside torch.nn.utils.parametrizations.orthogonal."""

import copy
import io
import unittest

import torch
import torch.nn.utils.parametrizations
from common import DOUBLE, Case
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

from hoft_torch.parametrize import Orthogonal, orthogonal

SHAPES = ((5, 5), (7, 4), (4, 7), (2, 3, 6, 4), (3, 4, 6), (1, 1), (5, 1))


class Weight(torch.nn.Module):
    """Some weight of any shape and type."""

    def __init__(self, *shape, dtype=DOUBLE):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(*shape, dtype=dtype))

    def forward(self, x):
        return x @ self.weight.mT


def some_orthogonal(*shape, dtype=DOUBLE):
    """By PyTorch's own QR decomposition."""
    wide = shape[-2] < shape[-1]
    tall = (*shape[:-2], shape[-1], shape[-2]) if wide else shape
    Q, _ = torch.linalg.qr(torch.randn(*tall, dtype=dtype))
    return Q.mT if wide else Q


class Orthogonality(Case):
    def assertOrthogonal(self, weight, reflectors):
        wide = weight.shape[-2] < weight.shape[-1]
        gram = weight @ weight.mH if wide else weight.mH @ weight
        identity = torch.eye(gram.shape[-1], dtype=gram.dtype).expand(gram.shape)
        self.assertClose(gram, identity, identity.norm().abs(), reflectors + 2)

    def each(self):
        """A module of each kind, and how many reflectors it has."""
        for shape in SHAPES:
            for dtype in (DOUBLE, torch.complex128, torch.float32):
                for trivial in (True, False):
                    least = min(shape[-2:])
                    for reflectors in (None, 0, 1, 2, least + 3) if trivial else (None, least + 1, least + 2):
                        options = {"use_trivialization": trivial, "reflectors": reflectors}
                        count = least if reflectors is None else reflectors
                        with self.subTest(shape=shape, dtype=dtype, **options):
                            yield shape, dtype, count, options

    def test_starts_at_the_orthogonal_factor(self):
        for shape, dtype, count, options in self.each():
            module = Weight(*shape, dtype=dtype)
            W = module.weight.detach().clone()
            self.assertIs(orthogonal(module, **options), module)
            self.assertEqual(module.weight.dtype, dtype)
            self.assertEqual(module.weight.shape, W.shape)
            self.assertOrthogonal(module.weight.detach(), count)
            wide = shape[-2] < shape[-1]
            R = module.weight.mH @ W if not wide else module.weight.conj() @ W.mT  # upper, its diagonal not negative
            R = R.detach()
            self.assertClose(R.tril(-1), torch.zeros_like(R), W.norm().abs(), 3 * (count + 2))
            self.assertTrue(bool((R.diagonal(dim1=-2, dim2=-1).real >= 0).all()))

    def test_assigning(self):
        for shape, dtype, count, options in self.each():
            module = orthogonal(Weight(*shape, dtype=dtype), **options)
            W = some_orthogonal(*shape, dtype=dtype)
            module.weight = W
            self.assertClose(module.weight.detach(), W, W.norm().abs(), 2 * count + 4)
            before = module.parametrizations.weight.original
            module.weight = W.clone()
            self.assertIs(module.parametrizations.weight.original, before)  # an optimiser keeps it

    def test_special_weights(self):
        """The identity, and columns that reflectors of LAPACK leave out."""
        for dtype in (DOUBLE, torch.complex128):
            for W in (torch.eye(4, dtype=dtype), -torch.eye(4, 3, dtype=dtype), torch.eye(4, dtype=dtype).flip(0)):
                for trivial in (True, False):
                    module = Weight(*W.shape, dtype=dtype)
                    module.weight.data = W.clone()
                    orthogonal(module, use_trivialization=trivial)
                    self.assertClose(module.weight.detach(), W, W.norm().abs(), 12)
                    loss = (module.weight - torch.randn_like(W)).abs().square().sum()
                    (du,) = torch.autograd.grad(loss, module.parametrizations.weight.original)
                    self.assertTrue(bool((du.norm(dim=-1) > 0).all()))  # every reflector trains

    def test_learns_an_orthogonal_matrix(self):
        for dtype in (DOUBLE, torch.complex128):
            for trivial in (True, False):
                target = some_orthogonal(2, 6, 3, dtype=dtype)
                module = orthogonal(Weight(2, 6, 3, dtype=dtype), use_trivialization=trivial, reflectors=6)
                optimiser = torch.optim.Adam(module.parameters(), 0.05)
                for _ in range(200):
                    optimiser.zero_grad()
                    loss = (module.weight - target).abs().square().sum()
                    loss.backward()
                    optimiser.step()
                self.assertLess(float(loss), 1e-2 if dtype == DOUBLE else 0.5)
                self.assertOrthogonal(module.weight.detach(), 6)

    def test_gradients(self):
        for dtype in (DOUBLE, torch.complex128):
            for shape, trivial in (((4, 3), True), ((3, 4), False), ((2, 3, 3), True)):
                module = orthogonal(Weight(*shape, dtype=dtype), use_trivialization=trivial)
                parametrization = module.parametrizations.weight[0]
                u = module.parametrizations.weight.original
                self.assertTrue(torch.autograd.gradcheck(parametrization, (u,)))
                self.assertTrue(torch.autograd.gradgradcheck(parametrization, (u,)))

    def test_as_pytorch_does(self):
        """The same weights, states that load, layers that go on working."""
        for trivial in (True, False):
            linear = torch.nn.Linear(6, 4)
            ours, theirs = copy.deepcopy(linear), copy.deepcopy(linear)
            orthogonal(ours, use_trivialization=trivial)
            torch.nn.utils.parametrizations.orthogonal(theirs, "weight", "householder", use_trivialization=trivial)
            self.assertClose(ours.weight.detach(), theirs.weight.detach(), 2, 24)
            x = torch.randn(3, 6)
            self.assertClose(ours(x).detach(), theirs(x).detach(), 2 * x.norm(), 24)
            again = orthogonal(torch.nn.Linear(6, 4), use_trivialization=trivial)
            file = io.BytesIO()
            torch.save(ours.state_dict(), file)
            file.seek(0)
            again.load_state_dict(torch.load(file))
            self.assertTrue(torch.equal(again.weight, ours.weight))
            self.assertTrue(torch.equal(copy.deepcopy(ours).weight, ours.weight))
            before = ours.weight.detach().clone()
            remove_parametrizations(ours, "weight")
            self.assertFalse(is_parametrized(ours))
            self.assertTrue(torch.equal(ours.weight, before))

    def test_sixteen_bits(self):
        for trivial in (True, False):
            module = orthogonal(Weight(8, 6, dtype=torch.bfloat16), use_trivialization=trivial)
            self.assertEqual(module.weight.dtype, torch.bfloat16)
            W = module.weight.detach().double()
            error = float((W.mT @ W - torch.eye(6, dtype=DOUBLE)).norm())
            # Two roundings, of what is stored and of what comes out, each to half of eps.
            self.assertTrue(error <= 2 * torch.finfo(torch.bfloat16).eps * float(W.norm()), error)

    def test_refusals(self):
        other = torch.nn.Linear(3, 4)
        other.register_buffer("counts", torch.ones(4, 3, dtype=torch.int64))
        refused = [
            ("counts holds torch.int64", lambda: orthogonal(other, "counts")),
            ("no parameter or buffer named 'wait'", lambda: orthogonal(other, "wait")),
            (r"bias has the shape \[4\], must have at least 2", lambda: orthogonal(other, "bias")),
            ("orthogonal_map is 'cayley'", lambda: orthogonal(other, orthogonal_map="cayley")),
            (r"reflectors is 2, must be at least 3 for \[4, 3\] without a base",
             lambda: orthogonal(other, use_trivialization=False, reflectors=2)),
            ("reflectors is -1, must be at least 0", lambda: Orthogonal((4, 3), -1)),
        ]  # fmt: skip
        for message, call in refused:
            with self.subTest(message), self.assertRaisesRegex(ValueError, message):
                call()
        self.assertFalse(is_parametrized(other))
        orthogonal(other)
        with self.assertRaisesRegex(ValueError, r"has the shape \[3, 4\], must have \[4, 3\]"):
            other.weight = torch.randn(3, 4)


if __name__ == "__main__":
    unittest.main()
