"""A gradient carried back through a map: one product with its Jacobian, by autograd."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch

from midsl.ops.named import NT


def pull_back(f: Callable[[NT], NT], at: NT, by: NT, over: Collection[str]) -> NT:
    """Return by · df/dx at `at`: axes of `at`, and those of `by` and `f` that are not in `over`.

    Args:
        f: a map of each row, position and point, which may have more axes than its argument.
        at: where it is taken.
        by: the gradient with respect to f(at).
        over: the axes of f(at) that are summed over.
    """
    with torch.enable_grad():
        sizes = dict(at.sizes)
        for x in (by, f(NT(at.data.detach(), at.axes))):
            sizes |= {a: n for a, n in x.sizes.items() if a not in over and a not in at.axes}
        x = NT(at.expand(sizes).data.detach().clone().requires_grad_(), tuple(sizes))
        y = f(x)
        if not y.data.requires_grad:
            return NT(torch.zeros_like(x.data), x.axes)
        weight = by.expand({**y.sizes, **by.sizes}).permute_to(y.axes).data.to(y.data.dtype)
        (found,) = torch.autograd.grad(y.data, x.data, weight)
    return NT(found, x.axes)
