# SPDX-License-Identifier: BSD-3-Clause
"""Tiny transformers with random weights, made offline, for the tests that need whole models."""

import contextlib
import copy
import os
import unittest
import warnings

import torch
from common import Case, adapted

os.environ.setdefault("HF_HUB_OFFLINE", "1")

try:
    import peft
    import transformers

    MISSING = None
except ImportError as error:  # Debian's PyTorch is too old for them
    MISSING = f"needs peft and transformers: {error}"

if MISSING is None:
    from hoft_torch.peft import HoftLayer


def needs_peft(case):
    return unittest.skipIf(MISSING is not None, MISSING)(case)


def _bert():
    config = transformers.BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, num_labels=3
    )
    return transformers.BertForSequenceClassification(config), {"input_ids": torch.randint(40, (2, 5))}


def _llama():
    config = transformers.LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=24,
    )
    return transformers.LlamaForCausalLM(config), {"input_ids": torch.randint(40, (2, 5))}


def _t5():
    config = transformers.T5Config(
        vocab_size=40, d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    inputs = {"input_ids": torch.randint(40, (2, 5)), "decoder_input_ids": torch.randint(40, (2, 3))}
    return transformers.T5ForConditionalGeneration(config), inputs


def _gpt2():
    config = transformers.GPT2Config(vocab_size=40, n_positions=8, n_embd=16, n_layer=2, n_head=2)
    return transformers.GPT2LMHeadModel(config), {"input_ids": torch.randint(40, (2, 5))}


def _vit():
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, image_size=8, patch_size=4
    )
    return transformers.ViTForImageClassification(config), {"pixel_values": torch.randn(2, 3, 8, 8)}


# What GPT-2 has are Conv1D's, with weights stored transposed, one of them square.
MODELS = {"BERT": _bert, "LLaMA": _llama, "T5": _t5, "GPT-2": _gpt2, "ViT": _vit}


def make(name, dtype=torch.float64, seed=5):
    """A frozen model in eval mode, whose biases are not zero, and inputs for it; the same for a
    seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, inputs = MODELS[name]()
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if key.endswith("bias"):
                    parameter.normal_(std=0.1)
    inputs = {key: value.to(dtype) if value.is_floating_point() else value for key, value in inputs.items()}
    return model.to(dtype).eval().requires_grad_(False), inputs


def logits(model, inputs):
    return model(**inputs).logits


def loss(model, inputs):
    return logits(model, inputs).square().mean()


@contextlib.contextmanager
def quiet():
    """Without the warnings that PEFT gives for models made offline."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def adapt(model, config, **options):
    """A PeftModel around a copy of the model."""
    with quiet():
        return peft.get_peft_model(copy.deepcopy(model), config, **options)


def layers(model):
    return {name: module for name, module in model.named_modules() if isinstance(module, HoftLayer)}


def stored_transposed(base):
    return type(base).__name__ == "Conv1D"


def matrix(base):
    """A copy of the weight [out, in]."""
    weight = base.weight.detach()
    return (weight.t() if stored_transposed(base) else weight).clone()


def matrices(model):
    """A copy of the base's weight of each adapted layer, by name."""
    return {name: matrix(layer.base_layer) for name, layer in layers(model).items()}


def plain_weights(model, *names):
    """{name of a weight in the unloaded base: the weight that the adapters of these names stand
    for}, by the formula in PyTorch's own operations, with gradients to the adapters' parameters."""
    weights = {}
    for key, layer in layers(model).items():
        weight = matrix(layer.base_layer)
        for name in names:
            if layer.has(name):
                weight = adapted(weight, *layer.factors(name))
        key = key.replace("base_model.model.", "") + ".weight"
        weights[key] = weight.t() if stored_transposed(layer.base_layer) else weight
    return weights


def plain_logits(base, weights, inputs):
    return torch.func.functional_call(base, weights, kwargs=inputs).logits


class ModelCase(Case):
    def assertModelsClose(self, got, expected, model, scale=None):
        """As for one layer; the roundings of all layers add up. LLaMA and T5 take norms and softmax
        in float, whatever their type: those roundings hide all others."""
        scale = expected.detach().norm() if scale is None else scale
        if getattr(getattr(model, "config", None), "model_type", None) in ("llama", "t5"):
            self.assertClose(got.float(), expected.float(), scale, steps=12)
        else:
            self.assertClose(got, expected, scale, steps=12 * len(layers(model)))  # at most 8 reflectors, 4 products

    def assertModelGradientsClose(self, got, expected, model):
        """Of what the model trains, for two ways to its outputs."""
        trained = [a for a in model.parameters() if a.requires_grad]
        cotangent = torch.randn_like(expected)
        ours, plain = (torch.autograd.grad(y, trained, cotangent) for y in (got, expected))
        scale = torch.cat([a.flatten() for a in plain]).norm()
        for a, b in zip(ours, plain):
            self.assertModelsClose(a, b, model, scale)
