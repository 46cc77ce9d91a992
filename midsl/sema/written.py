"""Written types: whether a value is what the text says, and why it is not (see ``midsl.sema.agree``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from midsl.diagnostics.model import Label, MiError, fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.ir import nodes as ir
from midsl.ir.types import Axis, TensorType
from midsl.sema import typenames
from midsl.sema.agree import Mismatch, Signature, agree, length, listed, take
from midsl.sema.typenames import OTHERS, PLANNED, TENSORS, UNITS, type_of, written
from midsl.sema.values import (
    AxisV,
    BlocksV,
    BuiltinV,
    ColumnV,
    ConstV,
    DataV,
    EditsV,
    ExternV,
    FnV,
    Late,
    LateV,
    LensesV,
    LensV,
    ListV,
    ModelV,
    OptimV,
    PartV,
    RangeV,
    RecordV,
    RunV,
    SitesV,
    SiteV,
    TensorV,
    TokenizerV,
    TopV,
    TypeV,
    Value,
    ViewV,
)
from midsl.source import Span
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.scope import Scope

LAMBDA = "fn"
"""What a function without a name is called."""
_CLASSES: dict[str, tuple[type[Value], ...]] = {
    "Model": (ModelV,),
    "Blocks": (BlocksV,),
    "Tokenizer": (TokenizerV,),
    "Run": (RunV,),
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
    """What is said of a name that is no type (MI0320), or none yet (MI0601)."""
    if t.name in PLANNED:
        help = "leave the type out, or write `Any`"
        return fail("MI0601", f"not implemented: values of type `{t.name}`", t.span, help=help)
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


# ---------------------------------------------------------------- places, lenses, data


def _site(value: Value, t: ast.TypeRef, s: Signature) -> Value:
    """A place: the axes that its value has in a run, whatever family it is of."""
    if not isinstance(value, (SiteV, SitesV, ViewV)):
        raise Mismatch("", of_kind=True)
    first = value.members[0] if isinstance(value, SitesV) else value
    at = first.at if isinstance(first, ViewV) else first
    found = typenames.place_axes(first)
    if t.axes:
        if not at.row.axes:
            help = f"name them: `site x: Site[batch, ..] = {at.row.name}`"
            raise Mismatch("the axes of this module have no names", help)
        pos = at.site.index("pos")
        if isinstance(pos, Late) and pos.name not in ("start", "end"):  # a position or a stretch: data tell
            t = replace(t, axes=tuple(a for a in t.axes if a.name != "pos"))
        agree(t, found, s)
    if s.is_open:
        s.lifted += found
        s.lifted += [typenames.own_axis(at, a) for a in ("layer", *at.row.axes)]
    return value


def _sites(value: Value, t: ast.TypeRef, s: Signature) -> Value:
    """A family of places: the axes that tell its members apart."""
    if isinstance(value, TopV) and value.site is not None:
        family = value.site.stars
    elif isinstance(value, (SiteV, SitesV, ViewV)):
        family = typenames.family_axes(value)
        _site(value, ast.TypeRef("Site"), s)
    else:
        raise Mismatch("", of_kind=True)
    names = [a.name for a in t.axes if not a.rest]
    at = value.site if isinstance(value, TopV) else value
    while isinstance(at, (SitesV, ViewV)):
        at = at.members[0] if isinstance(at, SitesV) else at.at
    for a in t.axes:
        if at is not None and a.name in family:
            length(a, Axis(a.name, size=at.model.sizes.get(a.name)), s)
    if not family:
        raise Mismatch("it is one place, with no members", "star an axis: `m.blocks[*]`, `[head: *]`")
    rest = len(names) < len(t.axes)
    if t.axes and (set(names) - set(family) or (set(family) - set(names) and not rest)):
        why = f"its members are told apart by {listed(family)}"
        raise Mismatch(why, f"write `Sites[{', '.join(family)}]`")
    if t.of is not None and isinstance(value, (SiteV, SitesV, ViewV)):
        assert isinstance(t.of, ast.TypeRef)
        _site(value, t.of, s)
    return value


def _lens(value: Value, t: ast.TypeRef, s: Signature) -> Value:
    """A decomposition: the axis that it takes apart, then that of its code."""
    if not isinstance(value, LensV):
        raise Mismatch("", of_kind=True)
    found = typenames.lens_axes(value)
    decoder = value.shows.get("decoder")
    names = {a.name for a in found}
    if t.name == "Basis" and not (isinstance(decoder, TensorV) and set(decoder.type.names) == names):
        raise Mismatch("it has no `decoder` with one direction for each of its code", "write `Lens`")
    if len(t.axes) > len(found):
        raise Mismatch("its code is one number", f"write `{t.name}[{t.axes[0].name}]`")
    for a, axis in zip(t.axes, found, strict=False):
        if a.name in s.variables and a.name not in s.axes:
            s.axes[a.name] = axis
            length(a, axis, s)
        else:
            take(a, [axis], s)
    return value


def _data(value: Value, t: ast.TypeRef, s: Signature) -> Value:
    """A data set or a part of one: the sides and columns that are written are there."""
    if not isinstance(value, (DataV, PartV)):
        raise Mismatch("", of_kind=True)
    sides = value.sides if isinstance(value, DataV) else ()
    for a in t.axes:
        if a.name not in sides:
            there = f"it has {', '.join(sides)}" if sides else "it is one side"
            raise Mismatch(f"it has no side `{a.name}`", did_you_mean(a.name, sides) or there)
    for name, column in t.columns:
        kind = value.columns.get(name)
        if kind is None:
            known = list(value.columns)
            raise Mismatch(
                f"it has no column `{name}`", did_you_mean(name, known) or f"columns: {', '.join(known)}"
            )
        wanted = column.name.lower() if isinstance(column, ast.TypeRef) else ""
        if wanted != kind:
            is_now = kind.capitalize()
            raise Mismatch(f"its column `{name}` is a {is_now}", f"write `{is_now}[batch]`")
    return value


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
            s.lifted += own.lifted
        return made

    params = tuple(
        replace(p, type=given) if isinstance(p.type, ast.TypeRef) and p.type.name == "Any" else p
        for p, given in zip(value.params, t.params, strict=False)
    )
    return replace(value, params=params + value.params[len(params) :], body=body, returns=wanted)


def declared(t: ast.Type, scope: Scope, at: Span | None = None) -> Label:
    """Where a type is written, or what has it; and what it stands for where it is an alias."""
    alias = scope.find(t.name) if isinstance(t, ast.TypeRef) else None
    stands = f": it stands for {written(alias.type)}" if isinstance(alias, TypeV) else ""
    return Label(t.span, f"written here{stands}") if at is None else Label(at, f"declared here{stands}")


_CHECKS: dict[str, Callable[[Value, ast.TypeRef, Signature], Value]] = {
    "String": _string,
    "Axis": _axis,
    "Axes": _axis,
    "Data": _data,
    "Site": _site,
    "Sites": _sites,
    "Lens": _lens,
    "Basis": _lens,
}


def _brought(scope: Scope) -> list[Axis]:
    """The axes of the arguments of a call."""
    return [a for v in scope.names.values() if isinstance(v, TensorV) for a in v.type.axes]


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
