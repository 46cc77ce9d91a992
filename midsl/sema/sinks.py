"""What an experiment shows besides its reports (`view`), and what it asks of the planner (`plan`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from midsl.diagnostics.model import fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.ir import nodes as ir
from midsl.sema.plots import SINK
from midsl.sema.runs import as_part
from midsl.sema.tensors import as_tensor
from midsl.sema.values import ColumnV, ConstV, DataV, ListV, PartV, RecordV, TensorV, Value
from midsl.source import Span
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.elaborate import Elaborator

Free = Callable[[ir.Node], tuple[ir.Sweep, ...]]


def elaborate_view(e: Elaborator, experiment: str, stmt: ast.View, value: Value, free: Free) -> ir.View:
    """``view d.clean``, ``view r.text``, ``view x``: rows of data, a column of them, or any value."""
    span = stmt.value.span
    text = " ".join(span.source.text[span.start : span.end].split())
    if isinstance(value, (PartV, DataV)):
        return ir.View(experiment, text, as_part(e, value, span).node, type=SINK, span=stmt.span)
    if isinstance(value, ColumnV):
        return ir.View(experiment, text, value.node, type=SINK, span=stmt.span)
    along = isinstance(value, ListV) and value.axis is not None
    if not isinstance(value, (TensorV, ConstV)) and not along:
        raise fail(
            "MI0312",
            "there is nothing of this to view",
            span,
            label=f"this is a {value.kind}",
            help="view rows (`view d.clean`, `view r.data`), a column of them (`view r.text`), or a value",
        )
    node = as_tensor(value, span).node
    return ir.View(experiment, text, node, free(node), type=SINK, span=stmt.span)


def rows_at_once(value: Value, span: Span) -> int:
    """``plan { rows: 64 }``: how many rows the runs of an experiment may have at once."""
    assert isinstance(value, RecordV)
    for name in value.fields:
        if name != "rows":
            raise fail(
                "MI0205",
                f"the planner takes no hint `{name}`",
                span,
                help=did_you_mean(name, ["rows"])
                or "`plan { rows: 64 }` says how many rows may run at once; passes have flags",
            )
    rows = value.fields.get("rows")
    if not isinstance(rows, ConstV) or type(rows.value) is not int or rows.value < 1:
        raise fail(
            "MI0301",
            "`rows` of a plan is a whole number, at least 1",
            span,
            help="how many rows (lanes times examples) a run may have at once: `plan { rows: 64 }`",
        )
    return rows.value
