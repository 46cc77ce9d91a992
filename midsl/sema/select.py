"""Indexing tensors: ``t[axis: index]``, by number, label, list, range, column or swept variable."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from midsl.diagnostics.model import fail
from midsl.ir import nodes as ir
from midsl.ir.types import Axis, TensorType
from midsl.sema.tensors import find_axis, select_type
from midsl.sema.values import ColumnV, ConstV, LateV, ListV, RangeV, TensorV, Value
from midsl.source import Span

if TYPE_CHECKING:
    from midsl.sema.context import Context


def index_tensor(
    value: TensorV, items: list[tuple[str | None, Value, Span]], span: Span, ctx: Context
) -> TensorV:
    """Apply the selections one after the other; each names its axis, unless there is just one."""
    for axis_name, item, at in items:
        if isinstance(item, ConstV) and item.value == "*":
            continue
        if axis_name is None:
            if len(value.type.axes) != 1:
                have = ", ".join(value.type.names) or "none"
                raise fail(
                    "MI0407",
                    "which axis is this for?",
                    at,
                    label="an axis name is needed",
                    help=f"write `axis: index`; this has axes {have}",
                )
            axis_name = value.type.names[0]
        axis = find_axis(value.type, axis_name, at, "select from")
        index = _index(value, axis, item, at, ctx)
        extra = (
            index.type.axes if isinstance(index.type, TensorType) and not isinstance(index, ir.Const) else ()
        )
        t = select_type(value.type, axis, index, extra, at)
        value = TensorV(ir.Select(value.node, axis, index, type=t, span=span), value.site)
    return value


def _index(value: TensorV, axis: Axis, item: Value, span: Span, ctx: Context) -> ir.Node:
    if isinstance(item, LateV):
        span = item.span
        item = ctx.column(late_part(value.node, item.name, span, ctx), item.name, span)
    if isinstance(item, ColumnV):
        if item.column_kind in ("pos", "span") and axis.name not in ("pos", "key_pos"):
            raise fail(
                "MI0407",
                f"a position column cannot select along `{axis.name}`",
                span,
                help="use it with `pos:`",
            )
        if item.column_kind == "token" and axis.name != "vocab":
            raise fail(
                "MI0407",
                f"a token column cannot select along `{axis.name}`",
                span,
                help="use it with `vocab:`",
            )
        if item.column_kind in ("label", "number"):
            raise fail(
                "MI0407",
                f"a {item.column_kind} column cannot be an index",
                span,
                help="positions go with `pos:`, tokens with `vocab:`; compare labels and numbers",
            )
        return item.node
    if isinstance(item, RangeV):
        return ir.Slice(item.lo, item.hi, item.step, span=span)
    if isinstance(item, ListV):
        labels = tuple(_label(axis, i, span) for i in item.items)
        if not labels:
            raise fail("MI0402", "an empty list selects nothing", span, help="name at least one index")
        return ir.Const(labels, span=span)
    if isinstance(item, TensorV):
        if isinstance(item.node, ir.Coord) or item.type.kind in ("int", "token"):
            return item.node
        raise fail(
            "MI0301",
            "an index is a whole number",
            span,
            label=f"this is {item.type}",
            help="such as `x[head: 3]`, a list, a range or a column",
        )
    return ir.Const(_label(axis, item, span), span=span)


UNKNOWN = "graph"
"""The owner of an axis of nodes whose names are not known yet: any name may be one of them."""


def _label(axis: Axis, item: Value, span: Span) -> ir.Scalar:
    if not isinstance(item, ConstV):
        raise fail(
            "MI0407",
            f"`{axis.name}` cannot be selected by a {item.kind}",
            span,
            help="an index, a range, a list, a column such as `.end`, or a swept variable",
        )
    v = item.value
    if axis.labels is not None:
        hit = next((x for x in axis.labels if type(x) is type(v) and x == v), None)
        if hit is None:
            raise fail(
                "MI0406",
                f"`{axis.name}` has no entry {v!r}",
                span,
                label="not one of its labels",
                help=f"labels: {list(axis.labels)[:12]}",
            )
        return hit
    if axis.owner == UNKNOWN and isinstance(v, str):
        return 0
    if type(v) is not int:
        raise fail(
            "MI0301",
            f"an index along `{axis.name}` is a whole number",
            span,
            help=f"such as `{axis.name}: 0`",
        )
    if axis.name == "pos" and v < 0:
        raise fail(
            "MI0407",
            "rows have different lengths",
            span,
            help="use a column such as `.end` to count from the end of a row",
        )
    if axis.size is not None:
        if not -axis.size <= v < axis.size:
            raise fail(
                "MI0406",
                f"`{axis.name}` has no index {v}",
                span,
                label=f"`{axis.name}` has {axis.size}",
                help=f"the last is {axis.size - 1}",
            )
        return v + axis.size if v < 0 else v
    return v


def late_part(node: ir.Node, name: str, span: Span, ctx: Context):  # type: ignore[no-untyped-def]
    """The one data part that the runs under an expression are on (MI0505 if there is not just one)."""
    parts = {r.data.digest: r.data for r in _direct(node)}
    if len(parts) == 1:
        return ctx.parts[next(iter(parts))]
    why = "nothing here is on a run" if not parts else f"{len(parts)} different data parts are in play"
    raise fail(
        "MI0505",
        f"`.{name}` of which data?",
        span,
        label=why,
        help=f"name the column in full, such as `d.clean.{name}`",
    )


def _direct(root: ir.Node) -> Iterator[ir.Forward]:
    """The runs that an expression reads itself, and not only inside another run's edits."""
    seen: set[str] = set()
    stack = [root]
    while stack:
        node = stack.pop()
        if node.digest in seen:
            continue
        seen.add(node.digest)
        if isinstance(node, ir.Forward):
            yield node
        elif isinstance(node, (ir.Read, ir.Grad)):
            stack.append(node.run)
        elif not isinstance(node, (ir.Sweep, ir.Column)):
            stack.extend(node.children)
