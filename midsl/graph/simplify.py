"""Operations that a model spells out, put back together: the tanh form of GELU.

``0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`` in eight operations goes eight times through memory, and
costs as much as half of the products beside it. The chain becomes one call in the place, and under the
name, of its last operation, so that sites and runs that know that node still find it.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import fx

aten = torch.ops.aten


def simplify(graph: fx.Graph, touched: Collection[str]) -> int:
    """Put chains together in a graph; `touched` names nodes that must stay. Returns how many.

    What is no longer used stays in the graph, for the caller to remove.
    """
    hits = 0
    for node in graph.nodes:
        if node.op == "call_function" and node.target is aten.mul.Tensor:
            found = _gelu(node)
            if found is not None:
                x, inner = found
                if not {n.name for n in inner} & set(touched):
                    node.target, node.args, node.kwargs = aten.gelu.default, (x,), {"approximate": "tanh"}
                    hits += 1
    return hits


def _gelu(end: fx.Node) -> tuple[fx.Node, list[fx.Node]] | None:
    """The argument of a written-out GELU that ends at a node, and the nodes in between."""
    for half, one in (end.args, end.args[::-1]):
        x = _scaled(half, 0.5)
        tanh = _plus(one, 1.0)
        if x is None or tanh is None or tanh.target is not aten.tanh.default:
            continue
        inside = _scaled(tanh.args[0], math.sqrt(2 / math.pi))
        cubic = _added(inside, x)
        power = None if cubic is None else _scaled(cubic, 0.044715)
        if power is None or not _is_cube(power, x):
            continue
        assert isinstance(half, fx.Node) and isinstance(one, fx.Node)
        inner = [half, one, tanh, tanh.args[0], inside, cubic, power]
        return x, [n for n in inner if isinstance(n, fx.Node)]
    return None


def _scaled(node: object, by: float) -> fx.Node | None:
    """What a node multiplies by a number."""
    return _with_number(node, aten.mul.Tensor, by)


def _plus(node: object, number: float) -> fx.Node | None:
    return _with_number(node, aten.add.Tensor, number)


def _with_number(node: object, target: object, number: float) -> fx.Node | None:
    if not isinstance(node, fx.Node) or node.target is not target or node.kwargs:
        return None
    for a, b in (node.args, node.args[::-1]):
        if isinstance(a, fx.Node) and isinstance(b, (int, float)) and math.isclose(b, number, rel_tol=1e-12):
            return a
    return None


def _added(node: fx.Node | None, x: fx.Node) -> fx.Node | None:
    """What is added to x."""
    if node is None or node.target is not aten.add.Tensor or node.kwargs:
        return None
    for a, b in (node.args, node.args[::-1]):
        if a is x and isinstance(b, fx.Node):
            return b
    return None


def _is_cube(node: fx.Node, x: fx.Node) -> bool:
    return node.target is aten.pow.Tensor_Scalar and node.args[0] is x and node.args[1] in (3, 3.0)
