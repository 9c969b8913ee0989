# SPDX-License-Identifier: BSD-3-Clause
"""Layers whose frozen base is split over ranks: tensor parallelism through DTensor, and merging under FSDP2.

A base is split by `parallelize_module` with ColwiseParallel or RowwiseParallel, or by a tp_plan of transformers. What is
trained lies where the weight does:

    base              weight [m, n]       u [ru, m]        v [rv, n]        s [m]
    ColwiseParallel   rows on each rank   split            whole            split
    RowwiseParallel   columns             whole            split            whole

They are DTensors, so optimisers, clipping of gradients and distributed checkpoints treat them as the rest of the model.
On the side that is whole, the operators of hoft apply the reflectors. On the split side _split.py does, in PyTorch's own
operations: Q = I − Aᵀ T A for the rows a of A, each a reflector over its largest element, with
T = (striu(A Aᵀ) + ½ diag(A Aᵀ))⁻¹. A call sums over ranks r numbers (largest elements), r² (A Aᵀ), and r for each token
(A x), and the last again in the backward pass, in float or double. In time it costs two more passes over the tokens than
hoft's operator does, and for 16-bit tokens a copy of them in float. The base is called once, on Q_V x.
"""

import contextlib
import warnings
from typing import Any, Callable, Iterable, Optional, Sequence, Tuple

import torch

from ._ranks import GATHERED, Once, all_reduce, distributed, is_dtensor, of_fsdp
from ._split import Split
from .functional import master_dtype

Tensor = torch.Tensor

_uncompiled = torch.compiler.disable if hasattr(torch, "compiler") else lambda function: function


def is_split(base: Callable, u: Tensor, v: Tensor, function: str = "HOFTLinear") -> bool:
    """Whether `call` must be taken for this base, u and v in the place of an ordinary call.

    Raises ValueError where u and v are split and the base is not, or the other way round.
    """
    split = is_dtensor(u) or is_dtensor(v)
    if not is_dtensor(getattr(base, "weight", None)):
        if split:
            raise ValueError(f"{function}: u or v is split over ranks, the weight of the base is not. {GATHERED}")
        return False
    if split or not of_fsdp(base):
        return True
    if is_dtensor(getattr(base, "bias", None)):
        raise ValueError(f"{function}: fully_shard was called for the base, whose bias is needed here: call it for the layer")
    return False  # FSDP gathers the weight as soon as the base is called


@_uncompiled
def call(
    base: torch.nn.Module,
    x: Tensor,
    u: Tensor,
    v: Tensor,
    s: Optional[Tensor] = None,
    *args: Any,
    outer: Sequence[Tuple[Tensor, Optional[Tensor]]] = (),
    function: str = "HOFTLinear",
    **kwargs: Any,
) -> Tensor:
    """Q_U diag(s) M Q_V x + b for the base's M and b, which are split over ranks. u, v and s are DTensors as `place` makes
    them; s is None for HOFT. x and what is returned are what the base takes and returns: local tensors or DTensors, in the
    layouts that its parallel style was given. Other arguments go to the base. outer: (u, s) of what is applied to
    Q_U diag(s) M Q_V x after it, one by one.

    The base is called once as a module. Its style's hooks stay around what is done here. While it is called it has no bias.

    Raises ValueError where parameters or tokens are split in another way than the weight.
    Cost beside the base's call: see above. All ranks of the mesh take part, in the backward pass too.
    """
    split = Split(base, function)
    right = split.product("v", split.part("v", v))
    lefts = [(split.product("u", split.part("u", u)), None if s is None else split.part("s", s)) for u, s in ((u, s), *outer)]
    tokens = []

    def before(module, arguments):
        z = _through(split, "v", arguments[0], right)
        tokens.append(z.shape[:-1])
        return (z, *arguments[1:])

    bias = base._parameters.get("bias")

    def adapt(p):
        for left, scale in lefts:
            p = left(p if scale is None else (p * scale).to(p.dtype))
        return p if bias is None else p + (bias.to_local() if is_dtensor(bias) else bias).to(p.dtype)

    def after(module, arguments, out):
        y = _through(split, "u", out, adapt)
        if y.shape[:-1] != tokens[0]:
            raise ValueError(
                f"{function}: the base was given {list(tokens[0])} tokens and returned {list(y.shape[:-1])}, must return as "
                "many: where tokens are split as well, split the base by parallelize_module"
            )
        return y

    # Inside the hooks of ColwiseParallel and RowwiseParallel, which turn tokens into DTensors and back.
    hooks = [base.register_forward_pre_hook(before), base.register_forward_hook(after, prepend=True)]
    try:
        with _without_bias(base):
            return base(Once.apply(x), *args, **kwargs)
    finally:
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def _without_bias(base):
    """The bias does not go through Q_U; and a base that sums over ranks would add it on each."""
    bias = base._parameters.get("bias")
    if bias is None:
        yield
        return
    base._parameters["bias"] = None
    try:
        yield
    finally:
        base._parameters["bias"] = bias


def _through(split, side, tokens, function):
    """`function` of this rank's part of the tokens [..., features] of M's side of u or v, in the kind of the tokens."""
    from torch.distributed.tensor import DTensor, Replicate, Shard

    name, dimension = ("x", 1) if side == "v" else ("the base's output", 0)
    whole, local = split.whole[dimension], split.local[dimension] if split.splits(side) else split.whole[dimension]
    plain, features = not is_dtensor(tokens), tokens.shape[-1]
    if features != whole and not (plain and features == local):
        raise ValueError(
            f"{split.function}: {name} has {features} features on this rank, must have {whole if not plain else local}, "
            f"since {'rows' if split.by_rows else 'columns'} of the weight {list(split.whole)} are split"
        )
    if plain and features == local:
        return function(tokens)
    if plain:  # whole on every rank, though the weight's features are split: 'colwise_gather_output' of a tp_plan
        tokens = DTensor.from_local(tokens, split.mesh, [Replicate()], run_check=False)
    wanted = [Shard(tokens.dim() - 1) if split.splits(side) else Replicate()]
    parts = tokens.redistribute(placements=wanted)
    result = DTensor.from_local(
        function(parts.to_local()), split.mesh, wanted, run_check=False, shape=tokens.shape, stride=tokens.stride()
    )
    return result.redistribute(placements=[Replicate()]).to_local() if plain else result


def place(
    base: Callable, u: Optional[Tensor], v: Optional[Tensor], s: Optional[Tensor] = None, function: str = "HOFTLinear"
) -> Tuple[Optional[Tensor], Optional[Tensor], Optional[Tensor]]:
    """u, v and s (each may be None; or s − 1) as parameters that lie as the weight of `base` does, with the values of the mesh's
    first rank: DTensors. As they came where the base is not split.

    Raises ValueError where the base is split in a way that is not known, or by FSDP2, which must come last.
    """
    if of_fsdp(base):
        raise ValueError(f"{function}: the base belongs to fully_shard already, which must be called after this")
    if not is_dtensor(getattr(base, "weight", None)):
        return u, v, s
    split = Split(base, function)

    def placed(name, value):
        if value is None or is_dtensor(value):
            return value
        source = None if value.is_meta else 0
        split_value = distributed(value.detach(), split.mesh, split.placements[name], source)
        return torch.nn.Parameter(split_value, requires_grad=value.requires_grad)

    return placed("u", u), placed("v", v), placed("s", s)


def same(value: Tensor, like: Tensor) -> Tensor:
    """`value` of the mesh's first rank, to be multiplied with the DTensor `like`; itself beside any other tensor."""
    if not is_dtensor(like):
        return value
    from torch.distributed.tensor import Replicate

    return distributed(value, like.device_mesh, [Replicate()], 0)


def parts_here(a: Tensor, b: Tensor) -> Tuple[Tensor, Tensor]:
    """This rank's parts of two tensors of one shape: where one of them is split, the same part of the other."""
    like = a if is_dtensor(a) else b
    if not is_dtensor(like):
        return a, b
    split = (x if is_dtensor(x) else distributed(x, like.device_mesh, like.placements, None) for x in (a, b))
    return tuple(x.to_local() for x in split)


def _local_merge(base, u, v, s, function, inverse):
    """The new values of this rank's part of the weight. All ranks raise where one has values that are not finite."""
    weight = base.weight
    if not is_dtensor(weight):
        raise RuntimeError(
            f"{function}: FSDP has gathered the weight, and would forget what is written to it: call reshard() of the "
            "modules that fully_shard was called for"
        )
    split = Split(base, function)
    kind = master_dtype(weight.dtype)
    parts = [(name, split.moved_part(name, value).to(kind)) for name, value in (("u", u), ("v", v))]
    left, right = (split.product(name, part) for name, part in parts)
    scale = None if s is None else split.moved_part("s", s).to(kind)[:, None]
    if scale is not None and bool((scale == 0).any()):
        warnings.warn(f"hoft {function}: {int((scale == 0).sum())} elements of s are 0; unmerging is not possible")
    M = weight.to_local().to(kind)
    if inverse:
        M = left(M.t().contiguous(), adjoint=True).t()
        M = right((M if scale is None else M / scale).contiguous())
    else:
        M = right(M, adjoint=True)
        M = left((M if scale is None else M * scale).t().contiguous()).t()
    M = M.to(weight.dtype)
    if all_reduce(torch.isfinite(M).all().to(torch.int32), "min", split.mesh).item() == 0:
        raise ValueError(f"{function}: the weight would hold values that are not finite; nothing was written")
    return M


@_uncompiled
@torch.no_grad()
def merge_into(base: torch.nn.Module, u: Tensor, v: Tensor, s: Optional[Tensor] = None, function: str = "merge") -> None:
    """Puts Q_U diag(s) M Q_V in the place of the base's M, which is split over ranks by its rows or columns: by tensor
    parallelism, or by FSDP2 before and between calls. All ranks of the mesh take part.

    u, v, s: whole or split in any way, on every rank.
    Raises before anything is written: where FSDP has gathered the weight, where values are not finite.
    Cost: 4 (ru + rv) flops for each element that this rank has, whose copies in float or double are kept meanwhile;
    rank × features numbers are summed, of the side that is not split.
    """
    M = _local_merge(base, u, v, s, function, inverse=False)
    base.weight.to_local().copy_(M)


@_uncompiled
@torch.no_grad()
def unmerge_from(base: torch.nn.Module, u: Tensor, v: Tensor, s: Optional[Tensor] = None, function: str = "unmerge") -> None:
    """The inverse of `merge_into`, to the rounding of the weight's type. Raises where an s is 0."""
    M = _local_merge(base, u, v, s, function, inverse=True)
    base.weight.to_local().copy_(M)


def is_spread(base: Callable) -> bool:
    """Whether merging must be done by `merge_into`: other ranks have parts of the weight, or wait for its changes."""
    return is_dtensor(getattr(base, "weight", None)) or of_fsdp(base)


def require_used(parameters: Iterable[Optional[Tensor]], function: str = "HOFTLinear") -> None:
    """Raises RuntimeError inside the forward pass of DistributedDataParallel if one of `parameters`, which the layer is
    merged and does not use, is trained: DDP would wait for its gradient and fail in the next step."""
    parallel = torch.nn.parallel.DistributedDataParallel
    ddp = getattr(parallel, "_active_ddp_module", None)
    if ddp is None or not torch.is_grad_enabled() or ddp.find_unused_parameters or ddp.static_graph:
        return
    if any(a is not None and a.requires_grad for a in parameters):
        raise RuntimeError(
            f"{function}: DistributedDataParallel waits for the gradients of u and v, which a merged layer does not use: "
            "unmerge it; or call requires_grad_(False) of u and v before the model is given to DDP; or give DDP "
            "find_unused_parameters=True"
        )
