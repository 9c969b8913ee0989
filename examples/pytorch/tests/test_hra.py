# SPDX-License-Identifier: BSD-3-Clause
"""HRA against PEFT's, whose adapters are loaded."""

import copy
import importlib.util
import tempfile
import unittest

import torch

from common import Case, randomise
from hoft_torch import HOFTLinear, HRALinear, load_hra


class HRA(Case):
    def test_is_one_sided_hoft(self):
        base, x = torch.nn.Linear(10, 7), torch.randn(5, 10)
        layer = randomise(HRALinear(base, 4))
        self.assertEqual((tuple(layer.u.shape), tuple(layer.v.shape)), ((0, 7), (4, 10)))
        self.assertIsNone(layer.d)
        other = HOFTLinear(base, (0, 4))
        other.load_state_dict(layer.state_dict())
        self.assertTrue(torch.equal(layer(x), other(x)))
        weight = base.weight.detach().double()
        for v in layer.v.detach().double():  # one after the other, as PEFT does
            weight = weight - 2 * torch.outer(weight @ v, v) / (v @ v)
        expected = torch.nn.functional.linear(x, weight.float(), base.bias)
        self.assertClose(layer(x), expected, 2 * expected.detach().norm(), 8)
        with self.assertRaisesRegex(ValueError, "HRALinear: the rank is 3, must be even"):
            HRALinear(base, 3)


class Tiny(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = torch.nn.Linear(10, 12), torch.nn.Linear(12, 12), torch.nn.Linear(12, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))


@unittest.skipUnless(importlib.util.find_spec("peft"), "needs PEFT")
class Files(Case):
    def adapter(self, folder, **options):
        """(the bare model, outputs and gradients by PEFT)"""
        import peft

        bare = Tiny()
        options = {"r": 4, "target_modules": ["first", "second"], "init_weights": False, **options}
        model = peft.get_peft_model(copy.deepcopy(bare), peft.HRAConfig(**options))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.requires_grad and "hra_u" not in name:
                    parameter.normal_()
        model.save_pretrained(folder)
        x = torch.randn(6, 10, requires_grad=True)
        return bare, model, x

    def test_loads_what_peft_saved(self):
        for options in (
            {},
            {"r": 3},
            {"apply_GS": True},
            {"bias": "hra_only"},
            {"modules_to_save": ["head"]},
        ):
            with self.subTest(**options), tempfile.TemporaryDirectory() as folder:
                bare, model, x = self.adapter(folder, **options)
                layers = load_hra(bare, folder)
                self.assertEqual(set(layers), {"first", "second"})
                trained = {name for name, a in bare.named_parameters() if a.requires_grad}
                self.assertEqual(trained, {"first.u", "first.v", "second.u", "second.v"})
                y, expected = bare(x), model(x)
                self.assertClose(y, expected.detach(), 20 * expected.detach().norm(), 12)
                g = torch.randn_like(y)
                mine = torch.autograd.grad(y, (x, bare.first.v), g)
                u = model.base_model.model.first.hra_u["default"]
                theirs = torch.autograd.grad(expected, (x, u), g)
                self.assertClose(mine[0], theirs[0], 20 * g.norm() * x.detach().norm(), 12)
                if not options.get("apply_GS"):  # otherwise other vectors are trained
                    self.assertClose(mine[1], theirs[1].t(), 20 * g.norm() * x.detach().norm(), 12)
                bare.first.merge()
                self.assertClose(bare(x).detach(), expected.detach(), 20 * expected.detach().norm(), 12)

    def test_refused(self):
        import peft

        with tempfile.TemporaryDirectory() as folder:
            with self.assertRaises(FileNotFoundError):
                load_hra(Tiny(), folder)
            self.adapter(folder)
            other = torch.nn.Sequential(torch.nn.Linear(10, 12))
            with self.assertRaisesRegex(ValueError, "has reflectors for first, which the model has not"):
                load_hra(other, folder)
            small = Tiny()
            small.second = torch.nn.Linear(8, 12)
            with self.assertRaisesRegex(ValueError, r"hra_u of second has the shape \[12, 4\], must have \[8, rank\]"):
                load_hra(small, folder)
            self.assertIs(type(small.first), torch.nn.Linear)
        with tempfile.TemporaryDirectory() as folder:
            self.adapter(folder, modules_to_save=["head"])
            headless = Tiny()
            del headless.head
            with self.assertRaisesRegex(ValueError, "the adapter has head.*, which the model has not"):
                load_hra(headless, folder)
        with tempfile.TemporaryDirectory() as folder:
            peft.get_peft_model(Tiny(), peft.LoraConfig(target_modules=["first"])).save_pretrained(folder)
            with self.assertRaisesRegex(ValueError, "of type LORA, must be HRA"):
                load_hra(Tiny(), folder)


if __name__ == "__main__":
    unittest.main()
