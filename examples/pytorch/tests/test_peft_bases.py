# SPDX-License-Identifier: BSD-3-Clause
"""The PEFT method on quantised bases: training, merging and export, against their dequantised
weights."""

import importlib.util
import tempfile
import types
import unittest

import torch
from common import Case, adapted
from tiny import MISSING, adapt, layers, needs_peft, quiet

if MISSING is None:
    import peft
    from hoft_torch import export_lora
    from hoft_torch.peft import HoftConfig


class Net(torch.nn.Module):
    def __init__(self, quantise):
        super().__init__()
        self.first = quantise(torch.nn.Linear(64, 128))
        self.second = quantise(torch.nn.Linear(128, 64))

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


def eight_bits(linear):
    import bitsandbytes

    layer = bitsandbytes.nn.Linear8bitLt(linear.in_features, linear.out_features, has_fp16_weights=False)
    layer.load_state_dict(linear.state_dict())
    return layer.to("cpu")


def four_bits(linear):
    import bitsandbytes

    layer = bitsandbytes.nn.Linear4bit(linear.in_features, linear.out_features, quant_type="nf4")
    layer.load_state_dict(linear.state_dict())
    return layer.to("cpu")


def int8(linear):
    import torchao.quantization

    model = torch.nn.Sequential(linear)
    torchao.quantization.quantize_(model, torchao.quantization.Int8WeightOnlyConfig())
    return model[0]


# By how much of the largest element of its row or block an element is off at most, once quantised:
# half of the largest step. bitsandbytes rounds to 8 bits what it has scaled in half precision: the
# weight, its largest element, its inverse and the product are each off by up to 127 / 2048 steps.
KINDS = {"bitsandbytes": [(eight_bits, 0.75 / 127), (four_bits, 0.16)], "torchao": [(int8, 0.6 / 127)]}


@needs_peft
class Quantised(Case):
    def every(self):
        """(a function that makes the model, the step of its quantisation)"""
        for package, kinds in KINDS.items():
            if importlib.util.find_spec(package) is None:
                print(f"not tried: {package} is missing")
                continue
            for quantise, step in kinds:
                yield quantise, step

    def net(self, quantise, training):
        torch.manual_seed(3)  # the same base each time
        model = Net(quantise).requires_grad_(False).train(training)
        if quantise is int8:  # as transformers leaves it
            import torchao.quantization

            config = types.SimpleNamespace(get_apply_tensor_subclass=torchao.quantization.Int8WeightOnlyConfig)
            model.hf_quantizer = types.SimpleNamespace(quantization_config=config)
        return model

    def config(self, **options):
        return HoftConfig(**{"r": 4, "target_modules": ["first", "second"], "init_weights": False, **options})

    def model(self, quantise, training=False, **options):
        return self.around(self.net(quantise, training), self.config(**options))

    def around(self, net, config):
        with quiet():  # no copies: bitsandbytes' layers lose their state in them
            return peft.get_peft_model(net, config).train(net.training)

    def test_trains(self):
        for quantise, _ in self.every():
            for training in (True, False):
                with self.subTest(quantise.__name__, training=training):
                    self.train(self.model(quantise, training, scaled=True))

    def train(self, model):
        x = torch.randn(5, 64)
        for _ in range(2):  # the second call finds what the first has packed
            model.zero_grad()
            model(x).square().sum().backward()
        for name, parameter in model.named_parameters():
            self.assertEqual(parameter.requires_grad, ".hoft_" in name)
            if parameter.requires_grad:
                self.assertEqual(parameter.dtype, torch.float32)
                self.assertTrue(torch.isfinite(parameter.grad).all() and parameter.grad.any(), name)

    def test_merges_and_unmerges(self):
        for quantise, step in self.every():
            for training in (True, False):
                with self.subTest(quantise.__name__, training=training), torch.no_grad():
                    model, x = self.model(quantise, training, scaled=True), torch.randn(5, 64)
                    before = {name: layer.base_matrix().double() for name, layer in layers(model).items()}
                    model(x)  # in eval mode bitsandbytes packs its 4 bit weights now
                    model.merge_adapter(safe_merge=True)
                    off = {}
                    for name, layer in layers(model).items():
                        factors = (a.double() for a in layer.factors("default"))
                        expected = adapted(before[name], *factors)
                        off[name] = step * expected.abs().max()
                        error = (layer.base_matrix().double() - expected).abs().max()
                        self.assertTrue(error <= off[name], (error, off[name]))
                    self.assertTrue(torch.isfinite(model(x)).all())
                    model.unmerge_adapter()
                    for name, layer in layers(model).items():
                        # What merging rounded, by at most 1 / s < 2 more, and once more of its own.
                        error = (layer.base_matrix().double() - before[name]).norm()
                        bound = 4 * off[name] * before[name].numel() ** 0.5
                        self.assertTrue(error <= bound, (error, bound))

    def test_exports(self):
        """bitsandbytes' layers in train mode: in eval mode those of 8 bits round activations, and
        those of 4 bits pack their weight, which PEFT's DoRA does not look for."""
        for quantise, _ in self.every():
            for scaled in (False, True):
                with self.subTest(quantise.__name__, scaled=scaled), quiet():
                    training = quantise is not int8
                    model, x = self.model(quantise, training, scaled=scaled), torch.randn(5, 64)
                    expected = model(x).detach()
                    with tempfile.TemporaryDirectory() as directory:
                        export_lora(model, directory)
                        base = self.net(quantise, training)
                        loaded = peft.PeftModel.from_pretrained(base, directory).train(training)
                    self.assertClose(loaded(x).detach(), expected, 4 * expected.norm(), 24)

    @torch.no_grad()
    def test_saves_and_loads(self):
        for quantise, _ in self.every():
            with self.subTest(quantise.__name__), quiet():
                model, x = self.model(quantise, scaled=True), torch.randn(5, 64)
                with tempfile.TemporaryDirectory() as directory:
                    model.save_pretrained(directory)
                    loaded = peft.PeftModel.from_pretrained(self.net(quantise, False), directory)
                self.assertTrue(torch.equal(loaded(x), model(x)))

    def test_torchao_without_transformers_trains_but_does_not_merge(self):
        if importlib.util.find_spec("torchao") is None:
            self.skipTest("torchao is missing")
        net = self.net(int8, False)
        del net.hf_quantizer
        model, x = adapt(net, self.config()), torch.randn(5, 64)
        model(x).sum().backward()
        before = model(x).detach()
        with self.assertRaisesRegex(TypeError, "no plain matrix"):
            model.merge_adapter()
        self.assertTrue(torch.equal(model(x).detach(), before))


if __name__ == "__main__":
    unittest.main()
