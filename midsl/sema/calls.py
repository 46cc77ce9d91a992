"""Calls: binding arguments, checking them against written types, and what each kind of function does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from midsl.diagnostics.model import Label, fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.ir import nodes as ir
from midsl.ir.types import Axis, PlainType, TensorType
from midsl.sema.values import (
    AxisV,
    BuiltinV,
    ColumnV,
    ConstV,
    DataV,
    ExternV,
    FnV,
    LateV,
    LensV,
    ListV,
    ModelV,
    OptimV,
    PartV,
    RecordV,
    RunV,
    SitesV,
    SiteV,
    TensorV,
    TokenizerV,
    Value,
)
from midsl.source import Span
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.elaborate import Elaborator
    from midsl.sema.scope import Scope

MAX_DEPTH = 64
AUTOMATIC_COLUMNS = {"start": "pos", "end": "pos"}


def call_value(e: Elaborator, func: Value, node: ast.Call, scope: Scope) -> Value:
    """Apply whatever stands before the parentheses."""
    if isinstance(func, BuiltinV):
        return func.call(e, node, scope)
    if isinstance(func, FnV):
        args = bind(e, func.name, func.params, node, scope, func.scope)
        args |= axis_variables(func, args)
        e.ctx.depth += 1
        if e.ctx.depth > MAX_DEPTH:
            e.ctx.depth = 0
            raise fail(
                "MI0211",
                f"`{func.name}` calls itself",
                node.span,
                label="calls are nested too deep",
                help="functions of midsl are not recursive",
            )
        try:
            return func.body(func.scope.child(args))
        finally:
            e.ctx.depth = max(0, e.ctx.depth - 1)
    if isinstance(func, ExternV):
        args = bind(e, func.decl.name, func.decl.params, node, scope, func.scope)
        return build_extern(e, func, args, node)
    raise fail("MI0306", f"a {func.kind} cannot be called", node.func.span, label=f"this is a {func.kind}")


def axis_variables(func: FnV, args: Mapping[str, Value]) -> dict[str, Value]:
    """What the axis variables of a function stand for: the last axis of a site, ``at: Site[d]``."""
    found: dict[str, Value] = {}
    for p in func.params:
        site, t = args.get(p.name), p.type
        if isinstance(site, SiteV) and isinstance(t, ast.TypeRef) and t.axes:
            name = t.axes[-1].name
            if name in func.generics and site.row.axes:
                axis = site.row.axes[-1]
                found[name] = AxisV(Axis(axis, site.model.owner, site.model.sizes.get(axis)))
    return found


def bind(
    e: Elaborator, name: str, params: tuple[ast.FnParam, ...], node: ast.Call, scope: Scope, home: Scope
) -> dict[str, Value]:
    """Match arguments to parameters: positional first, then by name, then defaults."""
    given: dict[str, Value] = {}
    spans: dict[str, Span] = {}
    names = [p.name for p in params]
    positional = 0
    for arg in node.args:
        if arg.name is None:
            if positional >= len(params):
                raise fail(
                    "MI0208",
                    f"`{name}` takes {len(params)} arguments",
                    arg.span,
                    label="one too many",
                    help=f"parameters: {', '.join(names) or 'none'}",
                )
            target = params[positional]
            positional += 1
        else:
            found = next((p for p in params if p.name == arg.name), None)
            if found is None:
                raise fail(
                    "MI0206",
                    f"`{name}` has no parameter `{arg.name}`",
                    arg.span,
                    label="not a parameter",
                    help=did_you_mean(arg.name, names) or f"parameters: {', '.join(names)}",
                )
            target = found
        if target.name in given:
            raise fail(
                "MI0204",
                f"`{target.name}` is given twice",
                arg.span,
                notes=[Label(spans[target.name], "given here first")],
            )
        given[target.name] = argument(e, arg.value, target.type, scope)
        spans[target.name] = arg.value.span
    for p in params:
        if p.name in given:
            check_type(given[p.name], p, name, spans[p.name])
        elif p.default is not None:
            given[p.name] = argument(e, p.default, p.type, home)
        else:
            raise fail(
                "MI0207",
                f"`{name}` needs `{p.name}`",
                node.span,
                label="an argument is missing",
                help=f"add `{p.name}: ...`",
            )
    return given


def argument(e: Elaborator, value: ast.Expr, declared: ast.Type, scope: Scope) -> Value:
    """An argument's value; where an axis is wanted, a bare unbound name stands for itself."""
    if isinstance(declared, ast.TypeRef) and declared.name in ("Axis", "Axes"):
        names = axis_names(e, value, scope)
        return ConstV(names[0]) if len(names) == 1 else ListV(tuple(ConstV(n) for n in names))
    return e.eval(value, scope)


def axis_names(e: Elaborator, value: ast.Expr, scope: Scope) -> tuple[str, ...]:
    """Axis names as they are written after `over:`: a name, a list of names, or bound ones."""
    if isinstance(value, ast.ListExpr):
        return tuple(n for item in value.items for n in axis_names(e, item, scope))
    if isinstance(value, ast.Name):
        bound = scope.find(value.id)
        if isinstance(bound, ConstV) and isinstance(bound.value, str):
            return (bound.value,)
        if isinstance(bound, AxisV):
            return (bound.axis.name,)
        if isinstance(bound, ListV) and all(
            isinstance(i, ConstV) and isinstance(i.value, str) for i in bound.items
        ):
            return tuple(str(i.value) for i in bound.items if isinstance(i, ConstV))
        return (value.id,)
    if isinstance(value, ast.Literal_) and isinstance(value.value, str):
        return (value.value,)
    raise fail(
        "MI0302",
        "an axis name is needed",
        value.span,
        label="not an axis name",
        help="such as `over: batch` or `over: [batch, pos]`",
    )


_ACCEPTS: dict[str, tuple[type[Value], ...]] = {
    "Int": (ConstV, TensorV),
    "Float": (ConstV, TensorV),
    "Bool": (ConstV, TensorV),
    "String": (ConstV,),
    "Token": (ConstV, LateV, ColumnV, TensorV),
    "Pos": (ConstV, LateV, ColumnV),
    "Span": (LateV, ColumnV),
    "Label": (LateV, ColumnV),
    "Site": (SiteV, SitesV),
    "Sites": (SiteV, SitesV),
    "Run": (RunV,),
    "Model": (ModelV,),
    "Data": (DataV, PartV),
    "Tokenizer": (TokenizerV,),
    "Record": (RecordV,),
    "Fit": (RecordV,),
    "List": (ListV,),
    "Lens": (LensV,),
    "Optim": (OptimV,),
}


def check_type(value: Value, param: ast.FnParam, fn: str, span: Span) -> None:
    """Refuse an argument of the wrong kind (MI0301), naming the parameter and what it wants."""
    t = param.type
    ok = True
    wanted = ""
    if isinstance(t, ast.FnType):
        ok, wanted = isinstance(value, (FnV, BuiltinV)), "a function"
    elif isinstance(t, ast.RecordType):
        ok, wanted = isinstance(value, RecordV), "a record"
    elif isinstance(t, ast.TypeRef) and t.name in _ACCEPTS:
        wanted = t.name
        ok = isinstance(value, _ACCEPTS[t.name])
        if isinstance(value, ColumnV) and t.name in ("Int", "Float"):
            ok = isinstance(value.node.type, TensorType)  # a column of numbers is a value for each row
        if isinstance(value, ConstV):
            v = value.value
            ok = ok and {
                "Int": type(v) is int,
                "Float": type(v) in (int, float),
                "Bool": type(v) is bool,
                "String": type(v) is str,
                "Token": type(v) is int,
                "Pos": type(v) is int,
            }.get(t.name, False)
    if not ok:
        raise fail(
            "MI0301",
            f"`{param.name}` of `{fn}` is {wanted}",
            span,
            label=f"this is a {value.kind}",
            notes=[Label(param.span, "declared here")] if param.span.end else [],
        )


def encode(value: Value, span: Span) -> Any:
    """An argument as an attribute of a recipe: literals, lists and records tagged, nodes as they are."""
    if isinstance(value, ConstV):
        return value.value
    if isinstance(value, ListV):
        return ("list", *(encode(v, span) for v in value.items))
    if isinstance(value, RecordV):
        return ("record", *((k, encode(v, span)) for k, v in value.fields.items()))
    if isinstance(value, OptimV):
        return ("record", ("name", value.name), *value.settings.items())
    if isinstance(value, (ModelV, TokenizerV, DataV, PartV, TensorV, ColumnV)):
        return value.node
    if isinstance(value, SiteV):
        return value.site
    if isinstance(value, FnV):
        return ("fn", value.span.text)
    raise fail(
        "MI0301", f"a {value.kind} cannot be given to this function", span, label=f"this is a {value.kind}"
    )


def build_extern(e: Elaborator, func: ExternV, args: Mapping[str, Value], node: ast.Call) -> Value:
    """An `extern fn` makes a model, a data set, a tokenizer or a decomposition, by recipe."""
    decl = func.decl
    if not func.trusted:
        raise fail(
            "MI0605",
            f"`{decl.name}` runs Python outside the standard library",
            node.span,
            label="not trusted",
            help="read that code, then run with `--trust`",
        )
    ref = decl.extern or ""
    spans = {a.name: a.value.span for a in node.args if a.name}
    recipe = tuple((k, encode(v, spans.get(k, node.span))) for k, v in args.items())
    returns = decl.returns
    name = returns.name if isinstance(returns, ast.TypeRef) else ""
    if name == "Model":
        return e.ctx.model(ir.Model(ref, recipe, type=PlainType("Model"), span=node.span))
    if name == "Tokenizer":
        return TokenizerV(ir.Extern(ref, recipe, type=PlainType("Tokenizer"), span=node.span))
    if name == "Data" and isinstance(returns, ast.TypeRef):
        return make_data(e, ir.Data(ref, recipe, type=PlainType("Data"), span=node.span), returns, args)
    raise fail("MI0601", f"not implemented: an extern fn that returns {name or 'this'}", node.span)


def make_data(e: Elaborator, data: ir.Data, declared: ast.TypeRef, args: Mapping[str, Value]) -> DataV:
    """A data set's sides, splits and columns: as bound if it is, else as its task declares."""
    bound = e.ctx.facts.dataset(data)
    if bound is not None:
        sides = tuple(s for s in bound.sides if s)
        part = next(iter(bound.sides.values()))
        found: dict[str, str] = {n: c.kind for n, c in part.columns.items()}
        return DataV(data, sides, tuple(bound.splits), found)
    split = args.get("split")
    splits = tuple(split.fields) if isinstance(split, RecordV) else ()
    columns = {n: t.name.lower() for n, t in declared.columns if isinstance(t, ast.TypeRef)}
    return DataV(data, tuple(a.name for a in declared.axes), splits, {**AUTOMATIC_COLUMNS, **columns})
