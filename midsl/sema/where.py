"""Conditions and groups: `where:` and `by:` of a reduction, `where` of a report.

In a condition `.name` is a column of the data that the value is on: ``where: .score > 0``. `by:` gives a
value for each label of a column: it is the same reduction under the condition that a row has the label,
lifted over an axis of labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from midsl.diagnostics.model import fail
from midsl.ir import nodes as ir
from midsl.ir.types import Axis, TensorType
from midsl.sema.expected import need_bool
from midsl.sema.select import late_part
from midsl.sema.tensors import apply, as_tensor, compare, const
from midsl.sema.values import ColumnV, ConstV, DataV, LateV, ListV, PartV, TensorV, Value
from midsl.source import Span
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.context import Context
    from midsl.sema.elaborate import Elaborator
    from midsl.sema.scope import Scope


def condition(e: Elaborator, written: ast.Expr, scope: Scope, about: ir.Node) -> TensorV:
    """A truth value about a tensor expression: its columns are those of the data that `about` is on."""
    for late in _columns_in(written):
        part = late_part(about, late.name, late.span, e.ctx)
        e.ctx.late[late.span] = e.ctx.column(part, late.name, late.span)
    found = as_tensor(e.eval(written, scope), written.span)
    need_bool(found, written.span, "`where` is a truth value", "where: x > 0")
    return found


def _columns_in(node: ast.Expr) -> list[ast.LateColumn]:
    """Columns that a condition compares; those inside a selection or a call are of what stands there."""
    if isinstance(node, ast.LateColumn):
        return [node]
    parts: tuple[ast.Expr, ...] = ()
    if isinstance(node, (ast.Binary, ast.Compare)):
        parts = (node.left, node.right)
    elif isinstance(node, ast.Unary):
        parts = (node.operand,)
    elif isinstance(node, ast.Cond):
        parts = (node.test, node.then, node.other)
    return [found for p in parts for found in _columns_in(p)]


def groups(e: Elaborator, written: ast.Expr, scope: Scope, about: ir.Node, span: Span) -> TensorV:
    """``by: .template``, ``by: [.template, .a]``: which rows are in each group, Bool[batch, template, a]."""
    items = written.items if isinstance(written, ast.ListExpr) else (written,)
    found: TensorV | None = None
    for item in items:
        value: Value = e.eval(item, scope)
        if isinstance(value, LateV):
            value = e.ctx.column(late_part(about, value.name, value.span, e.ctx), value.name, value.span)
        if (
            not isinstance(value, ColumnV)
            or value.column_kind == "span"
            or value.node.name in ("tokens", "next")
        ):
            raise fail(
                "MI0301",
                "rows are grouped by a column that has a value for each",
                item.span,
                label=f"this is a {value.kind}",
                help="such as `by: .template`",
            )
        group = _group(e.ctx, value.node, item.span)
        found = group if found is None else apply("and", (found, group), span, kind="bool")
    if found is None:
        raise fail(
            "MI0402", "an empty list groups nothing", written.span, help="name a column: `by: .template`"
        )
    return found


def _group(ctx: Context, column: ir.Column, span: Span) -> TensorV:
    assert isinstance(column.part, ir.Part)
    batch, _ = ctx.data_axes(ctx.parts[column.part.digest])
    labels = _labels(ctx, column, span)
    size = len(labels) if labels is not None else None
    axis = Axis(column.name, f"{batch.owner}:{column.name}", size, labels)
    return TensorV(ir.Member(column, type=TensorType("bool", (batch, axis)), span=span))


def _labels(ctx: Context, column: ir.Column, span: Span) -> tuple[int | float | str | bool, ...] | None:
    """Every value that a column has, on any side of the data; None until the data is there."""
    assert isinstance(column.part, ir.Part)
    if isinstance(column.part.data, ir.Rollout):
        raise fail(
            "MI0301",
            f"what `.{column.name}` will be is not known before the rollout",
            span,
            label="its labels would be the axis",
            help="group by a column of the prompts, or compare: `where: .text == ...`",
        )
    dataset = ctx.facts.dataset(column.part.data)
    if dataset is None:
        return None
    found: set[int | float | str] = set()
    for side in dataset.sides:
        columns = dataset.part(side, column.part.split).columns
        if column.name in columns:
            found |= {v if isinstance(v, str) else v.item() for v in columns[column.name].values}
    return tuple(sorted(found))


def eligible(e: Elaborator, value: Value, written: ast.Expr, scope: Scope) -> Value:
    """``data known = facts where rank(run m on facts) == 0``: the rows of a data set that count."""
    if not isinstance(value, (DataV, PartV)):
        raise fail(
            "MI0301",
            "`where` behind a binding chooses rows of data",
            written.span,
            label=f"this binds a {value.kind}",
            help="sweeps, reports and reductions have a `where` of their own",
        )
    base = value if isinstance(value, PartV) else e.ctx.part(value, (*value.sides, "")[0], written.span)
    for late in _columns_in(written):
        e.ctx.late[late.span] = e.ctx.column(base, late.name, late.span)
    found = as_tensor(e.eval(written, scope), written.span)
    batch, _ = e.ctx.data_axes(base)
    fits = len(found.type.axes) == 1 and found.type.axes[0].same_as(batch)
    if found.type.kind != "bool" or not fits or ir.sweeps_of(found.node):
        raise fail(
            "MI0301",
            "`where` is one truth value for each row of the data",
            written.span,
            label=f"this is {found.type}"
            if found.type.kind != "bool" or len(found.type.axes) != 1
            else "this is about other rows",
            help='compare something of each row: `where rank_of(run m on facts) == 0`, `where .label == "A"`',
        )
    node = found.node
    if base.node.where is not None:  # among those that are chosen already
        before = base.node.where
        node = ir.Apply("and", (before, node), type=before.type, span=written.span)
    if isinstance(value, DataV):
        return replace(
            value, where=node, again=_again(e, value, written, scope) if by_columns(found.node) else None
        )
    part = replace(base.node, where=node, chosen=node.digest)
    made = PartV(part, base.columns, base.name)
    return e.ctx.parts.setdefault(part.digest, made)


def by_columns(condition: ir.Node) -> bool:
    """Whether a condition says of each row by itself, from what the data has, whether it counts."""
    return not any(
        isinstance(n, (ir.Read, ir.Grad, ir.Reduce, ir.Draw, ir.Rollout)) for n in ir.walk(condition)
    )


def _again(e: Elaborator, value: DataV, written: ast.Expr, scope: Scope) -> Callable[[DataV], Value] | None:
    """Chooses among the rows of another split as among these; None where these were not chosen so."""
    if value.where is not None and value.again is None:
        return None

    def choose(split: DataV) -> Value:
        before = value.again(split) if value.again is not None else split
        return eligible(e, before, written, scope)

    return choose


def is_label(ctx: Context, column: ColumnV, label: Value, span: Span) -> TensorV:
    """``.template == "A"``: which rows have that label."""
    if not (isinstance(label, ConstV) and isinstance(label.value, str)):
        raise fail(
            "MI0301",
            "a label is compared with a string",
            span,
            label=f"this is a {label.kind}",
            help=f'such as `.{column.node.name} == "..."`',
        )
    assert isinstance(column.node.part, ir.Part)
    batch, _ = ctx.data_axes(ctx.parts[column.node.part.digest])
    return TensorV(ir.Member(column.node, label.value, type=TensorType("bool", (batch,)), span=span))


def one_of(ctx: Context, value: Value, items: ListV, span: Span) -> TensorV:
    """``x in [1, 2, 3]``, ``.template in ["A", "B"]``: whether a value is one of some literals."""
    found: TensorV | None = None
    for item in items.items:
        if isinstance(value, ColumnV) and value.column_kind == "label":
            same = is_label(ctx, value, item, span)
        else:
            equal = compare("==", value, item, span, None)
            same = as_tensor(equal, span)
        found = same if found is None else apply("or", (found, same), span, kind="bool")
    return found if found is not None else const(False, span)
