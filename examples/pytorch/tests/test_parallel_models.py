# SPDX-License-Identifier: BSD-3-Clause
"""Models of transformers that a tp_plan has split over ranks, with HOFTLinear and through PEFT, beside whole ones."""

import importlib.util
import pathlib
import tempfile
import unittest

import torch

from ranks import MISSING, Parallel, assign, judge

from hoft_torch import HOFTLinear

if MISSING is None:
    from torch.distributed.tensor import DTensor


def llama(folder=None, mesh=None):
    """A small LLaMA with random weights, the same whole or read split over ranks by its own tp_plan."""
    from transformers import LlamaConfig, LlamaForCausalLM

    if mesh is not None:
        from transformers.distributed import DistributedConfig

        return LlamaForCausalLM.from_pretrained(folder, distributed_config=DistributedConfig(tp_size=mesh.size()))
    if folder is not None:
        return LlamaForCausalLM.from_pretrained(folder)
    torch.manual_seed(1)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=32, num_hidden_layers=2, **sizes))


def wrap_llama(model):
    """All its kinds of layers: by rows, by columns, and by rows with a gathered output."""
    layers = [model.model.layers[0].mlp, model.model.layers[1].self_attn, model]
    for owner, names in zip(layers, (("gate_proj", "up_proj", "down_proj"), ("q_proj", "k_proj", "o_proj"), ("lm_head",))):
        for name in names:
            module = HOFTLinear(getattr(owner, name), (4, 2), scaled=True)
            generator = torch.Generator().manual_seed(7)
            for parameter in (module.u, module.v, module.d):
                value = torch.randn(parameter.shape, generator=generator) / 4
                assign(parameter, value) if isinstance(parameter, DTensor) else parameter.data.copy_(value)
            setattr(owner, name, module)
    return model


def check_transformers(mesh, folder):
    model, whole = wrap_llama(llama(folder, mesh)), wrap_llama(llama(folder))
    tokens = torch.arange(12).reshape(2, 6)
    judge.assertTrue(isinstance(model.lm_head.u, DTensor))
    loss, expected = (m(tokens, labels=tokens).loss for m in (model, whole))
    judge.assertClose(loss, expected, expected.detach(), 100)
    loss.backward(), expected.backward()
    others = dict(whole.named_parameters())
    for name, parameter in model.named_parameters():
        if name.rpartition(".")[2] in ("u", "v", "d"):
            gradient = parameter.grad.full_tensor() if isinstance(parameter.grad, DTensor) else parameter.grad
            # Two blocks of a transformer in float: some hundred roundings on the way.
            judge.assertClose(gradient, others[name].grad, max(1, float(others[name].grad.norm())), 100)
    with torch.no_grad():  # without gradients transformers takes another way through its split layers
        logits = model(tokens).logits
        judge.assertClose(logits, whole(tokens).logits, logits.norm(), 100)
        for module in model.modules():
            if isinstance(module, HOFTLinear):
                module.merge()
        judge.assertClose(model(tokens).logits, logits, logits.norm(), 100)


def draw_adapters(model):
    """Numbers for all adapters, by their names, the same split or whole."""
    for index, (name, parameter) in enumerate(model.named_parameters()):
        if ".hoft_" in name:
            value = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index)) / 4
            assign(parameter, value) if isinstance(parameter, DTensor) else parameter.data.copy_(value)


def check_peft(mesh, folder, dropout):
    """get_peft_model, two adapters at once, save_pretrained and from_pretrained around a tp_plan, beside one process."""
    import peft

    from hoft_torch.peft import HoftConfig

    def prepared(base):
        torch.manual_seed(mesh.get_local_rank())
        config = HoftConfig(r=4, scaled=True, target_modules="all-linear", dropout=dropout)
        model = peft.get_peft_model(base, config)
        model.add_adapter("other", HoftConfig(r=(2, 0), target_modules=["q_proj", "down_proj"]))
        model.base_model.set_adapter(["default", "other"])
        draw_adapters(model)
        return model

    split, whole = prepared(llama(folder, mesh)), prepared(llama(folder))
    tokens = torch.arange(12).reshape(2, 6)
    if dropout:  # the same pairs of reflectors on every rank, whatever their generators say
        loss = split(tokens, labels=tokens).loss
        loss.backward()
        first = loss.detach().clone()
        torch.distributed.broadcast(first, 0)
        judge.assertClose(loss.detach(), first, first, 100)
        return
    loss, expected = (m(tokens, labels=tokens).loss for m in (split, whole))
    judge.assertClose(loss, expected, expected.detach(), 100)
    loss.backward(), expected.backward()
    others = dict(whole.named_parameters())
    for name, parameter in split.named_parameters():
        if parameter.requires_grad:
            gradient = others[name].grad
            judge.assertClose(parameter.grad.full_tensor(), gradient, max(1, float(gradient.norm())), 100)
    torch.nn.utils.clip_grad_norm_([a for a in split.parameters() if a.requires_grad], 1e-3)
    with torch.no_grad():
        logits, adapter = whole(tokens).logits, str(pathlib.Path(folder) / "adapter")
        judge.assertClose(split(tokens).logits, logits, logits.norm(), 100)
        split.merge_adapter()
        judge.assertClose(split(tokens).logits, logits, logits.norm(), 100)
        split.unmerge_adapter()
        split.base_model.set_adapter("default"), whole.base_model.set_adapter("default")
        logits = whole(tokens).logits
        judge.assertClose(split(tokens).logits, logits, logits.norm(), 200)
        split.save_pretrained(adapter)  # on every rank
        torch.distributed.barrier()
        for base in (llama(folder), llama(folder, mesh)):  # one file for whole models and split ones
            judge.assertClose(peft.PeftModel.from_pretrained(base, adapter)(tokens).logits, logits, logits.norm(), 100)


@unittest.skipIf(importlib.util.find_spec("transformers") is None, "without transformers")
class Transformers(Parallel):
    def test_layers_of_a_tp_plan(self):
        with tempfile.TemporaryDirectory() as folder:
            llama().save_pretrained(folder)
            self.run_on(2, check_transformers, folder)


    @unittest.skipIf(importlib.util.find_spec("peft") is None, "without PEFT")
    def test_peft(self):
        for dropout in (0.0, 0.5):
            with self.subTest(dropout=dropout), tempfile.TemporaryDirectory() as folder:
                llama().save_pretrained(folder)
                self.run_on(2, check_peft, folder, dropout)


if __name__ == "__main__":
    unittest.main()
