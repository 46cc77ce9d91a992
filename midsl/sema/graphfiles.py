"""``stored_graph("graph.json")``: a graph of a file, its nodes by the names that it has there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from midsl.artefacts.base import WHERE, content
from midsl.artefacts.graphs.base import GraphFile, Number
from midsl.artefacts.graphs.find import read
from midsl.diagnostics.model import MiError, fail
from midsl.ir import nodes as ir
from midsl.ir.types import Axis, Kind, TensorType
from midsl.reach import may_read
from midsl.sema.arguments import Args
from midsl.sema.graphs import ENDS, called, made, node_axis, unknown
from midsl.sema.values import TensorV, Value
from midsl.source import Span
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.elaborate import Elaborator
    from midsl.sema.scope import Scope

REF = "midsl.lib.graphfiles:columns"


def stored_graph(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
    """The graph of a file; a `.pt` is looked into once there is torch, and is any graph before."""
    args = Args(e, "stored_graph", node, scope, ("path",))
    path = Path(str(args.literal("path", str)))
    span = e.ctx.calls[0] if e.ctx.calls else node.span  # the library's own text says little
    try:
        may_read(path)
        found = e.ctx.facts.graph_file(path) if path.suffix == ".pt" else read(path)
        if found is None:
            path.stat()
            return unknown(node_axis(None), str(path))
        return _graph(found, path, span)
    except MiError as err:
        raise err.at(span) from None
    except OSError as err:
        raise fail("MI0504", f"cannot read {path}: {err.strerror}", span, help=WHERE) from None


def _graph(found: GraphFile, path: Path, span: Span) -> Value:
    axis = node_axis(found.names)
    ends = {"edges": tuple(called(axis, n) for n in ENDS), "nodes": (axis,)}
    columns = {(t, n): v for t in ends for n, v in getattr(found, t).items()}
    gives = tuple(
        (f"{t}.{n}", _kind(n, v), tuple((a.name, a.size) for a in ends[t])) for (t, n), v in columns.items()
    )
    sha = content(path)
    params = (("path", str(path)), ("sha256", sha))
    attrs: tuple[tuple[str, ir.Json], ...] = (
        ("ref", REF),
        ("params", params),
        ("over", ()),
        ("content", sha),
    )

    def column(table: str, name: str, axes: Sequence[Axis], values: Sequence[Number]) -> TensorV:
        out = (("gives", gives), ("out", f"{table}.{name}"))
        t = TensorType(_kind(name, values), tuple(axes))
        return TensorV(ir.Apply("extern", (), (*attrs, *out), type=t, span=span))

    tables: dict[str, dict[str, Value]] = {"edges": {}, "nodes": {}}
    for (t, n), v in columns.items():
        tables[t][n] = column(t, n, ends[t], v)
    return made(axis, tables["edges"], tables["nodes"])


def _kind(name: str, values: Sequence[Number]) -> Kind:
    if name == "kept" or (len(values) and all(type(v) is bool for v in values)):
        return "bool"
    return "int" if len(values) and all(type(v) is int for v in values) else "float"
