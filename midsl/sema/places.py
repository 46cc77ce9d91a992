"""Written types of places, decompositions and data: `Site`, `Sites`, `Lens`, `Basis`, `Data`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from midsl.diagnostics.suggest import did_you_mean
from midsl.ir.types import Axis
from midsl.sema import typenames
from midsl.sema.agree import Mismatch, Signature, agree, length, listed, take
from midsl.sema.edges import EdgesV
from midsl.sema.lenses import joint_axis
from midsl.sema.values import DataV, Late, LensV, PartV, SitesV, SiteV, TensorV, TopV, Value, ViewV
from midsl.syntax import ast


def site(value: Value, t: ast.TypeRef, s: Signature) -> Value:
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


def sites(value: Value, t: ast.TypeRef, s: Signature) -> Value:
    """A family of places: the axes that tell its members apart."""
    if isinstance(value, TopV) and value.site is not None:
        family = value.site.stars
    elif isinstance(value, EdgesV):
        family = ("src", "dst")
    elif isinstance(value, (SiteV, SitesV, ViewV)):
        family = typenames.family_axes(value)
        site(value, ast.TypeRef("Site"), s)
    else:
        raise Mismatch("", of_kind=True)
    if isinstance(value, EdgesV):
        if t.axes and [a.name for a in t.axes if not a.rest] != list(family):
            raise Mismatch("its members are told apart by `src` and `dst`", "write `Sites[src, dst]`")
        return value
    t = _bound(t, family, value, s)
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
        site(value, t.of, s)
    return value


def _bound(t: ast.TypeRef, family: Sequence[str], value: Value, s: Signature) -> ast.TypeRef:
    """The type with the axes of the family in the place of axis variables, in order."""
    axes = []
    for i, a in enumerate(t.axes):
        if a.name in s.variables and i < len(family) and isinstance(value, SiteV):
            own = joint_axis(value, family[i])
            s.axes[a.name] = own
            a = replace(a, name=own.name)
        axes.append(a)
    return replace(t, axes=tuple(axes))


def lens(value: Value, t: ast.TypeRef, s: Signature) -> Value:
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


def data(value: Value, t: ast.TypeRef, s: Signature) -> Value:
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
