# SPDX-License-Identifier: BSD-3-Clause
"""The contestants: each a frozen linear layer with what one method trains."""

import contextlib
import dataclasses
import typing

import torch

import formulas

try:
    import peft
except ImportError:
    peft = None


class CannotRun(Exception):
    pass


@dataclasses.dataclass
class Contestant:
    forward: typing.Callable  # x -> y
    x: torch.Tensor
    parameters: list
    formula: typing.Optional[typing.Callable] = None  # (x, weight, parameters) -> y in plain PyTorch, any type
    adapters: str = "float"

    def count(self):
        return sum(p.numel() for p in self.parameters)

    def clear(self):
        for p in (self.x, *self.parameters):
            p.grad = None

    def step(self, dy):
        self.forward(self.x).backward(dy)


def leaf(x):
    return x.detach().requires_grad_()


def ours(setup, scaled=False, keep_q=True):
    if setup.operators is None:
        raise CannotRun(setup.why_no_operators)
    import hoft_torch  # here, so that the others run where it does not compile

    m, n = setup.weight.shape
    kind = {"device": setup.weight.device, "dtype": torch.promote_types(setup.weight.dtype, torch.float32)}
    u, v = (torch.randn(setup.rank, size, **kind).requires_grad_() for size in (m, n))
    if scaled:
        parameters = [u, v, torch.empty(m, **kind).uniform_(0.5, 1.5).requires_grad_()]
        forward = lambda x: hoft_torch.shoft_linear(x, setup.weight, *parameters, keep_q=keep_q)
    else:
        parameters = [u, v]
        forward = lambda x: hoft_torch.hoft_linear(x, setup.weight, *parameters)
    formula = lambda x, weight, p: formulas.by_reflectors(x, weight, p[0], p[1], p[2] if scaled else p[0][0, :0])
    return Contestant(forward, leaf(setup.x), parameters, formula)


def frozen(setup):
    linear = lambda x, weight, _: torch.nn.functional.linear(x, weight)
    return Contestant(lambda x: linear(x, setup.weight, ()), leaf(setup.x), [], linear)


def paper(setup, compiled=False):
    m, n = setup.weight.shape
    kind = {"device": setup.weight.device, "dtype": torch.promote_types(setup.weight.dtype, torch.float32)}
    u, v = (torch.randn(setup.rank, size, **kind).requires_grad_() for size in (m, n))
    function = formulas.paper
    if compiled:
        if not hasattr(torch, "compile"):
            raise CannotRun(f"PyTorch {torch.__version__} has no torch.compile")
        function = torch.compile(formulas.paper, dynamic=False)
    formula = lambda x, weight, p: formulas.paper(x, weight, *p)
    return Contestant(lambda x: function(x, setup.weight, u, v), leaf(setup.x), [u, v], formula)


def from_peft(setup, name, formula=None, **options):
    """Adapters in the type of the weight, which spares PEFT all conversions; where PEFT fails with that, float ones
    under autocast."""
    if peft is None:
        raise CannotRun("PEFT is not installed for this Python")
    if not hasattr(peft, name):
        raise CannotRun(f"PEFT {peft.__version__} has no {name}")
    reasons = []
    kinds = ("as the weight", "float, autocast") if setup.weight.dtype == torch.bfloat16 else ("as the weight",)
    for kind in kinds:
        as_weight = kind == "as the weight"
        try:
            linear = torch.nn.Linear(*reversed(setup.weight.shape), bias=False, device="meta")
            linear.weight = torch.nn.Parameter(setup.weight, requires_grad=False)
            model = torch.nn.Sequential()
            model.add_module("linear", linear)
            config = getattr(peft, name)(target_modules=["linear"], **options)
            model = peft.get_peft_model(model, config, autocast_adapter_dtype=not as_weight)
            layer = model.base_model.model.linear
            if as_weight:
                layer.to(setup.weight.dtype)
            guard = lambda: torch.autocast(setup.weight.device.type, dtype=torch.bfloat16)
            if as_weight:
                guard = contextlib.nullcontext

            def forward(x):
                with guard():
                    return layer(x)

            parameters = [p for p in layer.parameters() if p.requires_grad]
            result = Contestant(forward, leaf(setup.x), parameters, formula, kind)
            result.step(setup.dy)
            for p in parameters:
                if p.grad is None or not bool(torch.isfinite(p.grad).all()) or float(p.grad.abs().max()) == 0:
                    raise CannotRun("a parameter gets no gradient, or one that is zero or not finite")
            result.clear()
            return result
        except Exception as error:  # whatever PEFT meets is told in the table
            reasons.append(
                f"{kind}: {type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
            )
    raise CannotRun("; ".join(reasons))


def lora(setup, rank, **options):
    """M + B A with lora_alpha = rank, that is without a factor. DoRA is checked by PEFT alone."""
    formula = lambda x, weight, p: torch.nn.functional.linear(x, weight + p[1] @ p[0])
    return from_peft(
        setup,
        "LoraConfig",
        None if options else formula,
        r=rank,
        lora_alpha=rank,
        init_lora_weights=False,
        **options,
    )


# name: (what it is, how to make it)
CONTESTANTS = {
    "frozen": ("the frozen layer alone", frozen),
    "hoft": ("hoft, HOFT", ours),
    "shoft": ("hoft, SHOFT", lambda s: ours(s, scaled=True)),
    "shoft_from_output": ("hoft, SHOFT, q recovered from y", lambda s: ours(s, scaled=True, keep_q=False)),
    "lora_r": ("PEFT LoRA of rank r", lambda s: lora(s, s.rank)),
    "lora_2r": ("PEFT LoRA of rank 2 r", lambda s: lora(s, 2 * s.rank)),
    "dora_r": ("PEFT DoRA of rank r", lambda s: lora(s, s.rank, use_dora=True)),
    "oft": (
        "PEFT OFT, blocks of 32",
        lambda s: from_peft(s, "OFTConfig", r=0, oft_block_size=32, init_weights=False),
    ),
    "boft": (
        "PEFT BOFT, blocks of 8, two factors",
        lambda s: from_peft(s, "BOFTConfig", boft_block_size=8, boft_n_butterfly_factor=2, init_weights=False),
    ),
    "hra_r": ("PEFT HRA of r reflectors", lambda s: from_peft(s, "HRAConfig", r=s.rank, init_weights=False)),
    "hra_2r": ("PEFT HRA of 2 r reflectors", lambda s: from_peft(s, "HRAConfig", r=2 * s.rank, init_weights=False)),
    "paper": ("the HOFT paper's formulation, eager", paper),
    "paper_compiled": ("the HOFT paper's formulation, torch.compile", lambda s: paper(s, compiled=True)),
}
