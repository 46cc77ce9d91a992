"""Products that contract named axes; every other axis is matched or spread by name."""

from __future__ import annotations

import torch
from torch import Tensor

from midsl.ops.axis import Over, keep_axis, unit
from midsl.ops.elementwise import as_float
from midsl.ops.named import NT, as_axes, joint_sizes
from midsl.ops.registry import op


@op("dot")
def dot(a: NT, b: NT, over: Over) -> NT:
    """Sum of products over the axes that both operands have.

    Raises:
        ValueError: if an operand lacks one of the axes, or sizes disagree.
    """
    names = as_axes(over)
    for n in names:
        a.dim(n), b.dim(n)
    sizes = joint_sizes(a, b)
    x, y = _alike(a.data, b.data)
    out = tuple(n for n in sizes if n not in names)
    number = {n: i for i, n in enumerate(sizes)}
    # einsum by axis numbers: a name that both have and that stays becomes a batch dimension
    subscripts = [[number[n] for n in axes] for axes in (a.axes, b.axes, out)]
    data = torch.einsum(x, subscripts[0], y, subscripts[1], subscripts[2])
    return NT(data, out)


@op("cosine")
def cosine(a: NT, b: NT, over: Over) -> NT:
    """Cosine of the angle between two vectors; 0 where one of them is zero."""
    return dot(_unit(a, over), _unit(b, over), over)


def _unit(x: NT, over: Over) -> NT:
    return keep_axis(x, over, lambda t: unit(as_float(t)))


def _alike(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    x, y = as_float(x), as_float(y)
    dtype = torch.promote_types(x.dtype, y.dtype)
    return x.to(dtype), y.to(dtype)
