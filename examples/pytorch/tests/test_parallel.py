"""Layers that are split over ranks beside the whole ones: processes on this machine, which exchange by gloo."""

import importlib.util
import os
import pathlib
import tempfile
import unittest

import torch
import torch.multiprocessing

from common import DOUBLE, Case, adapted

try:
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    MISSING = None
except ImportError as missing:
    MISSING = f"PyTorch {torch.__version__}: {missing}"

from hoft_torch import HOFTLinear, parallel

judge = Case()


def _work(rank, ranks, store, check, arguments):
    torch.set_num_threads(1)
    torch.manual_seed(3)  # the same numbers on every rank
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks))  # as torchrun sets them
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    try:
        check(init_device_mesh("cpu", (ranks,)), *arguments)
    finally:
        torch.distributed.destroy_process_group()


@unittest.skipIf(MISSING, MISSING)
class Parallel(unittest.TestCase):
    def run_on(self, ranks, check, *arguments):
        """check(mesh, *arguments) on so many processes: it fails where one of them does."""
        with tempfile.TemporaryDirectory() as folder:
            store = pathlib.Path(folder) / "store"
            torch.multiprocessing.spawn(_work, (ranks, store, check, arguments), nprocs=ranks)


def local(value, name, split_by, mesh):
    """This rank's part of the whole value of u, v, d or the weight."""
    dimension = {"rows": {"u": 1, "d": 0, "weight": 0}, "columns": {"v": 1, "weight": 1}}[split_by].get(name)
    if dimension is None:
        return value
    parts = torch.chunk(value, mesh.size(), dimension)
    rank = mesh.get_local_rank()
    return parts[rank] if rank < len(parts) else value.narrow(dimension, 0, 0)


@torch.no_grad()
def assign(parameter, whole):
    parameter.copy_(distribute_tensor(whole, parameter.device_mesh, parameter.placements, src_data_rank=None))


class Layer:
    """The whole numbers of a layer, its module whose base is split, and its formula."""

    def __init__(self, mesh, split_by, m, n, ranks, scaled, dtype, bias=True, style=None):
        self.mesh, self.split_by = mesh, split_by
        base = torch.nn.Linear(n, m, bias=bias, dtype=dtype)
        self.weight, self.bias = base.weight.detach().clone(), None if base.bias is None else base.bias.detach().clone()
        style = style or (ColwiseParallel() if split_by == "rows" else RowwiseParallel())
        self.module = HOFTLinear(parallelize_module(base, mesh, style), ranks, scaled=scaled)
        master = dtype if dtype == DOUBLE else torch.float32
        self.numbers = {"u": torch.randn(ranks[0], m, dtype=master), "v": torch.randn(ranks[1], n, dtype=master)}
        if scaled:
            self.numbers["d"] = torch.rand(m, dtype=master)
        self.set(self.numbers)
        self.leaves = {name: value.to(DOUBLE).requires_grad_() for name, value in self.numbers.items()}

    def set(self, numbers):
        for name, value in numbers.items():
            assign(getattr(self.module, name), value)

    def whole(self, x):
        """In double, from the leaves."""
        s = 1 + self.leaves["d"] if "d" in self.leaves else None
        M = adapted(self.weight.to(DOUBLE), self.leaves["u"], self.leaves["v"], s)
        y = x.to(DOUBLE) @ M.t()
        return y if self.bias is None else y + self.bias.to(DOUBLE)

    def compare_gradients(self, scale, steps):
        for name, leaf in self.leaves.items():
            if leaf.numel() == 0:
                continue
            gradient = getattr(self.module, name).grad
            expected = local(leaf.grad, name, self.split_by, self.mesh)
            judge.assertClose(gradient.to_local(), expected.to(gradient.dtype), scale, steps)


def check_network(mesh, dtype, scaled, ranks, bias):
    """A perceptron as Megatron splits it: what lies between its two layers never leaves its rank."""
    up = Layer(mesh, "rows", 12, 9, ranks, scaled, dtype, bias)
    down = Layer(mesh, "columns", 7, 12, ranks, scaled, dtype, bias)
    x = torch.randn(2, 5, 9, dtype=dtype).requires_grad_()
    wide = x.detach().to(DOUBLE).requires_grad_()
    g = torch.randn(2, 5, 7, dtype=dtype)
    y = down.module(torch.tanh(up.module(x)))
    z = down.whole(torch.tanh(up.whole(wide)))
    y.backward(g)
    z.backward(g.to(DOUBLE))
    sizes = 2 * up.weight.double().norm() * 2 * down.weight.double().norm()
    steps = 2 * sum(ranks) + 8  # reflectors of two layers; products, scales, tanh
    judge.assertClose(y, z.to(dtype), sizes * max(1, float(x.detach().norm())), steps)
    judge.assertClose(x.grad, wide.grad.to(dtype), sizes * g.double().norm(), steps)
    for layer in (up, down):
        layer.compare_gradients(sizes * float(x.detach().norm()) * float(g.norm()), steps)


def check_networks(mesh):
    for dtype in (DOUBLE, torch.float32):
        for scaled, ranks, bias in ((False, (4, 2), True), (True, (2, 4), False), (True, (0, 2), True), (True, (2, 0), True)):
            check_network(mesh, dtype, scaled, ranks, bias)


def check_layouts(mesh):
    """What lies between layers may be split by tokens as well, whole, or DTensors: the base's style says how."""
    rank, ranks = mesh.get_local_rank(), mesh.size()
    x, g = torch.randn(2, 2 * ranks, 6, dtype=DOUBLE), torch.randn(2, 2 * ranks, 4 * ranks, dtype=DOUBLE)
    mine = lambda a, dimension: a.chunk(ranks, dimension)[rank]

    def compare(layer, x, y, whole_y, part):
        """A loss of which every rank has its part of y, or all of it."""
        whole_y.backward(g)
        part(y).backward(part(g))
        judge.assertClose(part(y), part(whole_y), x.norm() * 2 * layer.weight.norm(), 12)
        layer.compare_gradients(2 * layer.weight.norm() * x.norm() * g.norm(), 12)

    tokens_split = ColwiseParallel(input_layouts=Shard(1))
    layer = Layer(mesh, "rows", 4 * ranks, 6, (4, 4), True, DOUBLE, style=tokens_split)
    compare(layer, x, layer.module(mine(x, 1)), layer.whole(x), lambda a: a if a.shape[-1] == 4 else mine(a, 2))

    layer = Layer(mesh, "rows", 4 * ranks, 6, (4, 4), True, DOUBLE, style=ColwiseParallel(output_layouts=Replicate()))
    compare(layer, x, layer.module(x), layer.whole(x), lambda a: a)

    layer = Layer(mesh, "rows", 4 * ranks, 6, (2, 2), False, DOUBLE, style=ColwiseParallel(use_local_output=False))
    y = layer.module(x)
    judge.assertEqual((y.shape, tuple(y.placements)), (g.shape, (Shard(2),)))
    compare(layer, x, y.to_local(), layer.whole(x), lambda a: a if a.shape[-1] == 4 else mine(a, 2))

    wide = torch.randn(2, 2 * ranks, 3 * ranks, dtype=DOUBLE)
    tokens_split = RowwiseParallel(output_layouts=Shard(1))
    layer = Layer(mesh, "columns", 4 * ranks, 3 * ranks, (4, 4), True, DOUBLE, style=tokens_split)
    y = layer.module(mine(wide, 2))
    compare(layer, wide, y, layer.whole(wide), lambda a: a if a.shape[1] == 2 else mine(a, 1))


def check_extremes(mesh):
    """Zero reflectors are the identity and get no gradient; lengths do not matter; more ranks than features."""
    for split_by in ("rows", "columns"):
        layer = Layer(mesh, split_by, 4, 4, (4, 4), False, torch.float32)
        scales = torch.tensor([1e30, 1e-30, 0.0, 1.0])[:, None]
        plain = {name: layer.numbers[name].clone() for name in "uv"}
        layer.set({name: scales * value for name, value in plain.items()})
        x = torch.randn(3, 4)
        mine = local(x, "v", split_by, mesh).clone().requires_grad_()
        y = layer.module(mine)
        kept = {name: value[[0, 1, 3]].to(DOUBLE) for name, value in plain.items()}
        expected = x.to(DOUBLE) @ adapted(layer.weight.to(DOUBLE), kept["u"], kept["v"]).t() + layer.bias
        expected = local(expected.t(), "weight", split_by, mesh).t() if split_by == "rows" else expected
        judge.assertClose(y, expected.float(), x.norm() * 2 * layer.weight.norm() + layer.bias.norm(), 10)
        y.sum().backward()
        for name in "uv":
            gradient = getattr(layer.module, name).grad.to_local()
            judge.assertTrue(bool(torch.isfinite(gradient).all()))
            judge.assertEqual(float(gradient[2].abs().sum()), 0.0)
    layer = Layer(mesh, "rows", 1, 3, (2, 2), True, DOUBLE)  # the last rank has no feature
    x = torch.randn(2, 3, dtype=DOUBLE)
    y = layer.module(x)
    judge.assertClose(y, local(layer.whole(x).t(), "weight", "rows", mesh).t(), 4 * layer.weight.norm() * x.norm(), 8)


def check_sixteen_bits(mesh):
    """Between layers numbers have 16 bits, sums and reflectors 32; the weight alone is rounded as merged ones are."""
    for split_by in ("rows", "columns"):
        layer = Layer(mesh, split_by, 64, 48, (8, 8), True, torch.bfloat16)
        layer.bias[3] = 1000  # it must not go through Q_U
        assign(layer.module.base.bias, layer.bias)
        x = torch.randn(20, 48, dtype=torch.bfloat16)
        y = layer.module(local(x, "v", split_by, mesh).contiguous())
        judge.assertEqual(y.dtype, torch.bfloat16)
        bias, layer.bias = layer.bias.to(DOUBLE), None
        expected = layer.whole(x).detach()
        if split_by == "rows":
            bias, expected = (local(a.t(), "weight", "rows", mesh).t() for a in (bias[None], expected))
        # Three roundings to 16 bits: of Q_V x, of the base's output, of y without its bias; and that of y itself.
        error, epsilon = (y.detach().to(DOUBLE) - bias - expected).abs(), torch.finfo(torch.bfloat16).eps
        judge.assertTrue(float((error - epsilon * bias.abs()).max()) <= 8 * epsilon * float(expected.norm(dim=1).max()))


def whole_module(layer, scaled):
    """The same module on one process, with hoft's operators."""
    base = torch.nn.Linear(*reversed(layer.weight.shape), bias=layer.bias is not None, dtype=layer.weight.dtype)
    module = HOFTLinear(base, (len(layer.numbers["u"]), len(layer.numbers["v"])), scaled=scaled)
    with torch.no_grad():
        base.weight.copy_(layer.weight)
        base.bias.copy_(layer.bias)
        for name, value in layer.numbers.items():
            getattr(module, name).copy_(value)
    return module


def check_training(mesh, dtype):
    """Ten steps of AdamW and a saved adapter, beside one process; every rank starts with the numbers of the first."""
    layers = [Layer(mesh, "rows", 12, 6, (4, 2), True, dtype), Layer(mesh, "columns", 6, 12, (2, 4), True, dtype)]
    split = torch.nn.Sequential(layers[0].module, torch.nn.Tanh(), layers[1].module)
    whole = torch.nn.Sequential(whole_module(layers[0], True), torch.nn.Tanh(), whole_module(layers[1], True))
    x, goal = torch.randn(20, 6, dtype=dtype), torch.randn(20, 6, dtype=dtype)
    errors = []
    for model in (split, whole):
        optimiser = torch.optim.AdamW([a for a in model.parameters() if a.requires_grad], lr=1e-2)
        for _ in range(10):
            optimiser.zero_grad()
            loss = (model(x) - goal).square().mean()
            loss.backward()
            optimiser.step()
        errors.append(loss.detach())
    # Adam divides by gradients, so that it carries their rounding into the numbers: ten steps of 1e-2 each.
    loose = torch.finfo(dtype).eps ** 0.5
    judge.assertTrue(abs(errors[0] - errors[1]) <= loose, errors)
    full = get_model_state_dict(split, options=StateDictOptions(full_state_dict=True))
    for name, value in whole.state_dict().items():
        judge.assertEqual((type(full[name]), full[name].shape), (torch.Tensor, value.shape))
        judge.assertTrue((full[name].double() - value.double()).abs().max() <= loose, name)
    # A file of one process goes into the split layers, and theirs into whole ones: the same outputs.
    whole.load_state_dict(full)
    judge.assertClose(split(x).detach(), whole(x).detach(), 10 * x.norm(), 40)
    with torch.no_grad():
        whole[0].u.add_(1), whole[2].d.add_(1)
    options = StateDictOptions(full_state_dict=True, strict=True)
    set_model_state_dict(split, whole.state_dict(), options=options)
    judge.assertClose(split(x).detach(), whole(x).detach(), 20 * x.norm(), 40)


def check_start(mesh):
    torch.manual_seed(mesh.get_local_rank())  # ranks need not draw the same
    for style, whole, part in ((ColwiseParallel(), "v", "u"), (RowwiseParallel(), "u", "v")):
        base = parallelize_module(torch.nn.Linear(8, 8), mesh, style)
        module = HOFTLinear(base, 4, scaled=True)
        kept = getattr(module, whole).to_local()
        first = kept.clone()
        torch.distributed.broadcast(first, 0)
        judge.assertTrue(torch.equal(kept, first))
        judge.assertEqual(getattr(module, part).to_local().shape, (4, 8 // mesh.size()))
        x = torch.randn(3, base.weight.to_local().shape[1])
        if whole == "v":
            torch.distributed.broadcast(x, 0)
        judge.assertClose(module(x), base(x), x.norm() * base.weight.full_tensor().norm(), 10)
    # A base that is split after it was wrapped
    module = HOFTLinear(torch.nn.Linear(8, 8), 4)
    parallelize_module(module, mesh, {"base": ColwiseParallel()})
    x = torch.randn(3, 8)
    torch.distributed.broadcast(x, 0)
    with judge.assertRaisesRegex(ValueError, "HOFTLinear: v is whole, must be split .* distribute"):
        module(x)
    judge.assertClose(module.distribute()(x), module.base(x), x.norm() * module.base.weight.full_tensor().norm(), 10)


def check_merge(mesh, dtype):
    for split_by in ("rows", "columns"):
        for scaled, ranks in ((True, (4, 2)), (False, (0, 2)), (False, (2, 0))):
            layer = Layer(mesh, split_by, 12, 6, ranks, scaled, dtype)
            s = layer.module.s.full_tensor() if scaled else None
            kind = DOUBLE if dtype == DOUBLE else torch.float32
            expected = adapted(layer.weight.to(DOUBLE), *(layer.numbers[name].to(DOUBLE) for name in "uv"), s)
            layer.module.merge()
            weight = layer.module.base.weight
            judge.assertClose(weight.full_tensor(), expected.to(dtype), 2 * layer.weight.norm(), 2 * sum(ranks) + 4)
            x = local(torch.randn(5, 6, dtype=dtype), "v", split_by, mesh)
            judge.assertTrue(torch.equal(layer.module(x), layer.module.base(x)))
            layer.module.unmerge()
            judge.assertClose(weight.full_tensor(), layer.weight, 4 * layer.weight.norm(), 4 * sum(ranks) + 8)
            judge.assertEqual(kind, layer.module.u.dtype)
    # One NaN in the part of one rank: every rank raises, and nothing is written.
    layer = Layer(mesh, "rows", 12, 6, (2, 2), False, dtype)
    if mesh.get_local_rank() == 0:
        with torch.no_grad():
            layer.module.u.to_local()[0, 0] = float("nan")
    with judge.assertRaisesRegex(ValueError, "merge: .* not finite"):
        layer.module.merge()
    judge.assertTrue(torch.equal(layer.module.base.weight.full_tensor(), layer.weight))
    judge.assertFalse(layer.module.merged)


def check_refusals(mesh):
    rows = parallelize_module(torch.nn.Linear(8, 8), mesh, ColwiseParallel())
    for placement in (Replicate(), Shard(0)):
        base = torch.nn.Linear(8, 8)
        other = init_device_mesh("cpu", (1, mesh.size())) if placement == Shard(0) else mesh
        placements = [placement] * other.ndim
        base.weight = torch.nn.Parameter(distribute_tensor(base.weight.detach(), other, placements))
        with judge.assertRaisesRegex(ValueError, r"HOFTLinear: the weight of the base, a Linear, .* must have Shard\(0\)"):
            HOFTLinear(base, 2)
    with judge.assertRaisesRegex(ValueError, "HOFTLinear: x has 7 features on this rank, must have 8, since rows"):
        HOFTLinear(rows, 2)(torch.randn(2, 7))


class TensorParallel(Parallel):
    def test_is_the_whole_network(self):
        for ranks in (2, 3):
            with self.subTest(ranks=ranks):
                self.run_on(ranks, check_networks)

    def test_layouts(self):
        self.run_on(2, check_layouts)

    def test_extreme_reflectors(self):
        self.run_on(2, check_extremes)

    def test_training_and_files(self):
        for dtype in (DOUBLE, torch.float32):
            with self.subTest(dtype=dtype):
                self.run_on(2, check_training, dtype)

    def test_start(self):
        self.run_on(2, check_start)

    def test_merge_and_unmerge(self):
        for dtype in (DOUBLE, torch.float32, torch.bfloat16):
            with self.subTest(dtype=dtype):
                self.run_on(2 + (dtype == DOUBLE), check_merge, dtype)

    def test_refusals(self):
        self.run_on(2, check_refusals)

    def test_sixteen_bits(self):
        self.run_on(2, check_sixteen_bits)


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


def network(dtype):
    """The same on every rank."""
    torch.manual_seed(5)
    layers = [HOFTLinear(torch.nn.Linear(n, m, dtype=dtype), (4, 2), scaled=True) for n, m in ((6, 12), (12, 6))]
    for layer in layers:
        torch.nn.init.normal_(layer.u), torch.nn.init.normal_(layer.v), torch.nn.init.uniform_(layer.d)
    return torch.nn.Sequential(layers[0], torch.nn.Tanh(), layers[1])


def sharded(model):
    """By FSDP2: the first layer for itself, the last with the root, which stays gathered behind a forward pass."""
    fully_shard(model[0])
    return fully_shard(model)


def check_fsdp_training(mesh, dtype):
    whole, model = network(dtype), sharded(network(dtype))
    x, goal = torch.randn(8, 6, dtype=dtype), torch.randn(8, 6, dtype=dtype)
    mine = lambda a: a.chunk(mesh.size())[mesh.get_local_rank()]
    optimisers = [torch.optim.SGD(m.parameters(), lr=0.1) for m in (whole, model)]
    for _ in range(4):
        for optimiser in optimisers:
            optimiser.zero_grad()
        (whole(x) - goal).square().mean().backward()
        (model(mine(x)) - mine(goal)).square().mean().backward()
        for optimiser in optimisers:
            optimiser.step()
    full = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    for name, value in whole.state_dict().items():
        if "extra" not in name:
            judge.assertClose(full[name], value, 10 * max(1, value.norm()), 40)
    # What was made of weights is made again of others: the base's are loaded as well.
    for a in whole.parameters():
        a.data.mul_(0.5)
    set_model_state_dict(model, whole.state_dict(), options=StateDictOptions(full_state_dict=True))
    judge.assertClose(model(x).detach(), whole(x).detach(), 10 * x.norm(), 40)


def check_fsdp_merge(mesh, dtype):
    x, g = torch.randn(8, 6, dtype=dtype), torch.randn(8, 6, dtype=dtype)
    for called_before in (False, True):
        whole, model = network(dtype), sharded(network(dtype))
        before = whole(x).detach()
        if called_before:
            model(x).backward(g)
            with judge.assertRaisesRegex(RuntimeError, r"merge: FSDP has gathered the weight, .* reshard\(\)"):
                model(x), model[2].merge()
            judge.assertFalse(model[2].merged)
            model.reshard()
        for layer, other in ((model[0], whole[0]), (model[2], whole[2])):
            weight = other.base.weight.clone()
            layer.merge(), other.merge()
            judge.assertClose(layer.base.weight.full_tensor(), other.base.weight, 4 * weight.norm(), 20)
        judge.assertClose(model(x).detach(), before, 10 * x.norm(), 40)
        model.reshard()
        for layer, other in ((model[0], whole[0]), (model[2], whole[2])):
            layer.unmerge(), other.unmerge()
            judge.assertClose(layer.base.weight.full_tensor(), other.base.weight, 8 * weight.norm(), 40)
        judge.assertClose(model(x).detach(), before, 10 * x.norm(), 80)


def check_fsdp_order(mesh):
    base = fully_shard(torch.nn.Sequential(torch.nn.Linear(6, 6)))
    with judge.assertRaisesRegex(ValueError, "HOFTLinear: the base belongs to fully_shard already, which must be called"):
        HOFTLinear(base[0], 2)


def check_ddp(mesh):
    x = torch.randn(4, 6) + mesh.get_local_rank()
    model = network(torch.float32)
    model[0].merge()
    parallel_model = torch.nn.parallel.DistributedDataParallel(model)
    with judge.assertRaisesRegex(RuntimeError, "HOFTLinear: DistributedDataParallel waits for .* find_unused_parameters"):
        parallel_model(x)
    with torch.no_grad():
        parallel_model(x)
    frozen = network(torch.float32)
    frozen[0].merge()
    for a in (frozen[0].u, frozen[0].v, frozen[0].d):
        a.requires_grad_(False)
    for model in (
        torch.nn.parallel.DistributedDataParallel(model, find_unused_parameters=True),
        torch.nn.parallel.DistributedDataParallel(frozen),
        torch.nn.parallel.DistributedDataParallel(network(torch.float32)),
    ):
        for _ in range(3):
            model.zero_grad()
            model(x).square().sum().backward()
        gradient = model.module[2].u.grad
        first = gradient.clone()
        torch.distributed.broadcast(first, 0)
        judge.assertTrue(torch.equal(gradient, first) and float(first.norm()) > 0)


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


class DataParallel(Parallel):
    def test_fsdp_trains_as_one_process(self):
        for dtype in (DOUBLE, torch.float32):
            with self.subTest(dtype=dtype):
                self.run_on(2, check_fsdp_training, dtype)

    def test_fsdp_merge(self):
        for dtype in (DOUBLE, torch.float32):
            with self.subTest(dtype=dtype):
                self.run_on(2, check_fsdp_merge, dtype)

    def test_fsdp_comes_last(self):
        self.run_on(2, check_fsdp_order)

    def test_ddp_and_a_merged_layer(self):
        self.run_on(2, check_ddp)


if __name__ == "__main__":
    unittest.main()
