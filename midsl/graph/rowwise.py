"""What each node of a lowered graph does to rows, so that a run can go row by row.

A row is one (lane, example, position). A node is `static` if it follows from the token ids alone (masks,
rotary tables), `local` if its value at a row needs its arguments at that row only, `attention` if it is
one fused causal attention, where rows of an example meet, `edit` if a spec's edits stand there, and `mixing`
otherwise. A run in which an edit reaches a mixing node does not go by rows.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import fx

from midsl.graph.axes import Size, size
from midsl.graph.export import is_call
from midsl.graph.parts import Parts
from midsl.graph.rules import CAUSAL, LOCAL, node_rule

aten = torch.ops.aten
Kind = Literal["static", "local", "attention", "edit", "mixing"]


@dataclass(frozen=True)
class Dims:
    """Where a value has its rows: dimensions of batch and of pos, or one that has both flattened."""

    batch: int | None = None
    pos: int | None = None
    flat: int | None = None


HEADS_FIRST = Dims(batch=0, pos=2)
"""The operands of a fused attention: [batch, head, pos, d_head]."""


@dataclass(frozen=True)
class Rowwise:
    """The kinds of a graph's nodes, where their rows are, and what cannot go by rows, with the reason."""

    kinds: dict[fx.Node, Kind]
    dims: dict[fx.Node, Dims]
    why: dict[fx.Node, str]
    start: str
    """Name of the token lookup, where what moves begins."""


def classify(graph: fx.Graph, parts: Parts, rules: dict[str, str], known: Collection[str]) -> Rowwise:
    """Return what each node does to rows.

    `known` names the nodes of the model's own graph, whose rule stands in `rules`; the others were
    inserted by expansions, and are judged by themselves.
    """
    found = Rowwise({}, {}, {}, parts.frame.tokens.name)
    for node in graph.nodes:
        if node.op == "output":
            continue
        moves = (
            node.name == found.start
            or getattr(node.target, "per_lane", False)
            or any(found.kinds[a] != "static" for a in node.all_input_nodes)
        )
        kind = _kind(parts, node, rules, known) if moves and node.op == "call_function" else "static"
        dims = _dims(parts, node)
        if dims is not None:
            found.dims[node] = dims
        why = _misfit(node, kind, found)
        if why:
            found.why[node] = why
        found.kinds[node] = "mixing" if why else kind
    return found


def _kind(parts: Parts, node: fx.Node, rules: dict[str, str], known: Collection[str]) -> Kind:
    if getattr(node.target, "per_lane", False):
        return "edit"
    rule = rules.get(node.name, "") if node.name in known else node_rule(parts, node)
    if is_call(node, aten.scaled_dot_product_attention.default) and rules.get(node.name) == CAUSAL:
        return "attention"
    return "local" if rule == LOCAL else "mixing"


def _misfit(node: fx.Node, kind: Kind, found: Rowwise) -> str:
    """Why a node cannot go by rows; "" where it can."""
    if kind == "mixing":
        return f"{node.name} is not known to keep positions apart"
    if kind == "static":
        return ""
    dims = found.dims.get(node)
    if dims is None or (dims.flat is None and (dims.batch is None or dims.pos is None)):
        return f"{node.name} has no dimension of rows"
    if kind == "edit":
        source = node.all_input_nodes[0]
        return f"{source.name} is the same in all examples" if found.kinds[source] == "static" else ""
    if kind == "attention":
        apart = all(isinstance(a, fx.Node) and found.dims.get(a) == HEADS_FIRST for a in node.args[:3])
        return "" if apart else f"{node.name} takes its operands in another layout"
    for a in node.all_input_nodes:
        if found.kinds[a] == "static" and not _follows(found, a):
            return f"{a.name} has no dimension of positions to take rows along"
    return ""


def _follows(found: Rowwise, node: fx.Node) -> bool:
    """Whether rows can be taken of a static value (a number, or what is the same for all, will do)."""
    dims = found.dims.get(node)
    return dims is not None and not (dims.batch is not None and dims.pos is None)


def _dims(parts: Parts, node: fx.Node) -> Dims | None:
    """Where a node's value has its rows; None where its dimensions grow in another way."""
    value = node.meta.get("val")
    if value is None and getattr(node.target, "per_lane", False):  # as what it edits
        return _dims(parts, node.all_input_nodes[0])
    if isinstance(value, (tuple, list)):  # several results: each has rows where the first has them
        value = value[0]
    if not isinstance(value, torch.Tensor):
        return Dims()
    return dims_of(tuple(size(s) for s in value.shape), parts.frame.batch, parts.frame.pos)


def dims_of(shape: tuple[Size, ...], batch: Any, pos: Any) -> Dims | None:
    """Return where a shape has `batch` and `pos`."""
    found: dict[str, int] = {}
    for i, n in enumerate(shape):
        symbols = n.free_symbols & {batch, pos}
        if not symbols:
            continue
        name = "flat" if len(symbols) == 2 else "batch" if symbols == {batch} else "pos"
        if name in found or n != {"flat": batch * pos, "batch": batch, "pos": pos}[name]:
            return None
        found[name] = i
    if "flat" in found and len(found) > 1:
        return None
    return Dims(found.get("batch"), found.get("pos"), found.get("flat"))
