"""Elaboration: evaluates the expressions of a spec at compile time, leaving typed IR.

One function per form of expression. Functions are applied here (so IR has none), names are resolved
lazily (so bindings may stand in any order), and whatever is refused raises a coded error that the
statement level collects, so that one run reports many.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from midsl.diagnostics.model import fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.ir.types import TensorType
from midsl.sema import graphs, runs, tensors
from midsl.sema.access import data_field, index_run, rollout_field, run_field
from midsl.sema.calls import call_value
from midsl.sema.comprehend import comprehension
from midsl.sema.context import Context
from midsl.sema.edgegates import among
from midsl.sema.edges import EdgesV, edges_field, index_edges, joined
from midsl.sema.expected import need_bool, need_truth, sites_of
from midsl.sema.lenses import lens_field
from midsl.sema.lensfamily import family_field, index_family
from midsl.sema.models import blocks_field, model_field, module_side
from midsl.sema.scope import Scope
from midsl.sema.select import index_tensor
from midsl.sema.sites import index_blocks, index_site, site_field
from midsl.sema.stdfiles import where_from
from midsl.sema.training import checkpoint
from midsl.sema.unroll import Unroll, need_literal
from midsl.sema.values import (
    BlocksV,
    ColumnV,
    ConstV,
    DataV,
    FamilyV,
    FnV,
    GraphV,
    LateV,
    LensV,
    ListV,
    ModelV,
    ModulesV,
    PartV,
    Poison,
    PoisonError,
    RangeV,
    RecordV,
    RolloutV,
    RunV,
    SitesV,
    SiteV,
    SpaceV,
    TensorV,
    Value,
    VariousV,
    ViewV,
)
from midsl.sema.views import index_view
from midsl.sema.where import is_label, one_of
from midsl.sema.written import LAMBDA
from midsl.syntax import ast


class Elaborator:
    """Evaluates expressions; one instance per elaboration."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.forms: dict[type[ast.Expr], Callable[[Any, Scope], Value]] = {}

    def eval(self, node: ast.Expr, scope: Scope) -> Value:
        """The value of an expression."""
        method = self.forms.get(type(node))
        if method is None:
            method = self.forms[type(node)] = getattr(self, "eval_" + type(node).__name__.rstrip("_"))
        self.ctx.spend(1, node.span)
        value = method(node, scope)
        if isinstance(value, Poison):
            raise PoisonError
        if isinstance(value, VariousV):
            raise Unroll(value.sweep)
        if self.ctx.watch is not None:
            self.ctx.watch[node.span] = value
        return value

    # -- leaves

    def eval_Name(self, node: ast.Name, scope: Scope) -> Value:
        value = scope.find(node.id)
        if value is None:
            names = [n for n in scope.all_names() if n != "self"]
            raise fail(
                "MI0201",
                f"unknown name `{node.id}`",
                node.span,
                label="not bound anywhere",
                help=did_you_mean(node.id, names) or where_from(node.id) or f"bind it: `let {node.id} = ...`",
            )
        return value

    def eval_SelfRef(self, node: ast.SelfRef, scope: Scope) -> Value:
        value = scope.find("self")
        if value is None:
            raise fail(
                "MI0409",
                "`self` stands for what arrives at an edited site",
                node.span,
                label="no edit is around it",
                help="use it on the right of `:=`",
            )
        return value

    def eval_Literal(self, node: ast.Literal_, scope: Scope) -> Value:
        return ConstV(node.value)

    def eval_LateColumn(self, node: ast.LateColumn, scope: Scope) -> Value:
        known = self.ctx.late.get(node.span)
        return known if known is not None else LateV(node.name, node.span)

    def eval_All(self, node: ast.All, scope: Scope) -> Value:
        return ConstV("*")

    def eval_ListExpr(self, node: ast.ListExpr, scope: Scope) -> Value:
        return ListV(tuple(self.eval(i, scope) for i in node.items))

    def eval_Record(self, node: ast.Record, scope: Scope) -> Value:
        fields: dict[str, Value] = {}
        for name, value in node.fields:
            if name in fields:
                raise fail(
                    "MI0204", f"field `{name}` stands twice", value.span, help="leave one of the two out"
                )
            fields[name] = self.eval(value, scope)
        return RecordV(fields)

    def eval_Range(self, node: ast.Range, scope: Scope) -> Value:
        def end(part: ast.Expr | None) -> int | None:
            if part is None:
                return None
            value = self.eval(part, scope)
            need_literal(value)
            if not (isinstance(value, ConstV) and type(value.value) is int):
                raise fail(
                    "MI0301",
                    "the ends of a range are whole numbers",
                    part.span,
                    label=f"this is a {value.kind}",
                    help="such as `0..12`; other numbers are listed: `[0.0, 0.5, 1.0]`",
                )
            return value.value

        lo, hi, step = end(node.lo), end(node.hi), end(node.step)
        if step is not None and step <= 0:
            raise fail(
                "MI0301",
                "the step of a range is at least 1",
                node.span,
                help="write `a..b by 2`; to go backwards, list the items",
            )
        if hi is not None and node.inclusive:
            hi = None if hi == -1 else hi + 1
        return RangeV(lo, hi, step or 1)

    def eval_Lambda(self, node: ast.Lambda, scope: Scope) -> Value:
        params = tuple(
            ast.FnParam(p, ast.TypeRef("Any", span=node.span), span=node.span) for p in node.params
        )
        return FnV(LAMBDA, params, lambda inner: self.eval(node.body, inner), scope, node.span)

    def eval_Comprehension(self, node: ast.Comprehension, scope: Scope) -> Value:
        return comprehension(self, node, scope)

    # -- operators

    def eval_Unary(self, node: ast.Unary, scope: Scope) -> Value:
        value = self.eval(node.operand, scope)
        if isinstance(value, ConstV) and not isinstance(value.value, str):
            v = value.value
            if node.op == "not":
                need_truth(value, node.operand.span)
            return ConstV(not v if node.op == "not" else -v if node.op == "-" else +v)
        tensor = tensors.as_tensor(value, node.operand.span)
        if node.op == "+":
            return tensor
        if node.op == "not":
            need_bool(tensor, node.span)
            return tensors.apply("not", (tensor,), node.span, kind="bool")
        return tensors.apply("neg", (tensor,), node.span, kind=tensor.type.kind)

    def eval_Binary(self, node: ast.Binary, scope: Scope) -> Value:
        left, right = self.eval(node.left, scope), self.eval(node.right, scope)
        if node.op == "|" and isinstance(left, EdgesV) and isinstance(right, EdgesV):
            return joined((left, right), node.span)
        if node.op == "|" and isinstance(left, GraphV) and isinstance(right, GraphV):
            return graphs.joined(left, right, node.span)
        if node.op == "|":
            return SitesV((*sites_of(left, node.left.span), *sites_of(right, node.right.span)))
        if node.op == "in" and isinstance(right, EdgesV):
            return among(left, right, node.span)
        if node.op == "in":
            if not isinstance(right, ListV):
                raise fail(
                    "MI0301",
                    "`in` looks in a list",
                    node.right.span,
                    label=f"this is a {right.kind}",
                    help="such as `x in [1, 2, 3]`",
                )
            if isinstance(left, ConstV) and all(isinstance(i, ConstV) for i in right.items):
                return ConstV(left in right.items)
            return one_of(self.ctx, left, right, node.span)
        if node.op in ("and", "or"):
            if isinstance(left, ConstV) and isinstance(right, ConstV):
                need_truth(left, node.left.span)
                need_truth(right, node.right.span)
                both = (bool(left.value), bool(right.value))
                return ConstV(all(both) if node.op == "and" else any(both))
            a, b = tensors.as_tensor(left, node.left.span), tensors.as_tensor(right, node.right.span)
            need_bool(a, node.left.span)
            need_bool(b, node.right.span)
            return tensors.apply(node.op, (a, b), node.span, kind="bool")
        for value, side in ((left, node.left), (right, node.right)):
            if not isinstance(value, ConstV):
                tensors.as_tensor(value, side.span)
        return tensors.binary(node.op, left, right, node.span)

    def eval_Compare(self, node: ast.Compare, scope: Scope) -> Value:
        within = None
        if node.within is not None:
            tol = self.eval(node.within, scope)
            if not (isinstance(tol, ConstV) and isinstance(tol.value, (int, float))):
                raise fail(
                    "MI0301", "a tolerance is a number", node.within.span, help="such as `a ~= b within 1e-3`"
                )
            within = float(tol.value)
        left, right = self.eval(node.left, scope), self.eval(node.right, scope)
        for label, other in ((left, right), (right, left)):
            if isinstance(label, ColumnV) and label.column_kind == "label" and node.op in ("==", "!="):
                same = is_label(self.ctx, label, other, node.span)
                if node.op == "==":
                    return same
                return tensors.apply("not", (same,), node.span, kind="bool")
        return tensors.compare(node.op, left, right, node.span, within)

    def eval_Cond(self, node: ast.Cond, scope: Scope) -> Value:
        test = self.eval(node.test, scope)
        if isinstance(test, ConstV):
            if not isinstance(test.value, bool):
                raise fail(
                    "MI0301",
                    "`if` needs a truth value",
                    node.test.span,
                    label=f"this is {test.kind}",
                    help="compare it with something: `if x > 0 then ...`",
                )
            return self.eval(node.then if test.value else node.other, scope)
        t = tensors.as_tensor(test, node.test.span)
        need_bool(t, node.test.span)
        then, other = (tensors.as_tensor(self.eval(x, scope), x.span) for x in (node.then, node.other))
        return tensors.apply("where", (t, then, other), node.span)

    # -- access

    def eval_Field(self, node: ast.Field, scope: Scope) -> Value:
        base = self.eval(node.base, scope)
        name, span, ctx = node.name, node.name_span, self.ctx
        if isinstance(base, ModelV):
            return model_field(base, name, node.span, ctx)
        if isinstance(base, BlocksV):
            return blocks_field(base, name, node.span, ctx)
        if isinstance(base, ModulesV):
            return module_side(base, name, node.span, ctx)
        if isinstance(base, RunV):
            return run_field(ctx, base, name, node.span)
        if isinstance(base, RolloutV):
            return rollout_field(ctx, base, name, node.span)
        if isinstance(base, DataV):
            return data_field(ctx, base, name, node.span, span)
        if isinstance(base, PartV):
            return ctx.column(base, name, node.span)
        if isinstance(base, SiteV):
            return site_field(base, name, node.span)
        if isinstance(base, EdgesV):
            return edges_field(base, name, node.span, ctx)
        if isinstance(base, LensV):
            return lens_field(self, base, name, node.span)
        if isinstance(base, FamilyV):
            return family_field(self, base, name, node.span)
        if isinstance(base, SpaceV):
            if name not in base.members:
                raise fail(
                    "MI0203",
                    f"module `{base.name}` does not define `{name}`",
                    span,
                    label="not there",
                    help=did_you_mean(name, base.members) or f"it has {', '.join(base.members)}",
                )
            return base.members[name]()
        if isinstance(base, RecordV):
            if name not in base.fields:
                raise fail(
                    "MI0205",
                    f"the {base.kind} has no field `{name}`",
                    span,
                    help=did_you_mean(name, base.fields) or f"it has {', '.join(base.fields)}",
                )
            return base.fields[name]
        swept = isinstance(base, TensorV) and str(base.type) == "Int[layer]"
        raise fail(
            "MI0205",
            f"a {base.kind} has no fields",
            span,
            label=f"`{name}` of a {base.kind}",
            help=f"a swept layer is a number: write `m.blocks[...].{name}`"
            if swept
            else "models, runs, data, records, decompositions and modules have fields",
        )

    def eval_Index(self, node: ast.Index, scope: Scope) -> Value:
        base = self.eval(node.base, scope)
        if isinstance(base, (RunV, RolloutV)):
            alone = len(node.items) == 1 and node.items[0].axis is None
            site = self.eval(node.items[0].value, scope) if alone else None
            return index_run(self.ctx, base, node, site)
        items = [(i.axis, self.eval(i.value, scope), i.span) for i in node.items]
        if isinstance(base, BlocksV):
            return index_blocks(base, items, node.span)
        if isinstance(base, ModulesV) and len(items) == 1 and isinstance(items[0][1], ConstV):
            return ModulesV(base.model, str(items[0][1].value))
        if isinstance(base, ModelV):
            return checkpoint(self.ctx, base, items, node.span)
        if isinstance(base, SiteV):
            return index_site(base, items, node.span)
        if isinstance(base, EdgesV):
            return index_edges(base, items, node.span)
        if isinstance(base, ViewV):
            return index_view(base, items, node.span)
        if isinstance(base, FamilyV):
            return index_family(base, items, node.span)
        if isinstance(base, ColumnV) and isinstance(base.node.type, TensorType):
            base = TensorV(base.node)
        if isinstance(base, ListV) and base.axis is not None and any(a is not None for a, _, _ in items):
            base = tensors.as_tensor(base, node.base.span)
        if isinstance(base, TensorV):
            return index_tensor(base, items, node.span, self.ctx)
        if isinstance(base, ListV) and len(items) == 1 and isinstance(items[0][1], ConstV):
            index = items[0][1].value
            if type(index) is not int or not -len(base.items) <= index < len(base.items):
                raise fail(
                    "MI0406",
                    f"the list has no item {index!r}",
                    node.span,
                    label=f"it has {len(base.items)}",
                    help="the first item is 0",
                )
            return base.items[index]
        raise fail(
            "MI0307",
            f"a {base.kind} cannot be indexed",
            node.span,
            label=f"this is a {base.kind}",
            help="sites, runs, tensors and lists take brackets",
        )

    # -- calls, runs, edits

    def eval_Call(self, node: ast.Call, scope: Scope) -> Value:
        return call_value(self, self.eval(node.func, scope), node, scope)

    def eval_Run(self, node: ast.Run, scope: Scope) -> Value:
        return runs.elaborate_run(self, node, scope)

    def eval_Edits(self, node: ast.Edits, scope: Scope) -> Value:
        return runs.templates(self, node, scope)
