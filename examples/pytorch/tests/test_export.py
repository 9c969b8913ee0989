# SPDX-License-Identifier: BSD-3-Clause
"""HOFT as LoRA and SHOFT as DoRA: PEFT computes from the files what the models do."""

import copy
import json
import os
import pathlib
import re
import tempfile
import unittest

import torch
from common import DOUBLE, Case, adapted
from tiny import MISSING, MODELS, ModelCase, adapt, layers, logits, make, needs_peft, quiet

if MISSING is None:
    import peft
    import transformers
    from hoft_torch import HOFTLinear, export_lora
    from hoft_torch.export import low_rank, main
    from hoft_torch.peft import HoftConfig
    from peft import PeftModel


def settings(directory):
    return json.loads((pathlib.Path(directory) / "adapter_config.json").read_text())


@needs_peft
class LowRank(Case):
    def test_is_the_adapted_weight(self):
        for m, n, ru, rv in ((5, 7, 2, 4), (9, 4, 4, 0), (4, 9, 0, 4), (3, 3, 6, 6), (1, 1, 2, 2)):
            for scaled in (False, True):
                with self.subTest(m=m, n=n, ru=ru, rv=rv, scaled=scaled):
                    weight, u, v = (torch.randn(a, b, dtype=DOUBLE) for a, b in ((m, n), (ru, m), (rv, n)))
                    s = torch.randn(m, dtype=DOUBLE) if scaled else None
                    L, R = low_rank(weight, u, v, s)
                    self.assertEqual((L.shape, R.shape), ((m, ru + rv), (ru + rv, n)))
                    middle = weight if s is None else s[:, None] * weight
                    self.assertClose(middle + L @ R, adapted(weight, u, v, s), middle.norm(), 2 * (ru + rv) + 4)

    def test_reflectors_of_zeros_are_the_identity(self):
        weight, u, v = (torch.randn(a, b, dtype=DOUBLE) for a, b in ((5, 6), (4, 5), (4, 6)))
        u[1] = v[0] = v[3] = 0
        L, R = low_rank(weight, u, v)
        self.assertClose(weight + L @ R, adapted(weight, u[[0, 2, 3]], v[[1, 2]]), weight.norm(), 12)


class Exports(ModelCase):
    """The outputs of a model and those of PEFT from its export."""

    def assertExports(self, model, base, inputs, adapter_name=None):
        with tempfile.TemporaryDirectory() as directory, quiet():
            export_lora(model, directory, adapter_name)
            loaded = PeftModel.from_pretrained(copy.deepcopy(base), directory)
            expected = logits(model, inputs)
            self.assertServes(logits(loaded, inputs), expected)
            with loaded.disable_adapter(), torch.no_grad():
                self.assertTrue(torch.equal(logits(loaded, inputs), logits(base, inputs)))
            self.assertServes(logits(loaded.merge_and_unload(safe_merge=True), inputs), expected)
            return settings(directory), expected

    def assertServes(self, got, expected):
        """28 layers at most, of 12 steps each; LLaMA and T5 take norms and softmax in float."""
        kind = torch.float32 if self.float_inside else expected.dtype
        self.assertClose(got.to(kind), expected.to(kind), expected.detach().norm(), steps=28 * 12)

    float_inside = False


@needs_peft
class Matrix(Exports):
    def test_every_model(self):
        for model_name in MODELS:
            base, inputs = make(model_name)
            self.float_inside = model_name in ("LLaMA", "T5")
            for method in (dict(r=4), dict(r=(2, 4), scaled=True), dict(r=(0, 4)), dict(r=(4, 0), scaled=True)):
                with self.subTest(model=model_name, **method):
                    model = adapt(base, HoftConfig(target_modules="all-linear", init_weights=False, **method))
                    written, outputs = self.assertExports(model, base, inputs)
                    self.assertFalse(torch.allclose(outputs, logits(base, inputs)))
                    self.assertEqual(written["peft_type"], "LORA")
                    self.assertEqual(written["use_dora"], "scaled" in method)
                    self.assertEqual((written["r"], written["lora_alpha"]), (sum(model.peft_config["default"].r), ) * 2
                                     if isinstance(method["r"], tuple) else (8, 8))


@needs_peft
class OfPeft(Exports):
    def setUp(self):
        super().setUp()
        self.base, self.inputs = make("BERT")

    def config(self, **options):
        return HoftConfig(**{"target_modules": ["query", "dense"], "r": 4, "init_weights": False, **options})

    def test_ranks_by_layer(self):
        pattern = {"query": (0, 2), r"layer\.1\.output\.dense": (6, 2)}
        for scaled in (False, True):
            model = adapt(self.base, self.config(rank_pattern=pattern, scaled=scaled))
            written, _ = self.assertExports(model, self.base, self.inputs)
            self.assertEqual(written["rank_pattern"], {"query": 2, r"layer\.1\.output\.dense": 8})
            self.assertEqual(written["alpha_pattern"], written["rank_pattern"])

    def test_chosen_layers(self):
        for options in (dict(exclude_modules=["dense"]), dict(layers_to_transform=[1])):
            with self.subTest(**options):
                self.assertExports(adapt(self.base, self.config(**options)), self.base, self.inputs)

    def test_what_else_is_trained(self):
        for options in (dict(modules_to_save=["classifier"]), dict(bias="hoft_only"), dict(bias="all", scaled=True)):
            with self.subTest(**options):
                model = adapt(self.base, self.config(**options))
                with torch.no_grad():
                    for name, parameter in model.named_parameters():
                        if parameter.requires_grad and ".hoft_" not in name:
                            parameter.add_(torch.randn_like(parameter))
                with tempfile.TemporaryDirectory() as directory, quiet():
                    export_lora(model, directory)
                    loaded = PeftModel.from_pretrained(copy.deepcopy(self.base), directory)
                self.assertServes(logits(loaded, self.inputs), logits(model, self.inputs))

    def test_bfloat16_base(self):
        base, inputs = make("BERT", torch.bfloat16)
        for scaled in (False, True):
            model = adapt(base, self.config(scaled=scaled))
            with tempfile.TemporaryDirectory() as directory, quiet():
                export_lora(model, directory)
                stored = peft.utils.save_and_load.load_peft_weights(directory, device="cpu")
                self.assertEqual({a.dtype for a in stored.values()}, {torch.float32})
                loaded = PeftModel.from_pretrained(copy.deepcopy(base), directory)
            got, expected = logits(loaded, inputs), logits(model, inputs)
            # Each of the two layers of the model rounds a few times to 8 bits on its way.
            self.assertClose(got, expected, expected.detach().norm())

    def test_one_of_several(self):
        model = adapt(self.base, self.config())
        with quiet():
            model.add_adapter("second", self.config(r=2, scaled=True))
        model.base_model.set_adapter(["default", "second"])
        with self.assertRaisesRegex(ValueError, "2 adapters are active.*adapter_name"):
            export_lora(model, "unused")
        with self.assertRaisesRegex(ValueError, "adapter_name is 'third', must be one of"):
            export_lora(model, "unused", "third")
        model.set_adapter("second")
        self.assertExports(model, self.base, self.inputs)
        self.assertExports(model, self.base, self.inputs, "second")

    def test_what_cannot_be_exported_writes_nothing(self):
        def zero_scale(layer):
            layer.hoft_d["default"][3] = -1

        def zero_row(layer):  # of the base, kept by an adapter of the inputs
            layer.base_layer.weight[2] = 0

        def not_a_number(layer):
            layer.hoft_v["default"][1, 1] = float("nan")

        cases = (
            (zero_scale, dict(scaled=True), "s of .*query is 0 at 3"),
            (zero_row, dict(scaled=True, r=(0, 2)), "norm of row i .*query is 0 at 2"),
            (not_a_number, {}, "v of .*query is not finite"),
            (lambda layer: layer.merge(), {}, "query is merged: unmerge"),
        )
        for spoil, options, message in cases:
            with self.subTest(message), tempfile.TemporaryDirectory() as directory:
                model = adapt(self.base, self.config(**options))
                with torch.no_grad():
                    spoil(next(iter(layers(model).values())))
                out = os.path.join(directory, "out")
                with self.assertRaisesRegex(ValueError, message):
                    export_lora(model, out)
                self.assertFalse(os.path.exists(out))

    def test_models_without_hoft_are_refused(self):
        for model in (self.base, adapt(self.base, peft.LoraConfig(target_modules=["query"]))):
            with self.assertRaisesRegex(TypeError, "no layer adapted by HOFT"):
                export_lora(model, "unused")

    def test_lines_of_the_readmes(self):
        here = pathlib.Path(__file__).resolve().parents
        for readme in (here[1] / "README.md", here[3] / "README.md"):
            blocks = re.findall(r"```python\n(.*?)```", readme.read_text(), re.DOTALL)
            (lines,) = (block for block in blocks if "HoftConfig" in block)
            with tempfile.TemporaryDirectory() as directory, quiet():
                names = {"model": copy.deepcopy(self.base)}
                exec(lines.replace('"adapter"', repr(directory)), names)
                loaded = PeftModel.from_pretrained(copy.deepcopy(self.base), directory)
            self.assertServes(logits(loaded, self.inputs), logits(names["model"], self.inputs))

    def test_command_line(self):
        with tempfile.TemporaryDirectory() as directory, quiet():
            self.base.float().save_pretrained(directory + "/base")
            base = transformers.AutoModelForSequenceClassification.from_pretrained(directory + "/base")
            for task in (None, "SEQ_CLS"):
                model = adapt(base, self.config(task_type=task, scaled=True, modules_to_save=["classifier"]))
                model.save_pretrained(directory + "/hoft")
                self.assertEqual(main([directory + "/hoft", directory + "/lora"]), 0)
                kind = peft.AutoPeftModel if task is None else peft.AutoPeftModelForSequenceClassification
                loaded = kind.from_pretrained(directory + "/lora")
                self.assertServes(logits(loaded, self.inputs), logits(model, self.inputs))


@needs_peft
class OfLayers(Exports):
    """Models with HOFTLinear layers."""

    def wrapped(self, base, ranks, scaled=()):
        model = copy.deepcopy(base)
        for name, rank in ranks.items():
            parent, _, last = name.rpartition(".")
            layer = HOFTLinear(model.get_submodule(name), rank, scaled=name in scaled)
            with torch.no_grad():
                for parameter in layer.parameters():
                    if parameter.requires_grad:
                        parameter.add_(0.1 * torch.randn_like(parameter))
                if layer.d is not None:
                    layer.d[0] = -1.5  # a scale below 0
            setattr(model.get_submodule(parent), last, layer)
        return model.eval()

    def test_ranks_of_their_own(self):
        base, inputs = make("BERT")
        query, dense = "bert.encoder.layer.0.attention.self.query", "bert.encoder.layer.1.output.dense"
        for scaled in ((), (query,), (query, dense)):
            with self.subTest(scaled=scaled):
                model = self.wrapped(base, {query: (2, 4), dense: (0, 6), "classifier": 4}, scaled)
                written, _ = self.assertExports(model, base, inputs)
                self.assertEqual(written["r"], 6)
                self.assertEqual(list(written["rank_pattern"].values()), [8])

    def test_conv1d(self):
        base, inputs = make("GPT-2")
        names = ("transformer.h.0.attn.c_attn", "transformer.h.1.attn.c_proj")
        model = self.wrapped(base, {name: 4 for name in names}, names)
        written, _ = self.assertExports(model, base, inputs)
        self.assertTrue(written["fan_in_fan_out"])

    def test_what_is_not_written_is_named(self):
        base, _ = make("BERT")
        model = self.wrapped(base, {"bert.encoder.layer.0.attention.self.query": 4})
        model.classifier.requires_grad_(True)
        with tempfile.TemporaryDirectory() as directory:
            with self.assertWarnsRegex(UserWarning, "classifier.weight, classifier.bias require gradients"):
                export_lora(model, directory)

    def test_an_adapter_that_names_no_model(self):
        base, _ = make("BERT")
        with tempfile.TemporaryDirectory() as saved, tempfile.TemporaryDirectory() as out:
            adapt(base, HoftConfig(r=2, target_modules=["query"])).save_pretrained(saved)
            with self.assertRaisesRegex(SystemExit, "does not say which model its adapter is for"):
                main([saved, out])

    def test_names_that_end_as_others_do(self):
        class Pair(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.fc = torch.nn.Linear(6, 6)
                self.block = torch.nn.Sequential()
                self.block.add_module("fc", torch.nn.Linear(6, 6))

            def forward(self, x):
                return self.fc(self.block(x))

        base, x = Pair().double().eval(), torch.randn(3, 6, dtype=DOUBLE)
        for ranks in ({"fc": 4}, {"fc": 4, "block.fc": 2}):
            model = self.wrapped(base, ranks)
            with tempfile.TemporaryDirectory() as directory, quiet():
                export_lora(model, directory)
                loaded = PeftModel.from_pretrained(copy.deepcopy(base), directory)
            self.assertClose(loaded(x), model(x), model(x).detach().norm(), 24)
            adapters = [name for name, _ in loaded.named_parameters() if name.endswith("lora_A.default.weight")]
            self.assertEqual(len(adapters), len(ranks))


if __name__ == "__main__":
    unittest.main()
