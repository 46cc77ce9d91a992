"""Calls: binding arguments, checking them against written types, and what each kind of function does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from midsl.diagnostics.model import Label, MiError, fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.ir import nodes as ir
from midsl.ir.types import PlainType
from midsl.sema.agree import Mismatch, Signature
from midsl.sema.externs import gives_tensors, tensors_of
from midsl.sema.members import each_member
from midsl.sema.typenames import type_of, written
from midsl.sema.unroll import need_literal
from midsl.sema.values import (
    AxisV,
    BuiltinV,
    ColumnV,
    ConstV,
    DataV,
    ExternV,
    FnV,
    LateV,
    ListV,
    ModelV,
    OptimV,
    PartV,
    PoisonError,
    RecordV,
    SiteV,
    TensorV,
    TokenizerV,
    Value,
)
from midsl.sema.written import check, declared
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
        if func.span in e.ctx.refused:
            raise PoisonError
        signature = Signature(func.scope, func.generics, is_open=True, calls=e.ctx.calls)
        args = bind(e, func.name, func.params, node, scope, signature)
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
        e.ctx.calls.append(node.span)
        try:
            each = each_member(func, args, lambda a: func.body(func.scope.child(a, signature)), node.span)
            return func.body(func.scope.child(args, signature)) if each is None else each
        except MiError as err:
            raise err.seen_from(node.span, "called here") from None
        finally:
            e.ctx.calls.pop()
            e.ctx.depth = max(0, e.ctx.depth - 1)
    if isinstance(func, ExternV):
        signature = Signature(func.scope, func.decl.generics, is_open=True)
        args = bind(e, func.decl.name, func.decl.params, node, scope, signature)
        if gives_tensors(func.decl.returns):
            made = tensors_of(e, func, args, signature, node.span)
            if not func.trusted:  # said last: what it is declared to do may be wrong by itself
                raise untrusted(func, node)
            return made
        if not func.trusted:
            raise untrusted(func, node)
        return build_extern(e, func, args, node)
    raise fail(
        "MI0306",
        f"a {func.kind} cannot be called",
        node.func.span,
        label=f"this is a {func.kind}",
        help="only functions are called: metrics, edits, and what `fn` makes",
    )


def bind(
    e: Elaborator, name: str, params: tuple[ast.FnParam, ...], node: ast.Call, scope: Scope, s: Signature
) -> dict[str, Value]:
    """Match arguments to parameters: positional first, then by name, then defaults; then axis variables."""
    given: dict[str, Value] = {}
    spans: dict[str, Span] = {}
    names = [p.name for p in params]
    positional = 0
    for arg in node.args:
        if arg.name is None:
            if positional >= len(params):
                raise fail(
                    "MI0208",
                    f"`{name}` takes {len(params)} argument{'s' * (len(params) != 1)}",
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
                help="leave one of the two out",
            )
        given[target.name] = argument(e, arg.value, target.type, scope)
        spans[target.name] = arg.value.span
    for p in params:
        if p.name not in given:
            if p.default is None:
                raise fail(
                    "MI0207",
                    f"`{name}` needs `{p.name}`",
                    node.span,
                    label="an argument is missing",
                    help=f"add `{p.name}: ...`",
                )
            given[p.name] = argument(e, p.default, p.type, s.scope)
            spans[p.name] = p.default.span
        given[p.name] = accept(given[p.name], p, name, spans[p.name], s)
    variables = {v: AxisV(s.axes[v]) for v in s.variables if v in s.axes}
    return {**given, **variables}


def accept(value: Value, param: ast.FnParam, fn: str, span: Span, s: Signature) -> Value:
    """An argument as its parameter's type has it: MI0301 for another kind of thing, MI0318 for other axes."""
    try:
        return check(value, param.type, s)
    except Mismatch as err:
        if isinstance(param.type, ast.TypeRef) and param.type.name == "String":
            need_literal(value)  # texts that are swept stand for literals, point by point
        why = f": {err.why}" if err.why else ""
        wanted = "a function" if isinstance(param.type, ast.FnType) and err.of_kind else written(param.type)
        is_now = f"this is {with_article(value)}" if err.of_kind else f"this is {type_of(value)}{why}"
        raise fail(
            "MI0301" if err.of_kind else "MI0318",
            f"`{param.name}` of `{fn}` is {wanted}",
            span,
            label=is_now,
            notes=[declared(param.type, s.scope, param.span)] if param.span.end else [],
            help=err.help or _such(param.type, wanted),
        ) from None


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


SUCH = {
    "Run": "`run m on d.clean`",
    "Site": "`m.blocks[0].resid_post`",
    "Sites": "`m.blocks[*].attn.z[head: *]`",
    "Model": "`models.toy(layers: 2)`",
    "Token": "`.answer`",
    "Pos": "`.end`",
    "Span": "`.second_half`",
    "Tokenizer": "`m.tokenizer`",
    "Edits": "`do { x := 0 }`",
    "Optim": "`adam(lr: 1e-3)`",
}
"""What a value of a type may look like."""


def _such(t: ast.Type, wanted: str) -> str:
    such = SUCH.get(t.name) if isinstance(t, ast.TypeRef) else None
    return f"give it {wanted}" + (f", such as {such}" if such else "")


def with_article(value: Value) -> str:
    """What a value is, as a sentence goes on with it: "a Run", "Float[batch]"."""
    return f"a {value.kind}" if not isinstance(value, TensorV) or not value.type.axes else value.kind


def encode(value: Value, span: Span) -> Any:
    """An argument as an attribute of a recipe: literals, lists and records tagged, nodes as they are."""
    need_literal(value)
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
    if isinstance(value, LateV):
        return value.name  # a column of the file that the data is made of
    if isinstance(value, FnV):
        return ("fn", value.span.text)
    raise fail(
        "MI0301",
        f"a {value.kind} cannot be given to this function",
        span,
        label=f"this is a {value.kind}",
        help="give it a number, a string, a list, a record, a model, data or a site",
    )


def build_extern(e: Elaborator, func: ExternV, args: Mapping[str, Value], node: ast.Call) -> Value:
    """An `extern fn` makes a model, a data set or a tokenizer, by recipe."""
    decl = func.decl
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
    raise fail(
        "MI0601",
        f"not implemented: an extern fn that returns {name or 'this'}",
        node.span,
        help="let it return a Model, a Data, a Tokenizer, a tensor or a record of tensors",
    )


def untrusted(func: ExternV, node: ast.Call) -> MiError:
    """The refusal of Python that nobody vouched for."""
    return fail(
        "MI0605",
        f"`{func.decl.name}` runs Python outside the standard library",
        node.span,
        label="not trusted",
        help="read that code, then run with `--trust`",
    )


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
