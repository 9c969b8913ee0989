# SPDX-License-Identifier: BSD-3-Clause
"""What HOFTLinear keeps between calls, and how it notices that it must be made anew."""

import copy
import itertools
import unittest
import unittest.mock

import torch
import torch.utils.checkpoint

from common import Case, Quantised, randomise
import hoft_torch
from hoft_torch import HOFTLinear


class Bound(Case):
    def layer(self, scaled=True):
        return randomise(HOFTLinear(torch.nn.Linear(10, 7), 4, scaled))

    def bindings(self, layer, x):
        """How often a call makes the layer anew; and it gives what a copy that knows nothing yet gives."""
        make = hoft_torch.around.BoundLayer
        with unittest.mock.patch.object(hoft_torch.around, "BoundLayer", side_effect=make) as count:
            y = layer(x)
        fresh = copy.deepcopy(layer)
        self.assertIsNone(fresh._around._bound.entry)
        self.assertTrue(torch.equal(y, fresh(x)))
        return count.call_count

    def test_bound_once_in_a_step(self):
        """u, v, s and the weight are looked at once; whatever changes them is noticed."""
        x = torch.randn(5, 10)
        for make in (lambda linear: linear, Quantised):
            layer = randomise(HOFTLinear(make(torch.nn.Linear(10, 7)), 4, scaled=True))
            again = lambda: self.bindings(layer, x)
            self.assertEqual([again(), again()], [1, 0])
            self.assertEqual(self.bindings(layer, torch.randn(2, 3, 10)), 0)
            with torch.no_grad():
                self.assertEqual(again(), 0)
            with torch.inference_mode():
                self.assertEqual(again(), 0)
            layer(x).sum().backward()
            self.assertEqual(again(), 0)
            for optimiser in (torch.optim.SGD, torch.optim.AdamW, lambda p, lr: torch.optim.Adam(p, lr, foreach=True)):
                before = layer(x).detach()
                optimiser([layer.u, layer.v, layer.d], lr=0.1).step()
                self.assertEqual([again(), again()], [1, 0])
                self.assertFalse(torch.equal(layer(x), before))
            for parameter in (layer.u, layer.v, layer.d):
                parameter.data[-1] += 1  # behind autograd's back
                self.assertEqual([again(), again()], [1, 0])
                with torch.inference_mode():
                    parameter.mul_(1.25)
                    self.assertEqual([again(), again()], [1, 0])
                parameter.data = parameter.data.clone() * 1.25  # as fully sharded layers do
                self.assertEqual([again(), again()], [1, 0])
            other = randomise(copy.deepcopy(layer))
            layer.load_state_dict(other.state_dict())
            self.assertEqual([again(), again()], [1, 0])
            self.assertTrue(torch.equal(layer(x), other(x)))
            with torch.no_grad():
                (layer.base.scale if make is Quantised else layer.base.weight).mul_(1.5)
            self.assertEqual([again(), again()], [1, 0])
            layer.float()
            self.assertEqual([again(), again()], [1, 0])
            layer.rebind()
            self.assertEqual(again(), 1)

    def test_bound_after_a_change_of_type(self):
        """The weight may come back to the same address with other elements."""
        layer, x = self.layer(), torch.randn(5, 10)
        layer(x)
        self.assertEqual(self.bindings(layer.to(torch.bfloat16).to(torch.float32), x), 1)
        layer.base.weight = torch.nn.Parameter(torch.randn(7, 10), requires_grad=False)
        self.assertEqual(self.bindings(layer, x), 1)
        self.assertEqual(self.bindings(layer.double(), x.double()), 1)

    def test_bound_in_inference_mode_it_can_be_trained(self):
        layer, x = self.layer(scaled=False), torch.randn(5, 10)
        with torch.inference_mode():
            before = layer(x)
        y = layer(x)
        self.assertTrue(torch.equal(y, before))
        y.sum().backward()
        self.assertGreater(float(layer.u.grad.norm()), 0)

    def test_backward_after_a_step(self):
        """What a forward pass was made of stays as it was: its gradients are those of then."""
        layer, x = self.layer(), torch.randn(5, 10, requires_grad=True)
        expected = torch.autograd.grad(layer(x).square().sum(), (x, layer.u, layer.v, layer.d))
        y = layer(x)
        with torch.no_grad():
            layer.u.add_(1)
        layer(x)
        for a, b in zip(torch.autograd.grad(y.square().sum(), (x, layer.u, layer.v, layer.d)), expected):
            self.assertTrue(torch.equal(a, b))

    def test_micro_batches(self):
        """Their gradients add up in .grad to those of the batch."""
        for make in (lambda linear: linear, Quantised):
            layer = randomise(HOFTLinear(make(torch.nn.Linear(10, 7)), 4, scaled=True))
            x, g = torch.randn(64, 10), torch.randn(64, 7)
            parameters = [layer.u, layer.v, layer.d]
            expected = torch.autograd.grad(layer(x), parameters, g)
            for part, cotangent in zip(x.split(16), g.split(16)):
                layer(part).backward(cotangent)
            for parameter, b in zip(parameters, expected):
                self.assertClose(parameter.grad, b, 3 * g.norm() * x.norm(), 11 + 4)

    def test_checkpoint(self):
        """Forward twice, what is kept dropped between: the same bits, and nothing is bound again."""
        for make, reentrant in itertools.product((lambda linear: linear, Quantised), (False, True)):
            # The first pass of a reentrant one has no gradients, and other bits for SHOFT.
            layer = randomise(HOFTLinear(make(torch.nn.Linear(10, 7)), 4, scaled=not reentrant))
            x = torch.randn(5, 10, requires_grad=True)
            layer(x).square().sum().backward()
            inputs = (x, *(p for p in layer.parameters() if p.requires_grad))
            expected = [a.grad.clone() for a in inputs]
            for a in inputs:
                a.grad = None
            with unittest.mock.patch.object(hoft_torch.around, "BoundLayer") as count:
                torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=reentrant).square().sum().backward()
            self.assertEqual(count.call_count, 0)
            for a, b in zip(inputs, expected):
                self.assertTrue(torch.equal(a.grad, b))


if __name__ == "__main__":
    unittest.main()
