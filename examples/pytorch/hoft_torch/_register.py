# SPDX-License-Identifier: BSD-3-Clause
"""Operators of torch.ops.hoft as PyTorch wants them described, once for all its versions: what shapes they give (so that
torch.compile, torch.export and tensors without memory work), what their gradients are, and what vmap makes of them.

torch.library takes these where it can (PyTorch 2.4). Before, and where tensors are computed with as they are, an
autograd.Function has the gradients, which costs less for each call.
"""

from typing import Any, Callable, Optional, Sequence, Tuple

import torch

HAS_LIBRARY = hasattr(torch.library, "register_autograd")


class Operator:
    """One of torch.ops.hoft, called with positional arguments: as PyTorch knows it, or, where nobody looks on, by `eager`,
    the same with less between.

    fake(*args): empty outputs of the right shapes, types and strides, from arguments without memory.
    save(ctx, args, outputs): what the backward pass needs, through ctx.save_for_backward. None: no gradients.
    backward(ctx, *doutputs): one gradient or None for each argument. It is called with gradients enabled where it
        is itself to be differentiated (create_graph=True), and answers with what can be: see `derivative`.
    tokens: positions of the arguments [t, features] of which each row is treated alone, and whose rows vmap joins.
    joined: positions of the outputs that are so as well.
    batches: all tensors may have more extents in front, alike in each: one call is vmap's. Over other arguments vmap
        calls the operator in turn.
    """

    def __init__(
        self,
        name: str,
        fake: Callable[..., Any],
        save: Optional[Callable[..., None]] = None,
        backward: Optional[Callable[..., Any]] = None,
        tokens: Sequence[int] = (),
        joined: Sequence[int] = (),
        batches: bool = False,
    ) -> None:
        self.call = self.eager = getattr(torch.ops.hoft, name)
        if backward is not None:
            self.eager = _function(name, self.call, save, backward)
        if HAS_LIBRARY:
            qualified = f"hoft::{name}"
            torch.library.register_fake(qualified, fake)
            if backward is not None:
                torch.library.register_autograd(
                    qualified, backward, setup_context=lambda ctx, inputs, output: save(ctx, inputs, output)
                )
            torch.library.register_vmap(qualified, _vmap(self, tuple(tokens), tuple(joined), batches))
        else:
            self.call = self.eager

    def __call__(self, *args: Any) -> Any:
        return self.call(*args)


def _function(name: str, call: Callable[..., Any], save: Callable[..., None], backward: Callable[..., Any]) -> Any:
    """The operator with its gradients, without torch.library."""

    def forward(ctx: Any, *args: Any) -> Any:
        outputs = call(*args)
        save(ctx, args, outputs)
        return outputs

    functions = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    return type(name, (torch.autograd.Function,), functions).apply


def _vmap(
    operator: Operator, tokens: Tuple[int, ...], joined: Tuple[int, ...], batches: bool
) -> Callable[..., Any]:
    def rule(info: Any, in_dims: Tuple[Optional[int], ...], *args: Any) -> Any:
        batched = [i for i, dim in enumerate(in_dims) if dim is not None]
        size = info.batch_size
        if batched and set(batched) <= set(tokens) and all(args[i].dim() - (i in batched) == 2 for i in tokens):
            rows = list(args)
            for i in tokens:
                rows[i] = _in_front(args[i], in_dims[i], size).flatten(0, 1)
            outputs = operator(*rows)
            if torch.is_tensor(outputs):
                return _apart(outputs, size), 0
            # An output that was not asked for is an empty vector, and alike for all.
            split = [i in joined and o.dim() > 1 for i, o in enumerate(outputs)]
            apart = tuple(_apart(o, size) if of_each else o for o, of_each in zip(outputs, split))
            return apart, tuple(0 if of_each else None for of_each in split)
        if batched and batches:
            outputs = operator(*(_in_front(a, dim, size) for a, dim in zip(args, in_dims)))
            if torch.is_tensor(outputs):
                return outputs, 0
            return outputs, tuple(0 if o.dim() > 1 else None for o in outputs)
        each = [
            operator(*(a if dim is None else a.select(dim, i) for a, dim in zip(args, in_dims))) for i in range(size)
        ]
        if torch.is_tensor(each[0]):
            return torch.stack(each), 0
        return tuple(torch.stack(outputs) for outputs in zip(*each)), (0,) * len(each[0])

    return rule


def _in_front(a: Any, dim: Optional[int], size: int) -> Any:
    """A tensor with vmap's extent in front of all others; what is none as it is."""
    if not torch.is_tensor(a):
        return a
    return a.expand(size, *a.shape) if dim is None else a.movedim(dim, 0)


def _apart(rows: torch.Tensor, size: int) -> torch.Tensor:
    return rows.reshape(size, rows.shape[0] // size, *rows.shape[1:])


def transforms() -> str:
    """Which of torch.func's transforms are at work: "none", "vmap" alone, or "others" as well."""
    functorch = torch._C._functorch
    if not hasattr(functorch, "peek_interpreter_stack"):  # before PyTorch 2 vmap runs over formulas as the others do
        return "others" if functorch.are_transforms_active() else "none"
    if functorch.peek_interpreter_stack() is None:
        return "none"
    stack = functorch.get_interpreter_stack()
    return "vmap" if all(level.key() == functorch.TransformType.Vmap for level in stack) else "others"
