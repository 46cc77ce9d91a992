"""Segments of a graph that keep rows apart, compiled once for all layers that have them.

Between two products, or a product and an attention, a model does sums, norms, activations and rotations:
each operation reads and writes all rows. `torch.compile` makes one pass over memory of them. A segment is a
stretch of such nodes; what it takes from outside (weights too) is an input, so that the same stretch of every
layer is one function, compiled once with the number of rows left open: other rows, lanes and layers compile
nothing again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx

from midsl.backends.eager import FLOPS, VIEWS
from midsl.cachedir import cache_dir, kept
from midsl.diagnostics.model import Diagnostic

aten = torch.ops.aten

LEAST = 2
"""Nodes that compute, in a segment that is worth a function."""
REDUCING = {
    aten.layer_norm.default,
    aten.mean.dim,
    aten.sum.dim_IntList,
    aten.softmax.int,
    aten._softmax.default,
    aten.cat.default,
    aten.to.dtype,
    aten._to_copy.default,
}
MOVING = {aten.transpose.int, aten.unsqueeze.default, aten.slice.Tensor, aten.permute.default}
"""Views that know nothing of how many rows there are."""


@dataclass(frozen=True, eq=False)
class Segment:
    """A stretch of nodes that runs as one function.

    Attributes:
        nodes: its nodes, in order.
        inputs: the nodes outside of it that it takes, attributes among them.
        outputs: its nodes that others take, or that are kept.
    """

    nodes: tuple[fx.Node, ...]
    inputs: tuple[fx.Node, ...]
    outputs: tuple[fx.Node, ...]

    @cached_property
    def graph(self) -> fx.Graph:
        """The segment alone: inputs in order, a tuple of the outputs."""
        graph = fx.Graph()
        new = {n: graph.placeholder(f"x{i}") for i, n in enumerate(self.inputs)}
        for node in self.nodes:
            args, kwargs = fx.map_arg((node.args, node.kwargs), new.__getitem__)
            assert callable(node.target)
            new[node] = graph.call_function(node.target, args, dict(kwargs))
        graph.output(tuple(new[n] for n in self.outputs))
        return graph

    @cached_property
    def key(self) -> str:
        """Equal for segments that are one function: what is called, on what, in what order."""
        number = {n: i for i, n in enumerate((*self.inputs, *self.nodes))}
        said = []
        for node in self.nodes:
            args = fx.map_arg((node.args, node.kwargs), lambda n: _Place(number[n]))
            said.append(f"{node.target} {args!r}")
        said.append(repr([number[n] for n in self.outputs]))
        return hashlib.sha256("\n".join(said).encode()).hexdigest()[:16]

    @property
    def text(self) -> list[str]:
        """One line for each operation, for people."""
        found = []
        for node in self.graph.nodes:
            if node.op == "call_function":
                given = [repr(a) for a in node.args] + [f"{k}={v!r}" for k, v in node.kwargs.items()]
                found.append(f"{node} = {node.target}({', '.join(given)})")
        return found


class _Place(int):
    """Stands for a node in a key."""

    def __repr__(self) -> str:
        return f"%{int(self)}"


def is_pointwise(node: fx.Node) -> bool:
    """Whether a node can be part of a segment, as far as its operation goes."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload) or target in FLOPS:
        return False
    if any(
        isinstance(a, fx.Node) and not isinstance(a.meta.get("val"), (Tensor, type(None))) for a in node.args
    ):
        return False  # a size among its arguments: how many rows there are must not be a number
    return torch.Tag.pointwise in target.tags or target in REDUCING or target in MOVING


def segments_of(
    nodes: Sequence[fx.Node],
    kinds: Mapping[fx.Node, str],
    keep: Collection[fx.Node],
    apart: Collection[fx.Node],
) -> list[Segment]:
    """Cut the nodes of a graph into segments; `apart` are nodes that other code computes."""
    found: list[Segment] = []
    here: list[fx.Node] = []

    def close() -> None:
        inside = set(here)
        if sum(n.target not in VIEWS for n in here) >= LEAST:
            inputs = dict.fromkeys(a for n in here for a in n.all_input_nodes if a not in inside)
            outputs = tuple(n for n in here if n in keep or any(u not in inside for u in n.users))
            if outputs:
                found.append(Segment(tuple(here), tuple(inputs), outputs))
        here.clear()

    for node in nodes:
        if kinds.get(node, "static") == "static":
            continue
        if kinds[node] == "local" and node not in apart and is_pointwise(node):
            here.append(node)
        else:
            close()
    close()
    return found


def one_set(nodes: Sequence[fx.Node], active: Mapping[fx.Node, Tensor]) -> Tensor | None:
    """The rows that nodes are computed at, if all have the same: one set is one object."""
    mask = active.get(nodes[0])
    return mask if all(active.get(n) is mask for n in nodes) else None


@dataclass
class Compiler:
    """Runs segments as compiled functions, which the process shares.

    Attributes:
        always: every segment is compiled; else those in `wanted`, by key.
        calls: how many times each was called.
        failed: why compiling is given up; "" while it works.
    """

    always: bool = False
    wanted: set[str] = field(default_factory=set)
    warn: Callable[[Diagnostic], object] = lambda diagnostic: None
    calls: dict[str, int] = field(default_factory=dict)
    failed: str = ""

    def takes(self, segment: Segment) -> bool:
        """Whether a segment is compiled."""
        return not self.failed and (self.always or segment.key in self.wanted)

    def __call__(
        self, segment: Segment, inputs: Sequence[Any], rows: Sequence[int | None]
    ) -> tuple[Any, ...] | None:
        """The outputs; None if there is no compiler after all.

        `rows`: which dimension of each input holds rows.
        """
        tensors = []
        for x, dim in zip(inputs, rows, strict=True):
            if isinstance(x, Tensor) and dim is not None:
                x = x.contiguous()
                torch._dynamo.maybe_mark_dynamic(x, dim)
            tensors.append(x)
        try:
            found: tuple[Any, ...] = _function(segment, tensors, rows)(*tensors)
        except Exception as err:
            why = _no_compiler(err)
            if not why:
                raise
            self.failed = why
            self.warn(
                Diagnostic(
                    "MI0706",
                    f"segments run uncompiled: {why}",
                    help="install a C++ compiler such as g++, or give `--compile never`",
                    severity="warning",
                )
            )
            return None
        if segment.key not in self.calls:  # it is compiled by its first call, and inductor keeps it
            _marks().mkdir(parents=True, exist_ok=True)
            (_marks() / segment.key).touch()
        self.calls[segment.key] = self.calls.get(segment.key, 0) + 1
        return found


_FUNCTIONS: dict[tuple[object, ...], Callable[..., tuple[Any, ...]]] = {}


def _function(
    segment: Segment, tensors: Sequence[Any], rows: Sequence[int | None]
) -> Callable[..., tuple[Any, ...]]:
    """The compiled function of a segment for inputs of these types: one for all numbers of rows."""
    key = (segment.key, *(_shape(x, dim) for x, dim in zip(tensors, rows, strict=True)))
    if key not in _FUNCTIONS:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_dir() / "inductor"))
        module = fx.GraphModule(torch.nn.Module(), segment.graph)
        _FUNCTIONS[key] = torch.compile(module, fullgraph=True)
    return _FUNCTIONS[key]


def _shape(x: Any, dim: int | None) -> object:
    if not isinstance(x, Tensor):
        return x
    return x.dtype, tuple(-1 if i == dim else n for i, n in enumerate(x.shape))


def _marks() -> Path:
    """One empty file for each segment that was compiled on this machine."""
    return cache_dir() / "segments"


def compiled_before(key: str) -> bool:
    """Whether this machine has compiled such a segment before: inductor has kept it."""
    return kept(_marks() / key)


def _no_compiler(err: BaseException) -> str:
    """Why this machine cannot compile; "" for any other error."""
    seen: BaseException | None = err
    while seen is not None:
        name = type(seen).__name__
        if name == "InvalidCxxCompiler" or "No working C++ compiler" in str(seen):
            return "there is no C++ compiler"
        seen = seen.__cause__ or getattr(seen, "inner_exception", None)
    return ""
