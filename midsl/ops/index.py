"""Taking parts of a named axis: one index, several, one per row, or one stretch per row."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from midsl.ops.named import NT, align


def select(x: NT, axis: str, index: int | Sequence[int] | NT) -> NT:
    """Index one axis.

    An int takes the axis away. A list keeps it, in the order of the list. A named int64 tensor takes
    one index per combination of its own axes, matched by name to those of `x` (``[batch]``,
    ``[batch, pos]``); axes that `x` lacks come last, except one of the same name as `axis`, which
    takes its place. Negative indices count from the end.

    Raises:
        ValueError: no such axis, or sizes that disagree.
        IndexError: an index out of range.
    """
    dim = x.dim(axis)
    if isinstance(index, int):
        return NT(x.data.select(dim, index), tuple(a for a in x.axes if a != axis))
    if not isinstance(index, NT):
        index = NT(torch.tensor(list(index), dtype=torch.int64, device=x.data.device), (axis,))
    shared = tuple(a for a in x.axes if a in index.axes and a != axis)
    new = tuple(a for a in index.axes if a not in shared)
    rest = tuple(a for a in x.axes if a not in shared and a != axis)
    data = x.permute_to((*shared, axis, *rest)).data
    where = index.permute_to((*shared, *new))
    rows = [NT(torch.arange(x.size(a), device=data.device), (a,)) for a in shared]
    grid, _ = align(where, *rows)
    found = NT(data[(*grid[1:], grid[0])], (*shared, *new, *rest))
    order = [axis if a == axis else a for a in x.axes if a != axis or axis in new]
    return found.permute_to((*order, *(a for a in new if a != axis)))


def span_select(x: NT, axis: str, lo: int | NT, length: int, step: int = 1) -> NT:
    """Take ``lo, lo + step, ...`` (`length` of them) along an axis, from a start that may differ per row.

    The axis stays, of size `length`; what lies outside of it is 0.

    lo: an int, or int64 with axes such as ``[batch]``.
    """
    start = NT(torch.tensor(lo), ()) if isinstance(lo, int) else lo
    steps = NT(torch.arange(length, device=x.data.device) * step, (axis,))
    (a, b), axes = align(NT(start.data.to(x.data.device), start.axes), steps)
    at = NT(a + b, axes)
    size = x.size(axis)
    inside = NT((at.data >= 0) & (at.data < size), axes)
    if size == 0:
        x = NT(x.data.new_zeros([1 if n == axis else s for n, s in x.sizes.items()]), x.axes)
    found = select(x, axis, NT(at.data.clamp(0, max(size - 1, 0)), axes))
    (values, keep), order = align(found, inside)
    return NT(torch.where(keep, values, torch.zeros((), dtype=values.dtype, device=values.device)), order)
