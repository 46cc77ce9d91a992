"""Operations that run over named axes: softmax and its kin, norms, orderings.

Several axes in `over` count as one long axis, row-major. Orderings need exactly one, because an
index into several flattened axes would have no name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import torch
from torch import Tensor

from midsl.ops.elementwise import as_float
from midsl.ops.named import NT, align, as_axes, joint_sizes
from midsl.ops.registry import op

Over = str | Sequence[str]


def to_last(x: NT, over: Over) -> tuple[Tensor, tuple[str, ...]]:
    """Return the tensor with the axes `over` flattened into the last dimension, and the other axes.

    Raises:
        ValueError: if one of the axes is not there.
    """
    names = as_axes(over)
    for a in names:
        x.dim(a)
    rest = tuple(a for a in x.axes if a not in names)
    data = x.permute_to((*rest, *names)).data
    return data.reshape(*data.shape[: len(rest)], -1), rest


def keep_axis(x: NT, over: Over, f: Callable[[Tensor], Tensor]) -> NT:
    """Apply a function of the last dimension that keeps its length; axes stay as they are."""
    data, rest = to_last(x, over)
    names = as_axes(over)
    shape = [x.size(a) for a in (*rest, *names)]
    return NT(f(data).reshape(shape), (*rest, *names)).permute_to(x.axes)


def drop_axis(x: NT, over: Over, f: Callable[[Tensor], Tensor]) -> NT:
    """Apply a function that does away with the last dimension; the axes `over` go."""
    data, rest = to_last(x, over)
    return NT(f(data), rest)


def _one(over: Over) -> str:
    names = as_axes(over)
    if len(names) != 1:
        raise ValueError(f"exactly one axis is needed here, not {names}")
    return names[0]


@op("count_up")
def count_up(axis: str, size: int) -> NT:
    """0, 1, ... along an axis."""
    return NT(torch.arange(size), (axis,))


@op("lay_out")
def lay_out(x: NT, over: Over, places: Sequence[int], axes: Sequence[str], shape: Sequence[int]) -> NT:
    """The entries along an axis, put on a grid: `places` says which stands where, row-major, and -1 is 0."""
    data, rest = to_last(x, over)
    at = torch.tensor(places, dtype=torch.int64, device=data.device)
    found = torch.where(at < 0, 0.0, as_float(data)[..., at.clamp(min=0)])
    return NT(found.reshape((*data.shape[:-1], *shape)), (*rest, *axes))


@op("put")
def put(x: NT, index: NT, value: NT, over: Over) -> NT:
    """The values with one of them along the axis replaced: the one at `index`, which has none of it.

    index: int64, of any axes but `over`; value: of any axes but `over`.
    """
    (axis,) = as_axes(over)
    here = NT(torch.arange(x.size(axis), device=x.data.device), (axis,))
    (a, at), axes = align(here, index)
    (hit, new, old), all_axes = align(NT(a == at, axes), value, x)
    dtype = torch.promote_types(new.dtype, old.dtype)
    return NT(torch.where(hit, new.to(dtype), old.to(dtype)), all_axes)


@op("softmax")
def softmax(x: NT, over: Over) -> NT:
    """Exponentials that sum to 1 over the axes; entries of -inf get 0."""
    return keep_axis(x, over, lambda t: torch.softmax(as_float(t), -1))


@op("log_softmax")
def log_softmax(x: NT, over: Over) -> NT:
    """Logarithm of softmax, computed stably."""
    return keep_axis(x, over, lambda t: torch.log_softmax(as_float(t), -1))


@op("logsumexp")
def logsumexp(x: NT, over: Over) -> NT:
    """Logarithm of the sum of exponentials."""
    return drop_axis(x, over, lambda t: torch.logsumexp(as_float(t), -1))


@op("norm")
def norm(x: NT, over: Over) -> NT:
    """Euclidean length."""
    return drop_axis(x, over, lambda t: torch.linalg.vector_norm(as_float(t), dim=-1))


def unit(t: Tensor) -> Tensor:
    """Scale the last dimension to length 1; the zero vector stays zero."""
    length = torch.linalg.vector_norm(t, dim=-1, keepdim=True)
    return t / torch.where(length == 0, torch.ones_like(length), length)


@op("normalize")
def normalize(x: NT, over: Over) -> NT:
    """Scale to Euclidean length 1; the zero vector stays zero."""
    return keep_axis(x, over, lambda t: unit(as_float(t)))


@op("cumsum")
def cumsum(x: NT, over: Over) -> NT:
    """Sum of everything up to and including each index."""
    return keep_axis(x, _one(over), lambda t: torch.cumsum(t, -1))


@op("argmax")
def argmax(x: NT, over: Over) -> NT:
    """Index of the largest entry; of equals the first."""
    return drop_axis(x, _one(over), lambda t: torch.argmax(_orderable(t), -1))


@op("argmin")
def argmin(x: NT, over: Over) -> NT:
    """Index of the smallest entry; of equals the first."""
    return drop_axis(x, _one(over), lambda t: torch.argmin(_orderable(t), -1))


@op("sort")
def sort(x: NT, over: Over) -> NT:
    """Entries in ascending order."""
    return keep_axis(x, _one(over), lambda t: torch.sort(t, dim=-1).values)


@op("rank")
def rank(x: NT, over: Over) -> NT:
    """How many entries are strictly larger: 0 for the largest, equals share a rank."""

    def ranks(t: Tensor) -> Tensor:
        t = _orderable(t).contiguous()
        ascending = torch.sort(t, -1).values
        return t.shape[-1] - torch.searchsorted(ascending, t, right=True)

    return keep_axis(x, _one(over), ranks)


@op("rename")
def rename(x: NT, old: str, new: str) -> NT:
    """The same values with another name for one axis."""
    return NT(x.data, tuple(new if a == old else a for a in x.axes))


@op("top_mask")
def top_mask(x: NT, k: int, over: Over, per: str = "") -> NT:
    """Keep the `k` largest entries, of equals the first, and put 0 for the rest.

    Several axes are one long axis. With `per` one of them, `k` is how many there are for each index of it:
    the k largest per example, on average over the batch.
    """
    if per:
        k *= x.size(per)

    def keep(t: Tensor) -> Tensor:
        order = _largest(_orderable(t), k)
        kept = torch.zeros_like(t, dtype=torch.bool).scatter(
            -1, order, torch.ones_like(order, dtype=torch.bool)
        )
        return torch.where(kept, t, torch.zeros((), dtype=t.dtype, device=t.device))

    return keep_axis(x, over, keep)


def _largest(t: Tensor, k: int) -> Tensor:
    """Where the `k` largest entries along the last axis are, of equals the first."""
    if 0 < k <= t.shape[-1] // 64:  # for more, sorting is about as fast
        value, at = t.topk(k, dim=-1)
        border = t == value[..., -1:]
        if int(torch.count_nonzero(border)) == value[..., -1].numel():  # no equals at the border
            return at
    return torch.sort(t, dim=-1, descending=True, stable=True).indices[..., :k]


@op("group_max")
def group_max(x: NT, k: int, over: Over) -> NT:
    """Cut an axis into `k` stretches, keep the largest entry of each, of equals the first, 0 for the rest."""

    def keep(t: Tensor) -> Tensor:
        groups = t.reshape(*t.shape[:-1], k, -1)
        best = torch.argmax(_orderable(groups), -1, keepdim=True)
        kept = torch.zeros_like(groups, dtype=torch.bool).scatter(-1, best, True)
        return torch.where(kept, groups, torch.zeros((), dtype=t.dtype, device=t.device)).flatten(-2)

    return keep_axis(x, _one(over), keep)


def _orderable(t: Tensor) -> Tensor:
    return t.long() if t.dtype == torch.bool else t.detach()


@op("stack")
def stack(*items: NT, axis: str, labels: object = None) -> NT:
    """Lay values side by side along a new first axis; `labels`, of its entries, are for the identity alone.

    A number takes the precision of the tensors that it stands beside.
    """
    sizes = joint_sizes(*items)
    sized = [x.data.dtype for x in items if x.axes] or [x.data.dtype for x in items]
    dtype = reduce(torch.promote_types, sized)
    if not dtype.is_floating_point and any(x.data.is_floating_point() for x in items):
        dtype = torch.float64
    return NT(torch.stack([x.expand(sizes).data.to(dtype) for x in items]), (axis, *sizes))


@op("concat")
def concat(a: NT, b: NT, over: Over) -> NT:
    """Two values one behind the other along an axis of both; their other axes are joined by name."""
    axis = _one(over)
    sizes = joint_sizes(*(NT(x.data.select(x.dim(axis), 0), _others(x, axis)) for x in (a, b)))
    wide = [x.expand({axis: x.size(axis), **sizes}).data for x in (a, b)]
    dtype = torch.promote_types(wide[0].dtype, wide[1].dtype)
    return NT(torch.cat([x.to(dtype) for x in wide]), (axis, *sizes)).permute_to((*sizes, axis))


def _others(x: NT, axis: str) -> tuple[str, ...]:
    return tuple(n for n in x.axes if n != axis)
