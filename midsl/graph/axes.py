"""Names for the dimensions of graph nodes, carried along views; and which operations are views.

The two symbolic dimensions *are* `batch` and `pos`. The other names start where structure gives
them (an attention operand is batch, head, pos, d_head) and are carried through reshapes and
transposes by matching sizes, symbolically: a dimension is a group of atoms, an atom a name and a
size. What cannot be matched has no layout, and no site is made of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sympy  # type: ignore[import-untyped]
import torch
from torch import fx

aten = torch.ops.aten
Dim = str | tuple[str, ...]
Layout = tuple[Dim, ...]
Size = Any
"""A sympy expression: the size of a dimension."""

RESHAPES = {
    aten.view.default,
    aten.reshape.default,
    aten._unsafe_view.default,
    aten.flatten.using_ints,
    aten.unflatten.int,
}
PERMUTES = {aten.transpose.int, aten.permute.default, aten.t.default, aten.movedim.int}
COPIES = {aten.contiguous.default, aten.clone.default}
VIEWS = RESHAPES | PERMUTES | COPIES | {aten.unsqueeze.default, aten.squeeze.dim, aten.expand.default}
"""Operations that only rearrange (or repeat) the values of their first argument."""
LAST_AXIS = {
    aten.layer_norm.default,
    aten.rms_norm.default,
    aten.pow.Tensor_Scalar,
    aten.rsqrt.default,
    aten.sqrt.default,
    aten.reciprocal.default,
    aten.add.Tensor,
    aten.sub.Tensor,
    aten.mul.Tensor,
    aten.div.Tensor,
    aten.neg.default,
    aten.to.dtype,
    aten.type_as.default,
    aten.linear.default,
}
"""Operations that mean the same with one more axis before the last."""


def size(x: int | torch.SymInt) -> Size:
    """Return a dimension's size as a sympy expression, without specialising a symbol."""
    return x.node.expr if isinstance(x, torch.SymInt) else sympy.Integer(x)


def prod(shape: Sequence[Size]) -> Size:
    """Return the number of elements of a shape."""
    return sympy.prod(shape)


def sizes(node: fx.Node) -> tuple[Size, ...]:
    """Return the sizes of a node's value; () where it is not a tensor."""
    value = node.meta.get("val")
    return tuple(size(s) for s in value.shape) if isinstance(value, torch.Tensor) else ()


def same(a: Size, b: Size) -> bool:
    """Whether two sizes are equal as expressions."""
    return bool(sympy.expand(a - b) == 0)


def names(dim: Dim) -> tuple[str, ...]:
    """Return the axes of one dimension: several where it is flattened."""
    return dim if isinstance(dim, tuple) else (dim,)


def flat(layout: Layout) -> tuple[str, ...]:
    """Return the axes of a layout in storage order, with flattened dimensions taken apart."""
    return tuple(n for dim in layout for n in names(dim))


class Sizes:
    """The size of each axis name, as far as it is known."""

    def __init__(self, batch: Size, pos: Size) -> None:
        self.of: dict[str, Size] = {"batch": batch, "pos": pos, "key_pos": pos}

    def learn(self, layout: Layout, shape: Sequence[Size]) -> None:
        """Take note of the sizes of the axes that are dimensions of their own."""
        for dim, n in zip(layout, shape, strict=True):
            if isinstance(dim, str):
                self.of.setdefault(dim, n)

    def shape(self, layout: Layout) -> tuple[Size, ...]:
        """Return the shape a layout has."""
        return tuple(sympy.prod([self.of[n] for n in names(dim)]) for dim in layout)

    def regroup(self, axes: Sequence[str], shape: Sequence[Size]) -> Layout | None:
        """Group axes in storage order into dimensions of a shape; None where they do not fit.

        An axis `head` that has to be taken apart becomes `kv_head` (as many as there are) and
        `group` (query heads of each), which is how grouped-query attention repeats its keys.
        """
        left = list(axes)
        out: list[Dim] = []
        for n in shape:
            group: list[str] = []
            got: Size = sympy.Integer(1)
            while not same(got, n):
                if not left:
                    return None
                if left[0] == "head" and not group and self._splits_head(n):
                    self.of["kv_head"], self.of["group"] = n, self.of["head"] / n
                    left[:1] = ["kv_head", "group"]
                group.append(left.pop(0))
                got = got * self.of[group[-1]]
                if len(group) > 4:
                    return None
            if not group:
                # a dimension of size 1: an axis of size 1 if the next one is, else nothing of ours
                if left and same(self.of[left[0]], sympy.Integer(1)):
                    group.append(left.pop(0))
                else:
                    return None
            out.append(group[0] if len(group) == 1 else tuple(group))
        return tuple(out) if not left else None

    def _splits_head(self, n: Size) -> bool:
        head = self.of.get("head")
        return bool(
            head is not None
            and n.is_Integer
            and head.is_Integer
            and 1 <= n < head
            and head % n == 0
            and self.of.get("kv_head", n) == n
        )


def _dims(node: fx.Node) -> list[int] | None:
    """Return for each dimension of a permuting node the dimension of its input it comes from."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    rank = len(sizes(source))
    order = list(range(rank))
    if node.target is aten.transpose.int:
        i, j = int(node.args[1]) % rank, int(node.args[2]) % rank  # type: ignore[arg-type]
        order[i], order[j] = order[j], order[i]
    elif node.target is aten.permute.default:
        order = [int(d) % rank for d in node.args[1]]  # type: ignore[union-attr, arg-type]
    elif node.target is aten.t.default:
        order.reverse()
    else:
        a, b = int(node.args[1]) % rank, int(node.args[2]) % rank  # type: ignore[arg-type]
        order.insert(b, order.pop(a))
    return order


def forward(node: fx.Node, layout: Layout, known: Sizes) -> Layout | None:
    """Return the layout of a view's value, given its input's; None where names get lost."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    if node.target in COPIES or sizes(node) == sizes(source):
        return layout if node.target in VIEWS and node.target not in PERMUTES else _permuted(node, layout)
    if node.target in PERMUTES:
        return _permuted(node, layout)
    if node.target in RESHAPES:
        return known.regroup(flat(layout), sizes(node))
    return None


def _permuted(node: fx.Node, layout: Layout) -> Layout | None:
    if node.target not in PERMUTES:
        return None
    order = _dims(node)
    return None if order is None else tuple(layout[i] for i in order)


def backward(node: fx.Node, layout: Layout, known: Sizes) -> Layout | None:
    """Return the layout of a view's input, given its value's; None where names get lost."""
    source = node.args[0]
    if not isinstance(source, fx.Node):
        return None
    if node.target in PERMUTES:
        order = _dims(node)
        if order is None:
            return None
        out: list[Dim] = [""] * len(order)
        for to, frm in enumerate(order):
            out[frm] = layout[to]
        return tuple(out)
    if node.target in COPIES or sizes(node) == sizes(source):
        return layout if node.target in VIEWS else None
    if node.target in RESHAPES:
        return known.regroup(flat(layout), sizes(source))
    if node.target is aten.expand.default and len(sizes(source)) == len(layout):
        return layout
    if node.target is aten.unsqueeze.default:
        at = int(node.args[1]) % len(layout)  # type: ignore[arg-type]
        return (*layout[:at], *layout[at + 1 :])
    return None
