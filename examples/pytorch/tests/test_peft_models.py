# SPDX-License-Identifier: BSD-3-Clause
"""Every form of the PEFT method on every kind of tiny transformer: formulas in plain PyTorch judge."""

import copy
import tempfile
import unittest
from unittest import mock

import torch
import tiny
from tiny import ModelCase, needs_peft, quiet

if tiny.MISSING is None:
    import transformers.integrations.peft

    from hoft_torch.peft import HoftConfig
    from peft import PeftModel

METHODS = {
    "HOFT": dict(r=4),
    "SHOFT": dict(r=(2, 4), scaled=True),
    "inputs alone": dict(r=(0, 4)),
    "outputs alone, scaled": dict(r=(4, 0), scaled=True),
}


@needs_peft
class Matrix(ModelCase):
    """Every method on every model."""

    def for_every(self, check, **options):
        """check(base, inputs, model)"""
        for model_name in tiny.MODELS:
            base, inputs = tiny.make(model_name)
            for method, config in METHODS.items():
                with self.subTest(model=model_name, method=method):
                    config = HoftConfig(target_modules="all-linear", **{**config, **options})
                    torch.manual_seed(3)
                    check(base, inputs, tiny.adapt(base, config))

    def test_starts_as_the_base(self):
        def check(base, inputs, model):
            self.assertModelsClose(tiny.logits(model, inputs), tiny.logits(base, inputs), model)

        self.for_every(check)

    def test_values_and_gradients_are_those_of_the_adapted_weights(self):
        def check(base, inputs, model):
            got = tiny.logits(model, inputs)
            expected = tiny.plain_logits(base, tiny.plain_weights(model, "default"), inputs)
            self.assertModelsClose(got, expected, model)
            self.assertFalse(torch.allclose(got, tiny.logits(base, inputs)))
            self.assertModelGradientsClose(got, expected, model)

        self.for_every(check, init_weights=False)

    def test_trains_only_its_own(self):
        def check(base, inputs, model):
            before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
            trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
            self.assertTrue(trained)
            self.assertTrue(all(".hoft_" in name for name in trained))
            optimiser = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad])
            tiny.loss(model, inputs).backward()
            optimiser.step()
            for name, parameter in model.named_parameters():
                self.assertEqual(torch.equal(parameter, before[name]), name not in trained, name)

        self.for_every(check)

    def test_saves_and_loads_the_same_bits(self):
        def check(base, inputs, model):
            with tempfile.TemporaryDirectory() as directory, quiet():
                model.save_pretrained(directory)
                for options in ({}, {"low_cpu_mem_usage": True}):
                    again = PeftModel.from_pretrained(copy.deepcopy(base), directory, **options)
                    self.assertTrue(torch.equal(tiny.logits(again, inputs), tiny.logits(model, inputs)))

        with torch.no_grad():
            self.for_every(check, init_weights=False)

    def test_merges_and_unmerges(self):
        def check(base, inputs, model):
            expected, weights = tiny.logits(model, inputs), tiny.matrices(model)
            with quiet():
                model.merge_adapter()
            self.assertModelsClose(tiny.logits(model, inputs), expected, model)
            model.unmerge_adapter()
            for name, layer in tiny.layers(model).items():  # s is within 0.5 to 1.5
                self.assertClose(tiny.matrix(layer.base_layer), weights[name], 3 * weights[name].norm(), 12)
            with quiet():
                merged = copy.deepcopy(model).merge_and_unload(safe_merge=True)
            self.assertIs(type(merged), type(base))
            self.assertEqual(merged.state_dict().keys(), base.state_dict().keys())
            self.assertModelsClose(tiny.logits(merged, inputs), expected, model)

        self.for_every(check, init_weights=False)

    @torch.no_grad()
    def test_disabled_is_the_base(self):
        def check(base, inputs, model):
            with model.disable_adapter():
                self.assertTrue(torch.equal(tiny.logits(model, inputs), tiny.logits(base, inputs)))
            self.assertTrue(torch.equal(tiny.logits(model.unload(), inputs), tiny.logits(base, inputs)))

        self.for_every(check, init_weights=False)

    @torch.no_grad()
    def test_copies_are_their_own(self):
        def check(base, inputs, model):
            expected = tiny.logits(model, inputs)
            other = copy.deepcopy(model)
            self.assertTrue(torch.equal(tiny.logits(other, inputs), expected))
            for parameter in other.parameters():
                parameter.add_(1)
            self.assertTrue(torch.equal(tiny.logits(model, inputs), expected))

        self.for_every(check, init_weights=False)

    def test_gradient_checkpointing_changes_nothing(self):
        def check(base, inputs, model):
            gradients = []
            for checkpointing in (False, True):
                model.train().zero_grad()
                if checkpointing:
                    model.base_model.gradient_checkpointing_enable({"use_reentrant": False})
                torch.manual_seed(7)
                tiny.loss(model, inputs).backward()
                gradients.append([a.grad.clone() for a in model.parameters() if a.requires_grad])
            for a, b in zip(*gradients):
                self.assertTrue(torch.equal(a, b))

        self.for_every(check, init_weights=False, dropout=0.5)


@needs_peft
class CallsOfTransformers(ModelCase):
    """model.add_adapter and load_adapter, which transformers refuses for every method beside a PEFT older than it asks
    for: that check is left out."""

    @torch.no_grad()
    def test_adds_saves_and_loads(self):
        base, inputs = tiny.make("LLaMA")
        model, other = copy.deepcopy(base), copy.deepcopy(base)
        with mock.patch.object(transformers.integrations.peft, "check_peft_version"), quiet():
            model.add_adapter(HoftConfig(r=4, target_modules=["q_proj", "v_proj"], init_weights=False))
            got = tiny.logits(model, inputs)
            expected = tiny.plain_logits(base, tiny.plain_weights(model, "default"), inputs)
            self.assertModelsClose(got, expected, model)
            with tempfile.TemporaryDirectory() as folder:
                model.save_pretrained(folder)
                other.load_adapter(folder)
                loaded = PeftModel.from_pretrained(copy.deepcopy(base), folder)
            self.assertTrue(torch.equal(tiny.logits(other, inputs), got))
            self.assertTrue(torch.equal(tiny.logits(loaded, inputs), got))
            model.disable_adapters()
            self.assertTrue(torch.equal(tiny.logits(model, inputs), tiny.logits(base, inputs)))


if __name__ == "__main__":
    unittest.main()
