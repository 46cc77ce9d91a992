"""Runs a lowered graph node by node, frees what is dead, and counts what was done.

The same loop serves execution and prediction: on real tensors it computes, on `meta` tensors it only
follows shapes. So what `explain` predicts and what `run` counts come from one definition.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, MutableMapping
from dataclasses import dataclass, field
from types import BuiltinFunctionType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, fx

aten = torch.ops.aten


@dataclass
class Counts:
    """FLOPs of matrix products (2mnk), by block where there is one, and the peak of live bytes."""

    flops: int = 0
    by_block: dict[int, int] = field(default_factory=dict)
    peak_bytes: int = 0
    total_bytes: int = 0

    def add(self, other: Counts) -> None:
        self.flops += other.flops
        for block, n in other.by_block.items():
            self.by_block[block] = self.by_block.get(block, 0) + n
        self.peak_bytes = max(self.peak_bytes, other.peak_bytes)
        self.total_bytes += other.total_bytes


def _mm(a: Tensor, b: Tensor) -> int:
    return 2 * a.numel() * int(b.shape[-1])


def _attention(args: tuple[Any, ...], out: Any) -> int:
    q, k, v = args[0], args[1], args[2]
    rows = q.numel() // q.shape[-1]
    return int(2 * rows * k.shape[-2] * (q.shape[-1] + v.shape[-1]))


def _einsum(args: tuple[Any, ...], out: Any) -> int:
    text, tensors = args[0], args[1]
    inputs, _ = text.replace(" ", "").split("->")
    sizes: dict[str, int] = {}
    for letters, t in zip(inputs.split(","), tensors, strict=True):
        sizes |= dict(zip(letters, t.shape, strict=True))
    n = 2
    for s in sizes.values():
        n *= s
    return n


_FLOPS: dict[Any, Callable[[tuple[Any, ...], Any], int]] = {
    aten.linear.default: lambda a, out: 2 * a[0].numel() * a[1].shape[0],
    aten.addmm.default: lambda a, out: _mm(a[1], a[2]),
    aten.mm.default: lambda a, out: _mm(a[0], a[1]),
    aten.bmm.default: lambda a, out: _mm(a[0], a[1]),
    aten.baddbmm.default: lambda a, out: _mm(a[1], a[2]),
    aten.matmul.default: lambda a, out: 2 * out.numel() * a[0].shape[-1],
    aten.einsum.default: _einsum,
    aten.scaled_dot_product_attention.default: _attention,
}

_BACKWARD: dict[Any, float] = {
    aten.bmm.default: 2.0,
    aten.matmul.default: 2.0,
    aten.baddbmm.default: 2.0,
    aten.scaled_dot_product_attention.default: 2.5,
}
"""Backward FLOPs by forward FLOPs, where not 1: attention's backward also computes its scores again."""

_VIEWS = {
    getattr(aten, name).default
    for name in ("view", "reshape", "permute", "expand", "unsqueeze", "alias", "t", "detach", "_unsafe_view")
} | {aten.transpose.int, aten.slice.Tensor, aten.select.int, aten.split.Tensor, aten.squeeze.dim}
"""Operations whose result shares memory with an argument (`reshape` where it can): no new bytes."""


class Shapes:
    """What operations give on meta tensors, by what they are made of: many lowered graphs share most of it.

    Following shapes through PyTorch's meta kernels costs more than running a small model; an expression
    over the same inputs has the same shape, so each is followed once per model.
    """

    def __init__(self) -> None:
        self.known: dict[Hashable, tuple[int, Any]] = {}

    @staticmethod
    def of(module: torch.nn.Module) -> Shapes:
        """The shapes known of one exported model."""
        return _SHAPES.setdefault(module, Shapes())

    def leaf(self, key: Hashable) -> int:
        """The number of an input or an attribute."""
        return self.known.setdefault(key, (len(self.known), None))[0]

    def call(self, node: fx.Node, numbers: Mapping[fx.Node, int | None], compute: Callable[[], Any]) -> Any:
        """(number, value) of a call: computed the first time that this expression is met."""
        used = {n: i for n in node.all_input_nodes if (i := numbers[n]) is not None}
        pure = isinstance(node.target, (torch._ops.OpOverload, BuiltinFunctionType))
        if not pure or len(used) < len(node.all_input_nodes):
            return None, compute()
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: _Number(used[n]))
        key = (node.target, repr(args), repr(kwargs))
        if key not in self.known:
            self.known[key] = len(self.known), compute()
        return self.known[key]


class _Number(int):
    """Stands for a node in a key, where no literal may be taken for it."""

    def __repr__(self) -> str:
        return f"%{int(self)}"


_SHAPES: MutableMapping[torch.nn.Module, Shapes] = WeakKeyDictionary()


class Runner:
    """A graph made ready to run: attributes resolved, last uses known.

    `blocks` maps node names to block indices, for the counts. Nodes after one that calls `marker` have
    a backward pass (`backwards` of them), which is counted with them: it goes to activations only, never
    to weights.
    """

    def __init__(
        self,
        graph: fx.Graph,
        module: torch.nn.Module,
        blocks: Mapping[str, int],
        marker: Callable[..., Any] | None = None,
        backwards: int = 1,
    ) -> None:
        self.nodes = list(graph.nodes)
        self.backwards = backwards
        self.backward: set[fx.Node] = set()
        for node in self.nodes:
            marked = node.op == "call_function" and node.target is marker
            if marked or self.backward & set(node.all_input_nodes):
                self.backward.add(node)
        self.blocks = blocks
        self.shapes = Shapes.of(module)
        self.attrs = {n: _fetch(module, str(n.target)) for n in self.nodes if n.op == "get_attr"}
        last: dict[fx.Node, fx.Node] = {}
        for node in self.nodes:
            for used in node.all_input_nodes:
                last[used] = node
        self.dead: dict[fx.Node, list[fx.Node]] = {}
        for used, by in last.items():
            if used.op != "get_attr":
                self.dead.setdefault(by, []).append(used)

    def __call__(self, inputs: list[Tensor], counts: Counts | None = None) -> Any:
        """Run on inputs in placeholder order; on meta inputs nothing is computed."""
        meta = bool(inputs) and inputs[0].is_meta
        values: dict[fx.Node, Any] = {}
        feed = iter(inputs)
        live = 0
        held: dict[fx.Node, int] = {}
        numbers: dict[fx.Node, int | None] = {}
        for node in self.nodes:
            if node.op == "placeholder":
                values[node] = given = next(feed)
                if meta:
                    numbers[node] = self.shapes.leaf((node.target, tuple(given.shape), given.dtype))
                continue
            if node.op == "get_attr":
                attr = self.attrs[node]
                values[node] = attr.to("meta") if meta and isinstance(attr, Tensor) else attr
                if meta:
                    numbers[node] = self.shapes.leaf(("attribute", node.target))
                continue
            args = fx.map_arg(node.args, values.__getitem__)
            if node.op == "output":
                return args[0]
            kwargs = fx.map_arg(node.kwargs, values.__getitem__)
            if meta:
                args, kwargs = fx.node.map_aggregate(args, _on_meta), fx.node.map_aggregate(kwargs, _on_meta)
            if node.op != "call_function":
                raise AssertionError(f"a lowered graph has no {node.op}")
            target: Callable[..., Any] = node.target
            if meta:
                number, out = self.shapes.call(node, numbers, lambda: target(*args, **kwargs))  # noqa: B023
                same = args and out is args[0]  # an edit leaves the shape as it is
                numbers[node] = numbers[node.all_input_nodes[0]] if number is None and same else number
            else:
                out = target(*args, **kwargs)
            values[node] = out
            if counts is not None:
                self._count(node, args, out, counts)
                held[node] = 0 if node.target in _VIEWS else _bytes(out)
                live += held[node]
                counts.total_bytes += held[node]
                counts.peak_bytes = max(counts.peak_bytes, live)
            for gone in self.dead.get(node, ()):
                values.pop(gone)
                live -= held.pop(gone, 0)
        raise AssertionError("a graph without an output")

    def _count(self, node: fx.Node, args: Any, out: Any, counts: Counts) -> None:
        rule = _FLOPS.get(node.target)
        if rule is None:
            return
        n = rule(args, out)
        if node in self.backward:  # products of two activations have two backward products
            n += int(n * _BACKWARD.get(node.target, 1.0)) * self.backwards
        counts.flops += n
        block = self.blocks.get(node.name)
        if block is not None:
            counts.by_block[block] = counts.by_block.get(block, 0) + n


def _on_meta(value: Any) -> Any:
    """On meta tensors, nothing may be put on a real device."""
    return torch.device("meta") if isinstance(value, torch.device) else value


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, (tuple, list)):
        return sum(_bytes(v) for v in value)
    return 0


def _fetch(module: torch.nn.Module, path: str) -> Any:
    found: Any = module
    for part in path.split("."):
        found = getattr(found, part)
    return found
