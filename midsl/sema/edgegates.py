"""Numbers for edges: how far each of a set goes, whether one is in a set, and circuits that are known.

``m.edges[by: share] := corrupt`` moves each edge by its own share of the way, ``self + by * (new - self)``.
The shares are a value along an axis over edges: of a sweep over them, or parameters in the order of the set.
So a circuit may come of what runs tell (``by: not keep``), and a mask can be fitted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from midsl.diagnostics.model import fail
from midsl.ir import nodes as ir
from midsl.ir.types import Axis, TensorType
from midsl.sema import tensors
from midsl.sema.edges import Edge, EdgesV, Gate, Index, all_edges
from midsl.sema.filefacts import described
from midsl.sema.values import ConstV, ModelV, TensorV, Value
from midsl.source import Span

if TYPE_CHECKING:
    from midsl.sema.context import Context

EDGE = "edge"
"""The axis of parameters that are one for each edge of a set."""


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
    found = [g for a in share.type.axes if (g := _gate(share, a, edges)) is not None]
    if len(found) == 1:
        return replace(edges, by=found[0])
    raise fail(
        "MI0413",
        "the shares are not along these edges",
        span,
        label=f"this is {share.type}, and there are {len(edges.members)} edges",
        help="sweep over the set, or over one that it is part of, and give a value along that variable; or "
        f"parameters along `{EDGE}`",
    )


def _gate(share: TensorV, axis: Axis, edges: EdgesV) -> Gate | None:
    """The shares as a gate along one of their axes, if it is over all of these edges."""
    if axis.name == EDGE and axis.size == len(edges.members) and not axis.owner.startswith("sweep:"):
        return Gate(share, EDGE, {x: i for i, x in enumerate(edges.members)})
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
