"""Tables: records of values along the same axes, and what becomes of one in a report.

A table combines as values do: what lies along fewer axes is the same all along the others. In the store each
column is a report of its own, ``quality.l0``, with its n, its se and its unit; a view ``quality`` has them
side by side. A graph is two tables, ``circuit_edges`` and ``circuit_nodes``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from midsl.diagnostics.model import fail
from midsl.ir import nodes as ir
from midsl.ir.types import TensorType
from midsl.sema.agree import Mismatch, Signature
from midsl.sema.placed import ContextsV, PlacesV
from midsl.sema.tensors import apply, as_tensor, join_axes
from midsl.sema.typenames import TENSORS, type_of, written
from midsl.sema.unroll import is_tensor
from midsl.sema.values import GraphV, RecordV, TensorV, Value
from midsl.source import Span
from midsl.syntax import ast

GRAPH_TABLES = ("edges", "nodes")
"""The two tables of a graph; of a reported one they are called ``name_edges`` and ``name_nodes``."""


def columns_of(g: GraphV, table: str) -> dict[str, Value]:
    """The columns of one of a graph's tables."""
    found = g.fields[table]
    assert isinstance(found, RecordV)
    return dict(found.fields)


def is_table(value: Value) -> bool:
    """Whether a record is a table: it has columns, and all of them hold numbers."""
    return isinstance(value, RecordV) and bool(value.fields) and all(map(is_tensor, value.fields.values()))


def lifted(columns: Mapping[str, Value], span: Span) -> dict[str, TensorV]:
    """The columns of a table, each along all of its axes.

    Raises:
        MiError: MI0303, MI0304 where two columns have different axes of one name.
    """
    found = {name: as_tensor(v, span) for name, v in columns.items()}
    every = join_axes([x.node for x in found.values()], span)
    for name, x in found.items():
        for other in sorted(found.values(), key=lambda y: -len(y.type.axes)):
            have = {a.name for a in x.type.axes}
            if len(have) < len(every) and any(a.name not in have for a in other.type.axes):
                x = apply("lift", (x, other), span, kind=x.type.kind, unit=x.type.unit)
        found[name] = x
    return found


@dataclass(frozen=True)
class Column:
    """A column as a report: name, value, which rows there are, and axes that the table beside it has.

    `beside` are further key columns, whose entries runs find.
    """

    name: str
    value: TensorV
    rows: ir.Node | None = None
    elsewhere: tuple[str, ...] = ()
    beside: tuple[tuple[str, ir.Node], ...] = ()


def reported(name: str, value: RecordV, span: Span) -> list[Column]:
    """The reports that a table, a graph, or a record of contexts becomes."""
    if isinstance(value, ContextsV):
        return [c for t, x in value.fields.items() for c in reported(f"{name}_{t}", x, span)]  # type: ignore[arg-type]
    if isinstance(value, PlacesV):
        found = {n: as_tensor(value.fields[n], span) for n in ("value", *value.beside)}
        beside = tuple((n, found[n].node) for n in value.beside)
        return [Column(name, found["value"], value.kept.node if value.kept else None, beside=beside)]
    if not isinstance(value, GraphV):
        _need_columns(value, span)
        return [Column(f"{name}.{c}", x) for c, x in lifted(value.fields, span).items()]
    edges, nodes = (lifted(columns_of(value, t), span) for t in GRAPH_TABLES)
    kept = edges.pop("kept").node
    return [
        *(Column(f"{name}_edges.{c}", x, kept, ("node",)) for c, x in edges.items()),
        *(Column(f"{name}_nodes.{c}", x, None, ("src", "dst")) for c, x in nodes.items()),
    ]


def _need_columns(value: RecordV, span: Span) -> None:
    for name, column in value.fields.items():
        if not is_tensor(column):
            raise fail(
                "MI0312",
                "a report holds numbers",
                span,
                label=f"`{name}` is a {column.kind}",
                help="a table is a record of values: `report quality = { l0: l0, size: n }`",
            )
    if not value.fields:
        raise fail(
            "MI0312", "a report holds numbers", span, label="there is nothing in it", help="name a column"
        )


# ---------------------------------------------------------------- written types


def table(value: Value, t: ast.TypeRef, s: Signature) -> Value:
    """``Table[layer]{ l0: Float }``: columns along those axes or some of them, and those that are named."""
    from midsl.sema.written import check

    if isinstance(value, GraphV) or not is_table(value):
        raise Mismatch("", of_kind=True)
    assert isinstance(value, RecordV)
    said = dict(t.columns)
    for name in said:
        if name not in value.fields:
            raise Mismatch(f"it has no column `{name}`", f"columns: {', '.join(value.fields)}")
    made: dict[str, Value] = {}
    seen: set[str] = set()
    for name, column in value.fields.items():
        wanted = said.get(name, ast.TypeRef(_kind(column), span=t.span))
        if isinstance(wanted, ast.TypeRef) and wanted.name in TENSORS and not wanted.axes:
            own = _axes(column)
            known = {a.name: s.axes[a.name].name if a.name in s.axes else a.name for a in t.axes}
            wanted = replace(wanted, axes=tuple(a for a in t.axes if a.rest or known[a.name] in own))
            seen |= {a.name for a in wanted.axes}
            if not t.axes:
                wanted = replace(wanted, axes=(ast.AxisRef("rest", rest=True),))
        try:
            made[name] = check(column, wanted, s)
        except Mismatch as err:
            why = err.why or f"it is {type_of(column)}"
            raise Mismatch(f"`{name}` is not {written(wanted)}: {why}", err.help) from None
    if missing := [a.name for a in t.axes if not a.rest and a.name not in seen and a.name not in s.variables]:
        raise Mismatch(f"no column has the axis `{missing[0]}`", "take the axis out of the type")
    return RecordV(made)


def _kind(column: Value) -> str:
    kind = column.type.kind if isinstance(column, TensorV) else getattr(column, "kind", "Float")
    names = {"float": "Float", "int": "Int", "bool": "Bool", "token": "Token"}
    return names.get(kind, kind if kind in TENSORS else "Float")


def _axes(column: Value) -> set[str]:
    node = as_tensor(column, ir.Const(0).span).node
    return set(node.type.names) if isinstance(node.type, TensorType) else set()


def a_graph(value: Value, t: ast.TypeRef, s: Signature) -> Value:
    """A graph; the axes that it has beside those of its nodes are brought along."""
    if not isinstance(value, GraphV):
        raise Mismatch("", of_kind=True)
    if s.is_open:
        for name in GRAPH_TABLES:
            for column in columns_of(value, name).values():
                assert isinstance(column, TensorV)
                s.lifted += column.type.axes
    return value


def some_contexts(value: Value, t: ast.TypeRef, s: Signature) -> Value:
    """Contexts; the axes of their units are brought along."""
    if not isinstance(value, ContextsV):
        raise Mismatch("", of_kind=True)
    if s.is_open:
        s.lifted += as_tensor(value.fields["top"].fields["value"], ir.Const(0).span).type.axes  # type: ignore[attr-defined]
    return value
