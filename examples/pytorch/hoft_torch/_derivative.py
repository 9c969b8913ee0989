# SPDX-License-Identifier: BSD-3-Clause
"""Gradients by a formula, for those that are to be differentiated again."""

from typing import Callable, Optional, Sequence, Tuple

import torch

from ._inputs import _no_autocast


def derivative(
    function: Callable[..., torch.Tensor],
    inputs: Sequence[Optional[torch.Tensor]],
    wanted: Sequence[bool],
    cotangent: torch.Tensor,
) -> Tuple[Optional[torch.Tensor], ...]:
    """Gradients of function(*inputs) for the wanted inputs, None for others, that can be differentiated again. In the
    types of the inputs, also where autocast is on: the operators compute so too."""
    with torch.enable_grad(), _no_autocast(cotangent.device):
        # Views, so that an input that was computed from another one does not count for that as well.
        apart = [a.view_as(a) if want else a for a, want in zip(inputs, wanted)]
        apart = [a if not want or a.requires_grad else a.requires_grad_() for a, want in zip(apart, wanted)]
        y = function(*apart)
        sought = [a for a, want in zip(apart, wanted) if want]
        found = iter(torch.autograd.grad(y, sought, cotangent, create_graph=True, allow_unused=True))
    return tuple(next(found) if want else None for want in wanted)
