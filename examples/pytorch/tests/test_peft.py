# SPDX-License-Identifier: BSD-3-Clause
"""HOFT and SHOFT as a method of PEFT: formulas in plain PyTorch and PEFT itself judge."""

import copy
import pickle
import tempfile
import unittest

import torch
from common import adapted
from tiny import (
    MISSING,
    ModelCase,
    adapt,
    layers,
    logits,
    loss,
    make,
    matrix,
    needs_peft,
    plain_logits,
    plain_weights,
    quiet,
)

if MISSING is None:
    import peft
    import transformers
    from hoft_torch.peft import HoftConfig
    from peft import PeftModel


@needs_peft
class Adapters(ModelCase):
    """What PEFT does with adapters, on BERT."""

    def setUp(self):
        super().setUp()
        self.base, self.inputs = make("BERT")

    def config(self, **options):
        return HoftConfig(**{"target_modules": ["query", "dense"], "r": 4, "init_weights": False, **options})

    def two(self, **second):
        model = adapt(self.base, self.config())
        with quiet():
            model.add_adapter("second", self.config(**second))
        return model

    def plain(self, model, *names):
        return plain_logits(self.base, plain_weights(model, *names), self.inputs)

    def test_several_adapters_in_the_order_of_activation(self):
        for second in (dict(r=2), dict(r=(2, 4), scaled=True), dict(r=(0, 2)), dict(r=(2, 0))):
            with self.subTest(**second):
                model = self.two(**second)
                for names in (["default"], ["second"], ["default", "second"], ["second", "default"]):
                    model.base_model.set_adapter(names)
                    self.assertModelsClose(logits(model, self.inputs), self.plain(model, *names), model)

    def test_several_adapters_train_at_once(self):
        model = self.two(r=2, scaled=True)
        model.base_model.set_adapter(["default", "second"])
        trained = [a for a in model.parameters() if a.requires_grad]
        ours, plain = logits(model, self.inputs), self.plain(model, "default", "second")
        ours, plain = (torch.autograd.grad(y.square().sum(), trained) for y in (ours, plain))
        scale = torch.cat([a.flatten() for a in plain]).norm()
        for a, b in zip(ours, plain):
            self.assertModelsClose(a, b, model, scale)

    def test_only_the_active_adapter_trains(self):
        model = self.two()
        for name in ("second", "default"):
            model.set_adapter(name)
            trained = [key for key, a in model.named_parameters() if a.requires_grad]
            self.assertTrue(trained)
            self.assertTrue(all(key.endswith(name) for key in trained))

    def test_several_adapters_merge_in_order(self):
        model = self.two(scaled=True)
        before = {name: matrix(layer.base_layer) for name, layer in layers(model).items()}
        expected = self.plain(model, "second", "default")
        with quiet():
            model.merge_adapter(["second", "default"])
        self.assertModelsClose(logits(model, self.inputs), expected, model)
        model.unmerge_adapter()
        for name, layer in layers(model).items():
            self.assertClose(matrix(layer.base_layer), before[name], 3 * before[name].norm(), 24)

    def test_unmerges_what_was_merged(self):
        """Whatever has become of the adapter since."""
        model = self.two()
        before = {name: matrix(layer.base_layer) for name, layer in layers(model).items()}
        model.merge_adapter()
        with torch.no_grad():
            for parameter in (a for name, a in model.named_parameters() if ".hoft_" in name):
                parameter.normal_()
        model.unmerge_adapter()
        for name, layer in layers(model).items():
            self.assertClose(matrix(layer.base_layer), before[name], before[name].norm(), 12)

    def test_deletes_an_adapter(self):
        model = self.two()
        expected = self.plain(model, "default")
        with quiet():
            model.delete_adapter("second")
        self.assertFalse([name for name, _ in model.named_parameters() if "second" in name])
        self.assertModelsClose(logits(model, self.inputs), expected, model)

    def test_loads_beside_another(self):
        model = self.two()
        with tempfile.TemporaryDirectory() as directory, quiet(), torch.no_grad():
            model.save_pretrained(directory)
            again = PeftModel.from_pretrained(copy.deepcopy(self.base), directory)
            again.load_adapter(directory + "/second", "other")
            again.set_adapter("other")
            model.set_adapter("second")
            self.assertTrue(torch.equal(logits(again, self.inputs), logits(model, self.inputs)))

    def test_saves_modules_and_trains_them(self):
        model = adapt(self.base, self.config(modules_to_save=["classifier"]))
        trained = {name for name, a in model.named_parameters() if a.requires_grad}
        self.assertTrue(any("classifier" in name for name in trained))
        with torch.no_grad():
            model.base_model.model.classifier.modules_to_save["default"].weight.normal_()
            with tempfile.TemporaryDirectory() as directory, quiet():
                model.save_pretrained(directory)
                again = PeftModel.from_pretrained(copy.deepcopy(self.base), directory)
            self.assertTrue(torch.equal(logits(again, self.inputs), logits(model, self.inputs)))

    def test_loads_by_itself(self):
        """AutoPeftModel: base and adapter from one directory's name."""
        with tempfile.TemporaryDirectory() as directory, quiet(), torch.no_grad():
            self.base.save_pretrained(directory + "/base")
            base = transformers.AutoModelForSequenceClassification.from_pretrained(
                directory + "/base", dtype=torch.float64
            )
            model = adapt(base, self.config(task_type="SEQ_CLS"))
            model.save_pretrained(directory + "/adapter")
            again = peft.AutoPeftModelForSequenceClassification.from_pretrained(
                directory + "/adapter", dtype=torch.float64
            )
            self.assertTrue(torch.equal(logits(again, self.inputs), logits(model, self.inputs)))

    def test_ranks_by_layer(self):
        config = self.config(r=(4, 2), rank_pattern={"query": 2, r"layer\.1\.output\.dense": (0, 6)})
        shapes = {}
        for name, layer in layers(adapt(self.base, config)).items():
            u, v, _ = layer.factors("default")
            shapes[name.replace("base_model.model.bert.encoder.", "")] = len(u), len(v)
        self.assertEqual(shapes["layer.0.attention.self.query"], (2, 2))
        self.assertEqual(shapes["layer.1.output.dense"], (0, 6))
        self.assertEqual(shapes["layer.0.output.dense"], (4, 2))

    def test_chooses_layers(self):
        for options, wanted in (
            (dict(exclude_modules=["dense"]), lambda name: name.endswith("query")),
            (dict(layers_to_transform=[1]), lambda name: ".layer.1." in name),
            (dict(target_modules=r".*layer\.0\.attention.*(query|value)"), lambda name: ".layer.0.attention." in name),
        ):
            with self.subTest(**options):
                names = list(layers(adapt(self.base, self.config(**options))))
                self.assertTrue(names)
                self.assertTrue(all(map(wanted, names)), names)

    def test_trains_biases(self):
        model = adapt(self.base, self.config(bias="hoft_only", scaled=True))
        biases = [layer.base_layer.bias for layer in layers(model).values()]
        self.assertTrue(all(bias.requires_grad for bias in biases))
        logits(model, self.inputs).sum().backward()
        for bias in biases:
            self.assertIsNotNone(bias.grad)

    def test_gives_parameters_their_type(self):
        base, inputs = make("BERT", torch.bfloat16)
        for options, dtype in (({}, torch.float32), ({"autocast_adapter_dtype": False}, torch.bfloat16)):
            model = adapt(base, self.config(scaled=True), **options)
            loss(model, inputs).backward()
            for name, parameter in model.named_parameters():
                if ".hoft_" in name:
                    self.assertEqual((parameter.dtype, parameter.grad.dtype), (dtype, dtype))
            self.assertEqual(logits(model, inputs).dtype, torch.bfloat16)

    def test_leaves_out_pairs_in_training_alone(self):
        model = adapt(self.base, self.config(dropout=0.5, init_weights=True))
        for layer in layers(model).values():
            self.assertFalse(layer.training)  # as its base
            layer.train()
        # Pairs cancel, whichever are left out.
        self.assertModelsClose(logits(model, self.inputs), logits(self.base, self.inputs), model)
        model = adapt(self.base, self.config(dropout=0.5))
        self.assertModelsClose(logits(model, self.inputs), self.plain(model, "default"), model)
        layer = next(iter(layers(model).values())).train()
        for _ in range(20):
            (u, v, _), (dropped_u, dropped_v, _) = layer.factors("default"), layer._with_dropout("default")
            for whole, dropped in ((u, dropped_u), (v, dropped_v)):
                for pair, left in zip(whole.split(2), dropped.split(2)):
                    self.assertTrue(torch.equal(left, pair) or not left.any())

    def test_broken_adapters_are_not_merged(self):
        model = adapt(self.base, self.config())
        layer = list(layers(model).values())[0]
        before = matrix(layer.base_layer)
        with torch.no_grad():
            layer.hoft_u["default"][0, 0] = float("nan")
        for safe in (True, False):
            with self.assertRaisesRegex(ValueError, "finite.*adapter 'default'"):
                model.merge_adapter(safe_merge=safe)
            self.assertTrue(torch.equal(matrix(layer.base_layer), before))
            self.assertFalse(layer.merged)

    def test_delta_is_the_difference(self):
        layer = list(layers(adapt(self.base, self.config(scaled=True))).values())[0]
        u, v, s = layer.factors("default")
        weight = matrix(layer.base_layer)
        self.assertClose(layer.get_delta_weight("default"), adapted(weight, u, v, s).detach() - weight, 3 * weight.norm(), 12)

    def test_converts_to_lora_as_peft_does(self):
        """By singular values, of which left + right are enough for HOFT."""
        base, inputs = make("GPT-2")
        model = adapt(base, self.config(r=2, target_modules="all-linear"))
        config, state = peft.convert_to_lora(model, rank=4)
        lora = adapt(base, config)
        peft.set_peft_model_state_dict(lora, {key: a.double() for key, a in state.items()})
        expected = logits(model, inputs)
        # PEFT takes singular values in float.
        self.assertModelsClose(logits(lora, inputs).float(), expected.float(), model)

    def test_compiles_into_one_graph(self):
        base, inputs = make("BERT", torch.float32)
        model = adapt(base, self.config(scaled=True))
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        trained = [a for a in model.parameters() if a.requires_grad]
        results = []
        for called in (model, compiled):
            y = logits(called, inputs)
            results.append((y, *torch.autograd.grad(y.square().sum(), trained)))
        scale = torch.cat([a.detach().flatten() for a in results[0]]).norm()
        for a, b in zip(*results):
            self.assertModelsClose(a, b, model, scale)

    def test_modules_that_multiply_themselves_see_the_adapted_weight(self):
        """As torch.nn.TransformerEncoderLayer does with its layers, and its attention with out_proj."""
        layer = torch.nn.TransformerEncoderLayer(16, 2, 24, 0.0, batch_first=True).double().eval().requires_grad_(False)
        x = torch.randn(2, 5, 16, dtype=torch.float64)
        for names in (["default"], ["default", "second"]):
            model = adapt(layer, self.config(target_modules=["out_proj", "linear1", "linear2"], scaled=True))
            with quiet():
                model.add_adapter("second", self.config(target_modules=["out_proj", "linear1"], r=2, scaled=True))
            model.base_model.set_adapter(names)
            plain = torch.func.functional_call(layer, plain_weights(model, *names), (x,))
            self.assertModelsClose(model(x), plain, model)
            with torch.no_grad():
                self.assertModelsClose(model(x), plain, model)
            trained = [a for a in model.parameters() if a.requires_grad]
            cotangent = torch.randn_like(plain)
            ours, expected = (torch.autograd.grad(y, trained, cotangent) for y in (model(x), plain))
            scale = torch.cat([a.flatten() for a in expected]).norm()
            for a, b in zip(ours, expected):
                self.assertModelsClose(a, b, model, scale)
            with model.disable_adapter(), torch.no_grad():
                self.assertClose(model(x), layer(x), x.norm(), 12)

    def test_tied_weights_are_warned_of(self):
        base, _ = make("T5")
        with self.assertWarnsRegex(UserWarning, "tie_word_embeddings"):
            model = peft.get_peft_model(base, self.config(target_modules=["lm_head"]))
        with self.assertWarnsRegex(UserWarning, "tie_word_embeddings"):
            model.merge_adapter()

    def test_batches_of_several_adapters_are_refused(self):
        with self.assertRaisesRegex(ValueError, "adapter_names"):
            self.two()(**self.inputs, adapter_names=["default", "second"])

    def test_only_linear_layers(self):
        with self.assertRaisesRegex(TypeError, "word_embeddings is a Embedding, must be a linear layer"):
            adapt(self.base, self.config(target_modules=["word_embeddings"]))

    def test_configurations(self):
        for options, message in (
            (dict(r=3), "r is 3, must be an even number"),
            (dict(r=(2, 4, 6)), "r is .2, 4, 6."),
            (dict(r=0), "r is 0"),
            (dict(r=(0, 0)), "one at least 2"),
            (dict(r=-2), "r is -2"),
            (dict(r="8"), "r is '8'"),
            (dict(rank_pattern={"query": 1}), "rank_pattern.'query'. is 1"),
            (dict(dropout=1.0), "dropout is 1.0"),
            (dict(init_std=0.0), "init_std is 0.0"),
            (dict(bias="some"), "bias is 'some'"),
            (dict(target_modules="all-linear", layers_to_transform=[1]), "layers_to_transform is given"),
            (dict(layers_pattern="layer"), "needs layers_to_transform"),
        ):
            with self.subTest(**options), self.assertRaisesRegex(ValueError, f"HoftConfig: .*{message}"):
                HoftConfig(**options)
        config = self.config(r=(4, 2), rank_pattern={"query": (0, 2)})
        again = pickle.loads(pickle.dumps(config))
        self.assertEqual(again, config)
        self.assertIs(again.peft_type, peft.PeftType.HOFT)


if __name__ == "__main__":
    unittest.main()
