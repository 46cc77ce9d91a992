"""``sweep e in m.edges``: one kind of pairs after the other, each a family with coordinates at both ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from midsl.diagnostics.model import fail
from midsl.ir import nodes as ir
from midsl.sema.clauses import Clause, coord
from midsl.sema.edges import Edge, EdgesV, End
from midsl.sema.kinds import OfKind, kind_sweep, one_behind_the_other, union_clause
from midsl.sema.values import Value
from midsl.source import Span
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.elaborate import Elaborator
    from midsl.sema.scope import Scope

COLUMNS = ("src", "dst", "src_layer", "src_head", "dst_layer", "dst_head")


def swept_edges(name: str, prefix: str, edges: EdgesV, span: Span) -> Clause:
    """The clause that walks a set of edges."""
    if any(x.swept for x in edges.members):
        raise fail(
            "MI0402", "this is one edge at each point already", span, help="sweep over a set: `m.edges`"
        )
    groups: dict[tuple[str, str], list[Edge]] = {}
    for x in edges.members:
        groups.setdefault((x.src.kind, x.dst.kind), []).append(x)
    kinds = []
    for (src, dst), members in groups.items():
        columns = list(_keys(members[0]))
        points = [tuple(_keys(x).values()) for x in members]
        sweep = kind_sweep(name, f"{src}->{dst}", columns, points)

        def end(kind: str, side: str, sweep: ir.Sweep = sweep, columns: list[str] = columns) -> End:
            at = {
                c.removeprefix(f"{side}_"): coord(sweep, i, "int", span)
                for i, c in enumerate(columns)
                if c.startswith(f"{side}_")
            }
            return End(kind, at.get("layer"), at.get("head"))

        keys = tuple({"src": x.src.name, "dst": x.dst.name, **_keys(x)} for x in members)
        kinds.append(OfKind(sweep, keys, EdgesV(edges.model, (Edge(end(src, "src"), end(dst, "dst")),))))
    return union_clause(name, prefix, kinds, COLUMNS, span)


def each_edge(e: Elaborator, node: ast.Comprehension, edges: EdgesV, scope: Scope) -> Value:
    """``[x for e in m.edges]``: one value along a sweep over the edges."""
    if node.where is not None:
        raise fail(
            "MI0301",
            "edges are not left out by a condition here",
            node.where.span,
            help="leave them out by name: `[x for e in except(m.edges, circuit)]`; or weigh what comes of it",
        )
    clause = swept_edges(node.var, "", edges, node.source.span)
    values = [e.eval(node.item, scope.child({node.var: k.value})) for k in clause.kinds]
    return one_behind_the_other(values, clause.kinds, clause.sweep, node.span)


def _keys(edge: Edge) -> dict[str, ir.Scalar]:
    """The coordinates of both ends, by the columns that they go to."""
    found: dict[str, ir.Scalar] = {}
    for side, end in (("src", edge.src), ("dst", edge.dst)):
        for a, i in end.coordinates:
            assert isinstance(i, int)
            found[f"{side}_{a}"] = i
    return found
