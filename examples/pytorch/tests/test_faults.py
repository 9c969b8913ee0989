# SPDX-License-Identifier: BSD-3-Clause
"""What once went wrong without a word: each of these is right now, or refused by name."""

import copy
import importlib.util
import io
import itertools
import unittest
import warnings

import numpy
import torch

from common import DOUBLE, Case, Quantised, adapted, randomise
from hoft_torch import HOFTLinear, unwrap, wrap

EPS = torch.finfo(torch.bfloat16).eps


def adapted_weight(layer):
    """In double, by plain PyTorch; before the layer is merged."""
    return adapted(*(None if a is None else a.detach().double() for a in (layer.base.weight, layer.u, layer.v, layer.s)))


class Merging(Case):
    def test_a_square_weight_stored_transposed(self):
        """loralib's fan_in_fan_out: which of the two it is shows in what the base does."""

        class Stored(torch.nn.Linear):
            def forward(self, x):
                return torch.nn.functional.linear(x, self.weight.t(), self.bias)

        bases = [Stored(8, 8)]
        if importlib.util.find_spec("loralib"):
            import loralib

            bases += [loralib.Linear(8, 8, r=0, fan_in_fan_out=True), loralib.Linear(8, 6, r=0, fan_in_fan_out=True)]
        for base in bases:
            layer, x = randomise(HOFTLinear(base, 4, scaled=True)), torch.randn(5, 8)
            before, weight = layer(x).detach(), base.weight.clone()
            layer.merge()
            self.assertClose(layer(x), before, 2 * before.norm(), 12)
            layer.unmerge()
            self.assertClose(base.weight.detach(), weight, 4 * weight.norm(), 12)

    def test_a_symmetric_weight_does_not_tell(self):
        class Stored(torch.nn.Linear):
            def forward(self, x):
                return torch.nn.functional.linear(x, self.weight.t(), self.bias)

        for kind in (Stored, torch.nn.Linear):
            base = kind(8, 8)
            with torch.no_grad():
                base.weight.copy_(base.weight + base.weight.t())
            layer, x = randomise(HOFTLinear(base, 4)), torch.randn(5, 8)
            before = layer(x).detach()
            if kind is Stored:
                with self.assertRaisesRegex(TypeError, "whether a Stored stores W or Wᵀ cannot be told"):
                    layer.merge()
            else:  # the type is known
                layer.merge()
            self.assertClose(layer(x).detach(), before, 2 * before.norm(), 12)

    def test_a_linear_that_uses_its_weight_in_another_way(self):
        class Binary(torch.nn.Linear):
            def forward(self, x):
                return torch.nn.functional.linear(x, self.weight.sign(), self.bias)

        class Scaled(torch.nn.Linear):
            def forward(self, x):
                return 1.01 * super().forward(x)

        for kind in (Binary, Scaled):
            layer, x = randomise(HOFTLinear(kind(10, 7), 4)), torch.randn(5, 10)
            before = layer(x)
            with self.assertRaisesRegex(TypeError, f"merge: a {kind.__name__} does something else with its weight"):
                layer.merge()
            self.assertTrue(torch.equal(layer(x), before))

    def test_a_tied_weight(self):
        head, embedding = torch.nn.Linear(6, 10, bias=False), torch.nn.Embedding(10, 6)
        head.weight = embedding.weight
        with self.assertWarnsRegex(UserWarning, "weight of the base belongs to another module as well"):
            layer = randomise(HOFTLinear(head, 4))
        before = embedding.weight.clone()
        with self.assertRaisesRegex(RuntimeError, "the weight belongs to another module as well"):
            layer.merge()
        self.assertTrue(torch.equal(embedding.weight, before))
        head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)
        layer.merge()
        self.assertTrue(torch.equal(embedding.weight, before))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            free = torch.nn.Linear(6, 10)
            optimiser = torch.optim.SGD(free.parameters(), lr=1)  # holds them, but is no module
            HOFTLinear(free, 4).merge()
            self.assertEqual(len(optimiser.param_groups[0]["params"]), 2)

    def test_not_a_number_is_found_before_anything_is_written(self):
        for name in "uvd":
            layer = randomise(HOFTLinear(torch.nn.Linear(10, 7), 4, scaled=True))
            before = layer.base.weight.clone()
            with torch.no_grad():
                getattr(layer, name).view(-1)[3] = float("nan")
            with self.assertRaisesRegex(ValueError, "1 of .* are not finite; nothing was written"):
                layer.merge()
            self.assertFalse(layer.merged)
            self.assertTrue(torch.equal(layer.base.weight, before))
        layer = randomise(HOFTLinear(torch.nn.Linear(10, 7).half(), 4, scaled=True))
        with torch.no_grad():
            layer.d.fill_(1e6)  # the product is too large for the weight's type
        with self.assertRaisesRegex(ValueError, "the adapted weight are not finite"):
            layer.merge()

    def test_a_zero_scale(self):
        layer = randomise(HOFTLinear(torch.nn.Linear(10, 7), 4, scaled=True))
        with torch.no_grad():
            layer.d[3] = -1
        with self.assertWarnsRegex(UserWarning, "1 of 7 elements of s are 0"):
            layer.merge()
        merged = layer.base.weight.clone()
        with self.assertRaisesRegex(ValueError, "1 of 7 elements of s are 0"):
            layer.unmerge()
        self.assertTrue(torch.equal(layer.base.weight, merged))
        self.assertTrue(layer.merged)

    def test_quantised_weights_say_what_to_do(self):
        layer = HOFTLinear(Quantised(torch.nn.Linear(10, 7)), 4)
        with self.assertRaisesRegex(TypeError, "no plain matrix.*torch.int8.*put a torch.nn.Linear"):
            layer.merge()
        with self.assertRaisesRegex(TypeError, "is no plain matrix"):
            HOFTLinear(torch.nn.Linear(10, 7, device="meta"), 4).merge()


class State(Case):
    def layer(self, scaled=True):
        torch.manual_seed(5)  # the same base each time
        base = torch.nn.Linear(10, 7)
        torch.manual_seed(6 + scaled)
        return randomise(HOFTLinear(base, 4, scaled))

    def test_a_file_of_the_adapter_alone(self):
        """Saved merged, loaded on a fresh base: the adapter's output."""
        layer, x = self.layer(), torch.randn(5, 10)
        expected = layer(x).detach()
        layer.merge()
        adapter = {name: a for name, a in layer.state_dict().items() if not name.startswith("base.")}
        fresh = self.layer()
        with torch.no_grad():
            fresh.u.normal_()
        fresh.load_state_dict(adapter, strict=False)
        self.assertFalse(fresh.merged)
        self.assertClose(fresh(x).detach(), expected, expected.norm(), 12)
        # Onto a layer whose weight holds another adapter, merged or not itself.
        for flag in (False, True):
            merged = self.layer()
            merged.merge()
            before = merged(x)
            with self.assertRaisesRegex(RuntimeError, "the layer is merged, and the file has u, v or d without a weight"):
                merged.load_state_dict({**adapter, "_extra_state": torch.tensor(flag)}, strict=False)
            self.assertTrue(torch.equal(merged(x), before))

    def test_a_bias_is_no_weight(self):
        """What a file says of its weight is not believed where the bias alone came with the adapter."""
        layer, x = self.layer(), torch.randn(5, 10)
        expected = layer(x).detach()
        unmerged = {name: a.clone() for name, a in layer.state_dict().items() if name != "base.weight"}
        merged = {name: a for name, a in layer.merge().state_dict().items() if name != "base.weight"}
        fresh = self.layer()
        fresh.load_state_dict(merged, strict=False)
        self.assertFalse(fresh.merged)
        self.assertClose(fresh(x).detach(), expected, expected.norm(), 12)
        for state in (merged, unmerged):
            with self.assertRaisesRegex(RuntimeError, "the layer is merged, and the file has u, v or d"):
                layer.load_state_dict(state, strict=False)
        layer.load_state_dict({"base.bias": layer.base.bias + 1}, strict=False)
        self.assertTrue(layer.merged)
        self.assertClose(layer(x).detach(), expected + 1, expected.norm(), 12)

    def test_a_weight_that_is_read_into_the_base_alone(self):
        """The layer does not go on to call it merged."""
        x, plain = torch.randn(5, 10), self.layer()
        state = {name: a.clone() for name, a in plain.base.state_dict().items()}
        expected = plain(x).detach()
        for copied in (False, True):
            layer = self.layer().merge()
            layer = copy.deepcopy(layer) if copied else layer
            layer.base.load_state_dict({"bias": state["bias"]}, strict=False)
            self.assertTrue(layer.merged)
            whole = torch.nn.ModuleDict({"layer": layer, "head": torch.nn.Linear(2, 2)})
            whole.load_state_dict({"head.bias": torch.ones(2)}, strict=False)
            self.assertTrue(layer.merged)
            layer.base.load_state_dict(state)
            self.assertFalse(layer.merged)
            self.assertTrue(torch.equal(layer(x), expected))
            again = self.layer().merge()
            layer.load_state_dict(again.state_dict())
            self.assertTrue(layer.merged)
            self.assertTrue(torch.equal(layer(x), again(x)))
            layer.base.load_state_dict(state)
            self.assertFalse(layer.merged)

    def test_whole_files_between_merged_and_unmerged(self):
        x = torch.randn(5, 10)
        for first in (False, True):
            for second in (False, True):
                layer, other = self.layer(), self.layer()
                with torch.no_grad():
                    other.u.normal_(), other.base.weight.normal_()
                expected = layer(x).detach()
                if first:
                    layer.merge()
                if second:
                    other.merge()
                other.load_state_dict(layer.state_dict())
                self.assertEqual(other.merged, first)
                self.assertClose(other(x).detach(), expected, 2 * expected.norm(), 12)
                if first:
                    other.unmerge()
                    self.assertClose(other.base.weight.detach(), self.layer().base.weight.detach(), 12, 12)

    def test_a_merged_weight_without_its_adapter(self):
        layer = self.layer().merge()
        weight = {name: a for name, a in layer.state_dict().items() if name not in ("u", "v", "d")}
        with self.assertRaisesRegex(RuntimeError, "a merged weight, but not the u and v"):
            self.layer().load_state_dict(weight, strict=False)

    def test_steps_while_merged(self):
        """Gradients of before are dropped, so optimisers change nothing; what is changed all the same is noticed."""
        layer, x = self.layer(), torch.randn(5, 10)
        weight = layer.base.weight.clone()
        optimiser = torch.optim.AdamW(layer.parameters(), lr=0.1, weight_decay=0.1)
        layer(x).sum().backward()
        layer.merge()
        before = layer(x).detach()
        optimiser.step()
        self.assertTrue(torch.equal(layer(x), before))
        with torch.no_grad():
            layer.u.add_(1)
        for call in (lambda: layer(x), layer.state_dict):
            with self.assertRaisesRegex(RuntimeError, "u has changed since the layer was merged"):
                call()
        layer.u.data.copy_(layer._merged_from[0])
        layer(x)
        layer.u.data[0, 0] += 1  # behind autograd's back
        with self.assertRaisesRegex(RuntimeError, "u has changed since the layer was merged"):
            layer(x)
        layer.unmerge()  # by what was merged
        self.assertClose(layer.base.weight.detach(), weight, 4 * weight.norm(), 12)

    def test_scales_are_not_dropped(self):
        shoft, hoft = self.layer(True), self.layer(False)
        with self.assertRaisesRegex(RuntimeError, "the file has scales d"):
            hoft.load_state_dict(shoft.state_dict(), strict=False)
        with self.assertRaisesRegex(RuntimeError, "the file has no scales d"):
            shoft.load_state_dict(hoft.state_dict(), strict=False)

    @unittest.skipUnless("assign" in torch.nn.Module.load_state_dict.__code__.co_varnames, "this PyTorch has no assign")
    def test_files_of_meta_tensors(self):
        with torch.device("meta"):
            layer = HOFTLinear(torch.nn.Linear(10, 7), 4)
            state = layer.state_dict()
            self.assertFalse(state["_extra_state"].is_meta)
            state = {name: a.to("meta") for name, a in state.items()}
        layer.load_state_dict(state, assign=True)
        self.assertTrue(layer.u.is_meta)
        whole = self.layer(False)
        layer.load_state_dict(whole.state_dict(), assign=True)
        x = torch.randn(5, 10)
        self.assertTrue(torch.equal(layer(x), whole(x)))

    def test_masters_stay_float(self):
        for change in (lambda m: m.to(torch.bfloat16), lambda m: m.half(), lambda m: m.type(torch.bfloat16)):
            layer = self.layer()
            before = [a.detach().clone() for a in (layer.u, layer.v, layer.d)]
            layer(torch.randn(5, 10)).sum().backward()
            model = change(torch.nn.Sequential(layer))
            self.assertIn(layer.base.weight.dtype, (torch.bfloat16, torch.float16))
            for a, b in zip((layer.u, layer.v, layer.d), before):
                self.assertTrue(torch.equal(a, b) and a.dtype == torch.float32)
                self.assertEqual(a.grad.dtype, torch.float32)
            if layer.base.weight.dtype == torch.bfloat16:
                model(torch.randn(5, 10).bfloat16()).float().sum().backward()
        self.assertEqual(self.layer().double().u.dtype, DOUBLE)
        self.assertEqual(self.layer().double().to(torch.bfloat16).u.dtype, torch.float32)
        self.assertTrue(self.layer().to("meta").u.is_meta)

    def test_float_whatever_the_default(self):
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)
        try:
            layers = [HOFTLinear(Quantised(torch.nn.Linear(10, 7)), 4, True), HOFTLinear(torch.nn.Linear(10, 7), 4, True)]
        finally:
            torch.set_default_dtype(default)
        for layer in layers:
            self.assertEqual({a.dtype for a in (layer.u, layer.v, layer.d)}, {torch.float32})


class Values(Case):
    def test_a_large_bias(self):
        """It does not reach other features through Q_U: as exact as the merged weight is."""
        base = torch.nn.Linear(64, 256)
        with torch.no_grad():
            base.bias.zero_()
            base.bias[7] = 1000
        layer = randomise(HOFTLinear(base.bfloat16(), 8))
        x = torch.randn(40, 64).bfloat16()
        expected = torch.nn.functional.linear(x.double(), adapted_weight(layer), base.bias.double())
        merged = copy.deepcopy(layer).merge()
        others = [i for i in range(256) if i != 7]
        error = lambda y: float((y.double() - expected)[:, others].detach().norm() / expected[:, others].norm())
        # M x and y are rounded once each, and so is the merged weight.
        self.assertLessEqual(error(layer(x)), 2 * EPS)
        self.assertLessEqual(error(merged(x)), 2 * EPS)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            self.assertLessEqual(error(layer(x)), 2 * EPS)
        layer.base.register_forward_hook(lambda module, inputs, output: None)
        self.assertLessEqual(error(layer(x)), 2 * EPS)
        layer.base = type("Own", (torch.nn.Linear,), {})(64, 256).bfloat16().requires_grad_(False)
        layer.base.load_state_dict(base.state_dict())
        self.assertLessEqual(error(layer(x)), 2 * EPS)
        self.assertIsNotNone(layer.base.bias)

    def test_x_is_what_is_wrong(self):
        layer = HOFTLinear(torch.nn.Linear(10, 7), 4)
        for error, message, x in (
            (ValueError, "HOFTLinear: the number of features of x is 9, must be 10", torch.randn(3, 9)),
            (TypeError, "HOFTLinear: x is torch.float64, must be float, bfloat16 or half", torch.randn(3, 10).double()),
            (TypeError, "x is torch.bfloat16, the weight of the base torch.float32", torch.randn(3, 10).bfloat16()),
            (TypeError, "HOFTLinear: x is a list, must be a tensor", [1.0] * 10),
        ):
            with self.subTest(message), self.assertRaisesRegex(error, message):
                layer(x)

    def test_ranks_of_any_whole_kind(self):
        base = torch.nn.Linear(10, 7)
        self.assertEqual(len(HOFTLinear(base, numpy.int64(4)).u), 4)
        self.assertEqual(len(HOFTLinear(base, (numpy.int32(2), 4)).u), 2)
        self.assertEqual(len(HOFTLinear(base, torch.tensor(4)).v), 4)
        for rank in (4.0, "4", None, (2, 2.0)):
            with self.assertRaisesRegex(ValueError, "must be a whole number"):
                HOFTLinear(base, rank)
        for std in (0, -1, float("nan"), float("inf")):
            with self.assertRaisesRegex(ValueError, "std is .*, must be positive"):
                HOFTLinear(base, 4, std=std)

    @unittest.skipUnless(hasattr(torch, "float8_e4m3fn"), "this PyTorch has no float8")
    def test_float8(self):
        layer = HOFTLinear(torch.nn.Linear(10, 7).requires_grad_(False).to(torch.float8_e4m3fn), 4)
        self.assertEqual(layer.u.dtype, torch.float32)
        with self.assertRaisesRegex(TypeError, "the weight of the base torch.float8_e4m3fn; they must be the same .*torchao"):
            layer(torch.randn(3, 10))
        with self.assertRaisesRegex(TypeError, "is no plain matrix .Parameter of torch.float8_e4m3fn"):
            layer.merge()

    def test_changed_in_place(self):
        """The output is kept for the backward pass. The message names a way out that needs no change of the model."""
        for make, bias in itertools.product((lambda linear: linear, Quantised), (True, False)):
            layer, x = randomise(HOFTLinear(make(torch.nn.Linear(10, 7, bias=bias)), 4)), torch.randn(5, 10)
            with self.assertRaisesRegex(RuntimeError, "or its output, was changed in place.*output.clone"):
                layer(x).relu_().sum().backward()
            layer(x).relu().sum().backward()
            found, layer.u.grad = layer.u.grad, None
            layer.register_forward_hook(lambda layer, inputs, output: output.clone())
            layer(x).relu_().sum().backward()
            self.assertTrue(torch.equal(found, layer.u.grad))

    def test_a_trained_bias_where_no_output_is_read(self):
        """Without reflectors on the left, or with frozen ones, the gradient of a bias is still the sum of dy."""
        x, g = torch.randn(5, 10), torch.randn(5, 7)
        for make, rank, frozen in itertools.product((lambda linear: linear, Quantised), ((0, 4), (4, 0), 4), (False, True)):
            layer = randomise(HOFTLinear(make(torch.nn.Linear(10, 7)), rank))
            if frozen:
                layer.u.requires_grad_(False), layer.v.requires_grad_(False)
            layer.base.bias.requires_grad_(True)
            layer(x).backward(g)
            self.assertClose(layer.base.bias.grad, g.sum(0), g.norm())

    def test_changed_in_place_where_nobody_reads_it(self):
        """Without reflectors on the left, or with frozen ones, the output is not kept, and may be changed."""
        x = torch.randn(5, 10)
        for rank, scaled in (((0, 4), False), ((0, 4), True), (4, False), (4, True)):
            layer = randomise(HOFTLinear(torch.nn.Linear(10, 7), rank, scaled))
            if rank == 4:
                for a in (layer.u, layer.v, *([layer.d] if scaled else [])):
                    a.requires_grad_(False)
            gradients = []
            for relu in (torch.relu, torch.relu_):
                z = x.clone().requires_grad_()
                relu(layer(z)).square().sum().backward()
                gradients.append([z.grad, *(a.grad for a in (layer.u, layer.v, layer.d) if a is not None and a.grad is not None)])
                layer.zero_grad()
            for a, b in zip(*gradients):
                self.assertTrue(torch.equal(a, b))

    def test_a_bias_that_changes_before_the_backward_pass(self):
        """It is not the layer's output that has changed."""
        for make in (lambda linear: linear, Quantised):
            layer, x = randomise(HOFTLinear(make(torch.nn.Linear(10, 7)), 4)), torch.randn(5, 10)
            layer(x).sum().backward()
            expected, layer.u.grad = layer.u.grad, None
            y = layer(x)
            with torch.no_grad():
                layer.base.bias.add_(100)
            y.sum().backward()
            self.assertTrue(torch.equal(layer.u.grad, expected))

    def test_second_derivatives_by_a_trained_bias(self):
        """A loss that is linear in y has none."""
        linear = torch.nn.Linear(6, 5, dtype=DOUBLE)
        linear.register_forward_hook(lambda *_: None)  # called as a module
        layer, x = randomise(HOFTLinear(linear, 2)), torch.randn(4, 6, dtype=DOUBLE)
        linear.bias.requires_grad_()
        du = torch.autograd.grad((layer(x) * torch.randn(4, 5, dtype=DOUBLE)).sum(), layer.u, create_graph=True)[0]
        (second,) = torch.autograd.grad(du.square().sum(), linear.bias, allow_unused=True)
        self.assertTrue(second is None or second.abs().max() < 1e-12 * du.norm().item() ** 2)

    def test_weight_decay_pulls_scales_to_one(self):
        layer = randomise(HOFTLinear(torch.nn.Linear(10, 7), 4, scaled=True))
        before = (layer.s - 1).abs().max().item()
        optimiser = torch.optim.AdamW([layer.d], lr=0.1, weight_decay=1)
        layer.d.grad = torch.zeros_like(layer.d)
        for _ in range(20):
            optimiser.step()
        self.assertLess((layer.s - 1).abs().max().item(), 0.2 * before)


class Saving(Case):
    def model(self):
        return torch.nn.ModuleDict({"a": torch.nn.Linear(10, 7), "b": torch.nn.Linear(7, 7, bias=False)})

    def test_names_come_back(self):
        for merge in (False, True):
            model, x = self.model(), torch.randn(5, 10)
            names = list(model.state_dict())
            frozen = {name: a.clone() for name, a in model.state_dict().items()}
            layers = wrap(model, 4, ["a", "b"], scaled=True)
            for layer in layers.values():
                randomise(layer)
            expected = model["b"](model["a"](x)).detach() if merge else None
            self.assertIs(unwrap(model, merge), model)
            self.assertEqual(list(model.state_dict()), names)
            self.assertIs(type(model["a"]), torch.nn.Linear)
            self.assertFalse(model["a"]._load_state_dict_pre_hooks)
            self.assertEqual(layers["a"].merged, merge)
            if merge:
                self.assertClose(model["b"](model["a"](x)), expected, 4 * expected.norm() + x.norm(), 24)
            else:
                for name, a in model.state_dict().items():
                    self.assertTrue(torch.equal(a, frozen[name]))

    def test_unwrap_changes_nothing_where_a_layer_cannot_be_merged(self):
        model = self.model()
        wrap(model, 4, ["a", "b"])
        with torch.no_grad():
            model["b"].u[0, 0] = float("nan")
        before = model["a"].base.weight.clone()
        with self.assertRaisesRegex(ValueError, "of u are not finite"):
            unwrap(model)
        self.assertTrue(torch.equal(model["a"].base.weight, before))
        self.assertIs(type(model["a"]), HOFTLinear)

    def test_unwrap_changes_nothing_where_a_product_overflows(self):
        model = self.model().half()
        wrap(model, 4, ["a", "b"], scaled=True)
        with torch.no_grad():
            model["b"].d.fill_(1e6)
        before = model["a"].base.weight.clone()
        randomise(model["a"])
        with self.assertRaisesRegex(ValueError, "the adapted weight are not finite"):
            unwrap(model)
        self.assertTrue(torch.equal(model["a"].base.weight, before))

    @unittest.skipUnless(importlib.util.find_spec("transformers"), "needs transformers")
    def test_save_pretrained(self):
        import tempfile

        import transformers

        config = transformers.BertConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24, vocab_size=50
        )
        model = transformers.BertModel(config).eval()
        layers = wrap(model, 4, ["query", "dense"])
        self.assertEqual(len(layers), 5)
        for layer in layers.values():
            randomise(layer)
        tokens = torch.arange(12).reshape(2, 6)
        expected = model(tokens).last_hidden_state.detach()
        with tempfile.TemporaryDirectory() as folder:
            with self.assertRaisesRegex(RuntimeError, "unwrap"):
                model.save_pretrained(folder)
            stream = io.BytesIO()
            torch.save(model.state_dict(), stream)  # a checkpoint is no such thing
            unwrap(model).save_pretrained(folder)
            again, report = transformers.BertModel.from_pretrained(folder, output_loading_info=True)
        self.assertFalse(report["missing_keys"] or report["unexpected_keys"])
        self.assertClose(again.eval()(tokens).last_hidden_state.detach(), expected, 10 * expected.norm(), 20)


if __name__ == "__main__":
    unittest.main()
