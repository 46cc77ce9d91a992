"""Moving about in a graph: what lies between two nodes, dominators, values of a few nodes.

A site is only a site if every path from what is upstream of it to what is downstream passes through
it; dominators say so. All of it is on graphs of a few hundred nodes per block, so plain sets do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import fx
from torch.fx.node import map_arg


def ancestors(*nodes: fx.Node, stop: Iterable[fx.Node] = ()) -> set[fx.Node]:
    """Return the nodes and all that they are computed from, not going past `stop` (which are in it)."""
    return _reach(nodes, stop, lambda node: node.all_input_nodes)


def descendants(*nodes: fx.Node, stop: Iterable[fx.Node] = ()) -> set[fx.Node]:
    """Return the nodes and all that is computed from them, not going past `stop` (which are in it)."""
    return _reach(nodes, stop, lambda node: node.users)


def _reach(
    nodes: Iterable[fx.Node], stop: Iterable[fx.Node], step: Callable[[fx.Node], Iterable[fx.Node]]
) -> set[fx.Node]:
    seen: set[fx.Node] = set()
    halt = set(stop)
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if node not in halt:
            stack.extend(step(node))
    return seen


def between(source: fx.Node, target: fx.Node) -> list[fx.Node]:
    """Return the nodes on paths from `source` (left out) to `target` (in it), in graph order."""
    both = descendants(source) & ancestors(target, stop=[source])
    both.discard(source)
    return ordered(both)


def ordered(nodes: Iterable[fx.Node]) -> list[fx.Node]:
    """Return nodes in the order in which the graph runs them."""
    return sorted(nodes)


def chain(source: fx.Node, target: fx.Node) -> list[fx.Node]:
    """Return the dominators of `target` from `source` on: what every path between them passes.

    The first is `source`, the last `target`; empty where there is no path.
    """
    region = between(source, target)
    if target not in region:
        return [source] if source is target else []
    inside = {source, *region}
    depth = {source: 0}
    parent: dict[fx.Node, fx.Node] = {}

    def common(a: fx.Node, b: fx.Node) -> fx.Node:
        while a is not b:
            if depth[a] < depth[b]:
                a, b = b, a
            a = parent[a]
        return a

    for node in region:
        inputs = [n for n in node.all_input_nodes if n in inside]
        dominator = inputs[0]
        for other in inputs[1:]:
            dominator = common(dominator, other)
        parent[node] = dominator
        depth[node] = depth[dominator] + 1
    out = [target]
    while out[-1] is not source:
        out.append(parent[out[-1]])
    return out[::-1]


def attribute(root: torch.nn.Module, target: str) -> Any:
    """Return the parameter or buffer a `get_attr` node names."""
    value: Any = root
    for part in target.split("."):
        value = getattr(value, part)
    return value


def evaluate(gm: fx.GraphModule, wanted: fx.Node, given: dict[fx.Node, Any]) -> Any:
    """Return the value of one node, computing only what it needs, from the values of some others.

    It runs on the device of the given values, wherever the graph was traced (a mask of a model without
    weights can be evaluated).

    Raises:
        KeyError: if it needs an input that is not given.
    """
    values = dict(given)
    device = next((v.device for v in given.values() if isinstance(v, torch.Tensor)), None)
    for node in ordered(ancestors(wanted, stop=given)):
        if node in values:
            continue
        if node.op == "placeholder":
            raise KeyError(node.name)
        if node.op == "get_attr":
            values[node] = attribute(gm, str(node.target))
            continue
        assert callable(node.target)
        args, kwargs = map_arg((node.args, node.kwargs), lambda n: values[n])
        args = tuple(device if isinstance(a, torch.device) else a for a in args)
        if isinstance(kwargs.get("device"), torch.device):
            kwargs = kwargs | {"device": device}
        values[node] = node.target(*args, **kwargs)
    return values[wanted]


def runs(gm: fx.GraphModule, ids: torch.Tensor, mask: torch.Tensor) -> Iterator[tuple[fx.Node, Any]]:
    """Yield every node of a forward pass with its value, in order."""
    values: dict[fx.Node, Any] = {}
    inputs = iter((ids, mask))
    for node in gm.graph.nodes:
        if node.op == "placeholder":
            values[node] = next(inputs)
        elif node.op == "get_attr":
            values[node] = attribute(gm, str(node.target))
        elif node.op == "call_function":
            args, kwargs = map_arg((node.args, node.kwargs), lambda n: values[n])
            values[node] = node.target(*args, **kwargs)
        else:
            continue
        yield node, values[node]
