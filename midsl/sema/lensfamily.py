"""What is asked of a family of lenses is asked of each, and lies along the family's axis; and `joint`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from midsl.diagnostics.model import fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.ir import nodes as ir
from midsl.sema.arguments import Args
from midsl.sema.lenses import called, lens_field
from midsl.sema.tensors import as_tensor, select_type, stack
from midsl.sema.unroll import need_literal
from midsl.sema.values import (
    BuiltinV,
    ConstV,
    FamilyV,
    FnV,
    LensV,
    RecordV,
    RunV,
    SiteV,
    TensorV,
    Value,
    ViewV,
)
from midsl.sema.views import index_view, read_view
from midsl.source import Span
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.context import Context
    from midsl.sema.elaborate import Elaborator
    from midsl.sema.scope import Scope

Items = Sequence[tuple[str | None, Value, Span]]


def joint(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
    """``joint(m.blocks[*].resid_post)``: a family as one place, for a lens over all its members."""
    args = Args(e, "joint", node, scope, ("sites",))
    value = args.value("sites")
    if not isinstance(value, SiteV) or not (value.stars or value.together):
        raise fail(
            "MI0410",
            "`joint` takes a family of sites",
            args.expr("sites").span,
            label=f"this is a {value.kind}" if not isinstance(value, SiteV) else "this is one place",
            help="such as `joint(m.blocks[*].resid_post)`, or some of its layers: `m.blocks[0..4]`",
        )
    return replace(value, joint=True)


def family_field(e: Elaborator, family: FamilyV, name: str, span: Span) -> Value:
    """``saes.code``, ``saes.decoder``, ``saes.decode``: of each member, along the axis of the family."""
    if any(isinstance(i, ViewV) for i in family.items):
        help = did_you_mean(name, ["code", "error", "encode", "decode"]) or "index it: `[layer: 3]`"
        raise fail("MI0205", f"this has no field `{name}`", span, help=help)
    items = [
        family_field(e, i, name, span) if isinstance(i, FamilyV) else lens_field(e, _lens(i), name, span)
        for i in family.items
    ]
    if isinstance(items[0], (BuiltinV, FnV)):
        return BuiltinV(name, lambda e2, node, scope: _mapped(e2, family, name, node, scope))
    tensors = [i for i in items if isinstance(i, TensorV)]
    if len(tensors) == len(items):
        return stack(tensors, family.axis, span)
    records = [i for i in items if isinstance(i, RecordV)]
    if len(records) == len(items):  # parts: tensors along the family, what is the same of all as it is
        return replace(records[0], fields=_beside(records, family, span))
    return FamilyV(tuple(items), family.axis)


def _beside(records: Sequence[RecordV], family: FamilyV, span: Span) -> dict[str, Value]:
    fields: dict[str, Value] = {}
    for name, first in records[0].fields.items():
        each = [r.fields[name] for r in records]
        tensors = [v for v in each if isinstance(v, TensorV)]
        fields[name] = stack(tensors, family.axis, span) if len(tensors) == len(each) else first
    return fields


def _mapped(e: Elaborator, family: FamilyV, name: str, node: ast.Call, scope: Scope) -> Value:
    """A map of each member, of its own share of the value."""
    if len(node.args) != 1 or node.args[0].name:
        raise fail("MI0207", f"`{name}` takes one value", node.span, help=f"such as `saes.{name}(x)`")
    value = as_tensor(e.eval(node.args[0].value, scope), node.args[0].span)
    return _each(family, name, value, node.span)


def _each(family: FamilyV, name: str, value: TensorV, span: Span) -> TensorV:
    found = []
    for at, member in enumerate(family.items):
        x = value
        axis = value.type.axis(family.axis.name)
        if axis is not None and axis.same_as(family.axis):
            index = ir.Const(at, span=span)
            t = select_type(value.type, axis, index, (), span)
            x = TensorV(ir.Select(value.node, axis, index, type=t, span=span))
        if isinstance(member, FamilyV):
            found.append(_each(member, name, x, span))
            continue
        lens = _lens(member)
        own = {"encode": lens.encode, "decode": lens.decode}
        found.append(own[name](x) if name in own else called(_fn(lens.shows[name]), span)(x))
    return stack(found, family.axis, span)


def _lens(value: Value) -> LensV:
    assert isinstance(value, LensV)
    return value


def _fn(value: Value) -> FnV:
    assert isinstance(value, FnV)
    return value


def index_family(family: FamilyV, items: Items, span: Span) -> Value:
    """``saes[layer: 3]`` is a member; ``saes.code[feature: 5]`` selects in each of them."""
    own = [(n, v, at) for n, v, at in items if n == family.axis.name]
    rest = [x for x in items if x[0] != family.axis.name]
    chosen: Value = family
    if own:
        value = own[0][1]
        if isinstance(value, TensorV) and isinstance(value.node, ir.Coord):
            need_literal(value)
        size = len(family.items)
        if not (isinstance(value, ConstV) and type(value.value) is int and 0 <= value.value < size):
            raise fail(
                "MI0407",
                f"`{family.axis}` of a family of lenses is one number",
                own[0][2],
                label=f"there are 0..{size}",
                help=f"such as `[{family.axis}: 0]`, or a swept layer",
            )
        chosen = family.items[value.value]
    if not rest:
        return chosen
    if isinstance(chosen, ViewV):
        return index_view(chosen, list(rest), span)
    if isinstance(chosen, FamilyV):
        return FamilyV(tuple(_inside(i, rest, span) for i in chosen.items), chosen.axis)
    raise fail(
        "MI0407",
        f"lenses are told apart by `{family.axis}`",
        span,
        help=f"such as `[{family.axis}: 0]`",
    )


def _inside(value: Value, items: Items, span: Span) -> Value:
    if isinstance(value, FamilyV):
        return index_family(value, items, span)
    if isinstance(value, ViewV):
        return index_view(value, list(items), span)
    help = "select one first: `saes[layer: 0]`"
    raise fail("MI0407", f"a {value.kind} of a family is not selected along that axis", span, help=help)


def read_family(run: RunV, family: FamilyV, span: Span, ctx: Context) -> TensorV:
    """``r[saes.code]``: what each member reads, along the axis of the family."""
    found = []
    for member in family.items:
        if isinstance(member, FamilyV):
            found.append(read_family(run, member, span, ctx))
        elif isinstance(member, ViewV):
            found.append(read_view(run, member, span, ctx))
        else:
            raise fail(
                "MI0410",
                "a run is indexed by a site",
                span,
                label=f"this is a family of {member.kind}",
                help="such as `r[saes.code]`",
            )
    return stack(found, family.axis, span)
