# SPDX-License-Identifier: BSD-3-Clause
"""HOFT and SHOFT as a method of PEFT: formulas in plain PyTorch and PEFT itself judge."""

import copy
import pickle
import tempfile
import unittest

import torch
import tiny
from common import adapted
from tiny import ModelCase, needs_peft, quiet

if tiny.MISSING is None:
    import peft
    import transformers
    from hoft_torch.peft import HoftConfig
    from peft import PeftModel


@needs_peft
class Adapters(ModelCase):
    """What PEFT does with adapters, on BERT."""

    def setUp(self):
        super().setUp()
        self.base, self.inputs = tiny.make("BERT")

    def config(self, **options):
        return HoftConfig(**{"target_modules": ["query", "dense"], "r": 4, "init_weights": False, **options})

    def two(self, **second):
        model = tiny.adapt(self.base, self.config())
        with quiet():
            model.add_adapter("second", self.config(**second))
        return model

    def plain(self, model, *names):
        return tiny.plain_logits(self.base, tiny.plain_weights(model, *names), self.inputs)

    def test_several_adapters_in_the_order_of_activation(self):
        for second in (dict(r=2), dict(r=(2, 4), scaled=True), dict(r=(0, 2)), dict(r=(2, 0))):
            with self.subTest(**second):
                model = self.two(**second)
                for names in (["default"], ["second"], ["default", "second"], ["second", "default"]):
                    model.base_model.set_adapter(names)
                    self.assertModelsClose(tiny.logits(model, self.inputs), self.plain(model, *names), model)

    def test_several_adapters_and_a_large_bias(self):
        """The bias goes through no adapter, and outputs stay in the type of the model."""
        base = torch.nn.Sequential(torch.nn.Linear(64, 8))
        with torch.no_grad():
            base[0].bias.zero_()
            base[0].bias[7] = 1e5
        model = tiny.adapt(base.bfloat16(), self.config(target_modules=["0"]), autocast_adapter_dtype=False)
        with quiet():
            model.add_adapter("second", self.config(target_modules=["0"], scaled=True), autocast_adapter_dtype=False)
        model.base_model.set_adapter(["default", "second"])
        layer, x = model.base_model.model[0], torch.randn(40, 64).bfloat16()
        weight = tiny.matrix(layer.base_layer).double()
        for name in ("default", "second"):
            weight = adapted(weight, *(None if a is None else a.double() for a in layer.factors(name)))
        got, expected = model(x), x.double() @ weight.t()
        others = list(range(7))
        self.assertEqual(got.dtype, torch.bfloat16)
        # M x, what each adapter makes of it, and the scaled rows between them are rounded once each; s stays below 2.
        error = (got.double() - expected)[:, others].norm() / expected[:, others].norm()
        self.assertLessEqual(error.item(), 2 * 4 * 2**-9)

    def test_several_adapters_train_at_once(self):
        model = self.two(r=2, scaled=True)
        model.base_model.set_adapter(["default", "second"])
        got, expected = tiny.logits(model, self.inputs), self.plain(model, "default", "second")
        self.assertModelGradientsClose(got, expected, model)

    def test_only_the_active_adapter_trains(self):
        model = self.two()
        for name in ("second", "default"):
            model.set_adapter(name)
            trained = [key for key, a in model.named_parameters() if a.requires_grad]
            self.assertTrue(trained)
            self.assertTrue(all(key.endswith(name) for key in trained))

    def test_several_adapters_merge_in_order(self):
        model = self.two(scaled=True)
        before = tiny.matrices(model)
        expected = self.plain(model, "second", "default")
        with quiet():
            model.merge_adapter(["second", "default"])
        self.assertModelsClose(tiny.logits(model, self.inputs), expected, model)
        model.unmerge_adapter()
        for name, layer in tiny.layers(model).items():
            self.assertClose(tiny.matrix(layer.base_layer), before[name], 3 * before[name].norm(), 24)

    def test_unmerges_what_was_merged(self):
        """Whatever has become of the adapter since."""
        model = self.two()
        before = tiny.matrices(model)
        model.merge_adapter()
        with torch.no_grad():
            for parameter in (a for name, a in model.named_parameters() if ".hoft_" in name):
                parameter.normal_()
        model.unmerge_adapter()
        for name, layer in tiny.layers(model).items():
            self.assertClose(tiny.matrix(layer.base_layer), before[name], before[name].norm(), 12)

    def test_deletes_an_adapter(self):
        model = self.two()
        expected = self.plain(model, "default")
        with quiet():
            model.delete_adapter("second")
        self.assertFalse([name for name, _ in model.named_parameters() if "second" in name])
        self.assertModelsClose(tiny.logits(model, self.inputs), expected, model)

    def test_loads_beside_another(self):
        model = self.two()
        with tempfile.TemporaryDirectory() as directory, quiet(), torch.no_grad():
            model.save_pretrained(directory)
            again = PeftModel.from_pretrained(copy.deepcopy(self.base), directory)
            again.load_adapter(directory + "/second", "other")
            again.set_adapter("other")
            model.set_adapter("second")
            self.assertTrue(torch.equal(tiny.logits(again, self.inputs), tiny.logits(model, self.inputs)))

    def test_saves_modules_and_trains_them(self):
        model = tiny.adapt(self.base, self.config(modules_to_save=["classifier"]))
        trained = {name for name, a in model.named_parameters() if a.requires_grad}
        self.assertTrue(any("classifier" in name for name in trained))
        with torch.no_grad():
            model.base_model.model.classifier.modules_to_save["default"].weight.normal_()
            with tempfile.TemporaryDirectory() as directory, quiet():
                model.save_pretrained(directory)
                again = PeftModel.from_pretrained(copy.deepcopy(self.base), directory)
            self.assertTrue(torch.equal(tiny.logits(again, self.inputs), tiny.logits(model, self.inputs)))

    def test_loads_by_itself(self):
        """AutoPeftModel: base and adapter from one directory's name."""
        with tempfile.TemporaryDirectory() as directory, quiet(), torch.no_grad():
            self.base.save_pretrained(directory + "/base")
            base = transformers.AutoModelForSequenceClassification.from_pretrained(
                directory + "/base", dtype=torch.float64
            )
            model = tiny.adapt(base, self.config(task_type="SEQ_CLS"))
            model.save_pretrained(directory + "/adapter")
            again = peft.AutoPeftModelForSequenceClassification.from_pretrained(
                directory + "/adapter", dtype=torch.float64
            )
            # PyTorch's products of the base depend on where its weights were loaded, in their last bits.
            torch.testing.assert_close(
                tiny.logits(again, self.inputs), tiny.logits(model, self.inputs), rtol=1e-12, atol=1e-12
            )

    def test_ranks_by_layer(self):
        config = self.config(r=(4, 2), rank_pattern={"query": 2, r"layer\.1\.output\.dense": (0, 6)})
        shapes = {}
        for name, layer in tiny.layers(tiny.adapt(self.base, config)).items():
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
                names = list(tiny.layers(tiny.adapt(self.base, self.config(**options))))
                self.assertTrue(names)
                self.assertTrue(all(map(wanted, names)), names)

    def test_trains_biases(self):
        model = tiny.adapt(self.base, self.config(bias="hoft_only", scaled=True))
        biases = [layer.base_layer.bias for layer in tiny.layers(model).values()]
        self.assertTrue(all(bias.requires_grad for bias in biases))
        tiny.logits(model, self.inputs).sum().backward()
        for bias in biases:
            self.assertIsNotNone(bias.grad)

    def test_gives_parameters_their_type(self):
        base, inputs = tiny.make("BERT", torch.bfloat16)
        for options, dtype in (({}, torch.float32), ({"autocast_adapter_dtype": False}, torch.bfloat16)):
            model = tiny.adapt(base, self.config(scaled=True), **options)
            tiny.loss(model, inputs).backward()
            for name, parameter in model.named_parameters():
                if ".hoft_" in name:
                    self.assertEqual((parameter.dtype, parameter.grad.dtype), (dtype, dtype))
            self.assertEqual(tiny.logits(model, inputs).dtype, torch.bfloat16)

    def test_leaves_out_pairs_in_training_alone(self):
        model = tiny.adapt(self.base, self.config(dropout=0.5, init_weights=True))
        for layer in tiny.layers(model).values():
            self.assertFalse(layer.training)  # as its base
            layer.train()
        # Pairs cancel, whichever are left out.
        self.assertModelsClose(tiny.logits(model, self.inputs), tiny.logits(self.base, self.inputs), model)
        model = tiny.adapt(self.base, self.config(dropout=0.5))
        self.assertModelsClose(tiny.logits(model, self.inputs), self.plain(model, "default"), model)
        layer = next(iter(tiny.layers(model).values())).train()
        for _ in range(20):
            (u, v, _), (dropped_u, dropped_v, _) = layer.factors("default"), layer._with_dropout("default")
            for whole, dropped in ((u, dropped_u), (v, dropped_v)):
                for pair, left in zip(whole.split(2), dropped.split(2)):
                    self.assertTrue(torch.equal(left, pair) or not left.any())

    def test_leaves_out_others_in_each_call(self):
        """What a layer keeps between calls is not that of the pairs that were left out before."""
        model = tiny.adapt(self.base, self.config(r=16, dropout=0.5))
        layer, x = next(iter(tiny.layers(model).values())).train(), torch.randn(5, 16, dtype=torch.float64)
        self.assertFalse(torch.equal(layer(x), layer(x)))  # equal once in 2¹⁶ draws

    def test_files_of_the_other_method(self):
        """PEFT loads with strict=False, which would drop scales, or leave them, in silence."""
        models = [tiny.adapt(self.base, self.config(scaled=scaled)) for scaled in (False, True)]
        for model, other, has in zip(models, models[::-1], ("scales", "no scales")):
            with tempfile.TemporaryDirectory() as folder:
                other.save_pretrained(folder)
                with self.assertRaisesRegex(RuntimeError, f"HoftLayer .*query, adapter 'default': the file has {has} "):
                    model.load_adapter(folder, "default")

    def test_parameters_stay_float(self):
        model = tiny.adapt(self.base.float(), self.config(scaled=True)).to(torch.bfloat16)
        for layer in tiny.layers(model).values():
            self.assertEqual(layer.base_layer.weight.dtype, torch.bfloat16)
            self.assertEqual({a.dtype for a in layer.factors("default")}, {torch.float32})

    def test_scales_near_one_in_16_bits(self):
        """Of which 1 + d in bfloat16 would make 1."""
        layer = next(iter(tiny.layers(tiny.adapt(self.base, self.config(scaled=True))).values()))
        layer.hoft_d["default"].data = torch.full((layer.out_features,), 2.0**-10).bfloat16()
        s = layer.factors("default")[2]
        self.assertTrue(bool((s.double() == 1 + 2.0**-10).all()))

    def test_unmerges_in_another_type(self):
        model = tiny.adapt(self.base.float(), self.config())
        before = tiny.matrices(model)
        with quiet():
            model.merge_adapter()
        model.double().unmerge_adapter()
        for name, layer in tiny.layers(model).items():
            # The weight was rounded to float when it was merged.
            error = (tiny.matrix(layer.base_layer) - before[name].double()).norm()
            self.assertLess(error, 16 * 2**-24 * before[name].double().norm())

    def test_broken_adapters_are_not_merged(self):
        model = tiny.adapt(self.base, self.config())
        layer = list(tiny.layers(model).values())[0]
        before = tiny.matrix(layer.base_layer)
        with torch.no_grad():
            layer.hoft_u["default"][0, 0] = float("nan")
        for safe in (True, False):
            with self.assertRaisesRegex(ValueError, "finite.*adapter 'default'"):
                model.merge_adapter(safe_merge=safe)
            self.assertTrue(torch.equal(tiny.matrix(layer.base_layer), before))
            self.assertFalse(layer.merged)

    def test_delta_is_the_difference(self):
        layer = list(tiny.layers(tiny.adapt(self.base, self.config(scaled=True))).values())[0]
        u, v, s = layer.factors("default")
        weight = tiny.matrix(layer.base_layer)
        self.assertClose(layer.get_delta_weight("default"), adapted(weight, u, v, s).detach() - weight, 3 * weight.norm(), 12)

    def test_converts_to_lora_as_peft_does(self):
        """By singular values, of which left + right are enough for HOFT."""
        base, inputs = tiny.make("GPT-2")
        model = tiny.adapt(base, self.config(r=2, target_modules="all-linear"))
        config, state = peft.convert_to_lora(model, rank=4)
        lora = tiny.adapt(base, config)
        peft.set_peft_model_state_dict(lora, {key: a.double() for key, a in state.items()})
        expected = tiny.logits(model, inputs)
        # PEFT takes singular values in float.
        self.assertModelsClose(tiny.logits(lora, inputs).float(), expected.float(), model)

    def test_compiles_into_one_graph(self):
        base, inputs = tiny.make("BERT", torch.float32)
        model = tiny.adapt(base, self.config(scaled=True))
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        expected, got = tiny.logits(model, inputs), tiny.logits(compiled, inputs)
        self.assertModelsClose(got, expected, model)
        self.assertModelGradientsClose(got, expected, model)

    def test_modules_that_multiply_themselves_see_the_adapted_weight(self):
        """As torch.nn.TransformerEncoderLayer does with its layers, and its attention with out_proj."""
        layer = torch.nn.TransformerEncoderLayer(16, 2, 24, 0.0, batch_first=True).double().eval().requires_grad_(False)
        x = torch.randn(2, 5, 16, dtype=torch.float64)
        for names in (["default"], ["default", "second"]):
            model = tiny.adapt(layer, self.config(target_modules=["out_proj", "linear1", "linear2"], scaled=True))
            with quiet():
                model.add_adapter("second", self.config(target_modules=["out_proj", "linear1"], r=2, scaled=True))
            model.base_model.set_adapter(names)
            plain = torch.func.functional_call(layer, tiny.plain_weights(model, *names), (x,))
            self.assertModelsClose(model(x), plain, model)
            with torch.no_grad():
                self.assertModelsClose(model(x), plain, model)
            self.assertModelGradientsClose(model(x), plain, model)
            with model.disable_adapter(), torch.no_grad():
                self.assertClose(model(x), layer(x), x.norm(), 12)

    def test_tied_weights_are_warned_of(self):
        base, _ = tiny.make("T5")
        with self.assertWarnsRegex(UserWarning, "tie_word_embeddings"):
            model = peft.get_peft_model(base, self.config(target_modules=["lm_head"]))
        with self.assertWarnsRegex(UserWarning, "tie_word_embeddings"):
            model.merge_adapter()

    def test_batches_of_several_adapters_are_refused(self):
        with self.assertRaisesRegex(ValueError, "adapter_names"):
            self.two()(**self.inputs, adapter_names=["default", "second"])

    def test_only_linear_layers(self):
        with self.assertRaisesRegex(TypeError, "word_embeddings cannot be adapted: .* an Embedding, .* must be a linear layer"):
            tiny.adapt(self.base, self.config(target_modules=["word_embeddings"]))

    def test_more_reflectors_than_features(self):
        with self.assertWarnsRegex(UserWarning, "20 reflectors on the right, where 16 features need 16 at most"):
            peft.get_peft_model(self.base, self.config(target_modules=["query"], r=(16, 20)))

    def test_configurations(self):
        for options, message in (
            (dict(r=3), "r is 3, must be an even number of at least 2, .* since reflectors begin in pairs"),
            (dict(r=(2, 4, 6)), "r is .2, 4, 6."),
            (dict(r=0), "r is 0"),
            (dict(r=(0, 0)), "one is at least 2"),
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
        for name, said in (("lora_alpha", "no factor beside the learning rate"), ("lora_dropout", "called dropout here")):
            with self.assertRaisesRegex(TypeError, f"HoftConfig got an unexpected keyword argument '{name}': .*{said}"):
                HoftConfig(r=4, **{name: 0.1})
        config = self.config(r=(4, 2), rank_pattern={"query": (0, 2)})
        again = pickle.loads(pickle.dumps(config))
        self.assertEqual(again, config)
        self.assertIs(again.peft_type, peft.PeftType.HOFT)


if __name__ == "__main__":
    unittest.main()
