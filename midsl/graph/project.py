"""Linear maps by a parameter, and which of their outputs a later node holds.

A fused projection (GPT-2's and NeoX's qkv, Phi-3's gate_up) is taken apart without knowing the
family: the views between the projection and the node are run once on the indices 0..out-1, and
what comes out says which row of the weight makes each element.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import fx

from midsl.graph import walk
from midsl.graph.axes import VIEWS, Layout, sizes
from midsl.graph.export import is_call, is_getitem

aten = torch.ops.aten
SELECTIONS = {
    aten.split.Tensor,
    aten.split.sizes,
    aten.split_with_sizes.default,
    aten.chunk.default,
    aten.slice.Tensor,
    aten.select.int,
    aten.narrow.default,
    aten.unbind.int,
}
"""Operations that keep some of their argument's values as they are."""


@dataclass(frozen=True)
class Projection:
    """``node = input @ weight (+ bias)`` along the last axis.

    Attributes:
        node: the product, bias included.
        input: what is projected.
        weight: the parameter's node.
        bias: its bias's node, or None.
        in_first: whether the weight is stored [in, out] (GPT-2's Conv1D) and not [out, in].
    """

    node: fx.Node
    input: fx.Node
    weight: fx.Node
    bias: fx.Node | None
    in_first: bool


def _matrix(node: object) -> tuple[fx.Node, bool] | None:
    """Return a 2-D parameter's node and whether it was transposed on the way."""
    if is_call(node, aten.t.default, aten.transpose.int, aten.numpy_T.default):
        assert isinstance(node, fx.Node)
        inner = _matrix(node.args[0])
        return None if inner is None else (inner[0], not inner[1])
    if isinstance(node, fx.Node) and node.op == "get_attr" and len(sizes(node)) == 2:
        return node, False
    return None


def _vector(node: object) -> bool:
    return isinstance(node, fx.Node) and node.op == "get_attr" and len(sizes(node)) == 1


def projection(node: fx.Node) -> Projection | None:
    """Return the linear map a node is the product of, or None."""
    if is_call(node, aten.linear.default):
        found = _matrix(node.args[1])
        source = node.args[0]
        bias = node.args[2] if len(node.args) > 2 else node.kwargs.get("bias")
        if found and isinstance(source, fx.Node) and (bias is None or _vector(bias)):
            return Projection(node, source, found[0], bias if isinstance(bias, fx.Node) else None, found[1])
    if is_call(node, aten.addmm.default) and not node.kwargs:
        found, (bias, source) = _matrix(node.args[2]), node.args[:2]
        if found and isinstance(source, fx.Node) and isinstance(bias, fx.Node) and _vector(bias):
            return Projection(node, source, found[0], bias, not found[1])
    if is_call(node, aten.matmul.default, aten.mm.default):
        found, source = _matrix(node.args[1]), node.args[0]
        if found and isinstance(source, fx.Node) and source.op == "call_function":
            return Projection(node, source, found[0], None, not found[1])
    if is_call(node, aten.add.Tensor) and not node.kwargs:
        for a, b in (node.args[:2], node.args[1::-1]):
            inner = projection(a) if isinstance(a, fx.Node) and is_call(a, aten.matmul.default) else None
            if inner and isinstance(b, fx.Node) and _vector(b):
                return Projection(node, inner.input, inner.weight, b, inner.in_first)
    return None


def last_projection(path: list[fx.Node]) -> tuple[int, Projection] | None:
    """Return the last linear map on a chain of nodes and where on it it is."""
    for i in range(len(path) - 1, -1, -1):
        found = projection(path[i])
        if found:
            return i, found
    return None


def only_picks(source: fx.Node, node: fx.Node) -> bool:
    """Whether a node holds some of another's values, rearranged but not changed."""
    if node is source:
        return True
    region = walk.between(source, node)
    return bool(region) and all(n.target in VIEWS | SELECTIONS or is_getitem(n) for n in region)


def _placeholders(gm: fx.GraphModule) -> dict[fx.Node, torch.Tensor]:
    one = torch.zeros(1, 1, dtype=torch.int64)
    return {n: one for n in gm.graph.nodes if n.op == "placeholder"}


def indices(
    gm: fx.GraphModule, source: fx.Node, node: fx.Node, source_layout: Layout, layout: Layout
) -> torch.Tensor | None:
    """Return which elements of `source` a node holds: int64 of the node's axes but batch and pos.

    `source` is numbered 0.. over its axes other than batch and pos, in storage order. None where the
    node is not made of `source` by views and selections alone.
    """
    if not only_picks(source, node):
        return None
    shape = [
        1 if dim in ("batch", "pos", ("batch", "pos")) else int(n)
        for dim, n in zip(source_layout, sizes(source), strict=True)
    ]
    count = int(torch.tensor(shape).prod())
    given = _placeholders(gm) | {source: torch.arange(count).reshape(shape)}
    value = walk.evaluate(gm, node, given)
    assert isinstance(value, torch.Tensor)
    kept = [n for dim, n in zip(layout, value.shape, strict=True) if dim not in BATCH_POS]
    return value.reshape(kept) if value.numel() == int(torch.tensor(kept).prod()) else None


BATCH_POS = ("batch", "pos", ("batch", "pos"))


def weight_matrix(gm: fx.GraphModule, found: Projection) -> torch.Tensor:
    """Return a projection's weight as [out, in]."""
    value = walk.attribute(gm, str(found.weight.target))
    assert isinstance(value, torch.Tensor)
    return value.t() if found.in_first else value


def bias_vector(gm: fx.GraphModule, found: Projection) -> torch.Tensor | None:
    """Return a projection's bias [out], or None."""
    if found.bias is None:
        return None
    value = walk.attribute(gm, str(found.bias.target))
    assert isinstance(value, torch.Tensor)
    return value
