"""Runs a lowered graph node by node, frees what is dead, and counts what was done.

The same loop serves execution and prediction: on real tensors it computes, on `meta` tensors it only
follows shapes. So what `explain` predicts and what `run` counts come from one definition.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, MutableMapping
from dataclasses import dataclass, field
from types import BuiltinFunctionType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, fx

from midsl.backends.packed import followers, fused, packed_calls

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


FLOPS: dict[Any, Callable[[tuple[Any, ...], Any], int]] = {
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

VIEWS = {
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

    def value(self, value: Any) -> int | None:
        """The number of a value at hand, by all that decides shapes; None for what is no tensor or number."""
        if isinstance(value, Tensor):
            return self.leaf(("tensor", tuple(value.shape), value.stride(), value.dtype))
        return self.leaf(("number", value)) if isinstance(value, int) else None

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

    `blocks` maps node names to block indices, for the counts. Nodes after a leaf have a backward pass
    (`backwards` of them), which is counted with them: it goes to activations only, never to weights. Or they
    carry changes along `directions` with them, in plain operations, of which derivatives are known.

    With `cones`, nodes that no edit reaches make up the *prefix*: it runs once, whatever the number of
    lanes, and its values are repeated for the lanes where an edited node needs them. Legal because an
    edit changes nothing upstream of it; so the prefix is the same in every lane.
    """

    def __init__(
        self,
        graph: fx.Graph,
        module: torch.nn.Module,
        blocks: Mapping[str, int],
        cones: bool = True,
        backwards: int = 1,
        directions: int = 0,
    ) -> None:
        self.nodes = list(graph.nodes)
        self.backwards = 0 if directions else backwards
        self.directions = directions
        self.differs = _after(self.nodes, lambda n: getattr(n.target, "leaf", False))
        fixed = ("placeholder", "get_attr", "output")
        self.dirty = {n for n in self.nodes if n.op not in fixed}
        if cones:
            self.dirty = _after(self.nodes, lambda n: getattr(n.target, "per_lane", False))
        self.blocks = blocks
        self.shapes = Shapes.of(module)
        self.attrs = {n: _fetch(module, str(n.target)) for n in self.nodes if n.op == "get_attr"}
        self.calls = {} if directions else packed_calls(self.nodes, module, self.attrs)
        self.follows = followers(self.calls, VIEWS)
        self.batch = _batch_symbol(self.nodes)
        self.clean = [n for n in self.nodes if n not in self.dirty and n.op not in ("get_attr", "output")]
        self.later = [n for n in self.nodes if n in self.dirty or n.op == "output"]
        used = {a for n in self.later for a in n.all_input_nodes}
        self.boundary = {a for a in used if a not in self.dirty and a.op != "get_attr"}

    def prefix(
        self, inputs: list[Tensor], counts: Counts | None = None, known: Mapping[str, Any] | None = None
    ) -> dict[fx.Node, Any]:
        """Run what no edit can change, once for all lanes; keep what the rest needs of it.

        `known` are values by node name from another cut of the same graph on the same rows: what they
        give is not computed again.
        """
        values = dict(zip((n for n in self.clean if n.op == "placeholder"), inputs, strict=True))
        values |= {n: known[n.name] for n in self.clean if known is not None and n.name in known}
        needed: set[fx.Node] = set()
        stack = [n for n in self.boundary if n not in values]
        while stack:
            node = stack.pop()
            if node not in needed:
                needed.add(node)
                stack += [a for a in node.all_input_nodes if a not in values and a.op != "get_attr"]
        steps = [n for n in self.clean if n in needed]
        return self._run(steps, values, self.boundary, bool(inputs) and inputs[0].is_meta, counts)

    def static(self, inputs: list[Tensor], nodes: Collection[fx.Node]) -> dict[fx.Node, Any]:
        """Values of the nodes that follow from the inputs alone."""
        values: dict[fx.Node, Any] = dict(
            zip((n for n in self.nodes if n.op == "placeholder"), inputs, strict=True)
        )
        steps = [n for n in self.nodes if n in nodes and n.op == "call_function"]
        return self._run(steps, values, {*steps, *values}, False, None)

    def rest(self, prefix: Mapping[fx.Node, Any], lanes: int, counts: Counts | None = None) -> Any:
        """Run what edits can change, for a stack of lanes: values of the prefix are repeated for each."""
        meta = any(isinstance(v, Tensor) and v.is_meta for v in prefix.values())
        values = {n: self._stack(n, v, lanes) for n, v in prefix.items()}
        end = self.later[-1]
        found = self._run(self.later[:-1], values, set(end.all_input_nodes), meta, counts)
        return fx.map_arg(end.args, lambda n: self.attrs[n] if n in self.attrs else found[n])[0]

    def __call__(self, inputs: list[Tensor], counts: Counts | None = None, lanes: int = 1) -> Any:
        """Run both parts; on meta inputs nothing is computed."""
        return self.rest(self.prefix(inputs, counts), lanes, counts)

    def _stack(self, node: fx.Node, value: Any, lanes: int) -> Any:
        """A value of the prefix for all lanes: repeated along the dimension that holds the examples."""
        if lanes == 1:
            return value
        val = node.meta.get("val")
        if isinstance(value, Tensor):
            if not isinstance(val, Tensor):
                raise AssertionError(f"{node.name} has no recorded shape")
            times = [lanes if self._of_batch(size) else 1 for size in val.shape]
            return value.repeat(times) if any(t > 1 for t in times) else value
        if isinstance(value, int) and self._of_batch(val):
            return value * lanes
        return value

    def _of_batch(self, size: Any) -> bool:
        symbols = getattr(getattr(getattr(size, "node", None), "expr", None), "free_symbols", ())
        return self.batch is not None and self.batch in symbols

    def _run(
        self,
        nodes: list[fx.Node],
        values: dict[fx.Node, Any],
        keep: set[fx.Node],
        meta: bool,
        counts: Counts | None,
    ) -> dict[fx.Node, Any]:
        """Run nodes in order; what has no later use and is not to be kept is let go."""
        last: dict[fx.Node, fx.Node] = {}
        for node in nodes:
            for used in node.all_input_nodes:
                last[used] = node
        dead: dict[fx.Node, list[fx.Node]] = {}
        for used, by in last.items():
            if used not in keep and used.op != "get_attr":
                dead.setdefault(by, []).append(used)
        held: dict[fx.Node, int] = {}
        live = 0
        numbers = {n: self.shapes.value(v) for n, v in values.items()} if meta else {}

        thens = {} if meta else fused(self.follows, keep, set(nodes).issuperset)
        applied = {then.node for then in thens.values()}

        def value_of(node: fx.Node) -> Any:
            if node.op != "get_attr":
                return values[node]
            attr = self.attrs[node]
            return attr.to("meta") if meta and isinstance(attr, Tensor) else attr

        for node in nodes:
            args, kwargs = fx.map_arg(node.args, value_of), fx.map_arg(node.kwargs, value_of)
            if node.op != "call_function":
                raise AssertionError(f"a lowered graph has no {node.op}")
            target: Callable[..., Any] = node.target  # type: ignore[assignment]
            if meta:
                out = self._follow(node, target, args, kwargs, numbers)
            elif node in applied:  # with the product before it
                out = args[0]
            elif node in self.calls:
                out = self.calls[node](*args, then=thens.get(node))
            else:
                out = target(*args, **kwargs)
            values[node] = out
            if counts is not None:
                self._count(node, args, out, counts)
                held[node] = 0 if node.target in VIEWS else _bytes(out)
                held[node] *= 1 + self.directions if node in self.differs else 1
                live += held[node]
                counts.total_bytes += held[node]
                counts.peak_bytes = max(counts.peak_bytes, live)
            for gone in dead.get(node, ()):
                values.pop(gone)
                live -= held.pop(gone, 0)
        return {n: values[n] for n in keep if n in values}

    def _follow(
        self,
        node: fx.Node,
        target: Callable[..., Any],
        args: Any,
        kwargs: Any,
        numbers: dict[fx.Node, int | None],
    ) -> Any:
        """What a call gives on meta tensors."""
        args, kwargs = fx.node.map_aggregate(args, _on_meta), fx.node.map_aggregate(kwargs, _on_meta)
        for used in node.all_input_nodes:
            if used.op == "get_attr" and used not in numbers:
                numbers[used] = self.shapes.leaf(("attribute", used.target))
        number, out = self.shapes.call(node, numbers, lambda: target(*args, **kwargs))
        same = args and out is args[0]  # an edit leaves the shape as it is
        numbers[node] = numbers[node.all_input_nodes[0]] if number is None and same else number
        return out

    def _count(self, node: fx.Node, args: Any, out: Any, counts: Counts) -> None:
        rule = FLOPS.get(node.target)
        if rule is None:
            return
        n = rule(args, out)
        if node in self.differs:  # products of two activations have two backward products, and two changes
            there = n * (2 if node.target in _BACKWARD else 1) * self.directions
            n += int(n * _BACKWARD.get(node.target, 1.0)) * self.backwards + there
        counts.flops += n
        block = self.blocks.get(node.name)
        if block is not None:
            counts.by_block[block] = counts.by_block.get(block, 0) + n


def _after(nodes: list[fx.Node], starts: Callable[[fx.Node], bool]) -> set[fx.Node]:
    """The nodes that `starts` picks, and everything computed from them."""
    found: set[fx.Node] = set()
    for node in nodes:
        if node.op != "output" and (
            (node.op == "call_function" and starts(node)) or any(a in found for a in node.all_input_nodes)
        ):
            found.add(node)
    return found


def _batch_symbol(nodes: list[fx.Node]) -> Any:
    """The symbol that stands for the number of rows, from the recorded shape of the first input."""
    for node in nodes:
        if node.op == "placeholder" and isinstance(node.meta.get("val"), Tensor):
            size = node.meta["val"].shape[0]
            return getattr(getattr(size, "node", None), "expr", None)
    return None


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
