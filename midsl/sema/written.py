"""Written types: whether a value is what the text says, and why it is not (see ``midsl.sema.agree``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from midsl.diagnostics.model import Label, MiError, fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.ir import nodes as ir
from midsl.ir.types import Axis, TensorType
from midsl.sema import places, tables
from midsl.sema.agree import Mismatch, Signature, agree
from midsl.sema.tensors import as_tensor
from midsl.sema.typenames import OTHERS, TENSORS, UNITS, type_of, written
from midsl.sema.values import (
    AxisV,
    BlocksV,
    BuiltinV,
    ColumnV,
    ConstV,
    EditsV,
    ExternV,
    FnV,
    LateV,
    LensesV,
    ListV,
    ModelV,
    OptimV,
    RangeV,
    RecordV,
    RolloutV,
    RunV,
    TensorV,
    TokenizerV,
    TopV,
    TypeV,
    Value,
)
from midsl.source import NO_SPAN, Span
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.scope import Scope

LAMBDA = "fn"
"""What a function without a name is called."""
_CLASSES: dict[str, tuple[type[Value], ...]] = {
    "Model": (ModelV,),
    "Blocks": (BlocksV,),
    "Tokenizer": (TokenizerV,),
    "Run": (RunV, RolloutV),
    "Edits": (EditsV,),
    "Selection": (TopV,),
    "Lenses": (LensesV,),
    "Fit": (RecordV,),
    "Optim": (OptimV,),
    "Record": (RecordV,),
    "List": (ListV,),
    "Range": (RangeV,),
}
"""Types that say what kind of value it is, and nothing of its axes."""
_COLUMNS = {"Token": ("token",), "Pos": ("pos",), "Span": ("span",), "Label": ("label", "token", "number")}
"""The kinds of columns that are of a type."""
_KINDS = {"float": ("float", "int"), "int": ("int", "token"), "bool": ("bool",), "token": ("token", "int")}
"""The kinds of elements that are of a kind: a whole number is a number, the id of a token a whole number."""


def check(value: Value, t: ast.Type, s: Signature) -> Value:
    """The value as the type has it (a whole number for a Float is a Float), or raise `Mismatch`."""
    if isinstance(t, ast.FnType):
        return _function(value, t, s)
    if isinstance(t, ast.RecordType):
        return _record(value, t, s)
    assert isinstance(t, ast.TypeRef)
    if t.name == "Any":
        return value
    if t.name in TENSORS:
        return _tensor(value, t, s)
    if t.name in ("Pos", "Span", "Label"):
        return _column(value, t, s)
    if t.name in _CLASSES:
        if isinstance(value, RolloutV) and s.is_open:
            s.lifted.append(value.axis)  # of each of its runs there is a result
        if isinstance(value, RecordV) and s.is_open:
            s.lifted += _axes_in(value)  # `Record` names no axis, so what is made of it has them all
        return _of_kind(value, _CLASSES[t.name])
    if t.name in _CHECKS:
        return _CHECKS[t.name](value, t, s)
    alias = _alias(t, s.scope)
    return check(value, alias.type, replace(s, scope=alias.scope))


def _alias(t: ast.TypeRef, scope: Scope) -> TypeV:
    found = scope.find(t.name)
    if isinstance(found, TypeV):
        return found
    raise unknown_type(t, scope)


def unknown_type(t: ast.TypeRef, scope: Scope) -> MiError:
    """What is said of a name that is no type (MI0320)."""
    known = [*TENSORS, *OTHERS, *(n for n in scope.all_names() if n[:1].isupper())]
    return fail(
        "MI0320",
        f"there is no type `{t.name}`",
        t.span,
        label="not a type",
        help=did_you_mean(t.name, known) or f"types are {', '.join(known)}",
    )


# ---------------------------------------------------------------- values


def _of_kind(value: Value, classes: tuple[type[Value], ...]) -> Value:
    if not isinstance(value, classes):
        raise Mismatch("", of_kind=True)
    return value


def _string(value: Value, t: ast.TypeRef, s: Signature) -> Value:
    if not (isinstance(value, ConstV) and isinstance(value.value, str)):
        raise Mismatch("", of_kind=True)
    return value


def _axis(value: Value, t: ast.TypeRef, s: Signature) -> Value:
    names = value.items if isinstance(value, ListV) and t.name == "Axes" else (value,)
    if not all(isinstance(n, AxisV) or (isinstance(n, ConstV) and isinstance(n.value, str)) for n in names):
        raise Mismatch("", of_kind=True)
    return value


def _tensor(value: Value, t: ast.TypeRef, s: Signature) -> Value:
    """Numbers, truth values and tokens, with their axes and unit."""
    kind = TENSORS[t.name]
    if isinstance(value, ConstV):
        return _literal(value, kind, t, s)
    if kind == "token" and isinstance(value, LateV):
        return value
    if isinstance(value, ListV) and value.axis is not None and value.items:
        value = as_tensor(value, NO_SPAN)  # what a comprehension made lies along its variable
    if not isinstance(value, (TensorV, ColumnV)) or not isinstance(value.node.type, TensorType):
        raise Mismatch("", of_kind=True)
    if kind == "token" and isinstance(value, ColumnV) and value.column_kind != "token":
        raise Mismatch("", of_kind=True)
    found = value.node.type
    if found.kind not in _KINDS[kind]:
        help = "count with numbers: `where(x, 1.0, 0.0)`" if found.kind == "bool" else ""
        raise Mismatch("", help, of_kind=True)
    if t.unit is not None and t.unit != found.unit and (s.sure or found.unit is not None):
        raise _unit(t, found.unit)
    if kind == "token" and s.is_open:  # the same token for all rows will do
        t = replace(t, axes=tuple(a for a in t.axes if a.rest or found.axis(a.name) is not None))
    swept = [a for x in ir.sweeps_of(value.node) for a in x.axes]
    agree(t, found.axes, s, swept)
    return value


def _unit(t: ast.TypeRef, found: str | None) -> Mismatch:
    plain = written(replace(t, unit=found))
    if t.unit not in UNITS:
        return Mismatch(f"there is no unit <{t.unit}>", f"units are {', '.join(UNITS)}")
    why = f"its unit is <{found}>" if found is not None else "it has no unit"
    return Mismatch(why, f"write `{plain}`, or give it a value in <{t.unit}>")


def _literal(value: ConstV, kind: str, t: ast.TypeRef, s: Signature) -> Value:
    is_kind = {"float": (int, float), "int": (int,), "bool": (bool,), "token": (int,)}[kind]
    if type(value.value) not in is_kind:
        raise Mismatch("", of_kind=True)
    named = [a for a in t.axes if not a.rest]
    if named and not (kind == "token" and s.is_open):
        raise Mismatch(f"one number has no axis `{named[0].name}`", f"write `{replace(t, axes=()).name}`")
    return ConstV(float(value.value)) if kind == "float" and type(value.value) is int else value


def _column(value: Value, t: ast.TypeRef, s: Signature) -> Value:
    """What rows are selected by: a position, a stretch, a label."""
    if isinstance(value, LateV):
        return value
    if isinstance(value, ColumnV) and value.column_kind in _COLUMNS[t.name]:
        return value
    number = isinstance(value, ConstV) and type(value.value) is int
    if t.name == "Pos" and (number or (isinstance(value, TensorV) and value.type.kind == "int")):
        return _tensor(value, replace(t, name="Token"), s)
    raise Mismatch("", of_kind=True)


# ---------------------------------------------------------------- records and functions


def _record(value: Value, t: ast.RecordType, s: Signature) -> Value:
    if not isinstance(value, RecordV):
        raise Mismatch("", of_kind=True)
    names = [n for n, _ in t.fields]
    more = next((n for n in value.fields if n not in names), None)
    if more is not None:
        raise Mismatch(f"there is no field `{more}` in the type", did_you_mean(more, names))
    fields = {}
    for name, inner in t.fields:
        if name not in value.fields:
            raise Mismatch(f"it has no field `{name}`", f"add `{name}: ...`")
        try:
            fields[name] = check(value.fields[name], inner, s)
        except Mismatch as err:
            why = err.why or f"it is {type_of(value.fields[name])}"
            raise Mismatch(f"`{name}` is not {written(inner)}: {why}", err.help) from None
    return RecordV(fields)


def _function(value: Value, t: ast.FnType, s: Signature) -> Value:
    """A function: how many arguments it takes, and what it gives, now or when it is called."""
    if isinstance(value, (BuiltinV, ExternV)):
        return value
    if not isinstance(value, FnV):
        raise Mismatch("", of_kind=True)
    least = sum(p.default is None for p in value.params)
    if not least <= len(t.params) <= len(value.params):
        raise Mismatch(f"it takes {len(value.params)} argument{'s' * (len(value.params) != 1)}")
    given = [expanded(x, s.scope) for x in t.params]
    for p, x in zip(value.params, given, strict=False):
        takes = expanded(p.type, value.scope)
        if not _may_be(x, takes):
            raise Mismatch(f"it takes {written(takes)}, and gets {written(x)}")
    said, wanted = value.returns, t.returns
    if isinstance(said, ast.TypeRef) and isinstance(wanted, ast.TypeRef):
        both = said.unit is not None and wanted.unit is not None
        if both and said.unit != wanted.unit:
            raise Mismatch(f"it gives {written(said)}: its unit is <{said.unit}>")
        kinds = [TENSORS.get(x.name) for x in (said, wanted)]
        if None not in kinds and kinds[0] not in _KINDS[str(kinds[1])]:
            raise Mismatch(f"it gives {written(said)}")
    inner = value

    def body(scope: Scope) -> Value:
        own = s.later(_brought(scope), s.is_open)
        made = result(inner.body(scope), wanted, own, inner.name, inner.span)
        if s.is_open:  # the call that it was given to is lifted over what it brought
            s.lifted += [a for a in own.lifted if a not in s.lifted]
        return made

    params = tuple(
        replace(p, type=x) if isinstance(p.type, ast.TypeRef) and p.type.name == "Any" else p
        for p, x in zip(value.params, given, strict=False)
    )
    return replace(value, params=params + value.params[len(params) :], body=body, returns=wanted)


_ALIKE = (
    {"Site", "Sites"},
    {"Lens", "Basis"},
    {"Record", "Fit", "Table", "Graph", "Contexts"},
    {"Label", "Token"},
    {"Pos", "Int"},
)
"""Types of which one value may be of several."""


def _may_be(given: ast.Type, wanted: ast.Type) -> bool:
    """Whether some value of one type is of the other; axes and units are looked at when it is there."""
    if not (isinstance(given, ast.TypeRef) and isinstance(wanted, ast.TypeRef)):
        return type(given) is type(wanted) or "Any" in (
            getattr(given, "name", ""),
            getattr(wanted, "name", ""),
        )
    names = {given.name, wanted.name}
    if names <= set(TENSORS):
        return TENSORS[given.name] in _KINDS[TENSORS[wanted.name]]
    return len(names) == 1 or "Any" in names or any(names <= alike for alike in _ALIKE)


def expanded(t: ast.Type, scope: Scope) -> ast.Type:
    """A written type with what its aliases stand for."""
    if isinstance(t, ast.FnType):
        params = tuple(expanded(p, scope) for p in t.params)
        return replace(t, params=params, returns=expanded(t.returns, scope))
    alias = scope.find(t.name) if isinstance(t, ast.TypeRef) else None
    return expanded(alias.type, alias.scope) if isinstance(alias, TypeV) else t


def declared(t: ast.Type, scope: Scope, at: Span | None = None) -> Label:
    """Where a type is written, or what has it; and what it stands for where it is an alias."""
    alias = scope.find(t.name) if isinstance(t, ast.TypeRef) else None
    stands = f": it stands for {written(alias.type)}" if isinstance(alias, TypeV) else ""
    return Label(t.span, f"written here{stands}") if at is None else Label(at, f"declared here{stands}")


_CHECKS: dict[str, Callable[[Value, ast.TypeRef, Signature], Value]] = {
    "String": _string,
    "Axis": _axis,
    "Axes": _axis,
    "Data": places.data,
    "Site": places.site,
    "Sites": places.sites,
    "Lens": places.lens,
    "Basis": places.lens,
    "Table": tables.table,
    "Graph": tables.a_graph,
    "Contexts": tables.some_contexts,
}


def _brought(scope: Scope) -> list[Axis]:
    """The axes of the arguments of a call."""
    found = [a for v in scope.names.values() if isinstance(v, TensorV) for a in v.type.axes]
    return found + [v.axis for v in scope.names.values() if isinstance(v, RolloutV)]


def _axes_in(record: RecordV) -> list[Axis]:
    """The axes of all tensors of a record."""
    fields = record.fields.values()
    nested = [a for f in fields if isinstance(f, RecordV) for a in _axes_in(f)]
    return [a for f in fields if isinstance(f, TensorV) for a in f.type.axes] + nested


def instead(before: str, value: Value, otherwise: str) -> str:
    """How to write what a value is; the data of a run say what a late-bound column is."""
    if isinstance(value, LateV):
        return "a column of the data is a Token, Pos, Span or Label"
    return f"write `{before} {type_of(value)}`, or {otherwise}"


def result(made: Value, t: ast.Type, s: Signature, name: str, at: Span) -> Value:
    """What a function gives, as its type has it: MI0319 where it is something else."""
    try:
        return check(made, t, s)
    except Mismatch as err:
        who = "this function" if name == LAMBDA else f"`{name}`"
        notes = [declared(t, s.scope)] if t.span.end else []
        notes += [Label(s.calls[-1], "called here")] if s.calls else []
        raise fail(
            "MI0319",
            f"{who} gives {type_of(made)}, and not {written(t)}",
            at,
            label=err.why or f"this is {type_of(made)}",
            notes=notes,
            help=err.help or instead("->", made, "give what is written"),
        ) from None
