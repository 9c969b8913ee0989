# SPDX-License-Identifier: BSD-3-Clause
"""HOFTLinear around bases of other packages, against their dequantised weights in plain PyTorch; and what it answers to
those that ask it for what a Linear has."""

import concurrent.futures
import copy
import importlib.util
import time
import unittest
import unittest.mock
import warnings

import torch

from common import DOUBLE, Case, adapted, randomise
from hoft_torch import HOFTLinear, unwrap, wrap


def has(*packages):
    return all(importlib.util.find_spec(package) for package in packages)


def dynamic(linear):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao is on its way out
        return torch.quantization.quantize_dynamic(torch.nn.Sequential(linear), {torch.nn.Linear}, torch.qint8)[0]


def eight_bits(linear):
    import bitsandbytes

    base = bitsandbytes.nn.Linear8bitLt(linear.in_features, linear.out_features, linear.bias is not None, False)
    base.load_state_dict(linear.state_dict())
    return base.to("cpu")


def four_bits(linear):
    import bitsandbytes

    base = bitsandbytes.nn.Linear4bit(linear.in_features, linear.out_features, linear.bias is not None, quant_type="nf4")
    base.load_state_dict(linear.state_dict())
    return base.to("cpu")


def torchao(linear, config):
    import torchao.quantization

    model = torch.nn.Sequential(linear)
    torchao.quantization.quantize_(model, getattr(torchao.quantization, config)())
    return model[0]


def conv1d(linear):
    from transformers.pytorch_utils import Conv1D

    base = Conv1D(linear.out_features, linear.in_features)
    base.weight.data.copy_(linear.weight.t())
    base.bias.data.copy_(linear.bias)
    return base


KINDS = {
    "Conv1D": (conv1d, ("transformers",)),
    "bitsandbytes, 8 bit": (eight_bits, ("bitsandbytes",)),
    "bitsandbytes, 4 bit": (four_bits, ("bitsandbytes",)),
    "torchao, int8": (lambda linear: torchao(linear, "Int8WeightOnlyConfig"), ("torchao",)),
    "torchao, float8": (lambda linear: torchao(linear, "Float8WeightOnlyConfig"), ("torchao",)),
}


class Bases(Case):
    def layers(self, scaled=True):
        for name, (make, packages) in KINDS.items():
            if not has(*packages):
                print(f"not tried: {name}, without {packages[0]}")
                continue
            yield randomise(HOFTLinear(make(torch.nn.Linear(64, 32).requires_grad_(False)), 4, scaled))

    def dequantised(self, layer):
        """M [out, in], by what the base makes of the identity: none of these rounds activations to its bits."""
        base = copy.deepcopy(layer.base)
        with torch.no_grad():
            return (base.train()(torch.eye(64).requires_grad_()) - base.bias).t().double()

    def formula(self, layer, x):
        wide = (None if a is None else a.double() for a in (layer.u, layer.v, layer.s))
        return torch.nn.functional.linear(x.double(), adapted(self.dequantised(layer), *wide), layer.base.bias.double())

    def test_outputs_and_gradients(self):
        """In train mode and, what torch's layers do not care for and bitsandbytes' do, in eval mode."""
        for layer in self.layers():
            # 8 bit in eval mode rounds activations to 8 bits, and works in half.
            coarse = type(layer.base).__name__ == "Linear8bitLt"
            for mode in (True,) if coarse else (True, False, True):
                layer.train(mode)
                x = torch.randn(2, 9, 64, requires_grad=True)
                y, expected = layer(x), self.formula(layer, x)
                rough = torch.finfo(torch.float32).eps / torch.finfo(DOUBLE).eps
                self.assertClose(y.double(), expected, rough * 4 * expected.detach().norm(), 12)
                g = torch.randn_like(y)
                inputs = (x, layer.u, layer.v, layer.d)
                for a, b in zip(torch.autograd.grad(y, inputs, g), torch.autograd.grad(expected, inputs, g.double())):
                    self.assertClose(a, b, 4 * g.norm() * x.detach().norm(), 12)
                with torch.no_grad():  # in eval mode this changes how the 4 bit layer stores its weight
                    self.assertLessEqual(float((layer(x).double() - expected).norm()), 0.01 * float(expected.norm()))

    def test_begin_as_their_base(self):
        for layer in self.layers():
            fresh, x = HOFTLinear(layer.base, 4, scaled=True), torch.randn(5, 64)
            self.assertEqual((fresh.in_features, fresh.out_features), (64, 32))
            self.assertEqual({a.dtype for a in (fresh.u, fresh.v, fresh.d)}, {torch.float32})
            self.assertFalse(any(a.requires_grad for a in layer.base.parameters()))
            self.assertClose(fresh(x), layer.base(x), x.norm() + 10, 12)
            self.assertIs(fresh.bias, layer.base.bias)

    def test_a_new_weight_is_noticed(self):
        """Tensors that wrap others have no address by which they are recognised."""
        for layer in self.layers():
            x, other = torch.randn(5, 64), copy.deepcopy(layer.base)
            layer(x)
            make = next(make for make, _ in KINDS.values() if type(make(torch.nn.Linear(64, 32))) is type(layer.base))
            if type(layer.base) is torch.nn.Linear:
                make = KINDS["torchao, int8" if "Int8" in type(layer.base.weight).__name__ else "torchao, float8"][0]
            other = make(torch.nn.Linear(64, 32)).requires_grad_(False)
            layer.base.weight = other.weight
            if hasattr(other, "state"):
                layer.base.state = other.state
            layer.base.quant_state = getattr(other, "quant_state", None)
            fresh = copy.deepcopy(layer)
            self.assertTrue(torch.equal(layer(x), fresh(x)))

    def test_hooked_layers_in_threads(self):
        """A base that is called without its bias is not met so by another thread, nor by itself afterwards."""
        layer, x = randomise(HOFTLinear(torch.nn.Linear(10, 7), 4)), torch.randn(5, 10)
        layer.base.register_forward_pre_hook(lambda module, inputs: time.sleep(0.01))
        layer.base.register_forward_hook(lambda module, inputs, output: setattr(module, "seen", output.shape))
        expected = layer(x).detach()
        self.assertEqual(layer.base.seen[-1], 7)  # what a hook leaves on its module stays there
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for y in pool.map(lambda _: layer(x).detach(), range(12)):
                self.assertTrue(torch.equal(y, expected))

    def test_autocast_is_noticed(self):
        """What is kept of a call outside of it is not what calls within it take."""
        layer, x = randomise(HOFTLinear(torch.nn.Linear(10, 7), 4)), torch.randn(5, 10)
        layer.base.register_forward_hook(lambda module, inputs, output: None)
        layer(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            self.assertTrue(torch.equal(layer(x), copy.deepcopy(layer)(x)))  # a copy keeps nothing

    def test_merging(self):
        for layer in self.layers():
            x = torch.randn(5, 64)
            before = layer(x).detach()
            if type(layer.base).__name__ == "Conv1D":
                layer.merge()
                self.assertClose(layer(x).detach(), before, 2 * before.norm(), 12)
                self.assertIs(layer.weight, layer.base.weight) if layer.merged else None
                layer.unmerge()
                self.assertClose(layer(x).detach(), before, 4 * before.norm(), 12)
            else:
                with self.assertRaisesRegex(TypeError, "is no plain matrix .*; to merge, put a torch.nn.Linear"):
                    layer.merge()
                self.assertTrue(torch.equal(layer(x).detach(), before))

    def test_dynamic_int8(self):
        """Activations are rounded to 8 bits in the base's own call; directions of v and gradients see the weight."""
        for bias in (True, False):
            layer = randomise(HOFTLinear(dynamic(torch.nn.Linear(64, 32, bias=bias)), 4, scaled=True))
            x = torch.randn(2, 9, 64, requires_grad=True)
            weight = layer.base.weight().dequantize().double()
            added = layer.base.bias().detach().double() if bias else None
            formula = lambda x, u, v, s: torch.nn.functional.linear(
                x.double(), adapted(weight, u.double(), v.double(), s.double()), added
            )
            y, expected = layer(x), formula(x, layer.u, layer.v, layer.s)
            # x is rounded to 255 steps between its least and largest element, whose error M carries on.
            step = float(x.detach().max() - x.detach().min()) / 255
            carried = 1.5 * float(torch.linalg.matrix_norm(weight, 2)) * 0.5 * step * (2 * 9 * 64) ** 0.5
            self.assertLessEqual(float((y.double() - expected).detach().norm()), carried)
            g = torch.randn_like(y)
            inputs = (x, layer.u, layer.v, layer.d)
            found = torch.autograd.grad(y, inputs, g)
            for a, b in zip(found, torch.autograd.grad(expected, inputs, g.double())):
                self.assertLessEqual(float((a - b).norm()), 0.02 * float(b.norm()))
            self.assertClose(found[0], torch.autograd.grad(formula(x, layer.u, layer.v, layer.s), x, g.double())[0], 100, 12)
            fresh = copy.deepcopy(layer)
            layer.base.set_weight_bias(dynamic(torch.nn.Linear(64, 32)).weight(), None)
            self.assertFalse(torch.equal(layer(x), fresh(x)))
            self.assertTrue(torch.equal(layer(x), copy.deepcopy(layer)(x)))
            with self.assertRaisesRegex(TypeError, "the weight of a Linear is no plain matrix"):
                layer.merge()

    @unittest.skipUnless(has("bitsandbytes"), "needs bitsandbytes")
    def test_four_bits_train_after_a_call_in_eval_mode(self):
        """Which packs the weight for inference, and leaves it without gradients."""
        layer, x = randomise(HOFTLinear(four_bits(torch.nn.Linear(64, 32)), 4)), torch.randn(5, 64, requires_grad=True)
        expected = torch.autograd.grad(layer(x).square().sum(), (x, layer.u, layer.v))
        layer.eval()
        for mode in (False, True):
            with torch.no_grad():
                layer.eval()(x.detach())
            packed = getattr(layer.base.weight.quant_state, "packing_format_for_cpu", False)
            print(f"the weight is packed for inference on this processor: {packed}")
            layer.train(mode)
            for a, b in zip(torch.autograd.grad(layer(x).square().sum(), (x, layer.u, layer.v)), expected):
                # Packing rounds the scales of the weight to bfloat16; the loss is of the second order in the weight, its gradients as well.
                self.assertLessEqual(float((a - b).norm()), 4 * torch.finfo(torch.bfloat16).eps * float(b.norm()))

    @unittest.skipUnless(has("bitsandbytes"), "needs bitsandbytes")
    def test_four_bits_in_eval_mode_stay_as_a_backward_pass_needs_them(self):
        """The products with v must not pack the weight between the forward and the backward pass."""
        layer, x = randomise(HOFTLinear(four_bits(torch.nn.Linear(64, 32)), 4)), torch.randn(5, 64, requires_grad=True)
        layer.requires_grad_(False)
        expected = torch.autograd.grad(layer(x).square().sum(), x)[0]
        layer.eval().rebind()
        self.assertClose(torch.autograd.grad(layer(x).square().sum(), x)[0], expected, 4 * expected.norm(), 12)

    def test_a_base_without_gradients_is_refused(self):
        class Detached(torch.nn.Linear):
            def forward(self, x):
                return super().forward(x).detach()

        layer = HOFTLinear(Detached(10, 7), 4)
        with self.assertRaisesRegex(RuntimeError, "x requires a gradient, but what the base, a Detached, makes of it has none"):
            layer(torch.randn(3, 10, requires_grad=True))
        y = layer(torch.randn(3, 10))
        with self.assertRaisesRegex(RuntimeError, "v requires a gradient, but what the base, a Detached, makes of its"):
            y.sum().backward()

    def test_extra_arguments_go_to_the_base(self):
        class Chosen(torch.nn.Linear):
            """One of two weights, or its product with a number."""

            def __init__(self):
                super().__init__(10, 7)
                self.other = torch.nn.Parameter(torch.randn(7, 10))

            def forward(self, x, other=False, factor=1.0):
                return factor * torch.nn.functional.linear(x, self.other if other else self.weight) + self.bias

        layer, x = randomise(HOFTLinear(Chosen(), 4, scaled=True)), torch.randn(5, 10, requires_grad=True)
        for arguments, options in (((), {}), ((True,), {}), ((), {"factor": 2.0}), ((True,), {"factor": 0.5}), ((), {})):
            weight = layer.base.other if arguments else layer.base.weight
            weight = options.get("factor", 1) * weight.detach().double()
            y = layer(x, *arguments, **options)
            wide = (a.double() for a in (layer.u, layer.v, layer.s))
            expected = torch.nn.functional.linear(x.double(), adapted(weight, *wide), layer.base.bias.double())
            inputs = (x, layer.u, layer.v, layer.d)
            g = torch.randn_like(y)
            self.assertClose(y.double(), expected, 1e9 * expected.detach().norm(), 12)
            for a, b in zip(torch.autograd.grad(y, inputs, g), torch.autograd.grad(expected, inputs, g.double())):
                self.assertClose(a, b, 4 * g.norm() * x.detach().norm(), 12)


class AsALinear(Case):
    """Modules that take the weight of a Linear without calling it."""

    def test_weight(self):
        layer, x = randomise(HOFTLinear(torch.nn.Linear(10, 7), 4, scaled=True)), torch.randn(5, 10, requires_grad=True)
        weight = layer.weight
        self.assertIsInstance(weight, torch.Tensor)
        self.assertEqual((weight.dtype, tuple(weight.shape), weight.device), (torch.float32, (7, 10), layer.u.device))
        inputs, g = (x, layer.u, layer.v, layer.d), torch.randn(5, 7)
        y = torch.nn.functional.linear(x, weight, layer.bias)
        expected = layer(x)
        self.assertClose(y, expected.detach(), 2 * expected.detach().norm(), 12)
        for a, b in zip(torch.autograd.grad(y, inputs, g), torch.autograd.grad(expected, inputs, g)):
            self.assertClose(a, b, 4 * g.norm() * x.detach().norm(), 12)
        for formed in (weight + 0, weight.detach(), x.new_tensor(1) * weight, torch.cat([weight, weight])[:7], weight.clone()):
            self.assertIs(type(formed), torch.Tensor)
            self.assertClose(formed.detach(), adapted(layer.base.weight, layer.u, layer.v, layer.s).detach(), 10, 12)
        layer.merge()
        self.assertIs(layer.weight, layer.base.weight)

    def test_its_type_costs_nothing(self):
        layer = HOFTLinear(torch.nn.Linear(10, 7), 4)
        with unittest.mock.patch("hoft_torch.module.merge") as formed:
            weight = layer.weight
            self.assertEqual(weight.dtype, torch.float32)
            self.assertEqual(weight.size(), torch.Size([7, 10]))
            self.assertTrue(weight.is_floating_point() and weight.dim() == 2 and weight.device.type == "cpu")
            formed.assert_not_called()

    def attention(self, module, x):
        return module(x, x, x, need_weights=False)[0]

    def test_multihead_attention(self):
        module, x = torch.nn.MultiheadAttention(16, 4, batch_first=True), torch.randn(2, 5, 16)
        plain = copy.deepcopy(module)
        layer = randomise(wrap(module, 4, ["out_proj"])["out_proj"])
        with torch.no_grad():
            plain.out_proj.weight.copy_(adapted(plain.out_proj.weight, layer.u, layer.v))
        for mode in (True, False):
            module.train(mode), plain.train(mode)
            with torch.set_grad_enabled(mode):
                expected = self.attention(plain, x)
                self.assertClose(self.attention(module, x), expected.detach(), 10 * expected.detach().norm(), 12)
        self.attention(module.train(), x).square().sum().backward()
        self.assertGreater(float(layer.u.grad.norm()), 0)

    def test_the_fast_path_of_an_encoder(self):
        """In eval mode without gradients one kernel takes the weights of the whole layer."""
        encoder = torch.nn.TransformerEncoderLayer(16, 4, 24, dropout=0, batch_first=True)
        x = torch.randn(2, 5, 16)
        for names in (["linear1", "linear2"], ["self_attn.out_proj"], ["linear1", "linear2", "out_proj"]):
            module, plain = copy.deepcopy(encoder), copy.deepcopy(encoder)
            for name, layer in wrap(module, 4, names).items():
                randomise(layer)
                with torch.no_grad():
                    weight = plain.get_submodule(name).weight
                    weight.copy_(adapted(weight, layer.u, layer.v))
            for mode in (True, False):
                with torch.set_grad_enabled(mode):
                    expected = plain.train(mode)(x)
                    self.assertClose(module.train(mode)(x), expected.detach(), 20 * expected.detach().norm(), 12)
            stack = torch.nn.TransformerEncoder(module, 2).eval()
            with torch.no_grad():
                expected = torch.nn.TransformerEncoder(plain, 2).eval()(x)
                self.assertClose(stack(x), expected, 40 * expected.norm(), 12)

    @unittest.skipUnless(has("transformers"), "needs transformers")
    def test_t5(self):
        """It asks for the type of a weight before it multiplies."""
        import transformers

        config = transformers.T5Config(d_model=16, d_ff=24, d_kv=8, num_heads=2, num_layers=1, vocab_size=50)
        model = transformers.T5Model(config).eval()
        tokens = torch.arange(12).reshape(2, 6)
        before = model(input_ids=tokens, decoder_input_ids=tokens).last_hidden_state.detach()
        layers = wrap(model, 4, ["wo", "wi", "q", "v"])
        self.assertGreater(len(layers), 8)
        after = model(input_ids=tokens, decoder_input_ids=tokens).last_hidden_state
        self.assertClose(after.detach(), before, 20 * before.norm(), 12)
        after.square().sum().backward()
        self.assertTrue(all(bool(torch.isfinite(layer.u.grad).all()) for layer in layers.values()))

    @unittest.skipUnless(has("transformers"), "needs transformers")
    def test_gpt2(self):
        import transformers

        config = transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=50, n_positions=32)
        model = transformers.GPT2Model(config).eval()
        plain, tokens = copy.deepcopy(model), torch.arange(12).reshape(2, 6)
        for name, layer in wrap(model, 4, ["c_attn", "c_proj", "c_fc"]).items():
            randomise(layer)
            with torch.no_grad():
                weight = plain.get_submodule(name).weight
                weight.copy_(adapted(weight.t(), layer.u, layer.v).t())
        expected = plain(tokens).last_hidden_state
        self.assertClose(model(tokens).last_hidden_state.detach(), expected.detach(), 20 * expected.detach().norm(), 12)

    def test_a_weight_that_is_no_matrix(self):
        layer = HOFTLinear(dynamic(torch.nn.Linear(10, 7)), 4)
        self.assertEqual(tuple(layer.weight.shape), (7, 10))
        with self.assertRaisesRegex(TypeError, "HOFTLinear.weight: the weight of a Linear is no plain matrix"):
            torch.nn.functional.linear(torch.randn(5, 10), layer.weight)


class Wrapping(Case):
    def model(self):
        return torch.nn.ModuleDict(
            {"first": torch.nn.Linear(10, 7), "inner": torch.nn.ModuleDict({"query": torch.nn.Linear(7, 7)})}
        )

    def test_names(self):
        for target, expected in (
            (["query"], {"inner.query"}),
            (["first", "query"], {"first", "inner.query"}),
            (r"inner\..*", {"inner.query", "inner.key"}),
            ("first", {"first"}),
        ):
            model = self.model()
            model["inner"]["key"] = torch.nn.Linear(7, 7)
            model.eval()
            layers = wrap(model, (2, 4), target, scaled=True, std=0.5)
            self.assertEqual(set(layers), expected)
            for name, layer in layers.items():
                self.assertIs(model.get_submodule(name), layer)
                self.assertEqual((len(layer.u), len(layer.v), layer.d is None, layer.training), (2, 4, False, False))

    def test_tied_weights_are_found(self):
        model, embedding = self.model(), torch.nn.Embedding(*self.model()["first"].weight.shape)
        model["first"].weight = embedding.weight
        with self.assertWarnsRegex(UserWarning, "weight of the base belongs to another module as well"):
            wrap(model, 4, ["first", "query"])
        with self.assertRaisesRegex(RuntimeError, "the weight belongs to another module as well"):
            unwrap(model)
        self.assertIs(type(model["first"]), HOFTLinear)

    def test_a_layer_of_two_names_is_wrapped_once(self):
        model = self.model()
        model["again"] = model["first"]
        layers = wrap(model, 4, ["first", "again"])
        self.assertIs(layers["first"], layers["again"])
        self.assertIs(model["again"], layers["first"])

    def test_refused(self):
        model = self.model()
        for error, message, target in (
            (ValueError, "no layer matches .*; linear layers of the model: 'first', 'inner.query'", ["key"]),
            (ValueError, "no layer matches 'key';", ["first", "key"]),
            (ValueError, "no layer matches 'query' as a whole .a list names endings.;", "query"),
            (TypeError, "wrap: inner, a ModuleDict, is no linear layer", ".*"),
        ):
            with self.assertRaisesRegex(error, message):
                wrap(model, 4, target)
            self.assertIs(type(model["first"]), torch.nn.Linear)
        wrap(model, 4, ["first"])
        with self.assertRaisesRegex(ValueError, "first is wrapped already"):
            wrap(model, 4, ["first"])

    def test_start(self):
        layer = HOFTLinear(torch.nn.Linear(1000, 800), 4)
        for u in (layer.u, layer.v):
            self.assertTrue(0.09 < float(u.detach().std()) < 0.11)  # 2000 draws or 1600: 4 deviations of their deviation


if __name__ == "__main__":
    unittest.main()
