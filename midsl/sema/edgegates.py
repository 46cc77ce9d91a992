"""Numbers for edges: how far each of a set goes, whether one is in a set, and circuits that are known.

``m.edges[by: share] := corrupt`` moves each edge by its own share of the way, ``self + by * (new - self)``.
The shares are a value along an axis over edges: of a sweep over them, or the axis `edge` of a set, which
`edges.number` has. So a circuit may come of what runs tell (``by: not keep``), and a mask can be fitted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from midsl.diagnostics.model import fail
from midsl.ir import nodes as ir
from midsl.ir.types import Axis, TensorType
from midsl.sema import tensors
from midsl.sema.arguments import Args
from midsl.sema.edges import Edge, EdgesV, Gate, Index, all_edges, stage
from midsl.sema.filefacts import described
from midsl.sema.graphs import spread
from midsl.sema.values import ConstV, ModelV, TensorV, Value
from midsl.source import Span
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.context import Context
    from midsl.sema.elaborate import Elaborator
    from midsl.sema.scope import Scope

EDGE = "edge"
"""The axis of values that are one for each edge of a set, labelled by their names."""


def edge_axis(edges: EdgesV) -> Axis:
    """The axis of a set of edges."""
    names = tuple(x.name for x in edges.members)
    digest = hashlib.blake2b(json.dumps(names).encode(), digest_size=4).hexdigest()
    return Axis(EDGE, f"edges:{digest}", len(names), names)


def numbers(edges: EdgesV, span: Span) -> TensorV:
    """``edges.number``: 0, 1, ... along the edges of a set, in its order."""
    axis, size = edge_axis(edges), len(edges.members)
    attrs: tuple[tuple[str, ir.Json], ...] = (("axis", axis.name), ("size", size))
    return TensorV(ir.Apply("count_up", (), attrs, type=TensorType("int", (axis,)), span=span))


def backwards(edges: EdgesV, ctx: Context) -> EdgesV:
    """``edges.backwards``: the last readers first, and to one reader the last sources first."""
    order = {x: i for i, x in enumerate(edges.members)}
    when = {x: stage(x, ctx, edges.model) for x in edges.members}
    return replace(edges, members=tuple(sorted(order, key=lambda x: (-when[x], x.dst.name, -order[x]))))


def numbered(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
    """``numbered(score, edges)``: a value along a sweep over edges, along the edges of a set of them."""
    args = Args(e, "numbered", node, scope, ("x", "edges"))
    edges = args.value("edges")
    if not isinstance(edges, EdgesV):
        help = "such as `numbered(score, m.edges)`, with `score` along a sweep over them"
        raise fail("MI0413", f"a {edges.kind} is no set of edges", args.expr("edges").span, help=help)
    gate = gated(edges, args.value("x"), args.expr("x").span).by
    assert gate is not None
    wanted: dict[tuple[Index, ...], Edge] = {(i,): x for i, x in enumerate(edges.members)}
    value = laid_out(gate, [(edge_axis(edges), range(len(edges.members)))], wanted, node.span)
    if gate.value.type.kind == "bool":
        return tensors.compare(">", value, ConstV(0.5), node.span, None)
    return value


def gated(edges: EdgesV, value: Value, span: Span) -> EdgesV:
    """``m.edges[by: share]``: a set whose edges go only so far to what is written.

    Raises:
        MiError: MI0413 where no axis of the shares is over these edges.
    """
    if edges.by is not None or any(x.swept for x in edges.members):
        raise fail(
            "MI0413",
            "shares are of a set of edges, once",
            span,
            label="this is one edge at each point" if edges.by is None else "the set has shares already",
            help="such as `m.edges[by: share] := corrupt`",
        )
    share = tensors.as_tensor(value, span)
    share = _of_graph(edges, share, span) or share
    found = [g for a in share.type.axes if (g := _gate(share, a, edges)) is not None]
    if len(found) == 1:
        return replace(edges, by=found[0])
    raise fail(
        "MI0413",
        "the shares are not along these edges",
        span,
        label=f"this is {share.type}, and there are {len(edges.members)} edges",
        help="give a value along a sweep over the set, or over one that it is part of; or one "
        f"along `{EDGE}`, as `edges.number` is",
    )


def _of_graph(edges: EdgesV, x: TensorV, span: Span) -> TensorV | None:
    """A value between the nodes of a graph, along edges of the same names; None for any other value.

    Raises:
        MiError: MI0413 if the graph lacks a node at the end of an edge.
    """
    src, dst = x.type.axis("src"), x.type.axis("dst")
    if src is None or dst is None or src.labels is None or not src.owner.startswith("graph:"):
        return None
    place = {n: i for i, n in enumerate(src.labels)}
    ends = [(e, end.name) for e in edges.members for end in (e.src, e.dst)]
    if lost := next(((e, n) for e, n in ends if n not in place), None):
        raise fail(
            "MI0413",
            f"the graph has no node `{lost[1]}`",
            span,
            label=f"`{lost[0].name}` ends there",
            help="make it of a sweep over these edges, and give its columns before `regroup`",
        )
    at = [-1] * len(place) ** 2
    for i, e in enumerate(edges.members):
        at[place[e.src.name] * len(place) + place[e.dst.name]] = i
    return spread(x, ("src", "dst"), (edge_axis(edges),), at, span)


def _gate(share: TensorV, axis: Axis, edges: EdgesV) -> Gate | None:
    """The shares as a gate along one of their axes, if it is over all of these edges."""
    if axis.name == EDGE and axis.labels is not None:
        named = {n: i for i, n in enumerate(axis.labels)}
        if any(x.name not in named for x in edges.members):
            return None
        return Gate(share, EDGE, {x: named[x.name] for x in edges.members})
    sweep = next((s for s in ir.sweeps_of(share.node) if s.axes == (axis,)), None)
    if sweep is None or not isinstance(sweep.domain, ir.Points) or len(sweep.columns) < 2:
        return None
    if not (sweep.columns[0].endswith("src") and sweep.columns[1].endswith("dst")):
        return None
    places = {f"{p[0]}->{p[1]}": i for i, p in enumerate(sweep.domain.points)}
    if any(x.name not in places for x in edges.members):
        return None
    return Gate(share, axis.name, {x: places[x.name] for x in edges.members})


def laid_out(
    gate: Gate,
    axes: Sequence[tuple[Axis, Sequence[int]]],
    wanted: Mapping[tuple[Index, ...], Edge],
    span: Span,
) -> TensorV:
    """The shares along the axes of sources and reading heads; 0 where there is no edge of the set."""
    at: list[tuple[Index, ...]] = [()]
    for _, places in axes:
        at = [(*a, i) for a in at for i in places]
    found = tuple(gate.places[wanted[a]] if a in wanted else -1 for a in at)
    new = tuple(replace(a, size=len(c)) for a, c in axes)
    names = ("axes", tuple(a.name for a in new)), ("shape", tuple(len(c) for _, c in axes))
    attrs = (("over", gate.axis), ("places", found), *names)
    t = TensorType("float", (*gate.value.type.without(gate.axis).axes, *new))
    return TensorV(ir.Apply("lay_out", (gate.value.node,), attrs, type=t, span=span))


def among(edge: Value, circuit: EdgesV, span: Span) -> Value:
    """``e in circuit``: whether a swept edge is one of a set, or a named one."""
    if not isinstance(edge, EdgesV) or len(edge.members) != 1:
        raise fail(
            "MI0301",
            "`in` asks of one edge whether it is in a set",
            span,
            label=f"this is a {edge.kind}" if not isinstance(edge, EdgesV) else "these are several",
            help="sweep over edges: `sweep e in m.edges`, then `e in circuit`",
        )
    (one,) = edge.members
    if not one.swept:
        return ConstV(one in circuit.members)
    kinds = (one.src.kind, one.dst.kind)
    coords = [i for end in (one.src, one.dst) for _, i in end.coordinates]
    found = tensors.const(False, span)
    for x in circuit.members:
        if (x.src.kind, x.dst.kind) != kinds:
            continue
        here = tensors.const(True, span)
        for at, i in zip(coords, (i for end in (x.src, x.dst) for _, i in end.coordinates), strict=True):
            assert isinstance(at, ir.Coord) and isinstance(i, int)
            same = tensors.apply("eq", (TensorV(at), tensors.const(i, span)), span, kind="bool")
            here = tensors.apply("and", (here, same), span, kind="bool")
        found = tensors.apply("or", (found, here), span, kind="bool")
    return found


def known_circuit(model: ModelV, ctx: Context, span: Span) -> EdgesV:
    """``m.circuit``: the edges by which a compiled program does what it does.

    Raises:
        MiError: MI0413 for any other model.
    """
    facts = described(model.node) if isinstance(model.node, ir.Model) else None
    if facts is None or not facts.circuit:
        raise fail(
            "MI0413",
            "how this model works is not known",
            span,
            label="only compiled programs have a `circuit`",
            help='such as `models.compiled("sort")`; of other models it is a question: see `std.search`',
        )
    by_name = {x.name: x for x in all_edges(model, ctx, span).members}
    return EdgesV(model, tuple(by_name[n] for n in dict.fromkeys(facts.circuit)))
