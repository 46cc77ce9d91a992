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


@op("project")
def project(x: NT, onto: NT, over: Over) -> NT:
    """Orthogonal projection of vectors along an axis on the span of the vectors of `onto` [over, any].

    Directions of `onto` with singular values below 1e-6 of the largest count as none.
    """
    (space,) = as_axes(over)
    (other,) = (a for a in onto.axes if a != space)
    w = as_float(onto.permute_to((space, other)).data).double()
    rest, dtype = tuple(a for a in x.axes if a != space), as_float(x.data).dtype
    data = as_float(x.permute_to((*rest, space)).data).double()
    inside = data @ w @ torch.linalg.pinv(w, rtol=1e-6)
    return NT(inside.to(dtype), (*rest, space)).permute_to(x.axes)


@op("orthonormal")
def orthonormal(x: NT, over: Over) -> NT:
    """Orthonormal vectors along `over` that span what those of x [over, k] span; zeros where they span less.

    Those whose singular value is below 1e-6 of the unit count as zero: x should hold vectors of about unit
    length. Its gradient is undefined where two directions are one.
    """
    (space,) = as_axes(over)
    (other,) = (a for a in x.axes if a != space)
    data = as_float(x.permute_to((space, other)).data)
    u, s, vt = torch.linalg.svd(data.double(), full_matrices=False)
    live = (s > 1e-6).to(s.dtype)
    # the nearest orthonormal vectors to those given, so that one that is alone keeps its direction
    found = (u * live) @ vt
    return NT(found.to(data.dtype), (space, other)).permute_to(x.axes)


@op("eigenvectors")
def eigenvectors(x: NT, over: Over, into: str, k: int) -> NT:
    """The `k` orthonormal eigenvectors, along `over`, of a symmetric matrix [over, other]: largest first.

    Of the two that each has, the one whose entry of largest size is positive.
    """
    (space,) = as_axes(over)
    data, _ = _square(x, space)
    found = torch.linalg.eigh((data + data.mT) / 2)[1].flip(-1)[..., :k]
    at = found.abs().argmax(-2, keepdim=True)
    found = found * torch.sign(found.gather(-2, at))
    return NT(found.to(as_float(x.data).dtype), (space, into))


@op("solve")
def solve(a: NT, b: NT, over: Over, ridge: float = 0.0) -> NT:
    """What a symmetric matrix a [over, other] maps to b [over, ..], along `other`; `ridge` is added to its

    diagonal. Directions with eigenvalues below 1e-12 of the largest count as none. Where a has further axes
    that b has, too, there is a matrix for each.
    """
    (space,) = as_axes(over)
    each = tuple(n for n in a.axes if n in b.axes and n != space)
    rest = tuple(n for n in b.axes if n not in (space, *each))
    data, other = _square(a, space, each)
    right = as_float(b.permute_to((*each, space, *rest)).data).double()
    data = data + ridge * torch.eye(data.shape[-1], dtype=data.dtype, device=data.device)
    columns = right.reshape(*right.shape[: len(each) + 1], -1)
    found = torch.linalg.pinv(data, rtol=1e-12, hermitian=True) @ columns
    return NT(found.reshape(right.shape).to(as_float(b.data).dtype), (*each, other, *rest))


def _square(x: NT, space: str, each: tuple[str, ...] = ()) -> tuple[Tensor, str]:
    """A matrix [*each, space, other] in float64, and the axis that is as long as `space` and not named."""
    (other,) = (a for a in x.axes if a not in (space, *each))
    data = as_float(x.permute_to((*each, space, other)).data).double()
    if data.shape[-1] != data.shape[-2]:
        raise ValueError(f"a square matrix is needed, not {x.sizes}")
    return data, other
